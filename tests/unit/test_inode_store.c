/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Inodes on their way to disk.  What is loaded and stored unchanged is the same bytes, for
 * every inode of many configurations; then field by field, to the edges of what each can hold,
 * through the loader, which has tests of its own.
 */

#include "ext4/inode_store.h"
#include "t_write.h"

/* ---- round trip ---- */

static const struct {
        const char *name;
        const char *options;
} configs[] = {
        {"256 bytes", "-b 4096 -I 256 -O " T_EXT4},
        {"128 bytes", "-b 1024 -I 128 -O has_journal,extents,huge_file,^metadata_csum"},
        {"128 bytes, checksums", "-b 1024 -I 128 -O " T_EXT4},
        {"512 bytes", "-b 1024 -I 512 -O " T_EXT4},
        {"1024 bytes", "-b 4096 -I 1024 -O " T_EXT4},
        {"no huge_file", "-I 256 -b 1024 -O extents,metadata_csum,^huge_file"},
        {"no extra_isize", "-I 256 -b 1024 -O extents,metadata_csum,^extra_isize"},
        {"no checksums", "-b 1024 -O extents,extra_isize,^metadata_csum"},
        {"inline_data", "-b 1024 -I 256 -O inline_data,ext_attr," T_EXT4},
        {"inline_data, 1024 bytes", "-b 1024 -I 1024 -O inline_data,ext_attr," T_EXT4},
        {"project", "-b 1024 -I 256 -O project,quota," T_EXT4},
        {"large_dir", "-b 1024 -I 256 -O large_dir," T_EXT4},
        {"ea_inode", "-b 1024 -I 256 -O ea_inode," T_EXT4},
        {"orphan_file", "-b 1024 -O orphan_file," T_EXT4},
        {"bigalloc", "-b 1024 -C 8192 -O bigalloc," T_EXT4},
        {"ext3", "-b 1024 -O has_journal,sparse_super,large_file"},
        {"ext2", "-b 1024 -O none"},
        {"hurd", "-b 1024 -o hurd -O none"},
};

/* Files of all kinds, with fields set to what is seldom there. */
static const char script[] =
        "mkdir d\\nwrite /bin/sh file\\nwrite /dev/null empty\\nsymlink short target\\n"
        "symlink long "
        "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\n"
        "mknod fifo p\\nmknod old c 1 3\\nmknod new b 300 70000\\n"
        "ea_set file user.a value\\nea_set d user.b value\\n"
        "set_inode_field file mtime 20500101000000\\nset_inode_field file atime "
        "19600101000000\\n"
        "set_inode_field file mtime_extra 0xee6b27fd\\nset_inode_field file uid 0x12345678\\n"
        "set_inode_field file gid 0x87654321\\nset_inode_field file generation 0xdeadbeef\\n"
        "set_inode_field file version 77\\nset_inode_field empty size 0x123456789ab\\n"
        "set_inode_field empty flags 0x80050\\nset_inode_field empty projid 4711\\n";

/* All inodes of the image that can be loaded; how many. */
static unsigned round_trip(const char *name, struct ext4_fs *fs)
{
        unsigned char was[4096], now[4096];
        unsigned n = 0;

        for (uint32_t ino = 1; ino <= fs->nr_inodes; ino++) {
                struct ext4_inode *inode;
                struct buf *buf;

                if (ext4_iget(fs, ino, &inode) < 0)
                        continue;
                T_CHECK(buf_read(fs->bufs, inode->disk_pos >> fs->block_bits, NULL, 0, &buf) ==
                        0);
                memcpy(was, (const char *)buf->data + inode->disk_pos % fs->block_size,
                       fs->inode_size);
                buf_put(buf);
                memcpy(now, was, fs->inode_size);
                ext4_inode_encode(inode, (void *)now);
                for (unsigned i = 0; i < fs->inode_size; i++) {
                        if (was[i] != now[i])
                                fail_msg("%s: inode %u: byte %#x: %#x became %#x", name, ino, i,
                                         was[i], now[i]);
                }
                ext4_iput(inode);
                n++;
        }
        return n;
}

static void unchanged_inode_is_the_same_bytes(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                struct t_image img = t_mkfs(32u << 20, configs[i].options, script);
                struct t_mount m;

                assert_int_equal(t_mount(&m, &img, &t_mount_ro), 0);
                if (round_trip(configs[i].name, m.fs) < 8)
                        fail_msg("%s: too few inodes", configs[i].name);
                t_umount(&m);
                t_image_free(&img);
        }
}

