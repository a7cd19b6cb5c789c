/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names that come, go and move, on file systems of many kinds: what is there is held against a
 * model by readdir, by look-up and by debugfs, and e2fsck must be content.
 *
 * UEXT4_LONG=1: also a directory of three levels, and one with 66 000 directories.
 */
#include <errno.h>
#include <linux/fs.h>

#include "lib/lib.h"
#include "t_write.h"

/* ---- a mount, and the names that it should have ---- */

struct name {
        char text[256];
        uint64_t ino; /* 0: there is no such name */
};

struct world {
        struct t_image img;
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        struct t_log log;
        struct uext4_inode *dir; /* "/d" */
        struct name *names;      /* of /d */
        unsigned nr;
};

static void mount_world(struct world *w)
{
        struct uext4_mount_params params = {
                .options = "rw,commit=100000", .log = t_log_line, .log_arg = &w->log};

        t_log_init(&w->log);
        T_CHECK(uext4_bdev_open_buffer(w->img.data, w->img.size, 0, &w->dev) == 0);
        T_CHECK(uext4_mount_bdev(w->dev, &params, &w->fs) == 0);
        T_CHECK(w->fs->ext4->journal);
}

static void unmount_world(struct world *w)
{
        uext4_inode_put(w->dir);
        w->dir = NULL;
        T_CHECK(uext4_unmount(w->fs) == 0);
        uext4_bdev_close(w->dev);
}

static struct uext4_inode *at(struct world *w, const char *path)
{
        struct uext4_inode *inode;
        int ret = uext4_resolve(w->fs, path, UEXT4_NOFOLLOW, &inode);

        if (ret < 0)
                fail_msg("%s: %d", path, ret);
        return inode;
}

static uint64_t ino_of(struct uext4_inode *inode)
{
        struct uext4_stat st;

        T_CHECK(uext4_stat(inode, &st) == 0);
        return st.ino;
}

static void begin(struct world *w, const char *options, unsigned mib, const char *script,
                  unsigned nr_names)
{
        *w = (struct world){.img = t_mkfs((uint64_t)mib << 20, options, script)};
        w->names = t_alloc(nr_names * sizeof(*w->names));
        w->nr = nr_names;
        mount_world(w);
}

static void check_fsck(struct world *w, const char *row)
{
        const char *complaint = t_fsck(&w->img, false);

        if (complaint) {
                if (getenv("UEXT4_KEEP")) {
                        FILE *f = fopen(getenv("UEXT4_KEEP"), "w");

                        fwrite(w->img.data, 1, w->img.size, f);
                        fclose(f);
                }
                fail_msg("%s: e2fsck: %s", row, complaint);
        }
}

static void end(struct world *w, const char *row)
{
        if (w->fs)
                unmount_world(w);
        check_fsck(w, row);
        t_image_free(&w->img);
        free(w->names);
}

/* ---- by readdir, by look-up ---- */

