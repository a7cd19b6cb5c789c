#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The checks of the tree find what they are for: each runs on a small tree with one fault."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SPDX = "/* SPDX-License-Identifier: LGPL-2.1-or-later */\n"

# A tree without fault.
GOOD = {
    "include/uext4.h": SPDX,
    "src/util/base.h": SPDX + "#include <stdint.h>\n",
    "src/bdev/file.c": SPDX + '#include "util/base.h"\n/* free(this) and "malloc(" */\n',
    "src/util/alloc.c": SPDX + "void mem_free(void *p)\n{\n        free(p);\n}\n",
    "src/cli/main.c": SPDX + "#include <uext4.h>\n",
    "src/util/lock.h": SPDX + "enum lock_rank {\n        RANK_LEAF = 99, /* none */\n};\n",
    "docs/locking.md": "| 99 `LEAF` | locks that take no other | much | no |\n",
}

# check, what is wrong, file, its text, a part of the complaint.
FAULTS = [
    ("layers", "upwards", "src/bdev/a.c", '#include "lib/fs.h"\n', "must not know lib/"),
    ("layers", "sideways", "src/iomap/a.c", '#include "jbd2/journal.h"\n', "must not know jbd2/"),
    ("layers", "no folder", "src/util/a.c", '#include "base.h"\n', "write the folder"),
    ("layers", "front end inside", "src/cli/a.c", '#include "util/base.h"\n', "must not know"),
    ("layers", "public header below", "src/ext4/a.c", "#include <uext4.h>\n", "public header"),
    ("layers", "unknown folder", "src/misc/a.c", "", "no place in the layers"),
    ("layers", "missing file", "src/bdev/a.c", '#include "util/none.h"\n', "there is no"),
    ("tree", "strcpy", "src/cli/a.c", "int x = strcpy(a, b);\n", "banned call"),
    ("tree", "malloc", "src/ext4/a.c", "int x = malloc (1);\n", "util/alloc.h"),
    ("tree", "long line", "tests/a.c", "/*" + "x" * 99 + "\n*/\n", "columns"),
    ("docs", "broken link", "docs/a.md", "[text](none.md)\n", "broken link"),
    ("docs", "missing file", "docs/a.md", "In `src/util/none.c`.\n", "there is no"),
    ("docs", "rank that is not there", "docs/locking.md", "| 7 `GONE` | a lock | x | no |\n", "no RANK_GONE"),
    ("docs", "rank that nobody tells", "docs/locking.md", "no table\n", "not in the table"),
    ("docs", "rule without test", "docs/behaviours.md", "| B1 | a rule | `src/util/base.h` | |\n",
     "B1: no code, or no test"),
    ("tree", "work left", "docs/a.md", "TO" + "DO: more\n", "write an issue"),
    ("tree", "private path", "scripts/a", "#\ncd /ho" + "me/me/src\n", "one machine"),
]


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def run(check, root):
    done = subprocess.run([sys.executable, HERE / f"check_{check}.py"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=dict(os.environ, UEXT4_SOURCE_ROOT=str(root)))
    return done.returncode, done.stdout


def check_case(check, what, extra, expected):
    """`expected` is a part of the complaint, or None for a clean tree."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path, text in {**GOOD, **extra}.items():
            write(root, path, text)
        status, output = run(check, root)
    if expected is None:
        good = status == 0 and output == ""
    else:
        good = status == 1 and expected in output
    if not good:
        print(f"check_{check}.py, {what}: exit status {status}\n{output}")
    return good


def main():
    good = True
    for check in ["layers", "tree", "docs"]:
        good &= check_case(check, "a good tree", {}, None)
    for check, what, path, text, expected in FAULTS:
        good &= check_case(check, what, {path: SPDX + text}, expected)
    good &= check_case("tree", "no licence", {"src/util/a.h": "int x;\n"}, "SPDX")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