/* ---- field by field ---- */

#define INO 13u

/* A file system that only says how inodes look, and one inode of it, with its raw bytes. */
struct one {
        struct t_fs t;
        struct ext4_inode inode;
        unsigned char raw[1024];
};

static void one_init(struct one *o, uint32_t inode_size, uint32_t ro_compat)
{
        struct ext4_inode_disk *di = (void *)o->raw;

        t_fs_init(&o->t, 12, 64);
        o->t.fs->inode_size = inode_size;
        o->t.fs->sb.s_feature_ro_compat = le32_make(ro_compat);
        t_inode_init(&o->inode, o->t.fs, INO);
        o->inode.mode = S_IFREG;
        o->inode.nlink = 1;
        memset(o->raw, 0, sizeof(o->raw));
        if (inode_size > 128)
                di->i_extra_isize = le16_make(32);
}

static void one_done(struct one *o)
{
        t_inode_done(&o->inode);
        t_fs_done(&o->t);
}

/* Store it, and load another from the same bytes. */
static void through_disk(struct one *o, struct ext4_inode *ret)
{
        struct ext4_fs *fs = o->t.fs;
        struct ext4_group_desc *gd = t_block(&o->t, 1);

        ext4_inode_encode(&o->inode, (void *)o->raw);
        fs->sb_fsblk = 0;
        fs->desc_size = 32;
        fs->descs_per_block = fs->block_size / 32;
        fs->inodes_per_group = 16;
        fs->nr_inodes = 16;
        fs->blocks_per_group = 32768;
        fs->nr_groups = 1;
        gd->bg_block_bitmap_lo = le32_make(2);
        gd->bg_inode_bitmap_lo = le32_make(3);
        gd->bg_inode_table_lo = le32_make(4);
        memcpy((char *)t_block(&o->t, 4) + (INO - 1) * fs->inode_size, o->raw, fs->inode_size);
        t_fs_drop_cache(&o->t);
        t_inode_init(ret, fs, INO);
        T_CHECK(ext4_inode_load(ret) == 0);
}

static void times_to_the_edge(void **state)
{
        static const struct {
                int64_t sec;
                long nsec;
                uint32_t inode_size;
                int64_t want_sec;
                long want_nsec;
        } rows[] = {
                {0, 0, 256, 0, 0},
                {1, 999999999, 256, 1, 999999999},
                {-1, 5, 256, -1, 5},
                {INT32_MAX, 1, 256, INT32_MAX, 1},
                {INT32_MAX + 1ll, 1, 256, INT32_MAX + 1ll, 1},
                {INT32_MIN, 1, 256, INT32_MIN, 1},
                {INT32_MIN - 1ll, 1, 256, INT32_MIN, 0},
                {0xffffffffll, 7, 256, 0xffffffffll, 7},
                {0x100000000ll, 7, 256, 0x100000000ll, 7},
                {0x37fffffffll, 7, 256, 0x37fffffffll, 7},
                {0x380000000ll, 7, 256, 0x37fffffffll, 0},
                {1, 999999999, 128, 1, 0},
                {INT32_MAX + 1ll, 1, 128, INT32_MAX, 0},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                const struct timespec t = {.tv_sec = rows[i].sec, .tv_nsec = rows[i].nsec};
                struct ext4_inode got;
                struct one o;

                one_init(&o, rows[i].inode_size, 0);
                o.inode.atime = o.inode.mtime = o.inode.ctime = o.inode.btime = t;
                through_disk(&o, &got);
                assert_int_equal(got.mtime.tv_sec, rows[i].want_sec);
                assert_int_equal(got.mtime.tv_nsec, rows[i].want_nsec);
                assert_memory_equal(&got.mtime, &got.atime, sizeof(got.mtime));
                assert_memory_equal(&got.mtime, &got.ctime, sizeof(got.mtime));
                if (rows[i].inode_size > 128)
                        assert_memory_equal(&got.mtime, &got.btime, sizeof(got.mtime));
                t_inode_done(&got);
                one_done(&o);
        }
}

