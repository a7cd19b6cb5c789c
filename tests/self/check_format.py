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

import tree

VERSION = "14"
SKIP = 77


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


def main():
    program, reason = find_program()
    if not program:
        print(f"skipped: {reason}")
        return SKIP
    findings = tree.Findings()
    for path in tree.files():
        if not tree.is_c(path):
            continue
        done = subprocess.run([program, "--dry-run", "-Werror", tree.ROOT / path],
                              stderr=subprocess.PIPE, text=True)
        places = [int(nr) for nr in re.findall(r":(\d+):\d+: error: ", done.stderr)]
        if places:
            findings.add(path, places[0], f"{len(places)} places differ; run `make format`")
        elif done.returncode != 0:
            findings.add(path, 1, done.stderr.strip())
    return findings.status()


if __name__ == "__main__":
    sys.exit(main())
