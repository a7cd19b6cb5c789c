/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Orphans, on both kinds of tracking: what is on disk after each change, what a crash leaves
 * and the next mount makes of it, and lists made by somebody who means harm.
 *
 * A crash is a copy of the image's bytes while it is mounted.
 */

#include "ext4/ialloc_group.h"
#include "ext4/namei.h"
#include "ext4/orphan.h"
#include "t_write.h"

static const struct ext4_mount_options rw = {
        .sb_block = 1,
        .meta_cache_bytes = 4u << 20,
        .commit_ms = 3600 * 1000,
};

static const struct kind {
        const char *name;
        const char *options;
        bool file; /* orphan_file */
} kinds[] = {
        {"list", "-b 1024 -I 256 -O " T_EXT4, false},
        {"list, 4k", "-b 4096 -I 256 -O " T_EXT4, false},
        {"list, no checksums", "-b 1024 -O has_journal,extents,^metadata_csum", false},
        {"ext3", "-b 1024 -O has_journal", false},
        {"bigalloc", "-b 1024 -C 8192 -O bigalloc," T_EXT4, false},
        {"file", "-b 1024 -I 256 -O orphan_file," T_EXT4, true},
        {"file, 4k", "-b 4096 -I 256 -O orphan_file," T_EXT4, true},
        {"file, no checksums", "-b 1024 -O has_journal,orphan_file,extents,^metadata_csum",
         true},
};

#define NR_FILES 8

/* f0 .. f7, of which each has blocks. */
static const char script[] =
        "write /bin/sh f0\\nwrite /bin/sh f1\\nwrite /bin/sh f2\\nwrite /bin/sh f3\\n"
        "write /bin/sh f4\\nwrite /bin/sh f5\\nwrite /bin/sh f6\\nwrite /bin/sh f7\\n";

static struct t_image make(const struct kind *k)
{
        return t_mkfs(32u << 20, k->options, script);
}

/* ---- helpers ---- */

static void mount_rw(struct t_mount *m, struct t_image *img)
{
        int ret = t_mount(m, img, &rw);

        if (ret != 0)
                fail_msg("mount: %d: %s", ret, m->log.text);
}

static uint32_t ino_of(struct ext4_fs *fs, unsigned n)
{
        char name[3] = {'f', (char)('0' + n), 0};
        struct ext4_inode *root;
        uint32_t ino;

        T_CHECK(ext4_iget(fs, EXT4_INO_ROOT, &root) == 0);
        T_CHECK(ext4_dir_lookup(root, name, 2, &ino) == 0);
        ext4_iput(root);
        return ino;
}

static struct ext4_inode *get(struct ext4_fs *fs, unsigned n)
{
        struct ext4_inode *inode;

        T_CHECK(ext4_iget(fs, ino_of(fs, n), &inode) == 0);
        return inode;
}

/* Add or delete one, each in its own handle. */
static void change(struct ext4_inode *inode, bool add)
{
        struct jbd2_handle *h;

        T_CHECK(jbd2_start(inode->fs->journal, EXT4_ORPHAN_CREDITS, 0, &h) == 0);
        T_CHECK((add ? ext4_orphan_add(h, inode) : ext4_orphan_del(h, inode)) == 0);
        T_CHECK(jbd2_stop(h) == 0);
}

/* No name, no links; open still. */
static void unlink_inode(struct ext4_inode *inode)
{
        struct jbd2_handle *h;

        T_CHECK(jbd2_start(inode->fs->journal, EXT4_ORPHAN_CREDITS + EXT4_INODE_CREDITS, 0,
                           &h) == 0);
        T_CHECK(ext4_orphan_add(h, inode) == 0);
        inode->nlink = 0;
        T_CHECK(ext4_inode_dirty(h, inode) == 0);
        T_CHECK(jbd2_stop(h) == 0);
}

static const struct ext4_inode_disk *raw_of(struct t_image *img, const struct ext4_inode *inode)
{
        return (const void *)(img->data + inode->disk_pos);
}

