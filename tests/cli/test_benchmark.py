#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`make bench`, very small: every row is there, with a figure or the reason why there is none;
what it writes can be read, printed and drawn.  How fast anything is is not a test's business."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

import harness

BENCH = Path(os.environ["UEXT4_SOURCE_ROOT"]) / "bench"
WORKER = sys.argv.pop()
SMALL = ["--size=1M", "--files=20", "--runtime=0.01", "--repeat=2", "--extents=1,10",
         "--names=10,100", "--volumes=64M,1G", "--only=raw,library"]

sys.path.insert(0, str(BENCH))
import jobs  # pylint: disable=wrong-import-position


class Benchmark(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.out = Path(tempfile.mkdtemp(prefix="uext4-benchmark-"))
        cls.addClassCleanup(shutil.rmtree, cls.out, ignore_errors=True)
        done = subprocess.run([BENCH / "run", harness.UEXT4, WORKER, f"--out={cls.out}", *SMALL],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        cls.printed = done.stdout
        cls.file = cls.out / "results.json"
        cls.results = json.loads(cls.file.read_text())

    def check_figure(self, figure, title):
        samples = figure["samples"]
        self.assertEqual(len(samples), 2, title)
        self.assertGreater(min(samples), 0, title)
        self.assertEqual((figure["lowest"], figure["highest"]), (min(samples), max(samples)))
        self.assertAlmostEqual(figure["median"], sum(samples) / 2, delta=1e-6 * max(samples))

    def test_every_row_has_a_figure_or_a_reason(self):
        rows = [row for job in jobs.all_jobs() for row in job.rows]
        self.assertEqual([(r["group"], r["title"], r["unit"]) for r in self.results["rows"]], rows)
        self.assertEqual(len({title for _, title, _ in rows}), len(rows), "titles are unique")
        for row in self.results["rows"]:
            for key in ["mount", "kernel", "fuse2fs"]:
                self.assertEqual(row["figures"][key], {"missing": "not asked for"})
            if row["title"].startswith("dbench"):
                self.assertEqual(row["figures"]["library"], {"missing": "not mounted"})
            else:
                self.check_figure(row["figures"]["library"], row["title"])
            if row["group"] == jobs.DIRECT:
                self.check_figure(row["figures"]["raw"], row["title"])

    def test_scaling(self):
        found = {}
        for row in self.results["scaling"]:
            found.setdefault(row["of"], set()).add(row["x"])
            if row["of"] != "bytes":  # a small mount may read nothing that is worth a KiB
                self.check_figure(row["figures"]["library"], row["title"])
        self.assertEqual(found, {"extents": {1, 10}, "names": {10, 100}, "threads": {1, 2},
                                 "bytes": {64 << 20, 1 << 30}, "open files": {1, 1000}})

    def test_what_it_was_measured_on(self):
        r = self.results
        self.assertEqual([c["key"] for c in r["contenders"]],
                         ["raw", "library", "mount", "kernel", "fuse2fs"])
        self.assertEqual([c["missing"] for c in r["contenders"][:3]], [None, None, "not asked for"])
        self.assertEqual(r["parameters"]["size"], 1 << 20)
        self.assertGreater(r["machine"]["cpus"], 0)
        self.assertIn("uext4", r["versions"]["uext4"])

    def test_table(self):
        def show(*args):
            return subprocess.run([BENCH / "show", *args, self.file], capture_output=True,
                                  text=True, check=True).stdout

        table = show("--markdown")
        self.assertEqual(table, self.printed)
        self.assertEqual(table, (self.out / "table.md").read_text())
        self.assertTrue(show().endswith(table))
        for row in self.results["rows"]:
            self.assertIn(f"| {row['title']}, {row['unit']} |", table)
        for row in self.results["scaling"]:
            self.assertIn(f"| {row['title']}: ", table)
        self.assertIn("kernel ext4 (loop): not asked for.", table)
        width = {len(line.split("|")) for line in table.splitlines() if line.startswith("| 4 KiB ran")}
        self.assertEqual(width, {11})

    def test_table_is_put_between_the_marks(self):
        def put():
            return subprocess.run([BENCH / "show", f"--into={text}", self.file],
                                  capture_output=True, text=True)

        text = self.out / "text.md"
        text.write_text("a\n<!-- bench: begin (x) -->\nold\n<!-- bench: end -->\nb\n")
        self.assertEqual(put().returncode, 0)
        self.assertEqual(text.read_text(), f"a\n<!-- bench: begin (x) -->\n\n{self.printed}\n"
                                           "<!-- bench: end -->\nb\n")
        self.assertEqual(put().returncode, 0)  # again: the same
        self.assertEqual(text.read_text().count(self.printed), 1)
        text.write_text("no marks\n")
        self.assertNotEqual(put().returncode, 0)
        self.assertEqual(text.read_text(), "no marks\n")

    def test_pictures(self):
        if not shutil.which("gnuplot"):
            self.skipTest("no gnuplot here")
        for name, titles in [("table.svg", [r["title"] for r in self.results["rows"]]),
                             ("scaling.svg", [r["title"] for r in self.results["scaling"]])]:
            root = xml.etree.ElementTree.parse(self.out / name).getroot()
            self.assertTrue(root.tag.endswith("svg"))
            drawn = "".join(root.itertext())
            for title in titles:
                self.assertIn(title, drawn)

    def test_other_files_are_refused(self):
        other = self.out / "other.json"
        other.write_text("{}")
        for program in ["show", "plot"]:
            done = subprocess.run([BENCH / program, other], capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("not results of this benchmark", done.stderr)


if __name__ == "__main__":
    harness.main()
