#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random changes of a tree by several threads, on images of many configurations.

mke2fs makes an image; tree_model works on it, comparing with its model, and mounts it anew
again and again; then e2fsck -fn must be content, and the kernel, where it is to be had, must find
the same tree: names, inode numbers, modes, links, devices, targets.

    tree.py NAME | --list | --quick     UEXT4_SEED, UEXT4_LONG=1, TREE_MODEL
"""

import os
import stat
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in "interop", "change":
    sys.path.insert(0, os.path.join(os.path.dirname(HERE), folder))

import harness  # noqa: E402
import model  # noqa: E402
from configs import EXT4, MIB, minus, plus  # noqa: E402

TREE_MODEL = os.environ.get("TREE_MODEL", os.path.join(
    harness.PROJECT, "build", "tests", "tree", "tree_model"))
LONG = os.environ.get("UEXT4_LONG", "0") not in ("", "0")

# Beside those of tests/change, what matters to names.  (One of these leaves less than the blocks
# that are kept for finishing writes, so that nothing can be made.)
CONFIGS = [c for c in model.CONFIGS if c.name != "full-1k"] + [
    model.Config("full-1k", block_size=1024, args=["-m", "0"], fill=2 * MIB),
    model.Config("large-dir", plus(EXT4, "large_dir"), block_size=1024),
    model.Config("no-filetype", minus(EXT4, "filetype"), block_size=1024),
    model.Config("no-dir-nlink", minus(EXT4, "dir_nlink"), block_size=1024),
    model.Config("small", block_size=1024, size=4 * MIB, args=["-m", "0", "-g", "2048"]),
]
BY_NAME = {c.name: c for c in CONFIGS}

# What every run of the tests does.
QUICK = ["ext4-4k", "ext4-1k", "inline-data", "orphan-file", "nojournal", "ext3-1k", "small"]


def make_image(ws, cfg):
    image = ws.path("image")
    harness.sparse_file(image, cfg.size)
    args = ["-b", str(cfg.block_size), "-I", str(cfg.inode_size), "-N", "3000"]
    if "has_journal" in cfg.features.split(","):
        args += ["-J", "size=%d" % max(1 if cfg.size < 8 * MIB else 4,
                                       1024 * cfg.block_size >> 20)]
    args += ["-O", "none," + cfg.features] + cfg.args
    harness.run(["mke2fs", "-q", "-F"] + args + [image])
    for step in cfg.after:
        harness.run([image if word == "{image}" else word for word in step])
    if cfg.fill:
        model.leave_free(ws, image, cfg)
    return image


def run_model(report, cfg, image, listing):
    nr, rounds = (20000, 20) if LONG else (500, 2)
    argv = [TREE_MODEL, "-s", str(harness.SEED), "-n", str(nr), "-r", str(rounds), "-d", listing]
    if cfg.options:
        argv += ["-o", cfg.options]
    done = subprocess.run(argv + [image], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=3000)
    text = done.stdout.decode(errors="replace")
    if done.returncode == 77:
        raise harness.Skip(text.strip())
    print(text.strip()[-3000:])
    return report.check(done.returncode == 0, "tree_model: exit status %d", done.returncode)


def expected(listing):
    """Path in bytes: inode, mode, links, major, minor, target in bytes."""
    tree = {}
    with open(listing, encoding="ascii") as f:
        for line in f:
            path, ino, mode, links, major, minor, target = line[:-1].split(" ")
            tree[bytes.fromhex(path)] = (int(ino), int(mode, 8), int(links), int(major),
                                         int(minor), bytes.fromhex(target))
    return tree


def found(point):
    tree = {}
    root = os.fsencode(point)
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            target = os.readlink(path) if stat.S_ISLNK(st.st_mode) else b""
            tree[path[len(root):]] = (st.st_ino, st.st_mode, st.st_nlink, os.major(st.st_rdev),
                                      os.minor(st.st_rdev), target)
    return tree


def compare_kernel(report, ws, image, listing):
    point, reason = ws.mount(image, "look", "ro")
    if not point:
        report.fail("the kernel does not mount it: %s", reason)
        return
    try:
        ours, theirs = expected(listing), found(point)
    finally:
        ws.umount(point)
    for path in sorted(set(ours) | set(theirs)):
        report.equal(repr(path), ours.get(path), theirs.get(path))


def check(cfg):
    def body(report):
        harness.need_tools("mke2fs", "debugfs", "e2fsck", "tune2fs", "dumpe2fs")
        ws = harness.Workspace("tree-" + cfg.name)
        try:
            image = make_image(ws, cfg)
            listing = ws.path("list")
            if run_model(report, cfg, image, listing):
                harness.check_clean(report, cfg.name, image)
                if cfg.kernel and not harness.kernel_reason():
                    compare_kernel(report, ws, image, listing)
            if report.nr_failed:
                model.keep(image, cfg)
        finally:
            ws.close()
    return body


def main():
    if sys.argv[1:] in (["--list"], ["--quick"]):
        print("\n".join(BY_NAME if sys.argv[1] == "--list" else QUICK))
        return
    if len(sys.argv) != 2 or sys.argv[1] not in BY_NAME:
        sys.exit(__doc__)
    cfg = BY_NAME[sys.argv[1]]
    harness.main("tree " + cfg.name, "UEXT4_LONG=%d TREE_MODEL=%s %s %s" % (
        LONG, TREE_MODEL, os.path.abspath(__file__), cfg.name), check(cfg))


if __name__ == "__main__":
    main()
