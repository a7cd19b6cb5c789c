/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Buffered and direct readers and writers of the same files, and who truncates, punches, syncs
 * and removes them, with a cache that is far too small: nobody sees a byte that was not written
 * there, or an older one than he may.  UEXT4_LONG=1 makes it longer.
 *
 * The free space of the image holds a pattern that nobody writes (../change/rig.h).
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "../change/rig.h"
#include "vfs/pages.h"

#define FEATURES                                                                           \
        "has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum," \
        "large_file,filetype,sparse_super"
#define EXT4_4K "-b 4096 -I 256 -N 64 -J size=4 -O none," FEATURES
#define EXT4_1K "-b 1024 -I 256 -N 64 -J size=1 -O none," FEATURES
#define EXT3_1K "-b 1024 -N 64 -J size=1 -O none,has_journal,filetype,sparse_super,large_file"

#define UNIT     512u
#define FILE_MAX (4u << 20)
#define NR_UNITS (FILE_MAX / UNIT)

struct stage {
        struct t_image img;
        struct uext4_bdev *dev;
        struct rig_mount m;
        struct uext4_inode *root;
        uint64_t seed, end; /* clock_ns() */
        atomic_bool is_over;

        /* Of each unit of the file: the version that was last acknowledged, and that last was
         * begun.  A writer changes those of his own units only. */
        _Atomic uint32_t *done, *begun;
};

static bool is_over(struct stage *st)
{
        return atomic_load(&st->is_over) || clock_ns() > st->end;
}

static void t_open(struct stage *st, const char *mkfs, const char *options)
{
        char words[128];

        *st = (struct stage){.seed = t_seed()};
        st->img = rig_make(24 << 20, mkfs, NULL, NULL);
        st->dev = rig_open_image(&st->img);
        snprintf(words, sizeof(words), RIG_OPTIONS "%s", options);
        assert_int_equal(rig_mount(&st->m, st->dev, words), 0);
        assert_int_equal(uext4_resolve(st->m.fs, "/", 0, &st->root), 0);
        st->done = t_alloc(NR_UNITS * sizeof(*st->done));
        st->begun = t_alloc(NR_UNITS * sizeof(*st->begun));
}

static void t_for_a_while(struct stage *st, unsigned nr, void (*fn)(void *arg, unsigned n))
{
        st->end = clock_ns() + (t_is_long() ? 20000000000ull : 350000000ull);
        t_run_threads(nr, fn, st);
}

static void t_close(struct stage *st)
{
        uext4_inode_put(st->root);
        rig_end(&st->m, st->dev, &st->img);
        free(st->done);
        free(st->begun);
}

static void t_create(struct stage *st, const char *name)
{
        T_CHECK(uext4_create(st->root, name, strlen(name), 0644, NULL) == 0);
}

static struct uext4_file *t_file(struct stage *st, const char *name, int flags)
{
        struct uext4_inode *inode;
        struct uext4_file *file;

        T_CHECK(uext4_lookup(st->root, name, strlen(name), &inode) == 0);
        T_CHECK(uext4_open(inode, O_RDWR | flags, &file) == 0);
        uext4_inode_put(inode);
        return file;
}

/* ---- units that tell where they belong, and when they were written ---- */

struct unit {
        uint32_t index, version;
        uint64_t words[(UNIT - 8) / 8];
};

static void unit_fill(struct unit *u, uint32_t index, uint32_t version)
{
        uint64_t state = (uint64_t)version << 32 | index;

        u->index = index;
        u->version = version;
        for (unsigned i = 0; i < ARRAY_LEN(u->words); i++)
                u->words[i] = t_rand(&state);
}

/* Its version; a unit that was never written has zeros. */
static uint32_t unit_check(const struct unit *u, uint32_t index)
{
        struct unit want = {0};

        if (u->version > 0)
                unit_fill(&want, index, u->version);
        if (memcmp(&want, u, sizeof(want)) != 0) {
                fprintf(stderr, "unit %u: has index %u, version %u\n", index, u->index,
                        u->version);
                abort();
        }
        return u->version;
}

/* ---- one file, written by many, each his own parts ---- */

#define NR_WRITERS 3
#define MAX_UNITS  64u

struct user {
        struct stage *st;
        unsigned n;
        uint64_t rand;
        struct uext4_file *file, *direct;
        struct unit *buf; /* MAX_UNITS */
        uint32_t *seen;   /* of these, done before the read began */
        uint32_t at;      /* where who reads on and on is */
        uint32_t version;
};

