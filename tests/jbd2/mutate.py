#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Take out flushes, FUA and points of order in the journal, one at a time: a test must fail.

    mutate.py [NUMBER...]       all mutations, or these of the list

The sources are copied, each mutation is made in the copy, and the scenario that the table names
is run.  A line is printed for each.  Lines of src/jbd2 with a comment "order:" must all be in
the table.
"""

import collections
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(os.environ.get("UEXT4_SOURCE_ROOT", Path(__file__).resolve().parent.parent.parent))
CC = shlex.split(os.environ.get("CC", "cc"))
FLAGS = ["-std=gnu11", "-O1", "-g", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-w",
         "-fno-strict-aliasing", "-fno-common", "-Isrc", "-Iinclude"]
LIBS = ["-lcmocka", "-luring", "-lisal", "-lpthread"]
RIG = ["tj.c", "watch.c", "model.c", "cut.c", "driver.c"]
TIMEOUT = 120

# `edits` are pairs of what is there, once, and what comes in its place.
Mutation = collections.namedtuple("Mutation", "file edits program scenario why")

WINDOW = "every_request_of_a_window_can_be_cut"
SPARSE = "a_log_without_other_flushes_can_be_cut"
NO_LOG = "without_a_log_what_was_committed_is_there"


def m(file, text, new, scenario, why, program="test_stress"):
    edits = [(text, new)] if isinstance(text, str) else text
    return Mutation(file, edits, program, scenario, why)


# What is to come later is taken out in one place and put into another.
TAIL_NOTED_LATE = [
    ("jbd2_tail_candidate(j, &tail, &tail_tid); /* order: before the flush (J25) */\n"
     "        worth = jbd2_tail_frees_much(j, tail);", "worth = false;"),
    ("if (ret == 0)\n                ret = jbd2_log_write_commit(t, v1_crc);",
     """mtx_lock(&j->lock);
        jbd2_tail_candidate(j, &tail, &tail_tid);
        worth = jbd2_tail_frees_much(j, tail);
        mtx_unlock(&j->lock);
        if (ret == 0)
                ret = jbd2_log_write_commit(t, v1_crc);"""),
]

MUTATIONS = [
    m("log_write.c", "j->opts.no_barrier ? 0 : UEXT4_BDEV_FUA; /* order: commit block */", "0;",
      WINDOW, "the commit block without FUA"),
    m("commit.c", "ret = jbd2_flush_log(j); /* order: the log before its commit block */",
      "ret = 0;", SPARSE, "no flush of the log before the commit block"),
    m("commit.c", "ret = jbd2_flush_fs(j); /* order: data and checkpointed blocks */", "ret = 0;",
      WINDOW, "no flush of the file system's device before the commit block"),
    m("commit.c", TAIL_NOTED_LATE, None, "the_tail_is_noted_before_the_flush",
      "the tail is noted after the flush", "test_order"),
    m("commit.c", "ret = jbd2_super_write(j); /* order: the log is known before it has a commit */",
      "ret = 0;", WINDOW, "the superblock goes on saying that the log is empty"),
    m("commit.c",
      "return ret == 0 ? jbd2_flush_fs(j) : ret; /* order: durable when the commit ends */",
      "return ret;", NO_LOG, "no flush at the end of a commit without a log"),
    m("checkpoint.c",
      "ret = jbd2_flush_fs(j); /* order: checkpointed blocks before the tail moves */", "ret = 0;",
      SPARSE, "the tail moves past blocks that are in the device's cache"),
    m("checkpoint.c", "ret = jbd2_flush_fs(j); /* order: everything home before the log is void */",
      "ret = 0;", SPARSE, "the log is void before all is home"),
    m("jbd2.c", "j->opts.no_barrier ? 0 : UEXT4_BDEV_FUA); /* order: super */", "0);", SPARSE,
      "the journal's superblock without FUA"),
    m("recovery.c", "ret = uext4_bdev_flush(fs_dev);", "ret = 0;",
      "recovery_can_be_cut_at_every_request",
      "recovery empties the log before the copies are durable", "test_order"),
    m("open.c", "position_of(j, j->place.super_blk), UEXT4_BDEV_FUA);",
      "position_of(j, j->place.super_blk), 0);", "recovery_can_be_cut_at_every_request",
      "an emptied log is not durable", "test_order"),

    m("commit.c", "while (t->nr_handles > 0)", "while (0)", "threads_are_cut",
      "a commit does not wait for open handles", "test_threads"),
    m("commit.c", "if (jb->forgotten && !jb->txn) {", "if (0) {", WINDOW,
      "a freed block goes home"),
    m("checkpoint.c", "if (jb->txn) { /* J21 */", "if (0) {", "threads_are_cut",
      "a block of an open transaction goes home", "test_threads"),
    m("access.c", "return jb->dirty && !jb->frozen && !jb->logged;", "return false;",
      "threads_are_cut", "no copy of what the committing transaction needs", "test_threads"),
    m("access.c", "if (jb->io) {\n                cond_wait", "if (0) {\n                cond_wait",
      "threads_are_cut", "a block is changed while the device reads it", "test_threads"),
    m("access.c", "ret = jbd2_revoke_add(h->txn->revokes, blk, h->txn->tid);", "", WINDOW,
      "no revoke record"),
    m("access.c", "!jbd2_revoke_cancel(h->txn->revokes, buf->blk);", "true;", WINDOW,
      "a record of a block that is had again is not cancelled"),
    m("access.c", "buf_set_known(buf);", "", "a_block_had_again_keeps_its_contents",
      "the bytes of a block that is had again are not known", "test_access"),
    m("log_write.c", "write_revokes(o);\n", "", WINDOW, "revoke records are not written"),
    m("log_write.c", "memset(copy, 0, sizeof(be32));", "",
      "a_block_with_the_magic_is_escaped", "a block with the magic is not escaped", "test_order"),
]


# ---- building --------------------------------------------------------------------


def run(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", **more)


def compile_file(tree, source):
    obj = tree / "obj" / (str(source).replace("/", "_") + ".o")
    done = run([*CC, *FLAGS, "-c", source, "-o", obj], cwd=tree)
    return obj, done.stdout if done.returncode else None


def copy_tree(tree):
    for folder in ("src/util", "src/bdev", "src/buf", "src/jbd2", "include", "tests/jbd2"):
        shutil.copytree(ROOT / folder, tree / folder)
    for name in ("lib/check.h", "unit/t_util.h", "unit/t_journal.h"):
        (tree / "tests" / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / name, tree / "tests" / name)
    (tree / "obj").mkdir()


def build(tree, programs):
    """Objects of the library and the rig by source, and those of the programs."""
    library = {}
    sources = [p.relative_to(tree) for layer in ("util", "bdev", "buf", "jbd2")
               for p in sorted((tree / "src" / layer).glob("*.c"))]
    sources += [Path("tests/jbd2") / name for name in RIG]
    for source in sources + [Path("tests/jbd2") / (name + ".c") for name in programs]:
        obj, errors = compile_file(tree, source)
        if errors:
            sys.exit("%s does not compile:\n%s" % (source, errors))
        library[str(source)] = obj
    return library


def link(tree, library, program):
    objects = [obj for source, obj in library.items()
               if not Path(source).name.startswith("test_")]
    exe = tree / program
    done = run([*CC, *FLAGS, library["tests/jbd2/%s.c" % program], *objects, "-o", exe, *LIBS],
               cwd=tree)
    if done.returncode:
        sys.exit("%s cannot be linked:\n%s" % (program, done.stdout))
    return exe


def run_scenario(exe, scenario):
    """None when it passes, else what was seen."""
    env = dict(os.environ, UEXT4_TEST=scenario, CMOCKA_MESSAGE_OUTPUT="STDOUT")
    env.pop("UEXT4_LONG", None)
    try:
        done = run([exe], env=env, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return "it hangs"
    if done.returncode == 0:
        if "1 test(s) run" not in done.stdout:
            sys.exit("there is no scenario %s: %s" % (scenario, done.stdout))
        return None
    lines = [line for line in done.stdout.split("\n") if line and not line.startswith(("[", "#"))]
    return lines[0] if lines else "exit status %d" % done.returncode


# ---- the table -------------------------------------------------------------------


def check_table():
    """Every marked line of the sources is in a mutation, and every mutation's text there."""
    bad = []
    texts = {}
    for path in sorted((ROOT / "src/jbd2").glob("*.c")):
        texts[path.name] = path.read_text()
        for line in texts[path.name].split("\n"):
            mark = re.search(r"/\* order: .*", line)
            if mark and not any(mu.file == path.name and mark.group() in text
                                for mu in MUTATIONS for text, _ in mu.edits):
                bad.append("%s: no mutation for: %s" % (path.name, line.strip()))
    for mu in MUTATIONS:
        for text, _ in mu.edits:
            if texts[mu.file].count(text) != 1:
                bad.append("%s: not there once: %s" % (mu.file, text))
    return bad


