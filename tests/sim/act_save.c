/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * act_save.c - a file that is replaced, as editors do it: what is new is written beside it,
 * synced, and renamed over it.  At any time one version of it is there, whole; when the
 * directory was synced none older than that.
 */
#include <fcntl.h>

#include "actor.h"

#define MAX_BYTES 20000u

struct save {
        char name[16], temp[16];
        uint32_t last, durable; /* versions; 0: no file */
        uint8_t *buf, *found;
};

static void init(struct actor *a)
{
        struct save *s = t_alloc(sizeof(*s));

        snprintf(s->name, sizeof(s->name), "save%u", a->n);
        snprintf(s->temp, sizeof(s->temp), "temp%u", a->n);
        s->buf = t_alloc(MAX_BYTES);
        s->found = t_alloc(MAX_BYTES);
        a->state = s;
}

/* A version is this long. */
static size_t fill(const struct actor *a, uint32_t version, uint8_t *buf)
{
        uint64_t rand = (uint64_t)version << 16 | a->n;
        size_t len = 1 + t_below(&rand, t_below(&rand, 2) ? MAX_BYTES : 700);

        for (size_t i = 0; i < len; i++)
                buf[i] = (uint8_t)(1 + t_below(&rand, 255));
        return len;
}

static int open_nothing(struct actor *a)
{
        return 0;
}

static int write_parts(struct actor *a, struct uext4_file *file, size_t len)
{
        const struct save *s = a->state;

        for (size_t pos = 0; pos < len;) {
                size_t part = 1 + actor_below(a, len - pos);
                ssize_t n = uext4_pwrite(file, s->buf + pos, part, pos);

                if (n < 0 || (size_t)n != part)
                        return n < 0 ? (int)n : -EIO;
                pos += part;
        }
        return 0;
}

static int write_beside(struct actor *a, struct uext4_inode *dir)
{
        struct save *s = a->state;
        struct uext4_inode *inode;
        struct uext4_file *file;
        int ret = uext4_create(dir, s->temp, strlen(s->temp), 0600, &inode);

        if (ret < 0)
                return ret;
        ret = uext4_open(inode, O_RDWR, &file);
        uext4_inode_put(inode);
        if (ret < 0)
                return ret;
        ret = write_parts(a, file, fill(a, s->last, s->buf));
        a->what = "fsync";
        if (ret == 0)
                ret = actor_below(a, 2) ? uext4_fsync(file) : uext4_fdatasync(file);
        uext4_close(file);
        return ret;
}

static int save(struct actor *a, struct uext4_inode *dir)
{
        struct save *s = a->state;
        const uint32_t version = s->last + 1;
        int ret;

        a->what = "write";
        s->last = version;
        ret = write_beside(a, dir);
        if (ret < 0)
                return ret;
        a->what = "rename";
        ret = uext4_rename(dir, s->temp, strlen(s->temp), dir, s->name, strlen(s->name), 0);
        if (ret < 0 || actor_below(a, 2))
                return ret;
        a->what = "fsync of the directory";
        ret = uext4_fsync_inode(dir);
        if (ret == 0)
                s->durable = version;
        return ret;
}

static int step(struct actor *a)
{
        struct uext4_inode *dir;
        int ret = uext4_inode_get(a->w->fs, UEXT4_ROOT_INO, 0, &dir);

        if (ret < 0)
                return ret;
        ret = save(a, dir);
        uext4_inode_put(dir);
        return ret;
}

static void close_nothing(struct actor *a)
{
}

static void settled(struct actor *a)
{
        struct save *s = a->state;

        s->durable = s->last;
}

static const char *check(struct actor *a, struct uext4_fs *fs)
{
        struct save *s = a->state;
        struct uext4_file *file;
        char path[24];
        ssize_t n;

        snprintf(path, sizeof(path), "/%s", s->name);
        if (uext4_open_path(fs, path, O_RDONLY, &file) < 0)
                return s->durable ? "the file that was saved is not there" : NULL;
        n = uext4_pread(file, s->found, MAX_BYTES, 0);
        uext4_close(file);
        for (uint32_t v = s->durable ? s->durable : 1; n > 0 && v <= s->last; v++) {
                if (fill(a, v, s->buf) == (size_t)n && memcmp(s->buf, s->found, (size_t)n) == 0)
                        return NULL;
        }
        return "the file that was saved is no version of it that may be";
}

static void done(struct actor *a)
{
        struct save *s = a->state;

        free(s->buf);
        free(s->found);
        free(s);
}

const struct actor_ops actor_save = {"save",        init,    open_nothing, step,
                                     close_nothing, settled, check,        done};