/* Units of one part of the file; parts of 32 units go round. */
static uint32_t own_units(struct user *u, uint32_t *nr)
{
        uint32_t part = (uint32_t)t_below(&u->rand, NR_UNITS / 32 / NR_WRITERS);
        uint32_t first = (part * NR_WRITERS + u->n) * 32;
        uint32_t skip = (uint32_t)t_below(&u->rand, 32);

        *nr = 1 + (uint32_t)t_below(&u->rand, 32 - skip);
        return first + skip;
}

static void user_write(struct user *u)
{
        struct stage *st = u->st;
        uint32_t nr, first = own_units(u, &nr);
        struct uext4_file *file = t_below(&u->rand, 2) ? u->file : u->direct;

        u->version++;
        for (uint32_t i = 0; i < nr; i++) {
                unit_fill(&u->buf[i], first + i, u->version);
                atomic_store(&st->begun[first + i], u->version);
        }
        T_CHECK(uext4_pwrite(file, u->buf, nr * UNIT, (uint64_t)first * UNIT) ==
                (ssize_t)nr * UNIT);
        for (uint32_t i = 0; i < nr; i++)
                atomic_store(&st->done[first + i], u->version);
}

/* Whole blocks of a part become zeros, which are version 0: nobody has begun less. */
static void user_punch(struct user *u)
{
        struct stage *st = u->st;
        uint32_t nr, first = own_units(u, &nr);

        for (uint32_t i = 0; i < nr; i++)
                atomic_store(&st->done[first + i], 0);
        T_CHECK(uext4_fallocate(u->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (uint64_t)first * UNIT, nr * UNIT) == 0);
}

/* How many units there were. */
static uint32_t read_units(struct user *u, struct uext4_file *file, uint32_t first, uint32_t nr)
{
        struct stage *st = u->st;
        ssize_t n;

        for (uint32_t i = 0; i < nr; i++)
                u->seen[i] = atomic_load(&st->done[first + i]);
        n = uext4_pread(file, u->buf, nr * UNIT, (uint64_t)first * UNIT);
        T_CHECK(n >= 0 && n % UNIT == 0);
        for (uint32_t i = 0; i < n / UNIT; i++) {
                const uint32_t begun = atomic_load(&st->begun[first + i]);
                uint32_t version;

                if (begun != u->seen[i])
                        continue; /* it was being written meanwhile: it may be half of each */
                version = unit_check(&u->buf[i], first + i);
                /* Zeros may be a hole that was punched since. */
                if (version != u->seen[i] && version > 0) {
                        fprintf(stderr, "unit %u: version %u, but %u was there before\n",
                                first + i, version, u->seen[i]);
                        abort();
                }
        }
        return (uint32_t)n / UNIT;
}

static void user_read(struct user *u)
{
        uint32_t first = (uint32_t)t_below(&u->rand, NR_UNITS - MAX_UNITS);
        uint32_t nr = 1 + (uint32_t)t_below(&u->rand, MAX_UNITS);

        (void)read_units(u, t_below(&u->rand, 2) ? u->file : u->direct, first, nr);
}

/* On and on, so that the mount's thread reads ahead. */
static void user_read_on(struct user *u)
{
        uint32_t nr = u->at + MAX_UNITS <= NR_UNITS ? MAX_UNITS : 0;

        if (nr > 0)
                nr = read_units(u, u->file, u->at, nr);
        u->at = nr < MAX_UNITS ? 0 : u->at + nr;
}

/* What one has written himself is there: nobody else writes or punches it. */
static void user_read_own(struct user *u)
{
        struct stage *st = u->st;
        uint32_t nr, first = own_units(u, &nr);
        struct uext4_file *file = t_below(&u->rand, 2) ? u->file : u->direct;
        ssize_t n = uext4_pread(file, u->buf, nr * UNIT, (uint64_t)first * UNIT);

        T_CHECK(n >= 0 && n % UNIT == 0);
        for (uint32_t i = 0; i < nr; i++) {
                uint32_t want = atomic_load(&st->done[first + i]);

                if (i >= n / UNIT) {
                        T_CHECK(want == 0);
                } else if (unit_check(&u->buf[i], first + i) != want) {
                        fprintf(stderr, "unit %u: version %u, not %u\n", first + i,
                                u->buf[i].version, want);
                        abort();
                }
        }
}

static void user_step(struct user *u)
{
        switch (t_below(&u->rand, 16)) {
        case 0:
                T_CHECK(uext4_fsync(u->file) == 0);
                break;
        case 1:
                T_CHECK(uext4_syncfs(u->st->m.fs) == 0);
                break;
        case 2:
                user_punch(u);
                break;
        case 3:
        case 4:
        case 5:
                user_read_own(u);
                break;
        case 6:
        case 7:
        case 8:
                user_read(u);
                break;
        default:
                user_write(u);
        }
}

