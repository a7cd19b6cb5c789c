/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TEST_HOST_H
#define TEST_HOST_H

/*
 * What tests need of the host: images of theirs as files that other programs read, and what
 * e2fsck says of them.
 *
 * An image in memory becomes a file in memory, the same one for each image in turn, into which
 * only those pages are copied that differ from what is there.  Images of one test are mostly
 * the same, and a file that is made and removed each time costs more than e2fsck does.
 */

#include <stddef.h>

/* Where temporary files are made: TMPDIR, or memory where there is some. */
const char *host_tmp_dir(void);

/* The whole file, into memory that is zero: holes are left alone. */
void host_read(int fd, void *data, size_t size);

/*
 * A path at which other programs find the bytes of the image; they may not write there.  It is
 * good until the next call, of any thread.
 */
const char *host_path(const void *image, size_t size);

/*
 * What `e2fsck -fn` says of the image, with one more argument unless that is NULL: a text, to
 * be freed.  The exit status is 0 when it is content.
 */
char *host_fsck(const void *image, size_t size, const char *argument, int *ret_status);

/* The same of `e2fsck -fy`: the image is as it leaves it. */
char *host_repair(void *image, size_t size, int *ret_status);

#endif
