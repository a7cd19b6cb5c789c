/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * reader.c - files read by many direct requests at once, handed over in order (see reader.h).
 *
 * A ring of slots, one chunk each, in the order in which the chunks come out.  Slots are
 * planned at the tail from the jobs (files) in turn, all of them are submitted in one call,
 * completions are noted in their slots in whatever order they come, and the slot at the head is
 * handed over when it is done.
 *
 *      planned ─► under way ─► done ─► handed over ─► free
 *                 (no I/O: done at once)
 *
 * A request that fails is read again when its turn comes, in small pieces, so that only what
 * cannot be read is lost: its slot is then handed over in several chunks, from front to back.
 *
 * Invariants:
 *  R1  slots [head, head + nr) are in use, in order; all but the planned ones of this moment
 *      are submitted; a slot's buffer belongs to the library while it is under way;
 *
 *  R2  a job is planned from front to back; the slot planned last for it, and no other, is
 *      `last`;
 *
 *  R3  a job lives until its last slot is freed, so each slot's job is valid.
 *
 * Files whose direct reads are served buffered (alignment 0) go the same way: the library falls
 * back by itself, and any alignment suits them.
 */
#include "cli/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "cli/cli.h"

#define BUFFER_ALIGN 65536u /* no device has a bigger logical block */
#define PIECE        4096u  /* to read again, unless the alignment is larger */
#define MAX_BAD      1024u  /* pieces of a file that are asked for one by one */

struct job {
        TAILQ_ENTRY(job) link; /* in reader->jobs until it is planned */
        struct uext4_file *file;
        enum reader_mode mode;
        void *user;
        uint64_t align;    /* of positions and lengths */
        uint64_t size;     /* bytes of the file */
        uint64_t next_pos; /* first byte that no slot has */
        uint64_t data_end; /* READER_DATA: where the data at next_pos ends */
        int error;         /* planning cannot go on */
        unsigned nr_bad;   /* pieces that were read again, and could not be */
};

struct slot {
        struct job *job;
        struct iovec iov;
        void *buffer;
        uint64_t pos;
        uint64_t len;   /* bytes wanted; the request may be longer, up to alignment */
        uint64_t given; /* of these, in the chunk that the caller has */
        int error;
        bool done, last;
        bool again; /* it has failed, and is read in pieces */
};

struct reader {
        struct uext4_queue *queue;
        TAILQ_HEAD(, job) jobs; /* not wholly planned */
        struct slot *slots;
        unsigned depth, head, nr; /* R1 */
        unsigned in_flight;
        bool handed_over; /* the caller has a chunk of the head */
        size_t request_size;
        int error; /* the queue is broken */
        void *buffers;
        struct uext4_request *batch;
        struct uext4_completion *completions;
        struct reader_stats stats;
};

int reader_new(struct uext4_fs *fs, unsigned depth, size_t request_size,
               struct reader **ret_reader)
{
        struct reader *r = cli_alloc(1, sizeof(*r));
        int ret = uext4_queue_new(fs, depth, &r->queue);

        if (ret < 0) {
                free(r);
                return ret;
        }
        TAILQ_INIT(&r->jobs);
        r->depth = depth;
        r->request_size = request_size;
        r->slots = cli_alloc(depth, sizeof(*r->slots));
        r->batch = cli_alloc(depth, sizeof(*r->batch));
        r->completions = cli_alloc(depth, sizeof(*r->completions));
        r->buffers = cli_alloc_aligned(BUFFER_ALIGN, (size_t)depth * request_size);
        for (unsigned i = 0; i < depth; i++)
                r->slots[i].buffer = (uint8_t *)r->buffers + (size_t)i * request_size;
        *ret_reader = r;
        return 0;
}

static void job_free(struct job *job)
{
        uext4_close(job->file);
        free(job);
}

static void head_free(struct reader *r)
{
        struct slot *slot = &r->slots[r->head];

        if (slot->last)
                job_free(slot->job);
        r->head = (r->head + 1) % r->depth;
        r->nr--;
}

void reader_free(struct reader *r)
{
        if (!r)
                return;
        uext4_queue_free(r->queue); /* no buffer is in use any more */
        while (r->nr > 0)
                head_free(r);
        while (!TAILQ_EMPTY(&r->jobs)) {
                struct job *job = TAILQ_FIRST(&r->jobs);

                TAILQ_REMOVE(&r->jobs, job, link);
                job_free(job);
        }
        free(r->buffers);
        free(r->completions);
        free(r->batch);
        free(r->slots);
        free(r);
}

