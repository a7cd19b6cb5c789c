/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading directories while names come and go: a name that is there during all of a walk comes
 * once; "." and ".." come first; any cookie has an answer.
 *
 * UEXT4_LONG=1: more of each.
 */
#include <errno.h>
#include <linux/fs.h>

#include "ext4/dir_read.h"
#include "ext4/hash.h"
#include "lib/lib.h"
#include "t_write.h"

#define DIRS T_EXT4 ",dir_index,filetype,large_file,sparse_super"

static bool is_long(void)
{
        return getenv("UEXT4_LONG") && strcmp(getenv("UEXT4_LONG"), "0") != 0;
}

/* ---- a directory and the names that may be in it ---- */

struct name {
        char text[256];
        bool is_there;
        bool was_touched; /* came or went since the walk began */
        unsigned nr_seen; /* in this walk */
};

struct world {
        struct t_image img;
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        struct t_log log;
        struct uext4_inode *dir;  /* "/d" */
        struct uext4_inode *file; /* that all names lead to */
        struct name *names;
        unsigned nr;
        uint64_t rand;
};

static struct uext4_inode *at(struct world *w, const char *path)
{
        struct uext4_inode *inode;

        T_CHECK(uext4_resolve(w->fs, path, 0, &inode) == 0);
        return inode;
}

static void mount_world(struct world *w)
{
        struct uext4_mount_params params = {
                .options = "rw,commit=100000", .log = t_log_line, .log_arg = &w->log};

        t_log_init(&w->log);
        T_CHECK(uext4_bdev_open_buffer(w->img.data, w->img.size, 0, &w->dev) == 0);
        T_CHECK(uext4_mount_bdev(w->dev, &params, &w->fs) == 0);
        T_CHECK(w->fs->ext4->journal);
        w->dir = at(w, "/d");
        w->file = at(w, "/f");
}

static void unmount_world(struct world *w)
{
        uext4_inode_put(w->dir);
        uext4_inode_put(w->file);
        T_CHECK(uext4_unmount(w->fs) == 0);
        uext4_bdev_close(w->dev);
}

static void begin(struct world *w, const char *options, unsigned mib, const char *more)
{
        char script[256];

        snprintf(script, sizeof(script), "%smkdir d\\nwrite /dev/null f\\n", more ? more : "");
        *w = (struct world){.img = t_mkfs((uint64_t)mib << 20, options, script), .rand = 7};
        mount_world(w);
}

static void end(struct world *w, const char *row)
{
        const char *complaint;

        unmount_world(w);
        complaint = t_fsck(&w->img, false);
        if (complaint)
                fail_msg("%s: e2fsck: %s", row, complaint);
        t_image_free(&w->img);
        free(w->names);
}

static void make_names(struct world *w, unsigned nr, unsigned max_len)
{
        w->names = t_alloc(nr * sizeof(*w->names));
        w->nr = nr;
        for (unsigned i = 0; i < nr; i++) {
                char *text = w->names[i].text;
                size_t len = 8 + t_below(&w->rand, max_len - 7);

                memset(&w->names[i], 0, sizeof(w->names[i]));
                memset(text, 'n', len);
                text[snprintf(text, 8, "%u", i)] = '-';
                text[len] = '\0';
        }
}

static void enter(struct world *w, struct name *n)
{
        int ret = uext4_link(w->file, w->dir, n->text, strlen(n->text));

        t_assert_row(n->text, ret, 0);
        n->is_there = n->was_touched = true;
}

static void leave(struct world *w, struct name *n)
{
        t_assert_row(n->text, uext4_unlink(w->dir, n->text, strlen(n->text)), 0);
        n->is_there = false;
        n->was_touched = true;
}

static void toggle(struct world *w, struct name *n)
{
        if (n->is_there)
                leave(w, n);
        else
                enter(w, n);
}

/* ---- a walk ---- */

struct walk {
        const char *row;
        uint64_t cookie;
        unsigned nr;
};

static void walk_begin(struct world *w, struct walk *k, const char *row)
{
        *k = (struct walk){.row = row};
        for (unsigned i = 0; i < w->nr; i++) {
                w->names[i].was_touched = false;
                w->names[i].nr_seen = 0;
        }
}

