/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job_name.c - names: made, looked at, removed, each thread in a directory of its own; and
 * small files (worker.h). */
#include <stdio.h>

#include "worker.h"

#define SMALL_FILE  2048u
#define MAX_THREADS 16u

struct names {
        const struct bench *b;
        union handle dirs[MAX_THREADS];
};

static const char *name_of(char *buf, size_t size, const char *what, uint64_t nr)
{
        snprintf(buf, size, "%s-%llu", what, (unsigned long long)nr);
        return buf;
}

static void create_all(void *arg, unsigned thread)
{
        const struct names *n = arg;
        const struct backend *on = n->b->on;
        union handle file;
        char name[32];

        for (uint64_t i = 0; i < n->b->p.files; i++) {
                name_of(name, sizeof(name), "file", i);
                check("create", on->create(n->dirs[thread], name, 0, &file));
                on->close(file);
        }
}

static void stat_all(void *arg, unsigned thread)
{
        const struct names *n = arg;
        char name[32];

        for (uint64_t i = 0; i < n->b->p.files; i++)
                check("stat",
                      n->b->on->stat(n->dirs[thread], name_of(name, sizeof(name), "file", i)));
}

static void unlink_all(void *arg, unsigned thread)
{
        const struct names *n = arg;
        char name[32];

        for (uint64_t i = 0; i < n->b->p.files; i++)
                check("unlink", n->b->on->unlink(n->dirs[thread],
                                                 name_of(name, sizeof(name), "file", i)));
}

static void job_names(struct bench *b)
{
        const unsigned nr_dirs = (unsigned)b->p.threads;
        const uint64_t all = b->p.files * nr_dirs;
        struct names n = {.b = b};
        char name[32];

        for (unsigned i = 0; i < nr_dirs && i < MAX_THREADS; i++)
                check("mkdir",
                      b->on->mkdir(b->root, name_of(name, sizeof(name), "dir", i), &n.dirs[i]));
        report("create", all, in_threads(b, create_all, &n));
        report("stat", all, in_threads(b, stat_all, &n));
        report("unlink", all, in_threads(b, unlink_all, &n));
        for (unsigned i = 0; i < nr_dirs; i++) {
                b->on->put(n.dirs[i]);
                check("rmdir", b->on->rmdir(b->root, name_of(name, sizeof(name), "dir", i)));
        }
}

static void job_small(struct bench *b)
{
        const double start = now();
        struct names n = {.b = b};
        union handle file;
        char name[32];

        check("mkdir", b->on->mkdir(b->root, "small", &n.dirs[0]));
        for (uint64_t i = 0; i < b->p.files; i++) {
                name_of(name, sizeof(name), "file", i);
                check("create", b->on->create(n.dirs[0], name, 0, &file));
                check_whole("write", b->on->write(file, b->buf, SMALL_FILE, 0, false),
                            SMALL_FILE);
                b->on->close(file);
        }
        check("syncfs", b->on->syncfs(b));
        report("small", b->p.files, now() - start);
        unlink_all(&n, 0);
        b->on->put(n.dirs[0]);
        check("rmdir", b->on->rmdir(b->root, "small"));
}

const struct job name_jobs[] = {
        {"names", job_names},
        {"small", job_small},
        {NULL, NULL},
};
