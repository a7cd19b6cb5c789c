/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Extent nodes and trees.  Nodes are made valid and then wrong in one field, a row each; trees
 * are built in a memory device and asked for every block.
 */

#include "t_fs.h"

#define BITS      10 /* 1 KiB: block 0 is outside, as the first data block is 1 */
#define NODE_SIZE 1024u
#define ROOM      84u /* entries in a block */
#define NR_BLOCKS (1u << 17)
#define SEED      0x12345678u

/* ---- making nodes ---- */

static struct ext4_extent_header *header(void *node)
{
        return node;
}

static void node_init(void *node, size_t size, unsigned depth)
{
        memset(node, 0, size);
        *header(node) = (struct ext4_extent_header){
                .eh_magic = le16_make(EXT4_EXTENT_MAGIC),
                .eh_max = le16_make((uint16_t)((size - 12) / 12)),
                .eh_depth = le16_make((uint16_t)depth),
        };
}

static void *entry_new(void *node)
{
        unsigned n = le16_get(header(node)->eh_entries);

        T_CHECK(n < le16_get(header(node)->eh_max));
        header(node)->eh_entries = le16_make((uint16_t)(n + 1));
        return (char *)node + 12 + 12 * n;
}

/* len as on disk: more than 32768 is unwritten (B18) */
static void add_extent(void *node, uint32_t lblk, uint32_t disk_len, uint64_t pblk)
{
        struct ext4_extent_disk *ex = entry_new(node);

        ex->ee_block = le32_make(lblk);
        ex->ee_len = le16_make((uint16_t)disk_len);
        ex->ee_start_lo = le32_make((uint32_t)pblk);
        ex->ee_start_hi = le16_make((uint16_t)(pblk >> 32));
}

static void add_index(void *node, uint32_t lblk, uint64_t child)
{
        struct ext4_extent_index *ei = entry_new(node);

        ei->ei_block = le32_make(lblk);
        ei->ei_leaf_lo = le32_make((uint32_t)child);
        ei->ei_leaf_hi = le16_make((uint16_t)(child >> 32));
        ei->ei_unused = le16_make(0);
}

static void seal(void *node, uint32_t seed)
{
        size_t tail = 12 + 12u * le16_get(header(node)->eh_max);
        le32 crc = le32_make(crc32c(seed, node, tail));

        memcpy((char *)node + tail, &crc, sizeof(crc));
}

/* ---- single nodes ---- */

enum base {
        LEAF,
        INDEX,
        ROOT_LEAF,
        ROOT_INDEX,
};

static size_t make_base(enum base base, char *node)
{
        bool is_root = base == ROOT_LEAF || base == ROOT_INDEX;
        size_t size = is_root ? EXT4_I_BLOCK_SIZE : NODE_SIZE;

        if (base == LEAF || base == ROOT_LEAF) {
                node_init(node, size, 0);
                add_extent(node, 0, 10, 100);
                add_extent(node, 10, 32768 + 5, 200);
                add_extent(node, 20, 32768, 1000);
        } else {
                node_init(node, size, 1);
                add_index(node, 0, 50);
                add_index(node, 100, 51);
                add_index(node, 200, 52);
        }
        return size;
}

/* Places in a node. */
#define H(field)     offsetof(struct ext4_extent_header, field)
#define EX(n, field) (12 + 12 * (n) + offsetof(struct ext4_extent_disk, field))
#define EI(n, field) (12 + 12 * (n) + offsetof(struct ext4_extent_index, field))
#define END_OF_FILE  0xffffffffu

