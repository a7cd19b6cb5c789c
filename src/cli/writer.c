/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * writer.c - the contents of files, written by many requests at once (see writer.h).
 *
 * The file gets its size first, as one hole: writes inside of the size need not wait for each
 * other, while each that moves it would.  Whole blocks go through the queue by direct I/O; what
 * is left behind the last of them is less than a block and is written buffered, when the rest
 * is there.  So is all of a file that is less than a block.  A file that cannot be written
 * directly goes the same way, and its requests end at once.
 */
#include "cli/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"

#define BUFFER_ALIGN 65536

/* A file on its way. */
struct job {
        struct uext4_inode *inode;
        struct uext4_file *file;
        struct content *content; /* until the file is planned */
        void *tail;              /* what follows the whole blocks; NULL: a hole */
        uint64_t size;
        uint64_t whole; /* bytes: what the queue writes */
        uint64_t block; /* bytes: requests begin and end at multiples */
        unsigned in_flight;
        bool planned; /* all requests have been submitted */
        bool reading; /* the error is one of the source */
        int error;    /* the first one */
        void *user;
};

struct slot {
        struct job *job;
        uint64_t pos;
        struct iovec iov; /* what is still to be written */
        void *buffer;
};

struct writer {
        struct writer_params params;
        struct uext4_queue *queue;
        struct slot *slots;
        struct slot **idle;
        unsigned nr_idle;
        struct uext4_completion *completions;
        void *buffers;
        int error; /* the queue is broken */
};

int writer_new(struct uext4_fs *fs, const struct writer_params *params,
               struct writer **ret_writer)
{
        struct writer *w = cli_alloc(1, sizeof(*w));
        int ret = uext4_queue_new(fs, params->depth, &w->queue);

        if (ret < 0) {
                free(w);
                return ret;
        }
        w->params = *params;
        w->slots = cli_alloc(params->depth, sizeof(*w->slots));
        w->idle = cli_alloc(params->depth, sizeof(*w->idle));
        w->completions = cli_alloc(params->depth, sizeof(*w->completions));
        w->buffers = cli_alloc_aligned(BUFFER_ALIGN, params->depth * params->request_size);
        for (unsigned i = 0; i < params->depth; i++) {
                w->slots[i].buffer = (uint8_t *)w->buffers + i * params->request_size;
                w->idle[w->nr_idle++] = &w->slots[i];
        }
        *ret_writer = w;
        return 0;
}

void writer_free(struct writer *w)
{
        if (!w)
                return;
        uext4_queue_free(w->queue);
        free(w->buffers);
        free(w->completions);
        free(w->idle);
        free(w->slots);
        free(w);
}

static void job_fail(struct job *job, int error, bool reading)
{
        if (job->error == 0) {
                job->error = error;
                job->reading = reading;
        }
}

/* ---- the end of a file -------------------------------------------------- */

/* Read the part of the last block, while the source can be read. */
static void read_tail(struct job *job)
{
        uint64_t pos, end, len = job->size - job->whole;
        int ret;

        if (job->error || len == 0)
                return;
        ret = job->content->ops->next_data(job->content, job->whole, job->size, &pos, &end);
        if (ret > 0) {
                job->tail = cli_alloc(len, 1);
                ret = job->content->ops->read(job->content, job->tail, len, job->whole);
        }
        if (ret < 0)
                job_fail(job, ret, true);
}

/* A file that is less than a block has no size before. */
static void write_tail(struct job *job)
{
        uint64_t len = job->size - job->whole;
        struct uext4_file *file = job->file;
        ssize_t ret = 0;

        if (job->error || len == 0)
                return;
        if (job->tail) {
                if (job->whole > 0)
                        ret = uext4_open(job->inode, O_WRONLY, &file);
                if (ret == 0) {
                        ret = uext4_pwrite(file, job->tail, len, job->whole);
                        if (job->whole > 0)
                                uext4_close(file);
                }
                if (ret < 0 || (uint64_t)ret < len)
                        job_fail(job, ret < 0 ? (int)ret : -ENOSPC, false);
                progress_add(len);
        } else if (job->whole == 0) {
                ret = uext4_truncate(job->file, job->size);
                if (ret < 0)
                        job_fail(job, (int)ret, false);
        }
}

static void job_end(struct writer *w, struct job *job)
{
        write_tail(job);
        if (job->error == 0 && w->params.sync)
                job_fail(job, uext4_fsync(job->file), false);
        uext4_close(job->file);
        free(job->tail);
        w->params.ended(w->params.arg, job->user, job->error, job->reading);
        free(job);
}

static void job_may_end(struct writer *w, struct job *job)
{
        if (job->planned && job->in_flight == 0)
                job_end(w, job);
}

/* ---- requests ----------------------------------------------------------- */

