/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * act_sync.c - syncfs, statfs, and reading what others change.
 */
#include <fcntl.h>

#include "actor.h"

#define FILE_BYTES ((size_t)SHARED_SECTORS * TRACK_SECTOR)

struct sync {
        struct uext4_file *direct, *buffered;
        uint8_t *buf;
};

static void init(struct actor *a)
{
        struct sync *s = t_alloc(sizeof(*s));

        T_CHECK(posix_memalign((void **)&s->buf, 4096, FILE_BYTES) == 0);
        a->state = s;
}

static int open_files(struct actor *a)
{
        struct sync *s = a->state;
        int ret = uext4_open_path(a->w->fs, "/shared", O_RDONLY | O_DIRECT, &s->direct);

        if (ret == 0)
                ret = uext4_open_path(a->w->fs, "/shared", O_RDONLY, &s->buffered);
        return ret;
}

static void close_files(struct actor *a)
{
        struct sync *s = a->state;

        uext4_close(s->direct);
        uext4_close(s->buffered);
}

static int list(struct actor *a)
{
        struct uext4_inode *dir;
        struct uext4_dirent entry;
        uint64_t cookie = 0;
        int ret = uext4_resolve(a->w->fs, actor_below(a, 2) ? "/s0" : "/s1", 0, &dir);

        a->what = "list";
        if (ret < 0)
                return ret;
        while ((ret = uext4_readdir(dir, &cookie, &entry)) > 0) {
        }
        uext4_inode_put(dir);
        return ret;
}

static int step(struct actor *a)
{
        struct sync *s = a->state;
        struct statvfs st;
        ssize_t n;

        switch (actor_below(a, 5)) {
        case 0:
                a->what = "syncfs";
                return uext4_syncfs(a->w->fs);
        case 1:
                a->what = "statfs";
                return uext4_statfs(a->w->fs, &st);
        case 2:
                return list(a);
        default:
                a->what = "read";
                n = uext4_pread(actor_below(a, 2) ? s->direct : s->buffered, s->buf, FILE_BYTES,
                                0);
                return n < 0 ? (int)n : n == (ssize_t)FILE_BYTES ? 0 : -EIO;
        }
}

static void settled(struct actor *a)
{
}

static const char *check(struct actor *a, struct uext4_fs *fs)
{
        return NULL;
}

static void done(struct actor *a)
{
        struct sync *s = a->state;

        free(s->buf);
        free(s);
}

const struct actor_ops actor_sync = {"sync",      init,    open_files, step,
                                     close_files, settled, check,      done};
