/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* content.c - the bytes of files of the host and of images (see content.h). */
#include "cli/content.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- the host ----------------------------------------------------------- */

/* A host that knows no holes has data everywhere. */
static int host_next_data(struct content *c, uint64_t pos, uint64_t end, uint64_t *ret_pos,
                          uint64_t *ret_end)
{
        off_t data = lseek(c->fd, (off_t)pos, SEEK_DATA), hole;

        *ret_pos = pos;
        *ret_end = end;
        if ((data < 0 && errno == ENXIO) || (data >= 0 && (uint64_t)data >= end))
                return 0;
        if (data < 0)
                return 1;
        if ((uint64_t)data > pos)
                *ret_pos = (uint64_t)data;
        hole = lseek(c->fd, data, SEEK_HOLE);
        if (hole > data && (uint64_t)hole < end)
                *ret_end = (uint64_t)hole;
        return 1;
}

/* What a file that has become shorter does not have are zeros. */
static int host_read(struct content *c, void *buf, size_t len, uint64_t pos)
{
        size_t done = 0;

        while (done < len) {
                ssize_t n =
                        pread(c->fd, (uint8_t *)buf + done, len - done, (off_t)(pos + done));

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        break;
                if (n > 0)
                        done += (size_t)n;
        }
        memset((uint8_t *)buf + done, 0, len - done);
        return 0;
}

static void host_close(struct content *c)
{
        close(c->fd);
}

struct content content_of_host(int fd)
{
        static const struct content_ops ops = {host_next_data, host_read, host_close};

        return (struct content){.ops = &ops, .fd = fd};
}

/* ---- an image ----------------------------------------------------------- */

static int image_next_data(struct content *c, uint64_t pos, uint64_t end, uint64_t *ret_pos,
                           uint64_t *ret_end)
{
        int64_t data = uext4_seek(c->file, pos, SEEK_DATA), hole;

        if (data == -ENXIO || (data >= 0 && (uint64_t)data >= end))
                return 0;
        if (data < 0)
                return (int)data;
        hole = uext4_seek(c->file, (uint64_t)data, SEEK_HOLE);
        if (hole < 0)
                return (int)hole;
        if (hole <= data)
                return -EUCLEAN; /* a hole that does not end behind its data */
        *ret_pos = (uint64_t)data > pos ? (uint64_t)data : pos;
        *ret_end = (uint64_t)hole < end ? (uint64_t)hole : end;
        return 1;
}

static int image_read(struct content *c, void *buf, size_t len, uint64_t pos)
{
        size_t done = 0;

        while (done < len) {
                ssize_t n = uext4_pread(c->file, (uint8_t *)buf + done, len - done, pos + done);

                if (n < 0)
                        return (int)n;
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        memset((uint8_t *)buf + done, 0, len - done);
        return 0;
}

static void image_close(struct content *c)
{
        uext4_close(c->file);
}

struct content content_of_image(struct uext4_file *file)
{
        static const struct content_ops ops = {image_next_data, image_read, image_close};

        return (struct content){.ops = &ops, .file = file};
}

void content_close(struct content *c)
{
        if (c->ops)
                c->ops->close(c);
        c->ops = NULL;
}
