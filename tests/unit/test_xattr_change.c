/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Extended attributes set, replaced and removed, on whole images: against a model, and then
 * read by e2fsck, debugfs and, where this process may mount, the kernel; blocks that inodes
 * share; what new inodes inherit; power cuts.
 */

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sched.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "ext4/namei.h"
#include "ext4/xattr_change.h"
#include "ext4/xattr_value.h"
#include "t_write.h"

static const struct ext4_mount_options rw = {
        .sb_block = 1,
        .meta_cache_bytes = 4u << 20,
        .commit_ms = 3600 * 1000,
};

static const struct kind {
        const char *name, *options;
        bool values; /* may be in inodes */
} kinds[] = {
        {"4k", "-b 4096 -I 256 -O " T_EXT4, false},
        {"1k", "-b 1024 -I 256 -O " T_EXT4, false},
        {"128-byte inodes", "-b 1024 -I 128 -O has_journal,extents,^metadata_csum,^ext_attr",
         false},
        {"ea_inode, 4k", "-b 4096 -I 256 -O ea_inode," T_EXT4, true},
        {"ea_inode, 1k", "-b 1024 -I 256 -O ea_inode," T_EXT4, true},
        {"ea_inode, 128-byte inodes", "-b 1024 -I 128 -O ea_inode," T_EXT4, true},
        {"large inodes", "-b 4096 -I 1024 -O inline_data," T_EXT4, false},
        {"bigalloc", "-b 1024 -C 8192 -I 256 -O bigalloc,ea_inode," T_EXT4, true},
        {"no journal", "-b 1024 -I 256 -O ^has_journal,ea_inode,extents,metadata_csum", true},
        {"ext2", "-b 1024 -I 128 -O none", false},
};

#define SIZE (32u << 20)

/* ---- images ---- */

static const char *const paths[] = {"/file", "/dir", "/dir/sub"};

static struct t_image make_image(const struct kind *kind)
{
        return t_mkfs(SIZE, kind->options,
                      "write /etc/hostname file\\nmkdir dir\\nwrite /etc/hostname dir/sub\\n");
}

static struct ext4_inode *find(struct ext4_fs *fs, const char *path)
{
        struct ext4_inode *inode;
        char text[64], *save = NULL;

