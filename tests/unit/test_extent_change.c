/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Extent trees that change, on images of mke2fs in memory: one file, against an array that says
 * for each logical block where it is and of what type.  In the end e2fsck looks at the whole
 * image, which finds wrong keys, counts of blocks and bitmaps; and when all is removed every
 * cluster is free again.
 *
 * With lock_debug the journal ends a test whose handles change more than they asked for (J17).
 */

#include "ext4/balloc_group.h"
#include "ext4/extent_change.h"
#include "ext4/extent_edit.h"
#include "ext4/inode_store.h"
#include "ext4/map_change.h"
#include "t_write.h"

#define NR_LBLKS 20000u

struct file {
        struct t_target t;
        uint32_t cluster; /* blocks */
        uint64_t rand;
        uint64_t nr_restarts;
        /* The model. */
        uint64_t pblk[NR_LBLKS];
        uint8_t type[NR_LBLKS];
};

static void file_open(struct file *f, const struct t_config *config)
{
        memset(f, 0, sizeof(*f));
        t_target_open(&f->t, config);
        T_CHECK(f->t.inode->flags & EXT4_FL_EXTENTS);
        f->cluster = 1u << f->t.w.fs->cluster_bits;
        f->t.inode->disk_size = (uint64_t)NR_LBLKS << f->t.w.fs->block_bits;
}

/* ---- handles ---- */

static struct jbd2_handle *begin(struct file *f, uint32_t credits, uint32_t revokes)
{
        struct jbd2_handle *h = t_start(&f->t.w, credits + f->t.keep, revokes);

        rwsem_write_lock(&f->t.inode->map_lock);
        return h;
}

static void store(struct file *f, struct jbd2_handle *h)
{
        T_CHECK(ext4_inode_dirty(h, f->t.inode) == 0);
        ext4_es_clear(&f->t.inode->es, &f->t.w.fs->nr_cached_extents);
        rwsem_write_unlock(&f->t.inode->map_lock);
}

static void end(struct file *f, struct jbd2_handle *h)
{
        store(f, h);
        T_CHECK(jbd2_stop(h) == 0);
}

/* ---- the model ---- */

static uint32_t cluster_from(const struct file *f, uint32_t lblk)
{
        return lblk & ~(f->cluster - 1);
}

/* A block of the same cluster that is mapped, or NR_LBLKS. */
static uint32_t neighbour(const struct file *f, uint32_t lblk)
{
        uint32_t from = cluster_from(f, lblk);

        for (uint32_t i = from; i < from + f->cluster && i < NR_LBLKS; i++)
                if (f->type[i] != EXT4_MAP_HOLE)
                        return i;
        return NR_LBLKS;
}

static void compare(struct file *f)
{
        uint32_t lblk = 0;

        rwsem_read_lock(&f->t.inode->map_lock);
        while (lblk < NR_LBLKS) {
                struct ext4_map map;
                uint64_t to;

                T_CHECK(ext4_extent_lookup(f->t.inode, lblk, 0, &map) == 0);
                to = min_t(uint64_t, ext4_map_end(&map), NR_LBLKS);
                T_CHECK(map.lblk <= lblk && to > lblk);
                for (; lblk < to; lblk++) {
                        T_CHECK(f->type[lblk] == map.type);
                        T_CHECK(map.type == EXT4_MAP_HOLE ||
                                f->pblk[lblk] == map.pblk + (lblk - map.lblk));
                }
        }
        rwsem_read_unlock(&f->t.inode->map_lock);
}

/* ---- the operations, on both ---- */

