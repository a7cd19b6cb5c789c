/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Extended attributes: for the space in an inode and for a block one that is valid, and rows
 * that change one field of it; then what get and list make of both, ACLs, and inline data.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/dir.h"
#include "ext4/xattr.h"
#include "util/alloc.h"
#include "util/crc.h"

#define T_BLOCK     1024
#define T_BLK       100
#define T_IBODY     96
#define T_NR_INODES 5000
#define T_INO       77

static struct ext4_fs fs;
static struct ext4_inode inode;
static uint8_t device[128 * T_BLOCK] __attribute__((aligned(4096)));
static uint8_t *const block = device + T_BLK * T_BLOCK;
static uint8_t ibody[T_IBODY] __attribute__((aligned(8)));
static struct uext4_bdev *bdev;
static unsigned nr_lines;
static char last_line[256];

static void t_log(void *arg, int level, const char *text)
{
        nr_lines++;
        snprintf(last_line, sizeof(last_line), "%s", text);
}

enum t_flags {
        T_CSUM = 1u << 0,
        T_EA_INODE = 1u << 1,
        T_NOCSUM_OPTION = 1u << 2,
        T_STALE_CSUM = 1u << 3, /* do not put the checksum right */
};

static void t_setup(unsigned flags)
{
        fs = (struct ext4_fs){
                .block_size = T_BLOCK,
                .block_bits = 10,
                .nr_inodes = T_NR_INODES,
                .first_ino = 11,
                .nr_blocks = 1000,
                .has_metadata_csum = flags & T_CSUM,
                .csum_seed = 0x12345678,
                .opts.nocsum = flags & T_NOCSUM_OPTION,
        };
        fs.vfs.log = (struct log_sink){.fn = t_log};
        if (flags & T_EA_INODE)
                fs.sb.s_feature_incompat = le32_make(EXT4_INCOMPAT_EA_INODE);
        inode = (struct ext4_inode){
                .fs = &fs,
                .mode = S_IFREG | 0644,
                .ibody = ibody,
                .ibody_size = sizeof(ibody),
        };
        vfs_inode_init(&inode.vfs, &fs.vfs, T_INO);
        nr_lines = 0;
        last_line[0] = '\0';
}

/* ---- making runs ---- */

static void t_put(uint8_t *data, size_t pos, uint64_t value, unsigned width)
{
        for (unsigned i = 0; i < width; i++)
                data[pos + i] = i < 8 ? (uint8_t)(value >> 8 * i) : 0;
}

/* A run that is being made: entries grow up, values down. */
struct t_run {
        uint8_t *data;
        size_t base;  /* offsets of values count from here */
        size_t entry; /* the next */
        size_t value; /* the lowest */
};

static void t_add(struct t_run *run, uint8_t index, const char *name, const void *value,
                  size_t len)
{
        uint8_t *entry = run->data + run->entry;

        run->value -= (len + 3) & ~3u;
        memcpy(run->data + run->value, value, len);
        entry[0] = (uint8_t)strlen(name);
        entry[1] = index;
        t_put(entry, 2, run->value - run->base, 2);
        t_put(entry, 8, len, 4);
        memcpy(entry + 16, name, strlen(name));
        run->entry += 16 + ((strlen(name) + 3) & ~3u);
}

static struct t_run t_ibody(void)
{
        memset(ibody, 0, sizeof(ibody));
        t_put(ibody, 0, EXT4_XATTR_MAGIC, 4);
        return (struct t_run){ibody, 4, 4, sizeof(ibody)};
}

static struct t_run t_block(void)
{
        memset(block, 0, T_BLOCK);
        t_put(block, 0, EXT4_XATTR_MAGIC, 4);
        t_put(block, 4, 1, 4);
        t_put(block, 8, 1, 4);
        return (struct t_run){block, 0, 32, T_BLOCK};
}

static void t_seal(void)
{
        const le64 nr = le64_make(T_BLK);

        if (!fs.has_metadata_csum)
                return;
        t_put(block, 16, 0, 4);
        t_put(block, 16, crc32c(crc32c(fs.csum_seed, &nr, sizeof(nr)), block, T_BLOCK), 4);
}