static int by_text(const void *a, const void *b)
{
        return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

/* The names that are there, in order. */
static unsigned wanted(const struct world *w, struct name **ret_names)
{
        struct name *want = t_alloc((w->nr + 1) * sizeof(*want));
        unsigned nr = 0;

        for (unsigned i = 0; i < w->nr; i++) {
                if (w->names[i].ino)
                        want[nr++] = w->names[i];
        }
        qsort(want, nr, sizeof(*want), by_text);
        *ret_names = want;
        return nr;
}

static void compare(const char *row, const char *how, const struct name *got, unsigned nr_got,
                    const struct name *want, unsigned nr_want)
{
        for (unsigned i = 0; i < nr_got && i < nr_want; i++) {
                if (strcmp(got[i].text, want[i].text) != 0 || got[i].ino != want[i].ino)
                        fail_msg("%s: %s: %s (%llu) rather than %s (%llu)", row, how,
                                 got[i].text, (unsigned long long)got[i].ino, want[i].text,
                                 (unsigned long long)want[i].ino);
        }
        if (nr_got != nr_want)
                fail_msg("%s: %s: %u names rather than %u", row, how, nr_got, nr_want);
}

static void check_names(struct world *w, const char *row)
{
        struct name *want, *got = t_alloc((w->nr + 3) * sizeof(*got));
        unsigned nr_want = wanted(w, &want), nr = 0;
        struct uext4_dirent entry;
        uint64_t cookie = 0;
        int ret;

        while ((ret = uext4_readdir(w->dir, &cookie, &entry)) > 0) {
                if (strcmp(entry.name, ".") == 0 || strcmp(entry.name, "..") == 0)
                        continue;
                T_CHECK(nr < w->nr + 3);
                snprintf(got[nr].text, sizeof(got[nr].text), "%s", entry.name);
                got[nr++].ino = entry.ino;
        }
        t_assert_row(row, ret, 0);
        qsort(got, nr, sizeof(*got), by_text);
        compare(row, "readdir", got, nr, want, nr_want);
        for (unsigned i = 0; i < w->nr; i++) {
                const struct name *n = &w->names[i];
                uint32_t ino = 0;

                ret = ext4_dir_lookup(inode_in(w->dir), n->text, strlen(n->text), &ino);
                if (n->text[0] && (ret != (n->ino ? 0 : -ENOENT) || ino != n->ino))
                        fail_msg("%s: look-up of %s: %d", row, n->text, ret);
        }
        free(want);
        free(got);
}

/* ---- by debugfs ---- */

static void check_debugfs(struct world *w, const char *row)
{
        struct name *want, *got = t_alloc((w->nr + 3) * sizeof(*got));
        unsigned nr_want = wanted(w, &want), nr = 0;
        char command[512];
        size_t size = 0;
        char *line = NULL;
        FILE *out;

        snprintf(command, sizeof(command), "debugfs -R 'ls -p /d' %s 2>/dev/null",
                 host_path(w->img.data, w->img.size));
        out = popen(command, "r");
        T_CHECK(out);
        while (getline(&line, &size, out) > 0) { /* /inode/mode/uid/gid/name/size/ */
                unsigned long long ino;
                char name[256];

                if (sscanf(line, "/%llu/%*[^/]/%*[^/]/%*[^/]/%255[^/]/", &ino, name) != 2 ||
                    strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                        continue;
                T_CHECK(nr < w->nr + 3);
                snprintf(got[nr].text, sizeof(got[nr].text), "%s", name);
                got[nr++].ino = ino;
        }
        pclose(out);
        free(line);
        qsort(got, nr, sizeof(*got), by_text);
        compare(row, "debugfs", got, nr, want, nr_want);
        free(want);
        free(got);
}

/* ---- many names ---- */

/* A name for number i, of any length up to `max`. */
static void make_name(char *text, unsigned i, unsigned max)
{
        uint64_t rand = i + 1;
        size_t len = 8 + t_below(&rand, max - 7);

        if (max == 255 && i % 7 == 0)
                len = 255;
        snprintf(text, 256, "%u-", i);
        for (size_t k = strlen(text); k < len; k++) {
                text[k] = "abcdefghijklmnopqrstuvwxyzABCDEF\xc3\xa4-_+%"[t_below(&rand, 38)];
                text[k + 1] = '\0';
        }
}

static int make_one_as(struct world *w, unsigned i)
{
        struct name *n = &w->names[i];
        const size_t len = strlen(n->text);
        struct uext4_inode *inode, *first;
        char target[300];
        int ret;

        switch (i % 16) {
        case 5:
                ret = uext4_mkdir(w->dir, n->text, len, 0750, &inode);
                break;
        case 6:
                memset(target, 'x', sizeof(target));
                ret = uext4_symlink(w->dir, n->text, len, target, 1 + i % 200, &inode);
                break;
        case 7:
                ret = uext4_mknod(w->dir, n->text, len, S_IFCHR | 0600, 5, i, &inode);
                break;
        case 8:
                ret = uext4_mknod(w->dir, n->text, len, S_IFIFO | 0600, 0, 0, &inode);
                break;
        case 9:
                if (w->names[i - 9].ino == 0)
                        return 0;
                ret = uext4_lookup(w->dir, w->names[i - 9].text, strlen(w->names[i - 9].text),
                                   &first);
                if (ret < 0)
                        return ret;
                ret = uext4_link(first, w->dir, n->text, len);
                inode = first;
                if (ret < 0)
                        uext4_inode_put(first);
                break;
        default:
                ret = uext4_create(w->dir, n->text, len, 0640, &inode);
        }
        if (ret < 0)
                return ret;
        n->ino = ino_of(inode);
        uext4_inode_put(inode);
        return 0;
}

static int make_one(struct world *w, unsigned i)
{
        const struct uext4_cred cred = {
                .uid = 1000 + i % 3, .gid = 1000, .flags = UEXT4_CRED_TRUSTED};
        int ret;

        uext4_cred_use(&cred);
        ret = make_one_as(w, i);
        uext4_cred_use(NULL);
        return ret;
}

static int remove_one(struct world *w, unsigned i)
{
        struct name *n = &w->names[i];
        int ret = uext4_unlink(w->dir, n->text, strlen(n->text));

        if (ret == -EISDIR)
                ret = uext4_rmdir(w->dir, n->text, strlen(n->text));
        if (ret == 0)
                n->ino = 0;
        return ret;
}

static void make_all(struct world *w, const char *row, unsigned max_len)
{
        for (unsigned i = 0; i < w->nr; i++) {
                make_name(w->names[i].text, i, max_len);
                t_assert_row(row, make_one(w, i), 0);
        }
}

static void make_dir(struct world *w, const char *row)
{
        struct uext4_inode *root = at(w, "/");

        t_assert_row(row, uext4_mkdir(root, "d", 1, 0755, &w->dir), 0);
        uext4_inode_put(root);
}

static void again(struct world *w, const char *row)
{
        unmount_world(w);
        check_fsck(w, row);
        check_debugfs(w, row);
        mount_world(w);
        w->dir = at(w, "/d");
        check_names(w, row);
}

static void fill_and_empty(struct world *w, const char *row, unsigned max_len)
{
        make_all(w, row, max_len);
        check_names(w, row);
        again(w, row);
        for (unsigned i = 0; i < w->nr; i++) {
                if (i % 3 && i % 16 != 0)
                        t_assert_row(row, remove_one(w, i), 0);
        }
        check_names(w, row);
        for (unsigned i = 0; i < w->nr; i++) {
                if (w->names[i].ino == 0 && i % 2)
                        t_assert_row(row, make_one(w, i), 0);
        }
        again(w, row);
        for (unsigned i = 0; i < w->nr; i++) {
                if (w->names[i].ino)
                        t_assert_row(row, remove_one(w, i), 0);
        }
        check_names(w, row);
        uext4_inode_put(w->dir);
        w->dir = at(w, "/");
        t_assert_row(row, uext4_rmdir(w->dir, "d", 1), 0);
}

static unsigned nr_levels(struct world *w)
{
        struct ext4_inode *dir = inode_in(w->dir);
        struct buf *buf;
        unsigned nr = 0;

        if (!(dir->flags & EXT4_FL_INDEX))
                return 0;
        T_CHECK(ext4_read_block(dir, 0, NULL, &buf) == 0 && buf);
        nr = ((const uint8_t *)buf->data)[24 + 6] + 1u;
        buf_put(buf);
        return nr;
}

static void test_many_kinds(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(t_configs); i += t_sweep_step(2)) {
                const struct t_config *c = &t_configs[i];
                struct world w;

                begin(&w, c->options, c->mib, NULL, c->mib < 10 ? 150 : 400);
                make_dir(&w, c->name);
                fill_and_empty(&w, c->name, 255);
                end(&w, c->name);
        }
}

#define DIRS T_EXT4 ",dir_index,filetype,large_file,sparse_super"

static void test_indexes(void **state)
{
        static const struct {
                const char *name, *options, *script;
                unsigned nr, max_len, levels;
        } rows[] = {
                {"half_md4", "-O " DIRS, "ssv def_hash_version half_md4\\n", 2500, 255, 2},
                {"tea", "-O " DIRS, "ssv def_hash_version tea\\n", 2500, 255, 2},
                {"legacy", "-O " DIRS, "ssv def_hash_version legacy\\n", 2500, 255, 2},
                {"no checksums", "-O " DIRS ",^metadata_csum", NULL, 2500, 255, 2},
                {"no filetype", "-O " DIRS ",^filetype", NULL, 2500, 255, 2},
                {"large_dir", "-O large_dir," DIRS, NULL, 2500, 255, 2},
                {"ext3", "-O has_journal,dir_index,filetype", NULL, 2500, 255, 2},
                {"ext2", "-O dir_index,filetype", NULL, 2500, 255, 2},
                {"short names", "-O " DIRS, NULL, 5000, 12, 2},
                {"bigalloc", "-C 4096 -O bigalloc," DIRS, NULL, 2500, 255, 2},
                {"4k", "-b 4096 -O " DIRS, NULL, 4000, 255, 1},
                {"small journal", "-J size=1 -O " DIRS, NULL, 2500, 255, 2},
                {"ea_inode", "-O ea_inode,orphan_file,project,quota,^quota," DIRS, NULL, 2500,
                 255, 2},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i += t_sweep_step(2)) {
                char options[512];
                struct world w;

                snprintf(options, sizeof(options), "-b 1024 -N 6000 %s", rows[i].options);
                begin(&w, options, 48, rows[i].script, rows[i].nr);
                make_dir(&w, rows[i].name);
                make_all(&w, rows[i].name, rows[i].max_len);
                t_assert_row(rows[i].name, nr_levels(&w), rows[i].levels);
                for (unsigned k = 0; k < w.nr; k++)
                        t_assert_row(rows[i].name, remove_one(&w, k), 0);
                fill_and_empty(&w, rows[i].name, rows[i].max_len);
                end(&w, rows[i].name);
        }
}

/* Signed and unsigned hashes of names that are not ASCII. */
static void test_hash_signs(void **state)
{
        static const char *const scripts[] = {"ssv flags 1\\n", "ssv flags 2\\n"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
                struct world w;

                begin(&w, "-b 1024 -N 4000 -O " DIRS, 48, scripts[i], 1500);
                make_dir(&w, scripts[i]);
                fill_and_empty(&w, scripts[i], 255);
                end(&w, scripts[i]);
        }
}

/* Three levels, of names of 255 bytes. */
static void test_large(void **state)
{
        struct world w;

        (void)state;
        if (!t_is_long())
                skip();
        begin(&w, "-b 1024 -N 60000 -I 128 -O large_dir," DIRS ",^extra_isize", 200, NULL,
              50000);
        make_dir(&w, "large");
        for (unsigned i = 0; i < w.nr; i++) {
                memset(w.names[i].text, 'n', 255);
                w.names[i].text[snprintf(w.names[i].text, 255, "%u", i)] = '-';
                t_assert_row("large", uext4_create(w.dir, w.names[i].text, 255, 0600, NULL), 0);
        }
        assert_int_equal(nr_levels(&w), 3);
        for (unsigned i = 0; i < w.nr; i++) {
                uint32_t ino;

                T_CHECK(ext4_dir_lookup(inode_in(w.dir), w.names[i].text, 255, &ino) == 0);
                w.names[i].ino = ino;
        }
        again(&w, "large");
        end(&w, "large");
}

/* Without large_dir the index fills up: that is -ENOSPC, and nothing is broken. */
static void test_full_index(void **state)
{
        struct world w;
        int ret = 0;
        unsigned i;

        (void)state;
        if (!t_is_long())
                skip();
        begin(&w, "-b 1024 -N 60000 -I 128 -O " DIRS ",^extra_isize", 200, NULL, 50000);
        make_dir(&w, "full");
        for (i = 0; i < w.nr && ret == 0; i++) {
                memset(w.names[i].text, 'n', 255);
                w.names[i].text[snprintf(w.names[i].text, 255, "%u", i)] = '-';
                ret = uext4_create(w.dir, w.names[i].text, 255, 0600, NULL);
        }
        assert_int_equal(ret, -ENOSPC);
        assert_true(i > 10000);
        assert_true(t_log_has(&w.log, "large_dir"));
        end(&w, "full");
}

static void test_many_directories(void **state)
{
        struct uext4_stat st;
        struct world w;
        char name[16];

        (void)state;
        if (!t_is_long())
                skip();
        begin(&w, "-b 1024 -N 70000 -I 128 -O " DIRS ",^extra_isize", 200, NULL, 1);
        make_dir(&w, "dirs");
        for (unsigned i = 0; i < 65100; i++) {
                snprintf(name, sizeof(name), "%u", i);
                t_assert_row("dirs", uext4_mkdir(w.dir, name, strlen(name), 0700, NULL), 0);
        }
        assert_int_equal(uext4_stat(w.dir, &st), 0);
        assert_int_equal(st.nlink, 1);
        end(&w, "dirs");
}

/* ---- inline directories ---- */

static void test_inline(void **state)
{
        static const unsigned sizes[] = {256, 512, 1024};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
                char options[256];
                struct world w;

                snprintf(options, sizeof(options), "-b 1024 -N 4000 -I %u -O inline_data," DIRS,
                         sizes[i]);
                begin(&w, options, 48, "mkdir /d\\nmkdir /e\\n", 600);
                w.dir = at(&w, "/d");
                assert_true(inode_in(w.dir)->flags & EXT4_FL_INLINE_DATA);
                make_name(w.names[0].text, 0, 20);
                assert_int_equal(make_one(&w, 0), 0);
                assert_true(inode_in(w.dir)->flags & EXT4_FL_INLINE_DATA);
                again(&w, options);
                assert_int_equal(remove_one(&w, 0), 0);
                make_all(&w, options, 255);
                assert_false(inode_in(w.dir)->flags & EXT4_FL_INLINE_DATA);
                again(&w, options);
                end(&w, options);
        }
}