        T_CHECK(ext4_iget(fs, EXT4_INO_ROOT, &inode) == 0);
        snprintf(text, sizeof(text), "%s", path);
        for (char *part = strtok_r(text, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
                struct ext4_inode *dir = inode;
                uint32_t ino;

                T_CHECK(ext4_dir_lookup(dir, part, strlen(part), &ino) == 0);
                T_CHECK(ext4_iget(fs, ino, &inode) == 0);
                ext4_iput(dir);
        }
        return inode;
}

static void mount_rw(struct t_mount *m, struct t_image *img)
{
        int ret = t_mount(m, img, &rw);

        if (ret != 0)
                fail_msg("mount: %d: %s", ret, m->log.text);
        if (!m->fs->journal)
                fail_msg("mounted read-only: %s", m->log.text);
}

static void fsck(const char *row, const struct t_image *img)
{
        const char *complaint = t_fsck(img, false);

        if (complaint)
                fail_msg("%s: e2fsck: %s", row, complaint);
}

/* ---- the model ---- */

#define NR_NAMES  12
#define MAX_VALUE 65536

struct value {
        bool there;
        size_t size;
        uint8_t *bytes;
};

struct model {
        const struct kind *kind;
        struct value values[ARRAY_LEN(paths)][NR_NAMES];
        uint64_t rand;
        unsigned nr_full;
};

static void name_of(unsigned i, char *name, size_t size)
{
        static const char *const prefixes[] = {"user.", "trusted.", "security."};
        static const char *const middles[] = {"", "a-rather-long-part-of-a-name.", "x",
                                              "\xc3\xa4"};

        snprintf(name, size, "%s%s%u", prefixes[i % 3], middles[i % 4], i);
}

static void put(struct value *v, const void *bytes, size_t size)
{
        if (!v->bytes)
                v->bytes = t_alloc(MAX_VALUE);
        v->there = true;
        v->size = size;
        memcpy(v->bytes, bytes, size);
}

static size_t random_size(struct model *md, uint32_t block_size)
{
        switch (t_below(&md->rand, 8)) {
        case 0:
                return 0;
        case 1:
                return t_below(&md->rand, block_size + 100);
        case 2:
                return md->kind->values ? t_below(&md->rand, MAX_VALUE + 1)
                                        : t_below(&md->rand, block_size / 2);
        case 3:
                return t_below(&md->rand, block_size / 4);
        default:
                return t_below(&md->rand, 60);
        }
}

static void step_set(struct model *md, struct ext4_inode *inode, struct value *v,
                     const char *name)
{
        static uint8_t bytes[MAX_VALUE];
        size_t size = random_size(md, inode->fs->block_size);
        unsigned flags = t_below(&md->rand, 4) ? 0 : 1u << t_below(&md->rand, 2);
        int want = 0, ret;

        for (size_t i = 0; i < size; i++)
                bytes[i] = (uint8_t)t_rand(&md->rand);
        if (v->there && (flags & EXT4_XATTR_CREATE))
                want = -EEXIST;
        if (!v->there && (flags & EXT4_XATTR_REPLACE))
                want = -ENODATA;
        ret = ext4_xattr_set(inode, name, bytes, size, flags);
        if (ret == -ENOSPC && want == 0) {
                md->nr_full++;
                return;
        }
        t_assert_row(md->kind->name, ret, want);
        if (ret == 0)
                put(v, bytes, size);
}

static void step(struct model *md, struct ext4_inode **inodes)
{
        unsigned which = (unsigned)t_below(&md->rand, ARRAY_LEN(paths));
        unsigned i = (unsigned)t_below(&md->rand, NR_NAMES);
        struct value *v = &md->values[which][i];
        char name[64];

        name_of(i, name, sizeof(name));
        if (t_below(&md->rand, 3)) {
                step_set(md, inodes[which], v, name);
                return;
        }
        t_assert_row(md->kind->name, ext4_xattr_remove(inodes[which], name),
                     v->there ? 0 : -ENODATA);
        v->there = false;
}

/* `get`: the length, as getxattr(2) with -errno. */
static void check_values(const struct model *md, const char *who,
                         ssize_t (*get)(void *arg, unsigned path, const char *name, void *buf,
                                        size_t size),
                         void *arg)
{
        static uint8_t got[MAX_VALUE];

        for (unsigned p = 0; p < ARRAY_LEN(paths); p++) {
                for (unsigned i = 0; i < NR_NAMES; i++) {
                        const struct value *v = &md->values[p][i];
                        char name[64];
                        ssize_t len;

                        name_of(i, name, sizeof(name));
                        len = get(arg, p, name, got, sizeof(got));
                        if (len != (v->there ? (ssize_t)v->size : -ENODATA))
                                fail_msg("%s, %s: %s of %s: %zd, not %zd", md->kind->name, who,
                                         name, paths[p], len,
                                         v->there ? (ssize_t)v->size : -ENODATA);
                        if (v->there && memcmp(got, v->bytes, v->size) != 0)
                                fail_msg("%s, %s: %s of %s is different", md->kind->name, who,
                                         name, paths[p]);
                }
        }
}

static ssize_t get_own(void *arg, unsigned path, const char *name, void *buf, size_t size)
{
        return ext4_xattr_get(((struct ext4_inode **)arg)[path], name, buf, size);
}

/* ---- other readers ---- */

/* `arg`: the image. */
static ssize_t get_by_debugfs(void *arg, unsigned path, const char *name, void *buf,
                              size_t size)
{
        const struct t_image *img = arg;
        struct host_file out = host_file_new(NULL, 0);
        char command[512];
        ssize_t n = -ENODATA;

        snprintf(command, sizeof(command),
                 "debugfs -R 'ea_get -f %s %s %s' %s 2>&1 | grep -q 'not found'", out.path,
                 paths[path], name, host_path(img->data, img->size));
        if (system(command) != 0)
                n = pread(out.fd, buf, size, 0);
        host_file_close(&out);
        return n;
}

/* `arg`: where it is mounted. */
static ssize_t get_by_kernel(void *arg, unsigned path, const char *name, void *buf, size_t size)
{
        char full[400];
        ssize_t n;

        snprintf(full, sizeof(full), "%s%s", (const char *)arg, paths[path]);
        n = lgetxattr(full, name, buf, size);
        return n < 0 ? -errno : n;
}

static void check_by_others(const struct model *md, struct t_image *img)
{
        struct host_mount m;

        check_values(md, "debugfs", get_by_debugfs, img);
        if (host_mount(&m, img->data, img->size, "ro")) {
                check_values(md, "the kernel", get_by_kernel, m.path);
                host_umount(&m, img->data, img->size);
        }
}

/* ---- against the model ---- */

static void model_run(struct model *md, struct t_image *img, unsigned nr_steps)
{
        struct ext4_inode *inodes[ARRAY_LEN(paths)];
        struct t_mount m;

        mount_rw(&m, img);
        for (unsigned p = 0; p < ARRAY_LEN(paths); p++)
                inodes[p] = find(m.fs, paths[p]);
        check_values(md, "mounted", get_own, inodes);
        for (unsigned n = 0; n < nr_steps; n++) {
                step(md, inodes);
                if (n % 16 == 0)
                        check_values(md, "itself", get_own, inodes);
        }
        check_values(md, "itself", get_own, inodes);
        for (unsigned p = 0; p < ARRAY_LEN(paths); p++)
                ext4_iput(inodes[p]);
        t_umount(&m);
        if (m.log.nr_lines != 0 && t_log_has(&m.log, "inode"))
                fail_msg("%s: %s", md->kind->name, m.log.text);
        fsck(md->kind->name, img);
}

static void model_done(struct model *md)
{
        for (unsigned p = 0; p < ARRAY_LEN(paths); p++) {
                for (unsigned i = 0; i < NR_NAMES; i++)
                        free(md->values[p][i].bytes);
        }
}

static void attributes_are_what_was_set(void **state)
{
        uint64_t seed = t_seed();

        for (size_t k = 0; k < ARRAY_LEN(kinds); k += t_sweep_step(2)) {
                struct t_image img = make_image(&kinds[k]);
                struct model md = {.kind = &kinds[k], .rand = seed + k};

                for (unsigned round = 0; round < 3; round++)
                        model_run(&md, &img, 150);
                check_by_others(&md, &img);
                model_done(&md);
                t_image_free(&img);
        }
}

/* ---- the rest ---- */

static void errors_change_nothing(void **state)
{
        struct t_image img = make_image(&kinds[1]);
        static char big[MAX_VALUE + 1];
        struct ext4_inode *file;
        struct t_mount m;
        char buf[8];

        mount_rw(&m, &img);
        file = find(m.fs, "/file");
        assert_int_equal(ext4_xattr_set(file, "user.a", "old", 3, 0), 0);
        assert_int_equal(ext4_xattr_set(file, "user.a", big, MAX_VALUE + 1, 0), -E2BIG);
        assert_int_equal(ext4_xattr_set(file, "user.a", big, MAX_VALUE, 0), -ENOSPC);
        assert_int_equal(ext4_xattr_set(file, "user.a", big, 1024, 0), -ENOSPC);
        assert_int_equal(ext4_xattr_set(file, "user.", "x", 1, 0), -EINVAL);
        assert_int_equal(ext4_xattr_set(file, "other.a", "x", 1, 0), -EOPNOTSUPP);
        assert_int_equal(ext4_xattr_set(file, "system.posix_acl_default", "\2\0\0\0", 5, 0),
                         -EINVAL);
        assert_int_equal(ext4_xattr_get(file, "user.a", buf, sizeof(buf)), 3);
        assert_memory_equal(buf, "old", 3);
        ext4_iput(file);
        t_umount(&m);
        fsck("errors", &img);
        t_image_free(&img);
}

/* ---- shared blocks ---- */

/* The same attributes on all files, which the kernel puts into one block. */
static bool share_by_kernel(struct model *md, struct t_image *img)
{
        static const size_t sizes[] = {300, 100, 3000, 2000};
        static uint8_t bytes[MAX_VALUE];
        char full[400], name[64];
        struct host_mount m;

        if (!host_mount(&m, img->data, img->size, "rw"))
                return false;
        for (unsigned p = 0; p < ARRAY_LEN(paths); p++) {
                snprintf(full, sizeof(full), "%s%s", m.path, paths[p]);
                for (unsigned i = 0; i < (md->kind->values ? 4 : 2); i++) {
                        memset(bytes, (int)('a' + i), sizes[i]);
                        name_of(i, name, sizeof(name));
                        T_CHECK(lsetxattr(full, name, bytes, sizes[i], 0) == 0);
                        put(&md->values[p][i], bytes, sizes[i]);
                }
        }
        host_umount(&m, img->data, img->size);
        return true;
}

static void check_shared(struct t_image *img)
{
        struct ext4_inode *inodes[2];
        struct t_mount m;

        mount_rw(&m, img);
        for (unsigned p = 0; p < 2; p++)
                inodes[p] = find(m.fs, paths[p]);
        assert_int_not_equal(inodes[0]->file_acl, 0);
        assert_int_equal(inodes[0]->file_acl, inodes[1]->file_acl);
        for (unsigned p = 0; p < 2; p++)
                ext4_iput(inodes[p]);
        t_umount(&m);
}

static void unlink_all(struct t_image *img)
{
        static const struct ext4_name sub = {"sub", 3}, file = {"file", 4};
        struct ext4_inode *dir;
        struct t_mount m;

        mount_rw(&m, img);
        dir = find(m.fs, "/dir");
        assert_int_equal(ext4_unlink(dir, &sub), 0);
        ext4_iput(dir);
        dir = find(m.fs, "/");
        assert_int_equal(ext4_unlink(dir, &file), 0);
        ext4_iput(dir);
        t_umount(&m);
        fsck("unlinked", img);
}

static void shared_blocks_are_copied(void **state)
{
        static const size_t which[] = {2, 5};
        uint64_t seed = t_seed();

        for (size_t i = 0; i < 2 * ARRAY_LEN(which); i++) {
                const struct kind *kind = &kinds[which[i / 2]];
                struct t_image img = make_image(kind);
                struct model md = {.kind = kind, .rand = seed + i};

                if (!share_by_kernel(&md, &img)) {
                        t_image_free(&img);
                        skip();
                }
                check_shared(&img);
                if (i % 2)
                        unlink_all(&img);
                else
                        for (unsigned n = 0; n < 20; n++)
                                model_run(&md, &img, 1 + n / 3);
                if (i % 2 == 0) {
                        check_by_others(&md, &img);
                        unlink_all(&img);
                }
                model_done(&md);
                t_image_free(&img);
        }
}

/* Threads that each change another owner of the same block, whose copies name the same values:
 * the last one to leave finds that it is alone (-EAGAIN inside). */
static void change_one(void *arg, unsigned n)
{
        struct ext4_inode *inode = ((struct ext4_inode **)arg)[n];
        char name[64];

        name_of(n, name, sizeof(name));
        T_CHECK(ext4_xattr_remove(inode, name) == 0);
        for (unsigned i = 0; i < NR_NAMES; i++) {
                name_of(i, name, sizeof(name));
                T_CHECK(ext4_xattr_set(inode, name, name, strlen(name), 0) == 0);
        }
}

/* Or deletes it. */
static void unlink_one(void *arg, unsigned n)
{
        static const struct ext4_name names[] = {{"file", 4}, {"sub", 3}};
        struct ext4_inode **dirs = arg;

        T_CHECK(ext4_unlink(dirs[n], &names[n]) == 0);
}

static void owners_of_a_block_go(void **state)
{
        const struct kind *kind = &kinds[5];
        struct model md = {.kind = kind};
        struct t_image base = make_image(kind);

        if (!share_by_kernel(&md, &base)) {
                t_image_free(&base);
                skip();
        }
        for (unsigned round = 0; round < 8; round++) {
                struct t_image img = t_image_copy(&base);
                struct ext4_inode *dirs[2];
                struct t_mount m;
                char name[64];

                mount_rw(&m, &img);
                dirs[0] = find(m.fs, "/");
                dirs[1] = find(m.fs, "/dir");
                for (unsigned i = 0; i < 3; i++) {
                        name_of(i, name, sizeof(name));
                        T_CHECK(ext4_xattr_remove(dirs[1], name) == 0);
                }
                t_run_threads(2, unlink_one, dirs);
                ext4_iput(dirs[0]);
                ext4_iput(dirs[1]);
                t_umount(&m);
                fsck("deleted by threads", &img);
                t_image_free(&img);
        }
        model_done(&md);
        t_image_free(&base);
}

static void owners_of_a_block_go_their_ways(void **state)
{
        const struct kind *kind = &kinds[5];
        struct model md = {.kind = kind};
        struct t_image base = make_image(kind);

        if (!share_by_kernel(&md, &base)) {
                t_image_free(&base);
                skip();
        }
        for (unsigned round = 0; round < 16; round++) {
                struct t_image img = t_image_copy(&base);
                struct ext4_inode *inodes[ARRAY_LEN(paths)];
                struct t_mount m;

                mount_rw(&m, &img);
                for (unsigned p = 0; p < ARRAY_LEN(paths); p++)
                        inodes[p] = find(m.fs, paths[p]);
                t_run_threads(ARRAY_LEN(paths), change_one, inodes);
                for (unsigned p = 0; p < ARRAY_LEN(paths); p++)
                        ext4_iput(inodes[p]);
                t_umount(&m);
                fsck("threads", &img);
                t_image_free(&img);
        }
        model_done(&md);
        t_image_free(&base);
}

/*
 * The same, one step at a time: the first owner is held up where it makes the values of the
 * block its copy's, too, by the lock of one of them; meanwhile the second removes another one.
 */
struct leaving {
        struct ext4_inode *inodes[2];
        struct ext4_inode *values[2]; /* the first one is locked */
        char name[64];                /* of the second */
        struct buf *block;
        atomic_bool is_done;
};

static void find_values(struct leaving *l)
{
        struct ext4_fs *fs = l->inodes[0]->fs;
        struct ext4_xattr_set set = {0};
        unsigned nr = 0;

        T_CHECK(buf_read(fs->bufs, l->inodes[0]->file_acl, NULL, 0, &l->block) == 0);
        T_CHECK(ext4_xattr_set_of_block(&set, l->block->data, fs->block_size) == 0);
        for (size_t i = 0; i < set.nr; i++) {
                if (set.items[i].inum == 0)
                        continue;
                T_CHECK(nr < 2 && ext4_iget(fs, set.items[i].inum, &l->values[nr++]) == 0);
                for (unsigned n = 0; n < NR_NAMES; n++) {
                        struct ext4_xattr_key key;
                        char name[64];

                        name_of(n, name, sizeof(name));
                        T_CHECK(ext4_xattr_key_of(name, &key) == 0);
                        if (ext4_xattr_set_find(&set, &key, 0) == i)
                                memcpy(l->name, name, sizeof(name));
                }
        }
        T_CHECK(nr == 2 && l->name[0] != '\0');
        ext4_xattr_set_done(&set);
}

static bool is_shared(struct leaving *l)
{
        const struct ext4_xattr_header *header = l->block->data;
        struct mtx *lock = ext4_inode_raw_lock(l->inodes[0]->fs->inodes, l->block->blk);
        bool shared;

        mtx_lock(lock);
        shared = le32_get(header->h_refcount) > 1;
        mtx_unlock(lock);
        return shared;
}

static void leave(void *arg, unsigned n)
{
        struct leaving *l = arg;
        char name[64];

        name_of(0, name, sizeof(name));
        if (n == 0) { /* the lock */
                rwsem_write_lock(&l->values[0]->map_lock);
                for (unsigned i = 0; i < 100 && !atomic_load(&l->is_done); i++)
                        usleep(1000);
                rwsem_write_unlock(&l->values[0]->map_lock);
        } else if (n == 1) {
                usleep(10000);
                T_CHECK(ext4_xattr_remove(l->inodes[0], name) == 0);
        } else {
                for (unsigned i = 0; i < 50 && is_shared(l); i++)
                        usleep(1000);
                T_CHECK(ext4_xattr_remove(l->inodes[1], l->name) == 0);
                atomic_store(&l->is_done, true);
        }
}

static void check_value(struct ext4_inode *inode, const struct model *md, unsigned i)
{
        const struct value *v = &md->values[0][i];
        char name[64], *got = t_alloc(MAX_VALUE);

        name_of(i, name, sizeof(name));
        assert_int_equal(ext4_xattr_get(inode, name, got, MAX_VALUE), v->size);
        assert_memory_equal(got, v->bytes, v->size);
        free(got);
}

static void values_outlive_an_owner_that_leaves(void **state)
{
        static const struct ext4_name sub = {"sub", 3};
        struct model md = {.kind = &kinds[5]};
        struct t_image img = make_image(&kinds[5]);
        struct leaving l = {0};
        struct t_mount m;

        if (!share_by_kernel(&md, &img)) {
                t_image_free(&img);
                skip();
        }
        mount_rw(&m, &img);
        for (unsigned p = 0; p < 2; p++)
                l.inodes[p] = find(m.fs, paths[p]);
        T_CHECK(ext4_unlink(l.inodes[1], &sub) == 0);
        find_values(&l);
        t_run_threads(3, leave, &l);
        buf_put(l.block);
        for (unsigned p = 0; p < 2; p++) {
                ext4_iput(l.values[p]);
                ext4_iput(l.inodes[p]);
        }
        t_umount(&m);
        fsck("leaving", &img); /* which does not always miss a value */
        mount_rw(&m, &img);
        l.inodes[0] = find(m.fs, paths[0]);
        for (unsigned i = 1; i < 4; i++)
                check_value(l.inodes[0], &md, i);
        ext4_iput(l.inodes[0]);
        t_umount(&m);
        model_done(&md);
        t_image_free(&img);
}

/* ---- values that go while they are read ---- */

struct reading {
        struct ext4_inode *inode;
        atomic_bool is_done;
};

static void read_or_replace(void *arg, unsigned n)
{
        static const uint8_t bytes[5000];
        struct reading *r = arg;
        uint8_t got[sizeof(bytes)];

        for (unsigned i = 0; n == 0 && i < 3000; i++)
                T_CHECK(ext4_xattr_set(r->inode, "user.v", bytes, sizeof(bytes), 0) == 0 &&
                        ext4_xattr_remove(r->inode, "user.v") == 0);
        if (n == 0)
                atomic_store(&r->is_done, true);
        while (!atomic_load(&r->is_done)) {
                ssize_t len = ext4_xattr_get(r->inode, "user.v", got, sizeof(got));

                T_CHECK(len == sizeof(got) || len == -ENODATA);
        }
}

/*
 * Its number may be another's by then.  All threads on one CPU: who gives up the lock is likely
 * to wait for the CPU next, while who has waited for the lock goes on.
 */
static void a_value_stays_while_it_is_read(void **state)
{
        struct t_image img = make_image(&kinds[4]);
        struct reading r = {0};
        cpu_set_t before, one;
        struct t_mount m;

        mount_rw(&m, &img);
        r.inode = find(m.fs, "/file");
        T_CHECK(sched_getaffinity(0, sizeof(before), &before) == 0);
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        T_CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
        t_run_threads(4, read_or_replace, &r);
        T_CHECK(sched_setaffinity(0, sizeof(before), &before) == 0);
        ext4_iput(r.inode);
        t_umount(&m);
        fsck("reading", &img);
        t_image_free(&img);
}

/* ---- values that have values ---- */

/* A value in an inode of its own, for the file of this number. */
static struct ext4_inode *make_owner(struct ext4_fs *fs, unsigned n)
{
        static const uint8_t bytes[5000];
        struct ext4_new_name new = {.mode = S_IFREG | 0600};
        struct ext4_inode *inode;
        char text[16];

