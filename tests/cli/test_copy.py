#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""cat and get: contents, attributes, and what hostile images and targets cannot do."""

import os
import socket
import stat
import unittest

import harness
from harness import debugfs, patch, pattern, uext4, write

NOBODY = 65534


class Cat(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "small", "hello\n")
        write(self.tree / "empty", "")
        write(self.tree / "big", pattern(40 << 20))  # more than all requests in flight hold
        with open(self.tree / "sparse", "wb") as f:
            for block in range(0, 3000, 7):
                f.seek(block * 4096)
                f.write(pattern(4096, block))
            f.truncate(3000 * 4096 + 5)
        (self.tree / "link").symlink_to("small")
        (self.tree / "d").mkdir()

    def test_contents(self):
        self.make(size="128M", options=["-b", "4096"])
        for name in ["small", "empty", "big", "sparse"]:
            out = self.ok("cat", self.at("/" + name)).out_bytes
            self.assertTrue(out == (self.tree / name).read_bytes(), name)

    def test_small_blocks_and_inline_data(self):
        # mke2fs -d loses a hole at the end of a file when it makes inline_data.
        self.make(size="128M", options=["-b", "1024", "-O", "inline_data", "-I", "256"])
        for name in ["small", "big"]:
            out = self.ok("cat", self.at("/" + name)).out_bytes
            self.assertTrue(out == (self.tree / name).read_bytes(), name)

    def test_indirect_maps(self):
        self.make(size="128M", options=["-b", "1024", "-O", "^extents,^64bit"])
        for name in ["small", "big", "sparse"]:
            out = self.ok("cat", self.at("/" + name)).out_bytes
            self.assertTrue(out == (self.tree / name).read_bytes(), name)

    def test_several_and_what_is_no_file(self):
        self.make(size="128M")
        done = self.fails("cat", self.at("/d"), self.at("/small"), self.at("/none"),
                          self.at("/link"))
        self.assertEqual(done.out, "hello\nhello\n")
        self.assertEqual(done.err,
                         f"uext4: cat: {self.at('/d')}: Is a directory\n"
                         f"uext4: cat: {self.at('/none')}: No such file or directory\n")

    def test_served_buffered(self):
        self.make(size="128M")
        debugfs(self.image, "set_inode_field /big flags 0x84000")  # extents, journaled data
        self.assertTrue(self.ok("cat", self.at("/big")).out_bytes
                        == (self.tree / "big").read_bytes())


