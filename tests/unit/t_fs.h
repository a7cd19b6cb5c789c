/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef T_FS_H
#define T_FS_H

/*
 * File systems for unit tests: a struct ext4_fs made by hand over a memory device, for what
 * needs sizes and blocks only; and whole images from mke2fs, held in memory.
 */

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/host.h"
#include "ext4/delayed.h"
#include "t_util.h"
#include "util/crc.h"

/* ---- by hand ---- */

struct t_fs {
        struct ext4_fs *fs;
        struct uext4_bdev *dev;
        char *map; /* all of the device */
        struct t_log log;
};

/* nr_blocks of 1 << bits bytes, without checksums, all zero; the memory is made when touched.
 */
static inline void t_fs_init(struct t_fs *t, unsigned bits, uint64_t nr_blocks)
{
        const struct log_sink sink = t_log_sink(&t->log);
        struct ext4_fs *fs;

        t_log_init(&t->log);
        T_CHECK(uext4_bdev_open_mem(nr_blocks << bits, &t->dev) == 0);
        t->map = t->dev->ops->mapping(t->dev);
        T_CHECK(posix_memalign((void **)&fs, CACHE_LINE, sizeof(*fs)) == 0);
        memset(fs, 0, sizeof(*fs));
        vfs_super_init(&fs->vfs, t->dev, &sink);
        fs->vfs.block_bits = bits;
        fs->block_bits = bits;
        fs->block_size = 1u << bits;
        fs->nr_blocks = nr_blocks;
        fs->first_data_block = bits == 10;
        fs->inode_size = 256;
        T_CHECK(buf_cache_new(t->dev, fs->block_size, 1u << 20, &fs->bufs) == 0);
        T_CHECK(ext4_inode_table_new(fs, &fs->inodes) == 0);
        t->fs = fs;
}

static inline void t_fs_done(struct t_fs *t)
{
        ext4_inode_table_free(t->fs->inodes);
        buf_cache_free(t->fs->bufs);
        vfs_super_done(&t->fs->vfs);
        free(t->fs);
        uext4_bdev_close(t->dev);
}

/* Forget what was read: the test has changed blocks. */
static inline void t_fs_drop_cache(struct t_fs *t)
{
        buf_cache_free(t->fs->bufs);
        T_CHECK(buf_cache_new(t->dev, t->fs->block_size, 1u << 20, &t->fs->bufs) == 0);
        for (size_t i = 0; i < EXT4_NR_SAID; i++)
                atomic_store(&t->fs->said[i], 0);
        t_log_clear(&t->log);
}

static inline void *t_block(struct t_fs *t, uint64_t blk)
{
        return t->map + (blk << t->fs->block_bits);
}

static inline uint64_t t_device_reads(struct t_fs *t)
{
        struct buf_stats stats;

        buf_cache_stats(t->fs->bufs, &stats);
        return stats.reads;
}

/* An inode that no table knows. */
static inline void t_inode_init(struct ext4_inode *inode, struct ext4_fs *fs, uint32_t ino)
{
        memset(inode, 0, sizeof(*inode));
        vfs_inode_init(&inode->vfs, &fs->vfs, ino);
        inode->fs = fs;
        mtx_init(&inode->load, RANK_INODE_LOAD);
        rwsem_init(&inode->map_lock, RANK_MAP);
        ext4_delayed_init(&inode->delayed);
        ext4_es_init(&inode->es);
}

static inline void t_inode_done(struct ext4_inode *inode)
{
        ext4_es_clear(&inode->es, &inode->fs->nr_cached_extents);
        rwsem_done(&inode->es.lock);
        ext4_inode_unload(inode);
        ext4_delayed_done(&inode->delayed);
        rwsem_done(&inode->map_lock);
        mtx_done(&inode->load);
        vfs_inode_done(&inode->vfs);
}

/* ---- from mke2fs ---- */

struct t_image {
        char *data;
        size_t size;
};

static inline void t_run(const char *command)
{
        int ret = system(command);

        if (ret != 0)
                fail_msg("'%s' ended with %d", command, ret);
}

/* Commands for `debugfs -w`, each with a "\\n" behind it. */
static inline void t_run_debugfs(const char *path, const char *commands)
{
        char command[4096];

        snprintf(command, sizeof(command),
                 "printf '%%b' '%s' | debugfs -w -f /dev/stdin %s >/dev/null 2>&1", commands,
                 path);
        t_run(command);
}

/* `mke2fs OPTIONS` on a file; then, unless NULL, what the script tells debugfs. */
static inline void t_make_fs(const char *path, const char *options, const char *script)
{
        host_make_fs(path, options);
        if (script)
                t_run_debugfs(path, script);
}

/* An image of `size` bytes, made so. */
static inline struct t_image t_mkfs(uint64_t size, const char *options, const char *script)
{
        struct host_file f = host_file_new(NULL, size);
        struct t_image img = {.size = size, .data = t_alloc(size)};

        t_make_fs(f.path, options, script);
        host_file_read(&f, img.data, size);
        host_file_close(&f);
        return img;
}

static inline struct t_image t_image_copy(const struct t_image *from)
{
        struct t_image img = {.data = t_alloc(from->size), .size = from->size};

        memcpy(img.data, from->data, from->size);
        return img;
}

static inline void t_image_free(struct t_image *img)
{
        free(img->data);
        img->data = NULL;
}

static inline struct ext4_super_block *t_super(struct t_image *img)
{
        return (void *)(img->data + EXT4_SUPER_OFFSET);
}

static inline void t_super_seal(struct ext4_super_block *sb)
{
        sb->s_checksum =
                le32_make(crc32c(~0u, sb, offsetof(struct ext4_super_block, s_checksum)));
}

/* A mount of an image in memory. */
struct t_mount {
        struct uext4_bdev *dev;
        struct ext4_fs *fs; /* NULL when the mount failed */
        struct t_log log;
};

static const struct ext4_mount_options t_mount_ro = {
        .read_only = true,
        .sb_block = 1,
        .meta_cache_bytes = 1u << 20,
};

/* What ext4_mount() says; t_umount() in any case. */
static inline int t_mount(struct t_mount *m, struct t_image *img,
                          const struct ext4_mount_options *opts)
{
        const struct log_sink sink = t_log_sink(&m->log);

        t_log_init(&m->log);
        m->fs = NULL;
        T_CHECK(uext4_bdev_open_buffer(img->data, img->size, 0, &m->dev) == 0);
        return ext4_mount(m->dev, opts, &sink, &m->fs);
}

static inline void t_umount(struct t_mount *m)
{
        if (m->fs)
                T_CHECK(!ext4_unmount(m->fs));
        uext4_bdev_close(m->dev);
}

/* ---- simulated devices ---- */

/* With what is in the image, and with FUA. */
static inline struct uext4_bdev *t_open_sim(const struct t_image *img, uint64_t seed)
{
        const struct uext4_bdev_sim_params p = {.size = img->size,
                                                .image = img->data,
                                                .caps = UEXT4_BDEV_CAP_FUA,
                                                .seed = seed};
        struct uext4_bdev *sim;

        T_CHECK(uext4_bdev_open_sim(&p, &sim) == 0);
        return sim;
}

#endif