/* Allocate for [from, to), a hole: less if there are other clusters in the way. */
static struct ext4_map allocate(struct file *f, struct jbd2_handle *h, uint32_t from,
                                uint32_t to, enum ext4_map_type type)
{
        uint32_t base = cluster_from(f, from), near = neighbour(f, from);
        struct ext4_map new = {.lblk = from, .type = type};
        struct ext4_alloc req = {.inode = f->t.inode, .lblk = base, .flags = EXT4_ALLOC_DATA};
        ext4_fsblk_t pblk;
        uint32_t len;

        if (near < NR_LBLKS) {
                new.len = min_t(uint32_t, to, base + f->cluster) - from;
                new.pblk = f->pblk[near] + from - near;
                return new;
        }
        for (uint32_t c = base; c < to; c += f->cluster)
                if (neighbour(f, c) < NR_LBLKS)
                        to = c;
        req.len = (uint32_t)round_up_pow2(to, f->cluster) - base;
        if (t_below(&f->rand, 3) == 0) /* not all in one piece on disk */
                req.goal =
                        f->t.w.fs->first_data_block +
                        t_below(&f->rand, f->t.w.fs->nr_blocks - f->t.w.fs->first_data_block);
        T_CHECK(ext4_balloc(h, &req, &pblk, &len) == 0);
        ext4_prealloc_drop(f->t.inode);
        f->t.inode->blocks += (uint64_t)len << (f->t.w.fs->block_bits - 9);
        new.len = min_t(uint32_t, to, base + len) - from;
        new.pblk = pblk + from - base;
        return new;
}

static uint32_t insert(struct file *f, uint32_t from, uint32_t to, enum ext4_map_type type)
{
        struct jbd2_handle *h =
                begin(f, ext4_extent_change_credits(f->t.inode) + EXT4_BALLOC_CREDITS, 0);
        struct ext4_map new = allocate(f, h, from, to, type);

        T_CHECK(ext4_extent_insert(h, f->t.inode, &new, 0) == 0);
        end(f, h);
        for (uint32_t i = 0; i < new.len; i++) {
                f->type[from + i] = (uint8_t)type;
                f->pblk[from + i] = new.pblk + i;
        }
        return from + (uint32_t) new.len;
}

enum op {
        CONVERT,
        REMOVE,
        SHIFT,
};

static uint32_t op_credits(const struct file *f, enum op op)
{
        return op == REMOVE ? ext4_extent_remove_credits(f->t.inode)
                            : ext4_extent_change_credits(f->t.inode);
}

static uint32_t op_revokes(const struct file *f, enum op op)
{
        return op == REMOVE ? ext4_extent_remove_revokes(f->t.inode) : 0;
}

/* Over as many transactions as it takes. */
static void run(struct file *f, enum op op, uint64_t from, uint64_t to, int64_t arg)
{
        struct ext4_extent_range range = {.from = from, .to = to, .keep = f->t.keep};
        struct jbd2_handle *h = begin(f, op_credits(f, op), op_revokes(f, op));
        int ret = 1;

        range.revokes = op_revokes(f, op);
        while (ret == 1) {
                if (op == CONVERT)
                        ret = ext4_extent_convert(h, f->t.inode, &range,
                                                  (enum ext4_map_type)arg);
                else if (op == REMOVE)
                        ret = ext4_extent_remove(h, f->t.inode, &range);
                else
                        ret = ext4_extent_shift(h, f->t.inode, &range, arg);
                T_CHECK(ret >= 0);
                store(f, h);
                if (ret == 1) {
                        f->nr_restarts++;
                        range.revokes = op_revokes(f, op);
                        T_CHECK(jbd2_restart(h, op_credits(f, op) + f->t.keep, range.revokes) ==
                                0);
                        rwsem_write_lock(&f->t.inode->map_lock);
                }
        }
        T_CHECK(range.from >= range.to);
        T_CHECK(jbd2_stop(h) == 0);
}

static void convert(struct file *f, uint32_t from, uint32_t to, enum ext4_map_type type)
{
        run(f, CONVERT, from, to, type);
        for (uint32_t i = from; i < to; i++)
                if (f->type[i] != EXT4_MAP_HOLE)
                        f->type[i] = (uint8_t)type;
}