class Get(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "a", "hello\n", 0o640)
        write(self.tree / "d" / "e" / "big", pattern(3 << 20), 0o755)
        write(self.tree / "d" / "suid", "x", 0o6755)
        for i in range(300):  # more files than requests in flight
            write(self.tree / "many" / f"f{i}", pattern(i * 37, i))
        os.link(self.tree / "a", self.tree / "d" / "hard")
        (self.tree / "link").symlink_to("d/none")
        os.mkfifo(self.tree / "fifo", 0o620)
        with open(self.tree / "sparse", "wb") as f:
            f.seek(5 << 20)
            f.write(b"middle")
            f.truncate(64 << 20)
        (self.tree / "d").chmod(0o1770)
        self.make(size="64M", options=["-I", "256"])
        self.out = self.dir / "out"

    def compare(self, image_tree, host_tree):
        """Names, types, modes, contents."""
        for root, dirs, files in os.walk(image_tree):
            other = host_tree / os.path.relpath(root, image_tree)
            for name in dirs + files:
                mine, theirs = os.path.join(root, name), other / name
                a, b = os.lstat(mine), os.lstat(theirs)
                self.assertEqual((stat.filemode(a.st_mode), a.st_nlink),
                                 (stat.filemode(b.st_mode), b.st_nlink), name)
                if stat.S_ISLNK(a.st_mode):
                    self.assertEqual(os.readlink(mine), os.readlink(theirs))
                if stat.S_ISREG(a.st_mode):
                    with open(mine, "rb") as f, open(theirs, "rb") as g:
                        self.assertTrue(f.read() == g.read(), name)
                self.assertEqual(int(a.st_mtime), int(b.st_mtime), name)

    def test_tree(self):
        self.ok("get", "-r", self.at(), self.out)
        self.compare(self.tree, self.out)
        self.assertEqual(os.lstat(self.out / "a").st_ino, os.lstat(self.out / "d/hard").st_ino)
        self.assertLess(os.lstat(self.out / "sparse").st_blocks * 512, 1 << 20)

    def test_into_a_directory(self):
        self.out.mkdir()
        self.ok("get", "-r", self.at("/d"), self.out)
        self.assertEqual(sorted(os.listdir(self.out)), ["d"])
        self.ok("get", self.at("/a"), self.out)
        self.ok("get", self.at("/a"), self.out / "renamed")
        self.assertEqual(sorted(os.listdir(self.out)), ["a", "d", "renamed"])

    def test_contents_into_a_directory_leave_it_as_it_is(self):
        self.out.mkdir(mode=0o711)
        before = os.lstat(self.out)
        self.ok("get", "-r", self.at("/d/."), self.out)
        self.assertEqual(sorted(os.listdir(self.out)), ["e", "hard", "suid"])
        self.assertEqual(os.lstat(self.out).st_mode, before.st_mode)

    def test_times_and_attributes(self):
        debugfs(self.image, "set_inode_field /a mtime 20200102030405",
                "set_inode_field /a mtime_extra 0x1d6f3454",  # 123456789 << 2
                "set_inode_field /d mtime 20010203040506", "set_inode_field /d mtime_extra 0",
                "set_inode_field /link mtime 20020304050607",
                "set_inode_field /link mtime_extra 0")
        debugfs(self.image, "ea_set /a user.colour blue")
        done = uext4("get", "-r", self.at(), self.out)
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(os.lstat(self.out / "a").st_mtime_ns, 1577934245123456789)
        self.assertEqual(os.lstat(self.out / "d").st_mtime_ns, 981173106000000000)
        self.assertEqual(os.lstat(self.out / "link").st_mtime_ns, 1015218367000000000)
        if "cannot keep attribute" not in done.err:  # the host's file system may not take them
            self.assertEqual(os.getxattr(self.out / "a", "user.colour"), b"blue")

    def test_directory_needs_r(self):
        self.fails("get", self.at("/d"), self.out, saying="-r not specified; omitting directory")
        self.assertFalse(self.out.exists())

    def test_existing_files(self):
        write(self.out, "mine")
        self.fails("get", self.at("/a"), self.out, saying="File exists")
        self.ok("get", "-n", self.at("/a"), self.out)
        self.assertEqual(self.out.read_text(), "mine")
        self.ok("get", "-f", self.at("/a"), self.out)
        self.assertEqual(self.out.read_text(), "hello\n")

    def test_force_replaces_a_symlink_and_not_what_it_leads_to(self):
        write(self.dir / "precious", "mine")
        self.out.symlink_to("precious")
        self.ok("get", "-f", self.at("/a"), self.out)
        self.assertEqual((self.dir / "precious").read_text(), "mine")
        self.assertFalse(self.out.is_symlink())

    def test_symlinks_of_the_host_are_not_followed(self):
        (self.dir / "elsewhere").mkdir()
        self.out.mkdir()
        (self.out / "d").symlink_to(self.dir / "elsewhere")
        done = self.fails("get", "-rf", self.at(), self.out)
        self.assertIn("/d: cannot create directory", done.err)
        self.assertEqual(os.listdir(self.dir / "elsewhere"), [])
        self.assertTrue((self.out / "many" / "f7").exists())  # the rest went on

    def test_verbose_names(self):
        out = self.ok("get", "-v", self.at("/a"), self.out).out
        self.assertEqual(out, f"'{self.at('/a')}' -> '{self.out}'\n")

    def test_missing_target_directory(self):
        self.fails("get", self.at("/a"), self.dir / "no" / "where",
                   saying="No such file or directory")

    def test_socket_and_device(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(self.tree / "socket"))
            self.make(size="64M")
        debugfs(self.image, "mknod null c 1 3")
        done = uext4("get", "-r", self.at(), self.out)
        self.assertTrue(stat.S_ISSOCK(os.lstat(self.out / "socket").st_mode))
        if (self.out / "null").exists():
            self.assertEqual(os.lstat(self.out / "null").st_rdev, os.makedev(1, 3))
            self.assertEqual(done.status, 0, done.err)
        else:  # not root, or a container
            self.assertIn("/null: cannot create character special file", done.err)
            self.assertEqual(done.status, 1)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else")
    def test_without_root_no_file_is_set_user_id(self):
        self.dir.chmod(0o755)
        self.out.mkdir()
        os.chown(self.out, NOBODY, NOBODY)
        try:
            done = uext4("get", "-r", self.at(), self.out / "x", user=NOBODY, group=NOBODY,
                         extra_groups=[])
        except PermissionError:
            self.skipTest("the command's directory is closed to others")
        self.assertEqual((done.status, done.err), (0, ""))
        st = os.lstat(self.out / "x" / "d" / "suid")
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid), (0o755, NOBODY))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to give files away")
    def test_owner(self):
        debugfs(self.image, "set_inode_field /d/suid uid 1234", "set_inode_field /d/suid gid 77")
        self.ok("get", "-r", self.at(), self.out)
        st = os.lstat(self.out / "d" / "suid")
        self.assertEqual((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)), (1234, 77, 0o6755))


