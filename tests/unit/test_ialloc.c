/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Inodes given out and taken back, on whole images: what they are like, where they are, that
 * what is left is what e2fsck wants to see, and that damaged groups are left alone.
 *
 * The inodes are in no directory, so that what exists at the end of a test would be a complaint
 * of e2fsck: each test deletes its inodes, or looks for that complaint and no other.
 */

#include "ext4/ialloc_group.h"
#include "ext4/orphan.h"
#include "t_write.h"

static const struct ext4_mount_options rw = {
        .sb_block = 1,
        .meta_cache_bytes = 4u << 20,
        .commit_ms = 3600 * 1000,
};

#define PLAIN "-b 1024 -I 256 -O " T_EXT4

/* ---- helpers ---- */

static struct ext4_inode *get(struct ext4_fs *fs, uint32_t ino)
{
        struct ext4_inode *inode;

        T_CHECK(ext4_iget(fs, ino, &inode) == 0);
        return inode;
}

static int try_alloc(struct ext4_inode *dir, const struct ext4_new_inode *want,
                     struct ext4_inode **ret_inode)
{
        struct jbd2_handle *h;
        int ret;

        rwsem_write_lock(&dir->vfs.lock);
        T_CHECK(jbd2_start(dir->fs->journal, EXT4_IALLOC_CREDITS, 0, &h) == 0);
        ret = ext4_ialloc(h, dir, want, ret_inode);
        T_CHECK(jbd2_stop(h) == 0);
        rwsem_write_unlock(&dir->vfs.lock);
        return ret;
}

static struct ext4_inode *alloc(struct ext4_inode *dir, uint16_t mode)
{
        const struct ext4_new_inode want = {.mode = mode, .now = {.tv_sec = 1700000000}};
        struct ext4_inode *inode;

        T_CHECK(try_alloc(dir, &want, &inode) == 0);
        return inode;
}

/* As unlink(2) does, and the last close. */
static void t_delete(struct ext4_inode *inode)
{
        struct jbd2_handle *h;

        T_CHECK(jbd2_start(inode->fs->journal, EXT4_INODE_CREDITS + EXT4_ORPHAN_CREDITS, 0,
                           &h) == 0);
        inode->nlink = 0;
        T_CHECK(ext4_orphan_add(h, inode) == 0);
        T_CHECK(ext4_inode_dirty(h, inode) == 0);
        T_CHECK(jbd2_stop(h) == 0);
        ext4_iput(inode);
}

static uint64_t total_free(struct ext4_fs *fs)
{
        uint64_t n = 0;

        for (ext4_group_t g = 0; g < fs->nr_groups; g++) {
                struct ext4_group group;

                T_CHECK(ext4_group_get(fs, g, 0, &group) == 0);
                n += group.free_inodes;
        }
        return n;
}

static ext4_group_t group_of(const struct ext4_inode *inode)
{
        return (ext4_ino(inode) - 1) / inode->fs->inodes_per_group;
}

static void mount_rw(struct t_mount *m, struct t_image *img)
{
        int ret = t_mount(m, img, &rw);

        if (ret != 0)
                fail_msg("mount: %d: %s", ret, m->log.text);
}

/* ---- all configurations ---- */

static const uint16_t modes[] = {
        S_IFREG | 0644, S_IFDIR | 0755, S_IFLNK | 0777, S_IFIFO | 0600, S_IFREG | 0600,
};

