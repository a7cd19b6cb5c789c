/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/xattr_plan.h"

#include "ext4/xattr_change.h"
#include "ext4/xattr_value.h"
#include "util/alloc.h"

/*
 * Both runs are taken to sets in memory, the name is taken out of both, and put where it has
 * room; then both are built as they are to be.  On disk nothing changes, but for a large
 * value, which is an orphan as yet.
 */

/* With no handle open: a value without entries is deleted here. */
void ext4_xattr_plan_done(struct ext4_xattr_plan *c)
{
        ext4_xattr_set_done(&c->ibody);
        ext4_xattr_set_done(&c->block);
        mem_free(c->new_ibody);
        mem_free(c->new_block);
        buf_put(c->old);
        ext4_iput(c->fresh);
        for (size_t i = 0; i < c->nr_drops; i++)
                ext4_iput(c->drops[i].value);
        for (size_t i = 0; i < c->nr_shares; i++)
                ext4_iput(c->shares[i]);
        mem_free(c->shares);
        mem_free(c->share_locs);
}

/* ---- load ---- */

static int load(struct ext4_xattr_plan *c)
{
        struct ext4_inode *inode = c->inode;
        const struct buf_check check = {.verify = ext4_xattr_block_verify, .arg = inode->fs};
        const struct ext4_xattr_header *header;
        struct mtx *lock;
        int ret = ext4_xattr_set_of_ibody(&c->ibody, inode->ibody, inode->ibody_size);

        if (ret < 0)
                return ret;
        if (inode->file_acl == 0)
                return ext4_xattr_set_of_block(&c->block, NULL, 0);
        ret = buf_read(inode->fs->bufs, inode->file_acl, &check, 0, &c->old);
        if (ret < 0)
                return ret;
        header = c->old->data;
        /* Another owner may be giving it up: the count goes with this lock. */
        lock = ext4_inode_raw_lock(inode->fs->inodes, inode->file_acl);
        mtx_lock(lock);
        c->shared = le32_get(header->h_refcount) > 1;
        mtx_unlock(lock);
        return ext4_xattr_set_of_block(&c->block, c->old->data, inode->fs->block_size);
}

/* ---- plan ---- */

static uint64_t value_sectors(const struct ext4_fs *fs, uint32_t size)
{
        return round_up_pow2((uint64_t)size, (uint64_t)fs->block_size << fs->cluster_bits) >> 9;
}

/* A value that loses an entry.  One that is not there can lose nothing. */
static int plan_drop(struct ext4_xattr_plan *c, const struct ext4_xattr_item *item,
                     bool loses_reference)
{
        const struct ext4_where at = ext4_at(c->inode, 0);
        struct ext4_inode *value;
        int ret;

        if (c->nr_drops == EXT4_XATTR_MAX_DROPS)
                return ext4_corrupt(&at, "an attribute is there more than twice");
        ret = ext4_iget(c->inode->fs, item->inum, &value);
        if (ret == -ESTALE || ext4_is_damage(ret))
                return 0;
        if (ret < 0)
                return ret;
        c->drops[c->nr_drops].loses_reference = loses_reference;
        c->drops[c->nr_drops++].value = value;
        if (!(value->flags & EXT4_FL_EA_INODE))
                return ext4_corrupt(&at, "attribute value in inode %u, which is none",
                                    item->inum);
        if (!ext4_value_is_lustre(value, c->inode))
                c->less_sectors += value_sectors(c->inode->fs, item->size);
        return 0;
}

/* Take the name out of a set, all of them: the first is the one that was seen. */
static int plan_removal(struct ext4_xattr_plan *c, struct ext4_xattr_set *set, bool *ret_found)
{
        const struct ext4_xattr_key *key = &c->order->key;
        size_t i = 0;

        while ((i = ext4_xattr_set_find(set, key, i)) < set->nr) {
                int ret = 0;

                if (set->items[i].inum != 0)
                        ret = plan_drop(c, &set->items[i], set == &c->ibody || !c->shared);
                if (ret < 0)
                        return ret;
                ext4_xattr_set_remove(set, i);
                *ret_found = true;
        }
        return 0;
}

