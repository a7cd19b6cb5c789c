/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef T_WRITE_H
#define T_WRITE_H

/*
 * File systems that a unit test changes piece by piece: mounted read-only, and then given a
 * journal and an allocator by hand, so that nothing else writes.
 */

#include "ext4/balloc.h"
#include "ext4/inode_store.h"
#include "ext4/journal.h"
#include "t_fs.h"

struct t_write {
        struct t_mount m;
        struct ext4_fs *fs;
};

/* On a device, which is closed at the end. */
static inline void t_write_begin_on(struct t_write *w, struct uext4_bdev *dev, bool discard)
{
        const struct log_sink sink = t_log_sink(&w->m.log);
        struct ext4_mount_options opts = t_mount_ro;
        struct jbd2_options jopts = {.no_timer = true};
        struct jbd2_journal log;
        bool has_log;

        t_log_init(&w->m.log);
        opts.given = EXT4_GIVEN_DISCARD;
        opts.discard = discard;
        w->m.dev = dev;
        T_CHECK(ext4_mount(dev, &opts, &sink, &w->m.fs) == 0);
        w->fs = w->m.fs;
        has_log = ext4_has_compat(w->fs, EXT4_COMPAT_HAS_JOURNAL);
        if (has_log)
                T_CHECK(ext4_journal_open(w->fs, NULL, &log) == 0);
        jopts.bufs = w->fs->bufs;
        jopts.fs_dev = w->fs->vfs.dev;
        jopts.log = w->fs->vfs.log;
        T_CHECK(jbd2_load(has_log ? &log : NULL, &jopts, &w->fs->journal) == 0);
        T_CHECK(ext4_balloc_new(w->fs) == 0);
}

static inline void t_write_begin(struct t_write *w, struct t_image *img)
{
        struct uext4_bdev *dev;

        T_CHECK(uext4_bdev_open_buffer(img->data, img->size, 0, &dev) == 0);
        t_write_begin_on(w, dev, false);
}

/* What jbd2_unload() says. */
static inline int t_write_end(struct t_write *w)
{
        int ret = jbd2_unload(w->fs->journal);

        w->fs->journal = NULL;
        ext4_balloc_free(w->fs);
        t_umount(&w->m);
        return ret;
}

static inline struct jbd2_handle *t_start(struct t_write *w, uint32_t credits, uint32_t revokes)
{
        struct jbd2_handle *h;

        T_CHECK(jbd2_start(w->fs->journal, credits, revokes, &h) == 0);
        return h;
}

/* ---- e2fsck ---- */

/* What e2fsck says when all is well, and what it may say besides of blocks that are in use and
 * belong to nobody: then "+" is a block that is free, and somebody's. */
static inline bool t_is_complaint(const char *line, bool leaks_are_fine)
{
        static const char *const quiet[] = {"Pass ", "e2fsck "};
        static const char *const leaks[] = {
                "Block bitmap differences:", "Free blocks count wrong", "Fix? no"};

        for (size_t i = 0; i < ARRAY_LEN(quiet); i++) {
                if (strncmp(line, quiet[i], strlen(quiet[i])) == 0)
                        return false;
        }
        for (size_t i = 0; leaks_are_fine && i < ARRAY_LEN(leaks); i++) {
                if (strncmp(line, leaks[i], strlen(leaks[i])) == 0)
                        return strchr(line, '+') != NULL;
        }
        return !strstr(line, " files (") && !strstr(line, "Filesystem still has errors");
}

/* Run e2fsck -fn on an image.  NULL when it is content; otherwise what it complains of first,
 * until the next call. */