static void allocate_and_delete_leaves_a_clean_image(void **state)
{
        for (size_t c = 0; c < ARRAY_LEN(t_configs); c += t_sweep_step(3)) {
                struct t_image img =
                        t_mkfs((uint64_t)t_configs[c].mib << 20, t_configs[c].options, NULL);
                struct ext4_inode *inodes[200], *root;
                const char *complaint;
                struct t_mount m;
                uint64_t n;

                mount_rw(&m, &img);
                root = get(m.fs, EXT4_INO_ROOT);
                n = total_free(m.fs);
                t_assert_row(t_configs[c].name, atomic_load(&m.fs->ialloc->free_inodes), n);
                for (size_t i = 0; i < ARRAY_LEN(inodes); i++)
                        inodes[i] = alloc(root, modes[i % ARRAY_LEN(modes)]);
                t_assert_row(t_configs[c].name, total_free(m.fs), n - ARRAY_LEN(inodes));
                t_assert_row(t_configs[c].name, atomic_load(&m.fs->ialloc->free_inodes),
                             n - ARRAY_LEN(inodes));
                for (size_t i = 0; i < ARRAY_LEN(inodes); i++)
                        t_delete(inodes[i * 7 % ARRAY_LEN(inodes)]);
                t_assert_row(t_configs[c].name, total_free(m.fs), n);
                ext4_iput(root);
                t_umount(&m);
                complaint = t_fsck(&img, false);
                if (complaint)
                        fail_msg("%s: e2fsck: %s", t_configs[c].name, complaint);
                t_image_free(&img);
        }
}

/* A bitmap that says of an inode in use that it is free: the one who has it keeps it. */
static void a_number_in_use_is_not_given_out(void **state)
{
        struct t_image img = t_mkfs(16u << 20, t_configs[0].options, NULL);
        struct ext4_inode *inode, *root, *again;
        struct t_mount m;

        mount_rw(&m, &img);
        root = get(m.fs, EXT4_INO_ROOT);
        inode = alloc(root, S_IFREG | 0644);
        assert_int_equal(ext4_iget_new(m.fs, ext4_ino(inode), &again), -EUCLEAN);
        assert_true(t_log_has(&m.log, "in use"));
        again = get(m.fs, ext4_ino(inode));
        assert_ptr_equal(again, inode);
        ext4_iput(again);
        t_delete(inode);
        ext4_iput(root);
        t_umount(&m);
        t_image_free(&img);
}

static void all_are_given_out_once(void **state)
{
        struct t_image img = t_mkfs(8u << 20, PLAIN " -N 512 -g 2048 -G 2", NULL);
        struct ext4_inode *inodes[512], *root, *none;
        const struct ext4_new_inode want = {.mode = S_IFREG | 0644};
        bool seen[1024] = {false};
        uint64_t nr_free;
        struct t_mount m;
        unsigned n = 0;

        mount_rw(&m, &img);
        root = get(m.fs, EXT4_INO_ROOT);
        nr_free = total_free(m.fs);
        assert_true(nr_free < ARRAY_LEN(inodes) && m.fs->nr_inodes < ARRAY_LEN(seen));
        while (try_alloc(root, &want, &none) == 0) {
                assert_false(seen[ext4_ino(none)]);
                assert_true(ext4_ino(none) >= m.fs->first_ino);
                seen[ext4_ino(none)] = true;
                inodes[n++] = none;
        }
        assert_int_equal(n, nr_free);
        assert_int_equal(try_alloc(root, &want, &none), -ENOSPC);
        assert_int_equal(total_free(m.fs), 0);
        while (n > 0)
                t_delete(inodes[--n]);
        assert_int_equal(total_free(m.fs), nr_free);
        ext4_iput(root);
        t_umount(&m);
        assert_null(t_fsck(&img, false));
        t_image_free(&img);
}

/* ---- what a new inode is like ---- */