/* Both runs of the rows: two attributes, user.first and user.b. */
#define FIRST    0
#define SECOND   (16 + 8)
#define LIST_END (SECOND + 16 + 4)

static void t_two(struct t_run run)
{
        t_add(&run, EXT4_XATTR_INDEX_USER, "first", "value one", 9);
        t_add(&run, EXT4_XATTR_INDEX_USER, "b", "two", 3);
}

/* ---- rows ---- */

struct t_row {
        const char *what;
        size_t pos;
        unsigned width;
        uint64_t value;
        int want;
        unsigned flags;
};

static void t_run_rows(const struct t_row *rows, size_t nr, uint8_t *data, size_t first,
                       unsigned flags)
{
        for (size_t i = 0; i < nr; i++) {
                const struct ext4_where at = {.fs = &fs, .ino = T_INO};
                int ret;

                t_setup(flags | rows[i].flags);
                t_two(data == ibody ? t_ibody() : t_block());
                t_seal();
                t_put(data, first + rows[i].pos, rows[i].value, rows[i].width);
                if (!(rows[i].flags & T_STALE_CSUM))
                        t_seal();
                ret = data == ibody ? ext4_xattr_ibody_check(&at, ibody, sizeof(ibody))
                                    : ext4_xattr_block_verify(block, T_BLOCK, T_BLK, &fs);
                if (ret != rows[i].want)
                        fail_msg("%s: %d, not %d (%s)", rows[i].what, ret, rows[i].want,
                                 last_line);
                if (nr_lines != (rows[i].want < 0))
                        fail_msg("%s: %u lines in the log", rows[i].what, nr_lines);
                vfs_inode_done(&inode.vfs);
        }
}

/* Positions from the first entry on. */
static const struct t_row entry_rows[] = {
        {"as made", 0, 0, 0, 0, 0},
        {"no attributes", FIRST, 4, 0, 0, 0},
        {"name runs into the next", FIRST, 1, 200, -EUCLEAN, 0},
        {"name of 255 bytes", SECOND, 1, 255, -EUCLEAN, 0},
        {"zero byte in a name", FIRST + 18, 1, 0, -EUCLEAN, 0},
        {"unknown index", FIRST + 1, 1, 99, 0, 0},
        {"value in the list", FIRST + 2, 2, LIST_END - 4, -EUCLEAN, 0},
        {"value at 65535", FIRST + 2, 2, 65535, -EUCLEAN, 0},
        {"value too long", SECOND + 8, 4, 2000, -EUCLEAN, 0},
        {"value of 4 GiB", SECOND + 8, 4, 0xffffffff, -EUCLEAN, 0},
        {"value of 2 GiB", SECOND + 8, 4, 0x80000000, -EUCLEAN, 0},
        {"empty value at an odd place", FIRST + 2, 10, 0xffff, 0, 0},
        {"value in an inode, no feature", FIRST + 4, 4, 12, -EUCLEAN, 0},
        {"value in an inode", FIRST + 4, 4, 12, 0, T_EA_INODE},
        {"value in the last inode", FIRST + 4, 4, T_NR_INODES, 0, T_EA_INODE},
        {"value in an inode that is not", FIRST + 4, 4, T_NR_INODES + 1, -EUCLEAN, T_EA_INODE},
        {"value in a reserved inode", FIRST + 4, 4, 8, -EUCLEAN, T_EA_INODE},
        {"value of 64 KiB in an inode", FIRST + 4, 8, 65536ull << 32 | 12, 0, T_EA_INODE},
        {"longer value in an inode", FIRST + 4, 8, 65537ull << 32 | 12, -EUCLEAN, T_EA_INODE},
        {"hash of an entry", FIRST + 12, 4, 0x1234, 0, 0},
};

/* Positions from the start of the block. */
static const struct t_row header_rows[] = {
        {"magic", 0, 4, 0xea010000, -EUCLEAN, 0},
        {"no blocks", 8, 4, 0, -EUCLEAN, 0},
        {"two blocks", 8, 4, 2, -EUCLEAN, 0},
        {"reference count", 4, 4, 1024, 0, 0},
};

