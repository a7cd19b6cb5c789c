#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A short run of a libFuzzer target.

usage: smoke.py image|write|journal|dir|xattr|extent|canary PROGRAM CORPUS

All must run clean, but for `canary`, which has a crash planted in it and must find it: that is
what the silence of the others is worth.  UEXT4_SEED (1 when not set) seeds the fuzzer.  Where
libFuzzer leaves a failing input, the output names it and the command that repeats it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Executions, not seconds: with the same seed a fast machine and a slow one look at the same.
RUNS = {"image": 3000, "write": 1000, "journal": 6000, "dir": 500, "xattr": 800, "extent": 500,
        "canary": 100000}
LONG = 20  # times as many with UEXT4_LONG
CANARY_SAYS = "the canary was found"


def fuzz(kind, program, corpus, found, artifacts):
    seed = int(os.environ.get("UEXT4_SEED", "1"))
    runs = RUNS[kind] * (LONG if os.environ.get("UEXT4_LONG") == "1" else 1)
    command = [program, f"-runs={runs}", f"-seed={seed % (1 << 32) or 1}",
               "-timeout=20", "-rss_limit_mb=2048", "-len_control=0", "-max_len=2097152",
               "-print_final_stats=1", f"-artifact_prefix={artifacts}", found, corpus]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace")
    print(f"UEXT4_SEED={seed}")
    print("\n".join(done.stdout.splitlines()[-60:]), flush=True)
    return done


def run_clean(kind, program, corpus, found):
    artifacts = Path(os.environ.get("UEXT4_BUILD_ROOT", ".")).resolve() / f"fuzz-{kind}-"
    done = fuzz(kind, program, corpus, found, artifacts)
    if done.returncode != 0:
        print(f"a finding: run {program} on the input named above to repeat it")
        return 1
    return 0


def run_canary(program, corpus, found):
    with tempfile.TemporaryDirectory() as artifacts:
        done = fuzz("canary", program, corpus, found, artifacts + "/")
        if done.returncode == 0 or CANARY_SAYS not in done.stdout:
            print("the planted crash was not found: the fuzzer does not do its work")
            return 1
        kept = list(Path(artifacts).iterdir())
        again = subprocess.run([program, *kept], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace")
        if len(kept) != 1 or CANARY_SAYS not in again.stdout:
            print("the input that was kept does not repeat the crash")
            return 1
    return 0


def main():
    kind, program, corpus = sys.argv[1:]
    with tempfile.TemporaryDirectory() as found:
        if kind == "canary":
            return run_canary(program, corpus, found)
        return run_clean(kind, program, corpus, found)


if __name__ == "__main__":
    sys.exit(main())
