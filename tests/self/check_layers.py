#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hold the layer rule over the #include lines of src/ (docs/architecture.md).

A folder includes only from itself and from the folders that it may know; every such include
is written with its folder, so that a reader sees the layer.  The front ends know the public
headers only.
"""

import re
import sys

import tree

# Each folder, and whom it may know besides itself.
MAY_KNOW = {
    "util": [],
    "bdev": ["util"],
    "buf": ["util", "bdev"],
    "jbd2": ["util", "bdev", "buf"],
    "vfs": ["util", "bdev", "buf"],
    "iomap": ["util", "bdev", "buf", "vfs"],
    "ext4": ["util", "bdev", "buf", "jbd2", "vfs", "iomap"],
    "lib": ["util", "bdev", "buf", "jbd2", "vfs", "iomap", "ext4"],
    "fuse": [],
    "cli": ["fuse"],
}

# Who may include which public header.
PUBLIC = {
    "uext4_bdev.h": set(MAY_KNOW) - {"util"},
    "uext4.h": {"lib", "fuse", "cli"},
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def check_include(folder, quote, target):
    """What is wrong with the include, or None."""
    name = target.rpartition("/")[2]
    if name in PUBLIC:
        if folder not in PUBLIC[name]:
            return f"{folder}/ must not include the public header {name}"
        return None
    if quote == "<":
        first = target.partition("/")[0]
        if "/" in target and first in MAY_KNOW:
            return f'"{target}" is ours: use quotes'
        return None
    if "/" not in target or target.startswith("."):
        return f'write the folder: #include "FOLDER/{name}"'
    layer = target.partition("/")[0]
    if layer != folder and layer not in MAY_KNOW[folder]:
        return f"{folder}/ must not know {layer}/ ({target})"
    if not (tree.ROOT / "src" / target).exists():
        return f"there is no src/{target}"
    return None


def main():
    findings = tree.Findings()
    nr = 0
    for path in tree.files():
        if path.parts[0] != "src" or not tree.is_c(path):
            continue
        folder = path.parts[1]
        if folder not in MAY_KNOW:
            findings.add(path, 1, f"folder {folder}/ has no place in the layers")
            continue
        text = tree.read(path)
        code = tree.C_TOKEN.sub(
            lambda m: tree.blank(m.group()) if m.group().startswith("/") else m.group(), text)
        for match in INCLUDE.finditer(code):
            nr += 1
            wrong = check_include(folder, *match.groups())
            if wrong:
                findings.add(path, tree.line_of(code, match.start()), wrong)
    if nr == 0:
        findings.add("src", 1, "no include found: the check looks in the wrong place")
    return findings.status()


if __name__ == "__main__":
    sys.exit(main())