/* Everything home, where the image's bytes show it. */
static void flush(struct ext4_fs *fs)
{
        T_CHECK(jbd2_flush(fs->journal) == 0);
}

/* The image as a power cut leaves it now. */
static struct t_image crash(struct t_mount *m, const struct t_image *img)
{
        T_CHECK(jbd2_commit_all(m->fs->journal) == 0);
        return t_image_copy(img);
}

/* Names in the root lead to what the pass has deleted: e2fsck is to see nothing else wrong. */
static void drop_names(struct t_image *img, const char *commands)
{
        struct host_file f = host_file_new(img->data, img->size);

        t_run_debugfs(f.path, commands);
        memset(img->data, 0, img->size);
        host_file_read(&f, img->data, img->size);
        host_file_close(&f);
}

static void expect_clean(const char *name, struct t_image *img)
{
        const char *complaint = t_fsck(img, false);

        if (complaint)
                fail_msg("%s: e2fsck: %s", name, complaint);
}

/* ---- what is on disk ---- */

/* The numbers on the list, as the image has them. */
static unsigned read_list(struct t_mount *m, struct t_image *img, uint32_t *inos)
{
        uint32_t ino = le32_get(t_super(img)->s_last_orphan);
        unsigned n = 0;

        while (ino != 0) {
                struct ext4_inode *inode;

                T_CHECK(n < NR_FILES);
                inos[n++] = ino;
                T_CHECK(ext4_iget(m->fs, ino, &inode) == 0);
                ino = le32_get(raw_of(img, inode)->i_dtime);
                ext4_iput(inode);
        }
        return n;
}

static unsigned read_file(struct t_mount *m, struct t_image *img, uint32_t *inos)
{
        struct ext4_inode *file;
        unsigned n = 0;

        T_CHECK(ext4_iget(m->fs, le32_get(t_super(img)->s_orphan_file_inum), &file) == 0);
        for (ext4_lblk_t b = 0; b < vfs_size(&file->vfs) >> m->fs->block_bits; b++) {
                struct ext4_map map;
                const le32 *slots;

                rwsem_read_lock(&file->vfs.lock);
                T_CHECK(ext4_map_lookup(file, b, 0, &map) == 0);
                rwsem_read_unlock(&file->vfs.lock);
                slots = (const void *)(img->data + (map.pblk << m->fs->block_bits));
                for (uint32_t i = 0; i < m->fs->block_size / 4 - 2; i++) {
                        if (le32_get(slots[i]) != 0)
                                inos[n++] = le32_get(slots[i]);
                        T_CHECK(n <= NR_FILES);
                }
        }
        ext4_iput(file);
        return n;
}

static void disk_follows_every_change(void **state)
{
        uint64_t seed = t_seed();

        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                struct t_image img = make(&kinds[k]);
                struct ext4_inode *files[NR_FILES];
                bool orphan[NR_FILES] = {false};
                struct t_mount m;

                mount_rw(&m, &img);
                for (unsigned i = 0; i < NR_FILES; i++)
                        files[i] = get(m.fs, i);
                for (unsigned round = 0; round < 60; round++) {
                        uint32_t inos[NR_FILES + 1];
                        unsigned which = (unsigned)t_below(&seed, NR_FILES);
                        unsigned n, want = 0;

                        orphan[which] = !orphan[which];
                        change(files[which], orphan[which]);
                        change(files[which], orphan[which]); /* no more than once */
                        flush(m.fs);
                        n = kinds[k].file ? read_file(&m, &img, inos)
                                          : read_list(&m, &img, inos);
                        for (unsigned i = 0; i < NR_FILES; i++) {
                                bool found = false;

                                for (unsigned j = 0; j < n; j++)
                                        found |= inos[j] == ext4_ino(files[i]);
                                want += orphan[i];
                                t_assert_row(kinds[k].name, found, orphan[i]);
                        }
                        t_assert_row(kinds[k].name, n, want);
                }
                for (unsigned i = 0; i < NR_FILES; i++) {
                        change(files[i], false);
                        ext4_iput(files[i]);
                }
                t_umount(&m);
                expect_clean(kinds[k].name, &img);
                t_image_free(&img);
        }
}

