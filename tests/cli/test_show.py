#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""info, ls, stat, map: what they print agrees with the tree that the image was made of."""

import json
import os
import stat

import harness
from harness import debugfs, pattern, run_on_terminal, uext4, write


class Info(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "f", "hello\n")
        self.make(size="32M", options=["-L", "label", "-b", "4096", "-I", "512", "-U",
                                       "01234567-89ab-cdef-0123-456789abcdef"])

    def test_table(self):
        out = self.ok("info", self.image).out
        for line in [r"Label: +label", r"UUID: +01234567-89ab-cdef-0123-456789abcdef",
                     r"Block size: +4,096", r"Blocks: +8,192 \(32.0 MiB\)", r"Inode size: +512",
                     r"State: +clean", r"Features: .*\bextent\b", r"Read-only because: +\S"]:
            self.assertRegex(out, rf"(?m)^{line}")

    def test_json(self):
        info = json.loads(self.ok("info", "--json", self.image).out)
        self.assertEqual((info["label"], info["block_size"], info["blocks"], info["inode_size"]),
                         ("label", 4096, 8192, 512))
        self.assertEqual(info["uuid"], "01234567-89ab-cdef-0123-456789abcdef")
        self.assertEqual(info["state"], ["clean"])
        self.assertIn("extent", info["features"])
        self.assertIs(info["needs_recovery"], False)

    def test_label_that_is_no_utf8(self):
        debugfs(self.image, "set_super_value volume_name q\xff".encode())
        label = json.loads(self.ok("info", "--json", self.image).out)["label"]
        self.assertRegex(label, r"^q(\\xff|\\xc3\\xbf|ÿ)$")


class Ls(harness.Case):
    def setUp(self):
        super().setUp()
        for name in ["b", "a", ".hidden", "B", "z z"]:
            write(self.tree / name, name)
        write(self.tree / "d" / "inner", pattern(5000), 0o755)
        write(self.tree / "d" / ".h" / "x", "")
        (self.tree / "link").symlink_to("d")
        os.mkfifo(self.tree / "fifo", 0o600)
        self.make()

    def names(self, *args):
        return self.ok("ls", *args).out.splitlines()

    def test_sorted_and_without_hidden(self):
        self.assertEqual(self.names(self.at()),
                         ["B", "a", "b", "d", "fifo", "link", "lost+found", "z z"])

    def test_all(self):
        self.assertEqual(self.names("-a", self.at())[:4], [".", "..", ".hidden", "B"])

    def test_directory_itself(self):
        self.assertEqual(self.names("-d", self.at("/d")), [self.at("/d")])

    def test_file(self):
        self.assertEqual(self.names(self.at("/a")), [self.at("/a")])

    def test_given_symlink_is_followed_but_not_with_l(self):
        self.assertEqual(self.names(self.at("/link")), ["inner"])
        self.assertRegex(self.ok("ls", "-l", self.at("/link")).out, r"^l.* -> d\n$")

    def test_several(self):
        self.assertEqual(self.names(self.at("/d"), self.at("/a")),
                         [self.at("/a"), "", self.at("/d") + ":", "inner"])

    def test_long(self):
        lines = {line.split()[8]: line.split() for line in self.names("-l", self.at())[1:]}
        st = os.lstat(self.tree / "a")
        self.assertEqual(lines["a"][:5], ["-rw-r--r--", "1", str(st.st_uid), str(st.st_gid), "1"])
        self.assertEqual(lines["fifo"][0], "prw-------")
        self.assertEqual(lines["link"][8:], ["link", "->", "d"])
        self.assertEqual(self.names("-l", self.at())[0].split()[0], "total")
        inner = self.names("-l", self.at("/d"))[1].split()
        self.assertEqual((inner[0], inner[4]), ("-rwxr-xr-x", "5000"))

    def test_old_and_new_times(self):
        debugfs(self.image, "set_inode_field a mtime 20010203040506")
        old = self.ok("ls", "-l", self.at("/a"), env={**os.environ, "TZ": "UTC"}).out
        new = self.ok("ls", "-l", self.at("/b")).out
        self.assertRegex(old, r"Feb  3  2001 ")
        self.assertRegex(new, r"\d\d:\d\d ")

    def test_inode_numbers(self):
        out = self.ok("ls", "-di", self.at()).out
        self.assertEqual(out.split()[0], "2")

    def test_recursive(self):
        lines = self.names("-R", self.at())
        self.assertEqual(lines[0], self.at() + ":")
        self.assertIn(self.at("/d") + ":", lines)
        self.assertNotIn(self.at("/d/.h") + ":", lines)
        lines = self.names("-aR", self.at())
        self.assertEqual(lines[lines.index(self.at("/d/.h") + ":") + 1:][:3], [".", "..", "x"])

    def test_one_missing_does_not_hide_the_other(self):
        done = self.fails("ls", self.at("/none"), self.at("/a"))
        self.assertEqual(done.out, self.at("/a") + "\n")


