# SPDX-License-Identifier: LGPL-2.1-or-later
"""The results of a run, as they are written: what was measured, with every sample, and on what.

    {"format": 1, "date": ..., "machine": {...}, "versions": {...}, "parameters": {...},
     "contenders": [{"key": ..., "title": ..., "missing": null or the reason}],
     "rows": [{"group": ..., "title": ..., "unit": ..., "figures": {KEY: FIGURE}}],
     "scaling": [{"title": ..., "of": what x counts, "x": N, "unit": ..., "figures": ...}]}

A FIGURE is {"samples": [...], "median": ..., "lowest": ..., "highest": ...} or
{"missing": the reason}; every row has one for each contender.
"""
import datetime
import json
import os
import platform
import re
import statistics
import subprocess

FORMAT = 1


def figure(samples):
    return {"samples": samples, "median": statistics.median(samples), "lowest": min(samples),
            "highest": max(samples)}


def missing(why):
    return {"missing": why}


def median_of(row, key):
    return row["figures"].get(key, {}).get("median")


def first_match(pattern, text, otherwise="unknown"):
    found = re.search(pattern, text, re.M)
    return found.group(1).strip() if found else otherwise


def read_text(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.read()
    except OSError:
        return ""


def first_line(*argv):
    """What a program says of itself, wherever it says it; None if it is not here."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None


def machine(folder):
    return {
        "cpu": first_match(r"^model name\s*: (.*)", read_text("/proc/cpuinfo"),
                           platform.machine()),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_kib": int(first_match(r"^MemTotal:\s*(\d+)", read_text("/proc/meminfo"), "0")),
        "virtual": "hypervisor" in read_text("/proc/cpuinfo"),
        "kernel": platform.release(),
        "images_on": first_line("stat", "-f", "-c", "%T", folder),
    }


def versions(command):
    source = os.path.dirname(os.path.abspath(__file__))
    commit = first_line("git", "-C", source, "describe", "--always", "--dirty")
    return {"uext4": first_line(command, "--version"),
            "commit": None if commit and commit.startswith("fatal") else commit,
            "e2fsprogs": first_line("mke2fs", "-V")}


def head(command, folder, parameters, contenders):
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"format": FORMAT, "date": now.isoformat(timespec="seconds"),
            "machine": machine(folder), "versions": versions(command), "parameters": parameters,
            "contenders": [{"key": c.key, "title": c.title, "missing": c.missing}
                           for c in contenders]}


def write(results, path):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
        f.write("\n")


def read(path):
    with open(path, encoding="utf-8") as f:
        results = json.load(f)
    if results.get("format") != FORMAT:
        raise ValueError("%s: not results of this benchmark" % path)
    return results
