#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Take out points of order of the write path, one at a time: a test must fail.

    mutate.py [--check | NUMBER...]     ../lib/mutation.py

The files are those of src/ext4 where they name no folder.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import mutation  # noqa: E402

LAYERS = ["util", "bdev", "buf", "jbd2", "vfs", "iomap", "ext4", "lib"]
RIG = ["change/rig.c", "change/ops.c", "change/model.c", "change/model_check.c",
       "change/model_step.c", "change/cuts.c", "jbd2/watch.c", "write/mix.c", "write/track.c",
       "write/held.c", "lib/host.c"]

FILES = ["write.c", "write_end.c", "write_map.c", "truncate.c", "fsync.c", "data_journal.c",
         "data_journal_flag.c", "data_journal_read.c", "cache.c", "fallocate.c",
         "extent_change.c", "iomap/direct.c", "iomap/writeback.c", "vfs/flusher.c"]

WRITE, TABLES, RACES = "write/test_write", "write/test_tables", "write/test_races"
DATA_JOURNAL, DAX = "write/test_data_journal", "unit/test_dax"
CACHE = "write/test_cache"
EXTENTS, IOMAP = "unit/test_extent_change", "unit/test_iomap"


def source_of(name):
    return name if "/" in name else "ext4/" + name


def m(file, text, new, program, scenario, why):
    return mutation.Mutation(source_of(file), [(text, new)], program, scenario, why)


