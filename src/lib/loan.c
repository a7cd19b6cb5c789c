/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Bytes of files on loan: references to folios of the page cache. */

#include "ext4/ext4.h"
#include "lib/lib.h"
#include "util/alloc.h"

struct uext4_loan {
        struct ext4_inode *inode; /* a reference */
        int nr;
        struct folio *folios[];
};

void uext4_loan_end(struct uext4_loan *loan)
{
        if (!loan)
                return;
        for (int i = 0; i < loan->nr; i++)
                folio_put(loan->folios[i]);
        ext4_iput(loan->inode);
        mem_free(loan);
}

/* The next piece: how many bytes; 0 at the end of the file. */
static int64_t borrow(struct uext4_file *file, struct uext4_loan *loan, uint64_t pos,
                      uint64_t len, struct iovec *iov)
{
        struct vfs_kiocb iocb = {
                .inode = &loan->inode->vfs, .pos = pos, .readahead = &file->readahead};
        struct folio *f;
        int64_t n = ext4_file_lend(&iocb, len, &f);

        if (n <= 0)
                return n;
        loan->folios[loan->nr++] = f;
        *iov = (struct iovec){folio_at(f, pos), (size_t)n};
        return n;
}

ssize_t uext4_lend(struct uext4_file *file, uint64_t pos, size_t len, struct iovec *iov,
                   int max_iov, struct uext4_loan **ret_loan)
{
        struct uext4_loan *loan;
        size_t done = 0;
        int64_t n = lib_check_up(file->inode);

        if (n < 0)
                return n;
        if (!file->reads)
                return -EBADF;
        if (pos > INT64_MAX || len == 0 || max_iov <= 0)
                return -EINVAL;
        len = min_t(uint64_t, len, INT64_MAX - pos);
        loan = mem_zalloc(sizeof(*loan) + (size_t)max_iov * sizeof(loan->folios[0]));
        if (!loan)
                return -ENOMEM;
        ext4_iget_again(file->inode);
        loan->inode = file->inode;
        while (done < len && loan->nr < max_iov) {
                n = borrow(file, loan, pos + done, len - done, &iov[loan->nr]);
                if (n <= 0)
                        break;
                done += (size_t)n;
        }
        if (done == 0) {
                uext4_loan_end(loan);
                return n;
        }
        *ret_loan = loan;
        return (ssize_t)done;
}