static const struct t_row csum_rows[] = {
        {"checksum", 16, 4, 1, -EBADMSG, T_STALE_CSUM},
        {"reference count changed", 4, 4, 2, -EBADMSG, T_STALE_CSUM},
        {"a value changed", T_BLOCK - 1, 1, 'x', -EBADMSG, T_STALE_CSUM},
        {"checksum with nocsum", 16, 4, 1, 0, T_STALE_CSUM | T_NOCSUM_OPTION},
};

static void ibody_fields_are_checked(void **state)
{
        t_run_rows(entry_rows, ARRAY_LEN(entry_rows), ibody, 4, 0);
}

static void block_fields_are_checked(void **state)
{
        t_run_rows(entry_rows, ARRAY_LEN(entry_rows), block, 32, 0);
        t_run_rows(entry_rows, ARRAY_LEN(entry_rows), block, 32, T_CSUM);
        t_run_rows(header_rows, ARRAY_LEN(header_rows), block, 0, 0);
        t_run_rows(header_rows, ARRAY_LEN(header_rows), block, 0, T_CSUM);
        t_run_rows(csum_rows, ARRAY_LEN(csum_rows), block, 0, T_CSUM);
}

static void block_checksum_covers_its_number(void **state)
{
        t_setup(T_CSUM);
        t_two(t_block());
        t_seal();
        assert_int_equal(ext4_xattr_block_verify(block, T_BLOCK, T_BLK + 1, &fs), -EBADMSG);
}

static void list_must_end_inside(void **state)
{
        const struct ext4_where at = {.fs = &fs, .ino = T_INO};
        struct t_run run;

        /* Entries up to the end, without values: no room for the four zeros. */
        t_setup(0);
        run = t_ibody();
        t_add(&run, EXT4_XATTR_INDEX_USER, "1234", "", 0);
        t_add(&run, EXT4_XATTR_INDEX_USER, "1234", "", 0);
        t_add(&run, EXT4_XATTR_INDEX_USER, "12345678", "", 0);
        t_add(&run, EXT4_XATTR_INDEX_USER, "1234567", "", 0);
        assert_int_equal(run.entry, 92);
        assert_int_equal(ext4_xattr_ibody_check(&at, ibody, 96), 0);
        assert_int_equal(ext4_xattr_ibody_check(&at, ibody, 92), -EUCLEAN);
        assert_int_equal(ext4_xattr_ibody_check(&at, ibody, 88), -EUCLEAN);
        assert_int_equal(ext4_xattr_ibody_check(&at, ibody, 4), -EUCLEAN);
}

/* Packed anew, with its value elsewhere, it would end the list. */
static void entry_that_looks_like_the_end_is_damage(void **state)
{
        const struct ext4_where at = {.fs = &fs, .ino = T_INO};
        struct t_run run;

        for (uint8_t index = 0; index < 2; index++) {
                t_setup(0);
                run = t_ibody();
                t_add(&run, index, "", "value", 5);
                t_add(&run, EXT4_XATTR_INDEX_USER, "behind", "", 0);
                assert_int_equal(ext4_xattr_ibody_check(&at, ibody, sizeof(ibody)),
                                 index == 0 ? -EUCLEAN : 0);
        }
}

static void space_without_magic_holds_nothing(void **state)
{
        const struct ext4_where at = {.fs = &fs, .ino = T_INO};
        const void *value;

        t_setup(0);
        memset(ibody, 0xff, sizeof(ibody));
        assert_int_equal(ext4_xattr_ibody_check(&at, ibody, sizeof(ibody)), 0);
        assert_int_equal(ext4_xattr_ibody_check(&at, ibody, 0), 0);
        assert_int_equal(ext4_xattr_ibody_find(&inode, 1, "a", 1, &value), -ENODATA);
        assert_int_equal(ext4_xattr_list(&inode, NULL, 0), 0);
}

/* ---- get and list ---- */

static void t_open(void)
{
        assert_int_equal(
                uext4_bdev_open_buffer(device, sizeof(device), UEXT4_BDEV_OPEN_READONLY, &bdev),
                0);
        assert_int_equal(buf_cache_new(bdev, T_BLOCK, 1 << 20, &fs.bufs), 0);
        inode.file_acl = T_BLK;
}

