/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * worker.c - bench-worker: does one job of the benchmark and says how long it took (worker.h).
 *
 * A process does one job, with an empty cache at its start; who starts it has mounted anew.
 * What a job makes it removes again, and that is not measured.  A line of the output is a
 * measurement: its name, how much was done (bytes, requests or files), seconds.
 */
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void fail(const char *what, int err)
{
        fprintf(stderr, "bench-worker: %s: %s\n", what, strerror(-err));
        exit(1);
}

void check(const char *what, ssize_t ret)
{
        if (ret < 0)
                fail(what, (int)ret);
}

void check_whole(const char *what, ssize_t ret, size_t len)
{
        check(what, ret);
        if ((size_t)ret != len)
                fail(what, -EIO);
}

double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void report(const char *what, uint64_t amount, double seconds)
{
        printf("%s %llu %.9f\n", what, (unsigned long long)amount, seconds);
}

void *get_memory(size_t nr, size_t size)
{
        void *p = calloc(nr, size);

        if (!p)
                fail("memory", -ENOMEM);
        return p;
}

uint32_t *shuffled(uint32_t nr)
{
        uint32_t *order = get_memory(nr, sizeof(*order));

        srandom(1);
        for (uint32_t i = 0; i < nr; i++) {
                uint32_t other = (uint32_t)random() % (i + 1);

                order[i] = order[other];
                order[other] = i;
        }
        return order;
}

void read_all(const struct bench *b, union handle file)
{
        for (uint64_t pos = 0; pos < b->p.size; pos += CHUNK) {
                size_t len = b->p.size - pos < CHUNK ? (size_t)(b->p.size - pos) : CHUNK;

                check_whole("read", b->on->read(file, b->buf, len, pos), len);
        }
}

/* ---- threads ------------------------------------------------------------ */

struct thread {
        pthread_t id;
        unsigned nr;
        pthread_barrier_t *barrier;
        void (*body)(void *arg, unsigned nr);
        void *arg;
};

static void *thread_main(void *arg)
{
        struct thread *t = arg;

        pthread_barrier_wait(t->barrier);
        t->body(t->arg, t->nr);
        pthread_barrier_wait(t->barrier);
        return NULL;
}

double in_threads(const struct bench *b, void (*body)(void *arg, unsigned nr), void *arg)
{
        const unsigned nr = (unsigned)b->p.threads;
        struct thread *threads = get_memory(nr, sizeof(*threads));
        pthread_barrier_t barrier;
        double start;

        pthread_barrier_init(&barrier, NULL, nr + 1);
        for (unsigned i = 0; i < nr; i++) {
                threads[i] =
                        (struct thread){.nr = i, .barrier = &barrier, .body = body, .arg = arg};
                check("thread",
                      -pthread_create(&threads[i].id, NULL, thread_main, &threads[i]));
        }
        start = now();
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        start = now() - start;
        for (unsigned i = 0; i < nr; i++)
                pthread_join(threads[i].id, NULL);
        pthread_barrier_destroy(&barrier);
        free(threads);
        return start;
}

/* ---- main --------------------------------------------------------------- */

static const struct job *find_job(const char *name)
{
        static const struct job *const lists[] = {io_jobs, file_jobs, name_jobs, scale_jobs};

        for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
                for (const struct job *job = lists[i]; job->name; job++)
                        if (strcmp(job->name, name) == 0)
                                return job;
        return NULL;
}

static const struct backend *find_backend(const char *name, size_t len)
{
        static const struct backend *const all[] = {&backend_lib, &backend_sys, &backend_raw};

        for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
                if (strlen(all[i]->name) == len && strncmp(all[i]->name, name, len) == 0)
                        return all[i];
        return NULL;
}

static bool set_number(struct params *p, const char *name, size_t len, const char *value)
{
        const struct {
                const char *name;
                uint64_t *to;
        } numbers[] = {
                {"bs", &p->bs},         {"size", &p->size},       {"piece", &p->piece},
                {"depth", &p->depth},   {"threads", &p->threads}, {"files", &p->files},
                {"direct", &p->direct}, {"warm", &p->warm},       {"once", &p->once},
        };
        char *end;

        for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
                if (strlen(numbers[i].name) != len || strncmp(numbers[i].name, name, len) != 0)
                        continue;
                *numbers[i].to = strtoull(value, &end, 10);
                return *value && !*end;
        }
        return false;
}

/* False for what is no NAME=VALUE that somebody reads. */
static bool set_param(struct params *p, const char *arg)
{
        const char *value = strchr(arg, '=');
        size_t len;

        if (!value)
                return false;
        len = (size_t)(value++ - arg);
        if (strncmp(arg, "mount=", len + 1) == 0)
                p->mount = value;
        else if (strncmp(arg, "rw=", len + 1) == 0)
                p->rw = value;
        else if (strncmp(arg, "sync=", len + 1) == 0)
                p->sync = value;
        else if (strncmp(arg, "seconds=", len + 1) == 0)
                p->seconds = strtod(value, NULL);
        else
                return set_number(p, arg, len, value);
        return true;
}

static bool parse(struct bench *b, int argc, char **argv, const struct job **ret_job)
{
        if (argc < 3 || !strchr(argv[1], ':'))
                return false;
        b->path = strchr(argv[1], ':') + 1;
        b->on = find_backend(argv[1], (size_t)(b->path - 1 - argv[1]));
        *ret_job = find_job(argv[2]);
        for (int i = 3; i < argc; i++)
                if (!set_param(&b->p, argv[i]))
                        return false;
        return b->on && *ret_job && b->p.threads > 0;
}

int main(int argc, char **argv)
{
        struct bench b = {.p = {.mount = "rw", .rw = "", .sync = "none", .threads = 1}};
        const struct job *job;

        if (!parse(&b, argc, argv, &job)) {
                fputs("usage: bench-worker lib:IMAGE|sys:FOLDER|raw:FILE JOB [NAME=VALUE]...\n",
                      stderr);
                return 2;
        }
        b.buf = aligned_alloc(PAGE, CHUNK);
        if (!b.buf)
                fail("memory", -ENOMEM);
        memset(b.buf, 0x5a, CHUNK);
        check(b.path, b.on->start(&b));
        job->run(&b);
        check("unmount", b.on->stop(&b));
        free(b.buf);
        return 0;
}
