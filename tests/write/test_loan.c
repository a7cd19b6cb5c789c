/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Cached pages on loan: what they have, what leaves them as they are, and what they hold up. */

#include <errno.h>
#include <fcntl.h>

#include "../change/rig.h"
#include "vfs/pages.h"

#define EXT4_4K                                                                         \
        "-b 4096 -I 256 -N 64 -J size=4 -O none,has_journal,extents,huge_file,flex_bg," \
        "64bit,dir_nlink,extra_isize,metadata_csum,large_file,filetype,sparse_super"
#define INLINE EXT4_4K ",ext_attr,inline_data"

#define PART 65536u
#define NR   16 /* pieces, at most */

struct stage {
        struct t_image img;
        struct uext4_bdev *dev;
        struct rig_mount m;
        struct uext4_file *file, *direct;
        uint8_t *buf; /* 1 MiB */
};

static void t_open(struct stage *st, const char *mkfs, const char *options)
{
        char words[128];

        memset(st, 0, sizeof(*st));
        st->img = rig_make(16 << 20, mkfs, NULL, "write /dev/null file\\n");
        st->dev = rig_open_image(&st->img);
        st->buf = aligned_alloc(4096, 1 << 20);
        snprintf(words, sizeof(words), RIG_OPTIONS "%s", options);
        assert_int_equal(rig_mount(&st->m, st->dev, words), 0);
        assert_int_equal(uext4_open_path(st->m.fs, "/file", O_RDWR, &st->file), 0);
        assert_int_equal(uext4_open_path(st->m.fs, "/file", O_RDWR | O_DIRECT, &st->direct), 0);
}

static void t_done(struct stage *st)
{
        uext4_close(st->file);
        uext4_close(st->direct);
        rig_end(&st->m, st->dev, &st->img);
        free(st->buf);
}

static void t_write(struct stage *st, struct uext4_file *file, char c, uint64_t pos, size_t len)
{
        memset(st->buf, c, len);
        assert_int_equal(uext4_pwrite(file, st->buf, len, pos), (ssize_t)len);
}

/* All bytes of a loan. */
static void t_assert_lent(const struct iovec *iov, size_t len, char want)
{
        for (; len > 0; iov++) {
                assert_true(iov->iov_len > 0 && iov->iov_len <= len);
                for (size_t i = 0; i < iov->iov_len; i++)
                        assert_int_equal(((char *)iov->iov_base)[i], want);
                len -= iov->iov_len;
        }
}

static void t_assert_file(struct stage *st, char want, uint64_t pos, size_t len)
{
        assert_int_equal(uext4_pread(st->file, st->buf, len, pos), (ssize_t)len);
        for (size_t i = 0; i < len; i++)
                assert_int_equal((char)st->buf[i], want);
}

/* ---- tests ---- */

static void a_loan_ends_where_the_file_or_the_vector_does(void **state)
{
        struct uext4_loan *loan = NULL;
        struct iovec iov[NR];
        struct uext4_file *writer;
        struct stage st;
        ssize_t n;

        t_open(&st, EXT4_4K, "");
        t_write(&st, st.file, 'a', 0, 100000);
        assert_int_equal(uext4_lend(st.file, 100000, 1, iov, NR, &loan), 0);
        assert_int_equal(uext4_lend(st.file, 1 << 30, 1, iov, NR, &loan), 0);
        assert_int_equal(uext4_lend(st.file, 0, 0, iov, NR, &loan), -EINVAL);
        assert_int_equal(uext4_lend(st.file, 0, 1, iov, 0, &loan), -EINVAL);
        assert_int_equal(uext4_lend(st.file, UINT64_MAX, 1, iov, NR, &loan), -EINVAL);
        assert_int_equal(uext4_open_path(st.m.fs, "/file", O_WRONLY, &writer), 0);
        assert_int_equal(uext4_lend(writer, 0, 1, iov, NR, &loan), -EBADF);
        uext4_close(writer);
        assert_null(loan);
        n = uext4_lend(st.file, 5000, 1 << 20, iov, NR, &loan);
        assert_int_equal(n, 95000);
        t_assert_lent(iov, (size_t)n, 'a');
        uext4_loan_end(loan);
        /* As many pieces as there is room for. */
        n = uext4_lend(st.file, 5000, 1 << 20, iov, 1, &loan);
        assert_in_range(n, 1, 95000);
        assert_int_equal(iov[0].iov_len, n);
        uext4_loan_end(loan);
        uext4_loan_end(NULL);
        t_done(&st);
}

/* What is dirty, what is on the device, and a hole. */
static void it_has_what_the_file_has(void **state)
{
        struct uext4_loan *loan;
        struct iovec iov[NR];
        struct stage st;

        t_open(&st, EXT4_4K, "");
        t_write(&st, st.file, 'd', 0, PART);
        t_write(&st, st.direct, 'e', 2 * PART, PART);
        assert_int_equal(uext4_lend(st.file, 0, PART, iov, NR, &loan), PART);
        t_assert_lent(iov, PART, 'd');
        uext4_loan_end(loan);
        assert_int_equal(uext4_lend(st.file, PART, PART, iov, NR, &loan), PART);
        t_assert_lent(iov, PART, 0);
        uext4_loan_end(loan);
        assert_int_equal(uext4_lend(st.file, 2 * PART, PART, iov, NR, &loan), PART);
        t_assert_lent(iov, PART, 'e');
        /* A buffered write is seen. */
        t_write(&st, st.file, 'f', 2 * PART, PART);
        t_assert_lent(iov, PART, 'f');
        uext4_loan_end(loan);
        t_done(&st);
}