int reader_open(struct uext4_inode *inode, struct uext4_file **ret_file)
{
        return uext4_open(inode, O_RDONLY | O_DIRECT | O_CLOEXEC, ret_file);
}

/* ---- planning ----------------------------------------------------------- */

static uint64_t round_down(uint64_t n, uint64_t align)
{
        return n - n % align;
}

/* Go to the next byte of data, or to the end of the file. */
static void job_find_data(struct job *job)
{
        int64_t data = uext4_seek(job->file, job->next_pos, SEEK_DATA);
        int64_t hole;

        if (data == -ENXIO || (data >= 0 && (uint64_t)data >= job->size)) {
                job->next_pos = job->size;
                return;
        }
        hole = data < 0 ? data : uext4_seek(job->file, (uint64_t)data, SEEK_HOLE);
        if (hole < 0) {
                job->error = (int)hole;
                return;
        }
        /* A device's block may be bigger than the hole's edge is aligned. */
        data = (int64_t)round_down((uint64_t)data, job->align);
        if ((uint64_t)data > job->next_pos)
                job->next_pos = (uint64_t)data;
        job->data_end = (uint64_t)hole < job->size ? (uint64_t)hole : job->size;
        if (job->data_end <= job->next_pos)
                job->error = -EUCLEAN; /* a hole that does not end behind its data */
}

static void job_settle(struct job *job)
{
        if (!job->error && job->next_pos < job->size && job->next_pos >= job->data_end)
                job_find_data(job);
}

/*
 * Give the slot the next chunk of the job.  The request ends at a multiple of the alignment, or
 * behind the end of the file, where the result is cut to the size (B29).
 */
static void slot_plan(struct reader *r, struct slot *slot, struct job *job)
{
        uint64_t most = round_down(r->request_size, job->align ? job->align : 1);
        uint64_t left = job->data_end - job->next_pos, len, tail;

        slot->job = job;
        slot->pos = job->next_pos;
        slot->error = job->error;
        slot->done = slot->again = false;
        if (job->error) {
                slot->len = job->size - job->next_pos;
                slot->done = true;
        } else if (job->next_pos >= job->size) {
                slot->len = 0;
                slot->done = true;
        } else {
                slot->len = left < most ? left : most;
                job->next_pos += slot->len;
                len = slot->len;
                tail = len % job->align;
                slot->iov.iov_base = slot->buffer;
                slot->iov.iov_len = (size_t)(tail ? len - tail + job->align : len);
                job_settle(job);
        }
        slot->last = slot->error || (!job->error && job->next_pos >= job->size);
}

static void slot_start(struct reader *r, struct slot *slot, unsigned nr_batch)
{
        r->batch[nr_batch] = (struct uext4_request){
                .op = UEXT4_READ,
                .file = slot->job->file,
                .iov = &slot->iov,
                .nr_iov = 1,
                .pos = slot->pos,
                .user_data = slot,
        };
}

/* Submit the batch.  The queue is as deep as there are slots, so it takes everything. */
static int batch_submit(struct reader *r, unsigned nr_batch)
{
        unsigned taken = 0;

        while (taken < nr_batch) {
                int ret = uext4_queue_submit(r->queue, r->batch + taken, nr_batch - taken);

                if (ret < 0)
                        return ret;
                if (ret == 0)
                        return -EAGAIN;
                taken += (unsigned)ret;
        }
        r->in_flight += nr_batch;
        r->stats.requests += nr_batch;
        if (r->in_flight > r->stats.max_in_flight)
                r->stats.max_in_flight = r->in_flight;
        return 0;
}

/* Fill all free slots and start them. */
static void pump(struct reader *r)
{
        unsigned nr_batch = 0;
        struct job *job;

        while (r->nr < r->depth && (job = TAILQ_FIRST(&r->jobs))) {
                struct slot *slot = &r->slots[(r->head + r->nr) % r->depth];

                slot_plan(r, slot, job);
                r->nr++;
                if (slot->last)
                        TAILQ_REMOVE(&r->jobs, job, link);
                if (!slot->done)
                        slot_start(r, slot, nr_batch++);
        }
        if (nr_batch > 0 && r->error == 0)
                r->error = batch_submit(r, nr_batch);
}

