/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ops.h"

#include <linux/fs.h>

#include "ext4/balloc_group.h"
#include "ext4/dir_change.h"
#include "ext4/ialloc.h"
#include "ext4/orphan.h"
#include "ext4/truncate.h"

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

int op_migrate(struct ext4_inode *inode)
{
        uint32_t flags;
        int ret = uext4_get_flags(inode_out(inode), &flags);

        return ret < 0 ? ret : uext4_set_flags(inode_out(inode), flags ^ FS_EXTENT_FL);
}

/* ---- writing ---- */

/* Memory as direct I/O wants it, with these bytes. */
static char *copy_of(const void *data, size_t len)
{
        char *bytes;

        T_CHECK(posix_memalign((void **)&bytes, 4096, len) == 0);
        memcpy(bytes, data, len);
        return bytes;
}

static int open_to_write(struct ext4_inode *inode, uint64_t pos, size_t len, enum op_way way,
                         struct uext4_file **ret_file)
{
        const uint32_t unit = uext4_bdev_geometry(inode->vfs.sb->dev)->logical_block;
        const bool fits = ((pos | len) & (unit - 1)) == 0;

        return uext4_open(inode_out(inode),
                          O_WRONLY | (way == OP_DIRECT && fits ? O_DIRECT : 0), ret_file);
}

int op_write(struct ext4_inode *inode, uint64_t pos, const void *data, size_t len,
             enum op_way way)
{
        const uint64_t size = vfs_size(&inode->vfs);
        char *bytes = copy_of(data, len);
        struct uext4_file *file = NULL;
        size_t done = 0;
        int ret = open_to_write(inode, pos, len, way, &file);

        while (ret == 0 && done < len) {
                ssize_t n = uext4_pwrite(file, bytes + done, len - done, pos + done);

                if (n < 0)
                        ret = (int)n;
                else
                        done += (size_t)n;
        }
        free(bytes);
        /* It is on the device then, not durable, and holds no promise of space; what was
         * written before an error, too.  An error is of this operation. */
        ret = first_error(ret, vfs_pages_flush(&inode->vfs, 0, UINT64_MAX));
        uext4_close(file);
        /* All or nothing is what the models know of the size. */
        if (ret < 0 && vfs_size(&inode->vfs) > size)
                ret = first_error(ext4_truncate(inode, size), ret);
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
        const struct ext4_new_inode want = {.mode = S_IFREG | 0600, .now = ext4_now(dir->fs)};
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