static void direct_writes_and_truncation_leave_it(void **state)
{
        struct uext4_loan *loan, *after;
        struct uext4_inode *root;
        struct iovec iov[NR], now[NR];
        struct stage st;

        t_open(&st, EXT4_4K, "");
        t_write(&st, st.file, 'a', 0, 4 * PART);
        assert_int_equal(uext4_fsync(st.file), 0);
        assert_int_equal(uext4_lend(st.file, 0, 4 * PART, iov, NR, &loan), 4 * PART);
        t_write(&st, st.direct, 'b', 0, PART);
        t_assert_lent(iov, 4 * PART, 'a');
        t_assert_file(&st, 'b', 0, PART);
        assert_int_equal(uext4_lend(st.file, 0, PART, now, NR, &after), PART);
        t_assert_lent(now, PART, 'b');
        uext4_loan_end(after);
        assert_int_equal(uext4_truncate(st.file, PART + 100), 0);
        assert_int_equal(uext4_truncate(st.file, 4 * PART), 0);
        t_assert_lent(iov, 4 * PART, 'a');
        t_assert_file(&st, 0, PART + 100, 2 * PART);
        assert_int_equal(uext4_resolve(st.m.fs, "/", 0, &root), 0);
        assert_int_equal(uext4_unlink(root, "file", 4), 0);
        uext4_close(st.file);
        uext4_close(st.direct);
        st.file = st.direct = NULL;
        t_assert_lent(iov, 4 * PART, 'a');
        uext4_loan_end(loan);
        uext4_inode_put(root);
        t_done(&st);
}

static void it_counts_and_is_not_reclaimed(void **state)
{
        const uint64_t limit = 1 << 20;
        struct vfs_pagecache *cache;
        struct uext4_loan *loan;
        struct iovec iov[64];
        struct stage st;

        t_open(&st, EXT4_4K, ",page_cache=1M");
        cache = &rig_fs(&st.m)->vfs.pagecache;
        t_write(&st, st.file, 'a', 0, 768 << 10);
        assert_int_equal(uext4_lend(st.file, 0, 768 << 10, iov, 64, &loan), 768 << 10);
        for (unsigned i = 1; i < 8; i++) {
                t_write(&st, st.file, 'b', (uint64_t)i << 20, 1 << 20);
                assert_in_range(atomic_load(&cache->bytes), 768 << 10, 2 * limit);
        }
        t_assert_lent(iov, 768 << 10, 'a');
        uext4_loan_end(loan);
        t_write(&st, st.file, 'c', 8 << 20, PART);
        assert_true(atomic_load(&cache->bytes) <= limit);
        t_assert_file(&st, 'a', 0, 768 << 10);
        t_done(&st);
}

static void the_mount_is_busy(void **state)
{
        struct uext4_loan *loan;
        struct iovec iov[NR];
        struct stage st;

        t_open(&st, EXT4_4K, "");
        t_write(&st, st.file, 'a', 0, PART);
        assert_int_equal(uext4_lend(st.file, 0, PART, iov, NR, &loan), PART);
        uext4_close(st.file);
        uext4_close(st.direct);
        st.file = st.direct = NULL;
        assert_int_equal(uext4_unmount(st.m.fs), -EBUSY);
        t_assert_lent(iov, PART, 'a');
        uext4_loan_end(loan);
        t_done(&st);
}

/* Without pages there are none to lend; nor where a read fails. */
static void what_has_no_pages_is_not_lent(void **state)
{
        struct uext4_loan *loan = NULL;
        struct iovec iov[NR];
        struct stage st;

        t_open(&st, INLINE, "");
        t_write(&st, st.file, 'a', 0, 20);
        assert_int_equal(uext4_lend(st.file, 0, 20, iov, NR, &loan), -EOPNOTSUPP);
        t_write(&st, st.file, 'a', 0, PART); /* out of the inode */
        assert_int_equal(uext4_lend(st.file, 0, PART, iov, NR, &loan), PART);
        t_assert_lent(iov, PART, 'a');
        uext4_loan_end(loan);
        t_done(&st);
        t_open(&st, EXT4_4K, ",data=journal");
        t_write(&st, st.file, 'a', 0, PART);
        assert_int_equal(uext4_lend(st.file, 0, PART, iov, NR, &loan), -EOPNOTSUPP);
        t_done(&st);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_loan_ends_where_the_file_or_the_vector_does),
                cmocka_unit_test(it_has_what_the_file_has),
                cmocka_unit_test(direct_writes_and_truncation_leave_it),
                cmocka_unit_test(it_counts_and_is_not_reclaimed),
                cmocka_unit_test(the_mount_is_busy),
                cmocka_unit_test(what_has_no_pages_is_not_lent),
        };

        return cmocka_run_group_tests_name("loan", tests, NULL, NULL);
}
