/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "part.h"

#include <errno.h>
#include <string.h>

#include "image_walk.h"

#define MAX_IMAGES 3u

struct base {
        uint8_t *data;
        size_t size;
        struct part_place place;
};

static struct base bases[MAX_IMAGES];
static unsigned nr_bases;
static uint8_t *scratch;

/* What goes wrong is said. */
static void listen(void *arg, int level, const char *text)
{
        atomic_bool *was_said = arg;

        promise(level >= 0 && level <= 7 && strlen(text) > 0);
        if (level <= 3)
                atomic_store(was_said, true);
}

static int mount_buffer(uint8_t *data, size_t size, const char *options, atomic_bool *was_said,
                        struct uext4_bdev **ret_dev, struct uext4_fs **ret_fs)
{
        const struct uext4_mount_params params = {
                .options = options, .log = listen, .log_arg = was_said};

        promise(uext4_bdev_open_buffer(data, size, 0, ret_dev) == 0);
        return uext4_mount_bdev(*ret_dev, &params, ret_fs);
}

/* ---- the images ---- */

void part_add_piece(struct part_place *place, uint64_t pos, uint32_t size)
{
        promise(place->nr_pieces < PART_MAX_PIECES);
        place->pieces[place->nr_pieces].pos = pos;
        place->pieces[place->nr_pieces++].size = size;
}

bool part_block_of(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t *ret_blk)
{
        struct ext4_map map;

        promise(ext4_map_lookup_locked(inode, lblk, 0, &map) == 0);
        *ret_blk = map.pblk + (lblk - map.lblk);
        return map.type == EXT4_MAP_WRITTEN;
}

static void learn_place(struct base *base, struct ext4_inode *inode)
{
        struct part_place *place = &base->place;
        const struct ext4_fs *fs = inode->fs;

        place->fs.block_size = fs->block_size;
        place->fs.block_bits = fs->block_bits;
        place->fs.inode_size = fs->inode_size;
        place->fs.csum_seed = fs->csum_seed;
        place->fs.has_metadata_csum = fs->has_metadata_csum;
        place->ino = ext4_ino(inode);
        place->inode_pos = inode->disk_pos;
        place->csum_seed = inode->csum_seed;
        part.find(place, inode);
}

static void read_file(struct base *base, const char *name)
{
        char path[4096];
        FILE *file;

        snprintf(path, sizeof(path), "%s/%s", PART_IMAGES, name);
        file = fopen(path, "rb");
        promise(file && fseek(file, 0, SEEK_END) == 0);
        base->size = (size_t)ftell(file);
        rewind(file);
        base->data = must_alloc(base->size);
        promise(fread(base->data, 1, base->size, file) == base->size);
        fclose(file);
}

static void prepare(void)
{
        size_t largest = 0;

        while (nr_bases < MAX_IMAGES && part.images[nr_bases].file) {
                struct base *base = &bases[nr_bases];
                struct uext4_inode *inode;
                atomic_bool was_said;
                struct uext4_bdev *dev;
                struct uext4_fs *fs;

                read_file(base, part.images[nr_bases].file);
                promise(mount_buffer(base->data, base->size, "ro", &was_said, &dev, &fs) == 0);
                promise(uext4_resolve(fs, part.images[nr_bases].path, UEXT4_NOFOLLOW, &inode) ==
                        0);
                learn_place(base, inode_in(inode));
                uext4_inode_put(inode);
                promise(uext4_unmount(fs) == 0);
                uext4_bdev_close(dev);
                largest = base->size > largest ? base->size : largest;
                nr_bases++;
        }
        if (!scratch)
                scratch = must_alloc(largest);
}

/* The first byte of an input says which image. */
static const struct base *base_of(const uint8_t *input)
{
        prepare();
        return &bases[input[0] % nr_bases];
}

static size_t input_size(const struct part_place *place)
{
        size_t size = PART_CHOICES;

        for (unsigned i = 0; i < place->nr_pieces; i++)
                size += place->pieces[i].size;
        promise(size <= TARGET_MAX_INPUT);
        return size;
}

/* The image with what there is of the part. */
static void fill_image(const struct base *base, const uint8_t *input, size_t size)
{
        const struct part_place *place = &base->place;
        size_t at = PART_CHOICES;

        memcpy(scratch, base->data, base->size);
        for (unsigned i = 0; i < place->nr_pieces && at < size; i++) {
                uint8_t *bytes = scratch + place->pieces[i].pos;
                size_t len = min_t(size_t, place->pieces[i].size, size - at);

                memcpy(bytes, input + at, len);
                part.seal(place, i, bytes);
                at += len;
        }
        ext4_inode_seal(&place->fs, place->ino, scratch + place->inode_pos);
}

/* ---- the work ---- */

static bool is_damage(int64_t ret)
{
        return ret == -EUCLEAN || ret == -EBADMSG;
}

int64_t part_expect(struct part_run *run, int64_t ret, const int *others, int line)
{
        if (ret >= 0)
                return ret;
        if ((is_damage(ret) || ret == -EROFS) && atomic_load(&run->was_said)) {
                run->is_damaged = true;
                return ret;
        }
        for (; *others; others++)
                if (ret == -*others)
                        return ret;
        fprintf(stderr, "line %d: unexpected error: %s\n", line, strerror((int)-ret));
        abort();
}