static const struct {
        const char *name;
        enum base base;
        struct {
                size_t at;
                unsigned width; /* 0: nothing is changed */
                uint32_t value;
        } change[3];
        int want;
        const char *said;
} fields[] = {
        {"valid leaf", LEAF, {}, 0, NULL},
        {"valid index", INDEX, {}, 0, NULL},
        {"valid root leaf", ROOT_LEAF, {}, 0, NULL},
        {"valid root index", ROOT_INDEX, {}, 0, NULL},

        {"magic", LEAF, {{H(eh_magic), 2, 0xf30b}}, -EUCLEAN, "magic is f30b"},
        {"magic of zeros", LEAF, {{H(eh_magic), 2, 0}}, -EUCLEAN, "magic is 0000"},
        {"magic of a root", ROOT_LEAF, {{H(eh_magic), 2, 0x0af3}}, -EUCLEAN, "magic"},
        {"depth beyond all", LEAF, {{H(eh_depth), 2, 6}}, -EUCLEAN, "depth 6"},
        {"depth beyond all in a root", ROOT_LEAF, {{H(eh_depth), 2, 6}}, -EUCLEAN, "depth 6"},
        {"depth of 65535", ROOT_INDEX, {{H(eh_depth), 2, 65535}}, -EUCLEAN, "depth 65535"},
        {"leaf that says index", LEAF, {{H(eh_depth), 2, 1}}, -EUCLEAN, "where 0 belongs"},
        {"index that says leaf", INDEX, {{H(eh_depth), 2, 0}}, -EUCLEAN, "where 1 belongs"},
        {"index too deep", INDEX, {{H(eh_depth), 2, 2}}, -EUCLEAN, "where 1 belongs"},
        {"root of the greatest depth", ROOT_INDEX, {{H(eh_depth), 2, 5}}, 0, NULL},
        {"room for none",
         LEAF,
         {{H(eh_max), 2, 0}, {H(eh_entries), 2, 0}},
         -EUCLEAN,
         "room for 0"},
        {"all the room", LEAF, {{H(eh_max), 2, ROOM}}, 0, NULL},
        {"more room than there is", LEAF, {{H(eh_max), 2, ROOM + 1}}, -EUCLEAN, "room for 85"},
        {"room for 65535", LEAF, {{H(eh_max), 2, 65535}}, -EUCLEAN, "room for 65535"},
        {"all the room in a root", ROOT_LEAF, {{H(eh_max), 2, 4}}, 0, NULL},
        {"more room than a root has", ROOT_LEAF, {{H(eh_max), 2, 5}}, -EUCLEAN, "room for 5"},
        {"less room than there is", LEAF, {{H(eh_max), 2, 3}}, 0, NULL},
        {"more entries than room", LEAF, {{H(eh_max), 2, 2}}, -EUCLEAN, "3 of 2 entries"},
        {"more entries than room, index",
         INDEX,
         {{H(eh_entries), 2, 65535}},
         -EUCLEAN,
         "65535 of 84"},
        {"leaf without entries", LEAF, {{H(eh_entries), 2, 0}}, 0, NULL},
        {"root without entries", ROOT_LEAF, {{H(eh_entries), 2, 0}}, 0, NULL},
        {"index without entries", INDEX, {{H(eh_entries), 2, 0}}, -EUCLEAN, "without entries"},
        {"root index without entries",
         ROOT_INDEX,
         {{H(eh_entries), 2, 0}},
         -EUCLEAN,
         "without entries"},
        {"the generation is free", LEAF, {{H(eh_generation), 4, 0xdeadbeef}}, 0, NULL},

        {"extent without length", LEAF, {{EX(0, ee_len), 2, 0}}, -EUCLEAN, "extent 0 is empty"},
        {"last extent without length",
         LEAF,
         {{EX(2, ee_len), 2, 0}},
         -EUCLEAN,
         "extent 2 is empty"},
        {"longest written (B18)", LEAF, {{EX(2, ee_len), 2, 32768}}, 0, NULL},
        {"shortest unwritten", LEAF, {{EX(2, ee_len), 2, 32769}}, 0, NULL},
        {"longest unwritten", LEAF, {{EX(2, ee_len), 2, 65535}}, 0, NULL},
        {"overlap by one", LEAF, {{EX(1, ee_block), 4, 9}}, -EUCLEAN, "extent 1 overlaps"},
        {"the same block twice",
         LEAF,
         {{EX(1, ee_block), 4, 0}},
         -EUCLEAN,
         "extent 1 overlaps"},
        {"out of order", LEAF, {{EX(1, ee_block), 4, 100000}}, -EUCLEAN, "extent 2 overlaps"},
        {"unwritten length counts for overlap",
         LEAF,
         {{EX(2, ee_block), 4, 14}},
         -EUCLEAN,
         "extent 2 overlaps"},
        {"up to the last block", LEAF, {{EX(2, ee_block), 4, END_OF_FILE - 32768}}, 0, NULL},
        {"one beyond the last block (C43)",
         LEAF,
         {{EX(2, ee_block), 4, END_OF_FILE - 32767}},
         -EUCLEAN,
         "beyond the largest file"},
        {"around the end (C43)",
         LEAF,
         {{EX(2, ee_block), 4, END_OF_FILE}},
         -EUCLEAN,
         "beyond the largest file"},
        {"block 0", LEAF, {{EX(0, ee_start_lo), 4, 0}}, -EUCLEAN, "extent 0 lies outside"},
        {"the first data block", LEAF, {{EX(0, ee_start_lo), 4, 1}}, 0, NULL},
        {"up to the last block of the device",
         LEAF,
         {{EX(0, ee_start_lo), 4, NR_BLOCKS - 10}},
         0,
         NULL},
        {"over the end of the device",
         LEAF,
         {{EX(0, ee_start_lo), 4, NR_BLOCKS - 9}},
         -EUCLEAN,
         "extent 0 lies outside"},
        {"behind the device",
         LEAF,
         {{EX(0, ee_start_lo), 4, NR_BLOCKS}},
         -EUCLEAN,
         "extent 0 lies outside"},
        {"far behind the device",
         LEAF,
         {{EX(1, ee_start_hi), 2, 1}},
         -EUCLEAN,
         "extent 1 lies outside, at 4294967496 + 5"},
        {"at the largest number",
         LEAF,
         {{EX(0, ee_start_hi), 2, 0xffff}, {EX(0, ee_start_lo), 4, 0xffffffff}},
         -EUCLEAN,
         "extent 0 lies outside"},
        {"in a root as well",
         ROOT_LEAF,
         {{EX(2, ee_start_lo), 4, NR_BLOCKS - 1}},
         -EUCLEAN,
         "extent 2 lies outside"},

        {"index: the same block twice",
         INDEX,
         {{EI(1, ei_block), 4, 0}},
         -EUCLEAN,
         "index entry 1 is not in order"},
        {"index: out of order",
         INDEX,
         {{EI(1, ei_block), 4, 300}},
         -EUCLEAN,
         "index entry 2 is not in order"},
        {"index: child 0",
         INDEX,
         {{EI(0, ei_leaf_lo), 4, 0}},
         -EUCLEAN,
         "index entry 0 leads outside"},
        {"index: child behind the device",
         INDEX,
         {{EI(2, ei_leaf_lo), 4, NR_BLOCKS}},
         -EUCLEAN,
         "index entry 2 leads outside"},
        {"index: child far behind",
         INDEX,
         {{EI(1, ei_leaf_hi), 2, 1}},
         -EUCLEAN,
         "index entry 1 leads outside"},
        {"index: child at the end", INDEX, {{EI(1, ei_leaf_lo), 4, NR_BLOCKS - 1}}, 0, NULL},
        {"index: the spare field is free", INDEX, {{EI(1, ei_unused), 2, 0xffff}}, 0, NULL},
        {"index in a root as well",
         ROOT_INDEX,
         {{EI(1, ei_leaf_lo), 4, NR_BLOCKS}},
         -EUCLEAN,
         "index entry 1 leads outside"},
};

