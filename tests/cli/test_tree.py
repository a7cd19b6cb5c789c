#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trees: into images and back, between images, by archives; and the same bytes again."""

import io
import os
import resource
import shutil
import stat
import subprocess
import tarfile
import unittest

import harness
import trees
from harness import write

SEED = int(os.environ.get("UEXT4_SEED", "1"))
LONG = bool(os.environ.get("UEXT4_LONG"))
EPOCH = 1700000000

CONFIGS = {
    "4k": ["-b", "4096"],
    "1k, inline": ["-b", "1024", "-I", "256", "-O", "inline_data"],
    "clusters, ea_inode": ["-b", "4096", "-O", "bigalloc,ea_inode", "-C", "16384"],
    "ext3": ["-b", "4096", "-I", "256", "-O", "^extent,^64bit,^metadata_csum,^flex_bg"],
}


class Tree(harness.Case):
    def setUp(self):
        super().setUp()
        self.xattrs = trees.can_have_xattrs(self.tree)
        self.source = self.dir / "source"
        self.source.mkdir()

    def fill(self, nr=60, seed=SEED):
        trees.make_tree(self.source, seed, nr, self.xattrs)

    def same(self, a, b, ignore=()):
        self.assertEqual(trees.differences(trees.describe(a, ignore), trees.describe(b, ignore)),
                         [], f"seed {SEED}")

    def back(self, path):
        out = self.dir / "out"
        shutil.rmtree(out, ignore_errors=True)
        self.ok("get", "-r", self.at(path), out)
        return out

    # ---- in and out

    def test_put_and_get(self):
        self.fill()
        for name, options in CONFIGS.items():
            with self.subTest(config=name):
                self.make(size="64M", options=options)
                self.assertEqual(self.ok("put", "-r", self.source, self.at("/")).out, "")
                self.clean()
                self.same(self.source, self.back("/source"))

    def test_deeper_than_files_may_be_open_at_first(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        few = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))}
        write(self.source / "/".join(["d"] * 60) / "f", "x")
        self.make()
        self.ok("put", "-r", self.source, self.at("/"), **few)
        self.ok("verify", "--raw=0", "--against", self.source, self.at("/source"), **few)
        self.ok("get", "-r", self.at("/source"), self.dir / "out", **few)
        self.same(self.source, self.dir / "out")
        self.clean()

    def test_put_what_is_in_a_directory(self):
        self.fill(10)
        self.make(size="64M")
        self.ok("put", "-r", f"{self.source}/.", self.at("/"))
        self.ok("put", "-r", self.source, self.at("/new"))
        self.same(self.source, self.back("/new"))
        for name in os.listdir(self.source):
            self.ok("stat", self.at(f"/{name}"))
        self.clean()

    def test_into_a_tree_that_is_there(self):
        write(self.source / "d" / "new", "new")
        write(self.source / "old", "changed")
        write(self.tree / "source" / "old", "old")
        write(self.tree / "source" / "d" / "stays", "stays")
        self.make()
        self.fails("put", "-r", self.source, self.at("/"), saying="/source/old: File exists")
        self.assertEqual(self.ok("cat", self.at("/source/old"), self.at("/source/d/new")).out, "oldnew")
        self.ok("put", "-rf", self.source, self.at("/"))
        self.assertEqual(self.ok("cat", self.at("/source/old"), self.at("/source/d/stays")).out,
                         "changedstays")
        self.fails("put", "-rf", self.source / "d", self.at("/source/old"), saying="Not a directory")
        self.clean()

    def test_overrides(self):
        write(self.source / "d" / "f", "text", 0o666)
        (self.source / "l").symlink_to("f")
        self.make()
        self.ok("put", "-r", "--owner=7:8", "--mode=u=rwX,go=rX", "--mtime=@99.5", self.source,
                self.at("/"))
        out = self.ok("ls", "-lR", self.at("/source")).out
        self.assertRegex(out, r"(?m)^-rw-r--r-- 1 7 8 4 Jan  1  1970 f$")
        self.assertRegex(out, r"(?m)^drwxr-xr-x 2 7 8 .* d$")
        self.assertRegex(out, r"(?m)^lrwxrwxrwx 1 7 8 .* l -> f$")
        self.assertIn("1970-01-01 00:01:39.500000000", self.ok(
            "stat", self.at("/source/d/f"), env={**os.environ, "TZ": "UTC"}).out)
        self.clean()

    def test_a_directory_inherits_its_acl_to_what_is_new_only(self):
        if not self.xattrs:
            self.skipTest("no ACLs here")
        write(self.source / "f", "x", 0o644)
        (self.tree / "d").mkdir()
        self.make()
        self.ok("attr", "-s", trees.ACL_DEFAULT, "-V", "0x" + trees.AN_ACL.hex(), self.at("/d"))
        self.ok("put", "-r", self.source, self.at("/d"))
        self.assertEqual(self.ok("attr", self.at("/d/source"), self.at("/d/source/f")).out, "")
        self.ok("touch", self.at("/d/new"))
        self.assertEqual(self.ok("attr", self.at("/d/new")).out.split(), [trees.ACL_ACCESS])
        self.same(self.source, self.back("/d/source"))
        self.clean()

    def test_no_space(self):
        for i in range(6):
            write(self.source / "d" / f"f{i}", harness.pattern(2 << 20, i))
        self.make(size="8M")
        done = self.fails("put", "-r", self.source, self.at("/"), saying="No space left on device")
        left = self.ok("ls", self.at("/source/d")).out.split()
        self.assertTrue(0 < len(left) < 6, done.err)
        for name in left:
            self.assertEqual(self.ok("cat", self.at(f"/source/d/{name}")).out_bytes,
                             (self.source / "d" / name).read_bytes())
        self.clean()

    # ---- within and between images

    def test_cp(self):
        self.fill()
        self.make(size="64M", options=CONFIGS["4k"])
        other = harness.make_image(self.dir / "other", self.tree, "64M", CONFIGS["1k, inline"])
        self.ok("put", "-r", self.source, self.at("/"))
        self.ok("cp", "-r", self.at("/source"), self.at("/copy"))
        self.ok("cp", "-r", self.at("/copy"), f"{other}:/")
        self.clean()
        self.same(self.source, self.back("/copy"))
        self.image = other
        self.clean()
        self.same(self.source, self.back("/copy"))

    def test_cp_refuses(self):
        write(self.tree / "d" / "f", "x")
        self.make()
        self.fails("cp", self.at("/d"), self.at("/e"), saying="-r not specified")
        self.fails("cp", "-r", self.at("/d"), self.at("/d/e"), saying="into itself")
        self.fails("cp", self.at("/d/f"), self.at("/d"), saying="File exists")
        self.fails("cp", "-f", self.at("/d/f"), self.at("/d"), saying="is the source itself")
        self.fails("cp", self.at("/d/f"), self.at("/new/"), saying="Not a directory")
        self.fails("cp", self.at("/none"), self.at("/e"), saying="No such file")
        self.ok("cp", "-n", self.at("/d/f"), self.at("/d"))
        self.clean()

    # ---- archives

    @unittest.skipUnless(trees.IS_ROOT, "tar keeps less for others than root")
    def test_tar_as_gnu_tar_has_it(self):
        self.fill()
        for folder, _, files in os.walk(self.source):
            for path in [os.path.join(folder, name) for name in files]:
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)
        self.make(size="64M")
        gnu = ["tar", "--warning=no-timestamp", "--xattrs", "--acls", "--numeric-owner", "--format=posix"]
        # Ours, read by both.
        self.ok("put", "-r", self.source, self.at("/"))
        self.ok("tar", "-c", "-f", self.dir / "a.tar.gz", self.at("/source"))
        (self.dir / "gnu").mkdir()
        subprocess.run([*gnu, "-xpf", self.dir / "a.tar.gz", "-C", self.dir / "gnu"], check=True)
        self.same(self.source, self.dir / "gnu" / "source")
        self.ok("mkdir", self.at("/x"))
        self.ok("tar", "-x", "-f", self.dir / "a.tar.gz", self.at("/x"))
        self.same(self.source, self.back("/x/source"))
        # Theirs.
        subprocess.run([*gnu, "-S", "-cf", self.dir / "b.tar", "-C", self.dir, "source"], check=True)
        self.ok("rm", "-r", self.at("/x/source"))
        with open(self.dir / "b.tar") as f:
            self.ok("tar", "-x", self.at("/x"), stdin=f)
        self.same(self.source, self.back("/x/source"))
        self.clean()

    def test_compressed_archives(self):
        write(self.tree / "f", "text" * 1000)
        self.make()
        magic = {"-j": b"BZh", "-J": b"\xfd7zXZ\0", "-z": b"\x1f\x8b", "--zstd": b"\x28\xb5\x2f\xfd",
                 "a.tar": b"", "a.tbz2": b"BZh", "a.TXZ": b"\xfd7zXZ\0"}
        for how, start in magic.items():
            name = how if how.startswith("a.") else "archive"
            options = [] if how.startswith("a.") else [how]
            self.ok("tar", "-c", *options, "-f", self.dir / name, self.at("/"))
            self.assertTrue((self.dir / name).read_bytes().startswith(start), how)
            self.ok("rm", self.at("/f"))
            self.ok("tar", "-x", "-f", self.dir / name, self.at("/"))
            self.assertEqual(self.ok("cat", self.at("/f")).out, "text" * 1000)
        self.clean()

    def test_archives_and_what_is_there(self):
        write(self.tree / "f", "old")
        self.make()
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as t:
            for name in ["f", "new/f"]:
                info = tarfile.TarInfo(name)
                info.size = 3
                t.addfile(info, io.BytesIO(b"new"))
        self.assertEqual(self.ok("tar", "-x", "-k", "-v", self.at("/"), input=data.getvalue()).out,
                         f"'new/f' -> '{self.at('/new/f')}'\n")
        self.assertEqual(self.ok("cat", self.at("/f"), self.at("/new/f")).out, "oldnew")
        self.ok("tar", "-x", "--mode=600", "--owner=5:6", "--mtime=@7", self.at("/"),
                input=data.getvalue())
        self.assertEqual(self.ok("cat", self.at("/f")).out, "new")
        self.assertRegex(self.ok("ls", "-l", self.at("/new")).out, r"-rw------- 1 5 6 3 Jan  1  1970")
        for args, saying in [(["-x", self.at("/f")], "/f: Not a directory"),
                             (["-x", "-f", self.dir / "none", self.at("/")], "cannot open"),
                             (["-c", "-f", self.dir / "no" / "a", self.at("/")], "cannot create"),
                             (["-c", "-f", "/dev/full", self.at("/")], "/dev/full: cannot write"),
                             (["-c", "-f", self.dir / "a", self.at("/none")], "/none: No such file")]:
            self.fails("tar", *args, saying=saying, input=data.getvalue())
        status, out = harness.run_on_terminal("tar", "-c", self.at("/"))
        self.assertEqual((status, out), (1, "uext4: tar: an archive is nothing for a terminal; "
                                            "-f FILE names one\n"))
        self.clean()

    def test_bars_on_a_terminal(self):
        write(self.tree / "d" / "large", harness.pattern(24 << 20))
        self.make(size="96M")
        for command in [["tar", "-c", "-f", self.dir / "a.tar", self.at("/d")],
                        ["tar", "-x", "-f", self.dir / "a.tar", self.at("/lost+found")],
                        ["cp", "-r", self.at("/d"), self.at("/copy")],
                        ["get", "-r", self.at("/d"), self.dir / "out"]]:
            status, out = harness.run_on_terminal(*command)
            self.assertEqual(status, 0, out)
        self.same(self.tree / "d", self.dir / "out", ["mtime"])  # mke2fs keeps seconds
        self.same(self.dir / "out", self.back("/lost+found/d"))
        self.clean()

    def test_hostile_archives(self):
        self.make()
        entries = [("../up", "x"), ("a/../../b", "x"), ("/abs", "good"), ("link", None),
                   ("link/through", "x"), ("d", "is a file"), ("d/f", "x")]
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as t:
            for name, text in entries:
                info = tarfile.TarInfo(name)
                if text is None:
                    info.type, info.linkname = tarfile.SYMTYPE, "/lost+found"
                    t.addfile(info)
                else:
                    info.size = len(text)
                    t.addfile(info, io.BytesIO(text.encode()))
        done = self.fails("tar", "-x", self.at("/"), input=data.getvalue())
        self.assertIn("../up: refused", done.err)
        self.assertIn("a/../../b: refused", done.err)
        self.assertIn("/link/through: cannot create: Not a directory", done.err)
        self.assertIn("/d/f: cannot create: Not a directory", done.err)
        self.assertEqual(self.ok("ls", self.at("/")).out.split(), ["abs", "d", "link", "lost+found"])
        self.assertEqual(self.ok("cat", self.at("/abs")).out, "good")
        self.fails("tar", "-x", self.at("/"), input=b"no archive" * 100, saying="cannot open")
        self.fails("tar", "-x", self.at("/"), input=data.getvalue()[:1500], saying="cannot")
        self.clean()

    # ---- the same again

    def test_the_same_bytes(self):
        self.fill(150)
        with open(self.source / "large", "wb") as f:
            for i in range(0, 40, 2):  # unwritten space is converted in some order
                f.seek(i << 20)
                f.write(harness.pattern((1 << 20) + 5, i))
        env = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
        for name, options in CONFIGS.items():
            with self.subTest(config=name):
                self.make(size="96M", options=options)
                first, second = self.dir / "first", self.dir / "second"
                for image in [first, second]:
                    shutil.copyfile(self.image, image)
                    at = f"{image}:/"
                    self.ok("put", "-r", self.source, at, env=env)
                    self.ok("cp", "-r", f"{at}source", f"{at}copy", env=env)
                    self.ok("rm", "-r", f"{at}source", env=env)
                    script = f"rm -r copy/*1*\nput -r {self.source} /copy\nmkdir d\n"
                    self.ok("sh", image, env=env, input=script.encode())
                    (self.source / "large").read_bytes()  # its access time may change
                    os.utime(self.source, (2**31, os.stat(self.source).st_mtime))
                self.assertEqual(subprocess.run(["cmp", first, second]).returncode, 0)
                self.image = second
                self.clean()
                self.assertIn(str(EPOCH), self.ok("stat", "--json", self.at("/d")).out)
                self.image = self.dir / "img"

    def test_a_wrong_date(self):
        self.make()
        self.fails("mkdir", self.at("/d"), status=2, saying="SOURCE_DATE_EPOCH",
                   env={**os.environ, "SOURCE_DATE_EPOCH": "yesterday"})

    @unittest.skipUnless(LONG, "UEXT4_LONG is not set")
    def test_a_hundred_thousand_files(self):
        for i in range(1000):
            folder = self.source / f"d{i % 10}" / f"e{i}"
            folder.mkdir(parents=True)
            for k in range(100):
                with open(folder / f"f{k}", "wb") as f:
                    f.write(b"%d.%d\n" % (i, k) * (k % 50))
                os.utime(folder / f"f{k}", ns=(i * 10**9, i * 10**9 + k))
                if self.xattrs and k % 10 == 0:
                    os.setxattr(folder / f"f{k}", "user.k", b"%d" % k)
            if i % 10 == 0:
                os.link(folder / "f1", folder / "hard")
                os.truncate(folder / "f2", 10 << 20)
        self.make(size="2G", options=["-N", "200000"])
        self.ok("put", "-r", self.source, self.at("/"), timeout=900)
        self.clean()
        self.same(self.source, self.back("/source"))
        self.ok("rm", "-r", self.at("/source"), timeout=900)
        self.clean()


if __name__ == "__main__":
    harness.main()