        new.name = (struct ext4_name){text, (size_t)snprintf(text, sizeof(text), "v%u", n)};
        T_CHECK(ext4_iget(fs, EXT4_INO_ROOT, &new.dir) == 0);
        T_CHECK(ext4_create(&new, &inode) == 0);
        ext4_iput(new.dir);
        T_CHECK(ext4_xattr_set(inode, "user.v", bytes, sizeof(bytes), 0) == 0);
        return inode;
}

#define NR_LINKS 3

/* The value of each file is made to have, itself, the attribute of the next one. */
static void make_chain(struct t_image *img)
{
        uint64_t owners[NR_LINKS], values[NR_LINKS];
        struct t_mount m;

        mount_rw(&m, img);
        for (unsigned i = 0; i < NR_LINKS; i++) {
                struct ext4_inode *owner = make_owner(m.fs, i), *value;
                uint32_t ino =
                        le32_get(ext4_xattr_ibody_outside(owner->ibody, owner->ibody_size)
                                         ->e_value_inum);

                T_CHECK(ext4_iget(m.fs, ino, &value) == 0);
                T_CHECK(owner->ibody_size == 96 && value->ibody_size == 96);
                owners[i] = owner->disk_pos + 160;
                values[i] = value->disk_pos + 160;
                ext4_iput(value);
                ext4_iput(owner);
        }
        t_umount(&m);
        for (unsigned i = 0; i + 1 < NR_LINKS; i++)
                memcpy(img->data + values[i], img->data + owners[i + 1], 96);
}

/* One could be deleted with the other, and so on, each in the midst of the one before. */
static void a_value_has_no_values(void **state)
{
        static const struct ext4_name first = {"v0", 2};
        struct t_image img = t_mkfs(SIZE,
                                    "-b 1024 -I 256 -O has_journal,extents,ea_inode,"
                                    "extra_isize,^metadata_csum",
                                    "");
        struct ext4_inode *root, *file;
        char got[5000];
        struct t_mount m;

        make_chain(&img);
        mount_rw(&m, &img);
        file = find(m.fs, "/v0");
        assert_int_equal(ext4_xattr_get(file, "user.v", NULL, 0), 5000);
        assert_int_equal(ext4_xattr_get(file, "user.v", got, sizeof(got)), -EUCLEAN);
        ext4_iput(file);
        T_CHECK(ext4_iget(m.fs, EXT4_INO_ROOT, &root) == 0);
        assert_int_equal(ext4_unlink(root, &first), 0);
        ext4_iput(root);
        file = find(m.fs, "/v2"); /* which nobody but its file has given up */
        assert_int_equal(ext4_xattr_get(file, "user.v", got, sizeof(got)), 5000);
        ext4_iput(file);
        t_umount(&m);
        t_image_free(&img);
}

/* ---- ACLs ---- */

struct xacl {
        le32 version;
        struct ext4_acl_entry entries[80];
        size_t size;
};

static void xacl_add(struct xacl *x, uint16_t tag, uint16_t perm, uint32_t id)
{
        size_t nr = x->size ? (x->size - 4) / 8 : 0;

        x->version = le32_make(POSIX_ACL_XATTR_VERSION);
        x->entries[nr] =
                (struct ext4_acl_entry){le16_make(tag), le16_make(perm), le32_make(id)};
        x->size = 4 + 8 * (nr + 1);
}

static struct xacl make_acl(unsigned nr_users)
{
        struct xacl x = {0};