/* ---- the kernel goes on ---- */

/* What the kernel does in the directory that we have made; then it is ours again. */
static void kernel_turn(struct world *w, const char *mnt)
{
        char path[600], to[600];

        for (unsigned i = 0; i < w->nr; i++) {
                struct name *n = &w->names[i];
                struct stat st;

                snprintf(path, sizeof(path), "%s/d/%s", mnt, n->text);
                if ((lstat(path, &st) == 0 ? st.st_ino : 0) != n->ino)
                        fail_msg("the kernel does not find %s", n->text);
                if (i % 4 == 0 && n->ino && !S_ISDIR(st.st_mode)) {
                        T_CHECK(unlink(path) == 0);
                        n->ino = 0;
                } else if (i % 4 == 1 && n->ino) {
                        make_name(n->text, i + 50000, 255);
                        snprintf(to, sizeof(to), "%s/d/%s", mnt, n->text);
                        T_CHECK(rename(path, to) == 0);
                }
        }
        for (unsigned i = 0; i < w->nr; i++) {
                struct name *n = &w->names[i];
                struct stat st;
                int fd;

                if (n->ino)
                        continue;
                snprintf(path, sizeof(path), "%s/d/%s", mnt, n->text);
                fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
                T_CHECK(fd >= 0 && fstat(fd, &st) == 0);
                close(fd);
                n->ino = st.st_ino;
        }
}

