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
        ]:
            self.fails("bench", SHORT, *args, self.at(path), saying=saying)


if __name__ == "__main__":
    harness.main()
