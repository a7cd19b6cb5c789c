/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ops.h"

#include "ext4/balloc_group.h"
#include "ext4/dir_change.h"
#include "ext4/ialloc.h"
#include "ext4/indirect_change.h"
#include "ext4/inline_change.h"
#include "ext4/map_change.h"
#include "ext4/orphan.h"
#include "ext4/truncate.h"
#include "ext4/zero.h"

int op_get(struct rig_mount *m, const char *path, struct ext4_inode **ret_inode)
{
        struct uext4_inode *inode;
        int ret = uext4_resolve(m->fs, path, UEXT4_NOFOLLOW, &inode);

        if (ret == 0)
                *ret_inode = inode_in(inode);
        return ret;
}

int op_read(struct ext4_inode *inode, uint64_t pos, void *buf, size_t len)
{
        struct uext4_file *file;
        size_t done = 0;
        int ret = uext4_open(inode_out(inode), O_RDONLY, &file);

        if (ret < 0)
                return ret;
        while (done < len) {
                ssize_t n = uext4_pread(file, (char *)buf + done, len - done, pos + done);

                if (n <= 0) {
                        ret = n < 0 ? (int)n : -EIO;
                        break;
                }
                done += (size_t)n;
        }
        uext4_close(file);
        return ret;
}

int op_sync(struct rig_mount *m)
{
        return uext4_syncfs(m->fs);
}

int op_truncate(struct ext4_inode *inode, uint64_t size)
{
        struct uext4_file *file;
        int ret = uext4_open(inode_out(inode), O_WRONLY, &file);

        if (ret < 0)
                return ret;
        ret = uext4_truncate(file, size);
        uext4_close(file);
        return ret;
}

int op_fallocate(struct ext4_inode *inode, int mode, uint64_t pos, uint64_t len)
{
        struct uext4_file *file;
        int ret = uext4_open(inode_out(inode), O_RDWR, &file);

        if (ret < 0)
                return ret;
        ret = uext4_fallocate(file, mode, pos, len);
        uext4_close(file);
        return ret;
}

/* ---- writing ---- */

/* Whole blocks that are to be written: [lblk, end), of which `data` begins at lblk. */
struct blocks {
        struct ext4_inode *inode;
        uint64_t lblk, end;
        const char *data; /* aligned for the device */
        uint64_t size;    /* of the file when they are there */
        enum op_way way;
};

static int put(const struct blocks *w, uint64_t pblk, uint64_t len)
{
        const struct ext4_fs *fs = w->inode->fs;

        return uext4_bdev_write(fs->vfs.dev, w->data, (size_t)(len << fs->block_bits),
                                pblk << fs->block_bits, 0);
}

static void step(struct blocks *w, uint64_t len)
{
        w->lblk += len;
        w->data += len << w->inode->fs->block_bits;
}

static int convert(struct ext4_inode *inode, uint64_t from, uint64_t to)
{
        struct ext4_extent_range range = {.from = from, .to = to, .keep = EXT4_INODE_CREDITS};
        struct jbd2_handle *h;
        int ret = jbd2_start(inode->fs->journal, ext4_map_convert_credits(inode), 0, &h);

        if (ret < 0)
                return ret;
        do {
                ret = ext4_map_convert(h, inode, &range, EXT4_MAP_WRITTEN);
                if (ret > 0) {
                        int err = jbd2_restart(h, ext4_map_convert_credits(inode), 0);

                        if (err < 0)
                                ret = err;
                }
        } while (ret > 0);
        return first_error(ret, jbd2_stop(h));
}