static struct name *find(struct world *w, const char *text)
{
        unsigned i = (unsigned)atoi(text);

        if (i < w->nr && strcmp(w->names[i].text, text) == 0)
                return &w->names[i];
        for (i = 0; i < w->nr; i++) {
                if (strcmp(w->names[i].text, text) == 0)
                        return &w->names[i];
        }
        fail_msg("unknown name %s", text);
        return NULL;
}

/* One entry more; false at the end, where what must have come is looked at. */
static bool walk_next(struct world *w, struct walk *k)
{
        struct uext4_dirent e;
        uint64_t before = k->cookie;
        int ret = uext4_readdir(w->dir, &k->cookie, &e);
        struct name *n;

        if (ret == 1) {
                if (k->cookie <= before || k->cookie >> 63)
                        fail_msg("%s: a cookie does not rise: %llx, %llx", k->row,
                                 (unsigned long long)before, (unsigned long long)k->cookie);
                assert_int_equal(e.cookie, k->cookie);
                if (k->nr++ < 2) {
                        assert_string_equal(e.name, k->nr == 1 ? "." : "..");
                        return true;
                }
                n = find(w, e.name);
                if (n->nr_seen++ > 0 && !n->was_touched)
                        fail_msg("%s: %s comes twice", k->row, e.name);
                if (!n->is_there)
                        fail_msg("%s: %s comes and is not there", k->row, e.name);
                return true;
        }
        t_assert_row(k->row, ret, 0);
        for (unsigned i = 0; i < w->nr; i++) {
                n = &w->names[i];
                if (n->is_there && !n->was_touched && n->nr_seen != 1)
                        fail_msg("%s: %s is there all the time and does not come", k->row,
                                 n->text);
        }
        return false;
}

static void walk_all(struct world *w, const char *row)
{
        struct walk k;

        walk_begin(w, &k, row);
        while (walk_next(w, &k))
                ;
}

/* Walk, and change up to `most` names after each entry, of those below `limit`. */
static void walk_and_change(struct world *w, const char *row, unsigned most, unsigned limit)
{
        struct walk k;

        walk_begin(w, &k, row);
        while (walk_next(w, &k)) {
                for (uint64_t n = t_below(&w->rand, most + 1); n > 0; n--)
                        toggle(w, &w->names[t_below(&w->rand, limit)]);
        }
}

/* ---- what a directory may be like ---- */

static const struct {
        const char *name, *options, *script;
        unsigned nr, max_len;
} kinds[] = {
        {"hashed", "-b 1024 -O " DIRS, NULL, 1500, 60},
        {"hashed, long names", "-b 1024 -O " DIRS, NULL, 900, 247},
        {"hashed, 4k", "-b 4096 -O " DIRS, NULL, 3000, 40},
        {"tea", "-b 1024 -O " DIRS, "ssv def_hash_version tea\\n", 800, 60},
        {"legacy", "-b 1024 -O " DIRS, "ssv def_hash_version legacy\\n", 800, 60},
        {"large_dir", "-b 1024 -O large_dir," DIRS, NULL, 800, 60},
        {"no checksums", "-b 1024 -O " DIRS ",^metadata_csum", NULL, 800, 60},
        {"linear", "-b 1024 -O " T_EXT4 ",filetype", NULL, 300, 60},
        {"linear, 4k", "-b 4096 -O " T_EXT4 ",filetype", NULL, 300, 60},
        {"one block", "-b 4096 -O " DIRS, NULL, 60, 30},
        {"inline", "-b 1024 -I 1024 -O inline_data," DIRS, NULL, 16, 20},
        {"inline and more", "-b 1024 -I 256 -O inline_data," DIRS, NULL, 400, 60},
        {"inline, linear", "-b 1024 -I 256 -O inline_data,filetype," T_EXT4, NULL, 120, 60},
        {"ext2", "-b 1024 -O none", NULL, 200, 60},
};

static void test_changes(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                const char *row = kinds[i].name;
                struct world w;

                begin(&w, kinds[i].options, 16, kinds[i].script);
                make_names(&w, kinds[i].nr, kinds[i].max_len);
                walk_all(&w, row);
                walk_and_change(&w, row, 5, w.nr); /* it grows while it is read */
                for (unsigned k = 0; k < (is_long() ? 40 : 4); k++)
                        walk_and_change(&w, row, k % 3 + 1, w.nr);
                walk_all(&w, row);
                unmount_world(&w);
                mount_world(&w);
                walk_all(&w, row);
                end(&w, row);
        }
}