        xacl_add(&x, ACL_USER_OBJ, 7, (uint32_t)ACL_UNDEFINED_ID);
        for (unsigned i = 0; i < nr_users; i++)
                xacl_add(&x, ACL_USER, 6, 1000 + i);
        xacl_add(&x, ACL_GROUP_OBJ, 5, (uint32_t)ACL_UNDEFINED_ID);
        if (nr_users > 0)
                xacl_add(&x, ACL_MASK, 7, (uint32_t)ACL_UNDEFINED_ID);
        xacl_add(&x, ACL_OTHER, 4, (uint32_t)ACL_UNDEFINED_ID);
        return x;
}

#define ACCESS  "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

static void access_acl_sets_the_mode(void **state)
{
        struct t_image img = make_image(&kinds[1]);
        struct xacl x = make_acl(2), plain = make_acl(0), got;
        struct ext4_inode *file, *dir;
        struct t_mount m;

        mount_rw(&m, &img);
        file = find(m.fs, "/file");
        dir = find(m.fs, "/dir");
        assert_int_equal(ext4_xattr_set(file, DEFAULT, &x, x.size, 0), -EACCES);
        assert_int_equal(ext4_xattr_set(file, ACCESS, &x, x.size - 8, 0), -EINVAL);
        assert_int_equal(ext4_xattr_set(file, ACCESS, &x, x.size, 0), 0);
        assert_int_equal(file->mode, S_IFREG | 0774);
        assert_int_equal(ext4_xattr_get(file, ACCESS, &got, sizeof(got)), x.size);
        assert_memory_equal(&got, &x, x.size);
        assert_int_equal(ext4_xattr_set(file, ACCESS, &plain, plain.size, 0), 0);
        assert_int_equal(file->mode, S_IFREG | 0754);
        assert_int_equal(ext4_xattr_get(file, ACCESS, &got, sizeof(got)), -ENODATA);
        assert_int_equal(ext4_xattr_set(dir, DEFAULT, &x, x.size, 0), 0);
        assert_int_equal(ext4_xattr_remove(dir, DEFAULT), 0);
        assert_int_equal(ext4_xattr_remove(dir, DEFAULT), -ENODATA);
        ext4_iput(file);
        ext4_iput(dir);
        t_umount(&m);
        fsck("ACL", &img);
        t_image_free(&img);
}

static const uint16_t modes[] = {
        S_IFREG | 0644, S_IFREG | 0777, S_IFDIR | 0755, S_IFDIR | 01777, S_IFIFO | 0660,
};

static void make_new(struct ext4_inode *dir, unsigned i)
{
        char text[8];
        const struct ext4_new_name new = {
                .dir = dir,
                .name = {text, (size_t)snprintf(text, sizeof(text), "n%u", i)},
                .mode = modes[i],
        };
        struct ext4_inode *inode;

        T_CHECK(ext4_create(&new, &inode) == 0);
        ext4_iput(inode);
}

/* What the kernel makes in the same directory is the same. */
static void compare_with_kernel(const char *dir)
{
        char ours[400], theirs[400], a[800], b[800];
        mode_t mask = umask(0);

        for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
                static const char *const names[] = {ACCESS, DEFAULT};
                struct stat st_ours, st_theirs;

                snprintf(ours, sizeof(ours), "%s/dir/n%u", dir, i);
                snprintf(theirs, sizeof(theirs), "%s/dir/k%u", dir, i);
                if (S_ISDIR(modes[i]))
                        T_CHECK(mkdir(theirs, modes[i] & 07777) == 0);
                else
                        T_CHECK(mknod(theirs, modes[i], 0) == 0);
                T_CHECK(lstat(ours, &st_ours) == 0 && lstat(theirs, &st_theirs) == 0);
                assert_int_equal(st_ours.st_mode, st_theirs.st_mode);
                if (!S_ISDIR(modes[i])) /* the kernel may make them inline */
                        assert_int_equal(st_ours.st_blocks, st_theirs.st_blocks);
                for (unsigned n = 0; n < ARRAY_LEN(names); n++) {
                        ssize_t got = lgetxattr(ours, names[n], a, sizeof(a));
                        ssize_t want = lgetxattr(theirs, names[n], b, sizeof(b));

                        assert_int_equal(got, want);
                        if (got > 0)
                                assert_memory_equal(a, b, got);
                }
        }
        umask(mask);
}

