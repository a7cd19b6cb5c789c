#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each public header compiles alone, as C99 and as C++, with warnings as errors.

usage: check_headers.py CC [ARG...] -- CXX [ARG...]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import tree

# POSIX names (struct timespec, ssize_t) are part of the interface.
COMMON = ["-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
LANGUAGES = [
    ("cc", ".c", ["-std=c99", "-pedantic", "-Wstrict-prototypes"]),
    ("cc", ".c", ["-std=c17", "-pedantic", "-Wstrict-prototypes"]),
    ("cxx", ".cc", ["-std=c++11"]),
    ("cxx", ".cc", ["-std=c++20"]),
]


def main():
    split = sys.argv.index("--")
    compilers = {"cc": sys.argv[1:split], "cxx": sys.argv[split + 1:]}
    include = tree.ROOT / "include"
    headers = sorted(include.glob("*.h"))
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        for header in headers:
            for compiler, suffix, options in LANGUAGES:
                source = Path(scratch) / f"alone{suffix}"
                # Twice: the guard works.
                source.write_text(f'#include "{header.name}"\n#include "{header.name}"\n')
                command = [*compilers[compiler], *options, *COMMON, f"-I{include}", source]
                if subprocess.run(command).returncode != 0:
                    print(f"{header.name} does not compile alone: {' '.join(map(str, command))}")
                    failures += 1
    if not headers:
        print("no public header found")
        return 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