static void t_close(void)
{
        buf_cache_free(fs.bufs);
        uext4_bdev_close(bdev);
        vfs_inode_done(&inode.vfs);
}

static void get_looks_in_the_inode_then_in_the_block(void **state)
{
        struct t_run in, out;
        char buf[16];

        t_setup(T_CSUM);
        in = t_ibody();
        t_add(&in, EXT4_XATTR_INDEX_USER, "a", "inode", 5);
        t_add(&in, EXT4_XATTR_INDEX_USER, "a", "hidden", 6);
        out = t_block();
        t_add(&out, EXT4_XATTR_INDEX_USER, "a", "hidden, too", 11);
        t_add(&out, EXT4_XATTR_INDEX_TRUSTED, "a", "block", 5);
        t_add(&out, EXT4_XATTR_INDEX_SECURITY, "empty", "", 0);
        t_seal();
        t_open();
        assert_int_equal(ext4_xattr_get(&inode, "user.a", buf, sizeof(buf)), 5);
        assert_memory_equal(buf, "inode", 5);
        assert_int_equal(ext4_xattr_get(&inode, "trusted.a", buf, sizeof(buf)), 5);
        assert_memory_equal(buf, "block", 5);
        assert_int_equal(ext4_xattr_get(&inode, "trusted.a", NULL, 0), 5);
        assert_int_equal(ext4_xattr_get(&inode, "trusted.a", buf, 4), -ERANGE);
        assert_int_equal(ext4_xattr_get(&inode, "security.empty", buf, sizeof(buf)), 0);
        assert_int_equal(ext4_xattr_get(&inode, "user.b", buf, sizeof(buf)), -ENODATA);
        assert_int_equal(ext4_xattr_get(&inode, "user.", buf, sizeof(buf)), -EINVAL);
        assert_int_equal(ext4_xattr_get(&inode, "other.a", buf, sizeof(buf)), -EOPNOTSUPP);
        assert_int_equal(ext4_xattr_get(&inode, "system.data", buf, sizeof(buf)), -EOPNOTSUPP);
        assert_int_equal(ext4_xattr_get(&inode, "", buf, sizeof(buf)), -EOPNOTSUPP);
        assert_int_equal(nr_lines, 0);
        t_close();
}

static void list_is_what_users_see_in_stored_order(void **state)
{
        static const char want[] = "user.a\0security.c\0trusted.d\0system.posix_acl_access";
        char buf[200];
        struct t_run in, out;

        t_setup(T_CSUM);
        in = t_ibody();
        t_add(&in, EXT4_XATTR_INDEX_USER, "a", "1", 1);
        t_add(&in, EXT4_XATTR_INDEX_SYSTEM, "data", "", 0);
        t_add(&in, EXT4_XATTR_INDEX_SECURITY, "c", "", 0);
        out = t_block();
        t_add(&out, EXT4_XATTR_INDEX_USER, "a", "hidden", 6);
        t_add(&out, EXT4_XATTR_INDEX_ENCRYPTION, "c", "context", 7);
        t_add(&out, EXT4_XATTR_INDEX_TRUSTED, "d", "", 0);
        t_add(&out, EXT4_XATTR_INDEX_USER, "", "no name", 7);
        t_add(&out, EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, "", "\1\0\0\0", 4);
        t_add(&out, 99, "e", "", 0);
        t_seal();
        t_open();
        assert_int_equal(ext4_xattr_list(&inode, NULL, 0), sizeof(want));
        assert_int_equal(ext4_xattr_list(&inode, buf, sizeof(want)), sizeof(want));
        assert_memory_equal(buf, want, sizeof(want));
        for (size_t size = 1; size < sizeof(want); size++)
                assert_int_equal(ext4_xattr_list(&inode, buf, size), -ERANGE);
        t_close();
}

static void damaged_block_leaves_those_in_the_inode(void **state)
{
        char buf[16];

        t_setup(T_CSUM);
        t_two(t_ibody());
        t_block(); /* not sealed */
        t_open();
        assert_int_equal(ext4_xattr_get(&inode, "user.first", buf, sizeof(buf)), 9);
        assert_int_equal(ext4_xattr_get(&inode, "user.c", buf, sizeof(buf)), -EBADMSG);
        assert_int_equal(ext4_xattr_list(&inode, NULL, 0), -EBADMSG);
        assert_int_equal(nr_lines, 1);
        t_close();
}