static void each_wrong_field_of_a_node_is_found(void **state)
{
        struct t_fs t;

        t_fs_init(&t, BITS, NR_BLOCKS);
        for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
                _Alignas(8) char node[NODE_SIZE];
                bool is_root = fields[i].base == ROOT_LEAF || fields[i].base == ROOT_INDEX;
                int depth = fields[i].base == INDEX;
                const struct ext4_where at = {t.fs, 12, is_root ? 0 : 77};
                size_t size = make_base(fields[i].base, node);

                for (size_t c = 0; c < ARRAY_LEN(fields[i].change); c++) /* little-endian */
                        for (unsigned b = 0; b < fields[i].change[c].width; b++)
                                node[fields[i].change[c].at + b] =
                                        (char)(fields[i].change[c].value >> 8 * b);
                t_fs_drop_cache(&t);
                t_assert_row(fields[i].name,
                             ext4_extent_node_check(&at, node, size, is_root ? -1 : depth, 0),
                             fields[i].want);
                t_assert_row(fields[i].name, t.log.nr_lines, fields[i].want ? 1 : 0);
                if (fields[i].said && !t_log_has(&t.log, fields[i].said))
                        fail_msg("%s: the log says %s", fields[i].name, t.log.text);
                if (fields[i].said && !t_log_has(&t.log, "inode 12: "))
                        fail_msg("%s: no inode in %s", fields[i].name, t.log.text);
        }
        t_fs_done(&t);
}

/* ---- the checksum tail ---- */

static int check_sealed(struct t_fs *t, const void *node, size_t size, uint64_t blk)
{
        const struct ext4_where at = {t->fs, 12, blk};

        return ext4_extent_node_check(&at, node, size, 0, SEED);
}