def mutate(tree, library, mu):
    path = tree / "src/jbd2" / mu.file
    good = path.read_text()
    bad = good
    for text, new in mu.edits:
        if bad.count(text) != 1:
            return None
        bad = bad.replace(text, new)
    path.write_text(bad)
    obj, errors = compile_file(tree, Path("src/jbd2") / mu.file)
    seen = errors
    if not errors:
        seen = run_scenario(link(tree, library, mu.program), mu.scenario)
    path.write_text(good)
    if errors:
        return "does not compile: " + errors
    return seen


def main():
    wanted = [int(arg) for arg in sys.argv[1:]] or range(1, len(MUTATIONS) + 1)
    failures = check_table()
    for text in failures:
        print("FAIL table: " + text, flush=True)
    with tempfile.TemporaryDirectory(prefix="uext4-mutate-") as name:
        tree = Path(name)
        copy_tree(tree)
        library = build(tree, sorted({mu.program for mu in MUTATIONS}))
        for program, scenario in sorted({(mu.program, mu.scenario) for mu in MUTATIONS}):
            seen = run_scenario(link(tree, library, program), scenario)
            if seen:
                failures.append(scenario)
                print("FAIL without any mutation: %s: %s" % (scenario, seen), flush=True)
        for number in wanted:
            mu = MUTATIONS[number - 1]
            seen = mutate(tree, library, mu)
            compile_file(tree, Path("src/jbd2") / mu.file)  # the good one again
            caught = seen and not seen.startswith("does not compile")
            if not caught:
                failures.append(mu.why)
            print("%s %2d %s: %s: %s: %s" % ("ok  " if caught else "FAIL", number, mu.file, mu.why,
                                             mu.scenario, seen or "nothing was seen"), flush=True)
    print("%d mutations, %d failures" % (len(wanted), len(failures)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