static inline const char *t_fsck(const struct t_image *img, bool leaks_are_fine)
{
        static char complaint[256];
        char *text, *line, *rest;
        int status;

        text = host_fsck(img->data, img->size, "-Eno_optimize_extents", &status);
        complaint[0] = '\0';
        for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                if (!complaint[0] && t_is_complaint(line, leaks_are_fine))
                        snprintf(complaint, sizeof(complaint), "%s", line);
        }
        free(text);
        if (status != 0 && !leaks_are_fine && !complaint[0])
                snprintf(complaint, sizeof(complaint), "it is not content");
        return complaint[0] ? complaint : NULL;
}

/* ---- configurations ---- */

struct t_config {
        const char *name;
        const char *options; /* for mke2fs */
        unsigned mib;
};

/* mke2fs has no configuration here: every feature is named. */
#define T_EXT4 "has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum"

static const struct t_config t_configs[] = {
        {"4k", "-b 4096 -O ^resize_inode," T_EXT4, 160},
        {"4k, resize_inode", "-b 4096 -O resize_inode," T_EXT4, 300},
        {"1k", "-b 1024 -O resize_inode," T_EXT4, 48},
        {"2k, no flex_bg", "-b 2048 -O " T_EXT4 ",^flex_bg", 64},
        {"flex_bg", "-b 1024 -G 4 -g 2048 -O " T_EXT4, 24},
        {"no flex_bg", "-b 1024 -g 1024 -O " T_EXT4 ",^flex_bg", 12},
        {"meta_bg", "-b 1024 -g 512 -O meta_bg,^resize_inode," T_EXT4, 48},
        {"meta_bg, no flex_bg", "-b 1024 -g 512 -O meta_bg,^resize_inode," T_EXT4 ",^flex_bg",
         48},
        {"bigalloc", "-b 4096 -C 65536 -O bigalloc," T_EXT4, 256},
        {"bigalloc, 1k", "-b 1024 -C 8192 -O bigalloc," T_EXT4, 64},
        {"gdt_csum", "-b 1024 -O uninit_bg," T_EXT4 ",^metadata_csum", 48},
        {"no checksums", "-b 1024 -O " T_EXT4 ",^metadata_csum,^64bit", 48},
        {"32-byte descriptors", "-b 1024 -O " T_EXT4 ",^64bit", 48},
        {"sparse_super2", "-b 1024 -g 2048 -O sparse_super2," T_EXT4, 24},
        {"ext3", "-b 1024 -O has_journal,sparse_super,large_file", 24},
        {"ext2", "-b 1024 -O none", 24},
        {"no journal", "-b 4096 -O " T_EXT4 ",^has_journal", 130},
        {"tail group", "-b 1024 -g 1024 -O " T_EXT4 ",^has_journal", 5},
};

/* ---- one file, whose map a test changes ---- */

struct t_target {
        struct t_image img;
        struct t_write w;
        struct ext4_inode *inode;
        uint64_t free_before;
        uint32_t keep; /* credits that are not for the work */
};

static inline void t_target_open(struct t_target *t, const struct t_config *config)
{
        uint32_t ino;

        t->img = t_mkfs((uint64_t)config->mib << 20, config->options, "write /dev/null f\\n");
        t_write_begin(&t->w, &t->img);
        T_CHECK(ext4_iget(t->w.fs, EXT4_INO_ROOT, &t->inode) == 0);
        T_CHECK(ext4_dir_lookup(t->inode, "f", 1, &ino) == 0);
        ext4_iput(t->inode);
        T_CHECK(ext4_iget(t->w.fs, ino, &t->inode) == 0);
        t->keep = EXT4_INODE_CREDITS;
        t->free_before = ext4_free_clusters(t->w.fs);
}

/* e2fsck has nothing to say of the file. */
static inline void t_target_close(struct t_target *t, const char *name)
{
        const char *complaint;

        ext4_iput(t->inode);
        T_CHECK(t_write_end(&t->w) == 0);
        complaint = t_fsck(&t->img, true); /* nobody has written the superblock's counts */
        if (complaint)
                fail_msg("%s: e2fsck: %s", name, complaint);
        t_image_free(&t->img);
}

#endif