static bool work_on(const struct base *base, uint64_t choice)
{
        static const char *const options[] = {
                "rw,errors=continue", "rw,errors=continue,discard", "rw,errors=remount-ro",
                "rw,errors=continue,meta_cache=16K"};
        struct part_run run = {.place = &base->place, .choice = choice};
        struct uext4_bdev *dev;
        int ret;

        promise(mount_buffer(scratch, base->size, options[choice >> 8 & 3], &run.was_said, &dev,
                             &run.fs) == 0);
        ret = uext4_resolve(run.fs, part.images[base - bases].path, UEXT4_NOFOLLOW, &run.inode);
        promise(ret == 0 || is_damage(ret));
        if (ret == 0) {
                part.work(&run);
                uext4_inode_put(run.inode);
        }
        ret = uext4_unmount(run.fs);
        /* What was written to memory may have found no place. */
        PART_EXPECT(&run, ret, ENOSPC, EIO);
        uext4_bdev_close(dev);
        return run.is_damaged;
}

/* What is missing of an input is as in the image. */
bool target_walk(const uint8_t *input, size_t size)
{
        uint8_t choices[PART_CHOICES] = {0};
        struct image_walk_seen seen;
        const struct base *base;
        bool is_damaged;
        uint64_t choice;

        memcpy(choices, input, min_t(size_t, size, sizeof(choices)));
        memcpy(&choice, choices, sizeof(choice));
        base = base_of(choices);
        fill_image(base, input, size);
        is_damaged = work_on(base, choice);
        if ((choice >> 10 & 63) == 0) /* now and then: does all the rest still work? */
                image_walk(scratch, base->size, 0, &seen);
        return is_damaged;
}

/* ---- mutations ---- */

struct mutation {
        const struct part_place *place;
        uint8_t *data;
        uint64_t random;
};

static uint32_t pick(struct mutation *m, uint32_t limit)
{
        return (uint32_t)choose_number(&m->random, limit);
}

static size_t make_input(struct mutation *m)
{
        const struct base *base = base_of(m->data);
        uint8_t *to = m->data + PART_CHOICES;

        for (unsigned i = 0; i < base->place.nr_pieces; i++) {
                memcpy(to, base->data + base->place.pieces[i].pos, base->place.pieces[i].size);
                to += base->place.pieces[i].size;
        }
        return input_size(&base->place);
}

static uint8_t *pick_piece(struct mutation *m, uint32_t *ret_size)
{
        unsigned nr = pick(m, m->place->nr_pieces);
        uint8_t *piece = m->data + PART_CHOICES;

        for (unsigned i = 0; i < nr; i++)
                piece += m->place->pieces[i].size;
        *ret_size = m->place->pieces[nr].size;
        return piece;
}

static uint32_t pick_number(struct mutation *m)
{
        static const uint32_t values[] = {
                0,      1,      2,      3,          4,          8,          11,        12,
                16,     20,     24,     32,         63,         64,         127,       128,
                254,    255,    256,    1000,       1008,       1012,       1023,      1024,
                0x8000, 0x8001, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe};

        return pick(m, 3) ? values[pick(m, sizeof(values) / sizeof(values[0]))] : pick(m, 130);
}

/* A number of 1, 2 or 4 bytes at a place of its own alignment, more often near the front. */
static void change_number(struct mutation *m)
{
        uint32_t size, width = 1u << pick(m, 3);
        uint8_t *piece = pick_piece(m, &size);
        uint32_t range = pick(m, 3) && size > 96 ? 96 : size;
        uint8_t *p = piece + pick(m, range / width) * width;
        uint32_t value = 0;

        memcpy(&value, p, width);
        switch (pick(m, 4)) {
        case 0:
                value = pick_number(m);
                break;
        case 1:
                value += pick(m, 2) ? 1 + pick(m, 12) : ~pick(m, 12);
                break;
        case 2:
                value ^= 1u << pick(m, 8 * width);
                break;
        default:
                value = (uint32_t)choose_number(&m->random, UINT32_MAX);
        }
        memcpy(p, &value, width);
}

/* A run of bytes elsewhere, of the same piece or another. */
static void copy_run(struct mutation *m)
{
        uint32_t from_size, to_size;
        uint8_t *from = pick_piece(m, &from_size);
        uint8_t *to = pick_piece(m, &to_size);
        uint32_t len = pick(m, 4) ? 4 * (1 + pick(m, 16)) : UINT32_MAX;
        uint32_t from_at = len == UINT32_MAX ? 0 : pick(m, from_size) / 4 * 4;
        uint32_t to_at = len == UINT32_MAX ? 0 : pick(m, to_size) / 4 * 4;

        len = min_t(uint32_t, len, from_size - from_at);
        memmove(to + to_at, from + from_at, min_t(uint32_t, len, to_size - to_at));
}

static void change_choice(struct mutation *m)
{
        uint8_t image = m->data[0];

        for (unsigned i = 0; i < PART_CHOICES; i++)
                m->data[i] = (uint8_t)pick(m, 256);
        m->data[0] = image; /* another image has other pieces */
}

size_t target_mutate(uint8_t *data, size_t size, size_t max_size, uint64_t seed)
{
        struct mutation m = {.data = data, .random = seed};

        if (max_size < TARGET_MAX_INPUT)
                return size;
        if (size < PART_CHOICES || size < input_size(&base_of(data)->place) ||
            pick(&m, 50) == 0) {
                memset(data, 0, PART_CHOICES);
                data[0] = (uint8_t)pick(&m, 256);
                return make_input(&m);
        }
        m.place = &base_of(data)->place;
        for (uint32_t n = pick(&m, 4); n > 0; n--) {
                if (pick(&m, 6) == 0)
                        copy_run(&m);
                else
                        change_number(&m);
        }
        if (pick(&m, 2))
                change_choice(&m);
        return input_size(m.place);
}