/* Where an entry with a value of `size` bytes beside it has room, or NULL. */
static struct ext4_xattr_set *find_room(struct ext4_xattr_plan *c,
                                        const struct ext4_xattr_key *key, size_t size)
{
        const struct ext4_inode *inode = c->inode;
        size_t need = sizeof(struct ext4_xattr_entry) + round_up_pow2(key->len, 4) +
                      round_up_pow2(size, 4);

        if (ext4_xattr_set_size(&c->ibody) + need <= ext4_xattr_ibody_room(inode->ibody_size))
                return &c->ibody;
        if (ext4_xattr_set_size(&c->block) + need <=
            ext4_xattr_block_room(inode->fs->block_size))
                return &c->block;
        return NULL;
}

static int plan_value(struct ext4_xattr_plan *c, bool *ret_in_ibody, bool *ret_in_block)
{
        const struct ext4_xattr_order *o = c->order;
        struct ext4_xattr_item item = {
                .key = o->key, .value = o->value, .size = (uint32_t)o->size};
        struct ext4_xattr_set *set = find_room(c, &o->key, o->size);
        int ret;

        if (!set) {
                set = find_room(c, &o->key, 0);
                if (!set || o->size == 0 || !ext4_value_possible(c->inode->fs)) {
                        c->no_room = true;
                        return -ENOSPC;
                }
                ret = ext4_value_new(c->inode, o->value, item.size, &c->fresh);
                if (ret < 0)
                        return ret;
                c->more_sectors = value_sectors(c->inode->fs, item.size);
                item.value = NULL;
                item.inum = ext4_ino(c->fresh);
                item.hash = ext4_xattr_hash_outside(&o->key, ext4_value_hash(c->fresh));
        } else if (set == &c->block) {
                item.hash = ext4_xattr_hash_value(&o->key, o->value, o->size);
        }
        ext4_xattr_set_add(set, &item);
        *ret_in_ibody |= set == &c->ibody;
        *ret_in_block |= set == &c->block;
        return 0;
}

/* All values that the copy of a block names, but for the new one. */
static int plan_shares(struct ext4_xattr_plan *c)
{
        const struct ext4_where at = ext4_at(c->inode, 0);

        c->shares = mem_zalloc((c->block.nr + 1) * sizeof(*c->shares));
        c->share_locs = mem_zalloc((c->block.nr + 1) * sizeof(*c->share_locs));
        if (!c->shares || !c->share_locs)
                return -ENOMEM;
        for (size_t i = 0; i < c->block.nr; i++) {
                uint32_t ino = c->block.items[i].inum;
                int ret;

                if (ino == 0 || (c->fresh && ino == ext4_ino(c->fresh)))
                        continue;
                ret = ext4_iget(c->inode->fs, ino, &c->shares[c->nr_shares]);
                if (ret < 0)
                        return ret == -ESTALE ? ext4_corrupt(&at,
                                                             "attribute value in inode "
                                                             "%u, which is free",
                                                             ino)
                                              : ret;
                if (!(c->shares[c->nr_shares++]->flags & EXT4_FL_EA_INODE))
                        return ext4_corrupt(&at, "attribute value in inode %u, which is none",
                                            ino);
        }
        return 0;
}

static void plan_block(struct ext4_xattr_plan *c)
{
        const struct ext4_fs *fs = c->inode->fs;
        uint64_t sectors = (uint64_t)fs->block_size >> 9 << fs->cluster_bits;

        if (!c->old)
                c->action = EXT4_XATTR_BLOCK_NEW;
        else if (c->shared)
                c->action = c->block.nr > 0 ? EXT4_XATTR_BLOCK_COPY : EXT4_XATTR_BLOCK_LEAVE;
        else
                c->action = c->block.nr > 0 ? EXT4_XATTR_BLOCK_EDIT : EXT4_XATTR_BLOCK_FREE;
        if (c->action == EXT4_XATTR_BLOCK_NEW)
                c->more_sectors += sectors;
        else if (c->block.nr == 0)
                c->less_sectors += sectors;
}