static void remove_range(struct file *f, uint32_t from, uint64_t to)
{
        run(f, REMOVE, from, to, 0);
        for (uint32_t i = from; i < to && i < NR_LBLKS; i++)
                f->type[i] = EXT4_MAP_HOLE;
}

/* Whole clusters: [from, NR_LBLKS) moves by delta into a hole. */
static void shift(struct file *f, uint32_t from, int64_t delta)
{
        uint64_t *pblk = t_alloc(sizeof(f->pblk));
        uint8_t *type = t_alloc(sizeof(f->type));

        run(f, SHIFT, from, EXT4_NR_LBLKS, delta);
        memcpy(pblk, f->pblk, sizeof(f->pblk));
        memcpy(type, f->type, sizeof(f->type));
        for (int64_t i = delta < 0 ? from + delta : from; i < (int64_t)NR_LBLKS; i++) {
                int64_t was = i - delta;

                f->type[i] = EXT4_MAP_HOLE;
                if (was >= (int64_t)from && was < (int64_t)NR_LBLKS) {
                        f->type[i] = type[was];
                        f->pblk[i] = pblk[was];
                }
        }
        free(pblk);
        free(type);
}

/* ---- random ---- */

static uint32_t alike_to(const struct file *f, uint32_t from, uint32_t to)
{
        uint32_t i = from + 1;

        while (i < to && f->type[i] == f->type[from])
                i++;
        return i;
}

/* Take out some clusters and close the gap, or make one and fill it up to the end. */
static void random_shift(struct file *f)
{
        uint32_t nr = f->cluster * (1 + (uint32_t)t_below(&f->rand, 8));
        uint32_t from = cluster_from(f, (uint32_t)t_below(&f->rand, NR_LBLKS - 2 * nr));

        if (t_rand(&f->rand) & 1) {
                remove_range(f, from, from + nr);
                shift(f, from + nr, -(int64_t)nr);
        } else {
                remove_range(f, cluster_from(f, NR_LBLKS) - nr, EXT4_NR_LBLKS);
                shift(f, from, nr);
        }
}

static bool has_hole(const struct file *f, uint32_t from, uint32_t to)
{
        for (uint32_t i = from; i < to; i++)
                if (f->type[i] == EXT4_MAP_HOLE)
                        return true;
        return false;
}

static void random_step(struct file *f)
{
        uint32_t from = (uint32_t)t_below(&f->rand, NR_LBLKS);
        uint32_t to = from + 1 + (uint32_t)t_below(&f->rand, t_below(&f->rand, 30) ? 6 : 2000);

        to = min_t(uint32_t, to, NR_LBLKS);
        switch (t_below(&f->rand, 16)) {
        case 0 ... 8:
                if (f->type[from] == EXT4_MAP_HOLE)
                        insert(f, from, min_t(uint32_t, alike_to(f, from, to), from + 300),
                               t_rand(&f->rand) & 1 ? EXT4_MAP_WRITTEN : EXT4_MAP_UNWRITTEN);
                break;
        case 9 ... 11:
                if (!has_hole(f, from, to))
                        convert(f, from, to, EXT4_MAP_WRITTEN);
                break;
        case 12 ... 13:
                convert(f, from, to, EXT4_MAP_UNWRITTEN);
                break;
        default:
                if (t_below(&f->rand, 20) == 0)
                        random_shift(f);
                else
                        remove_range(f, from, to);
        }
}

/* Every third block: nothing that could be joined. */
static void scatter(struct file *f, uint32_t to)
{
        for (uint32_t lblk = 0; lblk < to; lblk += 3 * f->cluster)
                insert(f, lblk, lblk + 1, EXT4_MAP_UNWRITTEN);
}

