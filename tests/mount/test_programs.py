#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that people run, on a mount: fio with verification, dbench, stress-ng, git and make.

Each case ends with `e2fsck -fn` of the unmounted image.  A program that is not installed is
skipped.  With UEXT4_LONG they run as long as users let them: ten minutes of stress-ng, this
project's own build.
"""

import os
import shutil
import unittest
from pathlib import Path

import mounting
from mounting import LONG, run

SOURCE = Path(os.environ.get("UEXT4_SOURCE_ROOT", Path(__file__).resolve().parents[2]))
ENGINES = ["psync", "libaio", "io_uring"]
CACHES = ["auto", "none", "writeback"] if LONG else ["auto", "writeback"]


def needs(program):
    return unittest.skipUnless(shutil.which(program), f"{program} is not installed")


class Programs(mounting.Case):
    def ok(self, *args, seconds=60, **kwargs):
        done = run(*args, timeout=seconds * 4 + 60, **kwargs)
        self.assertEqual(done.status, 0, f"{args[0]}: {done.out[-2000:]}\n{done.err[-2000:]}")
        return done

    def end(self):
        self.umount()
        self.fsck_closed()


@needs("fio")
class Fio(Programs):
    def verify(self, cache, direct):
        """Written at random and read again, by each engine; the same file with both kinds."""
        self.make("128M")
        self.mount("-o", f"cache={cache}")
        for engine in ENGINES if LONG or direct else ENGINES[-1:]:
            for rw in ["randwrite", "write"] if LONG else ["randwrite"]:
                self.ok("fio", "--name=verify", f"--directory={self.at}", f"--ioengine={engine}",
                        f"--direct={direct}", f"--rw={rw}", "--size=%dm" % (64 if LONG else 4),
                        "--bsrange=4k-64k", "--blockalign=4k", "--iodepth=16",
                        "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
                        "--end_fsync=1", "--verify_state_save=0",
                        "--randseed=%s" % os.environ.get("UEXT4_SEED", "1"))
        self.end()

    def test_buffered(self):
        for cache in CACHES:
            with self.subTest(cache=cache):
                self.verify(cache, 0)

    def test_direct(self):
        self.verify("auto", 1)

    def test_direct_and_buffered_at_once(self):
        """Two jobs of one run on their own files; each verifies what it has written."""
        self.make("128M")
        self.mount()
        self.ok("fio", "--rw=randrw", "--size=8m", "--bs=4k", f"--directory={self.at}",
                "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0",
                "--ioengine=io_uring", "--iodepth=8",
                "--name=direct", "--direct=1", "--name=buffered", "--direct=0")
        self.end()


only_long = unittest.skipUnless(LONG, "only with UEXT4_LONG")


@only_long
@needs("dbench")
class Dbench(Programs):
    def test_it(self):
        self.make("1G")
        self.mount()
        self.ok("dbench", "-t", "120", "-D", self.at, "4", seconds=120)
        self.end()


@only_long
@needs("stress-ng")
class StressNg(Programs):
    """The class of file systems, one kind of stress after the other."""

    # What needs another kernel, devices, or more than a directory to write in.
    LEFT_OUT = ["bind-mount", "binderfs", "chroot", "dev-shm", "eigen", "io-uring", "ramfs", "sysfs", "procfs",
                "dev", "mknod", "fanotify", "inotify", "verity", "filerace"]
    def stressors(self):
        """Those of the class that this version has."""
        out = run("stress-ng", "--class", "filesystem?").err + run("stress-ng", "--class",
                                                                   "filesystem?").out
        known = out.split(":")[-1].split()
        return [name for name in known if name not in self.LEFT_OUT]

    def test_it(self):
        names = self.stressors()
        self.assertTrue(names)
        self.make("1G")
        self.mount()
        seconds = max(1, 600 // len(names))
        for name in names:
            done = run("stress-ng", f"--{name}", "2", "--timeout", f"{seconds}s", "--temp-path",
                       self.at, "--verify", timeout=120 + 4 * seconds)
            # 3: not implemented here; 4: nothing to do, or no right to.
            self.assertIn(done.status, (0, 3, 4), f"{name}: {done.out[-1500:]}{done.err[-1500:]}")
        self.end()


@needs("git")
class Sources(Programs):
    def test_git_and_make(self):
        """A clone of a repository that is on the mount, too; something is built in it."""
        self.make("512M")
        self.mount()
        origin, clone = self.at / "origin", self.at / "clone"
        ignored = shutil.ignore_patterns("build", "build-*", ".git", "__pycache__")
        for folder in ["include", "src", "scripts", "docs"] if LONG else ["include", "docs"]:
            shutil.copytree(SOURCE / folder, origin / folder, ignore=ignored)
        for name in ["meson.build", "Makefile", "meson_options.txt"]:
            shutil.copy(SOURCE / name, origin)
        git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", origin]
        self.ok("git", "init", "-q", origin)
        self.ok(*git, "add", "-A")
        self.ok(*git, "commit", "-qm", "first")
        self.ok("git", "clone", "-q", "--no-local", origin, clone)
        self.ok("git", "-C", clone, "fsck", "--full")
        self.ok("diff", "-r", "-x", ".git", origin, clone)
        if LONG:
            (clone / "bench").mkdir()
            (clone / "tests").mkdir()
            for folder in ["bench", "tests"]:
                (clone / folder / "meson.build").write_text("")
            self.ok("make", "-C", clone, seconds=600)
            self.ok(clone / "build" / "uext4", "--version")
        self.end()


if __name__ == "__main__":
    mounting.main()