static void inherit_on(const struct kind *kind, unsigned nr_users)
{
        struct t_image img = make_image(kind);
        struct xacl x = make_acl(nr_users);
        struct host_mount theirs;
        struct ext4_inode *dir, *inode;
        struct t_mount m;

        mount_rw(&m, &img);
        dir = find(m.fs, "/dir");
        assert_int_equal(ext4_xattr_set(dir, DEFAULT, &x, x.size, 0), 0);
        for (unsigned i = 0; i < ARRAY_LEN(modes); i++)
                make_new(dir, i);
        ext4_iput(dir);
        inode = find(m.fs, "/dir/n0");
        assert_int_equal(inode->mode, S_IFREG | 0644);
        assert_int_equal(ext4_xattr_get(inode, ACCESS, NULL, 0),
                         nr_users ? (ssize_t)x.size : -ENODATA);
        ext4_iput(inode);
        inode = find(m.fs, "/dir/n2");
        assert_int_equal(inode->mode, S_IFDIR | 0754);
        assert_int_equal(ext4_xattr_get(inode, DEFAULT, NULL, 0), x.size);
        ext4_iput(inode);
        t_umount(&m);
        fsck(kind->name, &img);
        if (host_mount(&theirs, img.data, img.size, "rw")) {
                compare_with_kernel(theirs.path);
                host_umount(&theirs, img.data, img.size);
        }
        t_image_free(&img);
}

