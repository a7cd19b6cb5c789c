#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How files that grow in turns are laid out, beside the kernel's ext4 doing the same.

Extents are counted as the kernel's fiemap gives them, those that continue each other as one.
Ours may not be more than twice the kernel's.
"""

import mmap
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "interop"))

import harness  # noqa: E402
import kabi  # noqa: E402
from configs import EXT4, MIB  # noqa: E402

CHANGE_GROW = os.environ.get("CHANGE_GROW", os.path.join(
    harness.PROJECT, "build", "tests", "change", "change_grow"))

CASES = [  # what, block size, files, bytes of a step, turns
    ("fallocate", 4096, 8, 64 << 10, 128),
    ("fallocate", 1024, 4, 16 << 10, 200),
    ("append", 4096, 8, 64 << 10, 128),
    ("append", 4096, 4, 4096, 500),
    ("append", 1024, 8, 8 << 10, 200),
]


def make_image(ws, name, block_size, files):
    tree = ws.path("tree")
    os.makedirs(tree, exist_ok=True)
    for n in range(files):
        open(os.path.join(tree, "g%d" % n), "wb").close()
    image = ws.path(name)
    harness.mke2fs(image, ["-b", str(block_size), "-I", "256", "-N", "2000", "-J", "size=8",
                           "-O", "none," + EXT4], 256 * MIB, tree)
    return image


def grow_kernel(ws, image, what, files, step, turns):
    point, reason = ws.mount(image, "theirs", "rw")
    if not point:
        raise harness.Skip(reason)
    buf = mmap.mmap(-1, step)
    buf.write(b"g" * step)
    try:
        direct = os.O_DIRECT if what == "append" else 0
        fds = [os.open(os.path.join(point, "g%d" % n), os.O_RDWR | direct) for n in range(files)]
        for turn in range(turns):
            for fd in fds:
                if what == "append":
                    os.pwrite(fd, buf, turn * step)
                else:
                    os.posix_fallocate(fd, turn * step, step)
        for fd in fds:
            os.close(fd)
    finally:
        ws.umount(point)


def count(ws, image, files):
    """Pieces of all files together, and the size of the first."""
    point, reason = ws.mount(image, "count", "ro")
    if not point:
        raise harness.ToolError(reason)
    pieces = 0
    sizes = set()
    try:
        for n in range(files):
            fd = os.open(os.path.join(point, "g%d" % n), os.O_RDONLY)
            try:
                end = None
                for logical, physical, length, _ in kabi.fiemap(fd, 0, 2**64 - 1):
                    pieces += (logical, physical) != end
                    end = (logical + length, physical + length)
                sizes.add(os.fstat(fd).st_size)
            finally:
                os.close(fd)
    finally:
        ws.umount(point)
    return pieces, sizes


def body(report):
    harness.need_tools("mke2fs", "e2fsck")
    reason = harness.kernel_reason()
    if reason:
        raise harness.Skip(reason)
    ws = harness.Workspace("fragments")
    print("%-10s %6s %6s %8s %6s %8s %8s" % ("", "block", "files", "step", "turns", "uext4",
                                              "kernel"))
    for what, block_size, files, step, turns in CASES:
        ours = make_image(ws, "ours", block_size, files)
        theirs = make_image(ws, "their", block_size, files)
        done = subprocess.run([CHANGE_GROW, ours, what, str(files), str(step), str(turns)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=600)
        if not report.check(done.returncode == 0, "change_grow: %s", done.stdout[-2000:]):
            continue
        grow_kernel(ws, theirs, what, files, step, turns)
        done = harness.run(["e2fsck", "-fn", ours], check=False)
        report.check(done.returncode == 0, "e2fsck: %s", done.stdout[-2000:])
        a, size_a = count(ws, ours, files)
        b, size_b = count(ws, theirs, files)
        print("%-10s %6d %6d %8d %6d %8d %8d" % (what, block_size, files, step, turns, a, b),
              flush=True)
        report.equal("sizes", size_a, size_b)
        report.check(a <= 2 * b, "%s, block %d: %d pieces, the kernel has %d", what, block_size,
                     a, b)


if __name__ == "__main__":
    harness.main("fragmentation", "CHANGE_GROW=%s %s" % (CHANGE_GROW, os.path.abspath(__file__)),
                 body)