static void blocks_in_their_unit(void **state)
{
        const uint32_t huge = EXT4_RO_COMPAT_HUGE_FILE;
        static const struct {
                uint64_t blocks;
                bool huge;
                bool flag; /* is set on disk */
        } rows[] = {
                {0, true, false},
                {0xffffffff, false, false},
                {0xffffffff, true, false},
                {0x100000000, true, false},
                {0xffffffffffff, true, false},
                {0x1000000000000, true, true},
                {0xffffffffffffull << 3, true, true},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct ext4_inode_disk *di;
                struct ext4_inode got;
                struct one o;

                one_init(&o, 256, rows[i].huge ? huge : 0);
                di = (void *)o.raw;
                o.inode.blocks = rows[i].blocks;
                assert_true(o.inode.blocks <= ext4_inode_max_blocks(o.t.fs));
                through_disk(&o, &got);
                assert_int_equal(got.blocks, rows[i].blocks);
                assert_int_equal(!!(le32_get(di->i_flags) & EXT4_FL_HUGE_FILE), rows[i].flag);
                t_inode_done(&got);
                one_done(&o);
        }
}

static void size_on_disk_is_disk_size(void **state)
{
        static const struct {
                uint16_t mode;
                uint32_t incompat;
                uint64_t size;
        } rows[] = {
                {S_IFREG, 0, 0},          {S_IFREG, 0, 0x123456789abc},
                {S_IFDIR, 0, 0xffff0000}, {S_IFDIR, EXT4_INCOMPAT_LARGEDIR, 0x1ffff0000},
                {S_IFLNK, 0, 4095},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct ext4_inode got;
                struct one o;

                one_init(&o, 256, 0);
                o.t.fs->sb.s_feature_incompat = le32_make(rows[i].incompat);
                o.inode.mode = rows[i].mode;
                o.inode.disk_size = rows[i].size;
                atomic_store(&o.inode.vfs.size, rows[i].size + 4096); /* not written yet */
                through_disk(&o, &got);
                assert_int_equal(vfs_size(&got.vfs), rows[i].size);
                assert_int_equal(got.disk_size, rows[i].size);
                t_inode_done(&got);
                one_done(&o);
        }
}

static void other_fields(void **state)
{
        struct ext4_inode_disk *di;
        struct ext4_inode got;
        struct one o;

        one_init(&o, 256, EXT4_RO_COMPAT_PROJECT);
        di = (void *)o.raw;
        di->i_dtime = le32_make(4711);
        di->i_obso_faddr = le32_make(3);
        o.inode.mode = S_IFREG | 04751;
        o.inode.uid = 0xfedcba98;
        o.inode.gid = 0x89abcdef;
        o.inode.projid = 0xffff0001;
        o.inode.nlink = 65000;
        o.inode.generation = 0xcafe0001;
        o.inode.flags = EXT4_FL_NOATIME | EXT4_FL_SYNC;
        o.inode.file_acl = 7;
        memset(o.inode.block, 0x5a, sizeof(o.inode.block));
        through_disk(&o, &got);
        assert_int_equal(got.mode, o.inode.mode);
        assert_int_equal(got.uid, o.inode.uid);
        assert_int_equal(got.gid, o.inode.gid);
        assert_int_equal(got.projid, o.inode.projid);
        assert_int_equal(got.nlink, o.inode.nlink);
        assert_int_equal(got.generation, o.inode.generation);
        assert_int_equal(got.flags, o.inode.flags);
        assert_int_equal(got.file_acl, o.inode.file_acl);
        assert_memory_equal(got.block, o.inode.block, sizeof(got.block));
        /* What the struct does not have. */
        assert_int_equal(le32_get(di->i_dtime), 4711);
        assert_int_equal(le32_get(di->i_obso_faddr), 3);
        t_inode_done(&got);
        one_done(&o);
}

