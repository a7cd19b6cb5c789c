/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TEST_HOST_H
#define TEST_HOST_H

/*
 * What tests need of the host: files that other programs read, images of theirs among them,
 * what e2fsck says of these, and mounts of them by the kernel.  None of it is in a directory
 * for longer than a moment: a test that fails, or is killed, leaves nothing behind.
 *
 * An image in memory becomes a file in memory, the same one for each image in turn, into which
 * only those pages are copied that differ from what is there.  Images of one test are mostly
 * the same, and a file that is made and removed each time costs more than e2fsck does.
 */

#include <stdbool.h>
#include <stddef.h>

/* Where temporary files are made: TMPDIR, or memory where there is some. */
const char *host_tmp_dir(void);

/* A file in memory, in no directory: it goes with the process, whatever ends that. */
struct host_file {
        int fd;
        char path[64]; /* at which other programs find it, while it is open */
};

/* Of `size` zeros, or with these bytes. */
struct host_file host_file_new(const void *data, size_t size);
void host_file_close(struct host_file *f);

/* The first `size` bytes, into memory that is zero: holes are left alone. */
void host_file_read(const struct host_file *f, void *data, size_t size);

/* A new file system on a file, as mke2fs makes it with these options; in memory that is zero.
 */
void host_make_fs(const char *path, const char *options);
void host_make_image(void *image, size_t size, const char *options);

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

/*
 * A new directory, in which others may mount.  This returns in a child; the process itself
 * waits for that one and, whatever ends it, unmounts what is mounted there, takes the
 * directory away and ends with the status of the child.
 */
void host_new_directory(char *path, size_t size);

/* Whether a server of ours can be mounted there. */
bool host_has_fuse(void);

/*
 * An image that the kernel has mounted.  The mount is in no directory, but is reached by a
 * descriptor: it goes with the process, too.
 */
struct host_mount {
        int fd, image;
        char path[64]; /* of its root, for this process */
};

/* False where it cannot be had: not root, or no loop devices. */
bool host_mount(struct host_mount *m, const void *image, size_t size, const char *options);

/* The image is as the kernel leaves it. */
void host_umount(struct host_mount *m, void *image, size_t size);

#endif