static void checksum_covers_the_node_up_to_its_tail(void **state)
{
        _Alignas(8) char node[NODE_SIZE];
        struct t_fs t;

        t_fs_init(&t, BITS, NR_BLOCKS);
        t.fs->has_metadata_csum = true;
        make_base(LEAF, node);
        header(node)->eh_max = le16_make(10);
        seal(node, SEED);
        assert_int_equal(check_sealed(&t, node, NODE_SIZE, 77), 0);
        /* Each byte of unused entries, and of the checksum itself. */
        for (size_t i = 12 + 3 * 12; i < 12 + 10 * 12 + 4; i++) {
                node[i] ^= 1;
                t_assert_row("a bit in what is covered", check_sealed(&t, node, NODE_SIZE, 77),
                             -EBADMSG);
                node[i] ^= 1;
        }
        node[12 + 10 * 12 + 4] ^= 1; /* behind the tail */
        assert_int_equal(check_sealed(&t, node, NODE_SIZE, 77), 0);
        assert_true(t_log_has(&t.log, "block 77: extent node: the checksum does not match"));
        t_fs_done(&t);
}

static void checksum_is_of_this_inode(void **state)
{
        _Alignas(8) char node[NODE_SIZE];
        struct t_fs t;

        t_fs_init(&t, BITS, NR_BLOCKS);
        t.fs->has_metadata_csum = true;
        make_base(LEAF, node);
        seal(node, SEED + 1);
        assert_int_equal(check_sealed(&t, node, NODE_SIZE, 77), -EBADMSG);
        t_fs_done(&t);
}

static void checksum_is_looked_at_where_there_is_one(void **state)
{
        _Alignas(8) char node[NODE_SIZE];
        struct t_fs t;

        t_fs_init(&t, BITS, NR_BLOCKS);
        make_base(LEAF, node);
        seal(node, SEED + 1);                                       /* wrong */
        assert_int_equal(check_sealed(&t, node, NODE_SIZE, 77), 0); /* no metadata_csum */
        t.fs->has_metadata_csum = true;
        assert_int_equal(check_sealed(&t, node, NODE_SIZE, 0), 0); /* a root has no tail */
        t.fs->opts.nocsum = true;
        assert_int_equal(check_sealed(&t, node, NODE_SIZE, 77), 0);
        t_fs_done(&t);
}

static void checksum_needs_room(void **state)
{
        _Alignas(8) char node[NODE_SIZE];
        const size_t no_room = 12 + 12 * ROOM; /* a size that no block has */
        struct t_fs t;

        t_fs_init(&t, BITS, NR_BLOCKS);
        t.fs->has_metadata_csum = true;
        make_base(LEAF, node);
        assert_int_equal(check_sealed(&t, node, no_room, 77), -EUCLEAN);
        assert_true(t_log_has(&t.log, "no room for the checksum"));
        t_fs_done(&t);
}

/* ---- trees ---- */

struct tree {
        struct t_fs t;
        struct ext4_inode inode;
        uint64_t next_blk; /* for nodes */
};

static void tree_init(struct tree *tr)
{
        t_fs_init(&tr->t, BITS, NR_BLOCKS);
        t_inode_init(&tr->inode, tr->t.fs, 12);
        tr->inode.flags = EXT4_FL_EXTENTS;
        tr->inode.csum_seed = SEED;
        tr->next_blk = 10;
        node_init(tr->inode.block, EXT4_I_BLOCK_SIZE, 0);
}

static void tree_done(struct tree *tr)
{
        t_inode_done(&tr->inode);
        t_fs_done(&tr->t);
}

static void *tree_root(struct tree *tr)
{
        return tr->inode.block;
}

/* A new node; its block number. */
static uint64_t tree_node(struct tree *tr, unsigned depth)
{
        uint64_t blk = tr->next_blk++;

        node_init(t_block(&tr->t, blk), NODE_SIZE, depth);
        return blk;
}

static int lookup(struct tree *tr, uint32_t lblk, struct ext4_map *ret_map)
{
        return ext4_extent_lookup(&tr->inode, lblk, 0, ret_map);
}

static void assert_map(struct tree *tr, uint32_t lblk, struct ext4_map want)
{
        struct ext4_map got;

        assert_int_equal(lookup(tr, lblk, &got), 0);
        assert_int_equal(got.type, want.type);
        assert_int_equal(got.lblk, want.lblk);
        assert_int_equal(got.len, want.len);
        if (want.type != EXT4_MAP_HOLE)
                assert_int_equal(got.pblk, want.pblk);
}

