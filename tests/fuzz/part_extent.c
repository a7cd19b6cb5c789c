/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Part of an image: the extent tree of a file, the root in its inode and all nodes. */

#include "part.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/extent_edit.h"
#include "util/crc.h"

#define MAX_CALLS   10u
#define MAX_EXTENTS 256u
#define MAX_PIECE   (5u << 10) /* of what is read and written */

struct extent_run {
        struct part_run *run;
        struct uext4_file *file;
        struct uext4_stat st;
};

/* ---- where it is ---- */

/* A node and those below it. */
static void find_nodes(struct part_place *place, struct ext4_inode *inode,
                       const struct ext4_extent_header *eh)
{
        if (ext4_node_depth(eh) == 0)
                return;
        for (unsigned i = 0; i < ext4_node_entries(eh); i++) {
                uint64_t blk = ext4_node_child(eh, i);
                struct buf *buf;

                part_add_piece(place, blk * inode->fs->block_size, inode->fs->block_size);
                promise(ext4_extent_read_node(inode, blk, (int)ext4_node_depth(eh) - 1, 0,
                                              &buf) == 0);
                find_nodes(place, inode, buf->data);
                buf_put(buf);
        }
}

static void find(struct part_place *place, struct ext4_inode *inode)
{
        part_add_piece(place, place->inode_pos + offsetof(struct ext4_inode_disk, i_block),
                       EXT4_I_BLOCK_SIZE);
        find_nodes(place, inode, (const void *)inode->block);
}

static void seal(const struct part_place *place, unsigned piece, uint8_t *bytes)
{
        const struct ext4_extent_header *eh = (const void *)bytes;
        const size_t tail = sizeof(*eh) + ext4_node_max(eh) * sizeof(struct ext4_extent_disk);
        uint32_t crc;

        if (piece == 0 || tail + sizeof(crc) > place->fs.block_size)
                return;
        crc = crc32c(place->csum_seed, bytes, tail);
        memcpy(bytes + tail, &crc, sizeof(crc));
}

/* ---- the work ---- */

/* What there is: in order, nothing twice. */
static void read_all(struct extent_run *e)
{
        struct fiemap_extent fe[MAX_EXTENTS];
        uint64_t end = 0;
        int64_t nr = PART_EXPECT(e->run, uext4_fiemap(e->file, 0, UINT64_MAX, fe, MAX_EXTENTS));

        for (int64_t i = 0; i < nr; i++) {
                promise(fe[i].fe_length > 0 && fe[i].fe_logical >= end);
                end = fe[i].fe_logical + fe[i].fe_length;
                promise(end > fe[i].fe_logical);
        }
}

/* Ends and neighbours of what may be there. */
static uint64_t choose_pos(struct extent_run *e)
{
        const uint64_t block = e->st.blksize;
        uint64_t pos;

        switch (part_choose(e->run, 5)) {
        case 0:
                pos = part_choose(e->run, e->st.size + 3 * block);
                break;
        case 1:
                pos = e->st.size;
                break;
        case 2:
                pos = 1ull << part_choose(e->run, 43);
                break;
        default:
                pos = part_choose(e->run, 1000) * block;
        }
        return part_choose(e->run, 4) ? pos / block * block : pos;
}

static uint64_t choose_len(struct extent_run *e)
{
        switch (part_choose(e->run, 4)) {
        case 0:
                return 1 + part_choose(e->run, MAX_PIECE);
        case 1:
                return 1ull << part_choose(e->run, 43);
        default:
                return e->st.blksize * (1 + part_choose(e->run, 20));
        }
}

#define SPACE_ERRORS EFBIG, EINVAL, EPERM, ENOSPC, EOPNOTSUPP, ENXIO

static void seek_it(struct extent_run *e)
{
        uint64_t pos = choose_pos(e);
        int64_t ret = PART_EXPECT(
                e->run,
                uext4_seek(e->file, pos, part_choose(e->run, 2) ? SEEK_DATA : SEEK_HOLE),
                ENXIO);

        promise(ret < 0 || (uint64_t)ret >= pos);
}

static void read_it(struct extent_run *e)
{
        size_t len = 1 + (size_t)part_choose(e->run, MAX_PIECE);
        uint8_t *buf = must_alloc(len);
        int64_t ret =
                PART_EXPECT(e->run, uext4_pread(e->file, buf, len, choose_pos(e)), EINVAL);

        promise(ret <= (int64_t)len);
        free(buf);
}

static void write_it(struct extent_run *e)
{
        size_t len = 1 + (size_t)part_choose(e->run, MAX_PIECE);
        uint8_t *buf = must_alloc(len);
        int64_t ret;

        memset(buf, 'w', len);
        ret = PART_EXPECT(e->run, uext4_pwrite(e->file, buf, len, choose_pos(e)), SPACE_ERRORS);
        promise(ret < 0 || (ret > 0 && ret <= (int64_t)len));
        free(buf);
}

static void truncate_it(struct extent_run *e)
{
        PART_EXPECT(e->run, uext4_truncate(e->file, choose_pos(e)), SPACE_ERRORS);
}

static void fallocate_it(struct extent_run *e)
{
        PART_EXPECT(e->run,
                    uext4_fallocate(e->file, choose_fallocate_mode(&e->run->choice),
                                    choose_pos(e), choose_len(e)),
                    SPACE_ERRORS);
}

static void sync_it(struct extent_run *e)
{
        PART_EXPECT(e->run, uext4_fsync(e->file), ENOSPC, EIO);
}

static void change(struct extent_run *e)
{
        static void (*const calls[])(struct extent_run * e) = {
                seek_it,      read_it,      write_it,     write_it,     truncate_it,
                fallocate_it, fallocate_it, fallocate_it, fallocate_it, sync_it};

        for (unsigned nr = 1 + (unsigned)part_choose(e->run, MAX_CALLS); nr > 0; nr--) {
                promise(uext4_stat(e->run->inode, &e->st) == 0);
                calls[part_choose(e->run, sizeof(calls) / sizeof(calls[0]))](e);
        }
}

static void work(struct part_run *run)
{
        struct extent_run e = {.run = run};

        promise(uext4_stat(run->inode, &e.st) == 0);
        if (PART_EXPECT(run,
                        uext4_open(run->inode, O_RDWR | (part_choose(run, 3) ? 0 : O_DSYNC),
                                   &e.file),
                        EPERM) < 0)
                return;
        read_all(&e);
        change(&e);
        read_all(&e);
        uext4_close(e.file);
}

const struct part part = {
        .images = {{"extents.img", "/many"},
                   {"deep.img", "/deep"},
                   {"extents.img", "/d/unwritten"}},
        .find = find,
        .seal = seal,
        .work = work,
};