static void fields_and_inheritance(void **state)
{
        const uint32_t all = EXT4_FL_SYNC | EXT4_FL_NODUMP | EXT4_FL_NOATIME | EXT4_FL_DIRSYNC |
                             EXT4_FL_TOPDIR | EXT4_FL_IMMUTABLE | EXT4_FL_APPEND |
                             EXT4_FL_INDEX;
        const struct {
                uint16_t mode;
                uint32_t flags;
        } rows[] = {
                {S_IFREG | 0644,
                 EXT4_FL_EXTENTS | EXT4_FL_SYNC | EXT4_FL_NODUMP | EXT4_FL_NOATIME},
                {S_IFDIR | 0755, EXT4_FL_EXTENTS | EXT4_FL_SYNC | EXT4_FL_NODUMP |
                                         EXT4_FL_NOATIME | EXT4_FL_DIRSYNC},
                {S_IFIFO | 0600, EXT4_FL_NODUMP | EXT4_FL_NOATIME},
                {S_IFCHR | 0600, EXT4_FL_NODUMP | EXT4_FL_NOATIME},
        };
        struct t_image img = t_mkfs(16u << 20, PLAIN, NULL);
        struct ext4_inode *root, *inode;
        struct t_mount m;

        mount_rw(&m, &img);
        root = get(m.fs, EXT4_INO_ROOT);
        for (unsigned setgid = 0; setgid < 2; setgid++) {
                for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                        const struct ext4_new_inode want = {
                                .mode = rows[i].mode,
                                .uid = 70001,
                                .gid = 70002,
                                .rdev_major = 300,
                                .rdev_minor = 70000,
                                .now = {.tv_sec = 5000000000, .tv_nsec = 123456789},
                        };
                        uint32_t ino, generation;
                        bool dir = S_ISDIR(rows[i].mode);

                        root->flags |= all; /* in memory only */
                        root->gid = 4711;
                        if (setgid)
                                root->mode |= S_ISGID;
                        assert_int_equal(try_alloc(root, &want, &inode), 0);
                        ino = ext4_ino(inode);
                        generation = inode->generation;

                        /* As others will see it: from disk. */
                        ext4_iput(inode);
                        ext4_inode_table_trim(m.fs->inodes);
                        inode = get(m.fs, ino);
                        assert_int_equal(inode->flags, rows[i].flags);
                        assert_int_equal(inode->mode,
                                         rows[i].mode | (setgid && dir ? S_ISGID : 0));
                        assert_int_equal(inode->nlink, dir ? 2 : 1);
                        assert_int_equal(inode->uid, 70001);
                        assert_int_equal(inode->gid, setgid ? 4711 : 70002);
                        assert_int_equal(inode->generation, generation);
                        assert_int_equal(inode->btime.tv_sec, 5000000000);
                        assert_int_equal(inode->btime.tv_nsec, 123456789);
                        assert_int_equal(vfs_size(&inode->vfs), 0);
                        assert_int_equal(inode->blocks, 0);
                        if (S_ISCHR(rows[i].mode)) {
                                assert_int_equal(inode->rdev_major, 300);
                                assert_int_equal(inode->rdev_minor, 70000);
                        }
                        t_delete(inode);
                }
        }
        ext4_iput(root);
        t_umount(&m);
        assert_null(t_fsck(&img, false));
        t_image_free(&img);
}

static void number_that_comes_again_is_another_inode(void **state)
{
        struct t_image img = t_mkfs(16u << 20, PLAIN, NULL);
        struct ext4_inode *root, *inode;
        uint32_t ino, generation;
        struct t_mount m;

        mount_rw(&m, &img);
        root = get(m.fs, EXT4_INO_ROOT);
        inode = alloc(root, S_IFREG | 0644);
        ino = ext4_ino(inode);
        generation = inode->generation;
        t_delete(inode);
        assert_int_equal(ext4_iget(m.fs, ino, &inode), -ESTALE);
        inode = alloc(root, S_IFREG | 0644);
        assert_int_equal(ext4_ino(inode), ino); /* the lowest */
        assert_int_not_equal(inode->generation, generation);
        t_delete(inode);
        ext4_iput(root);
        t_umount(&m);
        t_image_free(&img);
}

/* ---- where ---- */

static void directories_spread_and_files_stay_near(void **state)
{
        struct t_image img = t_mkfs(64u << 20, PLAIN " -g 2048 -G 4 -N 8192", NULL);
        struct ext4_inode *dirs[8], *files[8][8], *root;
        bool used[64] = {false};
        unsigned nr_used = 0;
        struct t_mount m;

        mount_rw(&m, &img);
        assert_int_equal(m.fs->nr_groups, 32);
        root = get(m.fs, EXT4_INO_ROOT);
        for (unsigned i = 0; i < 8; i++) {
                dirs[i] = alloc(root, S_IFDIR | 0755);
                nr_used += !used[group_of(dirs[i]) / 4];
                used[group_of(dirs[i]) / 4] = true;
        }
        /* Of eight flex groups; those with a copy of the superblock are below the average of
         * free clusters. */
        assert_true(nr_used >= 5);
        for (unsigned i = 0; i < 8; i++) {
                struct ext4_inode *sub = alloc(dirs[i], S_IFDIR | 0755);

                assert_int_equal(group_of(sub) / 4, group_of(dirs[i]) / 4);
                for (unsigned j = 0; j < 8; j++) {
                        files[i][j] = alloc(dirs[i], S_IFREG | 0644);
                        assert_int_equal(group_of(files[i][j]), group_of(dirs[i]));
                }
                t_delete(sub);
        }
        for (unsigned i = 0; i < 8; i++) {
                for (unsigned j = 0; j < 8; j++)
                        t_delete(files[i][j]);
                t_delete(dirs[i]);
        }
        ext4_iput(root);
        t_umount(&m);
        assert_null(t_fsck(&img, false));
        t_image_free(&img);
}

