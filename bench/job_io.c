/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * job_io.c - `io`: requests of one size to one file, in a queue or one after the other, by one
 * or more threads (worker.h).
 *
 * `rw` says where and what: the random ones go through all blocks of the file in a random
 * order, each thread from another place on; read and write from the first on.  These begin
 * again at the end, and last for `seconds`; a quarter of that goes before and does not count,
 * so that what is measured is not the first use of anything.  With `once` no block is used a
 * second time; append and prealloc are one pass over a new file.  Such a job ends earlier if it
 * is through.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

#define OPS_PER_LOOK 16u /* at the clock, of synchronous requests */

struct work {
        const struct bench *b;
        union handle file;
        uint32_t nr_blocks;
        uint32_t *order; /* NULL: one after the other */
        bool write, fresh, one_pass;
        bool durable;   /* each write by O_DSYNC */
        bool fdatasync; /* after each */
        double seconds; /* of this round */
        _Atomic uint64_t nr_done;
};

/* What one thread does next. */
struct place {
        uint32_t next, left;
};

static bool is_word(const char *word, const char *wanted)
{
        return strcmp(word, wanted) == 0;
}

static struct place first_place(const struct work *w, unsigned thread)
{
        const uint64_t nr = w->nr_blocks;

        return (struct place){.next = (uint32_t)(nr * thread / w->b->p.threads),
                              .left = w->nr_blocks};
}

/* Where the next request is; false when the pass is over. */
static bool next_pos(const struct work *w, struct place *at, uint64_t *ret_pos)
{
        const struct params *p = &w->b->p;
        uint64_t pos;

        if (w->one_pass) {
                if (at->left == 0)
                        return false;
                at->left--;
        }
        pos = p->bs * (w->order ? w->order[at->next] : at->next);
        if (p->piece)
                pos += pos / p->piece * p->piece;
        if (++at->next == w->nr_blocks)
                at->next = 0;
        *ret_pos = pos;
        return true;
}

/* ---- one after the other ------------------------------------------------- */

static void one_request(const struct work *w, void *buf, uint64_t pos)
{
        const struct backend *on = w->b->on;
        const size_t len = w->b->p.bs;

        if (!w->write) {
                check_whole("read", on->read(w->file, buf, len, pos), len);
                return;
        }
        check_whole("write", on->write(w->file, buf, len, pos, w->durable), len);
        if (w->fdatasync)
                check("fdatasync", on->fdatasync(w->file));
}

static uint64_t run_synchronous(const struct work *w, unsigned thread, void *buf)
{
        struct place at = first_place(w, thread);
        const double end = now() + w->seconds;
        uint64_t nr = 0, pos;

        while ((nr == 0 || nr % OPS_PER_LOOK || now() < end) && next_pos(w, &at, &pos)) {
                one_request(w, buf, pos);
                nr++;
        }
        return nr;
}

/* ---- in a queue ---------------------------------------------------------- */

struct batch {
        struct io_queue *queue;
        struct slot *slots;
        struct slot **idle; /* and what has just finished */
        unsigned nr_idle, nr_under_way;
};

static void batch_init(struct batch *t, const struct work *w, void *buf)
{
        const unsigned depth = (unsigned)w->b->p.depth;

        memset(t, 0, sizeof(*t));
        t->slots = get_memory(depth, sizeof(*t->slots));
        t->idle = get_memory(depth, sizeof(*t->idle));
        for (unsigned i = 0; i < depth; i++) {
                t->slots[i].iov.iov_base = (uint8_t *)buf + i * w->b->p.bs;
                t->slots[i].iov.iov_len = w->b->p.bs;
                t->slots[i].write = w->write;
                t->slots[i].durable = w->durable;
                t->idle[t->nr_idle++] = &t->slots[i];
        }
        check("queue", w->b->on->queue_new(w->b, w->file, depth, &t->queue));
}

static void batch_done(struct batch *t, const struct work *w)
{
        w->b->on->queue_free(t->queue);
        free(t->slots);
        free(t->idle);
}

