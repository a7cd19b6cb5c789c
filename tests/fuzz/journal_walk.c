/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The fuzz target of the journal.  An input is the contents of a journal: its superblock, then
 * the first blocks of the log.  It is put into an image that says that it must be replayed; the
 * log is listed, the image mounted with the journal replayed in memory, and recovered in its
 * place.
 *
 * The image is one of the corpus, read once (JOURNAL_IMAGE names it).  Its journal has more
 * blocks than an input, so that a superblock may say how long the log is.
 */

#include "target.h"

#include "../unit/t_journal.h"
#include "ext4/journal.h"
#include "uext4.h"

#define BLOCK_SIZE 1024u
#define NR_BLOCKS  64u /* of an input, at most */

static const struct ext4_mount_options options = {
        .read_only = true,
        .sb_block = 1,
        .meta_cache_bytes = 1u << 20,
};

static void say_nothing(void *arg, int level, const char *text)
{
}

static const struct log_sink silent = {say_nothing, NULL};

static struct {
        uint8_t *data;
        size_t size;
        uint64_t pblks[NR_BLOCKS]; /* of the journal's first blocks */
        uint8_t *scratch;
} image;

/* ---- the image ---- */

static void read_image(void)
{
        FILE *file = fopen(JOURNAL_IMAGE, "rb");

        T_CHECK(file);
        T_CHECK(fseek(file, 0, SEEK_END) == 0);
        image.size = (size_t)ftell(file);
        rewind(file);
        image.data = malloc(image.size);
        image.scratch = malloc(image.size);
        T_CHECK(image.data && image.scratch);
        T_CHECK(fread(image.data, 1, image.size, file) == image.size);
        fclose(file);
}

static void find_journal(struct uext4_bdev *dev)
{
        struct jbd2_journal j;
        struct ext4_fs *fs;
        uint32_t nr = 0;

        T_CHECK(ext4_mount_for_recovery(dev, &options, &silent, &fs) == 0);
        T_CHECK(fs->block_size == BLOCK_SIZE);
        T_CHECK(ext4_journal_open(fs, NULL, &j) == 0);
        for (uint32_t r = 0; r < j.place.nr_runs; r++)
                for (uint32_t i = 0; i < j.place.runs[r].len && nr < NR_BLOCKS; i++)
                        image.pblks[nr++] = j.place.runs[r].pblk + i;
        T_CHECK(nr == NR_BLOCKS);
        jbd2_close(&j);
        ext4_unmount(fs);
}

static struct uext4_bdev *open_device(uint8_t *data, uint32_t flags)
{
        struct uext4_bdev *dev;

        T_CHECK(uext4_bdev_open_buffer(data, image.size, flags, &dev) == 0);
        return dev;
}

