#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Take out flushes, FUA and points of order in the journal, one at a time: a test must fail.

    mutate.py [--check | NUMBER...]     ../lib/mutation.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import mutation  # noqa: E402

LAYERS = ["util", "bdev", "buf", "jbd2"]
RIG = ["jbd2/tj.c", "jbd2/watch.c", "jbd2/model.c", "jbd2/cut.c", "jbd2/driver.c"]
MARKED = ["jbd2/" + path.name for path in sorted((mutation.ROOT / "src/jbd2").glob("*.c"))]

WINDOW = "every_request_of_a_window_can_be_cut"
SPARSE = "a_log_without_other_flushes_can_be_cut"
NO_LOG = "without_a_log_what_was_committed_is_there"


def m(file, text, new, scenario, why, program="test_stress"):
    edits = [(text, new)] if isinstance(text, str) else text
    return mutation.Mutation("jbd2/" + file, edits, "jbd2/" + program, scenario, why)


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
      "ret = first_error(ret, wait_ordered(t)); /* order: data before the commit block */",
      "", WINDOW, "nobody waits for ordered data"),
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
    m("access.c", "return !jb->logged || undo || jb->committed;", "return false;",
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


if __name__ == "__main__":
    sys.exit(mutation.main(MUTATIONS, MARKED, LAYERS, RIG))