/* What is written behind the end is an orphan's until the size follows (C21). */
static int begin_growing(struct ext4_inode *inode)
{
        struct jbd2_handle *h;
        int ret =
                jbd2_start(inode->fs->journal, EXT4_ORPHAN_CREDITS + EXT4_INODE_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = ext4_orphan_add(h, inode);
        if (ret == 0)
                ret = ext4_inode_dirty(h, inode);
        return first_error(ret, jbd2_stop(h));
}

/* Space at the place of w, in a handle of its own. */
static int get_space(const struct blocks *w, enum ext4_map_type type, struct ext4_map *ret_map)
{
        const struct ext4_map_request req = {
                .lblk = (ext4_lblk_t)w->lblk, .len = w->end - w->lblk, .type = type};
        struct jbd2_handle *h;
        int ret = jbd2_start(w->inode->fs->journal, ext4_map_alloc_credits(w->inode), 0, &h);

        if (ret < 0)
                return ret;
        ret = ext4_map_alloc(h, w->inode, &req, ret_map);
        return first_error(ret, jbd2_stop(h));
}

static int write_extent(struct blocks *w)
{
        struct ext4_inode *inode = w->inode;
        enum ext4_map_type type = EXT4_MAP_UNWRITTEN;
        struct ext4_map map;
        int ret;

        if (w->way == OP_APPEND && w->lblk << inode->fs->block_bits >= vfs_size(&inode->vfs))
                type = EXT4_MAP_WRITTEN;
        ret = get_space(w, type, &map);
        if (ret == 0)
                ret = put(w, map.pblk, map.len);
        if (ret == 0 && map.type == EXT4_MAP_UNWRITTEN)
                ret = convert(inode, map.lblk, map.lblk + map.len);
        if (ret == 0)
                step(w, map.len);
        return ret;
}

/* Allocate and write in the same handle: the map says written at once. */
static int write_new_indirect(struct blocks *w, struct jbd2_handle *h)
{
        struct ext4_inode *inode = w->inode;
        const struct ext4_indirect_request req = {
                .lblk = (ext4_lblk_t)w->lblk,
                .len = (uint32_t)min_t(uint64_t, w->end - w->lblk, 64),
                .alloc_flags = EXT4_ALLOC_DATA,
        };
        struct ext4_iloc loc;
        struct ext4_map map;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        rwsem_write_lock(&inode->map_lock);
        ret = ext4_indirect_alloc(h, inode, &req, &map);
        if (ret == 0)
                ret = put(w, map.pblk, map.len);
        ext4_es_forget(&inode->es, w->lblk, w->end, &inode->fs->nr_cached_extents);
        ext4_inode_map_changed(h, inode);
        ext4_inode_store(h, inode, &loc);
        rwsem_write_unlock(&inode->map_lock);
        if (ret == 0)
                step(w, map.len);
        return ret;
}

static int write_indirect(struct blocks *w)
{
        struct ext4_inode *inode = w->inode;
        struct jbd2_handle *h;
        struct ext4_map map;
        int ret;

        rwsem_read_lock(&inode->map_lock);
        ret = ext4_map_lookup_locked(inode, (ext4_lblk_t)w->lblk, 0, &map);
        rwsem_read_unlock(&inode->map_lock);
        if (ret < 0)
                return ret;
        if (map.type != EXT4_MAP_HOLE) {
                uint64_t skip = w->lblk - map.lblk;
                uint64_t len = min_t(uint64_t, map.len - skip, w->end - w->lblk);

                ret = put(w, map.pblk + skip, len);
                if (ret == 0)
                        step(w, len);
                return ret;
        }
        ret = jbd2_start(inode->fs->journal, EXT4_INDIRECT_ALLOC_CREDITS + EXT4_INODE_CREDITS,
                         0, &h);
        if (ret < 0)
                return ret;
        ret = write_new_indirect(w, h);
        return first_error(ret, jbd2_stop(h));
}

/* The size, and the end of being an orphan. */
static int finish(const struct blocks *w)
{
        struct ext4_inode *inode = w->inode;
        struct jbd2_handle *h;
        int ret =
                jbd2_start(inode->fs->journal,
                           EXT4_GROW_CREDITS + EXT4_INODE_CREDITS + EXT4_ORPHAN_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        if (w->size > vfs_size(&inode->vfs))
                ret = ext4_grow(h, inode, w->size);
        if (ret == 0)
                ret = ext4_inode_dirty(h, inode);
        if (ret == 0)
                ret = ext4_orphan_del(h, inode);
        return first_error(ret, jbd2_stop(h));
}

static int write_blocks(struct blocks *w)
{
        struct ext4_inode *inode = w->inode;
        int tries = 0;
        int ret = 0;

        while (w->lblk < w->end) {
                uint64_t before = w->lblk;

                ret = inode->flags & EXT4_FL_EXTENTS ? write_extent(w) : write_indirect(w);
                if (ret == -ENOSPC && ext4_balloc_retry(inode->fs, &tries) > 0)
                        continue;
                if (ret < 0)
                        break;
                if (w->lblk > before)
                        tries = 0;
        }
        if (ret == 0)
                return finish(w);
        /* What was allocated behind the end goes, as after a write that fails. */
        if (ext4_is_orphan(inode) || !(inode->flags & EXT4_FL_EXTENTS))
                ret = first_error(ret, ext4_truncate_tail(inode));
        return ret;
}

static int write_locked(struct blocks *w)
{
        struct ext4_inode *inode = w->inode;
        uint64_t size = vfs_size(&inode->vfs);
        int ret = 0;

        if (inode->flags & EXT4_FL_INLINE_DATA)
                ret = ext4_inline_to_blocks(inode);
        if (ret == 0 && w->size > size) {
                ret = ext4_zero_tail(inode, size);
                if (ret == 0)
                        ret = begin_growing(inode);
        }
        return ret < 0 ? ret : write_blocks(w);
}

int op_write(struct ext4_inode *inode, uint64_t pos, const void *data, size_t len,
             enum op_way way)
{
        const uint64_t bs = inode->fs->block_size;
        const uint64_t first = pos / bs * bs, end = (pos + len + bs - 1) / bs * bs;
        const uint64_t size = vfs_size(&inode->vfs);
        struct blocks w = {
                .inode = inode,
                .lblk = first / bs,
                .end = end / bs,
                .size = max_t(uint64_t, size, pos + len),
                .way = way,
        };
        char *bytes;
        int ret = 0;

        T_CHECK(posix_memalign((void **)&bytes, 4096, (size_t)(end - first)) == 0);
        memset(bytes, 0, (size_t)(end - first));
        if (first < size)
                ret = op_read(inode, first, bytes,
                              (size_t)(min_t(uint64_t, end, size) - first));
        memcpy(bytes + (pos - first), data, len);
        w.data = bytes;
        if (ret == 0) {
                ext4_io_exclude(inode);
                ret = write_locked(&w);
                ext4_io_admit(inode);
        }
        free(bytes);
        return ret;
}

/* ---- free space ---- */

const char *op_check_space(struct rig_mount *m, char *text, size_t size)
{
        const struct ext4_fs *fs = rig_fs(m);
        /* A cluster that the end of the file system cuts is not given out. */
        const uint32_t slack = fs->nr_blocks % (1u << fs->cluster_bits) ? 1 : 0;

        if (op_sync(m) < 0)
                return "sync fails";
        for (ext4_group_t group = 0; group < fs->nr_groups; group++) {
                const struct ext4_group_state *gs = ext4_group_state(fs, group);
                const struct ext4_prealloc *pa;
                uint32_t known = gs->space.total;

                LIST_FOREACH (pa, &gs->windows, link)
                        known += pa->nr;
                if (gs->bad || !gs->loaded || gs->free - known <= slack)
                        continue;
                snprintf(text, size, "group %u: %u clusters are free, %u are known of", group,
                         gs->free, known);
                return text;
        }
        return NULL;
}

/* ---- names ---- */

int op_unlink(struct rig_mount *m, const char *path, const char *name)
{
        struct uext4_inode *dir;
        int ret = uext4_resolve(m->fs, path, 0, &dir);

        if (ret < 0)
                return ret;
        ret = uext4_unlink(dir, name, strlen(name));
        uext4_inode_put(dir);
        return ret;
}

int op_rmdir(struct rig_mount *m, const char *path, const char *name)
{
        struct uext4_inode *dir;
        int ret = uext4_resolve(m->fs, path, 0, &dir);

        if (ret < 0)
                return ret;
        ret = uext4_rmdir(dir, name, strlen(name));
        uext4_inode_put(dir);
        return ret;
}

/* Nobody knows the new inode but us. */
static int new_orphan(struct jbd2_handle *h, struct ext4_inode *dir,
                      struct ext4_inode **ret_inode)
{
        const struct ext4_new_inode want = {.mode = S_IFREG | 0600, .now = ext4_now()};
        struct ext4_inode *inode;
        int ret = ext4_ialloc(h, dir, &want, &inode);

        if (ret < 0)
                return ret;
        inode->nlink = 0;
        ret = ext4_orphan_add(h, inode);
        if (ret == 0)
                ret = ext4_inode_dirty(h, inode);
        *ret_inode = inode;
        return ret;
}

int op_tmpfile(struct rig_mount *m, const char *path, struct ext4_inode **ret_inode)
{
        struct ext4_inode *inode = NULL;
        struct ext4_inode *dir;
        struct jbd2_handle *h;
        int ret = op_get(m, path, &dir);

        if (ret < 0)
                return ret;
        rwsem_write_lock(&dir->vfs.lock);
        ret = jbd2_start(rig_fs(m)->journal,
                         EXT4_IALLOC_CREDITS + EXT4_ORPHAN_CREDITS + EXT4_INODE_CREDITS, 0, &h);
        if (ret == 0) {
                ret = new_orphan(h, dir, &inode);
                ret = first_error(ret, jbd2_stop(h));
        }
        rwsem_write_unlock(&dir->vfs.lock);
        ext4_iput(dir);
        if (ret == 0)
                *ret_inode = inode;
        else
                ext4_iput(inode);
        return ret;
}
