#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names and attributes: mkdir, mv, ln, rm -r, chmod, chown, touch, attr; find, du, df."""

import grp
import json
import os
import pwd
import shutil
import time

import harness
from harness import debugfs, write

UTC = {**os.environ, "TZ": "UTC"}


class Names(harness.Case):
    def names(self, path="/"):
        return [n for n in self.ok("ls", self.at(path)).out.split() if n != "lost+found"]

    def mode(self, path):
        return self.ok("ls", "-ld", self.at(path)).out.split()[0]

    def test_mkdir(self):
        self.make()
        self.ok("mkdir", self.at("/a"), self.at("/b/"))
        self.fails("mkdir", self.at("/a"), saying="/a: cannot create directory: File exists")
        self.fails("mkdir", self.at("/x/y"), saying="/x/y: No such file")
        out = self.ok("mkdir", "-pv", self.at("/x/y//z"), self.at("/a")).out
        self.assertEqual(out.count("created directory"), 3)
        self.ok("mkdir", "-m", "1750", self.at("/m"))
        self.assertEqual(self.mode("/m"), "drwxr-x--T")
        self.ok("touch", self.at("/f"))
        self.fails("mkdir", "-p", self.at("/f"), saying="File exists")
        self.fails("mkdir", "-p", self.at("/f/g"), saying="File exists")
        self.fails("mkdir", self.image, saying="name a directory in it")
        self.assertEqual(self.names(), ["a", "b", "f", "m", "x"])
        self.clean()

    def test_mv(self):
        write(self.tree / "f", "f")
        write(self.tree / "d" / "g", "g")
        (self.tree / "e").mkdir()
        self.make()
        self.ok("mv", self.at("/f"), self.at("/f2"))
        self.ok("mv", "-v", self.at("/f2"), self.at("/d"), self.at("/e"))
        self.assertEqual(self.names("/e"), ["d", "f2"])
        self.fails("mv", self.at("/e"), self.at("/e/d/x"), saying="Is the directory itself")
        self.fails("mv", self.at("/e/f2"), self.at("/new/"), saying="Not a directory")
        self.fails("mv", self.at("/none"), self.at("/x"), saying="/none: No such file")
        self.fails("mv", self.at("/"), self.at("/x"), saying="busy")
        self.ok("mv", "-n", self.at("/e/f2"), self.at("/e/d/g"))
        self.assertEqual(self.ok("cat", self.at("/e/d/g")).out, "g")
        self.ok("mv", "--exchange", self.at("/e/f2"), self.at("/e/d/g"))
        self.assertEqual(self.ok("cat", self.at("/e/d/g")).out, "f")
        self.ok("mv", self.at("/e/d/g"), self.at("/e/f2"))
        self.assertEqual(self.ok("cat", self.at("/e/f2")).out, "f")
        other = harness.make_image(self.dir / "other", self.tree)
        self.fails("mv", self.at("/e"), f"{other}:/", saying="copy it (uext4 cp -r)")
        self.clean()

    def test_ln(self):
        write(self.tree / "f", "f")
        (self.tree / "d").mkdir()
        self.make()
        self.ok("ln", self.at("/f"), self.at("/g"))
        self.ok("ln", self.at("/f"), self.at("/d"))
        self.ok("ln", "-s", "../f", self.at("/d/s"))
        self.assertEqual(self.ok("cat", self.at("/d/s")).out, "f")
        self.fails("ln", self.at("/f"), self.at("/g"), saying="File exists (-f replaces it)")
        self.fails("ln", self.at("/d"), self.at("/e"), saying="ln -s")
        self.fails("ln", "-s", "a", "b", self.at("/e"), saying="/e: Not a directory")
        self.assertEqual(self.ok("ln", "-sv", "f", self.at("/v")).out,
                         f"'{self.at('/v')}' -> 'f'\n")
        self.ok("ln", "-sf", "elsewhere", self.at("/g"))
        self.assertIn("g -> elsewhere", self.ok("ls", "-l", self.at("/")).out)
        self.assertIn("Links: 2", self.ok("stat", self.at("/f")).out)
        self.clean()

    def test_rm_of_trees(self):
        for i in range(20):
            write(self.tree / "d" / str(i % 4) / f"f{i}", "x" * i * 1000)
        (self.tree / "d" / "to").symlink_to("/keep")
        write(self.tree / "keep" / "f", "x")
        self.make()
        free = json.loads(self.ok("df", "--json", self.image).out)[0]
        self.ok("cp", "-r", self.at("/d"), self.at("/copy"))
        self.fails("rm", self.at("/d"), saying="Is a directory (-r removes it)")
        self.assertIn("removed", self.ok("rm", "-rv", self.at("/copy")).out)
        self.assertEqual(json.loads(self.ok("df", "--json", self.image).out)[0], free)
        self.ok("rm", "-r", self.at("/d"))
        self.ok("rm", "-rf", self.at("/d"), self.at("/no/such"))
        self.fails("rm", "-r", self.at("/d"), saying="No such file")
        self.fails("rm", "-r", self.at("/"), saying="not removed")
        self.fails("rm", "-r", self.at("/keep/."), saying="not removed")
        self.assertEqual(self.names(), ["keep"])
        self.clean()

    def test_a_bar_that_counts_files(self):
        (self.tree / "d").mkdir()
        for i in range(600):
            (self.tree / "d" / f"{i:040}").touch()
        self.make(options=["-N", "1000"])
        bar = r"\r\x1b\[K *\d+% \[=*>? *\] \d+/601 files  \d+/s  ETA \d+:\d\d\r\x1b\[K"
        for command in [["chmod", "-Rv", "u=rwX"], ["rm", "-rv"]]:
            # More than a terminal takes at once: while it is not read the bar becomes due.
            status, out = harness.run_on_terminal(*command, self.at("/d"), pause=0.3)
            self.assertEqual(status, 0)
            self.assertRegex(out, bar)
        self.clean()

    def test_chmod(self):
        write(self.tree / "d" / "f", "x", 0o644)
        (self.tree / "d" / "l").symlink_to("f")
        self.make()
        for mode, want in [("600", "-rw-------"), ("u+x,g=u,o-rwx", "-rwxrwx---"), ("-x", "-rw-rw----"),
                           ("a+X", "-rw-rw----"), ("u+s,g+s,o+t", "-rwSrwS--T"), ("=r", "-r--r--r--"),
                           ("o=,ug+w", "-rw-rw----"), ("00755", "-rwxr-xr-x")]:
            self.ok("chmod", mode, self.at("/d/l"))
            self.assertEqual(self.mode("/d/f"), want, mode)
        self.ok("chmod", "-R", "go=,a+X", self.at("/d"))
        self.assertEqual((self.mode("/d"), self.mode("/d/f")), ("drwxr-xr-x"[:4] + "--x--x", "-rwx--x--x"))
        self.ok("chmod", "2700", self.at("/d"))
        self.ok("chmod", "755", self.at("/d"))
        self.assertEqual(self.mode("/d"), "drwxr-sr-x")  # as chmod(1): directories keep it
        self.fails("chmod", "-o", "ro", "700", self.at("/d"), saying="Read-only file system")
        self.fails("chmod", "600", self.at("/none"), saying="No such file")
        self.clean()

    def test_chown(self):
        write(self.tree / "d" / "f", "x", 0o4755)
        (self.tree / "d" / "l").symlink_to("none")
        self.make()
        self.ok("chown", "12:34", self.at("/d/f"))
        self.ok("chown", ":56", self.at("/d/f"))
        self.assertRegex(self.ok("ls", "-l", self.at("/d")).out, "-rwxr-xr-x 1 +12 +56")
        self.ok("chown", "-R", "70000:80000", self.at("/d"))
        self.assertEqual(self.ok("ls", "-lR", self.at("/d")).out.count(" 70000 80000 "), 2)
        self.fails("chown", "1", self.at("/d/l"), saying="No such file")
        self.ok("chown", "-h", "1", self.at("/d/l"))
        user, group = pwd.getpwuid(0), grp.getgrgid(0)
        for owner, ids in [(user.pw_name, "0 80000"), (f":{group.gr_name}", "0 0"), ("5:6", "5 6"),
                           (f"{user.pw_name}:", f"0 {user.pw_gid}")]:
            out = self.ok("chown", "-v", owner, self.at("/d/f")).out
            self.assertEqual(out, f"changed owner of '{self.at('/d/f')}'\n")
            self.assertRegex(self.ok("ls", "-l", self.at("/d")).out, "-rwxr-xr-x 1 +%s " % ids.replace(" ", " +"))
        for owner in ["nobody that is here", "1:", ":4294967295", "1:no group"]:
            self.fails("chown", owner, self.at("/d/f"), status=2, saying="invalid owner")
        self.clean()

    def flags(self, path):
        return json.loads(self.ok("stat", "--json", self.at(path)).out)[0]

    def test_chattr(self):
        write(self.tree / "d" / "f", "contents " * 3000)
        (self.tree / "d" / "l").symlink_to("f")
        self.make(options=["-O", "project"])
        f, d = self.at("/d/f"), self.at("/d")
        self.ok("chattr", "+id", f)
        self.assertEqual(sorted(set(self.flags("/d/f")["flag_names"])),
                         ["extents", "immutable", "no_dump"])
        self.fails("rm", f, saying="Operation not permitted")
        self.ok("chattr", "-i", "+A", f)
        self.assertEqual(sorted(set(self.flags("/d/f")["flag_names"])),
                         ["extents", "no_atime", "no_dump"])
        self.ok("chattr", "=S", f)
        self.assertEqual(sorted(set(self.flags("/d/f")["flag_names"])),
                         ["extents", "synchronous_updates"])
        self.ok("chattr", "-R", "+d", "-p", "4711", d)
        self.assertEqual((self.flags("/d/f")["projid"], self.flags("/d")["projid"]), (4711, 4711))
        self.assertIn("no_dump", self.flags("/d")["flag_names"])
        self.assertNotIn("no_dump", self.flags("/d/l")["flag_names"])
        before = self.flags("/d/f")["version"]
        self.ok("chattr", "-e", f)
        self.assertNotIn("extents", self.flags("/d/f")["flag_names"])
        self.assertGreater(self.flags("/d/f")["version"], before)
        self.assertEqual(self.ok("cat", f).out, "contents " * 3000)
        self.clean()
        out = self.ok("chattr", "-v", "+e", f).out
        self.assertIn("e", out.split()[0])
        self.assertEqual(self.ok("cat", f).out, "contents " * 3000)
        self.ok("chattr", "-R", "-e", d)
        self.assertNotIn("extents", self.flags("/d/f")["flag_names"])
        self.assertIn("extents", self.flags("/d")["flag_names"])
        self.fails("chattr", "-e", d, saying="cannot have these flags, or cannot lose them")
        self.fails("chattr", "+D", f, saying="cannot have these flags")
        self.fails("chattr", "+i", self.at("/none"), saying="No such file")
        for wrong, saying in [(["+i"], "missing operand"), ([f], "nothing to change"),
                              (["+z", f], "invalid flags: '+z'"), (["+i", "-i", f], "same flag")]:
            done = harness.uext4("chattr", *wrong)
            self.assertEqual(done.status, 2)
            self.assertIn(saying, done.err)
        self.clean()

    def test_touch(self):
        write(self.tree / "f", "x")
        os.utime(self.tree / "f", (5, 6))
        self.make()
        self.ok("touch", "-m", "-d", "2001-02-03 04:05:06.789Z", self.at("/f"))
        out = self.ok("stat", self.at("/f"), env=UTC).out
        self.assertIn("Modify: 2001-02-03 04:05:06.789000000", out)
        self.assertIn("Access: 1970-01-01 00:00:05.0", out)
        self.ok("touch", "-r", self.at("/f"), self.at("/new"))
        self.assertIn("Modify: 2001-02-03 04:05:06.789000000",
                      self.ok("stat", self.at("/new"), env=UTC).out)
        self.ok("touch", "-c", self.at("/none"))
        self.ok("touch", "-d", "@-1.5", self.at("/f"))
        self.assertIn("Modify: 1969-12-31 23:59:58.500", self.ok("stat", self.at("/f"), env=UTC).out)
        self.assertEqual(self.names(), ["f", "new"])
        self.fails("touch", self.at("/no/f"), saying="No such file")
        self.fails("touch", "-d", "2001-02-03 04:05+-1:-5", self.at("/f"), status=2, saying="invalid date")
        self.clean()

    def modified(self, path, *options):
        return json.loads(self.ok("stat", "--json", *options, self.at(path)).out)[0]["mtime"]["sec"]

    def test_dates(self):
        write(self.tree / "f", "x")
        self.make()
        for date, seconds in [("1970-01-02", 86400), ("1970-01-02 01:00", 90000),
                              ("1970-01-01T00:00:07Z", 7), ("1970-01-01 02:00+02:00", 0),
                              ("1970-01-01 00:00:00.5 -0130", 5400), ("@77", 77)]:
            self.ok("touch", "-d", date, self.at("/f"), env=UTC)
            self.assertEqual(self.modified("/f"), seconds, date)
        for date in ["tomorrow", "1970-01-01 25:00", "1970-01-01 00:00 *", "1970-01-01 00:00+1",
                     "1970-01-01 00:00+24:00", "1970-01-01 00:00+02:00x", "1970-01-01 00:00:00.",
                     "@", "@ 1", "@1x", ""]:
            self.fails("touch", "-d", date, self.at("/f"), status=2, saying=f"invalid date: '{date}'")
        before = time.time()
        self.ok("touch", "-d", "now", self.at("/f"))
        self.assertTrue(int(before) <= self.modified("/f") <= time.time())
        self.ok("touch", self.at("/f"), env={**os.environ, "SOURCE_DATE_EPOCH": "4711"})
        self.assertEqual(self.modified("/f"), 4711)

    def test_touch_what_is_no_file(self):
        (self.tree / "l").symlink_to("none")
        self.make()
        os.utime(self.tree, (1, 99))
        self.ok("touch", "-h", "-r", self.tree, self.at("/l"))
        self.assertEqual(self.modified("/l"), 99)
        self.fails("touch", self.at("/l"), saying="a symbolic link to what does not exist")
        self.fails("touch", self.at("/new/"), saying="Not a directory")
        self.fails("touch", "-r", self.dir / "none", self.at("/x"), saying="none: No such file")
        self.fails("touch", "-r", self.at("/none"), self.at("/x"), saying="/none: No such file")
        self.assertEqual(self.names(), ["l"])
        self.clean()

    def test_attr(self):
        write(self.tree / "f", "x")
        self.make()
        f = self.at("/f")
        self.ok("attr", "-s", "user.text", "-V", "some text", f)
        self.ok("attr", "-s", "user.bytes", "-V", "0x00ff0a", f)
        self.ok("attr", "-s", "trusted.none", f)
        self.assertEqual(sorted(self.ok("attr", f).out.split()), ["trusted.none", "user.bytes", "user.text"])
        out = self.ok("attr", "-d", f).out
        self.assertIn('user.text="some text"\n', out)
        self.assertIn('user.bytes=0x00ff0a\n', out)
        self.assertEqual(self.ok("attr", "-g", "user.bytes", f).out_bytes, b"\x00\xff\x0a")
        listed = json.loads(self.ok("attr", "--json", f).out)
        self.assertEqual(listed[0]["attributes"]["user.text"], '"some text"')
        self.ok("attr", "-r", "user.text", f)
        self.fails("attr", "-g", "user.text", f, saying="'user.text': No such attribute")
        self.fails("attr", "-s", "other.x", f, saying="names begin with user.")
        self.fails("attr", "-s", "user.big", "-V", "x" * 70000, f, saying="user.big")
        self.ok("attr", "-s", "user.quoted", "-V", '"0x41"', f)
        self.assertIn('user.quoted="0x41"\n', self.ok("attr", "-d", f).out)
        self.ok("ln", "-s", "f", self.at("/l"))
        self.ok("attr", "-h", "-s", "trusted.mine", "-V", "x", self.at("/l"))
        self.assertEqual(self.ok("attr", "-h", self.at("/l")).out, "trusted.mine\n")
        self.assertNotIn("trusted.mine", self.ok("attr", self.at("/l")).out)
        self.fails("attr", "--json", "-g", "user.bytes", f, status=2, saying="--json is for lists")
        self.clean()

    def test_find(self):
        write(self.tree / "a" / "one.c", "x" * 1000)
        write(self.tree / "a" / "TWO.C", "", 0o4755)
        write(self.tree / "b" / "c" / "three.h", "x" * 5000)
        (self.tree / "l").symlink_to("a")
        (self.tree / "empty").mkdir()
        os.utime(self.tree / "a" / "one.c", (10**9, 10**9))
        self.make()
        top = self.at("/")

        def found(*tests):
            out = self.ok("find", top, *tests, "-print0").out.rstrip("\0").split("\0")
            return [n[len(top):] for n in out if n and "lost+found" not in n]

        self.assertEqual(found(), ["", "a", "a/TWO.C", "a/one.c", "b", "b/c", "b/c/three.h", "empty", "l"])
        for tests, want in [
                (["-name", "*.c"], ["a/one.c"]), (["--iname=*.c"], ["a/TWO.C", "a/one.c"]),
                (["-type", "l"], ["l"]), (["-type", "f", "-size", "+1k"], ["b/c/three.h"]),
                (["-size", "1000c"], ["a/one.c"]), (["-empty"], ["a/TWO.C", "empty"]),
                (["-perm", "-4000"], ["a/TWO.C"]), (["-path", "*/c/*"], ["b/c/three.h"]),
                (["-type", "f", "-newer", self.at("/a/one.c"), "-name", "t*"], ["b/c/three.h"]),
                (["-maxdepth", "1", "-mindepth", "1", "-type", "d"], ["a", "b", "empty"]),
        ]:
            self.assertEqual(found(*tests), want, tests)
        for tests, want in [
                (["-perm", "4755"], ["a/TWO.C"]), (["-perm", "/4001"], ["a/TWO.C"]),
                (["-perm", "u=rwxs,go=rx"], ["a/TWO.C"]), (["-size", "2"], ["a/one.c"]),
                (["-links", "+2"], ["", "b"]), (["-uid", "12"], ["b/c/three.h"]),
                (["-gid", "-35", "-gid", "+33"], ["b/c/three.h"]),
        ]:
            tests += [] if "-links" in tests else ["-type", "f"]
            self.ok("chown", "12:34", self.at("/b/c/three.h"))
            self.assertEqual([n for n in found(*tests) if n != "l"], want, tests)
        for test in ["--perm=u+q", "--size=1x", "--links=many", "--type=q"]:
            self.fails("find", test, top, status=2, saying="invalid")
        listed = json.loads(self.ok("find", "--json", "-name", "one.c", top).out)
        self.assertEqual((listed[0]["type"], listed[0]["size"]), ("regular file", 1000))
        self.fails("find", self.at("/none"), saying="No such file")

    def test_du_and_df(self):
        write(self.tree / "d" / "f", "x" * 10000)
        write(self.tree / "d" / "e" / "g", "x" * 5000)
        os.link(self.tree / "d" / "f", self.tree / "d" / "h")
        self.make(options=["-b", "4096"])
        self.assertEqual(self.ok("du", self.at("/d")).out,
                         f"12\t{self.at('/d/e')}\n28\t{self.at('/d')}\n")
        self.assertEqual(self.ok("du", "-s", self.at("/d")).out, f"28\t{self.at('/d')}\n")
        self.assertEqual(self.ok("du", self.at("/d/f"), self.at("/d/h")).out, f"12\t{self.at('/d/f')}\n")
        self.assertIn("28.0 KiB", self.ok("du", "-hs", self.at("/d")).out)
        self.assertEqual(json.loads(self.ok("du", "--json", "-s", "--apparent-size",
                                            self.at("/d/e/g")).out)[0]["bytes"], 5000)
        space = json.loads(self.ok("df", "--json", self.image).out)[0]
        self.assertEqual(space["block_size"], 4096)
        self.ok("rm", "-r", self.at("/d"))
        after = json.loads(self.ok("df", "--json", self.image).out)[0]
        self.assertEqual(after["blocks_free"] - space["blocks_free"], 28 // 4)
        self.assertIn("Use%", self.ok("df", self.image).out)
        self.assertRegex(self.ok("df", "-h", self.image).out, r"\d+\.\d MiB .* \d+%")
        used = after["inodes"] - after["inodes_free"]
        self.assertRegex(self.ok("df", "-i", self.image).out,
                         rf"(?m)^\S+ +{after['inodes']} +{used} +{after['inodes_free']} +\d+%$")

    def test_flags_are_kept_to(self):
        write(self.tree / "f", "x")
        self.make()
        debugfs(self.image, "set_inode_field /f flags 0x80010")
        f = self.at("/f")
        for command in [["rm", f], ["mv", f, self.at("/g")], ["ln", f, self.at("/g")],
                        ["chmod", "600", f], ["chown", "1", f], ["touch", f],
                        ["attr", "-s", "user.a", f]]:
            self.fails(*command, saying="Operation not permitted")
        self.clean()

    def test_no_image_is_said_once(self):
        for command in ["touch", "ls", "mkdir", "rm", "truncate -cs 0", "rm -f"]:
            done = harness.uext4(*command.split(), f"{self.dir}/none:/f")
            self.assertEqual((done.status, done.err.count("No such file")), (1, 1), command)

    def test_read_only(self):
        write(self.tree / "f", "x")
        self.make(options=["-O", "quota"])
        f = self.at("/f")
        for command in [["rm", f], ["mv", f, self.at("/g")], ["ln", f, self.at("/g")],
                        ["mkdir", self.at("/d")], ["chmod", "600", f], ["chown", "1", f], ["touch", f],
                        ["cp", f, self.at("/g")], ["attr", "-s", "user.a", f]]:
            self.fails(*command, saying="Read-only file system (`uext4 info -o rw` says why)")


class Shell(harness.Case):
    def sh(self, script, *options, **kwargs):
        return harness.uext4("sh", *options, self.image, input=script.encode(), **kwargs)

    def test_a_script(self):
        self.make()
        write(self.dir / "host file", "from the host\n")
        script = f"""
            # a comment
            lcd "{self.dir}"
            mkdir -p 'a b' c/d
            cd a\\ b
            put "host file" x1
            put host* .
            touch x2 y   # more
            pwd
            cat x1
            rm x*
            cp y ../c
            cd ../c/d
            ls -l ../*
            mv ../y z
            find .. -name *
            get z out
        """
        done = self.sh(script)
        self.assertEqual((done.status, done.err), (0, ""))
        self.assertTrue(done.out.startswith("/a b\nfrom the host\n"), done.out)
        self.assertEqual((self.dir / "out").read_bytes(), b"")
        out = self.ok("find", self.at("/a b"), self.at("/c")).out
        self.assertEqual([n[len(str(self.image)) + 1:] for n in out.splitlines()],
                         ["/a b", "/a b/host file", "/a b/y", "/c", "/c/d", "/c/d/z"])
        self.clean()

    def test_failures_end_a_script(self):
        self.make()
        done = self.sh("mkdir a\nrm none\nmkdir b\n")
        self.assertEqual(done.status, 1)
        self.assertIn("line 2 failed: rm none", done.err)
        done = self.sh("chmod\nbogus\nbench x\nls 'open\nls -o ro\nmkdir --help\nmkdir c\nquit\nmkdir d\n", "-k")
        self.assertEqual(done.status, 1)
        for text in ["missing operand", "no such command", "takes the image for itself",
                     "a quote has no end", "mount options are those of the shell"]:
            self.assertIn(text, done.err)
        self.assertIn("Usage: uext4 mkdir", done.out)
        self.assertEqual(self.ok("ls", self.at("/")).out.split(), ["a", "c", "lost+found"])
        done = self.sh("mkdir e\n", "-r")
        self.assertIn("Read-only file system", done.err)
        self.clean()

    def test_places(self):
        write(self.tree / "f", "x")
        (self.tree / "d").mkdir()
        self.make()
        other = harness.make_image(self.dir / "other", self.tree)
        done = self.sh(f"lcd {self.dir}\nlpwd\ncd d\npwd\ncd\npwd\nsync\n")
        self.assertEqual((done.status, done.err, done.out), (0, "", f"{self.dir}\n/d\n/\n"))
        done = self.sh(f"cd f\ncd {other}:/d\nlcd {self.dir}/none\npwd\n", "-k")
        self.assertEqual((done.status, done.out), (1, "/\n"))
        for text in ["f: Not a directory", "is another image", "none: No such file"]:
            self.assertIn(text, done.err)
        done = harness.uext4("sh", self.at("/d"), input=b"pwd\n")
        self.assertEqual((done.status, done.out), (0, "/d\n"))

    def test_patterns_go_deeper(self):
        for name in ["a1/x", "a2/x", "a2/y", "b/x"]:
            write(self.tree / name, name)
        self.make()
        done = self.sh("cat a*/x\nls -d */*\nls 'a[*' none*\n", "-k")
        self.assertEqual(done.out.replace(self.at("/"), ""), "a1/xa2/xa1/x\na2/x\na2/y\nb/x\n")
        self.assertIn("a[*: No such file", done.err)
        self.assertIn("none*: No such file", done.err)

    def test_completion_of_several(self):
        for name in ["long name", "long night", "other"]:
            write(self.tree / name, name)
        self.make()
        write(self.dir / "from the host", "x")
        out = harness.talk(["sh", self.image],
                           [b"cat lon\t\t", b"i\t\n", f"put {self.dir}/fr\t /new\n".encode(),
                            b"ls\n", b"c\t\t\x15quit\n"],
                           {"XDG_STATE_HOME": str(self.dir), "TERM": "dumb"})
        self.assertRegex(out, r"\nlong name +long night *\r")
        self.assertIn("\r\nlong night", out.split("put")[0])
        self.assertIn("new", out.split("ls\r\n")[-1])
        self.assertRegex(out, r"cat +cd +chattr")
        self.assertIn("put", (self.dir / "uext4_history").read_text())

    def test_references_are_of_the_image(self):
        write(self.tree / "f", "four")
        os.utime(self.tree / "f", (5, 6))
        self.make()
        done = self.sh("touch g h\ntruncate -r f g\ncd lost+found\ntouch -r ../f ../h\n")
        self.assertEqual((done.status, done.err), (0, ""))
        found = json.loads(self.ok("stat", "--json", self.at("/g"), self.at("/h")).out)
        self.assertEqual((found[0]["size"], found[1]["mtime"]["sec"]), (4, 6))
        self.clean()

    def test_read_only_is_for_all_images(self):
        write(self.tree / "f", "x")
        self.make()
        other = self.dir / "other"
        shutil.copyfile(self.image, other)
        before = other.read_bytes()
        self.ok("tar", "-c", "-f", self.dir / "a.tar", self.at("/f"))
        done = self.sh(f"attr -s user.a {other}:/f\ntar -x -f {self.dir}/a.tar {other}:/\n"
                       f"touch {other}:/g\n", "-rk")
        self.assertEqual(done.err.count("Read-only file system"), 3, done.err)
        self.assertEqual(other.read_bytes(), before)

    def test_completion_and_history(self):
        write(self.tree / "a dir" / "file", "contents")
        self.make()
        env = {"HOME": str(self.dir), "TERM": "dumb"}
        out = harness.talk(["sh", self.image], [b"cat a\t\t\n", b"nonsense\n", b"he\tquit\n", b"quit\n"],
                           env)
        self.assertIn("contents", out)
        self.assertIn("no such command", out)
        self.assertIn("leave the shell", out)
        self.assertIn("nonsense", (self.dir / ".uext4_history").read_text())


if __name__ == "__main__":
    harness.main()