static void default_acl_is_inherited(void **state)
{
        static const unsigned nr_users[] = {0, 2, 8, 40};
        static const size_t which[] = {1, 2, 6, 7};

        for (size_t k = 0; k < ARRAY_LEN(which); k++) {
                for (size_t i = 0; i < ARRAY_LEN(nr_users); i++)
                        inherit_on(&kinds[which[k]], nr_users[i]);
        }
}

/* ---- power cuts ---- */

/* What is found of an attribute that went from `old` to `new`, -1 for none. */
struct transition {
        ssize_t old, new;
};

static void change(struct ext4_inode *inode, ssize_t size)
{
        static uint8_t bytes[MAX_VALUE];

        memset(bytes, (int)(size & 0x7f), sizeof(bytes));
        if (size < 0)
                (void)!ext4_xattr_remove(inode, "user.a");
        else
                (void)!ext4_xattr_set(inode, "user.a", bytes, (size_t)size, 0);
}

/* Change it on the device, until the cut.  False when it was not reached. */
static bool run_until_cut(struct uext4_bdev *sim, const struct transition *t)
{
        struct t_mount m = {.dev = sim};
        const struct log_sink sink = t_log_sink(&m.log);
        struct uext4_bdev_sim_state st;
        struct ext4_inode *inode;

        t_log_init(&m.log);
        if (ext4_mount(sim, &rw, &sink, &m.fs) == 0) {
                uint32_t ino = 12; /* the first file that debugfs made */

                if (ext4_iget(m.fs, ino, &inode) == 0) {
                        change(inode, t->new);
                        ext4_iput(inode);
                }
                (void)!ext4_unmount(m.fs);
        }
        uext4_bdev_sim_state(sim, &st);
        return st.is_cut;
}