/* ---- ACLs ---- */

/* u::rw- u:1000:r-- g::r-- m::rw- o::--- */
static const uint8_t acl_disk[] = {
        1, 0, 0, 0,                               /* version */
        1, 0, 6, 0,                               /* the owner */
        2, 0, 4, 0, 0xe8, 3, 0, 0,                /* user 1000 */
        4, 0, 4, 0, 0x10, 0, 6, 0, 0x20, 0, 0, 0, /* the group, the mask, others */
};

static const uint8_t acl_shown[] = {
        2,    0, 0, 0,                         /* */
        1,    0, 6, 0, 0xff, 0xff, 0xff, 0xff, /* */
        2,    0, 4, 0, 0xe8, 3,    0,    0,    /* */
        4,    0, 4, 0, 0xff, 0xff, 0xff, 0xff, /* */
        0x10, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, /* */
        0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, /* */
};

static void acl_is_shown_as_getxattr_does(void **state)
{
        struct t_run run;
        uint8_t buf[100];

        t_setup(0);
        run = t_ibody();
        t_add(&run, EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, "", acl_disk, sizeof(acl_disk));
        assert_int_equal(ext4_xattr_get(&inode, "system.posix_acl_access", NULL, 0),
                         sizeof(acl_shown));
        assert_int_equal(ext4_xattr_get(&inode, "system.posix_acl_access", buf, sizeof(buf)),
                         sizeof(acl_shown));
        assert_memory_equal(buf, acl_shown, sizeof(acl_shown));
        assert_int_equal(
                ext4_xattr_get(&inode, "system.posix_acl_access", buf, sizeof(acl_shown) - 1),
                -ERANGE);
        assert_int_equal(ext4_xattr_get(&inode, "system.posix_acl_default", buf, 9), -ENODATA);
        assert_int_equal(ext4_xattr_get(&inode, "system.posix_acl_accessX", buf, 9),
                         -EOPNOTSUPP);
}

static void acl_fields_are_checked(void **state)
{
        static const struct {
                const char *what;
                size_t pos;
                uint8_t value;
                size_t len;
        } rows[] = {
                {"version", 0, 2, sizeof(acl_disk)},
                {"no version", 0, 1, 3},
                {"unknown tag", 4, 3, sizeof(acl_disk)},
                {"tag of two bytes", 5, 1, sizeof(acl_disk)},
                {"unknown permission", 6, 8, sizeof(acl_disk)},
                {"half an entry at the end", 4, 1, sizeof(acl_disk) - 2},
                {"user without an id", 4, 1, 12},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                const struct ext4_where at = {.fs = &fs, .ino = T_INO};
                uint8_t acl[sizeof(acl_disk)];
                uint8_t buf[100];

                t_setup(0);
                memcpy(acl, acl_disk, sizeof(acl));
                acl[rows[i].pos] = rows[i].value;
                if (ext4_acl_to_xattr(&at, acl, rows[i].len, buf, sizeof(buf)) != -EUCLEAN)
                        fail_msg("%s was accepted", rows[i].what);
                assert_int_equal(nr_lines, 1);
        }
}

/* ---- inline data ---- */

static void t_inline(uint16_t mode, uint64_t size, const void *value, size_t len)
{
        struct t_run run;

        t_setup(0);
        inode.mode = mode;
        inode.flags = EXT4_FL_INLINE_DATA;
        atomic_store(&inode.vfs.size, size);
        for (unsigned i = 0; i < sizeof(inode.block); i++)
                inode.block[i] = (uint8_t)('A' + i);
        run = t_ibody();
        t_add(&run, EXT4_XATTR_INDEX_SYSTEM, "data", value, len);
}

