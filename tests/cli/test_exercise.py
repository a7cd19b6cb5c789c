#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""exercise, and scripts/run-writes, which judges it: it must find what is missing, too."""

import importlib.machinery
import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import harness

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "run-writes"


def load(path):
    sys.dont_write_bytecode = True  # it is no module, and would get its cache beside it
    loader = importlib.machinery.SourceFileLoader("run_writes", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_writes", loader))
    loader.exec_module(module)
    return module


judge = load(SCRIPT)


class Exercise(harness.Case):
    OPTIONS = {"4k": ["-b", "4096"], "1k": ["-b", "1024"],
               "ext3": ["-b", "1024", "-O", "^extent,^metadata_csum,^64bit,^flex_bg,^huge_file"],
               "no journal": ["-b", "4096", "-O", "^has_journal"]}

    def complaints(self, log):
        """What the judge says of each file, as it is read from the image."""
        found = {}
        for file, name in log.names.items():
            copy = self.dir / "copy"
            self.ok("get", "-f", self.at("/" + name), copy)
            found[name], _ = judge.check_file(log, file, copy)
        return found

    def exercise(self, *args):
        path = self.dir / "log"
        out = self.ok("exercise", f"--log={path}", "--writes=600", *args, self.at("/")).out
        self.assertRegex(out, r"^\d+ writes, .* acknowledged, in ")
        return judge.Log(path)

    def test_everything_is_there_at_the_end(self):
        for name, options in self.OPTIONS.items():
            with self.subTest(name):
                self.make(size="256M", options=options)
                log = self.exercise("--rounds=2", "--seed=7")
                self.assertEqual(sorted(log.names.values()), sorted(judge.NAMES))
                self.assertEqual(log.acked, set(log.writes))
                self.assertEqual(self.complaints(log), {name: [] for name in judge.NAMES})
                self.clean()

    def test_after_a_kill(self):
        self.make(size="256M", options=["-b", "4096"])
        path = self.dir / "log"
        child = subprocess.Popen([harness.UEXT4, "exercise", f"--log={path}", "--writes=1000000",
                                  self.at("/")], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if path.exists() and path.read_bytes().count(b"\nw ") > 600:
                break
            time.sleep(0.01)
        child.kill()
        self.assertEqual(child.wait(), -signal.SIGKILL)
        log = judge.Log(path)
        self.assertLess(len(log.acked), len(log.writes))
        judge.recover(harness.UEXT4, self.image)
        self.assertEqual(self.complaints(log), {name: [] for name in judge.NAMES})

    def test_the_judge_sees_what_is_wrong(self):
        self.make(size="256M", options=["-b", "4096"])
        log = self.exercise()
        file = next(f for f, name in log.names.items() if name == "dsync")
        copy = self.dir / "copy"
        self.ok("get", self.at("/dsync"), copy)
        good = copy.read_bytes()
        last, end = judge.find_allowed(log, file)
        unit = max(last)
        at = unit * judge.UNIT
        older = judge.unit_bytes(last[unit] - 1, file, unit)
        for bad, saying in [
                (good[:at] + bytes(judge.UNIT) + good[at + judge.UNIT:], "zeros, not write"),
                (good[:at + 9] + b"!" + good[at + 10:], "never written there"),
                (good[:at] + older + good[at + judge.UNIT:], "which was not here"),
                (good[:end - judge.UNIT], "were acknowledged"),
                (good + bytes(judge.UNIT), "which no write made"),
        ]:
            copy.write_bytes(bad)
            wrong, _ = judge.check_file(log, file, copy)
            self.assertTrue(any(saying in text for text in wrong), (saying, wrong))

    def test_refusals(self):
        harness.write(self.tree / "file", "x")
        self.make()
        self.fails("exercise", self.at("/"), status=2, saying="specify --log")
        log = f"--log={self.dir}/log"
        self.fails("exercise", log, self.at("/file"), saying="Not a directory")
        self.fails("exercise", log, self.at("/"), saying="No space left")
        done = self.fails("exercise", "--log=/dev/full", self.at("/"), saying="/dev/full: cannot write: No space")
        self.assertEqual(done.err.count("\n"), 1, done.err)  # the image is not full
        self.fails("exercise", f"--log={self.dir}/none/log", self.at("/"),
                   saying="No such file or directory")


if __name__ == "__main__":
    harness.main()
