#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules of CONTRIBUTING.md that a machine can hold: banned calls, licence lines, long lines,
work left undone, paths of somebody's own machine."""

import re
import sys

import tree

MAX_COLUMNS = 100

# These write without knowing how much room there is.
UNBOUNDED = re.compile(r"\b(strcpy|strcat|stpcpy|sprintf|vsprintf|gets)\s*\(")

# Memory comes from util/alloc.h, so that tests can make it fail and count it.
NAKED_MEMORY = re.compile(
    r"\b(malloc|calloc|realloc|reallocarray|free|posix_memalign|aligned_alloc|memalign|strdup|"
    r"strndup|asprintf|vasprintf)\s*\(")
MAY_ALLOCATE = ("util", "fuse", "cli")

LICENCE = "SPDX-License-Identifier: LGPL-2.1-or-later"

# Spelled so that this file does not find itself.
UNDONE = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
PRIVATE_PATH = re.compile(r"(?<![\w.$}/*-])/(?:home|root|work|Users)/\w")


def check_columns(path, text, findings):
    """Tables that clang-format is told to leave alone may be as wide as they need."""
    ours = True
    wide = []
    for nr, line in enumerate(text.splitlines(), 1):
        if "clang-format off" in line:
            ours = False
        elif "clang-format on" in line:
            ours = True
        if ours and len(line.expandtabs(8)) > MAX_COLUMNS:
            wide.append(nr)
    if wide:
        findings.add(path, wide[0], f"{len(wide)} lines of more than {MAX_COLUMNS} columns")


def check_c(path, text, findings):
    code = tree.c_code(text)
    for match in UNBOUNDED.finditer(code):
        findings.add(path, tree.line_of(code, match.start()), f"banned call: {match.group(1)}")
    inside_library = path.parts[0] == "src" and path.parts[1] not in MAY_ALLOCATE
    if inside_library:
        for match in NAKED_MEMORY.finditer(code):
            findings.add(path, tree.line_of(code, match.start()),
                         f"{match.group(1)}: use util/alloc.h")
    check_columns(path, text, findings)


def check_licence(path, text, findings):
    if not any(LICENCE in line for line in text.splitlines()[:3]):
        findings.add(path, 1, f"no line {LICENCE!r} at the top")


def check_words(path, text, findings):
    for nr, line in enumerate(text.splitlines(), 1):
        match = UNDONE.search(line)
        if match:
            findings.add(path, nr, f"{match.group()}: do it or write an issue")
        match = PRIVATE_PATH.search(line)
        if match:
            findings.add(path, nr, f"path of one machine: {line.strip()}")


def main():
    findings = tree.Findings()
    nr_c = 0
    for path in tree.files():
        if not tree.is_code(path) and not tree.is_prose(path):
            continue
        text = tree.read(path)
        check_words(path, text, findings)
        if tree.is_code(path):
            check_licence(path, text, findings)
        if tree.is_c(path):
            nr_c += 1
            check_c(path, text, findings)
    if nr_c == 0:
        findings.add(tree.ROOT, 1, "no C file found: the check looks in the wrong place")
    return findings.status()


if __name__ == "__main__":
    sys.exit(main())