/* ---- crashes ---- */

static void pass_deletes_what_has_no_links(void **state)
{
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                struct t_image img = make(&kinds[k]), cut;
                struct ext4_inode *files[3];
                uint32_t inos[3];
                struct t_mount m, after;

                mount_rw(&m, &img);
                for (unsigned i = 0; i < 3; i++) {
                        files[i] = get(m.fs, i);
                        inos[i] = ext4_ino(files[i]);
                        unlink_inode(files[i]);
                }
                cut = crash(&m, &img);
                for (unsigned i = 0; i < 3; i++)
                        ext4_iput(files[i]);
                t_umount(&m);
                drop_names(&img, "unlink f0\\nunlink f1\\nunlink f2\\n");
                expect_clean(kinds[k].name, &img);

                mount_rw(&after, &cut);
                if (!t_log_has(&after.log, "3 deleted, 0 truncated, 0 left"))
                        fail_msg("%s: %s", kinds[k].name, after.log.text);
                for (unsigned i = 0; i < 3; i++)
                        t_assert_row(kinds[k].name, ext4_iget(after.fs, inos[i], &files[0]),
                                     -ESTALE);
                t_umount(&after);
                drop_names(&cut, "unlink f0\\nunlink f1\\nunlink f2\\n");
                expect_clean(kinds[k].name, &cut);
                t_image_free(&cut);
                t_image_free(&img);
        }
}

/* The size is on disk, the blocks behind it are not gone yet. */
static void pass_truncates_what_has_links(void **state)
{
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                struct t_image img = make(&kinds[k]), cut;
                struct ext4_inode *file;
                struct jbd2_handle *h;
                struct t_mount m;

                mount_rw(&m, &img);
                file = get(m.fs, 4);
                T_CHECK(jbd2_start(m.fs->journal, EXT4_ORPHAN_CREDITS + EXT4_INODE_CREDITS, 0,
                                   &h) == 0);
                T_CHECK(ext4_orphan_add(h, file) == 0);
                atomic_store(&file->vfs.size, 5000);
                file->disk_size = 5000;
                T_CHECK(ext4_inode_dirty(h, file) == 0);
                T_CHECK(jbd2_stop(h) == 0);
                cut = crash(&m, &img);
                change(file, false);
                ext4_iput(file);
                t_umount(&m);

                mount_rw(&m, &cut);
                if (!t_log_has(&m.log, "0 deleted, 1 truncated, 0 left"))
                        fail_msg("%s: %s", kinds[k].name, m.log.text);
                t_umount(&m);
                expect_clean(kinds[k].name, &cut);
                t_image_free(&cut);
                t_image_free(&img);
        }
}

/* Attributes in the inode, in a block, and with values in inodes of their own. */
static void attributes_go_with_their_inode(void **state)
{
        static const char *const options[] = {
                "-b 1024 -I 256 -O ext_attr," T_EXT4,
                "-b 1024 -I 128 -O ext_attr," T_EXT4,
                "-b 4096 -I 256 -O ext_attr,ea_inode," T_EXT4,
                "-b 1024 -C 8192 -O ext_attr,bigalloc," T_EXT4,
                "-b 1024 -I 256 -O ext_attr,ea_inode," T_EXT4,
        };
        static const char attributes[] =
                "write /bin/sh f0\\nea_set f0 user.small value\\nea_set -f %s f0 user.a\\n"
                "ea_set -f %s f0 user.b\\nea_set -f %s f0 user.c\\n";

        for (size_t i = 0; i < ARRAY_LEN(options); i++) {
                bool ea_inode = strstr(options[i], "ea_inode") != NULL;
                struct host_file value = host_file_new(NULL, ea_inode ? 9000 : 200);
                struct ext4_inode *file;
                struct t_image img;
                char commands[512];
                struct t_mount m;
                uint64_t nr_free;

                snprintf(commands, sizeof(commands), attributes, value.path, value.path,
                         value.path);
                img = t_mkfs(32u << 20, options[i], commands);
                host_file_close(&value);

                mount_rw(&m, &img);
                file = get(m.fs, 0);
                assert_true(file->file_acl != 0 || ea_inode);
                nr_free = atomic_load(&m.fs->ialloc->free_inodes);
                unlink_inode(file);
                ext4_iput(file);
                t_assert_row(options[i], atomic_load(&m.fs->ialloc->free_inodes) - nr_free,
                             ea_inode ? 4 : 1);
                t_umount(&m);
                drop_names(&img, "unlink f0\\n");
                expect_clean(options[i], &img);
                t_image_free(&img);
        }
}

