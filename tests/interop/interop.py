#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Interoperation: an image of one configuration, read by uext4, beside other readers.

    interop.py [--long] [--keep FILE] CONFIG
    interop.py --list

The image is made by mke2fs and debugfs and, where this process may mount it, filled by the
kernel's ext4.  The oracles are debugfs and dumpe2fs always, and the kernel's ext4 where it
mounts the image read-only.
"""

import argparse
import errno
import os
import shutil
import sys
import time

import compare
import configs
import harness
import makers
import oracles
import writing


def make_image(ws, cfg, long_run):
    """The image, and the reason why the kernel did not fill it, if so."""
    image = ws.path("image")
    tree = ws.path("host")
    makers.host_tree(tree, cfg.block_size)
    size, args = cfg.size, cfg.mke2fs_args()
    if long_run:
        size *= 8
        args[args.index("-N") + 1] = "150000"
    harness.mke2fs(image, args, size, tree)
    configs.run_steps(cfg.before, image)
    makers.debugfs_fill(ws, image, cfg)
    reason = makers.kernel_fill(ws, image, cfg, long_run) if cfg.kernel else "not asked"
    configs.run_steps(cfg.after, image)
    done = harness.run(["e2fsck", "-fn", image], check=False)
    if done.returncode != 0:
        raise harness.ToolError("the image that was made is not clean:\n" +
                                done.stdout.decode(errors="replace")[-1500:])
    return image, reason


def check_reader(report, image):
    """What ureader itself found, without an oracle."""
    text = image.crash_text()
    report.check(text is None, "ureader: %s", text)
    report.check(image.mount == 0, "mount: %s; log %s", image.mount, image.log)
    report.check(image.done is not None and image.done["unmount"] == 0,
                 "the walk did not end: %s", image.done)
    for ino, d in image.inodes.items():
        for bad in d.get("bad", []):
            report.fail("inode %d: %s", ino, bad)
        for what, code in d.get("err", []):
            # random positions may lie beyond what a file can have
            if code != -compare.ENOKEY and (what, code) != ("fiemap", -errno.EFBIG):
                report.fail("inode %d: %s gave %d", ino, what, code)
        report.nr_checks += 1
    errors = [text for level, text in image.log if level <= 3]
    report.check(not errors, "the log has errors on a sound image: %s", errors[:5])


def run_config(cfg, long_run, keep, report):
    harness.need_tools("mke2fs", "debugfs", "dumpe2fs", "tune2fs", "e2fsck")
    started = time.monotonic()
    ws = harness.Workspace(cfg.name)
    try:
        image, reason = make_image(ws, cfg, long_run)
        if reason:
            print("note: not filled by the kernel: %s" % reason)
        if keep:
            shutil.copyfile(image, keep)
        made = time.monotonic()
        ours = harness.Image(image, timeout=600 if long_run else 100)
        read = time.monotonic()
        check_reader(report, ours)
        if ours.mount == 0 and ours.statfs and ours.info:
            compare_all(ws, report, ours, image, cfg)
        compared = time.monotonic()
        if not long_run:
            writing.check(ws, report, image, cfg)
        print("%s: %d inodes; made in %.1f s, read in %.1f s, compared in %.1f s, written in "
              "%.1f s" % (cfg.name, len(ours.inodes), made - started, read - made, compared - read,
                          time.monotonic() - compared))
    finally:
        ws.close()


def read_hidden(report, ours, image, kernel):
    """Without the key uext4 does not list an encrypted directory: go by inode number."""
    hidden = [i for i in kernel.inodes if i not in ours.inodes]
    report.check(hidden, "nothing is encrypted")
    more = harness.Image(image, args=["-i", ",".join(map(str, hidden))])
    check_reader(report, more)
    ours.inodes.update(more.inodes)


def compare_all(ws, report, ours, image, cfg):
    compare.compare_superblock(report, ours, oracles.superblock(image))
    compare.compare(report, ours, oracles.Debugfs(ws, image, cfg), cfg)
    point, why = None, harness.kernel_reason() or ("" if cfg.kernel else "not asked")
    if not why:
        point, why = ws.mount(image, "oracle", "ro")
    if not point:
        print("note: no kernel oracle: %s" % why)
        return
    try:
        kernel = oracles.Kernel(point)
        if cfg.encrypt:
            read_hidden(report, ours, image, kernel)
        compare.compare(report, ours, kernel, cfg)
        compare.compare_statfs(report, ours, kernel)
    finally:
        ws.umount(point)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("config", nargs="?")
    p.add_argument("--long", action="store_true", help="100 000 entries, four times the fragments")
    p.add_argument("--keep", metavar="FILE", help="leave a copy of the image here")
    p.add_argument("--list", action="store_true")
    a = p.parse_args()
    if a.list:
        for c in configs.CONFIGS:
            print(c.name + (" long" if c.long_too else ""))
        return
    if a.config not in configs.BY_NAME:
        sys.exit("interop.py: no configuration %s" % a.config)
    repeat = "%s %s%s" % (os.path.abspath(__file__), "--long " if a.long else "", a.config)
    harness.main(a.config, repeat,
                 lambda report: run_config(configs.BY_NAME[a.config], a.long, a.keep, report))


if __name__ == "__main__":
    main()