/* Values that overlap on disk may need more room than there is. */
static int check_sizes(const struct ext4_xattr_plan *c)
{
        const struct ext4_where at = ext4_at(c->inode, 0);

        if ((c->ibody_changed && c->ibody.nr > 0 &&
             ext4_xattr_set_size(&c->ibody) > ext4_xattr_ibody_room(c->inode->ibody_size)) ||
            (c->action != EXT4_XATTR_BLOCK_STAYS &&
             ext4_xattr_set_size(&c->block) > ext4_xattr_block_room(c->inode->fs->block_size)))
                return ext4_corrupt(&at, "attribute values overlap");
        if (c->inode->blocks + c->more_sectors > ext4_inode_max_blocks(c->inode->fs))
                return -EFBIG;
        return 0;
}

static int build_ibody(struct ext4_xattr_plan *c)
{
        c->new_ibody = mem_alloc(c->inode->ibody_size);
        if (!c->new_ibody)
                return -ENOMEM;
        ext4_xattr_build_ibody(&c->ibody, c->new_ibody, c->inode->ibody_size);
        return 0;
}

static int build_block(struct ext4_xattr_plan *c)
{
        uint32_t size = c->inode->fs->block_size;

        c->new_block = mem_alloc(size);
        if (!c->new_block)
                return -ENOMEM;
        ext4_xattr_build_block(&c->block, c->new_block, size);
        return 0;
}

static int check_presence(const struct ext4_xattr_order *o, bool found)
{
        if (found)
                return o->flags & EXT4_XATTR_CREATE ? -EEXIST : 0;
        if (!o->value)
                return o->absent_is_fine ? 0 : -ENODATA;
        return o->flags & EXT4_XATTR_REPLACE ? -ENODATA : 0;
}

static int plan(struct ext4_xattr_plan *c)
{
        bool in_ibody = false, in_block = false;
        int ret = plan_removal(c, &c->ibody, &in_ibody);

        if (ret == 0)
                ret = plan_removal(c, &c->block, &in_block);
        if (ret == 0)
                ret = check_presence(c->order, in_ibody || in_block);
        if (ret == 0 && c->order->value)
                ret = plan_value(c, &in_ibody, &in_block);
        if (ret < 0)
                return ret;
        c->ibody_changed = in_ibody;
        if (in_block)
                plan_block(c);
        ret = check_sizes(c);
        if (ret == 0 && c->ibody_changed)
                ret = build_ibody(c);
        if (ret == 0 && c->action != EXT4_XATTR_BLOCK_STAYS && c->block.nr > 0)
                ret = build_block(c);
        if (ret == 0 && c->action == EXT4_XATTR_BLOCK_COPY)
                ret = plan_shares(c);
        return ret;
}

int ext4_xattr_plan_make(struct ext4_xattr_plan *c)
{
        int ret = load(c);

        return ret < 0 ? ret : plan(c);
}

/* ---- how much there is ---- */

static int sectors_of_set(const struct ext4_inode *inode, const struct ext4_xattr_set *set,
                          uint64_t *nr)
{
        for (size_t i = 0; i < set->nr; i++) {
                bool is_lustre;
                int ret;

                if (set->items[i].inum == 0)
                        continue;
                ret = ext4_value_find_lustre(inode, set->items[i].inum, &is_lustre);
                if (ret < 0)
                        return ret;
                if (!is_lustre)
                        *nr += value_sectors(inode->fs, set->items[i].size);
        }
        return 0;
}

int ext4_xattr_sectors(struct ext4_inode *inode, uint64_t *ret_nr)
{
        const struct ext4_fs *fs = inode->fs;
        struct ext4_xattr_plan c = {.inode = inode};
        int ret = load(&c);

        *ret_nr = inode->file_acl ? (uint64_t)fs->block_size >> 9 << fs->cluster_bits : 0;
        if (ret == 0)
                ret = sectors_of_set(inode, &c.ibody, ret_nr);
        if (ret == 0)
                ret = sectors_of_set(inode, &c.block, ret_nr);
        ext4_xattr_plan_done(&c);
        return ret;
}