void reader_add(struct reader *r, struct uext4_file *file, enum reader_mode mode, void *user)
{
        struct job *job = cli_alloc(1, sizeof(*job));
        struct uext4_stat st;

        job->file = file;
        job->mode = mode;
        job->user = user;
        job->error = uext4_stat(uext4_file_inode(file), &st);
        if (job->error == 0) {
                job->align = st.dio_offset_align ? st.dio_offset_align : 1;
                job->size = st.size;
                job->data_end = mode == READER_ALL ? st.size : 0;
                if (r->request_size < job->align)
                        job->error = -EINVAL;
        }
        job_settle(job);
        TAILQ_INSERT_TAIL(&r->jobs, job, link);
        pump(r);
}

static bool is_full(const struct reader *r)
{
        return r->nr == r->depth || !TAILQ_EMPTY(&r->jobs);
}

/* ---- completions -------------------------------------------------------- */

static void reap(struct reader *r)
{
        int nr = uext4_queue_wait(r->queue, r->completions, 1, r->depth, -1);

        if (nr <= 0) { /* with 0 requests are under way and nothing comes */
                r->error = nr < 0 ? nr : -EIO;
                return;
        }
        for (int i = 0; i < nr; i++) {
                struct slot *slot = r->completions[i].user_data;
                int64_t result = r->completions[i].result;

                slot->done = true;
                slot->again = result < 0 || (uint64_t)result < slot->len;
        }
        r->in_flight -= (unsigned)nr;
}

/* The bytes read at `pos`, `most` of them unless the slot ends before. */
static int64_t read_piece(struct slot *slot, uint64_t pos, uint64_t most)
{
        const uint64_t left = slot->pos + slot->len - pos, align = slot->job->align;
        const uint64_t want = left < most ? left : most;
        const uint64_t len = round_down(want + align - 1, align);
        ssize_t n = uext4_pread(slot->job->file, (uint8_t *)slot->buffer + (pos - slot->pos),
                                (size_t)len, pos);

        if (n < 0)
                return n;
        return (uint64_t)n < want ? -EIO : (int64_t)want;
}

/* What can be read from the front of the slot, or else its first piece as an error; all of it
 * when so much of the file is bad that nobody wants to wait for the rest. */
static void slot_read_again(struct slot *slot)
{
        struct job *job = slot->job;
        const uint64_t piece = job->align > PIECE ? job->align : PIECE;
        int64_t n = 0;

        slot->error = 0;
        for (slot->given = 0; slot->given < slot->len; slot->given += (uint64_t)n) {
                n = read_piece(slot, slot->pos + slot->given, piece);
                if (n < 0)
                        break;
        }
        if (n < 0 && slot->given == 0) {
                slot->error = (int)n;
                if (slot->len < piece || job->nr_bad >= MAX_BAD)
                        slot->given = slot->len;
                else
                        slot->given = piece;
                job->nr_bad++;
        }
}

/* The caller is done with its chunk. */
static void take_back(struct reader *r)
{
        struct slot *slot = &r->slots[r->head];

        slot->pos += slot->given;
        slot->len -= slot->given;
        r->handed_over = false;
        if (slot->len == 0)
                head_free(r);
}

static void hand_over(struct reader *r, struct slot *slot, struct reader_chunk *ret_chunk)
{
        slot->given = slot->len;
        if (slot->again)
                slot_read_again(slot);
        r->handed_over = true;
        if (!slot->error)
                r->stats.bytes += slot->given;
        *ret_chunk = (struct reader_chunk){
                .user = slot->job->user,
                .data = slot->error ? NULL : slot->buffer,
                .pos = slot->pos,
                .len = slot->given,
                .error = slot->error,
                .last = slot->last && slot->given == slot->len,
        };
}

int reader_next(struct reader *r, struct reader_chunk *ret_chunk)
{
        struct slot *slot;

        if (r->handed_over)
                take_back(r);
        pump(r);
        if (r->error || r->nr == 0)
                return r->error;
        slot = &r->slots[r->head];
        while (!slot->done && r->error == 0)
                reap(r);
        if (r->error)
                return r->error;
        hand_over(r, slot, ret_chunk);
        return 1;
}

const struct reader_stats *reader_stats(const struct reader *r)
{
        return &r->stats;
}

int reader_make_room(struct reader *r, struct reader_chunk *ret_chunk)
{
        return is_full(r) ? reader_next(r, ret_chunk) : 0;
}