/*
 * A walk is begun in a small directory, which grows to `nr` names while it stands at one of the
 * first entries, and then goes on: inline ones get a block, linear ones become hashed, leaves
 * are split; then the directory becomes empty again but for what was there.
 */
static void test_growth(void **state)
{
        static const unsigned first[] = {1, 4, 12};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(kinds) * ARRAY_LEN(first); i++) {
                const char *row = kinds[i / ARRAY_LEN(first)].name;
                unsigned nr = first[i % ARRAY_LEN(first)];
                struct world w;

                if (!is_long() && i % ARRAY_LEN(first) != i / ARRAY_LEN(first) % 3)
                        continue;

                begin(&w, kinds[i / ARRAY_LEN(first)].options, 16,
                      kinds[i / ARRAY_LEN(first)].script);
                make_names(&w, kinds[i / ARRAY_LEN(first)].nr,
                           kinds[i / ARRAY_LEN(first)].max_len);
                for (unsigned k = 0; k < nr; k++)
                        enter(&w, &w.names[k]);
                for (unsigned stop = 0; stop < nr + 3; stop += 2) {
                        struct walk k;

                        walk_begin(&w, &k, row);
                        while (k.nr < stop && walk_next(&w, &k))
                                ;
                        for (unsigned n = nr; n < w.nr; n++)
                                enter(&w, &w.names[n]);
                        while (walk_next(&w, &k))
                                ;
                        walk_begin(&w, &k, row);
                        while (k.nr < stop && walk_next(&w, &k))
                                ;
                        for (unsigned n = nr; n < w.nr; n++)
                                leave(&w, &w.names[n]);
                        while (walk_next(&w, &k))
                                ;
                        if (!is_long() && stop > 3)
                                break;
                }
                end(&w, row);
        }
}

/* rm -r: what has come is removed at once. */
static void test_remove_what_comes(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                const char *row = kinds[i].name;
                struct uext4_dirent e;
                uint64_t cookie = 0;
                struct world w;

                if (!is_long() && i % 2)
                        continue;

                begin(&w, kinds[i].options, 16, kinds[i].script);
                make_names(&w, kinds[i].nr, kinds[i].max_len);
                for (unsigned n = 0; n < w.nr; n++)
                        enter(&w, &w.names[n]);
                while (uext4_readdir(w.dir, &cookie, &e) == 1) {
                        if (e.name[0] != '.')
                                leave(&w, find(&w, e.name));
                }
                for (unsigned n = 0; n < w.nr; n++)
                        assert_false(w.names[n].is_there);
                end(&w, row);
        }
}

/* Several walks of one directory at a time, each of which stands elsewhere. */
static void test_many_walks(void **state)
{
        struct walk walks[6];
        struct name *copies[6];
        struct world w;
        bool more = true;

        (void)state;
        begin(&w, "-b 1024 -O " DIRS, 16, NULL);
        make_names(&w, 600, 60);
        for (unsigned n = 0; n < w.nr; n++)
                enter(&w, &w.names[n]);
        for (unsigned k = 0; k < 6; k++) {
                walk_begin(&w, &walks[k], "many");
                copies[k] = t_alloc(w.nr * sizeof(*copies[k]));
                memcpy(copies[k], w.names, w.nr * sizeof(*copies[k]));
        }
        while (more) {
                more = false;
                for (unsigned k = 0; k < 6; k++) {
                        struct name *own = w.names;

                        w.names = copies[k];
                        for (uint64_t n = t_below(&w.rand, 9); n > 0; n--) {
                                if (!walk_next(&w, &walks[k]))
                                        break;
                                more = true;
                        }
                        w.names = own;
                }
        }
        for (unsigned k = 0; k < 6; k++) {
                assert_int_equal(walks[k].nr, w.nr + 2);
                free(copies[k]);
        }
        end(&w, "many walks");
}

/* ---- cookies ---- */

/* A cookie leads to the same entry again, in any order; numbers that are none have answers, and
 * who goes on from them comes to an end. */