static void check_all_free(struct file *f)
{
        remove_range(f, 0, EXT4_NR_LBLKS);
        compare(f);
        T_CHECK(ext4_extent_depth(f->t.inode) == 0);
        T_CHECK(f->t.inode->blocks == 0);
        T_CHECK(jbd2_commit_all(f->t.w.fs->journal) == 0);
        T_CHECK(ext4_free_clusters(f->t.w.fs) == f->t.free_before);
}

static const struct t_config configs[] = {
        {"1k", "-b 1024 -O " T_EXT4, 48},
        {"1k, many groups", "-b 1024 -g 1024 -O " T_EXT4, 48},
        {"4k", "-b 4096 -O " T_EXT4, 120},
        {"bigalloc", "-b 1024 -C 8192 -O bigalloc," T_EXT4, 64},
        {"no checksums", "-b 1024 -O " T_EXT4 ",^metadata_csum,^64bit", 48},
        {"no journal", "-b 1024 -O " T_EXT4 ",^has_journal", 48},
};

static void random_changes_equal_the_array(void **state)
{
        const unsigned ops = t_nr_ops(3000);
        struct file *f = t_alloc(sizeof(*f));
        uint64_t seed = t_seed();

        for (size_t c = 0; c < ARRAY_LEN(configs); c++) {
                file_open(f, &configs[c]);
                f->rand = seed;
                scatter(f, NR_LBLKS / 2);
                for (unsigned n = 0; n < ops; n++) {
                        random_step(f);
                        if (n % 256 != 0)
                                continue;
                        compare(f);
                        /* What was freed can be had again. */
                        T_CHECK(jbd2_commit_all(f->t.w.fs->journal) == 0);
                }
                compare(f);
                t_target_close(&f->t, configs[c].name);
        }
        free(f);
}

static void all_is_free_in_the_end(void **state)
{
        struct file *f = t_alloc(sizeof(*f));
        uint64_t seed = t_seed();

        for (size_t c = 0; c < ARRAY_LEN(configs); c++) {
                file_open(f, &configs[c]);
                f->rand = seed + 1;
                scatter(f, NR_LBLKS);
                for (unsigned n = 0; n < 500; n++)
                        random_step(f);
                check_all_free(f);
                t_target_close(&f->t, configs[c].name);
        }
        free(f);
}

/* ---- one thing each ---- */

static void growing_at_the_end_leaves_full_nodes(void **state)
{
        static const struct t_config config = {"1k", "-b 1024 -O " T_EXT4, 48};
        struct file *f = t_alloc(sizeof(*f));
        uint64_t nr_extents = 0, nr_nodes;

        file_open(f, &config);
        for (uint32_t lblk = 0; lblk < NR_LBLKS; lblk += 2, nr_extents++)
                insert(f, lblk, lblk + 1, EXT4_MAP_WRITTEN);
        compare(f);
        assert_int_equal(ext4_extent_depth(f->t.inode), 2);
        nr_nodes = f->t.inode->blocks / 2 - nr_extents;
        /* A node that was split at its end lacks one entry of 84. */
        assert_true(nr_nodes <= nr_extents / 83 + nr_extents / 83 / 83 + 4);
        check_all_free(f);
        t_target_close(&f->t, config.name);
        free(f);
}

/* Each leaf is changed, and a small journal has not the room for all in one transaction. */
static void work_goes_on_after_a_restart(void **state)
{
        static const struct t_config config = {"1k", "-b 1024 -J size=1 -O " T_EXT4, 48};
        struct file *f = t_alloc(sizeof(*f));

        file_open(f, &config);
        /* Downwards: the leaves are half full. */
        for (uint32_t lblk = NR_LBLKS - 4; lblk > 0; lblk -= 2)
                insert(f, lblk, lblk + 1, lblk & 2 ? EXT4_MAP_UNWRITTEN : EXT4_MAP_WRITTEN);
        T_CHECK(jbd2_commit_all(f->t.w.fs->journal) == 0);
        f->t.keep = jbd2_max_credits(f->t.w.fs->journal) - op_credits(f, REMOVE);
        shift(f, 1, 2);
        assert_true(f->nr_restarts > 0);
        compare(f);
        f->nr_restarts = 0;
        shift(f, 4, -2);
        assert_true(f->nr_restarts > 0);
        compare(f);
        f->nr_restarts = 0;
        convert(f, 0, NR_LBLKS, EXT4_MAP_UNWRITTEN);
        assert_true(f->nr_restarts > 0);
        compare(f);
        check_all_free(f);
        t_target_close(&f->t, config.name);
        free(f);
}

