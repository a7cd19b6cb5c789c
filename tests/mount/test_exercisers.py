#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The exercisers of tests/write and tests/tree on a mount: by system calls, with the same models.

fsx changes and reads one file in every way that there is, by descriptors with and without O_DIRECT
and by memory; tree_model makes, links, renames and removes names in several threads and two
processes, and finds inodes by the handles that they had once.  In between the image is mounted anew.
With UEXT4_LONG there is much more of it, and the kernel's own ext4 says that the exercisers are right.
"""

import os
import subprocess
import unittest
from pathlib import Path

import mounting
from mounting import LONG, UEXT4, run

BUILD = Path(os.environ.get("UEXT4_BUILD_ROOT", "build"))
FSX = BUILD / "tests/write/fsx_kernel"
TREE = BUILD / "tests/tree/tree_kernel"
SEED = os.environ.get("UEXT4_SEED", "1")
CACHES = ["auto", "none", "writeback"]


class Exercisers(mounting.Case):
    def setUp(self):
        super().setUp()
        # Inodes of 256 bytes, for attributes.
        self.make("64M", "-I", "256", "-N", "8192")

    def start(self, *args, at=None, again="true"):
        env = dict(os.environ, ON_KERNEL=str(at or self.at), ON_KERNEL_AGAIN=again)
        process = subprocess.Popen([str(a) for a in args], env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def ends_well(self, process):
        out, _ = process.communicate()
        self.assertEqual(process.returncode, 0, out)

    def mount_again(self, cache):
        """A command that does."""
        return f"{UEXT4} umount {self.at} && {UEXT4} mount -o cache={cache} {self.image} {self.at}"

    def fsx(self, nr, again="true", mode="mixed"):
        self.ends_well(self.start(FSX, "kernel", "-n", nr, "-s", SEED, "-m", mode, again=again))

    def tree(self, nr, rounds, again="true"):
        self.ends_well(self.start(TREE, "-n", nr, "-r", rounds, "-s", SEED, "-", again=again))

    def trees(self, nr):
        """Two at once, in directories of their own; nothing is mounted anew then."""
        processes = []
        for name in ["one", "two"]:
            (self.at / name).mkdir()
            processes.append(self.start(TREE, "-n", nr, "-r", "1", "-s", SEED, "-",
                                        at=self.at / name))
        for process in processes:
            self.ends_well(process)

    def end(self):
        self.umount()
        self.fsck_closed()

    def test_one_file(self):
        for cache in CACHES:
            with self.subTest(cache=cache):
                self.mount("-o", f"cache={cache}")
                self.fsx(200000 if LONG else 1500, self.mount_again(cache))
                self.end()

    @unittest.skipUnless(os.geteuid() == 0, "file handles are root's")
    def test_names(self):
        for cache in CACHES:
            with self.subTest(cache=cache):
                self.make("64M", "-I", "256", "-N", "8192")
                self.mount("-o", f"cache={cache}")
                self.trees(5000 if LONG else 100)
                self.tree(5000 if LONG else 100, 10 if LONG else 2, self.mount_again(cache))
                self.end()

    @unittest.skipUnless(LONG and os.geteuid() == 0, "only with UEXT4_LONG, for root")
    def test_the_kernel_agrees(self):
        if run("mount", "-o", "loop", self.image, self.at).status != 0:
            self.skipTest("the kernel does not mount it")
        try:
            # Not both on one file: the kernel's own may then say EIO ("Page cache invalidation
            # failure on direct I/O").
            for mode in ["direct", "buffered"]:
                self.fsx(20000, mode=mode)
            self.trees(5000)
            self.tree(5000, 3)
        finally:
            run("umount", self.at)


if __name__ == "__main__":
    mounting.main()