static void check_after_cut(struct t_image *img, const struct transition *t, uint64_t at)
{
        static uint8_t got[MAX_VALUE];
        struct ext4_inode *inode;
        struct t_mount m;
        char row[64];
        ssize_t len;

        snprintf(row, sizeof(row), "cut at %llu, %zd to %zd", (unsigned long long)at, t->old,
                 t->new);
        mount_rw(&m, img);
        inode = find(m.fs, "/file");
        len = ext4_xattr_get(inode, "user.a", got, sizeof(got));
        if (len != (t->old < 0 ? -ENODATA : t->old) && len != (t->new < 0 ? -ENODATA : t->new))
                fail_msg("%s: %zd", row, len);
        for (ssize_t i = 0; i < len; i++)
                T_CHECK(got[i] == (len & 0x7f));
        ext4_iput(inode);
        t_umount(&m);
        fsck(row, img);
}

static void cut_everywhere(const struct t_image *begin, const struct transition *t,
                           uint64_t seed)
{
        struct t_image left = t_image_copy(begin);
        bool was_cut = true;

        for (uint64_t at = 1; was_cut; at += t_sweep_step(4)) {
                const struct uext4_bdev_sim_survivor how = {
                        .mode = at % 3 ? UEXT4_BDEV_SIM_RANDOM : UEXT4_BDEV_SIM_ALL,
                        .seed = seed + at};
                struct uext4_bdev *sim = t_open_sim(begin, seed);

                uext4_bdev_sim_cut_at(sim, at);
                was_cut = run_until_cut(sim, t);
                T_CHECK(uext4_bdev_sim_survivor(sim, &how, left.data) == 0);
                uext4_bdev_close(sim);
                if (!ext4_super_csum_ok(t_super(&left))) /* of a torn sector */
                        memcpy(t_super(&left), begin->data + EXT4_SUPER_OFFSET, 1024);
                check_after_cut(&left, t, at);
        }
        t_image_free(&left);
}

