#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench: what it prints is consistent; how fast it is, is not a test's business."""

import json
import unittest

import harness
from harness import pattern, write

SHORT = "--runtime=0.1"


class Bench(harness.Case):
    def setUp(self):
        super().setUp()
        write(self.tree / "f", pattern(2 << 20))
        write(self.tree / "small", "x")
        with open(self.tree / "holes", "wb") as f:
            for block in range(0, 64, 2):
                f.seek(block * 4096)
                f.write(pattern(4096, block))
            f.truncate(64 * 4096)
        with open(self.tree / "nothing", "wb") as f:
            f.truncate(1 << 20)
        self.make(size="16M", options=["-b", "4096"])

    def bench(self, *args, path="/f"):
        return json.loads(self.ok("bench", SHORT, "--json", *args, self.at(path)).out)

    def check_run(self, run, block_size):
        self.assertEqual(run["errors"], 0)
        self.assertGreater(run["requests"], 0)
        self.assertEqual(run["bytes"], run["requests"] * block_size)
        self.assertAlmostEqual(run["iops"] * run["seconds"], run["requests"], delta=1)
        lat = run["latency_ns"]
        values = list(lat["percentiles"].values())
        self.assertEqual(values, sorted(values))
        self.assertLessEqual(lat["min"], values[0])
        self.assertLessEqual(values[-1], lat["max"])
        self.assertLessEqual(lat["min"], lat["mean"])
        self.assertLessEqual(lat["mean"], lat["max"])

    def test_file(self):
        for args, size, depth in [([], 4096, 32), (["--rw=read", "--bs=64k"], 65536, 32),
                                  (["--iodepth=1", "--bs=512"], 512, 1),
                                  (["--direct=0"], 4096, 1)]:
            result = self.bench(*args)
            self.assertEqual((result["block_size"], result["iodepth"]), (size, depth))
            self.assertEqual([run["side"] for run in result["runs"]], ["uext4"])
            self.check_run(result["runs"][0], size)
            self.assertLessEqual(result["runs"][0]["max_in_flight"], depth)

    def test_raw(self):
        result = self.bench("--raw")
        self.assertEqual([run["side"] for run in result["runs"]], ["raw"])
        self.check_run(result["runs"][0], 4096)

    def test_compare(self):
        result = self.bench("--compare", "--repeat=3")
        sides = [run["side"] for run in result["runs"]]
        self.assertEqual(sides, ["uext4", "raw", "raw", "uext4", "uext4", "raw"])
        medians = result["median_iops"]
        for side in ["uext4", "raw"]:
            iops = sorted(run["iops"] for run in result["runs"] if run["side"] == side)
            self.assertAlmostEqual(medians[side], iops[1], delta=1)
        self.assertAlmostEqual(result["ratio"], medians["uext4"] / medians["raw"], places=3)

    def test_fragmented_file_with_blocks_of_several_pieces(self):
        result = self.bench("--compare", "--bs=64k", path="/holes")
        for run in result["runs"]:
            self.check_run(run, 65536)

    def test_writing(self):
        for args in [["--rw=write", "--bs=64k"], ["--rw=randrw"], ["--direct=0", "--rw=randwrite"],
                     ["--rw=randwrite", "--sync=dsync", "--compare"],
                     ["--rw=randrw", "--fixedbufs", "--compare"],
                     ["--rw=randwrite", "--sync=fdatasync"], ["--rw=write", "--sync=fsync"],
                     ["--rw=write", "--prealloc", "--compare", "--repeat=2"]]:
            with self.subTest(args):
                result = self.bench(*args)
                for run in result["runs"]:
                    self.check_run(run, result["block_size"])
                self.clean()
        self.assertNotEqual(self.ok("cat", self.at("/f")).out_bytes, pattern(2 << 20))

    def test_append_gives_the_size_back(self):
        for sync in ["none", "dsync", "fdatasync", "fsync"]:
            result = self.bench("--rw=append", "--size=1M", "--sync=" + sync, "--repeat=2")
            for run in result["runs"]:
                self.check_run(run, 4096)
                self.assertLessEqual(run["bytes"], 1 << 20)
            self.clean()
        self.assertEqual(self.ok("cat", self.at("/f")).out_bytes, pattern(2 << 20))

    def test_stats(self):
        """B7, C16: what the kinds of writing cost."""
        def stats(*args):
            result = self.bench("--stats", "--rw=randwrite", *args)
            return result["runs"][0]["requests"], result["stats"]

        nr, s = stats()
        self.assertEqual((s["direct_writes"], s["overwrites"], s["device_writes"]), (nr, nr, nr))
        for zero in ["commits", "flushes", "allocations", "conversions", "extends", "fua_writes"]:
            self.assertEqual(s[zero], 0, zero)
        nr, s = stats("--sync=dsync")
        self.assertEqual((s["fua_writes"], s["commits"], s["flushes"]), (nr, 0, 0))
        nr, s = stats("--rw=write", "--prealloc")
        self.assertEqual((s["conversions"], s["allocations"]), (nr, 0))
        out = self.ok("bench", SHORT, "--rw=randwrite", "--stats", self.at("/f")).out
        self.assertRegex(out, r"(?m)^counters of all runs:\n  direct_writes=\d+, ")

    def test_only_writing_writes(self):
        before = self.image.read_bytes()
        self.ok("bench", SHORT, "--compare", self.at("/f"))
        self.assertEqual(self.image.read_bytes(), before)

    def test_size(self):
        self.assertEqual(self.bench("--size=1M")["size"], 1 << 20)

    def test_text(self):
        out = self.ok("bench", SHORT, "--compare", "--repeat=2", self.at("/f")).out
        for line in [r".*rw=randread, bs=4.0 KiB, iodepth=32, direct=1, size=2.0 MiB, seed=1$",
                     r"uext4: IOPS=\d+, BW=", r"raw: IOPS=\d+, BW=", r"  lat \(usec\): min=",
                     r"   \|   1.00th=\[", r"  cpu: usr=.*; in flight: 32$",
                     r"median of 2, uext4: IOPS=", r"ratio uext4/raw: [\d.]+ "]:
            self.assertRegex(out, rf"(?m)^{line}")

    def test_refusals(self):
        for args, path, saying in [
                ([], "/small", "is smaller than one block"),
                (["--raw"], "/nothing", "has no blocks on the device"),
                (["--bs=1000"], "/f", "direct reads need blocks of a multiple of"),
                ([], "/", "Is a directory"),
                (["--rw=append"], "/small", "need a size that is a multiple of"),
        ]:
            self.fails("bench", SHORT, *args, self.at(path), saying=saying)
        for args in [["--sync=dsync"], ["--rw=randwrite", "--prealloc"], ["--rw=append", "--raw"],
                     ["--rw=mixed"], ["--rw=write", "--sync=often"]]:
            self.fails("bench", SHORT, *args, self.at("/f"), status=2)


if __name__ == "__main__":
    harness.main()