static void run_user(void *arg, unsigned n)
{
        struct user u = {.st = arg, .n = n};

        u.rand = u.st->seed * 31 + n;
        u.file = t_file(u.st, "shared", 0);
        u.direct = t_file(u.st, "shared", O_DIRECT);
        u.buf = aligned_alloc(4096, MAX_UNITS * UNIT);
        u.seen = t_alloc(MAX_UNITS * sizeof(*u.seen));
        while (!is_over(u.st)) {
                if (n < NR_WRITERS)
                        user_step(&u);
                else
                        user_read_on(&u);
        }
        uext4_close(u.file);
        uext4_close(u.direct);
        free(u.buf);
        free(u.seen);
}

static void share(const char *mkfs, const char *options)
{
        struct stage st;

        t_open(&st, mkfs, options);
        t_create(&st, "shared");
        t_for_a_while(&st, NR_WRITERS + 1, run_user);
        t_close(&st);
}

static void who_shares_a_file_sees_what_is_there_B28(void **state)
{
        share(EXT4_4K, ",page_cache=1M");
        share(EXT4_4K, ",page_cache=4M"); /* which is enough for reading ahead */
        share(EXT4_1K, "");
}

static void who_shares_a_file_without_extents_B28(void **state)
{
        share(EXT3_1K, ",page_cache=1M");
}

/* ---- a file that grows, and is cut ---- */

static void grow(struct stage *st, struct uext4_file *file, struct uext4_file *direct)
{
        struct unit *buf = aligned_alloc(4096, 64 * UNIT);
        uint64_t rand = st->seed;
        uint32_t at = 0;

        while (!is_over(st)) {
                const uint32_t nr = 1 + (uint32_t)t_below(&rand, 64);

                if (at + nr > NR_UNITS) {
                        T_CHECK(uext4_truncate(file, 0) == 0);
                        at = 0;
                }
                for (uint32_t i = 0; i < nr; i++)
                        unit_fill(&buf[i], at + i, 1);
                T_CHECK(uext4_pwrite(t_below(&rand, 3) ? file : direct, buf, nr * UNIT,
                                     (uint64_t)at * UNIT) == (ssize_t)nr * UNIT);
                at += nr;
        }
        free(buf);
}

/* Whatever size is seen: what is below it is data, to readers, and to SEEK_HOLE. */
static void watch(struct stage *st, struct uext4_file *file, uint64_t rand)
{
        struct unit *buf = aligned_alloc(4096, FILE_MAX);

        while (!is_over(st)) {
                const uint32_t first = (uint32_t)t_below(&rand, NR_UNITS / 8);
                ssize_t n = uext4_pread(file, buf, FILE_MAX - first * UNIT, first * UNIT);
                int64_t hole;

                T_CHECK(n >= 0 && n % UNIT == 0);
                for (uint32_t i = 0; i < n / UNIT; i++)
                        T_CHECK(unit_check(&buf[i], first + i) == 1);
                hole = uext4_seek(file, 0, SEEK_HOLE);
                T_CHECK(hole == -ENXIO || hole % UNIT == 0);
                if (hole >= 0) /* it was the end of the file: nothing there was a hole */
                        T_CHECK(uext4_seek(file, 0, SEEK_DATA) <= 0);
        }
        free(buf);
}

static void run_grower(void *arg, unsigned n)
{
        struct stage *st = arg;
        struct uext4_file *file = t_file(st, "grows", 0);
        struct uext4_file *direct = t_file(st, "grows", O_DIRECT);

        if (n == 0)
                grow(st, file, direct);
        else
                watch(st, n % 2 ? file : direct, st->seed + n);
        uext4_close(file);
        uext4_close(direct);
}

static void who_sees_the_size_sees_the_data_C13_C17(void **state)
{
        struct stage st;

        t_open(&st, EXT4_4K, ",page_cache=1M");
        t_create(&st, "grows");
        t_for_a_while(&st, 3, run_grower);
        t_close(&st);
}

/* ---- data in memory is never reported as a hole (B21, B22) ---- */

static void run_seeker(void *arg, unsigned n)
{
        struct stage *st = arg;
        struct uext4_file *file = t_file(st, "sought", 0);
        struct fiemap_extent fe[2];
        uint64_t rand = st->seed;
        uint8_t *buf = t_alloc(65536);

        while (n == 0 && !is_over(st)) {
                T_CHECK(uext4_fsync(file) == 0);
                T_CHECK(uext4_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536,
                                        1 << 20) == 0);
                if (t_below(&rand, 2))
                        T_CHECK(uext4_fallocate(file, 0, 65536, 1 << 20) == 0);
                T_CHECK(uext4_pwrite(file, buf, 65536, 65536) == 65536);
        }
        while (n > 0 && !is_over(st)) {
                /* The first 64 KiB were written before, and stay. */
                T_CHECK(uext4_seek(file, 0, SEEK_DATA) == 0);
                T_CHECK(uext4_seek(file, 0, SEEK_HOLE) >= 65536);
                T_CHECK(uext4_fiemap(file, 0, 4096, fe, 2) == 1);
        }
        uext4_close(file);
        free(buf);
}