/* B42: unlinked while it was being truncated or written at its end. */
static void unlinked_stays_an_orphan(void **state)
{
        struct t_image img = make(&kinds[0]);
        struct ext4_inode *file;
        struct t_mount m;
        uint32_t ino;

        mount_rw(&m, &img);
        file = get(m.fs, 0);
        ino = ext4_ino(file);
        unlink_inode(file);
        change(file, false);
        assert_true(ext4_is_orphan(file));
        assert_true(ext4_orphans_left(m.fs));

        /* Who has it by number still gets it, and the file lives as long. */
        ext4_iget_again(file);
        ext4_iput(file);
        assert_int_equal(ext4_inode_in_use(m.fs, ino), 1);
        ext4_iput(file);
        assert_int_equal(ext4_inode_in_use(m.fs, ino), 0);
        assert_false(ext4_orphans_left(m.fs));
        t_umount(&m);
        drop_names(&img, "unlink f0\\n");
        expect_clean("unlinked", &img);
        t_image_free(&img);
}

/* B43, J49: what stays behind is a link of the chain, and can be taken up again. */
static void orphan_without_a_handle_stays_behind(void **state)
{
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                struct t_image img = make(&kinds[k]);
                struct ext4_inode *a, *b, *c;
                uint32_t inos[NR_FILES + 1];
                struct t_mount m;

                mount_rw(&m, &img);
                a = get(m.fs, 0);
                b = get(m.fs, 1);
                c = get(m.fs, 2);
                change(a, true);
                change(b, true);
                change(c, true);
                T_CHECK(ext4_orphan_del(NULL, b) == 0);
                assert_false(ext4_is_orphan(b));
                ext4_iput(b);
                ext4_inode_table_trim(m.fs->inodes);
                change(a, false);
                change(c, false);
                flush(m.fs);
                t_assert_row(kinds[k].name,
                             kinds[k].file ? read_file(&m, &img, inos)
                                           : read_list(&m, &img, inos),
                             1);
                t_assert_row(kinds[k].name, inos[0], ino_of(m.fs, 1));
                b = get(m.fs, 1);
                change(b, true);
                assert_true(ext4_is_orphan(b));
                change(b, false);
                assert_false(ext4_orphans_left(m.fs));
                ext4_iput(a);
                ext4_iput(b);
                ext4_iput(c);
                t_umount(&m);
                expect_clean(kinds[k].name, &img);
                t_image_free(&img);
        }
}

/* ---- the pass, cut again ---- */

static struct uext4_bdev *open_sim(const struct t_image *img, uint64_t seed)
{
        const struct uext4_bdev_sim_params params = {
                .size = img->size,
                .image = img->data,
                .caps = UEXT4_BDEV_CAP_FUA,
                .seed = seed,
        };
        struct uext4_bdev *sim;

        T_CHECK(uext4_bdev_open_sim(&params, &sim) == 0);
        return sim;
}

/* What is on the medium after the cut: each write that was not durable, whole or not at all. (A
 * superblock of which one sector was written is beyond all help that a mount can give.) */