MUTATIONS = [
    m("write_end.c", "ret = ext4_orphan_del(h, inode); /* order: the entry ends with the size (B41) */",
      ";", TABLES, "extending_write_ends_its_entry_B41",
      "the orphan entry is left behind after an extending write"),
    m("write.c", "ret = ext4_begin_extend(inode); /* order: the entry before the blocks (B38) */",
      ";", TABLES, "extending_write_B38_B41", "blocks behind the size without an orphan entry"),
    m("write_end.c", "bool trim = x->is_short && x->has_new; /* order: before the entry ends (C19) */",
      "bool trim = false;", DAX, "the_rest_of_a_short_write_goes_C19",
      "what a short write has not used stays behind the size"),
    m("write_end.c", "return false; /* order: data before conversion (B40) */", ";", WRITE,
      "failed_request_of_a_batch_converts_nothing_C32", "a failed request is converted"),
    m("write_end.c", "sync_works(works); /* order: durable before the user hears (C16) */", "",
      RACES, "sync_comes_last_C16", "O_DSYNC is told without a sync"),
    m("write.c", "vfs_pending_drain(inode->vfs.sb, &inode->vfs.dio); /* order: no old bytes (B45) */",
      "", RACES, "a_buffered_write_waits_for_requests_B45",
      "a buffered write does not wait for direct ones"),
    m("write.c", "vfs_pending_drain(inode->vfs.sb, &inode->vfs.dio); /* order: then zeros (B36) */",
      ";", WRITE, "part_of_a_block_waits_for_the_whole_C5",
      "a part of a block does not wait for the rest of it"),
    m("truncate.c", "vfs_pending_drain(inode->vfs.sb, &inode->vfs.dio); /* order: before blocks go (C11) */",
      "", RACES, "one_thread_submits_and_changes_C11", "truncation does not wait for requests"),
    m("fsync.c", "ret = commit(fs, tid); /* order: what finds the data is durable (B49) */", ";",
      TABLES, "extending_write_B38_B41", "fsync commits nothing"),
    m("fsync.c", "ret = flush(fs); /* order: the data is durable (B49) */", ";", DAX,
      "fsync_flushes_what_was_touched", "fsync flushes nothing"),
    m("data_journal.c", "deallocate(c, &p); /* order: before others see what was there (B4) */",
      ";", DATA_JOURNAL, "without_memory_nothing_half_is_left",
      "new blocks that were not filled stay in the file"),
    m("data_journal.c",
      "ext4_inode_map_changed(c->h, c->inode); /* order: fdatasync waits for the bytes (B6) */", "",
      DATA_JOURNAL, "each_write_is_whole_after_a_cut",
      "fdatasync does not wait for data in the journal"),
    m("data_journal_flag.c",
      "ret = jbd2_flush(inode->fs->journal); /* order: no copy comes back later */", ";",
      DATA_JOURNAL, "the_flag_goes_on_and_off",
      "the log has copies of a file that is not journalled any more"),
    m("data_journal_flag.c", "ret = forget_cached(inode); /* order: nothing older is read */", ";",
      DATA_JOURNAL, "the_flag_goes_on_and_off", "what was cached is read after direct writes"),
    m("cache.c",
      "from = min_t(uint64_t, from, size); /* order: the size follows all data (C20) */", ";",
      CACHE, "the_size_does_not_pass_data_in_memory_C20",
      "a part of the file is written back, and the size passes what comes before"),
    m("cache.c",
      "return vfs_pages_flush(&inode->vfs, pos, end); /* order: what is new is there (B28) */",
      "return 0;", CACHE, "all_ways_see_each_other_B28", "direct reads do not see the cache"),
    m("fallocate.c", "punches ? min_t(uint64_t, r->end, last) : 0, /* order: C22 */",
      "punches ? r->end : 0,", CACHE, "the_size_outlives_punching_its_pages_C22",
      "the page that has the end of the file is punched"),
    m("fallocate.c",
      "ret = ext4_zero_blocks(inode->fs, map.pblk, map.len);\n"
      "        vfs_written(&inode->vfs); /* order: behind them, or a flush in between would do (B49) */",
      "vfs_written(&inode->vfs);\n"
      "        ret = ext4_zero_blocks(inode->fs, map.pblk, map.len);", RACES,
      "zeros_are_flushed_by_who_syncs_afterwards_B49", "zeros are noted before they are written"),
    m("cache.c", "ret = vfs_pages_flush(&inode->vfs, 0, UINT64_MAX);",
      "ret = 0 * vfs_pages_flush(&inode->vfs, 0, UINT64_MAX);", CACHE,
      "what_needs_the_data_on_the_device_tells_its_error_C39",
      "what moves data goes on when that could not be written back"),
    m("fsync.c",
      "int ret = vfs_pages_flush(&inode->vfs, 0, UINT64_MAX); /* order: then the commit */",
      "int ret = 0;", CACHE, "the_size_waits_for_the_data_C20", "fsync writes nothing back"),
    m("write_map.c", "EXT4_MAP_UNWRITTEN, /* order: data before it can be seen (C41) */",
      "EXT4_MAP_WRITTEN,", CACHE, "blocks_are_not_seen_before_their_data_C41",
      "blocks are written before their data is"),
    m("iomap/direct.c",
      "(void)!vfs_pages_invalidate(inode, dio->iocb->pos,\n"
      "                                            dio->iocb->pos + dio->done); /* order: C16 */",
      ";", CACHE, "what_was_read_in_a_direct_write_leaves_the_cache_B30",
      "the cache keeps what was read during a direct write"),
    m("iomap/writeback.c",
      "if (ret == 0) /* order: the data before what makes it visible (C32) */", "", CACHE,
      "an_error_is_told_each_file_once_C32", "what could not be written back is converted"),
    m("iomap/writeback.c",
      "vfs_pages_wait(inode, ordered, b.folios[0]->pos); /* order: C20 */", ";", CACHE,
      "the_later_part_waits_for_the_earlier_C20", "of two who write back the later is first"),
    m("vfs/flusher.c", "while (wait_for_others(cache, now)); /* order: all that came before */",
      "while (0);", CACHE, "syncfs_writes_what_others_have_passed",
      "syncfs does not write what was dirtied behind others"),
    m("write_map.c", "if (ret == 0 && ret_map->type == IOMAP_UNWRITTEN)", "if (0)", CACHE,
      "conversion_takes_what_was_promised_C33", "no nodes are promised to unwritten space"),
    m("write.c", "told = vfs_pages_tell_error(iocb->inode, iocb->error_seen);", ";", CACHE,
      "an_error_of_a_durable_write_is_told_once_C32", "fsync repeats what O_DSYNC has told"),
    m("extent_change.c", "!vfs_has_dirty(&inode->vfs.pages);", "true;", EXTENTS,
      "without_a_node_the_rest_is_zeroed", "zeros over what is being written back"),
    m("iomap/direct.c", " && how->first->type != IOMAP_UNWRITTEN", "", IOMAP,
      "what_was_found_unwritten_is_asked_for_again", "zeros over a request not counted yet"),
]


if __name__ == "__main__":
    sys.exit(mutation.main(MUTATIONS, [source_of(name) for name in FILES], LAYERS, RIG))