/* False when there is no kernel to ask. */
static bool give_to_kernel(struct world *w)
{
        struct host_mount m;

        if (!host_mount(&m, w->img.data, w->img.size, "rw"))
                return false;
        kernel_turn(w, m.path);
        host_umount(&m, w->img.data, w->img.size);
        return true;
}

static void test_kernel(void **state)
{
        static const char *const rows[] = {
                "-b 1024 -N 4000 -O " DIRS,
                "-b 1024 -N 4000 -O large_dir," DIRS ",^metadata_csum",
                "-b 4096 -N 4000 -O " DIRS,
                "-b 1024 -N 4000 -O has_journal,dir_index,filetype",
        };
        bool asked = false;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct world w;

                begin(&w, rows[i], 48, NULL, 1500);
                make_dir(&w, rows[i]);
                make_all(&w, rows[i], 255);
                unmount_world(&w);
                asked |= give_to_kernel(&w);
                check_fsck(&w, rows[i]);
                mount_world(&w);
                w.dir = at(&w, "/d");
                check_names(&w, rows[i]);
                for (unsigned k = 0; k < w.nr; k++) {
                        if (w.names[k].ino)
                                t_assert_row(rows[i], remove_one(&w, k), 0);
                }
                end(&w, rows[i]);
        }
        if (!asked)
                skip();
}