/* Starts what there is room for. */
static void batch_submit(struct batch *t, const struct work *w, struct place *at)
{
        unsigned nr = 0;
        ssize_t ret;

        while (nr < t->nr_idle && next_pos(w, at, &t->idle[nr]->pos))
                nr++;
        if (nr == 0)
                return;
        ret = w->b->on->queue_submit(t->queue, t->idle, nr);
        check("submit", ret);
        t->nr_idle -= nr;
        memmove(t->idle, t->idle + nr, t->nr_idle * sizeof(*t->idle));
        t->nr_under_way += nr;
}

static uint64_t run_queue(const struct work *w, unsigned thread, void *buf)
{
        struct place at = first_place(w, thread);
        uint64_t nr_done = 0;
        struct batch t;
        double end;

        batch_init(&t, w, buf);
        end = now() + w->seconds;
        batch_submit(&t, w, &at);
        while (t.nr_under_way > 0) {
                int nr = w->b->on->queue_wait(t.queue, t.idle + t.nr_idle);
                check("wait", nr);
                t.nr_idle += (unsigned)nr;
                t.nr_under_way -= (unsigned)nr;
                nr_done += (unsigned)nr;
                if (now() < end)
                        batch_submit(&t, w, &at);
        }
        batch_done(&t, w);
        return nr_done;
}

/* ---- the job ------------------------------------------------------------- */

static void thread_body(void *arg, unsigned thread)
{
        struct work *w = arg;
        const struct params *p = &w->b->p;
        const size_t size = p->bs * (p->depth ? p->depth : 1);
        void *buf = aligned_alloc(PAGE, size);

        if (!buf)
                fail("memory", -ENOMEM);
        memset(buf, 0x5a, size);
        w->nr_done += p->depth ? run_queue(w, thread, buf) : run_synchronous(w, thread, buf);
        free(buf);
}

static void round_of(struct work *w, double seconds, const char *what)
{
        double took;

        w->seconds = seconds;
        w->nr_done = 0;
        took = in_threads(w->b, thread_body, w);
        if (what)
                report(what, w->nr_done, took);
}

static void open_file(struct work *w)
{
        const struct bench *b = w->b;
        const int flags = b->p.direct ? O_DIRECT : 0;

        if (!w->fresh) {
                check("cannot open data", b->on->open(b->root, "data", flags, &w->file));
                return;
        }
        check("create", b->on->create(b->root, "new", flags, &w->file));
        if (is_word(b->p.rw, "prealloc"))
                check("fallocate", b->on->fallocate(w->file, b->p.size));
        check("syncfs", b->on->syncfs(b));
}

static void init_work(struct work *w, const struct bench *b)
{
        const char *rw = b->p.rw;

        *w = (struct work){
                .b = b,
                .fresh = is_word(rw, "append") || is_word(rw, "prealloc"),
                .durable = is_word(b->p.sync, "dsync"),
                .fdatasync = is_word(b->p.sync, "fdatasync"),
        };
        w->write = w->fresh || is_word(rw, "write") || is_word(rw, "randwrite");
        w->one_pass = w->fresh || b->p.once;
        if (b->p.bs < 512 || b->p.size / b->p.bs < b->p.threads)
                fail("bs, size", -EINVAL);
        if (!w->write && !is_word(rw, "read") && !is_word(rw, "randread"))
                fail("rw", -EINVAL);
        w->nr_blocks = (uint32_t)(b->p.size / b->p.bs);
        if (is_word(rw, "randread") || is_word(rw, "randwrite"))
                w->order = shuffled(w->nr_blocks);
}

static void job_io(struct bench *b)
{
        struct work w;

        init_work(&w, b);
        open_file(&w);
        if (b->p.warm)
                read_all(b, w.file);
        if (!w.one_pass)
                round_of(&w, b->p.seconds / 4, NULL);
        round_of(&w, b->p.seconds, "io");
        b->on->close(w.file);
        if (w.fresh)
                check("unlink", b->on->unlink(b->root, "new"));
        free(w.order);
}

const struct job io_jobs[] = {{"io", job_io}, {NULL, NULL}};