static void survive(struct uext4_bdev *sim, uint64_t random, struct t_image *img)
{
        struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_WRITES};
        struct uext4_bdev_sim_state st;

        uext4_bdev_sim_state(sim, &st);
        T_CHECK(st.nr_writes < 64);
        how.index = random & ((1ull << st.nr_writes) - 1);
        T_CHECK(uext4_bdev_sim_survivor(sim, &how, img->data) == 0);
}

/* Mount, which is cut at request n; what the cut leaves becomes the image.  True when there
 * were fewer requests. */
static bool cut_pass(struct t_image *img, uint64_t *seed, uint64_t n)
{
        struct uext4_bdev *sim = open_sim(img, *seed);
        struct uext4_bdev_sim_state st;
        struct ext4_fs *fs = NULL;
        struct t_log log;
        const struct log_sink sink = t_log_sink(&log);

        t_log_init(&log);
        uext4_bdev_sim_cut_at(sim, n);
        if (ext4_mount(sim, &rw, &sink, &fs) == 0) {
                (void)!jbd2_commit_all(fs->journal);
                T_CHECK(ext4_unmount(fs) != -EBUSY);
        }
        uext4_bdev_sim_state(sim, &st);
        survive(sim, t_rand(seed), img);
        uext4_bdev_close(sim);
        return !st.is_cut;
}

/* Three without links, one to be truncated; committed, and not even recovered. */
static struct t_image make_orphans(const struct kind *k, uint32_t *inos)
{
        struct t_image img = t_mkfs(8u << 20, k->options, script), cut;
        struct ext4_inode *files[4];
        struct jbd2_handle *h;
        struct t_mount m;

        T_CHECK(t_mount(&m, &img, &t_mount_ro) == 0);
        for (unsigned i = 0; i < 4; i++)
                inos[i] = ino_of(m.fs, i);
        t_umount(&m);
        drop_names(&img, "unlink f0\\nunlink f1\\nunlink f2\\n");
        mount_rw(&m, &img);
        for (unsigned i = 0; i < 4; i++)
                T_CHECK(ext4_iget_orphan(m.fs, inos[i], &files[i]) == 0);
        for (unsigned i = 0; i < 3; i++)
                unlink_inode(files[i]);
        T_CHECK(jbd2_start(m.fs->journal, EXT4_ORPHAN_CREDITS + EXT4_INODE_CREDITS, 0, &h) ==
                0);
        T_CHECK(ext4_orphan_add(h, files[3]) == 0);
        atomic_store(&files[3]->vfs.size, 5000);
        files[3]->disk_size = 5000;
        T_CHECK(ext4_inode_dirty(h, files[3]) == 0);
        T_CHECK(jbd2_stop(h) == 0);
        cut = crash(&m, &img);
        change(files[3], false);
        for (unsigned i = 0; i < 4; i++)
                ext4_iput(files[i]);
        t_umount(&m);
        t_image_free(&img);
        return cut;
}

static void pass_may_be_cut_anywhere(void **state)
{
        static const unsigned which[] = {0, 3, 7}; /* kinds */
        uint64_t seed = t_seed();

        for (size_t k = 0; k < ARRAY_LEN(which); k++) {
                const char *name = kinds[which[k]].name;
                uint32_t inos[4];
                struct t_image orphans = make_orphans(&kinds[which[k]], inos);
                bool last = false;

                for (uint64_t n = 1; !last; n++) {
                        struct t_image img = t_image_copy(&orphans);
                        struct ext4_inode *inode;
                        struct t_mount m;

                        last = cut_pass(&img, &seed, n);
                        mount_rw(&m, &img);
                        for (unsigned i = 0; i < 3; i++)
                                t_assert_row(name, ext4_iget(m.fs, inos[i], &inode), -ESTALE);
                        T_CHECK(ext4_iget(m.fs, inos[3], &inode) == 0);
                        t_assert_row(name, vfs_size(&inode->vfs), 5000);
                        ext4_iput(inode);
                        t_umount(&m);
                        expect_clean(name, &img);
                        t_image_free(&img);
                }
                t_image_free(&orphans);
        }
}

