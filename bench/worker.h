/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_BENCH_WORKER_H
#define UEXT4_BENCH_WORKER_H

/*
 * worker.h - bench-worker: one job of the benchmark, done on one back end.
 *
 * A job is a loop over the functions of a back end, and the same for all of them: what differs
 * is who does the work.  There are libuext4 (`lib`), system calls in a folder where something
 * is mounted (`sys`), and a bare device by the library's contract for devices (`raw`), which
 * knows no names: it is one file, whatever it is called.
 *
 * Functions return 0, a count, or a negative errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "uext4.h"

/* A directory or a file, of one back end. */
union handle {
        struct uext4_inode *inode;
        struct uext4_file *file;
        struct uext4_bdev *dev;
        int fd;
};

/* One request of a queue: what `iov` says, which is one piece. */
struct slot {
        struct iovec iov;
        uint64_t pos;
        bool write;
        bool durable; /* a write, by O_DSYNC */
};

struct io_queue; /* of a back end */

struct bench;

struct backend {
        const char *name;
        int (*start)(struct bench *b); /* sets the root */
        int (*stop)(struct bench *b);

        int (*mkdir)(union handle dir, const char *name, union handle *ret_dir);
        int (*opendir)(union handle dir, const char *name, union handle *ret_dir);
        void (*put)(union handle dir);
        int (*rmdir)(union handle dir, const char *name);
        int (*create)(union handle dir, const char *name, int flags, union handle *ret_file);
        int (*open)(union handle dir, const char *name, int flags, union handle *ret_file);
        int (*stat)(union handle dir, const char *name);
        void (*close)(union handle file);
        int (*unlink)(union handle dir, const char *name);

        ssize_t (*read)(union handle file, void *buf, size_t len, uint64_t pos);
        ssize_t (*write)(union handle file, const void *buf, size_t len, uint64_t pos,
                         bool durable);
        int (*fdatasync)(union handle file);
        int (*fallocate)(union handle file, uint64_t len);
        int (*syncfs)(const struct bench *b);

        int (*queue_new)(const struct bench *b, union handle file, unsigned depth,
                         struct io_queue **ret_queue);
        void (*queue_free)(struct io_queue *q);
        int (*queue_submit)(struct io_queue *q, struct slot **slots, unsigned nr);
        /* Puts at least one finished slot into done[], which has room for all. */
        int (*queue_wait)(struct io_queue *q, struct slot **done);
};

extern const struct backend backend_lib, backend_sys, backend_raw;

/* What a job is told by NAME=VALUE; what it does not use is 0. */
struct params {
        const char *mount; /* options of the library's mount */
        const char *rw;    /* of `io`: randread, read, randwrite, write, append, prealloc */
        const char *sync;  /* of `io`: dsync, or without a queue fdatasync; or none */
        uint64_t bs;       /* bytes of a request */
        uint64_t size;     /* bytes of the file */
        uint64_t piece;    /* bytes; every other piece of this length is left out */
        uint64_t depth;    /* of the queue; 0: one synchronous request after the other */
        uint64_t threads;
        uint64_t files;
        uint64_t direct; /* 1: O_DIRECT */
        uint64_t warm;   /* 1: the file is read before */
        uint64_t once;   /* 1: no page a second time */
        double seconds;  /* of what has no end of its own */
};

struct bench {
        const struct backend *on;
        const char *path; /* the image, folder or file */
        union handle root;
        struct uext4_fs *fs; /* `lib` only */
        struct params p;
        void *buf; /* CHUNK bytes */
};

#define CHUNK (128u << 10) /* of sequential buffered requests, as cp(1) has it */
#define PAGE  4096u        /* of random ones */

struct job {
        const char *name;
        void (*run)(struct bench *b);
};

extern const struct job io_jobs[], file_jobs[], name_jobs[], scale_jobs[];

/* ---- for jobs ---- */

double now(void);

/* A line of the output: its name, how much was done, seconds. */
void report(const char *what, uint64_t amount, double seconds);

void fail(const char *what, int err) __attribute__((noreturn));

/* `ret` of a call that may have failed. */
void check(const char *what, ssize_t ret);

/* The same of one that must have moved `len` bytes. */
void check_whole(const char *what, ssize_t ret, size_t len);

void *get_memory(size_t nr, size_t size);

/* 0 .. nr - 1 in a random order, the same in each run. */
uint32_t *shuffled(uint32_t nr);

/* Reads all of the file by CHUNK. */
void read_all(const struct bench *b, union handle file);

/*
 * Run `body` in p.threads threads, each with its number, between two barriers; returns the
 * seconds from the first to the second.
 */
double in_threads(const struct bench *b, void (*body)(void *arg, unsigned nr), void *arg);

#endif