static void shift_beyond_the_largest_file_is_refused(void **state)
{
        static const struct t_config config = {"1k", "-b 1024 -O " T_EXT4, 48};
        struct ext4_extent_range range = {.from = 0, .to = EXT4_NR_LBLKS, .keep = 1};
        struct file *f = t_alloc(sizeof(*f));
        struct jbd2_handle *h;

        file_open(f, &config);
        insert(f, 10, 12, EXT4_MAP_WRITTEN);
        h = begin(f, ext4_extent_shift_credits(f->t.inode), 0);
        assert_int_equal(ext4_extent_shift(h, f->t.inode, &range, EXT4_NR_LBLKS - 11), -EFBIG);
        end(f, h);
        compare(f);
        check_all_free(f);
        t_target_close(&f->t, config.name);
        free(f);
}

static void what_is_mapped_is_not_mapped_again(void **state)
{
        static const struct t_config config = {"1k", "-b 1024 -O " T_EXT4, 48};
        const struct ext4_map twice = {11, 1, 5000, EXT4_MAP_WRITTEN};
        struct ext4_extent_range hole = {.from = 9, .to = 11, .keep = 1};
        struct file *f = t_alloc(sizeof(*f));
        struct jbd2_handle *h;

        file_open(f, &config);
        insert(f, 10, 12, EXT4_MAP_UNWRITTEN);
        h = begin(f, ext4_extent_change_credits(f->t.inode), 0);
        assert_int_equal(ext4_extent_insert(h, f->t.inode, &twice, 0), -EUCLEAN);
        assert_int_equal(ext4_extent_convert(h, f->t.inode, &hole, EXT4_MAP_WRITTEN), -EUCLEAN);
        end(f, h);
        compare(f);
        t_target_close(&f->t, config.name);
        free(f);
}

/* ---- no space for a node (C33, C34) ---- */

/* Everything that is free for who has these rights is somebody else's: `left` clusters stay. */
static void fill_device(struct file *f, unsigned rights, uint64_t left)
{
        const struct ext4_alloc req = {
                .inode = f->t.inode,
                .len = 1u << 15,
                .flags = EXT4_ALLOC_DATA | EXT4_ALLOC_NO_WINDOW | rights,
        };
        int ret = 0;

        while (ret == 0) {
                struct jbd2_handle *h = begin(f, EXT4_BALLOC_CREDITS, 0);
                ext4_fsblk_t pblk;
                uint32_t len;

                ret = ext4_balloc(h, &req, &pblk, &len);
                end(f, h);
        }
        T_CHECK(ret == -ENOSPC && ext4_free_clusters(f->t.w.fs) == left);
}

#define STALE 0x5a

/*
 * A leaf (the root: four entries) that is full, with one unwritten extent of 100 blocks in it.
 * What that has on the device was there before.
 */
static void full_root(struct file *f, uint64_t size_blocks)
{
        struct ext4_extent_header *root = (void *)f->t.inode->block;
        uint32_t lblk = 2000;
        uint32_t bits = f->t.w.fs->block_bits;

        T_CHECK(insert(f, 100, 200, EXT4_MAP_UNWRITTEN) == 200);
        memset(f->t.img.data + (f->pblk[100] << bits), STALE, 100ul << bits);
        while (ext4_node_entries(root) < 4) {
                insert(f, lblk, lblk + 1, EXT4_MAP_UNWRITTEN);
                lblk += 2;
        }
        f->t.inode->disk_size = size_blocks << bits;
}