/* ---- what cannot be ---- */

static void test_errors(void **state)
{
        char longest[300];
        struct uext4_inode *root, *d, *f, *e;
        struct world w;

        (void)state;
        memset(longest, 'l', sizeof(longest));
        begin(&w, "-b 1024 -O " DIRS, 16, NULL, 1);
        root = at(&w, "/");
        assert_int_equal(uext4_mkdir(root, "d", 1, 0755, &d), 0);
        assert_int_equal(uext4_create(root, "f", 1, 0644, &f), 0);
        assert_int_equal(uext4_create(root, "f", 1, 0644, NULL), -EEXIST);
        assert_int_equal(uext4_mkdir(root, "f", 1, 0644, NULL), -EEXIST);
        assert_int_equal(uext4_mkdir(root, ".", 1, 0644, NULL), -EEXIST);
        assert_int_equal(uext4_create(f, "x", 1, 0644, NULL), -ENOTDIR);
        assert_int_equal(uext4_create(root, "", 0, 0644, NULL), -ENOENT);
        assert_int_equal(uext4_create(root, "a/b", 3, 0644, NULL), -EINVAL);
        assert_int_equal(uext4_create(root, longest, 256, 0644, NULL), -ENAMETOOLONG);
        assert_int_equal(uext4_create(root, longest, 255, 0644, NULL), 0);
        assert_int_equal(uext4_symlink(root, "s", 1, longest, 0, NULL), -ENOENT);
        assert_int_equal(uext4_mknod(root, "s", 1, S_IFDIR | 0600, 0, 0, NULL), -EINVAL);
        assert_int_equal(uext4_link(d, root, "dd", 2), -EPERM);
        assert_int_equal(uext4_link(f, root, "d", 1), -EEXIST);
        assert_int_equal(uext4_rmdir(root, "f", 1), -ENOTDIR);
        assert_int_equal(uext4_unlink(root, "d", 1), -EISDIR);
        assert_int_equal(uext4_mkdir(d, "e", 1, 0755, &e), 0);
        assert_int_equal(uext4_rmdir(root, "d", 1), -ENOTEMPTY);
        assert_int_equal(uext4_rmdir(root, ".", 1), -EINVAL);
        assert_int_equal(uext4_rmdir(root, "..", 2), -ENOTEMPTY);
        assert_int_equal(uext4_rename(root, "d", 1, e, "x", 1, 0), -EINVAL);
        assert_int_equal(uext4_rename(root, "d", 1, d, "x", 1, 0), -EINVAL);
        assert_int_equal(uext4_rename(d, "e", 1, root, "d", 1, 0), -ENOTEMPTY);
        assert_int_equal(uext4_rename(d, "e", 1, root, "d", 1, RENAME_EXCHANGE), -EINVAL);
        assert_int_equal(uext4_rename(d, "e", 1, root, "d", 1, RENAME_NOREPLACE), -EEXIST);
        assert_int_equal(uext4_rename(root, "d", 1, e, "x", 1, RENAME_EXCHANGE), -ENOENT);
        assert_int_equal(uext4_rename(d, "x", 1, root, "d", 1, 0), -ENOENT);
        assert_int_equal(uext4_rename(root, "f", 1, root, "d", 1, 0), -EISDIR);
        assert_int_equal(uext4_rename(root, "d", 1, root, "f", 1, 0), -ENOTDIR);
        assert_int_equal(uext4_rename(root, "d", 1, root, "f", 1, RENAME_NOREPLACE), -EEXIST);
        assert_int_equal(uext4_rename(root, "x", 1, root, "y", 1, 0), -ENOENT);
        assert_int_equal(uext4_rename(root, "f", 1, root, "y", 1, RENAME_EXCHANGE), -ENOENT);
        assert_int_equal(uext4_rename(root, ".", 1, root, "y", 1, 0), -EBUSY);
        assert_int_equal(
                uext4_rename(root, "f", 1, root, "d", 1, RENAME_WHITEOUT | RENAME_EXCHANGE),
                -EINVAL);
        assert_int_equal(uext4_rmdir(d, "e", 1), 0);
        assert_int_equal(uext4_create(e, "x", 1, 0644, NULL), -ENOENT);
        uext4_inode_put(root);
        uext4_inode_put(d);
        uext4_inode_put(e);
        uext4_inode_put(f);
        end(&w, "errors");
}