/* ---- hostile ---- */

static void reseal(struct t_mount *m, struct t_image *img, struct ext4_inode *inode,
                   uint32_t dtime)
{
        struct ext4_inode_disk *di = (void *)(img->data + inode->disk_pos);

        di->i_dtime = le32_make(dtime);
        ext4_inode_seal(m->fs, ext4_ino(inode), di);
}

/* f0 -> f1 -> last, where the last leads to `next`; kinds of numbers below. */
enum next {
        TO_FIRST,
        TO_ITSELF,
        TO_RESERVED,
        TO_ROOT,
        TO_NOWHERE,
        TO_HUGE,
        TO_FREE,
        NR_NEXT,
};

static uint32_t number_of(enum next next, const struct ext4_fs *fs, uint32_t first,
                          uint32_t last)
{
        switch (next) {
        case TO_FIRST:
                return first;
        case TO_ITSELF:
                return last;
        case TO_RESERVED:
                return EXT4_INO_JOURNAL;
        case TO_ROOT:
                return EXT4_INO_ROOT;
        case TO_NOWHERE:
                return fs->nr_inodes + 1;
        case TO_HUGE:
                return 0xffffffff;
        case TO_FREE:
        case NR_NEXT:
                break;
        }
        return fs->nr_inodes;
}

static void hostile_lists_end(void **state)
{
        for (int next = 0; next < NR_NEXT; next++) {
                for (unsigned nr = 0; nr < 3; nr++) {
                        struct t_image img = make(&kinds[0]);
                        struct ext4_inode *files[3];
                        struct t_mount m;
                        uint32_t to;

                        T_CHECK(t_mount(&m, &img, &t_mount_ro) == 0);
                        for (unsigned i = 0; i < 3; i++)
                                files[i] = get(m.fs, i);
                        to = number_of((enum next)next, m.fs, ext4_ino(files[0]),
                                       nr ? ext4_ino(files[nr - 1]) : 7);
                        for (unsigned i = 0; i < nr; i++)
                                reseal(&m, &img, files[i],
                                       i + 1 < nr ? ext4_ino(files[i + 1]) : to);
                        t_super(&img)->s_last_orphan = le32_make(nr ? ext4_ino(files[0]) : to);
                        t_super_seal(t_super(&img));
                        for (unsigned i = 0; i < 3; i++)
                                ext4_iput(files[i]);
                        t_umount(&m);

                        mount_rw(&m, &img);
                        assert_false(ext4_orphans_left(m.fs));
                        flush(m.fs);
                        assert_int_equal(le32_get(t_super(&img)->s_last_orphan), 0);
                        t_umount(&m);
                        t_image_free(&img);
                }
        }
}

/* An inode on the list that cannot be loaded: the list ends there, what was before is done. */
static void damaged_orphan_ends_the_list(void **state)
{
        struct t_image img = make(&kinds[0]);
        struct ext4_inode *files[2];
        struct t_mount m;

        T_CHECK(t_mount(&m, &img, &t_mount_ro) == 0);
        files[0] = get(m.fs, 0);
        files[1] = get(m.fs, 1);
        reseal(&m, &img, files[0], ext4_ino(files[1]));
        img.data[files[1]->disk_pos + 0x10] ^= 1; /* its checksum is wrong now */
        t_super(&img)->s_last_orphan = le32_make(ext4_ino(files[0]));
        t_super_seal(t_super(&img));
        ext4_iput(files[0]);
        ext4_iput(files[1]);
        t_umount(&m);

        mount_rw(&m, &img);
        assert_true(t_log_has(&m.log, "the rest is lost"));
        assert_true(t_log_has(&m.log, "1 truncated"));
        flush(m.fs);
        assert_int_equal(le32_get(t_super(&img)->s_last_orphan), 0);
        t_umount(&m);
        t_image_free(&img);
}