static int slot_submit(struct writer *w, struct slot *slot)
{
        const struct uext4_request req = {
                .op = UEXT4_WRITE,
                .file = slot->job->file,
                .iov = &slot->iov,
                .nr_iov = 1,
                .pos = slot->pos,
                .user_data = slot,
        };
        int ret = uext4_queue_submit(w->queue, &req, 1);

        return ret < 0 ? ret : ret == 0 ? -EAGAIN : 0;
}

/*
 * Fewer bytes than asked for are no error: who goes on behind them is told of it.  1 when
 * the slot goes on, 0 when it is finished, -errno when the queue is broken.
 */
static int slot_finish(struct writer *w, struct slot *slot, int64_t result)
{
        if (result > 0 && (uint64_t)result < slot->iov.iov_len) {
                slot->iov.iov_base = (uint8_t *)slot->iov.iov_base + result;
                slot->iov.iov_len -= (size_t)result;
                slot->pos += (uint64_t)result;
                progress_add((uint64_t)result);
                w->error = slot_submit(w, slot);
                return w->error < 0 ? w->error : 1;
        }
        if (result <= 0)
                job_fail(slot->job, result < 0 ? (int)result : -EIO, false);
        else
                progress_add((uint64_t)result);
        return 0;
}

static int reap(struct writer *w)
{
        int nr = uext4_queue_wait(w->queue, w->completions, 1, w->params.depth, -1);

        if (nr <= 0) /* with 0 nothing is under way, and nothing comes */
                return w->error = nr < 0 ? nr : -EIO;
        for (int i = 0; i < nr; i++) {
                struct slot *slot = w->completions[i].user_data;
                int ret = slot_finish(w, slot, w->completions[i].result);

                if (ret < 0)
                        return ret;
                if (ret > 0)
                        continue;
                slot->job->in_flight--;
                w->idle[w->nr_idle++] = slot;
                job_may_end(w, slot->job);
        }
        return 0;
}

/* Write [pos, pos + len) of the job: read it, and submit it.  -errno: the queue is broken. */
static int write_piece(struct writer *w, struct job *job, uint64_t pos, size_t len)
{
        struct slot *slot;
        int ret;

        while (w->nr_idle == 0) {
                ret = reap(w);
                if (ret < 0)
                        return ret;
        }
        slot = w->idle[w->nr_idle - 1];
        ret = job->content->ops->read(job->content, slot->buffer, len, pos);
        if (ret < 0) {
                job_fail(job, ret, true);
                return 0;
        }
        w->nr_idle--;
        *slot = (struct slot){job, pos, {slot->buffer, len}, slot->buffer};
        job->in_flight++;
        ret = slot_submit(w, slot);
        if (ret < 0)
                w->error = ret;
        return ret;
}

/* All whole blocks in which there is data, in pieces that end at multiples of their size. */
static int write_whole(struct writer *w, struct job *job)
{
        const uint64_t request = w->params.request_size;
        struct content *c = job->content;
        uint64_t pos = 0, end;
        int more;

        while (job->error == 0 && pos < job->whole) {
                more = c->ops->next_data(c, pos, job->whole, &pos, &end);
                if (more < 0)
                        job_fail(job, more, true);
                if (more <= 0)
                        break;
                pos -= pos % job->block;
                end += (job->block - end % job->block) % job->block;
                while (pos < end && job->error == 0) {
                        uint64_t len = request - pos % request;
                        int ret;

                        if (len > end - pos)
                                len = end - pos;
                        ret = write_piece(w, job, pos, (size_t)len);
                        if (ret < 0)
                                return ret;
                        pos += len;
                }
        }
        return 0;
}

static int job_open(struct writer *w, struct job *job)
{
        struct uext4_stat st;
        int flags = O_WRONLY, ret = uext4_stat(job->inode, &st);

        if (ret < 0)
                return ret;
        job->block = st.blksize > st.dio_offset_align ? st.blksize : st.dio_offset_align;
        job->whole = job->size - job->size % job->block;
        if (job->whole > 0 && !w->params.buffered)
                flags |= O_DIRECT;
        ret = uext4_open(job->inode, flags, &job->file);
        if (ret == 0 && job->whole > 0)
                ret = uext4_truncate(job->file, job->size);
        return ret;
}

int writer_add(struct writer *w, struct uext4_inode *inode, struct content *content,
               uint64_t size, void *user)
{
        struct job *job = cli_alloc(1, sizeof(*job));
        int ret;

        *job = (struct job){.inode = inode, .content = content, .size = size, .user = user};
        ret = job_open(w, job);
        if (ret < 0)
                job_fail(job, ret, false);
        if (ret == 0) {
                ret = write_whole(w, job);
                if (ret < 0)
                        return ret;
        }
        read_tail(job);
        job->content = NULL;
        job->planned = true;
        job_may_end(w, job);
        return 0;
}

int writer_drain(struct writer *w)
{
        while (w->error == 0 && w->nr_idle < w->params.depth)
                reap(w);
        return w->error;
}