/* ---- lazy inode tables ---- */

/* Everything that was never used is rubbish. */
static void spoil_unused_tables(struct t_image *img)
{
        struct t_mount m;

        T_CHECK(t_mount(&m, img, &t_mount_ro) == 0);
        for (ext4_group_t g = 0; g < m.fs->nr_groups; g++) {
                uint32_t used, ipg = m.fs->inodes_per_group;
                struct ext4_group group;
                char *table;

                T_CHECK(ext4_group_get(m.fs, g, 0, &group) == 0);
                table = img->data + (group.inode_table << m.fs->block_bits);
                used = ipg - group.itable_unused;
                memset(table + (size_t)used * m.fs->inode_size, 0xa5,
                       (size_t)group.itable_unused * m.fs->inode_size);
                if (group.flags & EXT4_BG_INODE_UNINIT)
                        memset(img->data + (group.inode_bitmap << m.fs->block_bits), 0x5a,
                               m.fs->block_size);
        }
        t_umount(&m);
}

static void lazy_tables_are_begun_one_by_one(void **state)
{
        static const char *const options[] = {
                PLAIN " -E lazy_itable_init=1 -g 2048 -N 1024",
                "-b 1024 -I 256 -O uninit_bg," T_EXT4
                ",^metadata_csum -E lazy_itable_init=1 -g 2048 -N 1024",
        };

        for (size_t c = 0; c < ARRAY_LEN(options); c++) {
                struct t_image img = t_mkfs(16u << 20, options[c], NULL);
                struct ext4_inode *inodes[500], *root;
                struct ext4_group group;
                struct t_mount m;

                spoil_unused_tables(&img);
                assert_null(t_fsck(&img, false));
                mount_rw(&m, &img);
                root = get(m.fs, EXT4_INO_ROOT);
                for (size_t i = 0; i < ARRAY_LEN(inodes); i++)
                        inodes[i] = alloc(root, S_IFREG | 0644);
                T_CHECK(ext4_group_get(m.fs, 1, 0, &group) == 0);
                assert_false(group.flags & EXT4_BG_INODE_UNINIT);
                assert_int_equal(group.itable_unused, group.free_inodes);
                for (size_t i = 0; i < ARRAY_LEN(inodes); i++)
                        t_delete(inodes[i]);
                ext4_iput(root);
                t_umount(&m);
                assert_null(t_fsck(&img, false));
                t_image_free(&img);
        }
}

/* ---- threads ---- */

struct crowd {
        struct ext4_fs *fs;
        uint64_t seed;
};

/* Make, delete, and look for numbers that others make and delete. */
static void crowd_member(void *arg, unsigned n)
{
        const struct ext4_new_inode want = {.mode = S_IFREG | 0644};
        struct crowd *c = arg;
        uint64_t seed = c->seed + n;
        struct ext4_inode *mine[16] = {NULL}, *root = get(c->fs, EXT4_INO_ROOT), *other;

        for (unsigned i = 0; i < 400; i++) {
                struct ext4_inode **slot = &mine[t_below(&seed, ARRAY_LEN(mine))];

                if (*slot) {
                        t_delete(*slot);
                        *slot = NULL;
                } else {
                        T_CHECK(try_alloc(root, &want, slot) == 0);
                }
                if (ext4_iget(c->fs, 11 + t_below(&seed, 100), &other) == 0)
                        ext4_iput(other);
                if (i % 64 == n)
                        T_CHECK(jbd2_commit_all(c->fs->journal) == 0);
        }
        for (unsigned i = 0; i < ARRAY_LEN(mine); i++) {
                if (mine[i])
                        t_delete(mine[i]);
        }
        ext4_iput(root);
}