static void holes_before_between_and_after(void **state)
{
        struct tree tr;

        tree_init(&tr);
        add_extent(tree_root(&tr), 5, 5, 100);
        add_extent(tree_root(&tr), 10, 32768 + 5, 105);
        add_extent(tree_root(&tr), 20, 1, 300);
        assert_map(&tr, 0, (struct ext4_map){0, 5, 0, EXT4_MAP_HOLE});
        assert_map(&tr, 4, (struct ext4_map){0, 5, 0, EXT4_MAP_HOLE});
        assert_map(&tr, 5, (struct ext4_map){5, 5, 100, EXT4_MAP_WRITTEN});
        assert_map(&tr, 9, (struct ext4_map){5, 5, 100, EXT4_MAP_WRITTEN});
        assert_map(&tr, 10, (struct ext4_map){10, 5, 105, EXT4_MAP_UNWRITTEN});
        assert_map(&tr, 14, (struct ext4_map){10, 5, 105, EXT4_MAP_UNWRITTEN});
        assert_map(&tr, 15, (struct ext4_map){15, 5, 0, EXT4_MAP_HOLE});
        assert_map(&tr, 19, (struct ext4_map){15, 5, 0, EXT4_MAP_HOLE});
        assert_map(&tr, 20, (struct ext4_map){20, 1, 300, EXT4_MAP_WRITTEN});
        assert_map(&tr, 21, (struct ext4_map){21, EXT4_NR_LBLKS - 21, 0, EXT4_MAP_HOLE});
        assert_map(&tr, EXT4_MAX_LBLK,
                   (struct ext4_map){21, EXT4_NR_LBLKS - 21, 0, EXT4_MAP_HOLE});
        assert_int_equal(t_device_reads(&tr.t), 0); /* the root is in the inode */
        tree_done(&tr);
}

static void empty_file_is_one_hole_of_64_bit_length(void **state) /* C43 */
{
        struct tree tr;

        tree_init(&tr);
        assert_map(&tr, 0, (struct ext4_map){0, EXT4_NR_LBLKS, 0, EXT4_MAP_HOLE});
        assert_map(&tr, EXT4_MAX_LBLK, (struct ext4_map){0, EXT4_NR_LBLKS, 0, EXT4_MAP_HOLE});
        tree_done(&tr);
}

static void longest_extents_of_both_kinds(void **state) /* B18 */
{
        struct tree tr;

        tree_init(&tr);
        add_extent(tree_root(&tr), 0, 32768, 100);
        add_extent(tree_root(&tr), 32768, 65535, 40000);
        add_extent(tree_root(&tr), 65535, 32769, 80000);
        assert_map(&tr, 32767, (struct ext4_map){0, 32768, 100, EXT4_MAP_WRITTEN});
        assert_map(&tr, 32768, (struct ext4_map){32768, 32767, 40000, EXT4_MAP_UNWRITTEN});
        assert_map(&tr, 65534, (struct ext4_map){32768, 32767, 40000, EXT4_MAP_UNWRITTEN});
        assert_map(&tr, 65535, (struct ext4_map){65535, 1, 80000, EXT4_MAP_UNWRITTEN});
        tree_done(&tr);
}

static void last_logical_blocks(void **state) /* C43 */
{
        struct tree tr;

        tree_init(&tr);
        add_extent(tree_root(&tr), EXT4_MAX_LBLK - 32768, 32768, 100);
        add_extent(tree_root(&tr), EXT4_MAX_LBLK, 1, 50000);
        assert_map(&tr, 0, (struct ext4_map){0, EXT4_MAX_LBLK - 32768, 0, EXT4_MAP_HOLE});
        assert_map(&tr, EXT4_MAX_LBLK - 1,
                   (struct ext4_map){EXT4_MAX_LBLK - 32768, 32768, 100, EXT4_MAP_WRITTEN});
        assert_map(&tr, EXT4_MAX_LBLK,
                   (struct ext4_map){EXT4_MAX_LBLK, 1, 50000, EXT4_MAP_WRITTEN});
        tree_done(&tr);
}

/* Each leaf has LEAF_BLKS logical blocks: hole 5, written 5, unwritten 3, hole 7, written 10,
 * hole 10. */
#define LEAF_BLKS 40u