static void prepare(void)
{
        struct ext4_super_block *sb;
        struct uext4_bdev *dev;

        if (image.data)
                return;
        read_image();
        dev = open_device(image.data, 0);
        find_journal(dev);
        uext4_bdev_close(dev);
        sb = (void *)(image.data + EXT4_SUPER_OFFSET);
        sb->s_feature_incompat =
                le32_make(le32_get(sb->s_feature_incompat) | EXT4_INCOMPAT_RECOVER);
        if (le32_get(sb->s_feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM)
                ext4_super_seal(sb);
}

/* The image with the input for its journal. */
static void fill_image(const uint8_t *input, size_t size)
{
        memcpy(image.scratch, image.data, image.size);
        for (uint32_t i = 0; i < NR_BLOCKS && (size_t)i * BLOCK_SIZE < size; i++) {
                size_t left = size - (size_t)i * BLOCK_SIZE;

                memcpy(image.scratch + image.pblks[i] * BLOCK_SIZE,
                       input + (size_t)i * BLOCK_SIZE, left < BLOCK_SIZE ? left : BLOCK_SIZE);
        }
}

/* ---- what is done with it ---- */

static uint64_t list_block(const struct jbd2_walk *walk)
{
        struct jbd2_revoke_iter records;
        struct jbd2_tag_iter tags;
        struct jbd2_tag_info tag;
        uint64_t nr = 1;
        uint64_t blk;

        if (walk->type == JBD2_DESCRIPTOR) {
                jbd2_tags(walk, &tags);
                for (; jbd2_tag_next(&tags, &tag); nr++)
                        T_CHECK(tag.log_blk >= walk->j->first && tag.log_blk < walk->j->last);
        } else if (walk->type == JBD2_REVOKE && jbd2_revokes(walk, &records) == 0) {
                while (jbd2_revoke_next(&records, &blk))
                        nr++;
        }
        return nr;
}

/* A log has no more in it than its blocks can hold. */
static void list_log(const struct jbd2_journal *j)
{
        struct jbd2_extent_of_log extent;
        struct jbd2_walk walk;
        uint64_t nr = 0;

        if (jbd2_scan(j, &extent) == 0)
                T_CHECK(extent.end_tid - extent.first_tid == extent.nr_transactions);
        T_CHECK(jbd2_walk_init(&walk, j) == 0);
        while (jbd2_walk_next(&walk) == 1)
                nr += list_block(&walk);
        T_CHECK(nr <= (uint64_t)(j->last - j->first) * BLOCK_SIZE);
        jbd2_walk_done(&walk);
}

static void list(void)
{
        struct uext4_bdev *dev = open_device(image.scratch, UEXT4_BDEV_OPEN_READONLY);
        struct jbd2_journal j;
        struct ext4_fs *fs;

        T_CHECK(ext4_mount_for_recovery(dev, &options, &silent, &fs) == 0);
        if (ext4_journal_open(fs, NULL, &j) == 0) {
                list_log(&j);
                jbd2_close(&j);
        }
        ext4_unmount(fs);
        uext4_bdev_close(dev);
}

static int mount_in_memory(void)
{
        const struct uext4_mount_params params = {.options = "ro", .log = say_nothing};
        struct uext4_bdev *dev = open_device(image.scratch, UEXT4_BDEV_OPEN_READONLY);
        struct uext4_fs *fs;
        int ret = uext4_mount_bdev(dev, &params, &fs);

        if (ret == 0)
                T_CHECK(uext4_unmount(fs) == 0);
        uext4_bdev_close(dev);
        return ret;
}

static int recover_in_place(void)
{
        struct uext4_bdev *dev = open_device(image.scratch, 0);
        struct jbd2_recovery stats;
        int ret = ext4_recover(dev, NULL, &options, &silent, &stats);

        /* Whatever was replayed over the superblock: it does not ask for recovery again. */
        if (ret == 0)
                T_CHECK(!ext4_needs_recovery(dev, &options));
        uext4_bdev_close(dev);
        return ret;
}

bool target_walk(const uint8_t *input, size_t size)
{
        int mounted, recovered;

        prepare();
        fill_image(input, size);
        list();
        mounted = mount_in_memory();
        recovered = recover_in_place();
        if (recovered < 0)
                T_CHECK(mounted < 0);
        return recovered < 0;
}

/* ---- mutations ---- */

struct mutation {
        struct tj j;
        uint8_t *data;
        uint32_t nr_blocks;
        uint64_t random;
};

static uint32_t pick(struct mutation *m, uint32_t limit)
{
        m->random ^= m->random << 13;
        m->random ^= m->random >> 7;
        m->random ^= m->random << 17;
        return (uint32_t)(m->random >> 11) % limit;
}

static uint32_t pick_number(struct mutation *m)
{
        static const uint32_t values[] = {
                0,    1,          2,          3,          4,          5,       8,
                12,   15,         16,         17,         20,         63,      64,
                65,   255,        1008,       1020,       1023,       1024,    1025,
                4096, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, TJ_MAGIC};

        return values[pick(m, sizeof(values) / sizeof(values[0]))];
}

/* Some transactions, of which the last may be cut short. */
static void make_log(struct mutation *m)
{
        uint8_t blocks[4][BLOCK_SIZE];
        struct tj_copy copies[4];
        uint64_t revokes[4];
        uint32_t nr = 1 + pick(m, 6);

        for (uint32_t t = 0; t < nr; t++) {
                uint32_t nr_copies = pick(m, 5);
                uint32_t nr_revokes = pick(m, 3);

                for (uint32_t i = 0; i < nr_copies; i++) {
                        memset(blocks[i], (int)pick(m, 256), BLOCK_SIZE);
                        if (pick(m, 4) == 0)
                                tj_put32(blocks[i], TJ_MAGIC);
                        copies[i] = (struct tj_copy){pick(m, 40), blocks[i], false};
                }
                for (uint32_t i = 0; i < nr_revokes; i++)
                        revokes[i] = pick(m, 40);
                if (nr_revokes)
                        tj_write_revokes(&m->j, revokes, nr_revokes);
                if (nr_copies)
                        tj_write_copies(&m->j, copies, nr_copies);
                if (t < nr - 1 || pick(m, 4))
                        tj_write_commit(&m->j);
        }
}

static size_t make_journal(struct mutation *m)
{
        const struct tj_format f = {
                .csum = pick(m, TJ_NR_CSUM),
                .is64 = pick(m, 2),
                .block_size = BLOCK_SIZE,
                .nr_blocks = NR_BLOCKS,
                .nr_fc = pick(m, 2) ? 16 : 0,
                .start = 1 + pick(m, NR_BLOCKS - 17),
                .tid = pick_number(m),
        };

        memset(m->data, 0, (size_t)NR_BLOCKS * BLOCK_SIZE);
        tj_init(&m->j, &f, (const struct tj_run[2]){{0, NR_BLOCKS, m->data}});
        make_log(m);
        return (size_t)NR_BLOCKS * BLOCK_SIZE;
}

/* What the superblock says of the checksums. */
static void learn(struct mutation *m)
{
        uint32_t incompat = tj_get32(m->data + 0x28);

        m->j.f.block_size = BLOCK_SIZE;
        m->j.f.csum = incompat & 0x10 ? TJ_V3 : incompat & 0x08 ? TJ_V2 : TJ_NONE;
        memcpy(m->j.uuid, m->data + 0x30, sizeof(m->j.uuid));
}

/* Mend the checksum that a block of its kind has. */
static void seal(struct mutation *m, uint8_t *block)
{
        if (!tj_has_csum(&m->j.f) || tj_get32(block) != TJ_MAGIC)
                return;
        switch (tj_get32(block + 4)) {
        case TJ_DESCRIPTOR:
        case TJ_REVOKE:
                tj_seal_tail(&m->j, block);
                break;
        case TJ_COMMIT:
                tj_put32(block + 0x10, 0);
                tj_put32(block + 0x10, tj_crc32c(tj_seed(&m->j), block, BLOCK_SIZE));
                break;
        case TJ_SUPER:
                tj_seal_super(block);
                break;
        }
}

/* A number in the first bytes of a block, where those of all kinds have theirs. */
static void change_number(struct mutation *m, uint8_t *block)
{
        uint32_t range = block == m->data ? 0x60 : pick(m, 2) ? 0x40 : BLOCK_SIZE - 8;
        uint8_t *p = block + 4 * (size_t)pick(m, range / 4);

        switch (pick(m, 4)) {
        case 0:
                tj_put32(p, pick_number(m));
                break;
        case 1:
                tj_put32(p, tj_get32(p) + (pick(m, 2) ? 1 : ~0u));
                break;
        case 2:
                p[pick(m, 4)] ^= (uint8_t)(1u << pick(m, 8));
                break;
        default:
                tj_put16(p + 2 * (size_t)pick(m, 2), (uint16_t)pick(m, 16));
        }
}

static uint8_t *pick_control_block(struct mutation *m)
{
        uint8_t *block = m->data;

        for (int tries = 0; tries < 32; tries++) {
                block = m->data + (size_t)(1 + pick(m, m->nr_blocks - 1)) * BLOCK_SIZE;
                if (tj_get32(block) == TJ_MAGIC)
                        break;
        }
        return block;
}

static void change_something(struct mutation *m)
{
        uint8_t *block = pick(m, 12) ? pick_control_block(m) : m->data;

        if (pick(m, 8) == 0) { /* another block in its place */
                uint8_t *from = pick_control_block(m);

                if (block != m->data)
                        memmove(block, from, BLOCK_SIZE);
        } else if (pick(m, 8) == 0) { /* the tid of a neighbour */
                tj_put32(block + 8, tj_get32(m->data + 0x18) + pick(m, 8));
        } else {
                change_number(m, block);
        }
        if (pick(m, 8))
                seal(m, block);
}

size_t target_mutate(uint8_t *data, size_t size, size_t max_size, uint64_t seed)
{
        struct mutation m = {.data = data, .random = seed * 0x9e3779b97f4a7c15u + 1};
        size_t whole = size / BLOCK_SIZE * BLOCK_SIZE;

        for (int i = 0; i < 3; i++)
                pick(&m, 1);
        if (max_size < TARGET_MAX_INPUT)
                return size;
        if (whole < (size_t)2 * BLOCK_SIZE || whole > (size_t)NR_BLOCKS * BLOCK_SIZE ||
            tj_get32(data) != TJ_MAGIC)
                return make_journal(&m);
        m.nr_blocks = (uint32_t)(whole / BLOCK_SIZE);
        learn(&m);
        for (uint32_t n = 1 + pick(&m, 4); n > 0; n--)
                change_something(&m);
        return whole;
}