/* In two parts where there are two; not what others keep in its place. */
static void versions(void **state)
{
        static const struct {
                uint16_t inode_size;
                uint32_t flags, os;
                uint64_t set, is;
        } rows[] = {
                {256, 0, EXT4_OS_LINUX, 0x123456789abull, 0x123456789abull},
                {256, 0, EXT4_OS_LINUX, 0xffffffffull, 0xffffffffull},
                {128, 0, EXT4_OS_LINUX, 0x123456789abull, 0x456789abull},
                {256, EXT4_FL_EA_INODE, EXT4_OS_LINUX, 5, 0x200000001ull},
                {128, 0, EXT4_OS_HURD, 5, 1},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct ext4_inode_disk *di;
                struct ext4_inode got;
                struct one o;

                one_init(&o, rows[i].inode_size, 0);
                o.t.fs->sb.s_creator_os = le32_make(rows[i].os);
                di = (void *)o.raw;
                di->i_version_lo = le32_make(1);
                if (rows[i].inode_size > 128)
                        di->i_version_hi = le32_make(2);
                o.inode.mode = S_IFREG;
                o.inode.flags = rows[i].flags;
                o.inode.version = rows[i].set << 1;
                through_disk(&o, &got);
                assert_int_equal(le32_get(di->i_version_lo), (uint32_t)rows[i].is);
                if (rows[i].inode_size > 128)
                        assert_int_equal(le32_get(di->i_version_hi), rows[i].is >> 32);
                if (rows[i].flags == 0 && rows[i].os == EXT4_OS_LINUX)
                        assert_int_equal(ext4_get_version(&got), rows[i].is);
                t_inode_done(&got);
                one_done(&o);
        }
}

/* ---- under a handle ---- */

static const struct ext4_mount_options rw = {
        .sb_block = 1,
        .meta_cache_bytes = 1u << 20,
        .commit_ms = 3600 * 1000,
};

/* Change, store in a transaction of its own, make it durable; its tid. */
static uint32_t store(struct ext4_inode *inode)
{
        struct jbd2 *j = inode->fs->journal;
        struct jbd2_handle *h;
        uint32_t tid;

        T_CHECK(jbd2_start(j, EXT4_INODE_CREDITS, 0, &h) == 0);
        tid = jbd2_tid(h);
        T_CHECK(ext4_inode_dirty(h, inode) == 0);
        T_CHECK(jbd2_stop(h) == 0);
        T_CHECK(jbd2_commit(j, tid) == 0);
        return tid;
}

static uint32_t ino_of(struct ext4_fs *fs, const char *name)
{
        struct ext4_inode *root;
        uint32_t ino;

        T_CHECK(ext4_iget(fs, EXT4_INO_ROOT, &root) == 0);
        T_CHECK(ext4_dir_lookup(root, name, strlen(name), &ino) == 0);
        ext4_iput(root);
        return ino;
}

static void transactions_are_remembered(void **state)
{
        struct t_image img = t_mkfs(32u << 20, "-b 1024 -O " T_EXT4, "write /bin/sh file\\n");
        struct ext4_inode *inode;
        struct t_mount m;
        uint32_t tid, ino;

        assert_int_equal(t_mount(&m, &img, &rw), 0);
        ino = ino_of(m.fs, "file");
        assert_int_equal(ext4_iget(m.fs, ino, &inode), 0);
        assert_true(jbd2_is_durable(m.fs->journal, atomic_load(&inode->sync_tid)));
        assert_true(jbd2_is_durable(m.fs->journal, atomic_load(&inode->datasync_tid)));

        inode->mtime.tv_sec = 12345; /* B6: nothing that fdatasync waits for */
        tid = store(inode);
        assert_int_equal(atomic_load(&inode->sync_tid), tid);
        assert_int_not_equal(atomic_load(&inode->datasync_tid), tid);

        inode->disk_size--;
        atomic_store(&inode->vfs.size, inode->disk_size);
        tid = store(inode);
        assert_int_equal(atomic_load(&inode->datasync_tid), tid);

        /* Read again, it still knows what it must wait for. */
        ext4_iput(inode);
        ext4_inode_table_trim(m.fs->inodes);
        assert_int_equal(ext4_iget(m.fs, ino, &inode), 0);
        assert_int_equal(atomic_load(&inode->datasync_tid), tid);
        assert_int_equal(inode->mtime.tv_sec, 12345);
        inode->disk_size++;
        atomic_store(&inode->vfs.size, inode->disk_size);
        store(inode);
        ext4_iput(inode);
        t_umount(&m);
        assert_null(t_fsck(&img, false));
        t_image_free(&img);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(unchanged_inode_is_the_same_bytes),
                cmocka_unit_test(times_to_the_edge),
                cmocka_unit_test(blocks_in_their_unit),
                cmocka_unit_test(size_on_disk_is_disk_size),
                cmocka_unit_test(other_fields),
                cmocka_unit_test(versions),
                cmocka_unit_test(transactions_are_remembered),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