static void fill_leaf(void *node, uint32_t from)
{
        add_extent(node, from + 5, 5, 1000 + from);
        add_extent(node, from + 10, 32768 + 3, 1005 + from);
        add_extent(node, from + 20, 10, 50000 + from);
}

static struct ext4_map leaf_truth(uint32_t lblk)
{
        uint32_t at = lblk % LEAF_BLKS;

        if (at >= 5 && at < 10)
                return (struct ext4_map){lblk, 1, 1000 + lblk - 5, EXT4_MAP_WRITTEN};
        if (at >= 10 && at < 13)
                return (struct ext4_map){lblk, 1, 1000 + lblk - 5, EXT4_MAP_UNWRITTEN};
        if (at >= 20 && at < 30)
                return (struct ext4_map){lblk, 1, 50000 + lblk - 20, EXT4_MAP_WRITTEN};
        return (struct ext4_map){lblk, 1, 0, EXT4_MAP_HOLE};
}

/* Fill a node of `depth` that begins at `from`; returns where it ends. */
static uint32_t grow(struct tree *tr, void *node, unsigned depth, uint32_t from, unsigned fan)
{
        if (depth == 0) {
                fill_leaf(node, from);
                return from + LEAF_BLKS;
        }
        for (unsigned i = 0; i < fan; i++) {
                uint64_t child = tree_node(tr, depth - 1);

                add_index(node, from, child);
                from = grow(tr, t_block(&tr->t, child), depth - 1, from, fan);
        }
        return from;
}

static void check_every_block(struct tree *tr, uint32_t end)
{
        for (uint32_t i = 0; i < end; i++) {
                struct ext4_map truth = leaf_truth(i);
                struct ext4_map map;

                assert_int_equal(lookup(tr, i, &map), 0);
                assert_int_equal(map.type, truth.type);
                assert_true(map.lblk <= i && i < map.lblk + map.len);
                if (map.type != EXT4_MAP_HOLE)
                        assert_int_equal(map.pblk + (i - map.lblk), truth.pblk);
                else /* a hole is never said to be longer than it is */
                        for (uint64_t j = map.lblk; j < map.lblk + map.len && j < end; j++)
                                assert_int_equal(leaf_truth((uint32_t)j).type, EXT4_MAP_HOLE);
        }
}

static void trees_of_every_depth(void **state)
{
        for (unsigned depth = 0; depth <= EXT4_EXTENT_MAX_DEPTH; depth++) {
                struct tree tr;
                uint32_t end;

                tree_init(&tr);
                node_init(tree_root(&tr), EXT4_I_BLOCK_SIZE, depth);
                end = grow(&tr, tree_root(&tr), depth, 0, 3);
                check_every_block(&tr, end);
                assert_map(&tr, end,
                           (struct ext4_map){end - 10, EXT4_NR_LBLKS - end + 10, 0,
                                             EXT4_MAP_HOLE});
                assert_int_equal(t_device_reads(&tr.t), tr.next_blk - 10); /* each once */
                assert_int_equal(tr.t.log.nr_lines, 0);
                tree_done(&tr);
        }
}

static void hole_before_the_first_child(void **state)
{
        struct tree tr;
        uint64_t leaf;

        tree_init(&tr);
        node_init(tree_root(&tr), EXT4_I_BLOCK_SIZE, 1);
        leaf = tree_node(&tr, 0);
        add_index(tree_root(&tr), 100, leaf);
        add_extent(t_block(&tr.t, leaf), 110, 10, 1000);
        assert_map(&tr, 0, (struct ext4_map){0, 100, 0, EXT4_MAP_HOLE});
        assert_map(&tr, 99, (struct ext4_map){0, 100, 0, EXT4_MAP_HOLE});
        assert_int_equal(t_device_reads(&tr.t), 0);
        assert_map(&tr, 100, (struct ext4_map){100, 10, 0, EXT4_MAP_HOLE});
        assert_map(&tr, 110, (struct ext4_map){110, 10, 1000, EXT4_MAP_WRITTEN});
        tree_done(&tr);
}

static void leaf_without_extents_is_a_hole_of_its_range(void **state)
{
        struct tree tr;
        uint64_t leaf;

        tree_init(&tr);
        node_init(tree_root(&tr), EXT4_I_BLOCK_SIZE, 1);
        leaf = tree_node(&tr, 0);
        add_index(tree_root(&tr), 0, leaf);
        leaf = tree_node(&tr, 0);
        add_index(tree_root(&tr), 50, leaf);
        add_extent(t_block(&tr.t, leaf), 50, 10, 1000);
        assert_map(&tr, 20, (struct ext4_map){0, 50, 0, EXT4_MAP_HOLE});
        tree_done(&tr);
}

