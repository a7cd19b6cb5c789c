# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured, each job once: it is asked of every contender that can do it.

A job has rows: (group, title, unit).  `measure` returns a figure for each of its rows.
"""
import os
import random
import re
import shutil
import subprocess
import time

from contenders import MIB, run

DIRECT, BUFFERED, NAMES = "direct", "buffered", "names and trees"
FILES_IN_A_DIRECTORY = 50
DBENCH_CLIENTS = 2
DBENCH_SECONDS = 2  # at least: it begins to count after a moment
MISSING_PART = 16  # of the file: what the library's cache has room for when reads are to miss
ROOMY = 8          # times the file: a quarter, what may be dirty, is more than a job writes


def worker(setup, target, job, **params):
    """What bench-worker says: name -> (amount, seconds)."""
    given = ["%s=%s" % pair for pair in params.items()]
    out = run(setup.worker, target[0], job, *target[1:], *given)
    return {what: (int(amount), float(seconds))
            for what, amount, seconds in map(str.split, out.splitlines())}


class Job:
    needs_names = needs_mount = False

    def why_not(self, party):
        if self.needs_mount and not party.mounted:
            return "not mounted"
        if self.needs_names and not party.names:
            return "no file system"
        return None


class WorkerJob(Job):
    """A job of bench-worker; rows by the name of its lines."""

    def __init__(self, group, job, rows, unit, cache=None, names=True, **params):
        self.group, self.job, self.unit = group, job, unit
        self.lines = rows
        self.rows = [(group, title, unit) for title in rows.values()]
        self.cache, self.params = cache, params
        self.needs_names = names

    def measure(self, party, setup):
        bound = {None: None, "roomy": ROOMY * setup.size,
                 "small": max(MIB, setup.size // MISSING_PART)}[self.cache]
        with party.open(bound) as target:
            found = worker(setup, target, self.job, size=setup.size, files=setup.files,
                           seconds=setup.runtime, **self.params)
        return {title: self.rate(*found[line]) for line, title in self.lines.items()}

    def rate(self, amount, seconds):
        if self.unit == "MiB/s" and self.job == "io":
            amount *= int(self.params["bs"])
        return amount / seconds / (MIB if self.unit == "MiB/s" else 1)


def direct(title, rw, unit="IOPS", bs=4096, **params):
    return WorkerJob(DIRECT, "io", {"io": title}, unit, names=False, direct=1, rw=rw, bs=bs,
                     **params)


def cached(title, rw="randread", cache="roomy", **params):
    return WorkerJob(BUFFERED, "io", {"io": title}, "IOPS", cache, rw=rw, bs=4096, **params)


class Put(Job):
    """A tree of sources, durable at the end."""
    needs_names = True
    title = "a tree of small files copied into it"
    rows = [(NAMES, title, "files/s")]

    def measure(self, party, setup):
        """Unmounting counts: it is what makes all of it durable, whoever is mounted."""
        start = time.monotonic()
        if party.mounted:
            with party.open():
                run("cp", "-a", setup.tree, os.path.join(party.folder, "tree"))
            took = time.monotonic() - start
            with party.open():
                shutil.rmtree(os.path.join(party.folder, "tree"))
        else:
            run(setup.command, "put", "-r", setup.tree, party.image + ":/tree")
            took = time.monotonic() - start
            run(setup.command, "rm", "-r", party.image + ":/tree")
        return {self.title: setup.tree_files / took}


class Dbench(Job):
    needs_mount = True
    title = "dbench, %d clients" % DBENCH_CLIENTS
    rows = [(NAMES, title, "MiB/s")]

    def why_not(self, party):
        return super().why_not(party) or (None if shutil.which("dbench") else "no dbench here")

    def measure(self, party, setup):
        with party.open():
            folder = os.path.join(party.folder, "dbench")
            os.mkdir(folder)
            out = run("dbench", "-t", "%d" % max(DBENCH_SECONDS, round(2 * setup.runtime)), "-D", folder,
                      str(DBENCH_CLIENTS))
            shutil.rmtree(folder)
        return {self.title: float(re.search(r"Throughput ([\d.]+) MB/sec", out).group(1))}


def all_jobs():
    random_4k = "4 KiB random "
    return [
        direct(random_4k + "reads, depth 32", "randread", depth=32),
        direct(random_4k + "reads, depth 32, two threads", "randread", depth=32, threads=2),
        direct(random_4k + "reads, synchronous", "randread"),
        direct(random_4k + "reads, synchronous, two threads", "randread", threads=2),
        direct("1 MiB sequential reads, depth 8", "read", "MiB/s", bs=MIB, depth=8),
        direct(random_4k + "overwrites, depth 32", "randwrite", depth=32),
        direct(random_4k + "overwrites, depth 32, two threads", "randwrite", depth=32, threads=2),
        direct(random_4k + "overwrites, synchronous", "randwrite"),
        direct(random_4k + "overwrites, O_DSYNC, depth 1", "randwrite", depth=1, sync="dsync"),
        direct("1 MiB sequential overwrites, depth 8", "write", "MiB/s", bs=MIB, depth=8),
        direct("4 KiB sequential into preallocated space, depth 32", "prealloc", depth=32),
        direct("4 KiB appends, synchronous", "append"),
        direct("4 KiB appends, fdatasync after each", "append", sync="fdatasync"),

        WorkerJob(BUFFERED, "write", {"write": "sequential write, fdatasync at the end"}, "MiB/s"),
        WorkerJob(BUFFERED, "write", {"write": "sequential write, roomy page_cache"}, "MiB/s",
                  "roomy"),
        WorkerJob(BUFFERED, "read", {"cold": "sequential read, cold",
                                     "warm": "sequential read, warm"}, "MiB/s", "roomy"),
        cached(random_4k + "reads in the cache", warm=1),
        cached(random_4k + "reads in the cache, two threads", warm=1, threads=2),
        cached(random_4k + "reads in the cache, depth 32", warm=1, depth=32),
        cached(random_4k + "reads out of the cache", cache="small", once=1),
        WorkerJob(BUFFERED, "overwrite", {"clean": random_4k + "overwrites of clean pages",
                                          "dirty": random_4k + "overwrites of dirty pages"},
                  "IOPS", "roomy"),

        WorkerJob(NAMES, "names", {"create": "files made", "stat": "names looked up",
                                   "unlink": "files removed"}, "files/s"),
        WorkerJob(NAMES, "names", {"create": "files made in two directories by two threads",
                                   "unlink": "files removed in two directories by two threads"},
                  "files/s", threads=2),
        WorkerJob(NAMES, "small", {"small": "files of 2 KiB made and written, syncfs"},
                  "files/s"),
        Put(),
        Dbench(),
    ]


# ---- what they work on ----------------------------------------------------------------------

def make_tree(folder, nr):
    """Like sources: most files are small, the mean is about 11 KiB."""
    rng = random.Random(1)
    data = rng.randbytes(MIB)
    for i in range(nr):
        if i % FILES_IN_A_DIRECTORY == 0:
            parent = os.path.join(folder, "d%d" % (i // 1000), "e%d" % (i // FILES_IN_A_DIRECTORY))
            os.makedirs(parent)
        size = min(len(data), int(rng.lognormvariate(8.3, 1.4)))
        with open(os.path.join(parent, "file-%d.c" % i), "wb") as f:
            f.write(data[:size])


def make_image(folder, size, files):
    """An image with one file, `data`, of so many bytes, and room for what the jobs make; and the
    file.  No part of it is left to be initialised by who mounts it first."""
    source = os.path.join(folder, "source")
    os.mkdir(source)
    data = os.path.join(source, "data")
    block = random.Random(1).randbytes(MIB)
    with open(data, "wb") as f:
        for _ in range(size // MIB):
            f.write(block)
    image = os.path.join(folder, "image")
    room = 3 * size // MIB + files // 32 + 256
    run("mke2fs", "-q", "-F", "-t", "ext4", "-i", "16384", "-E",
        "lazy_itable_init=0,lazy_journal_init=0", "-d", source, image, "%dM" % room)
    return image, data


def check_image(party):
    """What is fast must be right, too: None, or what e2fsck said."""
    done = subprocess.run(["e2fsck", "-fn", party.image], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stdout.strip().splitlines()[-1]