/* A directory with two names, of which ".." knows one; and one without "..". */
static void test_wrong_parents(void **state)
{
        struct uext4_inode *root, *good, *bad;
        struct world w;

        (void)state;
        begin(&w, "-b 1024 -O " DIRS, 16,
              "mkdir good\\nmkdir bad\\nmkdir good/x\\nln good/x bad/x\\nmkdir bad/none\\n"
              "mkdir bad/e\\nunlink bad/none/..\\n",
              1);
        root = at(&w, "/");
        good = at(&w, "/good");
        bad = at(&w, "/bad");
        assert_int_equal(uext4_rmdir(bad, "x", 1), -EUCLEAN);
        assert_int_equal(uext4_rmdir(bad, "none", 4), -EUCLEAN);
        assert_int_equal(uext4_rename(bad, "x", 1, root, "x", 1, 0), -EUCLEAN);
        assert_int_equal(uext4_rename(bad, "none", 4, root, "x", 1, 0), -EUCLEAN);
        assert_int_equal(uext4_rename(bad, "e", 1, bad, "x", 1, 0), -EUCLEAN);
        assert_int_equal(uext4_rename(bad, "e", 1, bad, "none", 4, 0), -EUCLEAN);
        assert_int_equal(uext4_rename(bad, "e", 1, root, "e", 1, 0), 0);
        assert_int_equal(uext4_rmdir(good, "x", 1), 0);
        uext4_inode_put(root);
        uext4_inode_put(good);
        uext4_inode_put(bad);
        unmount_world(&w);
        t_image_free(&w.img);
        free(w.names);
}