/* Written back and overwritten again and again: at each moment it is data. */
static void run_rewriter(void *arg, unsigned n)
{
        struct stage *st = arg;
        uint8_t *buf = t_alloc(65536);
        struct fiemap_extent fe[2];
        struct uext4_file *fresh;
        char name[16];

        for (unsigned i = 0; n == 0 && !is_over(st); i++) {
                /* A file that nobody has seen: delayed, then allocated, in front of the others.
                 */
                snprintf(name, sizeof(name), "f%u", i);
                t_create(st, name);
                fresh = t_file(st, name, 0);
                T_CHECK(uext4_pwrite(fresh, buf, 65536, 0) == 65536);
                for (unsigned k = 0; k < 2; k++) {
                        T_CHECK(uext4_seek(fresh, 0, SEEK_HOLE) == 65536);
                        T_CHECK(uext4_fiemap(fresh, 0, 65536, fe, 2) >= 1);
                        T_CHECK(fe[0].fe_logical == 0);
                }
                T_CHECK(uext4_unlink(st->root, name, strlen(name)) == 0);
                uext4_close(fresh);
        }
        while (n > 0 && !is_over(st))
                T_CHECK(uext4_syncfs(st->m.fs) == 0);
        free(buf);
}

static void data_is_never_a_hole_B21_B22(void **state)
{
        struct uext4_file *file;
        uint8_t *buf = t_alloc(65536);
        struct stage st;

        t_open(&st, EXT4_4K, "");
        t_create(&st, "sought");
        file = t_file(&st, "sought", 0);
        assert_int_equal(uext4_pwrite(file, buf, 65536, 0), 65536);
        assert_int_equal(uext4_truncate(file, 2 << 20), 0);
        uext4_close(file);
        t_for_a_while(&st, 3, run_seeker);
        t_for_a_while(&st, 3, run_rewriter);
        t_close(&st);
        free(buf);
}

/* ---- files that go while they are dirty ---- */

static void run_maker(void *arg, unsigned n)
{
        struct stage *st = arg;
        uint64_t rand = st->seed + n;
        uint8_t *buf = t_alloc(300000);
        char name[16];

        for (unsigned i = 0; !is_over(st); i++) {
                struct uext4_file *a, *b;

                snprintf(name, sizeof(name), "m%u-%u", n, i % 4);
                t_create(st, name);
                a = t_file(st, name, 0);
                b = t_file(st, name, 0);
                if (t_below(&rand, 2))
                        T_CHECK(uext4_unlink(st->root, name, strlen(name)) == 0);
                else
                        name[0] = '\0';
                T_CHECK(uext4_pwrite(a, buf, 1 + t_below(&rand, 300000),
                                     t_below(&rand, 2) ? 0 : 100000) > 0);
                uext4_close(a);
                if (t_below(&rand, 4) == 0)
                        T_CHECK(uext4_fsync(b) == 0);
                uext4_close(b);
                if (name[0] == '\0') {
                        snprintf(name, sizeof(name), "m%u-%u", n, i % 4);
                        T_CHECK(uext4_unlink(st->root, name, strlen(name)) == 0);
                }
                if (t_below(&rand, 8) == 0)
                        T_CHECK(uext4_syncfs(st->m.fs) == 0);
        }
        free(buf);
}

static void files_go_while_they_are_dirty(void **state)
{
        struct statvfs before, after;
        struct stage st;

        t_open(&st, EXT4_4K, ",page_cache=1M");
        assert_int_equal(uext4_statfs(st.m.fs, &before), 0);
        t_for_a_while(&st, 3, run_maker);
        assert_int_equal(uext4_syncfs(st.m.fs), 0);
        assert_int_equal(uext4_statfs(st.m.fs, &after), 0);
        assert_int_equal(after.f_bfree, before.f_bfree);
        assert_int_equal(after.f_ffree, before.f_ffree);
        t_close(&st);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(who_shares_a_file_sees_what_is_there_B28),
                cmocka_unit_test(who_shares_a_file_without_extents_B28),
                cmocka_unit_test(who_sees_the_size_sees_the_data_C13_C17),
                cmocka_unit_test(data_is_never_a_hole_B21_B22),
                cmocka_unit_test(files_go_while_they_are_dirty),
        };

        cmocka_set_test_filter(getenv("UEXT4_TEST"));
        return cmocka_run_group_tests_name("write_cache_threads", tests, NULL, NULL);
}
