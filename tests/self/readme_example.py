#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The C example of README.md compiles against the library just built, and does what it says.

usage: readme_example.py LIBRARY COMPILER [ARG...] [-- LIBRARY-DEPENDENCY...]

The example prints the start of /etc/hostname of the image named on its command line.  It runs on a
good image, on one without the file and on something that is no image.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tree

SKIP = 77
HOSTNAME = "example-host\n"


def extract():
    blocks = re.findall(r"^```c\n(.*?)^```$", tree.read("README.md"), re.M | re.S)
    if len(blocks) != 1:
        raise SystemExit(f"README.md has {len(blocks)} blocks of C, expected one")
    return blocks[0]


def compile_example(scratch, library, compiler, dependencies):
    source = scratch / "example.c"
    source.write_text(extract())
    program = scratch / "example"
    command = [*compiler, "-Wall", "-Wextra", "-Werror", f"-I{tree.ROOT / 'include'}", source,
               library, *dependencies, "-o", program]
    if subprocess.run(command).returncode != 0:
        raise SystemExit("the example does not compile")
    return program


def make_image(path, content, scratch):
    root = scratch / f"{path.name}.tree"
    (root / "etc").mkdir(parents=True)
    if content is not None:
        (root / "etc" / "hostname").write_text(content)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, path, "8M"], check=True,
                   stdout=subprocess.DEVNULL)


def run(program, image):
    return subprocess.run([program, image], stdout=subprocess.PIPE, text=True, timeout=60)


def expect(what, condition, done):
    if not condition:
        raise SystemExit(f"{what}: exit status {done.returncode}, printed {done.stdout!r}")


def main():
    if not shutil.which("mke2fs"):
        print("skipped: mke2fs is not installed")
        return SKIP
    library, rest = sys.argv[1], sys.argv[2:]
    split = rest.index("--") if "--" in rest else len(rest)
    compiler, dependencies = rest[:split], rest[split + 1:]

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        program = compile_example(scratch, library, compiler, dependencies)

        good = scratch / "good"
        make_image(good, HOSTNAME, scratch)
        done = run(program, good)
        expect("a good image", done.returncode == 0 and done.stdout == HOSTNAME, done)

        without = scratch / "without"
        make_image(without, None, scratch)
        done = run(program, without)
        expect("an image without the file", done.returncode == 1 and done.stdout == "", done)

        nothing = scratch / "nothing"
        nothing.write_bytes(b"\0" * (1 << 20))
        done = run(program, nothing)
        expect("no image at all", done.returncode == 1 and done.stdout == "", done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