static void test_casefold(void **state)
{
        struct uext4_inode *root;
        struct world w;

        (void)state;
        begin(&w, "-b 1024 -E encoding=utf8 -O casefold," DIRS, 16, NULL, 1);
        root = at(&w, "/");
        make_dir(&w, "casefold");
        inode_in(w.dir)->flags |= EXT4_FL_CASEFOLD;
        assert_int_equal(uext4_create(w.dir, "x", 1, 0644, NULL), -EOPNOTSUPP);
        assert_true(t_log_has(&w.log, "casefold"));
        inode_in(w.dir)->flags &= ~EXT4_FL_CASEFOLD;
        uext4_inode_put(root);
        end(&w, "casefold");
}

/* ---- renaming ---- */

static void expect(struct world *w, const char *path, uint64_t ino, unsigned nlink)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        int ret = uext4_resolve(w->fs, path, UEXT4_NOFOLLOW, &inode);

        t_assert_row(path, ret, ino ? 0 : -ENOENT);
        if (ret < 0)
                return;
        T_CHECK(uext4_stat(inode, &st) == 0);
        t_assert_row(path, st.ino, ino);
        t_assert_row(path, st.nlink, nlink);
        uext4_inode_put(inode);
}

static uint64_t make(struct world *w, const char *dir, const char *name, bool is_dir)
{
        struct uext4_inode *up = at(w, dir), *inode;
        uint64_t ino;

        if (is_dir)
                t_assert_row(name, uext4_mkdir(up, name, strlen(name), 0755, &inode), 0);
        else
                t_assert_row(name, uext4_create(up, name, strlen(name), 0644, &inode), 0);
        ino = ino_of(inode);
        uext4_inode_put(inode);
        uext4_inode_put(up);
        return ino;
}

static int move(struct world *w, const char *dir, const char *name, const char *to_dir,
                const char *to, unsigned flags)
{
        struct uext4_inode *a = at(w, dir), *b = at(w, to_dir);
        int ret = uext4_rename(a, name, strlen(name), b, to, strlen(to), flags);

        uext4_inode_put(a);
        uext4_inode_put(b);
        return ret;
}

static void test_rename(void **state)
{
        uint64_t a, b, f, g, s, t;
        struct world w;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(t_configs); i++) {
                begin(&w, t_configs[i].options, t_configs[i].mib, NULL, 1);
                a = make(&w, "/", "a", true);
                b = make(&w, "/", "b", true);
                f = make(&w, "/a", "f", false);
                g = make(&w, "/b", "g", false);
                s = make(&w, "/a", "s", true);
                t = make(&w, "/b", "t", true);
                expect(&w, "/a", a, 3);

                /* The entry that has room for the new name goes with the old one. */
                make(&w, "/", "c", true);
                g = make(&w, "/c", "only", false);
                assert_int_equal(move(&w, "/c", "only", "/c", "one", 0), 0);
                expect(&w, "/c/one", g, 1);
                assert_int_equal(move(&w, "/c", "one", "/b", "g", 0), 0);

                assert_int_equal(move(&w, "/a", "f", "/a", "f2", 0), 0);
                expect(&w, "/a/f", 0, 0);
                expect(&w, "/a/f2", f, 1);
                assert_int_equal(move(&w, "/a", "f2", "/b", "g", 0), 0); /* over */
                expect(&w, "/a/f2", 0, 0);
                expect(&w, "/b/g", f, 1);
                g = make(&w, "/a", "g", false);
                assert_int_equal(move(&w, "/a", "g", "/b", "g", RENAME_EXCHANGE), 0);
                expect(&w, "/b/g", g, 1);
                expect(&w, "/a/g", f, 1);

                assert_int_equal(move(&w, "/a", "s", "/b", "s", 0), 0); /* ".." */
                expect(&w, "/a", a, 2);
                expect(&w, "/b", b, 4);
                expect(&w, "/b/s/..", b, 4);
                assert_int_equal(move(&w, "/b", "s", "/b", "t", 0), 0); /* over a directory */
                expect(&w, "/b/t", s, 2);
                expect(&w, "/b", b, 3);
                t = make(&w, "/a", "t", true);
                assert_int_equal(move(&w, "/a", "t", "/b", "t", RENAME_EXCHANGE), 0);
                expect(&w, "/b/t", t, 2);
                expect(&w, "/a/t", s, 2);
                expect(&w, "/a/t/..", a, 3);
                assert_int_equal(move(&w, "/a", "t", "/b", "t", 0), 0);
                expect(&w, "/b/t", s, 2);
                expect(&w, "/a", a, 2);
                /* A directory and a file change places. */
                assert_int_equal(move(&w, "/a", "g", "/b", "t", RENAME_EXCHANGE), 0);
                expect(&w, "/a/g/..", a, 3);
                expect(&w, "/b", b, 2);
                expect(&w, "/b/t", f, 1);
                /* Into what is below, and out of it. */
                assert_int_equal(move(&w, "/", "b", "/a/g", "b", 0), 0);
                expect(&w, "/a/g/b/..", s, 3);
                assert_int_equal(move(&w, "/a/g", "b", "/", "b", 0), 0);
                expect(&w, "/b/t", f, 1);
                end(&w, t_configs[i].name);
        }
}

