#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each row of README.md's status tables names, in its last column, tests that there are.

usage: check_status.py BUILD, a folder that Meson has set up
"""

import json
import subprocess
import sys

import tree


def tests_of(build):
    told = subprocess.run(["meson", "introspect", "--tests", build], check=True,
                          stdout=subprocess.PIPE)
    return {test["name"] for test in json.loads(told.stdout)}


def rows():
    """Line number and cells of the tables under the heading."""
    inside = False
    for nr, line in enumerate(tree.read("README.md").splitlines(), 1):
        if line.startswith("## "):
            inside = line == "## Status"
        elif inside and line.startswith("|") and not set(line) <= set("|-"):
            yield nr, [cell.strip() for cell in line.strip("|").split("|")]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    known = tests_of(sys.argv[1])
    findings = tree.Findings()
    for nr, cells in rows():
        if cells[-1] == "shown by":
            continue
        for name in cells[-1].split(", ") if len(cells) == 3 else [""]:
            if name not in known:
                findings.add("README.md", nr, f"there is no test {name!r}")
    return findings.status()


if __name__ == "__main__":
    sys.exit(main())
