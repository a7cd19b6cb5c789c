#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""An image whose writer was killed, replayed by uext4, by e2fsck and by the kernel.

    killed.py CONFIG         CONFIG is one of CONFIGS below
    killed.py --list

`uext4 exercise` writes to six files and is killed (SIGKILL) in its second round.  Whoever replays
the journal: every acknowledged byte is there, no byte that was never written, and the three agree
on the files.  With data=journal the journal has file contents, too, and replaying is what brings
them to their place.
"""

import collections
import filecmp
import importlib.machinery
import importlib.util
import os
import pathlib
import signal
import subprocess
import time

import cases
import configs
import harness
import journal

WRITES = 300  # of a round

Config = collections.namedtuple("Config", "mkfs options")
CONFIGS = {
    "data-journal": Config(["-b", "4096", "-O", "none," + configs.EXT4], "data=journal"),
    "data-journal-1k": Config(["-b", "1024", "-O", "none," + configs.EXT3], "data=journal"),
    "data-ordered": Config(["-b", "4096", "-O", "none," + configs.EXT4], "data=ordered"),
    "data-writeback-1k": Config(["-b", "1024", "-O", "none," + configs.EXT3], "data=writeback"),
}


def load_main_job():
    """The main job knows what the log of the exercise says, and what a file may hold."""
    path = os.path.join(harness.PROJECT, "scripts", "run-writes")
    loader = importlib.machinery.SourceFileLoader("run_writes", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_writes", loader))
    loader.exec_module(module)
    return module


JOB = load_main_job()


def exercise_and_kill(image, log, options):
    limit = harness.rng("killed", options).randrange(WRITES // 4, WRITES)
    child = subprocess.Popen(
        [harness.UEXT4, "exercise", "--log=%s" % log, "--writes=%d" % WRITES, "--rounds=100000",
         "--seed=%d" % harness.SEED, "-o", options + ",commit=300", image + ":/"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=harness.TOOL_ENV, text=True)
    tail = JOB.Tail(log)
    while child.poll() is None and tail.later < limit:
        time.sleep(0.002)
        tail.read()
    child.kill()
    output = child.communicate()[0]
    if child.returncode != -signal.SIGKILL:
        raise harness.ToolError("uext4 exercise ended by itself, with status %d\n%s" %
                                (child.returncode, output))
    JOB.wait_released(image)


# ---- who replays, and how the files are read then ----


def replay_with_uext4(ws, report, image, out):
    journal.recover(report, "uext4", image)
    harness.run([harness.UEXT4, "truncate", "-s", "+0", image + ":/overwrite"])  # the orphans
    harness.run([harness.UEXT4, "get", "-r", image + ":/", out])


def replay_with_e2fsck(ws, report, image, out):
    done = harness.run(["e2fsck", "-fy", image], check=False)
    report.check(done.returncode in (0, 1), "e2fsck ended with %d: %s", done.returncode,
                 done.stdout)
    os.mkdir(out)
    harness.debugfs(image, ["rdump / " + out])


def replay_with_kernel(ws, report, image, out):
    point, why = ws.mount(image, "mounted", "rw")
    if not point:
        report.fail("the kernel does not mount it: %s", why)
        return
    harness.run(["cp", "-r", point, out])
    ws.umount(point)


WAYS = {"uext4": replay_with_uext4, "e2fsck": replay_with_e2fsck, "kernel": replay_with_kernel}


def check_contents(report, log, folder):
    for file, name in sorted(log.names.items()):
        wrong, _ = JOB.check_file(log, file, pathlib.Path(folder, name))
        report.check(not wrong, "%s: %s", name, wrong[:5])


def check_same(report, what, log, folder, reference):
    _, differ, missing = filecmp.cmpfiles(folder, reference, log.names.values(), shallow=False)
    report.check(not differ and not missing, "%s: not what uext4 replays: %s", what,
                 differ + missing)


def check_config(ws, report, config):
    image, log = ws.path("image"), pathlib.Path(ws.path("log"))
    harness.mke2fs(image, ["-N", "64", "-J", "size=16"] + config.mkfs, 160 << 20)
    exercise_and_kill(image, log, config.options)
    told = JOB.Log(log)
    report.check(len(told.acked) > WRITES, "only %d writes were acknowledged", len(told.acked))
    report.check(cases.get_le(image, journal.SB + cases.INCOMPAT, 4) & journal.RECOVER,
                 "nothing is to be replayed")
    for what, replay in WAYS.items():
        if what == "kernel" and harness.kernel_reason() is not None:
            print("note: not by the kernel: %s" % harness.kernel_reason())
            continue
        copy = journal.copy_of(ws, image, "image-" + what)
        replay(ws, report, copy, ws.path(what))
        harness.check_clean(report, what, copy)
        if what == "uext4":
            check_contents(report, told, ws.path(what))
        else:
            check_same(report, what, told, ws.path(what), ws.path("uext4"))


def main():
    name = harness.choose(CONFIGS, "CONFIG")

    def body(report):
        harness.need_tools("mke2fs", "debugfs", "e2fsck")
        ws = harness.Workspace("killed-" + name)
        try:
            check_config(ws, report, CONFIGS[name])
        finally:
            ws.close()

    harness.main("killed " + name, "%s %s" % (os.path.abspath(__file__), name), body)


if __name__ == "__main__":
    main()