class LsNames(harness.Case):
    """Names that a terminal must not see."""

    def setUp(self):
        super().setUp()
        write(self.tree / "a\nb\x1b[31m\\", "x")
        write(self.tree / "grün", "x")
        self.make()

    def test_json_has_text_only(self):
        write(self.tree / os.fsdecode(b"gr\xfcn \xe2\x82\xac\xe2\x82"), "x")
        self.make()
        out = json.loads(self.ok("find", "--json", "--name=gr*", self.at()).out)
        self.assertEqual(sorted(o["name"][len(self.at()):] for o in out),
                         ["gr\\xfcn \u20ac\\xe2\\x82", "gr\u00fcn"])

    def test_raw_in_a_pipe(self):
        self.assertIn("a\nb\x1b[31m\\\n", self.ok("ls", self.at()).out)

    def test_escaped_on_request(self):
        out = self.ok("ls", "-b", self.at(), env={**os.environ, "LC_ALL": "C.UTF-8"}).out
        self.assertEqual(out, "a\\nb\\033[31m\\\\\ngrün\nlost+found\n")

    def test_escaped_on_a_terminal(self):
        self.assertEqual(run_on_terminal("ls", self.at()),
                         (0, "a\\nb\\033[31m\\\\\ngrün\nlost+found\n"))

    def test_every_byte_is_escaped_in_the_c_locale(self):
        out = self.ok("ls", "-b", self.at(), env={**os.environ, "LC_ALL": "C"}).out
        self.assertIn("gr\\303\\274n\n", out)


class Stat(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "f", pattern(10000), 0o4751)
        (self.tree / "link").symlink_to("f")
        self.make(options=["-O", "project", "-I", "256"])
        debugfs(self.image, "ea_set /f user.colour blue", "set_inode_field /f projid 77",
                "set_inode_field /f generation 4711",
                "set_inode_field /f mtime 20200102030405",
                "set_inode_field /f mtime_extra 0x1d6f3454")  # 123456789 << 2

    def stat(self, *args):
        return json.loads(self.ok("stat", "--json", *args).out)

    def test_json(self):
        st = self.stat(self.at("/f"))[0]
        host = os.lstat(self.tree / "f")
        self.assertEqual((st["mode"], st["size"], st["uid"], st["gid"], st["nlink"]),
                         (host.st_mode, 10000, host.st_uid, host.st_gid, 1))
        self.assertEqual((st["projid"], st["generation"]), (77, 4711))
        self.assertEqual(st["mtime"], {"sec": 1577934245, "nsec": 123456789})
        self.assertEqual(st["xattrs"], ["user.colour"])
        self.assertEqual(st["extents"], 1)
        self.assertIn("extents", st["flag_names"])
        self.assertGreaterEqual(st["dio_offset_align"], 512)

    def test_text(self):
        out = self.ok("stat", self.at("/f"), env={**os.environ, "TZ": "UTC"}).out
        for line in [r"  File: .*:/f$", r"  Size: 10000 .* regular file$",
                     r"Access: \(4751/-rwsr-x--x\) ", r".*Generation: 4711\b",
                     r".*Project: 77$", r"Modify: 2020-01-02 03:04:05\.123456789 \+0000$",
                     r" Flags: -*e-*$", r"Extents: 1$", r"Direct I/O: memory aligned to \d+",
                     r"Xattrs: user\.colour$"]:
            self.assertRegex(out, rf"(?m)^{line}")

    def test_symlink(self):
        st = self.stat(self.at("/link"))[0]
        self.assertEqual((stat.S_IFMT(st["mode"]), st["target"]), (stat.S_IFLNK, "f"))
        self.assertEqual(self.stat("-L", self.at("/link"))[0]["size"], 10000)

    def test_device(self):
        debugfs(self.image, "mknod disk b 8 300")
        st = self.stat(self.at("/disk"))[0]
        self.assertEqual((st["rdev_major"], st["rdev_minor"]), (8, 300))
        self.assertIn("Device type: 8,300", self.ok("stat", self.at("/disk")).out)
        self.assertRegex(self.ok("ls", "-l", self.at("/disk")).out, r"^b---.* 8, +300 ")
        self.fails("map", self.at("/disk"), saying="Not a regular file")
        self.fails("cat", self.at("/disk"), saying="Not a regular file")

    def test_several_with_one_missing(self):
        done = self.fails("stat", "--json", self.at("/none"), self.at("/f"))
        self.assertEqual([st["name"] for st in json.loads(done.out)], [self.at("/f")])

    def test_served_buffered(self):
        debugfs(self.image, "set_inode_field /f flags 0x84000")  # extents, journaled data
        self.assertIn("Direct I/O: served buffered", self.ok("stat", self.at("/f")).out)


