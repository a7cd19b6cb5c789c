#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""put: files of the host in images of many configurations, and what it refuses."""

import os
import shutil
import subprocess

import harness
from harness import EXT3, debugfs, pattern, write

CONFIGS = {
    "4k": ["-b", "4096"],
    "1k, no journal": ["-b", "1024", "-O", "^has_journal"],
    "clusters": ["-O", "bigalloc", "-C", "16384", "-b", "4096"],
    "inline": ["-O", "inline_data", "-I", "256", "-b", "4096"],
    "ext3": ["-O", EXT3, "-b", "1024"],
    "ext2, 4k": ["-O", EXT3 + ",^has_journal", "-b", "4096"],
}


class Put(harness.Case):
    def holds(self, path, want):
        """Both readers must find these bytes."""
        self.assertEqual(self.ok("cat", self.at(path)).out_bytes, want, path)
        dump = self.dir / "dump"
        debugfs(self.image, f"dump {path} {dump}")
        # Of inline data debugfs gives all that there is room for.
        self.assertEqual(dump.read_bytes()[:len(want)], want, f"debugfs: {path}")

    def holds_all(self, sources):
        """All at once, for there are many."""
        ours, theirs = self.dir / "ours", self.dir / "theirs"
        shutil.rmtree(ours, ignore_errors=True)
        shutil.rmtree(theirs, ignore_errors=True)
        theirs.mkdir()
        self.ok("get", "-r", self.at("/"), ours)
        subprocess.run(["debugfs", "-R", f"rdump / {theirs}", str(self.image)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for source in sources:
            want = source.read_bytes()
            self.assertEqual((ours / source.name).read_bytes(), want, source.name)
            self.assertEqual((theirs / source.name).read_bytes()[:len(want)], want,
                             f"debugfs: {source.name}")

    def source(self, name, data, mode=0o644):
        path = self.dir / "host" / name
        write(path, data, mode)
        return path

    def sources(self):
        sizes = [0, 1, 60, 511, 512, 1023, 4095, 4096, 4097, 65536, (1 << 20) - 1, (3 << 20) + 777]
        return [self.source(f"f{size}", pattern(size, size)) for size in sizes]

    def test_sizes_in_all_configurations(self):
        sources = self.sources()
        for name, options in CONFIGS.items():
            for how in [[], ["--buffered"], ["--fsync"]]:
                with self.subTest(config=name, how=how):
                    self.make(size="24M", options=options)
                    self.assertEqual(self.ok("put", *how, *sources, self.at("/")).out, "")
                    self.clean()
                    self.holds_all(sources)

    def test_new_name_and_directory(self):
        (self.tree / "d").mkdir()
        os.symlink("d", self.tree / "to-d")
        self.make()
        source = self.source("from", b"some text")
        self.ok("put", source, self.at("/d/to"))
        self.ok("put", source, self.at("/to-d"))
        self.ok("put", "--direct", source, self.at("/top"))
        for path in ["/d/to", "/d/from", "/top"]:
            self.holds(path, b"some text")
        out = self.ok("put", "-v", source, source.with_name("from"), "-f", self.at("/d/")).out
        self.assertEqual(out, f"'{source}' -> '{self.at('/d/from')}'\n" * 2)
        self.clean()

    def test_holes_stay(self):
        source = self.dir / "sparse"
        data = bytearray(8 << 20)
        with open(source, "wb") as f:
            for at in [5 * 4096, 1 << 20, (4 << 20) + 8192]:
                f.seek(at)
                f.write(pattern(4096, at))
                data[at:at + 4096] = pattern(4096, at)
            f.truncate(len(data))
        for options in [[], ["-O", EXT3]]:
            self.make(options=["-b", "4096", *options])
            self.ok("put", source, self.at("/sparse"))
            self.holds("/sparse", bytes(data))
            blocks = self.ok("stat", self.at("/sparse")).out.split("Blocks: ")[1].split()[0]
            self.assertLess(int(blocks), 100)
            self.clean()

    def test_mode_and_owner(self):
        self.make()
        source = self.source("x", b"x", 0o751)
        self.ok("put", source, self.at("/x"))
        stat = self.ok("stat", self.at("/x")).out
        self.assertIn("-rwxr-x--x", stat)

    def test_existing_names(self):
        write(self.tree / "old", "old contents, longer than the new")
        (self.tree / "dir" / "old").mkdir(parents=True)
        self.make()
        source = self.source("old", b"new")
        self.fails("put", source, self.at("/"), saying="/old: File exists (-f replaces it)")
        self.ok("put", "-n", source, self.at("/"))
        self.holds("/old", b"old contents, longer than the new")
        self.ok("put", "-f", source, self.at("/"))
        self.holds("/old", b"new")
        self.fails("put", "-f", source, self.at("/dir"), saying="Is a directory")
        self.clean()

    def test_the_others_go_on(self):
        self.make()
        good = [self.source("a", b"a"), self.source("b", b"b")]
        done = self.fails("put", good[0], self.dir / "none", self.dir, good[1], self.at("/"))
        self.assertIn("none: No such file or directory", done.err)
        self.assertIn("-r not specified; omitting directory", done.err)
        self.holds("/a", b"a")
        self.holds("/b", b"b")
        self.clean()

    def test_no_space_leaves_nothing(self):
        self.make(size="8M")
        small, large = self.source("small", pattern(5000)), self.source("large", pattern(12 << 20))
        self.fails("put", large, self.at("/"), saying="/large: cannot write: No space left")
        self.ok("put", small, self.at("/"))
        self.assertEqual(self.ok("ls", self.at("/")).out.split(), ["lost+found", "small"])
        self.holds("/small", pattern(5000))
        self.clean()

    def test_refusals(self):
        write(self.tree / "file", "x")
        self.make()
        source = self.source("s", b"s")
        fifo = self.dir / "fifo"
        os.mkfifo(fifo)
        for args, saying in [
                ([source, self.at("/none/x")], "No such file or directory"),
                ([source, self.at("/file/x")], "Not a directory"),
                ([source, self.at("/new/")], "Not a directory"),
                ([source, source, self.at("/new")], "Not a directory"),
                ([fifo, self.at("/")], "is not a regular file"),
                ([source, self.at("/" + "n" * 256)], "File name too long"),
                ([source, f"{self.dir}/no-image:/"], "No such file or directory"),
        ]:
            self.fails("put", *args, saying=saying)
        for args in [[source], ["-f", "-n", source, self.at("/")]]:
            self.fails("put", *args, status=2)
        self.clean()

    def test_read_only(self):
        self.make(options=["-O", "quota"])
        self.fails("put", self.source("s", b"s"), self.at("/"), saying="Read-only file system")

    def test_bar_on_a_terminal(self):
        self.make(size="64M")
        source = self.source("large", pattern(40 << 20))
        status, out = harness.run_on_terminal("put", "--fsync", source, self.at("/"))
        self.assertEqual(status, 0, out)
        self.holds("/large", source.read_bytes())


if __name__ == "__main__":
    harness.main()
