#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random truncate, fallocate, write and unlink on images of many configurations.

An image is filled with a pattern, then made by mke2fs with a tree in it; debugfs, and the kernel
where it is to be had, add files of other layouts.  change_model works on it, comparing with its
model; then e2fsck -fn must be content, and the kernel (else debugfs) must find the same bytes
and the same number of blocks.

    model.py NAME | --list       UEXT4_SEED, UEXT4_LONG=1, CHANGE_MODEL
"""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "interop"))

import harness  # noqa: E402
from configs import EXT2, EXT3, EXT4, MIB, minus, plus, revision_0  # noqa: E402

CHANGE_MODEL = os.environ.get("CHANGE_MODEL", os.path.join(
    harness.PROJECT, "build", "tests", "change", "change_model"))
LONG = os.environ.get("UEXT4_LONG", "0") not in ("", "0")
PATTERN = b"\xdeSTALE\xadBYTES\xbe\xef\xfe\0"


class Config:
    def __init__(self, name, features=EXT4, block_size=4096, inode_size=256, size=48 * MIB,
                 args=(), after=(), options="", max_size=0, nr=800, kernel=True, fill=0):
        self.name = name
        self.features = features
        self.block_size = block_size
        self.inode_size = inode_size
        self.size = size
        self.args = list(args)
        self.after = list(after)
        self.options = options
        self.max_size = max_size or max(512 << 10, 16 * block_size)
        self.nr = nr
        self.kernel = kernel and block_size <= 4096
        self.fill = fill  # bytes to leave free; 0: all


CONFIGS = [
    Config("ext4-4k"),
    Config("ext4-1k", block_size=1024, nr=1200),
    Config("ext4-2k", block_size=2048),
    Config("ext4-64k", block_size=65536, size=400 * MIB),
    Config("ext3-4k", EXT3),
    Config("ext3-1k", EXT3, block_size=1024, max_size=2 * MIB),
    Config("ext2-4k", EXT2, inode_size=128),
    Config("ext2-1k", EXT2, block_size=1024, inode_size=128, max_size=2 * MIB),
    Config("revision-0", "none", block_size=1024, inode_size=128, args=revision_0()),
    Config("nojournal", minus(EXT4, "has_journal")),
    Config("no-csum", minus(EXT4, "metadata_csum")),
    Config("gdt-csum", plus(minus(EXT4, "metadata_csum"), "uninit_bg"), block_size=1024),
    Config("uninit", plus(minus(EXT4, "metadata_csum"), "uninit_bg"), block_size=1024,
           args=["-E", "lazy_itable_init=1,nodiscard"]),
    Config("uninit-csum", args=["-E", "lazy_itable_init=1,nodiscard"], block_size=1024),
    Config("32bit", minus(EXT4, "64bit")),
    Config("no-flex-bg", minus(EXT4, "flex_bg"), block_size=1024),
    Config("meta-bg", plus(minus(EXT4, "resize_inode"), "meta_bg"), block_size=1024),
    Config("bigalloc", plus(EXT4, "bigalloc"), args=["-C", "65536"], size=160 * MIB),
    Config("bigalloc-1k", plus(EXT4, "bigalloc"), block_size=1024, args=["-C", "8192"],
           size=80 * MIB),
    Config("orphan-file", plus(EXT4, "orphan_file")),
    Config("no-huge-file", minus(EXT4, "huge_file")),
    Config("inline-data", plus(EXT4, "inline_data"), max_size=64 << 10, nr=1500),
    Config("inline-data-1k", plus(EXT4, "inline_data"), block_size=1024, inode_size=512,
           max_size=32 << 10, nr=1500),
    Config("sparse-super2", plus(EXT4, "sparse_super2")),
    Config("csum-seed", plus(EXT4, "metadata_csum_seed"),
           after=[["tune2fs", "-U", "c5eedc5e-5eed-4c5e-8d5e-edc5eedc5eed", "{image}"]]),
    Config("ea-inode", plus(EXT4, "ea_inode")),
    Config("no-dir-index", minus(EXT4, "dir_index")),
    Config("inode-128", minus(EXT4, "extra_isize"), inode_size=128),
    Config("data-journal", options="data=journal"),
    Config("data-writeback", options="data=writeback"),
    Config("discard", options="discard"),
    Config("full-4k", args=["-m", "0"], fill=2 * MIB),
    Config("full-1k", block_size=1024, args=["-m", "0"], fill=700 << 10, nr=1500),
    Config("full-bigalloc", plus(EXT4, "bigalloc"), args=["-m", "0", "-C", "32768"], size=80 * MIB,
           fill=2 * MIB),
    Config("full-reserved", block_size=1024, nr=1500, fill=3 * MIB),
    Config("full-ext3", EXT3, block_size=1024, args=["-m", "0"], fill=900 << 10),
]

BY_NAME = {c.name: c for c in CONFIGS}


def data(*key, size):
    return harness.rng("change", *key).randbytes(size)


def put(path, content):
    with open(path, "wb") as f:
        f.write(content)


def fill_pattern(path, size):
    piece = PATTERN * (MIB // len(PATTERN))
    with open(path, "wb") as f:
        for _ in range(size // MIB):
            f.write(piece)


def host_tree(root, cfg):
    bs = cfg.block_size
    os.makedirs(os.path.join(root, "m"))
    sizes = [0, 1, 60, 150, bs - 1, bs, bs + 1, 3 * bs + 5, 12 * bs, 13 * bs + 7, 40 * bs]
    for n in range(36):
        size = min(sizes[n % len(sizes)] + n, cfg.max_size)
        put(os.path.join(root, "m", "f%02d" % n), data("f", n, size=size))
    with open(os.path.join(root, "m", "holes"), "wb") as f:
        for blk in range(1, 30, 3):
            f.seek(blk * max(bs, 4096))
            f.write(data("hole", blk, size=bs))
            if f.tell() > cfg.max_size - 4096:
                break


def make_image(ws, cfg):
    image = ws.path("image")
    tree = ws.path("tree")
    host_tree(tree, cfg)
    fill_pattern(image, cfg.size)
    args = ["-b", str(cfg.block_size), "-I", str(cfg.inode_size), "-N", "2000"]
    if "has_journal" in cfg.features.split(","):
        args += ["-J", "size=%d" % max(4, 1024 * cfg.block_size >> 20)]
    args += ["-O", "none," + cfg.features] + cfg.args
    extended = [] if "-E" in cfg.args else ["-E", "lazy_itable_init=0,nodiscard"]
    harness.run(["mke2fs", "-q", "-F", "-d", tree] + extended + args + [image])
    for step in cfg.after:
        harness.run([image if word == "{image}" else word for word in step])
    add_by_debugfs(ws, image, cfg)
    if cfg.kernel and not harness.kernel_reason():
        add_by_kernel(ws, image, cfg)
    return image


def add_by_debugfs(ws, image, cfg):
    blob = ws.path("blob")
    put(blob, data("blob", size=min(30 * cfg.block_size + 77, cfg.max_size)))
    cmds = ["cd /m", "write %s d-plain" % blob, "write %s d-punched" % blob,
            "punch d-punched 3 5", "punch d-punched 11 11"]
    if "extent" in cfg.features:
        cmds += ["write %s d-unwritten" % blob, "punch d-unwritten 0",
                 "fallocate d-unwritten 2 20"]
    harness.debugfs(image, cmds, write=True)
    harness.run(["e2fsck", "-fy", image], check=False)


def add_by_kernel(ws, image, cfg):
    point, _ = ws.mount(image, "fill", "rw")
    if not point:
        return
    bs = cfg.block_size
    try:
        os.makedirs(os.path.join(point, "k"))
        fds = [os.open(os.path.join(point, "k", "k%d" % n), os.O_RDWR | os.O_CREAT)
               for n in range(4)]
        rng = harness.rng("kernel")
        for turn in range(60):  # interleaved: fragments
            for n, fd in enumerate(fds):
                blk = rng.randrange(cfg.max_size // bs)
                os.pwrite(fd, data("k", n, turn, size=bs), blk * bs)
                os.fsync(fd)
        for fd in fds:
            os.close(fd)
        if "extent" in cfg.features:
            with open(os.path.join(point, "k", "prealloc"), "wb") as f:
                os.posix_fallocate(f.fileno(), 0, cfg.max_size // 2)
                f.seek(5 * bs + 3)
                f.write(data("prealloc", size=2 * bs))
    finally:
        ws.umount(point)


def leave_free(ws, image, cfg):
    """Take what is more than cfg.fill, by one big file outside of the model's folders."""
    out = harness.run(["dumpe2fs", "-h", image]).stdout.decode()
    free = 0
    for line in out.split("\n"):
        if line.startswith("Free blocks:"):
            free = int(line.split(":")[1]) * cfg.block_size
    size = free - cfg.fill
    blob = ws.path("big")
    fill_pattern(blob, 0)
    with open(blob, "wb") as f:
        piece = data("big", size=MIB)
        while size > 0:
            f.write(piece[:size])
            size -= MIB
    harness.debugfs(image, ["write %s big" % blob], write=True)


