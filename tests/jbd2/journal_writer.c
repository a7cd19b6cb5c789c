/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Leave an ext4 image as a power cut leaves it: with transactions in its journal that have not
 * been replayed.  For other tools to find.
 *
 *      journal_writer IMAGE JOURNAL|- v3|64bit|-[,...] STEP...
 *
 * JOURNAL is the device of an external journal.  The features named are asked for when the
 * journal is loaded.  Steps:
 *
 *      w BLOCK FILE    a handle that gives the block the contents of FILE
 *      r BLOCK         a handle that revokes the block
 *      c               commit
 *      f               commit, everything home, the log empty
 *
 * The superblock gets the RECOVER flag, as a mount does it.  The journal is not unloaded.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ext4/ext4.h"
#include "ext4/journal.h"
#include "jbd2/jbd2.h"
#include "util/crc.h"

struct writer {
        struct uext4_bdev *dev, *journal_dev;
        struct ext4_fs *fs;
        struct jbd2 *j;
};

static void die(const char *what, int err)
{
        fprintf(stderr, "journal_writer: %s: %s\n", what, strerror(-err));
        exit(1);
}

static void must(const char *what, int ret)
{
        if (ret < 0)
                die(what, ret);
}

static struct uext4_bdev *open_device(const char *path)
{
        struct uext4_bdev *dev = NULL;

        must(path, uext4_bdev_open_file(path, UEXT4_BDEV_OPEN_BUFFERED, NULL, NULL, &dev));
        return dev;
}

/* From here on the image needs its journal. */
static void set_recover(struct writer *w)
{
        struct ext4_super_block sb;
        char block[4096];

        must("superblock", uext4_bdev_read_bytes(w->dev, block, sizeof(block), 0));
        memcpy(&sb, block + EXT4_SUPER_OFFSET, sizeof(sb));
        sb.s_feature_incompat =
                le32_make(le32_get(sb.s_feature_incompat) | EXT4_INCOMPAT_RECOVER);
        if (w->fs->has_metadata_csum)
                sb.s_checksum = le32_make(crc32c(~0u, &sb, sizeof(sb) - sizeof(sb.s_checksum)));
        memcpy(block + EXT4_SUPER_OFFSET, &sb, sizeof(sb));
        must("superblock", uext4_bdev_write(w->dev, block, sizeof(block), 0, UEXT4_BDEV_FUA));
}

static uint32_t features(const char *names)
{
        uint32_t set = JBD2_INCOMPAT_REVOKE;

        if (strstr(names, "v3"))
                set |= JBD2_INCOMPAT_CSUM_V3;
        if (strstr(names, "64bit"))
                set |= JBD2_INCOMPAT_64BIT;
        return set;
}

static void load(struct writer *w, uint32_t set_incompat)
{
        const struct ext4_mount_options opts = {.read_only = true,
                                                .noload = true,
                                                .sb_block = 1,
                                                .meta_cache_bytes = EXT4_DEFAULT_META_CACHE};
        const struct log_sink log = {0};
        struct jbd2_options jopts = {.set_incompat = set_incompat, .no_timer = true};
        struct jbd2_journal journal;

        must("mount", ext4_mount(w->dev, &opts, &log, &w->fs));
        must("journal", ext4_journal_open(w->fs, w->journal_dev, &journal));
        set_recover(w);
        jopts.bufs = w->fs->bufs;
        jopts.fs_dev = w->dev;
        must("load", jbd2_load(&journal, &jopts, &w->j));
}

/* ---- steps ---- */

static void read_file(const char *path, void *data, size_t size)
{
        FILE *f = fopen(path, "rb");

        if (!f || fread(data, 1, size, f) != size)
                die(path, errno ? -errno : -EIO);
        fclose(f);
}

static void write_block(struct writer *w, uint64_t blk, const char *path)
{
        struct jbd2_handle *h;
        struct buf *buf;
        void *bytes;

        must("start", jbd2_start(w->j, 1, 0, &h));
        must("buf_new", buf_new(w->fs->bufs, blk, &buf));
        must("access", jbd2_get_create(h, buf, &bytes));
        read_file(path, bytes, w->fs->block_size);
        jbd2_dirty(h, buf);
        buf_put(buf);
        must("stop", jbd2_stop(h));
}

static void revoke_block(struct writer *w, uint64_t blk)
{
        struct jbd2_handle *h;

        must("start", jbd2_start(w->j, 1, 1, &h));
        jbd2_revoke(h, blk, NULL);
        must("stop", jbd2_stop(h));
}

/* How many arguments it took. */
static int step(struct writer *w, char **argv, int left)
{
        switch (argv[0][0]) {
        case 'w':
                if (left < 3)
                        die("w BLOCK FILE", -EINVAL);
                write_block(w, strtoull(argv[1], NULL, 0), argv[2]);
                return 3;
        case 'r':
                if (left < 2)
                        die("r BLOCK", -EINVAL);
                revoke_block(w, strtoull(argv[1], NULL, 0));
                return 2;
        case 'c':
                must("commit", jbd2_commit_all(w->j));
                return 1;
        case 'f':
                must("flush", jbd2_flush(w->j));
                return 1;
        }
        die(argv[0], -EINVAL);
        return 0;
}

int main(int argc, char **argv)
{
        struct writer w = {0};

        if (argc < 4) {
                fprintf(stderr, "usage: journal_writer IMAGE JOURNAL|- FEATURES STEP...\n");
                return 2;
        }
        w.dev = open_device(argv[1]);
        if (strcmp(argv[2], "-") != 0)
                w.journal_dev = open_device(argv[2]);
        load(&w, features(argv[3]));
        for (int i = 4; i < argc;)
                i += step(&w, argv + i, argc - i);
        fflush(NULL);
        _exit(0); /* as if the power had gone */
}