class Map(harness.Case):
    def setUp(self):
        super().setUp()
        self.data = {0: pattern(40000), 1 << 20: pattern(8192, 2), (3 << 20) + 4096: b"end"}
        with open(self.tree / "holes", "wb") as f:
            for pos, data in self.data.items():
                f.seek(pos)
                f.write(data)
            f.truncate(4 << 20)
        write(self.tree / "empty", "")
        write(self.tree / "dir" / "x", "x")
        self.make(options=["-b", "4096"])

    def test_segments_cover_the_file_and_say_where_it_lies(self):
        mapping = json.loads(self.ok("map", "--json", self.at("/holes")).out)
        contents = (self.tree / "holes").read_bytes()
        image = self.image.read_bytes()
        pos = 0
        for seg in mapping["segments"]:
            self.assertEqual(seg["logical"], pos)
            part = contents[pos:pos + seg["length"]]
            if seg["type"] == "hole":
                self.assertEqual(part, bytes(len(part)))
            else:
                self.assertEqual(seg["type"], "written")
                self.assertEqual(image[seg["physical"]:][:len(part)], part)
            pos += seg["length"]
        self.assertEqual(pos, 4 << 20)
        self.assertEqual(mapping["extents"], 3)
        types = [seg["type"] for seg in mapping["segments"]]
        self.assertEqual(types, ["written", "hole", "written", "hole", "written", "hole"])

    def test_table(self):
        lines = self.ok("map", self.at("/holes")).out.splitlines()
        self.assertEqual(lines[0].split(), ["logical", "physical", "bytes", "blocks", "type"])
        self.assertEqual(lines[1].split()[0], "0")
        self.assertEqual(lines[1].split()[2:5], ["40960", "10", "written"])
        self.assertEqual(lines[2].split(), ["40960", "-", "1007616", "246", "hole"])
        self.assertIn("3 extents in ", lines[-1])

    def test_unwritten(self):
        debugfs(self.image, "fallocate /empty 0 9")
        mapping = json.loads(self.ok("map", "--json", self.at("/empty")).out)
        self.assertEqual({seg["type"] for seg in mapping["segments"]}, {"unwritten"})

    def test_picture(self):
        out = self.ok("map", "--picture", self.at("/holes"),
                      env={**os.environ, "COLUMNS": "66"}).out
        strips = [line for line in out.splitlines() if line.startswith("|")]
        self.assertEqual([len(strip) for strip in strips], [66, 66])
        self.assertRegex(strips[0], r"^\|[#+]\.+\+\.+\+\.+\|$")
        self.assertRegex(strips[1], r"[#o]")

    def test_empty(self):
        self.assertIn("0 extents", self.ok("map", self.at("/empty")).out)
        self.assertIn("(empty)", self.ok("map", "--picture", self.at("/empty")).out)

    def test_directory(self):
        self.fails("map", self.at("/dir"), saying="Is a directory")

    def test_inline(self):
        self.make(options=["-O", "inline_data", "-I", "256"])
        mapping = json.loads(self.ok("map", "--json", self.at("/dir/x")).out)
        self.assertEqual([seg["type"] for seg in mapping["segments"]], ["inline"])


class Hostile(harness.Case):
    """Trees that are none."""

    def setUp(self):
        super().setUp()
        write(self.tree / "d" / "e" / "f", "x")
        self.make(options=["-O", "^metadata_csum"])
        debugfs(self.image, "link d d/e/loop")

    def test_directory_loop_ends(self):
        done = uext4("ls", "-R", self.at())
        self.assertEqual(done.status, 1)
        self.assertIn("directory has a second name", done.err)
        self.assertEqual(done.out.count("loop"), 1)


if __name__ == "__main__":
    harness.main()