static void many_threads_make_and_delete(void **state)
{
        static const char *const options[] = {PLAIN " -g 2048", PLAIN ",orphan_file"};

        for (size_t i = 0; i < ARRAY_LEN(options); i++) {
                struct t_image img = t_mkfs(16u << 20, options[i], NULL);
                struct crowd c = {.seed = t_seed()};
                struct t_mount m;
                uint64_t n;

                mount_rw(&m, &img);
                c.fs = m.fs;
                n = total_free(m.fs);
                t_run_threads(4, crowd_member, &c);
                assert_int_equal(total_free(m.fs), n);
                assert_int_equal(m.log.nr_lines, 0);
                t_umount(&m);
                assert_null(t_fsck(&img, false));
                t_image_free(&img);
        }
}

/* ---- damage ---- */

enum damage {
        BITMAP_CSUM, /* the bitmap does not match its checksum */
        BITMAP_FULL, /* nothing is free, but the descriptor counts some */
        NEVER_USED,  /* inodes in use lie where none was ever used */
};

static void damage_group(struct t_image *img, ext4_group_t g, enum damage what)
{
        struct ext4_group_desc *gd;
        struct ext4_group group;
        struct t_mount m;
        uint8_t *bitmap;

        T_CHECK(t_mount(&m, img, &t_mount_ro) == 0);
        T_CHECK(ext4_group_get(m.fs, g, 0, &group) == 0);
        gd = (void *)(img->data + ((m.fs->sb_fsblk + 1) << m.fs->block_bits) +
                      (size_t)g * m.fs->desc_size);
        bitmap = (void *)(img->data + (group.inode_bitmap << m.fs->block_bits));
        switch (what) {
        case BITMAP_CSUM:
                gd->bg_inode_bitmap_csum_lo = le16_make(0x1234);
                break;
        case BITMAP_FULL:
                memset(bitmap, 0xff, m.fs->block_size);
                break;
        case NEVER_USED:
                gd->bg_itable_unused_lo = le16_make((uint16_t)m.fs->inodes_per_group);
                break;
        }
        ext4_desc_seal(m.fs, g, gd);
        t_umount(&m);
}

static void damaged_group_is_left_alone(void **state)
{
        const struct ext4_new_inode want = {.mode = S_IFREG | 0644};

        for (int what = BITMAP_CSUM; what <= NEVER_USED; what++) {
                /* Without checksums of bitmaps for those that are not about them. */
                struct t_image img = t_mkfs(
                        8u << 20,
                        what == BITMAP_CSUM ? PLAIN " -N 512 -g 2048 -E lazy_itable_init=0"
                                            : "-b 1024 -I 256 -O uninit_bg," T_EXT4
                                              ",^metadata_csum -N 512 -g 2048",
                        NULL);
                struct ext4_inode *root, *inode;
                struct t_mount m;
                unsigned n = 0;

                damage_group(&img, 0, (enum damage)what);
                mount_rw(&m, &img);
                root = get(m.fs, EXT4_INO_ROOT);
                while (try_alloc(root, &want, &inode) == 0) {
                        assert_int_not_equal(group_of(inode), 0);
                        t_delete(inode);
                        if (++n == 20)
                                break;
                }
                assert_int_equal(n, 20);
                assert_true(m.log.nr_lines > 0);
                ext4_iput(root);
                t_umount(&m);
                t_image_free(&img);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(allocate_and_delete_leaves_a_clean_image),
                cmocka_unit_test(a_number_in_use_is_not_given_out),
                cmocka_unit_test(all_are_given_out_once),
                cmocka_unit_test(fields_and_inheritance),
                cmocka_unit_test(number_that_comes_again_is_another_inode),
                cmocka_unit_test(directories_spread_and_files_stay_near),
                cmocka_unit_test(lazy_tables_are_begun_one_by_one),
                cmocka_unit_test(many_threads_make_and_delete),
                cmocka_unit_test(damaged_group_is_left_alone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