static void inline_data_is_one_piece(void **state)
{
        t_inline(S_IFREG, 65, "12345678", 8);
        assert_int_equal(ext4_inline_load(&inode), 0);
        assert_int_equal(inode.inline_size, 65);
        assert_memory_equal(inode.inline_data, inode.block, 60);
        assert_memory_equal(inode.inline_data + 60, "12345", 5);
        mem_free(inode.inline_data);

        t_inline(S_IFREG, 10, "", 0);
        assert_int_equal(ext4_inline_load(&inode), 0);
        assert_int_equal(inode.inline_size, 10);
        mem_free(inode.inline_data);

        t_inline(S_IFREG, 1 << 20, "1234", 4); /* extended by truncate(2) */
        assert_int_equal(ext4_inline_load(&inode), 0);
        assert_int_equal(inode.inline_size, 64);
        mem_free(inode.inline_data);
        assert_int_equal(nr_lines, 0);
}

static void inline_data_that_cannot_be(void **state)
{
        t_inline(S_IFLNK, 65, "1234", 4);
        assert_int_equal(ext4_inline_load(&inode), -EUCLEAN);
        t_inline(S_IFDIR, 65, "1234", 4);
        assert_int_equal(ext4_inline_load(&inode), -EUCLEAN);
        t_inline(S_IFCHR, 4, "1234", 4);
        assert_int_equal(ext4_inline_load(&inode), -EUCLEAN);
        t_inline(S_IFREG, 4, "1234", 4);
        t_ibody(); /* and nothing in it */
        assert_int_equal(ext4_inline_load(&inode), -EUCLEAN);
        t_inline(S_IFREG, 4, "1234", 4);
        t_put(ibody, 4 + 4, 12, 4); /* in another inode */
        assert_int_equal(ext4_inline_load(&inode), -EUCLEAN);
        assert_int_equal(nr_lines, 1);
}

/* Two runs of entries, of 56 and 24 bytes. */
static void t_inline_dir(void)
{
        uint8_t value[24] = {0};

        t_put(value, 0, 14, 4);
        t_put(value, 4, 24, 2);
        value[6] = 1;
        value[7] = EXT4_FT_DIR;
        value[8] = 'z';
        t_inline(S_IFDIR, 84, value, sizeof(value));
        fs.sb.s_feature_incompat = le32_make(EXT4_INCOMPAT_FILETYPE);
        memset(inode.block, 0, sizeof(inode.block));
        t_put(inode.block, 0, 2, 4);
        t_put(inode.block, 4, 12, 4);
        t_put(inode.block, 8, 16, 2);
        memcpy(inode.block + 10, "\6\1name-a", 8);
        t_put(inode.block, 20, 13, 4);
        t_put(inode.block, 24, 40, 2);
        memcpy(inode.block + 26, "\1\7b", 3);
}

static void inline_directory_has_two_runs(void **state)
{
        static const struct {
                const char *name;
                uint32_t ino;
                uint8_t type;
        } want[] = {
                {".", T_INO, EXT4_FT_DIR},        {"..", 2, EXT4_FT_DIR},
                {"name-a", 12, EXT4_FT_REG_FILE}, {"z", 14, EXT4_FT_DIR},
                {"b", 13, EXT4_FT_SYMLINK}, /* in the order of their hashes */
        };
        struct ext4_dirent entry;
        uint64_t cookie = 0;
        uint32_t ino;

        t_inline_dir();
        assert_int_equal(ext4_inline_load(&inode), 0);
        assert_int_equal(inode.inline_err, 0);
        for (size_t i = 0; i < ARRAY_LEN(want); i++) {
                assert_int_equal(ext4_dir_read(&inode, &cookie, &entry), 1);
                assert_string_equal(entry.name, want[i].name);
                assert_int_equal(entry.ino, want[i].ino);
                assert_int_equal(entry.file_type, want[i].type);
                assert_int_equal(ext4_dir_lookup(&inode, entry.name, entry.name_len, &ino), 0);
                assert_int_equal(ino, want[i].ino);
        }
        assert_int_equal(ext4_dir_read(&inode, &cookie, &entry), 0);
        assert_int_equal(ext4_dir_read(&inode, &cookie, &entry), 0);
        assert_int_equal(ext4_dir_lookup(&inode, "c", 1, &ino), -ENOENT);
        mem_free(inode.inline_data);
}

