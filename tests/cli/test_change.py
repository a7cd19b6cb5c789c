#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""truncate, fallocate and rm on images of many configurations.

Each case changes an image with the command, and ends with `e2fsck -fn`.  What a file holds is read
twice: by `uext4 cat` and by debugfs.  The random cases compare it with a model, which is the bytes
that the file should have.
"""

import os
import random
import subprocess

import harness
from harness import EXT3, debugfs, pattern, write

# What mke2fs is given.  Those without extents cannot do everything.
CONFIGS = {
    "4k": ["-b", "4096"],
    "1k": ["-b", "1024"],
    "2k, no journal": ["-b", "2048", "-O", "^has_journal"],
    "checksums, 64bit": ["-O", "metadata_csum,64bit", "-b", "4096"],
    "no checksums": ["-O", "^metadata_csum,^64bit", "-b", "1024"],
    "old group checksums": ["-O", "^metadata_csum,uninit_bg", "-b", "1024"],
    "clusters": ["-O", "bigalloc", "-C", "16384", "-b", "4096"],
    "clusters of 1k blocks": ["-O", "bigalloc", "-C", "8192", "-b", "1024"],
    "meta_bg": ["-O", "meta_bg,^resize_inode", "-b", "1024"],
    "orphan_file": ["-O", "orphan_file", "-b", "4096"],
    "inline": ["-O", "inline_data", "-I", "256", "-b", "4096"],
    "small inodes": ["-I", "128", "-b", "1024"],
    "ext3": ["-O", EXT3, "-b", "1024"],
    "ext3, 4k": ["-O", EXT3, "-b", "4096"],
    "ext2": ["-O", EXT3 + ",^has_journal", "-b", "1024"],
    "ext2, no large_file": ["-O", EXT3 + ",^large_file,^has_journal", "-b", "4096"],
}


def has_extents(name):
    return not name.startswith(("ext2", "ext3"))


def block_size(options):
    return int(options[options.index("-b") + 1]) if "-b" in options else 4096


def cluster_size(options):
    return int(options[options.index("-C") + 1]) if "-C" in options else block_size(options)


class Change(harness.Case):
    def read(self, path):
        """The file's bytes; both readers must agree."""
        ours = self.ok("cat", self.at(path)).out_bytes
        dump = self.dir / "dump"
        debugfs(self.image, f"dump {path} {dump}")
        # Of inline data debugfs gives all that there is room for, whatever the size.
        self.assertEqual(dump.read_bytes()[:len(ours)], ours,
                         f"uext4 and debugfs differ about {path}")
        return ours

    def holds(self, path, want):
        got = self.read(path)
        self.assertEqual(len(got), len(want), path)
        if got != want:
            at = next(i for i in range(len(want)) if got[i] != want[i])
            self.fail(f"{path}: byte {at} is {got[at]:#x}, not {want[at]:#x}")

    def all_hold(self, files):
        """The same for many files, given as path: bytes; each reader runs once."""
        ours = self.ok("cat", *map(self.at, files)).out_bytes
        dumps = {path: self.dir / f"dump{i}" for i, path in enumerate(files)}
        script = self.dir / "script"
        script.write_text("".join(f"dump {path} {dump}\n" for path, dump in dumps.items()))
        subprocess.run(["debugfs", "-f", str(script), str(self.image)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        at = 0
        for path, want in files.items():
            self.assertEqual(ours[at:at + len(want)], want, f"uext4 cat {path}")
            self.assertEqual(dumps[path].read_bytes()[:len(want)], want, f"debugfs dump {path}")
            at += len(want)
            dumps[path].unlink()
        self.assertEqual(at, len(ours), "uext4 cat of all")

    def blocks(self, path):
        """Units of 512 bytes that the file occupies."""
        out = subprocess.run(["debugfs", "-R", f"stat {path}", str(self.image)],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
        return int(out.decode().split("Blockcount: ")[1].split()[0])

    def free_blocks(self):
        out = subprocess.run(["dumpe2fs", "-h", str(self.image)], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, check=True).stdout.decode()
        return int(out.split("Free blocks:")[1].split()[0])


def on_every_config(test):
    def run(self):
        for name, options in CONFIGS.items():
            with self.subTest(config=name):
                for old in self.tree.iterdir():
                    old.unlink()
                test(self, name, options)
    run.__name__ = test.__name__
    return run


class Trim(Change):
    """What the device is told of is what dumpe2fs has as free: in a file, holes."""

    def free_ranges(self, size):
        """(start, end) of the free blocks, in bytes; blocks of 4096."""
        out = subprocess.run(["dumpe2fs", str(self.image)], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, check=True).stdout.decode()
        for line in out.splitlines():
            if not line.startswith("  Free blocks: "):
                continue
            for run in filter(None, line.split(": ")[1].split(", ")):
                first, _, last = run.partition("-")
                yield int(first) * size, (int(last or first) + 1) * size

    def test_free_blocks_become_holes(self):
        write(self.tree / "f", pattern(1_000_000))
        self.make(size="40M", options=["-b", "4096"])
        ranges = list(self.free_ranges(4096))
        before = bytearray(self.image.read_bytes())
        for start, end in ranges:
            before[start:end] = b"j" * (end - start)
        self.image.write_bytes(before)
        full = os.stat(self.image).st_blocks
        free = sum(end - start for start, end in ranges)
        self.assertEqual(self.ok("trim", "-v", self.image).out,
                         f"{self.image}: {free / (1 << 20):.1f} MiB ({free} bytes) trimmed\n")
        # All of these bytes, and so no others.
        after = self.image.read_bytes()
        for start, end in ranges:
            self.assertEqual(after[start:end].count(0), end - start)
        self.assertLess(os.stat(self.image).st_blocks, full - free // 512 * 9 // 10)
        self.holds("/f", pattern(1_000_000))
        self.clean()

    def test_ranges(self):
        self.make(size="40M", options=["-b", "4096"])
        _, end = list(self.free_ranges(4096))[-1]
        self.assertIn("(1048576 bytes)", self.ok("trim", "-v", f"--offset={end - (1 << 20)}", "-l",
                                                 "1M", self.image).out)
        self.assertIn("(0 bytes)", self.ok("trim", "-v", f"--offset={end - (1 << 20)}", "-m", "2M",
                                           self.image).out)
        self.assertEqual(self.ok("trim", self.image).out, "")
        self.fails("trim", "--offset=1G", self.image, saying="behind the end")
        self.clean()


class Truncate(Change):
    @on_every_config
    def test_down_and_up(self, name, options):
        data = pattern(700_123)
        write(self.tree / "f", data)
        self.make(options=options)
        for size in [600_064, 409_600, 409_599, 12_289, 1, 0]:
            self.ok("truncate", "-s", size, self.at("/f"))
            self.holds("/f", data[:size])
        self.assertEqual(self.blocks("/f"), 0)
        self.ok("truncate", "-s", 1_000_000, self.at("/f"))
        self.holds("/f", bytes(1_000_000))
        self.clean()

    @on_every_config
    def test_what_was_cut_off_never_comes_back(self, name, options):
        data = pattern(100_000)
        write(self.tree / "f", data)
        self.make(options=options)
        for size in [70_001, 70_500, 70_499, 90_000]:
            self.ok("truncate", "-s", size, self.at("/f"))
        self.holds("/f", data[:70_001] + bytes(19_999))
        self.clean()

    @on_every_config
    def test_small_files(self, name, options):
        sizes = [0, 1, 59, 60, 61, 100, 150, 1000]
        for size in sizes:
            write(self.tree / f"f{size}", pattern(size, seed=size))
        self.make(options=options)
        want = {f"/f{size}": pattern(size, seed=size) for size in sizes}
        for change in [lambda n: n // 2, lambda n: n, lambda n: n + 30, lambda n: 3 * n,
                       lambda n: 5000]:
            for size in sizes:
                path, new = f"/f{size}", change(size)
                self.ok("truncate", "-s", new, self.at(path))
                want[path] = want[path][:new] + bytes(max(0, new - len(want[path])))
            self.all_hold(want)
        self.clean()

    def test_words_of_truncate(self):
        write(self.tree / "f", bytes(1000))
        write(self.dir / "reference", bytes(4321))
        self.make()
        for arg, size in [("+24", 1024), ("-1000", 24), ("-100", 0), (">512", 512), (">100", 512),
                          ("<600", 512), ("<500", 500), ("%512", 512), ("+1", 513),
                          ("/512", 512), ("1K", 1024), ("2M", 2 << 20)]:
            self.ok("truncate", "--size", arg, self.at("/f"))
            self.assertEqual(len(self.read("/f")), size, arg)
        self.ok("truncate", "-r", self.dir / "reference", self.at("/f"))
        self.assertEqual(len(self.read("/f")), 4321)
        self.ok("truncate", "--io-blocks", "-s", "3", self.at("/f"))
        self.assertEqual(len(self.read("/f")) % 3, 0)
        self.clean()

    def test_errors(self):
        write(self.tree / "f", b"x")
        (self.tree / "d").mkdir()
        self.make()
        self.fails("truncate", "-s", "0", self.at("/d"), saying="Is a directory")
        self.fails("truncate", "-s", "0", self.at("/none"), saying="No such file")
        self.ok("truncate", "-c", "-s", "0", self.at("/none"))
        self.fails("truncate", "-s", "1", self.at("/f"), "-o", "ro", saying="Read-only")
        self.fails("truncate", "-s", "7E", self.at("/f"), status=2)
        self.fails("truncate", "-s", "100T", self.at("/f"), saying="File too large")
        debugfs(self.image, "set_inode_field /f flags 0x80010")
        self.fails("truncate", "-s", "0", self.at("/f"), saying="Operation not permitted")
        for args, saying in [(["x"], "specify --size or --reference"),
                             (["-s", "1", "-r", "x", "x"], "exclude each other"),
                             (["-r", "x", "--io-blocks", "x"], "needs --size"),
                             (["-s", "/0", "x"], "division by zero"),
                             (["-s", "one", "x"], "invalid size")]:
            self.fails("truncate", *args, status=2, saying=saying)
        self.holds("/f", b"x")

    def test_large_sparse_size_sets_the_feature(self):
        write(self.tree / "f", b"x")
        self.make(options=["-O", EXT3 + ",^large_file,^has_journal", "-b", "4096"])
        self.ok("truncate", "-s", "3G", self.at("/f"))
        self.clean()
        self.assertIn("large_file", self.ok("info", self.image).out)


class Fallocate(Change):
    def test_not_without_extents(self):
        for name in CONFIGS:
            if has_extents(name):
                continue
            write(self.tree / "f", pattern(20_000))
            self.make(options=CONFIGS[name])
            for mode in [[], ["-c"], ["-i"], ["-z"], ["-w"], ["-n"]]:
                self.fails("fallocate", *mode, "-l", "4096", self.at("/f"),
                           saying="without extents")
            self.holds("/f", pattern(20_000))
            self.clean()

    def test_allocated_space_is_never_what_was_on_the_device(self):
        write(self.tree / "f", b"start")
        self.make("64M")
        noise = self.dir / "noise"
        noise.write_bytes(pattern(20 << 20))
        debugfs(self.image, f"write {noise} noise")
        self.ok("rm", self.at("/noise"))
        for mode in [[], ["-n"], ["-z"], ["-w"]]:
            self.ok("fallocate", *mode, "-l", "40M", self.at("/f"))
            self.ok("truncate", "-s", "40M", self.at("/f"))
            self.holds("/f", bytes(40 << 20) if mode in (["-z"], ["-w"])
                       else b"start" + bytes((40 << 20) - 5))
            self.ok("truncate", "-s", "5", self.at("/f"))
        self.clean()

    def test_full_device_keeps_what_was_allocated(self):
        write(self.tree / "f", b"x")
        self.make("16M", options=["-m", "0"])
        self.fails("fallocate", "-l", "1G", self.at("/f"), saying="No space left")
        self.clean()
        size = len(self.read("/f"))
        self.assertGreater(size, 8 << 20)
        self.ok("truncate", "-s", "0", self.at("/f"))
        self.ok("fallocate", "-l", size, self.at("/f"))
        self.clean()

    def test_keep_size(self):
        write(self.tree / "f", b"x" * 100)
        self.make()
        self.ok("fallocate", "-n", "-l", "1M", self.at("/f"))
        self.holds("/f", b"x" * 100)
        self.assertEqual(self.blocks("/f"), 2048)
        self.clean()
        self.ok("truncate", "-s", "100", self.at("/f"))
        self.assertLess(self.blocks("/f"), 20)
        self.clean()

    def test_alignment_of_collapse_and_insert(self):
        write(self.tree / "f", pattern(100_000))
        self.make(options=["-b", "4096"])
        for args in [["-c", "--offset=1", "-l", "4096"], ["-c", "-l", "100"],
                     ["-c", "-l", "102400"], ["-i", "--offset=102400", "-l", "4096"],
                     ["-i", "-l", "1000"]]:
            self.fails("fallocate", *args, self.at("/f"), saying="must be multiples")
        self.fails("fallocate", "-i", "-l", "16T", self.at("/f"), saying="File too large")
        self.holds("/f", pattern(100_000))

    def test_usage(self):
        for args, saying in [(["-c", "-i", "-l", "1", "x"], "only one of"),
                             (["x"], "--length is missing"),
                             (["-l", "0", "x"], "out of range"),
                             (["-n", "-c", "-l", "1", "x"], "--keep-size does not go")]:
            self.fails("fallocate", *args, status=2, saying=saying)

    def test_inline_file_gets_blocks(self):
        write(self.tree / "f", b"small")
        self.make(options=["-O", "inline_data", "-I", "256"])
        self.ok("fallocate", "-l", "10000", self.at("/f"))
        self.holds("/f", b"small" + bytes(9995))
        self.clean()


class Model:
    """What a file should hold after an operation."""

    def __init__(self, data, block, cluster):
        self.data = bytearray(data)
        self.block = block
        self.cluster = cluster

    def grow(self, size):
        self.data.extend(bytes(max(0, size - len(self.data))))

    def truncate(self, size):
        del self.data[size:]
        self.grow(size)

    def zero(self, pos, end):
        end = min(end, len(self.data))
        if pos < end:
            self.data[pos:end] = bytes(end - pos)


def random_operation(rng, model, extents):
    """A command line without the operand, and what it does to the model."""
    size = len(model.data)
    pos = rng.randrange(0, 400_000)
    length = rng.choice([1, 100, model.block, 5 * model.block, rng.randrange(1, 200_000)])
    kinds = ["truncate", "punch"]
    if extents:
        kinds += ["allocate", "keep", "zero", "zero-keep", "write", "collapse", "insert"]
    kind = rng.choice(kinds)
    at = [f"--offset={pos}", f"--length={length}"]
    if kind == "truncate":
        return ["truncate", "-s", str(pos)], lambda: model.truncate(pos)
    if kind == "punch":
        return ["fallocate", "-p", *at], lambda: model.zero(pos, pos + length)
    if kind == "allocate":
        return ["fallocate", *at], lambda: model.grow(pos + length)
    if kind == "keep":
        return ["fallocate", "-n", *at], lambda: None
    if kind in ("zero", "write"):
        def zero():
            model.grow(pos + length)
            model.zero(pos, pos + length)
        return ["fallocate", "-z" if kind == "zero" else "-w", *at], zero
    if kind == "zero-keep":
        return ["fallocate", "-n", "-z", *at], lambda: model.zero(pos, pos + length)
    pos -= pos % model.cluster
    length += -length % model.cluster
    at = [f"--offset={pos}", f"--length={length}"]
    if kind == "collapse":
        if pos + length >= size:
            return None

        def collapse():
            del model.data[pos:pos + length]
        return ["fallocate", "-c", *at], collapse
    if pos >= size or size > 1_000_000:
        return None

    def insert():
        model.data[pos:pos] = bytes(length)
    return ["fallocate", "-i", *at], insert


class Random(Change):
    def run_on(self, name, options, seed, steps):
        rng = random.Random(seed)
        data = pattern(300_000, seed)
        write(self.tree / "f", data)
        self.make("16M", options=options)
        free = self.free_blocks() + self.blocks("/f") // (block_size(options) // 512)
        model = Model(data, block_size(options), cluster_size(options))
        done = []
        for _ in range(steps):
            operation = random_operation(rng, model, has_extents(name))
            if not operation:
                continue
            command, change = operation
            done.append(" ".join(command))
            self.ok(*command, self.at("/f"))
            change()
            try:
                self.holds("/f", bytes(model.data))
            except AssertionError as e:
                raise AssertionError(f"seed {seed}: {e}\n" + "\n".join(done)) from None
        self.clean()
        self.ok("rm", self.at("/f"))
        self.clean()
        self.assertEqual(self.free_blocks(), free, "space was lost")

    @on_every_config
    def test_random_operations(self, name, options):
        self.run_on(name, options, seed=len(name), steps=10)


class Rm(Change):
    @on_every_config
    def test_names_go_and_space_comes_back(self, name, options):
        for i in range(60):
            write(self.tree / f"file-{i:03}", pattern(3000 * i, seed=i))
        (self.tree / "short").symlink_to("target")
        (self.tree / "long").symlink_to("x" * 200)
        self.make("32M", options=options)
        names = [f"/file-{i:03}" for i in range(60)]
        order = random.Random(5).sample(names, 40)
        self.ok("rm", *[self.at(n) for n in order], self.at("/short"), self.at("/long"))
        self.clean()
        left = set(self.ok("ls", self.at("/")).out.split()) - {"lost+found"}
        self.assertEqual(left, {n[1:] for n in names} - {n[1:] for n in order})
        self.all_hold({f"/{n}": pattern(3000 * int(n[5:]), seed=int(n[5:])) for n in sorted(left)})

    def test_hashed_directory(self):
        for options in [["-b", "1024"], ["-b", "1024", "-O", "^metadata_csum"]]:
            (self.tree / "d").mkdir(exist_ok=True)
            for i in range(1500):
                (self.tree / "d" / f"a-longer-name-of-a-file-{i}").touch()
            self.make("32M", options=options + ["-N", "4000"])
            subprocess.run(["e2fsck", "-fyD", str(self.image)], stdout=subprocess.DEVNULL)
            names = [self.at(f"/d/a-longer-name-of-a-file-{i}") for i in range(1500)]
            random.Random(3).shuffle(names)
            self.ok("rm", *names[:750])
            self.clean()
            self.assertEqual(len(self.ok("ls", self.at("/d")).out.split()), 750)
            self.ok("rm", *names[750:])
            self.clean()
            self.assertEqual(self.ok("ls", self.at("/d")).out, "")

    def test_inline_directory(self):
        (self.tree / "d").mkdir()
        for n in ["a", "bb", "ccc", "dddd", "e" * 20, "f" * 10]:
            write(self.tree / "d" / n, n)
        self.make(options=["-O", "inline_data", "-I", "256"])
        for n in ["a", "ccc", "f" * 10, "dddd", "e" * 20, "bb"]:
            self.ok("rm", self.at(f"/d/{n}"))
            self.clean()
        self.assertEqual(self.ok("ls", self.at("/d")).out, "")

    def test_hard_link_keeps_the_file(self):
        write(self.tree / "f", b"contents")
        (self.tree / "g").hardlink_to(self.tree / "f")
        self.make()
        self.ok("rm", self.at("/f"))
        self.clean()
        self.holds("/g", b"contents")
        self.assertIn("Links: 1", self.ok("stat", self.at("/g")).out)

    def test_errors(self):
        write(self.tree / "f", b"x")
        (self.tree / "d").mkdir()
        self.make()
        self.fails("rm", self.at("/d"), saying="Is a directory")
        self.fails("rm", self.at("/d/"), saying="Is a directory")
        self.fails("rm", self.at("/"), saying="Is a directory")
        self.fails("rm", self.at("/f/"), saying="Not a directory")
        self.fails("rm", self.at("/none"), saying="No such file")
        self.fails("rm", self.image, saying="name a file in it")
        self.ok("rm", "-f", self.at("/none"), self.at("/d/none"))
        self.ok("rm", "-f")
        self.assertIn("removed '", self.ok("rm", "-v", self.at("/f")).out)
        self.clean()


if __name__ == "__main__":
    harness.main()