/* ---- trees with checksums, on devices that fail ---- */

static void tree_with_checksums(struct tree *tr, uint64_t *ret_leaf)
{
        tree_init(tr);
        tr->t.fs->has_metadata_csum = true;
        node_init(tree_root(tr), EXT4_I_BLOCK_SIZE, 1);
        *ret_leaf = tree_node(tr, 0);
        add_index(tree_root(tr), 0, *ret_leaf);
        fill_leaf(t_block(&tr->t, *ret_leaf), 0);
        seal(t_block(&tr->t, *ret_leaf), SEED);
}

static void tree_with_checksums_is_read(void **state)
{
        struct tree tr;
        uint64_t leaf;

        tree_with_checksums(&tr, &leaf);
        check_every_block(&tr, LEAF_BLKS);
        tree_done(&tr);
}

static void damaged_node_is_ebadmsg_and_said_once(void **state)
{
        struct ext4_map map;
        struct tree tr;
        uint64_t leaf;

        tree_with_checksums(&tr, &leaf);
        ((char *)t_block(&tr.t, leaf))[8] ^= 1;
        for (int i = 0; i < 5; i++)
                assert_int_equal(lookup(&tr, 7, &map), -EBADMSG);
        assert_int_equal(tr.t.log.nr_lines, 1);
        assert_true(t_log_has(&tr.t.log, "inode 12: block 10: extent node"));
        tree_done(&tr);
}

static void nowait_needs_warm_nodes(void **state)
{
        struct ext4_map map;
        struct tree tr;
        uint64_t leaf;

        tree_with_checksums(&tr, &leaf);
        assert_int_equal(ext4_extent_lookup(&tr.inode, 7, EXT4_MAP_NOWAIT, &map), -EAGAIN);
        assert_int_equal(t_device_reads(&tr.t), 0);
        assert_int_equal(lookup(&tr, 7, &map), 0);
        assert_int_equal(ext4_extent_lookup(&tr.inode, 7, EXT4_MAP_NOWAIT, &map), 0);
        assert_int_equal(map.lblk, 5);
        tree_done(&tr);
}

/* ---- hostile trees: -EUCLEAN, and no reference is kept (tree_done() asserts it) ---- */

static void assert_corrupt(struct tree *tr, uint32_t lblk, const char *said)
{
        struct ext4_map map = {.lblk = 4711};

        for (int i = 0; i < 3; i++) /* cold and warm */
                assert_int_equal(lookup(tr, lblk, &map), -EUCLEAN);
        assert_int_equal(map.lblk, 4711);
        if (!t_log_has(&tr->t.log, said))
                fail_msg("the log says %s", tr->t.log.text);
        assert_int_equal(tr->t.log.nr_lines, 1);
}

static void node_of_another_depth_is_corrupt(void **state)
{
        for (unsigned depth = 0; depth <= 6; depth++) {
                struct tree tr;
                uint64_t child;

                if (depth == 1)
                        continue;
                tree_init(&tr);
                node_init(tree_root(&tr), EXT4_I_BLOCK_SIZE, 2);
                child = tree_node(&tr, depth);
                add_index(tree_root(&tr), 0, child);
                assert_corrupt(&tr, 0, "depth");
                tree_done(&tr);
        }
}

static void block_of_zeros_is_no_node(void **state)
{
        struct tree tr;

        tree_init(&tr);
        node_init(tree_root(&tr), EXT4_I_BLOCK_SIZE, 1);
        add_index(tree_root(&tr), 0, 500);
        assert_corrupt(&tr, 0, "inode 12: block 500: extent node: the magic is 0000");
        tree_done(&tr);
}

/* Two leaves, [0, 100) and [100, ...), of which one has an extent where it may not. */
static const struct {
        const char *name;
        unsigned leaf;
        uint32_t lblk, len;
        uint32_t asked;
} strays[] = {
        {"before its range", 1, 90, 5, 100},
        {"from before into its range", 1, 90, 20, 105},
        {"reaching into the next leaf's", 0, 90, 11, 95},
        {"behind its range", 0, 150, 1, 50},
        {"far behind", 0, EXT4_MAX_LBLK, 1, 0},
};

