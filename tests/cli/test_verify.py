#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""verify: finds every difference, sums as sha256sum does, goes on after damage."""

import hashlib
import json
import os
import stat
import subprocess
import unittest

import harness
from harness import debugfs, pattern, run_on_terminal, write


class Verify(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "a", "hello\n")
        write(self.tree / "empty", "")
        write(self.tree / "d" / "big", pattern(3000001))
        with open(self.tree / "sparse", "wb") as f:
            for block in range(0, 500, 3):
                f.seek(block * 4096)
                f.write(pattern(4096, block))
            f.truncate(4 << 20)
        (self.tree / "link").symlink_to("a")
        os.mkfifo(self.tree / "fifo")
        self.make(size="32M")

    def verify(self, *args):
        return self.ok("verify", "--raw=0", *args, self.image)

    def differs(self, *lines):
        done = self.fails("verify", "--raw=0", f"--against={self.tree}", self.image)
        self.assertEqual(done.err, "")
        self.assertEqual(done.out.splitlines()[:len(lines)], list(lines))
        self.assertRegex(done.out, rf"(?m)^differences +{len(lines)}$")

    def test_same(self):
        out = self.verify(f"--against={self.tree}").out
        for line in [r"files +4$", r"symlinks +1$", r"other +1$", r"bytes +7,194,311$",
                     r"requests +\d+  at most \d+ in flight$", r"differences +0$",
                     r"unreadable +0$", r"seconds +\d", r"compare +[\d.]+ MB/s"]:
            self.assertRegex(out, rf"(?m)^{line}")

    def test_any_depth_and_size(self):
        for args in [["--iodepth=1"], ["--iodepth=3", "--bs=4k"], ["--bs=64k", "--iodepth=200"]]:
            self.verify(f"--against={self.tree}", *args)

    def test_contents(self):
        with open(self.tree / "d" / "big", "r+b") as f:
            f.seek(1234567)
            byte = f.read(1)
            f.seek(1234567)
            f.write(bytes([byte[0] ^ 1]))
        self.differs("d/big: contents differ from byte 1234567 on")

    def test_hole_that_is_none(self):
        with open(self.tree / "sparse", "r+b") as f:
            f.seek((4 << 20) - 1)
            f.write(b"x")
        self.differs(f"sparse: contents differ from byte {(4 << 20) - 1} on")

    def test_size(self):
        with open(self.tree / "a", "ab") as f:
            f.write(b"more")
        self.differs("a: size is 6, not 10")

    def test_mode(self):
        (self.tree / "a").chmod(0o600)
        self.differs("a: mode is 0644, not 0600")

    def test_type(self):
        (self.tree / "a").unlink()
        (self.tree / "a").mkdir()
        self.differs("a: is a regular file, not a directory")

    def test_symlink(self):
        (self.tree / "link").unlink()
        (self.tree / "link").symlink_to("d")
        self.differs("link: symbolic link leads to another place")

    def test_names(self):
        (self.tree / "empty").unlink()
        write(self.tree / "d" / "new", "x")
        self.differs("d/new: missing in the image", "empty: only in the image")

    @unittest.skipUnless(os.geteuid() == 0, "needs root to make devices")
    def test_device(self):
        debugfs(self.image, "mknod null c 1 3")
        try:
            os.mknod(self.tree / "null", stat.S_IFCHR, os.makedev(1, 5))
        except PermissionError:
            self.skipTest("a container")
        self.differs("null: device is 1:3, not 1:5")

    def test_wrong_operands(self):
        self.fails("verify", "--bs=64M", "--iodepth=100", self.image, status=2,
                   saying="more than 4 GiB")
        self.fails("verify", self.image.parent / "none", saying="none: No such file")
        self.fails("verify", f"{self.image}:/a", saying="Not a directory")

    @unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else")
    def test_what_the_host_does_not_let_us_read(self):
        for path in [self.dir, self.tree]:
            path.chmod(0o755)
        self.image.chmod(0o666)
        (self.tree / "a").chmod(0o600)
        (self.tree / "d").chmod(0o700)
        self.make(size="32M")
        self.image.chmod(0o666)
        try:
            done = harness.uext4("verify", "--raw=0", f"--against={self.tree}", self.image,
                                 user=65534, group=65534, extra_groups=[])
        except PermissionError:
            self.skipTest("the command's directory is closed to others")
        self.assertEqual(done.status, 1)
        self.assertIn("a: cannot open the file to compare with: Permission denied", done.out)
        self.assertIn("d: cannot open the directory to compare with: Permission denied", done.out)

    def test_directory_replaced_by_a_symlink(self):
        (self.tree / "d").rename(self.dir / "d")
        (self.tree / "d").symlink_to(self.dir / "d")
        self.differs("d: is a directory, not a symbolic link")

    def test_differences_in_json(self):
        (self.tree / "a").chmod(0o600)
        done = self.fails("verify", "--raw=0", "--json", f"--against={self.tree}", self.image)
        result = json.loads(done.out)
        self.assertEqual(result["differences"],
                         [{"path": "a", "difference": "mode is 0644, not 0600"}])
        self.assertEqual((result["files"], result["symlinks"]), (4, 1))

    def test_sums(self):
        done = harness.uext4("verify", "--raw=0", "--sums", self.image)
        self.assertEqual(done.status, 0)
        subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "-"], input=done.out_bytes,
                       cwd=self.tree, check=True)
        self.assertEqual(len(done.out.splitlines()), 4)
        total = hashlib.sha256(done.out_bytes).hexdigest()
        self.assertRegex(done.err, rf"(?m)^sha256 +{total}$")
        self.assertRegex(self.verify().out, rf"(?m)^sha256 +{total}$")
        result = json.loads(self.verify("--json", "--sums").out)
        self.assertEqual(result["sha256"], total)
        self.assertEqual(result["sums"]["a"], hashlib.sha256(b"hello\n").hexdigest())

    def test_sums_of_odd_names(self):
        write(self.tree / "new\nline\\", "x")
        write(self.tree / "re\rturn", "y")
        self.make(size="32M")
        out = harness.uext4("verify", "--raw=0", "--sums", self.image).out_bytes
        subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "-"], input=out, cwd=self.tree,
                       check=True)

    def test_raw_device_beside_it(self):
        out = self.ok("verify", f"--against={self.tree}", self.image).out
        self.assertRegex(out, r"(?m)^files +[\d.]+ MB/s  reading only, [\d.]+ of the raw device$")
        self.assertRegex(out, r"(?m)^raw device +[\d.]+ MB/s  the same [\d.]+ MiB$")
        result = json.loads(self.ok("verify", "--json", self.image).out)
        # big and the written blocks of sparse, and the block of a
        self.assertGreaterEqual(result["measured_bytes"], 3000001 + 167 * 4096 + 6)
        self.assertGreater(result["raw_bytes_per_second"], 0)

    def test_raw_device_at_an_offset(self):
        self.image.write_bytes(bytes(1 << 20) + self.image.read_bytes())
        self.ok("verify", "-o", "offset=1M", f"--against={self.tree}", self.image)

    def test_damage_is_counted_and_the_rest_goes_on(self):
        debugfs(self.image, "set_inode_field /d/big block[0] 0x12345678")
        done = self.fails("verify", "--raw=0", "--sums", self.image, saying="/d/big: ")
        self.assertRegex(done.err, r"(?m)^unreadable +1$")
        self.assertEqual([line.split("  ")[1] for line in done.out.splitlines()],
                         ["a", "empty", "sparse"])

    def test_directory_loop_ends(self):
        self.make(size="32M", options=["-O", "^metadata_csum"])
        debugfs(self.image, "mkdir d/e", "link d d/e/loop")
        self.fails("verify", "--raw=0", self.image, saying="directory has a second name")

    def test_progress_bar_on_a_terminal(self):
        with open(self.tree / "huge", "wb") as f:
            f.truncate(1 << 30)  # a hole, but it takes time to sum up
        self.make(size="32M")
        status, out = run_on_terminal("verify", "--raw=0", self.image)
        self.assertEqual(status, 0)
        self.assertRegex(out, r"\r\x1b\[K *\d+% \[=*>? *\] [\d.]+ \w+/1.0 GiB  "
                              r"[\d.]+ MB/s  ETA \d+:\d\d\r\x1b\[K")

    def test_against_nothing(self):
        self.fails("verify", f"--against={self.dir}/none", self.image,
                   saying="none: No such file or directory")


if __name__ == "__main__":
    harness.main()