static void check_bytes(const struct file *f, uint32_t from, uint32_t to, int byte)
{
        uint32_t bits = f->t.w.fs->block_bits;

        for (uint32_t lblk = from; lblk < to; lblk++) {
                const char *p = f->t.img.data + (f->pblk[lblk] << bits);

                for (uint32_t i = 0; i < 1u << bits; i++)
                        T_CHECK((uint8_t)p[i] == byte);
        }
}

static void check_type(struct file *f, uint32_t from, uint32_t to, enum ext4_map_type type)
{
        for (uint32_t lblk = from; lblk < to; lblk++) {
                struct ext4_map map;

                T_CHECK(ext4_extent_lookup(f->t.inode, lblk, 0, &map) == 0);
                T_CHECK(map.type == type);
        }
}

static void without_a_node_the_rest_is_zeroed(void **state)
{
        static const struct t_config config = {"1k", "-b 1024 -O ^resize_inode," T_EXT4, 48};
        static const struct {
                const char *name;
                uint64_t size; /* of the file, in blocks */
                uint32_t from, to;
                uint32_t want_from, want_to; /* what is written then; nothing: -ENOSPC */
                uint32_t nr_direct, nr_due;  /* requests, and folios, under way */
        } rows[] = {
                {"middle: all of it", 1000, 140, 150, 100, 200},
                {"head", 1000, 100, 150, 100, 200},
                {"tail", 1000, 150, 200, 100, 200},
                {"whole: no node is needed", 1000, 100, 200, 100, 200},
                {"tail at the end of the file", 200, 150, 200, 100, 200},
                {"not behind the end of the file", 160, 140, 150, 0, 0},
                {"one's own request", 1000, 140, 150, 100, 200, 1, 0},
                {"not beside another direct write", 1000, 140, 150, 0, 0, 2, 0},
                {"not beside one that writes back", 1000, 140, 150, 0, 0, 1, 1},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct ext4_extent_range range = {rows[i].from, rows[i].to, 1, 0};
                struct file *f = t_alloc(sizeof(*f));
                struct jbd2_handle *h;
                int ret;

                file_open(f, &config);
                full_root(f, rows[i].size);
                fill_device(f, EXT4_ALLOC_RIGHTS, 0);
                h = begin(f, ext4_extent_change_credits(f->t.inode), 0);
                atomic_store(&f->t.inode->vfs.dio.nr, rows[i].nr_direct);
                atomic_store(&f->t.inode->vfs.pages.nr_due, rows[i].nr_due);
                ret = ext4_extent_convert(h, f->t.inode, &range, EXT4_MAP_WRITTEN);
                atomic_store(&f->t.inode->vfs.dio.nr, 0);
                atomic_store(&f->t.inode->vfs.pages.nr_due, 0);
                t_assert_row(rows[i].name, ret, rows[i].want_to ? 0 : -ENOSPC);
                if (rows[i].want_to) {
                        check_type(f, rows[i].want_from, rows[i].want_to, EXT4_MAP_WRITTEN);
                        /* What was written stays, what was not is zeros. */
                        check_bytes(f, rows[i].want_from, rows[i].from, 0);
                        check_bytes(f, rows[i].from, rows[i].to, STALE);
                        check_bytes(f, rows[i].to, rows[i].want_to, 0);
                } else {
                        check_type(f, 100, 200, EXT4_MAP_UNWRITTEN);
                        check_bytes(f, 100, 200, STALE);
                }
                end(f, h);
                ext4_iput(f->t.inode);
                T_CHECK(t_write_end(&f->t.w) == 0);
                assert_null(t_fsck(&f->t.img, true));
                t_image_free(&f->t.img);
                free(f);
        }
}