/* Two names of one file stay, and a file lives as long as it has one. */
static void test_links(void **state)
{
        struct uext4_inode *root;
        struct world w;
        uint64_t f;

        (void)state;
        begin(&w, "-b 1024 -O " DIRS, 16, NULL, 1);
        f = make(&w, "/", "f", false);
        root = at(&w, "/");
        w.dir = at(&w, "/f");
        assert_int_equal(uext4_link(w.dir, root, "g", 1), 0);
        expect(&w, "/g", f, 2);
        assert_int_equal(move(&w, "/", "f", "/", "g", 0), 0);
        expect(&w, "/f", f, 2);
        make(&w, "/", "h", false);
        assert_int_equal(move(&w, "/", "h", "/", "g", 0), 0);
        expect(&w, "/f", f, 1);
        assert_int_equal(uext4_unlink(root, "f", 1), 0);
        assert_int_equal(uext4_link(w.dir, root, "f", 1), -ENOENT);
        uext4_inode_put(root);
        end(&w, "links");
}

/* A new name in a directory whose leaves split under the old one. */
static void test_rename_splits(void **state)
{
        struct world w;

        (void)state;
        begin(&w, "-b 1024 -N 4000 -O " DIRS, 48, NULL, 1200);
        make_dir(&w, "splits");
        make_all(&w, "splits", 100);
        for (unsigned i = 0; i < w.nr; i++) {
                struct name *n = &w.names[i];
                char to[256];

                make_name(to, i + 100000, 255);
                t_assert_row("splits",
                             uext4_rename(w.dir, n->text, strlen(n->text), w.dir, to,
                                          strlen(to), RENAME_NOREPLACE),
                             0);
                snprintf(n->text, sizeof(n->text), "%s", to);
        }
        check_names(&w, "splits");
        again(&w, "splits");
        make(&w, "/", "e", true); /* ".." of a hashed directory is in the root of its index */
        assert_int_equal(move(&w, "/", "d", "/e", "d", 0), 0);
        check_names(&w, "splits");
        end(&w, "splits");
}

/* ---- no space ---- */

static void test_no_space(void **state)
{
        static const struct {
                const char *name, *options;
        } rows[] = {
                {"blocks", "-b 1024 -N 8000 -m 0 -O " DIRS},
                {"inodes", "-b 1024 -N 200 -O " DIRS},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct world w;
                int ret = 0;

                begin(&w, rows[i].options, 8, NULL, 12000);
                make_dir(&w, rows[i].name);
                for (unsigned k = 0; k < w.nr && ret == 0; k++) {
                        char *text = w.names[k].text;
                        struct uext4_inode *inode;

                        make_name(text, k, 255);
                        ret = k % 2 ? uext4_create(w.dir, text, strlen(text), 0600, &inode)
                                    : uext4_mkdir(w.dir, text, strlen(text), 0700, &inode);
                        if (ret == 0) {
                                w.names[k].ino = ino_of(inode);
                                uext4_inode_put(inode);
                        }
                }
                t_assert_row(rows[i].name, ret, -ENOSPC);
                check_names(&w, rows[i].name);
                again(&w, rows[i].name);
                for (unsigned k = 0; k < w.nr; k++) {
                        if (w.names[k].ino)
                                t_assert_row(rows[i].name, remove_one(&w, k), 0);
                }
                end(&w, rows[i].name);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_wrong_parents),
                cmocka_unit_test(test_links),
                cmocka_unit_test(test_rename),
                cmocka_unit_test(test_rename_splits),
                cmocka_unit_test(test_many_kinds),
                cmocka_unit_test(test_indexes),
                cmocka_unit_test(test_hash_signs),
                cmocka_unit_test(test_inline),
                cmocka_unit_test(test_kernel),
                cmocka_unit_test(test_casefold),
                cmocka_unit_test(test_no_space),
                cmocka_unit_test(test_large),
                cmocka_unit_test(test_full_index),
                cmocka_unit_test(test_many_directories),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