static void inline_directory_fields_are_checked(void **state)
{
        static const struct {
                const char *what;
                size_t pos;
                unsigned width;
                uint32_t value;
                int want;
        } rows[] = {
                {"as made", 0, 0, 0, 0},
                {"no parent", 0, 4, 0, -EUCLEAN},
                {"parent beyond the last inode", 0, 4, T_NR_INODES + 1, -EUCLEAN},
                {"entry into the attribute", 24, 2, 64, -EUCLEAN},
                {"gap before the attribute", 24, 2, 36, -EUCLEAN},
                {"inode beyond the last", 4, 4, T_NR_INODES + 1, -EUCLEAN},
                {"empty name", 10, 1, 0, -EUCLEAN},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct ext4_dirent entry;
                uint64_t cookie = 0;
                uint32_t ino;

                t_inline_dir();
                t_put(inode.block, rows[i].pos, rows[i].value, rows[i].width);
                assert_int_equal(ext4_inline_load(&inode), 0);
                if (inode.inline_err != rows[i].want)
                        fail_msg("%s: %d", rows[i].what, inode.inline_err);
                if (rows[i].want < 0) {
                        assert_int_equal(ext4_dir_lookup(&inode, "b", 1, &ino), -EUCLEAN);
                        assert_int_equal(ext4_dir_read(&inode, &cookie, &entry), -EUCLEAN);
                        assert_int_equal(ext4_dir_read(&inode, &cookie, &entry), 0);
                        assert_int_equal(nr_lines, 1);
                }
                mem_free(inode.inline_data);
        }
}

/* ---- symlinks ---- */

static void symlinks_in_the_inode(void **state)
{
        char buf[100];

        t_setup(0);
        inode.mode = S_IFLNK;
        memcpy(inode.block, "target", 6);
        atomic_store(&inode.vfs.size, 6);
        assert_int_equal(ext4_readlink(&inode, buf, sizeof(buf)), 6);
        assert_memory_equal(buf, "target", 6);
        buf[3] = '!';
        assert_int_equal(ext4_readlink(&inode, buf, 3), 6); /* cut */
        assert_memory_equal(buf, "tar!et", 6);
        atomic_store(&inode.vfs.size, 7); /* a zero byte at its end */
        assert_int_equal(ext4_readlink(&inode, buf, sizeof(buf)), -EUCLEAN);
        atomic_store(&inode.vfs.size, 0);
        assert_int_equal(ext4_readlink(&inode, buf, sizeof(buf)), -EUCLEAN);
        atomic_store(&inode.vfs.size, T_BLOCK);
        assert_int_equal(ext4_readlink(&inode, buf, sizeof(buf)), -EUCLEAN);
        inode.flags = EXT4_FL_ENCRYPT;
        assert_int_equal(ext4_readlink(&inode, buf, sizeof(buf)), -ENOKEY);
        inode.mode = S_IFREG;
        assert_int_equal(ext4_readlink(&inode, buf, sizeof(buf)), -EINVAL);

        t_inline(S_IFLNK, 64, "1234", 4);
        assert_int_equal(ext4_inline_load(&inode), 0);
        assert_int_equal(ext4_readlink(&inode, buf, sizeof(buf)), 64);
        assert_memory_equal(buf + 58, "{|1234", 6);
        mem_free(inode.inline_data);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ibody_fields_are_checked),
                cmocka_unit_test(block_fields_are_checked),
                cmocka_unit_test(block_checksum_covers_its_number),
                cmocka_unit_test(list_must_end_inside),
                cmocka_unit_test(entry_that_looks_like_the_end_is_damage),
                cmocka_unit_test(space_without_magic_holds_nothing),
                cmocka_unit_test(get_looks_in_the_inode_then_in_the_block),
                cmocka_unit_test(list_is_what_users_see_in_stored_order),
                cmocka_unit_test(damaged_block_leaves_those_in_the_inode),
                cmocka_unit_test(acl_is_shown_as_getxattr_does),
                cmocka_unit_test(acl_fields_are_checked),
                cmocka_unit_test(inline_data_is_one_piece),
                cmocka_unit_test(inline_data_that_cannot_be),
                cmocka_unit_test(inline_directory_has_two_runs),
                cmocka_unit_test(inline_directory_fields_are_checked),
                cmocka_unit_test(symlinks_in_the_inode),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