/* One block that is not beside any other: one extent more. */
static int map_one(struct file *f, unsigned rights)
{
        const struct ext4_map_request req = {
                .lblk = 5000, .len = 1, .type = EXT4_MAP_WRITTEN, .alloc_flags = rights};
        struct jbd2_handle *h = t_start(&f->t.w, ext4_map_alloc_credits(f->t.inode), 0);
        struct ext4_map map;
        int ret = ext4_map_alloc(h, f->t.inode, &req, &map);

        T_CHECK(jbd2_stop(h) == 0);
        return ret;
}

/* One or two more: the extent of 100 blocks is cut. */
static int convert_some(struct file *f, unsigned rights)
{
        struct ext4_extent_range range = {
                .from = 140, .to = 150, .keep = f->t.keep, .alloc_flags = rights};
        struct jbd2_handle *h = begin(f, ext4_extent_change_credits(f->t.inode), 0);
        int ret = ext4_extent_convert(h, f->t.inode, &range, EXT4_MAP_UNWRITTEN);

        end(f, h);
        return ret;
}

static int move_some(struct file *f, unsigned rights)
{
        struct ext4_extent_range range = {
                .from = 140, .to = EXT4_NR_LBLKS, .keep = f->t.keep, .alloc_flags = rights};
        struct jbd2_handle *h = begin(f, ext4_extent_shift_credits(f->t.inode), 0);
        int ret = ext4_extent_shift(h, f->t.inode, &range, 10);

        end(f, h);
        return ret;
}

/* B16, C33: whoever may have reserved blocks for data may have them for the nodes of the map;
 * the full root becomes two levels.  For nobody else: nothing changes. */
static void nodes_are_allocated_with_the_right_to_the_reserve(void **state)
{
        static const struct t_config config = {"1k", "-b 1024 -O ^resize_inode," T_EXT4, 48};
        static const struct {
                const char *name;
                int (*change)(struct file *f, unsigned rights);
                unsigned too_few, enough; /* rights; for those too few there is no space */
        } rows[] = {
                {"allocating, the reserve", map_one, 0, EXT4_ALLOC_RESERVED},
                {"allocating, the pool", map_one, EXT4_ALLOC_RESERVED, EXT4_ALLOC_POOL},
                {"converting", convert_some, 0, EXT4_ALLOC_RESERVED},
                {"moving", move_some, 0, EXT4_ALLOC_RESERVED},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct file *f = t_alloc(sizeof(*f));
                uint64_t left;

                file_open(f, &config);
                full_root(f, 6000);
                convert(f, 100, 200, EXT4_MAP_WRITTEN);
                left = f->t.w.fs->balloc->pool;
                if (rows[i].too_few == 0)
                        left += f->t.w.fs->balloc->reserved;
                fill_device(f, rows[i].too_few, left);
                t_assert_row(rows[i].name, rows[i].change(f, rows[i].too_few), -ENOSPC);
                t_assert_row(rows[i].name, ext4_extent_depth(f->t.inode), 0);
                t_assert_row(rows[i].name, ext4_free_clusters(f->t.w.fs), left);
                t_assert_row(rows[i].name, rows[i].change(f, rows[i].enough), 0);
                t_assert_row(rows[i].name, ext4_extent_depth(f->t.inode), 1);
                t_target_close(&f->t, rows[i].name);
                free(f);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_mapped_is_not_mapped_again),
                cmocka_unit_test(growing_at_the_end_leaves_full_nodes),
                cmocka_unit_test(work_goes_on_after_a_restart),
                cmocka_unit_test(shift_beyond_the_largest_file_is_refused),
                cmocka_unit_test(without_a_node_the_rest_is_zeroed),
                cmocka_unit_test(nodes_are_allocated_with_the_right_to_the_reserve),
                cmocka_unit_test(random_changes_equal_the_array),
                cmocka_unit_test(all_is_free_in_the_end),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