static void extents_outside_of_the_index_range_are_corrupt(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(strays); i++) {
                uint64_t leaf[2];
                struct tree tr;

                tree_init(&tr);
                node_init(tree_root(&tr), EXT4_I_BLOCK_SIZE, 1);
                for (unsigned n = 0; n < 2; n++) {
                        leaf[n] = tree_node(&tr, 0);
                        add_index(tree_root(&tr), 100 * n, leaf[n]);
                }
                add_extent(t_block(&tr.t, leaf[strays[i].leaf]), strays[i].lblk, strays[i].len,
                           1000);
                assert_corrupt(&tr, strays[i].asked, "outside of what the index says");
                tree_done(&tr);
        }
}

/* The same one level higher: an index whose children begin outside of its own range. */
static void children_outside_of_the_index_range_are_corrupt(void **state)
{
        static const uint32_t begins[] = {50, 250}; /* of a node for [100, 200) */

        for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
                uint64_t inner, leaf;
                struct ext4_map map;
                struct tree tr;

                tree_init(&tr);
                node_init(tree_root(&tr), EXT4_I_BLOCK_SIZE, 2);
                inner = tree_node(&tr, 1);
                add_index(tree_root(&tr), 100, inner);
                add_index(tree_root(&tr), 200, inner);
                leaf = tree_node(&tr, 0);
                add_index(t_block(&tr.t, inner), begins[i], leaf);
                add_extent(t_block(&tr.t, leaf), 120, 10, 1000);
                t_assert_row(begins[i] < 100 ? "before" : "behind", lookup(&tr, 125, &map),
                             -EUCLEAN);
                tree_done(&tr);
        }
}

static void node_that_points_to_itself_is_corrupt(void **state)
{
        for (unsigned depth = 2; depth <= EXT4_EXTENT_MAX_DEPTH; depth++) {
                struct tree tr;
                uint64_t child;

                tree_init(&tr);
                node_init(tree_root(&tr), EXT4_I_BLOCK_SIZE, depth);
                child = tree_node(&tr, depth - 1);
                add_index(tree_root(&tr), 0, child);
                add_index(t_block(&tr.t, child), 0, child);
                assert_corrupt(&tr, 0, "in the tree more than once");
                tree_done(&tr);
        }
}

static void nodes_that_point_to_each_other_are_corrupt(void **state)
{
        uint64_t a, b;
        struct tree tr;

        tree_init(&tr);
        node_init(tree_root(&tr), EXT4_I_BLOCK_SIZE, 4);
        a = tree_node(&tr, 3);
        b = tree_node(&tr, 2);
        add_index(tree_root(&tr), 0, a);
        add_index(t_block(&tr.t, a), 0, b);
        add_index(t_block(&tr.t, b), 0, a);
        assert_corrupt(&tr, 0, "in the tree more than once");
        tree_done(&tr);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_wrong_field_of_a_node_is_found),
                cmocka_unit_test(checksum_covers_the_node_up_to_its_tail),
                cmocka_unit_test(checksum_is_of_this_inode),
                cmocka_unit_test(checksum_is_looked_at_where_there_is_one),
                cmocka_unit_test(checksum_needs_room),
                cmocka_unit_test(holes_before_between_and_after),
                cmocka_unit_test(empty_file_is_one_hole_of_64_bit_length),
                cmocka_unit_test(longest_extents_of_both_kinds),
                cmocka_unit_test(last_logical_blocks),
                cmocka_unit_test(trees_of_every_depth),
                cmocka_unit_test(hole_before_the_first_child),
                cmocka_unit_test(leaf_without_extents_is_a_hole_of_its_range),
                cmocka_unit_test(tree_with_checksums_is_read),
                cmocka_unit_test(damaged_node_is_ebadmsg_and_said_once),
                cmocka_unit_test(nowait_needs_warm_nodes),
                cmocka_unit_test(node_of_another_depth_is_corrupt),
                cmocka_unit_test(block_of_zeros_is_no_node),
                cmocka_unit_test(extents_outside_of_the_index_range_are_corrupt),
                cmocka_unit_test(children_outside_of_the_index_range_are_corrupt),
                cmocka_unit_test(node_that_points_to_itself_is_corrupt),
                cmocka_unit_test(nodes_that_point_to_each_other_are_corrupt),
        };

        return cmocka_run_group_tests_name("extent_verify", tests, NULL, NULL);
}