def expected(folder):
    with open(os.path.join(folder, "list"), encoding="latin-1") as f:
        for line in f:
            path, number, exists, blocks = line.rstrip("\n").rsplit(" ", 3)
            with open(os.path.join(folder, number), "rb") as content:
                yield path, int(exists), int(blocks), content.read()


def compare(report, where, path, exists, want, got):
    if not exists:
        report.check(got is None, "%s: %s is there", where, path)
        return
    if got is None:
        report.fail("%s: %s is not there", where, path)
        return
    if got == want:
        report.check(True, "")
        return
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    stale = " STALE" if PATTERN in got else ""
    report.fail("%s: %s: sizes %d, %d; first difference at %d%s", where, path, len(got),
                len(want), at, stale)


def compare_kernel(report, ws, image, folder):
    point, reason = ws.mount(image, "look", "ro")
    if not point:
        report.fail("the kernel does not mount it: %s", reason)
        return
    try:
        for path, exists, blocks, want in expected(folder):
            where = point + path
            got = None
            if os.path.exists(where):
                with open(where, "rb") as f:
                    got = f.read()
                if exists:
                    report.equal("blocks of " + path, blocks, os.stat(where).st_blocks)
            compare(report, "kernel", path, exists, want, got)
    finally:
        ws.umount(point)


