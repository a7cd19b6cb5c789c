#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file of which a part cannot be read: what can be is given out, and the rest is named."""

import hashlib
import json
import re
import subprocess

import harness
from harness import pattern, uext4, write

BLOCK = 1024
NR_BLOCKS = 2000  # every other one is a hole, so that the extent tree has many leaves


class Damage(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "good", "good")
        write(self.tree / "other", "other")
        with open(self.tree / "bad", "wb") as f:
            for block in range(0, NR_BLOCKS, 2):
                f.seek(block * BLOCK)
                f.write(pattern(BLOCK, block))
        self.whole = (self.tree / "bad").read_bytes()
        self.make(size="32M", options=["-b", str(BLOCK), "-O", "^metadata_csum"])
        leaf, first, end = self.leaf(3)
        with open(self.image, "r+b") as f:
            f.seek(leaf * BLOCK)
            f.write(bytes(BLOCK))
        self.lost = first * BLOCK, end * BLOCK  # of the file

    def leaf(self, nr):
        """Its block, and which blocks of the file it maps."""
        done = subprocess.run(["debugfs", "-R", "ex /bad", str(self.image)], check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        found, = re.findall(rf"^ *1/ *2 +{nr}/ *\d+ +(\d+) - +(\d+) +(\d+) ", done.stdout, re.M)
        first, last, block = map(int, found)
        return block, first, last + 1

    def test_cat_gives_what_comes_before(self):
        done = self.fails("cat", self.at("/bad"), self.at("/good"), saying="/bad: ")
        begin = self.lost[0]
        self.assertEqual(done.out_bytes, self.whole[:begin - begin % 4096] + b"good")

    def test_verify_says_where(self):
        begin = self.lost[0] - self.lost[0] % 4096
        done = self.fails("verify", self.image,
                          saying=f"/bad: cannot read from byte {begin} on: Structure needs cleaning")
        self.assertRegex(done.out, r"(?m)^files +3$")
        # What lies behind is read.
        read = self.lost[1] - self.lost[1] % 4096 + 4096 - begin
        report = json.loads(self.fails("verify", "--json", self.image).out)
        self.assertEqual(report["bytes"], len(self.whole) - read + len("good" + "other"))

    def test_sums_leave_it_out(self):
        done = self.fails("verify", "--sums", self.image, saying="/bad: cannot read")
        self.assertEqual(sorted(line.split()[1].split("/")[-1] for line in done.out.splitlines()),
                         ["good", "other"])
        self.assertIn(hashlib.sha256(b"good").hexdigest(), done.out)

    def test_verify_against_the_tree(self):
        done = self.fails("verify", f"--against={self.tree}", self.image)
        self.assertIn("/bad: cannot read from byte", done.err)
        self.assertNotIn("/good", done.err)

    def test_get_leaves_holes(self):
        out = self.dir / "out"
        done = self.fails("get", "-r", self.at(), out)
        said = re.search(r"/bad: Structure needs cleaning at byte (\d+); (\d+) bytes lost, left as holes",
                         done.err)
        self.assertIsNotNone(said, done.err)
        begin, lost = map(int, said.groups())
        self.assertLessEqual(begin, self.lost[0])
        self.assertEqual((out / "bad").read_bytes(), self.whole[:begin] + bytes(lost))
        self.assertEqual((out / "good").read_text() + (out / "other").read_text(), "goodother")

    def test_copies_are_whole_or_not_there(self):
        self.fails("cp", self.at("/bad"), self.at("/copy"), saying="/bad: cannot read: Structure")
        self.assertNotIn("copy", uext4("ls", self.at()).out)
        archive = self.dir / "a.tar"
        self.fails("tar", "-c", "-f", archive, self.at(), saying="/bad: Structure needs cleaning")
        self.assertEqual(subprocess.run(["tar", "-tf", archive], check=True,
                                        stdout=subprocess.PIPE, text=True).stdout.split(),
                         ["./", "./good", "./lost+found/", "./other"])

    def test_what_looks_at_the_map(self):
        self.fails("map", self.at("/bad"), saying="/bad: Structure needs cleaning")
        done = self.fails("stat", self.at("/bad"), saying="/bad: cannot count extents: Structure")
        self.assertIn(f"Size: {len(self.whole)} ", done.out)

    def test_rm_takes_the_name(self):
        done = uext4("rm", self.at("/bad"))
        self.assertIn("is unlinked and could not be deleted: Structure needs cleaning", done.err)
        self.assertEqual(uext4("ls", self.at()).out.split(), ["good", "lost+found", "other"])


if __name__ == "__main__":
    harness.main()