static void test_seek(void **state)
{
        static const uint64_t odd[] = {
                1,
                2,
                12,
                1023,
                1ull << 40,
                (1ull << 62) - 1,
                1ull << 62,
                (1ull << 62) + 1,
                (1ull << 62) + 2,
                (1ull << 62) + 3,
                3ull << 61,
                (1ull << 63) - 2,
                (1ull << 63) - 1,
                1ull << 63,
                UINT64_MAX,
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                uint64_t *cookies;
                struct uext4_dirent *entries, e;
                unsigned nr = 0;
                struct world w;

                begin(&w, kinds[i].options, 16, kinds[i].script);
                make_names(&w, kinds[i].nr, kinds[i].max_len);
                for (unsigned n = 0; n < w.nr; n++)
                        enter(&w, &w.names[n]);
                cookies = t_alloc((w.nr + 3) * sizeof(*cookies));
                entries = t_alloc((w.nr + 3) * sizeof(*entries));
                cookies[0] = 0;
                while (uext4_readdir(w.dir, &cookies[nr], &entries[nr]) == 1) {
                        nr++;
                        cookies[nr] = cookies[nr - 1];
                        cookies[nr - 1] = nr > 1 ? entries[nr - 2].cookie : 0;
                }
                assert_int_equal(nr, w.nr + 2);
                for (unsigned k = 0; k < 500; k++) {
                        unsigned n = (unsigned)t_below(&w.rand, nr);
                        uint64_t cookie = cookies[n];

                        assert_int_equal(uext4_readdir(w.dir, &cookie, &e), 1);
                        assert_string_equal(e.name, entries[n].name);
                        assert_int_equal(cookie, entries[n].cookie);
                }
                for (unsigned k = 0; k < ARRAY_LEN(odd) + 100; k++) {
                        uint64_t cookie = k < ARRAY_LEN(odd) ? odd[k] : t_rand(&w.rand);
                        unsigned n = 0;

                        if (k >= ARRAY_LEN(odd) && k % 2)
                                cookie = 1ull << 62 | cookie >> 2;
                        while (uext4_readdir(w.dir, &cookie, &e) != 0)
                                assert_true(++n <= nr);
                }
                free(cookies);
                free(entries);
                end(&w, kinds[i].name);
        }
}

/*
 * The order of hashes without an index, and with more names than are kept at a time: a walk
 * that was begun when the directory was inline.
 */
static void test_linear_by_hash(void **state)
{
        const unsigned nr = 10000;
        uint64_t cookie = EXT4_COOKIE_FIRST, before = 0;
        struct uext4_dirent e;
        unsigned nr_seen = 0;
        struct world w;

        (void)state;
        begin(&w, "-b 4096 -O " T_EXT4 ",filetype,sparse_super", 16, NULL);
        make_names(&w, nr, 8);
        for (unsigned n = 0; n < nr; n++)
                enter(&w, &w.names[n]);
        while (uext4_readdir(w.dir, &cookie, &e) == 1) {
                assert_true(cookie > before);
                before = cookie;
                assert_int_equal(find(&w, e.name)->nr_seen++, 0);
                nr_seen++;
        }
        assert_int_equal(nr_seen, nr);
        end(&w, "linear by hash");
}

/* ---- names that look the same ---- */

#define LEGACY      "-b 1024 -E hash_seed=00000000-0000-0000-0000-000000000000 -O " DIRS
#define LEGACY_SAYS "ssv def_hash_version legacy\\n"

/*
 * After a prefix of four characters the legacy hash cannot tell these two times three bytes
 * apart, whatever follows.  One behind the other they make 128 names of one hash.
 */
static const struct {
        const char *prefix;
        uint8_t either[3], or [3];
} same[] = {
        {"faaa", {113, 157, 45}, {124, 168, 56}},   {"faaa", {9, 73, 12}, {221, 29, 224}},
        {"caaa", {183, 199, 9}, {227, 155, 221}},   {"faaa", {23, 132, 5}, {45, 154, 27}},
        {"iaaa", {221, 205, 155}, {232, 216, 166}}, {"faaa", {142, 61, 36}, {164, 39, 58}},
        {"baaa", {155, 162, 103}, {166, 173, 114}},
};