def compare_debugfs(report, ws, image, folder):
    wanted = list(expected(folder))
    dumps = [ws.path("dump-%d" % n) for n in range(len(wanted))]
    harness.debugfs(image, ["dump %s %s" % (path, dump) for (path, _, _, _), dump in
                            zip(wanted, dumps)])
    for (path, exists, _, want), dump in zip(wanted, dumps):
        got = None
        if os.path.exists(dump):
            with open(dump, "rb") as f:
                got = f.read()
            if not exists and not got:
                got = None
            elif got is not None:
                got = got[:len(want)] if len(got) > len(want) and not any(got[len(want):]) \
                    else got
        compare(report, "debugfs", path, exists, want, got)


def run_model(report, cfg, image, folder):
    nr = cfg.nr * (100 if LONG else 1)
    argv = [CHANGE_MODEL, "-s", str(harness.SEED), "-n", str(nr), "-m", str(cfg.max_size),
            "-r", str(cfg.nr // 8), "-d", folder]
    if cfg.options:
        argv += ["-o", cfg.options]
    has_k = harness.run(["debugfs", "-R", "stat /k", image]).stdout.startswith(b"Inode:")
    done = subprocess.run(argv + [image, "/m"] + (["/k"] if has_k else []), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3000)
    text = done.stdout.decode(errors="replace")
    if done.returncode == 77:
        raise harness.Skip(text.strip())
    print(text.strip()[-3000:])
    return report.check(done.returncode == 0, "change_model: exit status %d", done.returncode)


def check(cfg):
    def body(report):
        harness.need_tools("mke2fs", "debugfs", "e2fsck", "tune2fs", "dumpe2fs")
        ws = harness.Workspace("change-" + cfg.name)
        image = make_image(ws, cfg)
        if cfg.fill:
            leave_free(ws, image, cfg)
        done = harness.run(["e2fsck", "-fn", image], check=False)
        if done.returncode != 0:
            raise harness.ToolError("the image is not clean to begin with: %s" %
                                    done.stdout.decode(errors="replace")[-1000:])
        folder = ws.path("expected")
        os.mkdir(folder)
        if not run_model(report, cfg, image, folder):
            keep(image, cfg)
            return
        done = harness.run(["e2fsck", "-fn", image], check=False)
        report.check(done.returncode == 0, "e2fsck: %s",
                     done.stdout.decode(errors="replace")[-3000:])
        if cfg.kernel and not harness.kernel_reason():
            compare_kernel(report, ws, image, folder)
        else:
            compare_debugfs(report, ws, image, folder)
        if report.nr_failed:
            keep(image, cfg)
    return body


def keep(image, cfg):
    folder = os.environ.get("UEXT4_KEEP")
    if folder:
        harness.run(["cp", "--sparse=always", image, os.path.join(folder, cfg.name + ".img")])


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(BY_NAME))
        return
    if len(sys.argv) != 2 or sys.argv[1] not in BY_NAME:
        sys.exit(__doc__)
    cfg = BY_NAME[sys.argv[1]]
    harness.main("model " + cfg.name, "UEXT4_LONG=%d CHANGE_MODEL=%s %s %s" % (
        LONG, CHANGE_MODEL, os.path.abspath(__file__), cfg.name), check(cfg))


if __name__ == "__main__":
    main()
