#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""C files are as clang-format leaves them (`make format`).

Versions of clang-format do not agree with each other, so only VERSION judges; another one,
or none, skips the test.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import tree

VERSION = "14"
SKIP = 77
FILES_AT_ONCE = 50


def find_program():
    """A clang-format of VERSION, or None and why there is none."""
    seen = "not installed"
    for name in [f"clang-format-{VERSION}", "clang-format"]:
        program = shutil.which(name)
        if not program:
            continue
        text = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True).stdout
        match = re.search(r"version (\d+)", text)
        if match and match.group(1) == VERSION:
            return program, ""
        seen = text.strip()
    return None, f"clang-format {VERSION} is needed; here: {seen}"


def check(program, paths, findings):
    """One run for many files: to start the program takes longer than to look at a file."""
    done = subprocess.run([program, "--dry-run", "-Werror", *[tree.ROOT / path for path in paths]],
                          stderr=subprocess.PIPE, text=True)
    places = {}
    for name, nr in re.findall(r"^(.+\.[ch]):(\d+):\d+: error: ", done.stderr, re.M):
        places.setdefault(Path(name).relative_to(tree.ROOT), []).append(int(nr))
    for path, lines in places.items():
        findings.add(path, lines[0], f"{len(lines)} places differ; run `make format`")
    if done.returncode != 0 and not places:
        findings.add(paths[0], 1, done.stderr.strip())


def main():
    program, reason = find_program()
    if not program:
        print(f"skipped: {reason}")
        return SKIP
    findings = tree.Findings()
    paths = [path for path in tree.files() if tree.is_c(path)]
    for first in range(0, len(paths), FILES_AT_ONCE):
        check(program, paths[first:first + FILES_AT_ONCE], findings)
    return findings.status()


if __name__ == "__main__":
    sys.exit(main())