/* Numbers in the file that cannot be; a block without magic; one with a wrong checksum. */
static void hostile_orphan_files(void **state)
{
        static const uint32_t numbers[] = {1, 2, 8, 0xffffffff, 12, 13, 13, 2000, 13};

        for (unsigned what = 0; what < 3; what++) {
                struct t_image img = make(&kinds[7]);
                struct ext4_inode *file;
                struct ext4_map map;
                struct t_mount m;
                le32 *slots;

                T_CHECK(t_mount(&m, &img, &t_mount_ro) == 0);
                T_CHECK(ext4_iget(m.fs, le32_get(t_super(&img)->s_orphan_file_inum), &file) ==
                        0);
                rwsem_read_lock(&file->vfs.lock);
                T_CHECK(ext4_map_lookup(file, 1, 0, &map) == 0);
                rwsem_read_unlock(&file->vfs.lock);
                ext4_iput(file);
                t_umount(&m);
                slots = (void *)(img.data + (map.pblk << 10));
                for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
                        slots[i * 3] = le32_make(numbers[i]);
                if (what == 1)
                        slots[254] = le32_make(0);
                if (what == 2)
                        memset(slots, 0xff, 1016);

                mount_rw(&m, &img);
                assert_true(m.log.nr_lines > 0);
                assert_false(ext4_orphans_left(m.fs));
                flush(m.fs);
                for (size_t i = 0; what != 1 && i < 254; i++)
                        assert_int_equal(le32_get(slots[i]), 0);
                t_umount(&m);
                t_image_free(&img);
        }
}

/* Two blocks of the file are one: what is put into the first is in the second, too. */
static void orphan_file_that_names_a_block_twice(void **state)
{
        struct t_image img = make(&kinds[7]);
        struct ext4_new_name new = {.mode = S_IFREG | 0600};
        struct ext4_extent_disk *extent;
        struct ext4_extent_header *root;
        struct ext4_inode *file, *files[300];
        struct t_mount m;

        T_CHECK(t_mount(&m, &img, &t_mount_ro) == 0);
        T_CHECK(ext4_iget(m.fs, le32_get(t_super(&img)->s_orphan_file_inum), &file) == 0);
        root = (void *)(img.data + file->disk_pos + offsetof(struct ext4_inode_disk, i_block));
        ext4_iput(file);
        t_umount(&m);
        extent = (void *)(root + 1);
        T_CHECK(le16_get(root->eh_entries) == 1 && le16_get(extent[0].ee_len) > 2);
        root->eh_entries = le16_make(2);
        extent[1] = extent[0];
        extent[0].ee_len = le16_make(1);
        extent[1].ee_block = le32_make(1);
        extent[1].ee_len = le16_make((uint16_t)(le16_get(extent[1].ee_len) - 1));

        mount_rw(&m, &img);
        T_CHECK(ext4_iget(m.fs, EXT4_INO_ROOT, &new.dir) == 0);
        for (size_t i = 0; i < ARRAY_LEN(files); i++)
                assert_int_equal(ext4_tmpfile(&new, false, &files[i]), 0);
        assert_true(t_log_has(&m.log, "is full, and was not"));
        for (size_t i = 0; i < ARRAY_LEN(files); i++)
                ext4_iput(files[i]);
        ext4_iput(new.dir);
        assert_false(ext4_orphans_left(m.fs));
        t_umount(&m);
        t_image_free(&img);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(disk_follows_every_change),
                cmocka_unit_test(pass_deletes_what_has_no_links),
                cmocka_unit_test(pass_truncates_what_has_links),
                cmocka_unit_test(attributes_go_with_their_inode),
                cmocka_unit_test(unlinked_stays_an_orphan),
                cmocka_unit_test(orphan_without_a_handle_stays_behind),
                cmocka_unit_test(pass_may_be_cut_anywhere),
                cmocka_unit_test(hostile_lists_end),
                cmocka_unit_test(damaged_orphan_ends_the_list),
                cmocka_unit_test(hostile_orphan_files),
                cmocka_unit_test(orphan_file_that_names_a_block_twice),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