class Hostile(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "good", "good")
        (self.dir / "x").mkdir()
        self.out = self.dir / "x" / "out"

    def test_names_that_lead_elsewhere(self):
        for old, new in [(b"NAME_WITH_SLASH", b"../../elsewhere"),
                         (b"NAME_ABSOLUTE__", b"/tmp/uext4_evil"),
                         (b"NAME_WITH_NUL__", b"NAME\0WITH_NUL__")]:
            write(self.tree / old.decode(), "evil")
            self.make(options=["-O", "^metadata_csum,^dir_index"])
            patch(self.image, old, new)
            done = uext4("get", "-rf", self.at(), self.out)
            self.assertEqual(done.status, 1, new)
            self.assertFalse((self.dir / "elsewhere").exists())
            self.assertFalse(os.path.exists("/tmp/uext4_evil"))
            self.assertEqual(sorted(os.listdir(self.dir / "x")), ["out"])
            (self.tree / old.decode()).unlink()

    def test_directory_loop_ends(self):
        write(self.tree / "d" / "e" / "f", "x")
        self.make(options=["-O", "^metadata_csum"])
        debugfs(self.image, "link d d/e/loop")
        self.fails("get", "-r", self.at(), self.out, saying="directory has a second name")
        self.assertEqual(sorted(os.listdir(self.out / "d" / "e")), ["f"])

    def test_damaged_file_does_not_stop_the_others(self):
        write(self.tree / "bad", pattern(100000))
        self.make()
        debugfs(self.image, "set_inode_field /bad block[0] 0x12345678")
        self.fails("get", "-r", self.at(), self.out, saying="/bad: ")
        self.assertEqual((self.out / "good").read_text(), "good")

    def test_symlink_is_made_and_not_followed(self):
        (self.dir / "elsewhere").mkdir()
        (self.tree / "dir").symlink_to(self.dir / "elsewhere")
        self.make()
        self.ok("get", "-r", self.at(), self.out)
        (self.tree / "dir").unlink()
        write(self.tree / "dir" / "f", "evil")
        self.make()
        self.fails("get", "-rf", self.at(), self.out)
        self.assertEqual(os.listdir(self.dir / "elsewhere"), [])


if __name__ == "__main__":
    harness.main()