static void cut_leaves_old_or_new(void **state)
{
        static const struct transition transitions[] = {
                {-1, 20}, {20, 500}, {500, 5000}, {5000, 6000}, {5000, 10}, {5000, -1},
        };
        const struct kind *kind = &kinds[4];
        uint64_t seed = t_seed();

        for (size_t i = 0; i < ARRAY_LEN(transitions); i++) {
                struct t_image img =
                        t_mkfs(8u << 20, kind->options, "write /etc/hostname file\\n");
                struct ext4_inode *inode;
                struct t_mount m;

                mount_rw(&m, &img);
                inode = find(m.fs, "/file");
                assert_int_equal(ext4_ino(inode), 12);
                change(inode, transitions[i].old);
                ext4_iput(inode);
                t_umount(&m);
                cut_everywhere(&img, &transitions[i], seed);
                t_image_free(&img);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(attributes_are_what_was_set),
                cmocka_unit_test(errors_change_nothing),
                cmocka_unit_test(shared_blocks_are_copied),
                cmocka_unit_test(owners_of_a_block_go),
                cmocka_unit_test(owners_of_a_block_go_their_ways),
                cmocka_unit_test(values_outlive_an_owner_that_leaves),
                cmocka_unit_test(a_value_stays_while_it_is_read),
                cmocka_unit_test(a_value_has_no_values),
                cmocka_unit_test(access_acl_sets_the_mode),
                cmocka_unit_test(default_acl_is_inherited),
                cmocka_unit_test(cut_leaves_old_or_new),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