static void make_same(struct world *w, unsigned nr_others, size_t len)
{
        const unsigned nr = 1u << ARRAY_LEN(same);

        make_names(w, nr + nr_others, 60);
        for (unsigned i = 0; i < nr; i++) {
                char *text = w->names[i].text;

                memset(text, 'n', len);
                for (size_t k = 0; k < ARRAY_LEN(same); k++) {
                        memcpy(text + 7 * k, same[k].prefix, 4);
                        memcpy(text + 7 * k + 4, i >> k & 1 ? same[k].either : same[k].or, 3);
                }
                text[len] = '\0';
        }
}

static void check_hashes(struct world *w, unsigned nr)
{
        const le32 seed[4] = {{0}};

        for (unsigned i = 1; i < nr; i++)
                assert_int_equal(ext4_dx_hash(EXT4_DX_HASH_LEGACY, seed, w->names[i].text,
                                              strlen(w->names[i].text)),
                                 ext4_dx_hash(EXT4_DX_HASH_LEGACY, seed, w->names[0].text,
                                              strlen(w->names[0].text)));
}

/* Names of one hash fill many leaves, which bit 0 joins. */
static void test_one_hash(void **state)
{
        static const size_t lens[] = {49, 255};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
                struct world w;

                begin(&w, LEGACY, 16, LEGACY_SAYS);
                make_same(&w, 200, lens[i]);
                check_hashes(&w, 1u << ARRAY_LEN(same));
                for (unsigned k = 0; k < (is_long() ? 50 : 6); k++)
                        walk_and_change(&w, "one hash", k % 4 + 1, w.nr);
                for (unsigned n = 0; n < w.nr; n++) {
                        struct uext4_inode *found = NULL;
                        int ret = uext4_lookup(w.dir, w.names[n].text, strlen(w.names[n].text),
                                               &found);

                        assert_int_equal(ret, w.names[n].is_there ? 0 : -ENOENT);
                        uext4_inode_put(found);
                }
                walk_all(&w, "one hash");
                end(&w, "one hash");
        }
}

/* Names of which all that is in a cookie is the same. */
static void test_one_cookie(void **state)
{
        static const char *const pairs[][2] = {
                {"bz0ero0", "u12hlxv"},
                {"eddebzg", "0zdfptf"},
                {"gvoadyu", "kymg14x"},
                {"lvdbfdd", "u01gkik"},
        };
        const le32 seed[4] = {{0}};
        struct world w;
        struct walk k;

        (void)state;
        begin(&w, LEGACY, 16, LEGACY_SAYS);
        make_names(&w, 200, 60);
        for (unsigned i = 0; i < 8; i++) {
                const char *other = pairs[i / 2][!(i % 2)];

                snprintf(w.names[i].text, 16, "%s", pairs[i / 2][i % 2]);
                assert_int_equal(ext4_name_tail(seed, w.names[i].text, 7) >> 6,
                                 ext4_name_tail(seed, other, 7) >> 6);
        }
        for (unsigned n = 0; n < w.nr; n++)
                enter(&w, &w.names[n]);
        walk_all(&w, "one cookie");
        /* What has come goes: the other of the pair still comes. */
        walk_begin(&w, &k, "one cookie");
        for (;;) {
                struct uext4_dirent e;
                uint64_t cookie = k.cookie;
                struct name *n;

                if (uext4_readdir(w.dir, &cookie, &e) != 1)
                        break;
                assert_true(walk_next(&w, &k));
                n = e.name[0] == '.' ? NULL : find(&w, e.name);
                if (n && n < w.names + 8)
                        leave(&w, n);
        }
        for (unsigned n = 0; n < w.nr; n++) {
                assert_int_equal(w.names[n].nr_seen, 1);
                assert_int_equal(w.names[n].is_there, n >= 8);
        }
        end(&w, "one cookie");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_changes),
                cmocka_unit_test(test_growth),
                cmocka_unit_test(test_remove_what_comes),
                cmocka_unit_test(test_many_walks),
                cmocka_unit_test(test_seek),
                cmocka_unit_test(test_linear_by_hash),
                cmocka_unit_test(test_one_hash),
                cmocka_unit_test(test_one_cookie),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
