#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that the prose names are there: links, and paths of the tree in backquotes.

In docs/behaviours.md every rule names its code and its test; the table of docs/locking.md has
the ranks of src/util/lock.h, and no other.
"""

import re
import sys

import tree

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
RANK = re.compile(r"^ +RANK_(\w+) = (\d+),", re.M)
RANK_ROW = re.compile(r"^\| (\d+) `(\w+)` \|")
PATH = re.compile(r"`((?:src|include|tests|docs|scripts|bench)/[\w./-]*)`")


def check(path, findings):
    folder = (tree.ROOT / path).parent
    for nr, line in enumerate(tree.read(path).splitlines(), 1):
        for target in LINK.findall(line):
            if "://" not in target and not (folder / target).exists():
                findings.add(path, nr, f"broken link: {target}")
        for target in PATH.findall(line):
            if not (tree.ROOT / target).exists():
                findings.add(path, nr, f"there is no {target}")


def check_behaviours(path, findings):
    """Rows of the tables: number, rule, code, test; tests that are files are looked for above."""
    for nr, line in enumerate(tree.read(path).splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or set(line) <= set("|- "):
            continue
        if len(cells) != 4:
            findings.add(path, nr, f"a row of {len(cells)} columns")
        elif cells[0] != "nr" and not ("`src/" in cells[2] and "`tests/" in cells[3]):
            findings.add(path, nr, f"{cells[0]}: no code, or no test")


def check_ranks(path, findings):
    ranks = {(int(nr), name) for name, nr in RANK.findall(tree.read("src/util/lock.h"))}
    rows = set()
    for nr, line in enumerate(tree.read(path).splitlines(), 1):
        row = RANK_ROW.match(line)
        if row:
            rows.add((int(row[1]), row[2]))
            if (int(row[1]), row[2]) not in ranks:
                findings.add(path, nr, f"there is no RANK_{row[2]} = {row[1]}")
    for nr, name in sorted(ranks - rows):
        findings.add(path, 1, f"RANK_{name} = {nr} is not in the table")


def main():
    findings = tree.Findings()
    for path in tree.files():
        if path.suffix == ".md":
            check(path, findings)
        if str(path) == "docs/behaviours.md":
            check_behaviours(path, findings)
        if str(path) == "docs/locking.md":
            check_ranks(path, findings)
    return findings.status()


if __name__ == "__main__":
    sys.exit(main())
