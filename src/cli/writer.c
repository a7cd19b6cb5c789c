/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * writer.c - the contents of host files, written by many requests at once (see writer.h).
 *
 * The file gets its size first, as one hole: writes inside of the size need not wait for each
 * other, while each that moves it would.  Whole blocks go through the queue by direct I/O; what
 * is left behind the last of them is less than a block and is written buffered, when the rest
 * is there.  A file that cannot be written directly goes the same way, and its requests end at
 * once.
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
        int fd;
        uint64_t size;
        uint64_t whole; /* bytes: what the queue writes */
        uint64_t block; /* bytes: requests begin and end at multiples */
        unsigned in_flight;
        bool planned; /* all requests have been submitted */
        bool reading; /* the error is one of the host */
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

/* ---- the host's file ---------------------------------------------------- */

/* Fill the buffer; what a file that has become shorter does not have are zeros. */
static int read_host(int fd, void *buffer, size_t len, uint64_t pos)
{
        size_t done = 0;

        while (done < len) {
                ssize_t n =
                        pread(fd, (uint8_t *)buffer + done, len - done, (off_t)(pos + done));

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        break;
                if (n > 0)
                        done += (size_t)n;
        }
        memset((uint8_t *)buffer + done, 0, len - done);
        return 0;
}

/*
 * The next data of [pos, end) on the host: 1 and where, 0 none.  A host that knows no holes
 * has data everywhere.
 */
static int next_data(int fd, uint64_t pos, uint64_t end, uint64_t *ret_pos, uint64_t *ret_end)
{
        off_t data = lseek(fd, (off_t)pos, SEEK_DATA), hole;

        *ret_pos = pos;
        *ret_end = end;
        if (pos >= end || (data < 0 && errno == ENXIO) || (data >= 0 && (uint64_t)data >= end))
                return 0;
        if (data < 0)
                return 1;
        if ((uint64_t)data > pos)
                *ret_pos = (uint64_t)data;
        hole = lseek(fd, data, SEEK_HOLE);
        if (hole > data && (uint64_t)hole < end)
                *ret_end = (uint64_t)hole;
        return 1;
}

/* ---- the end of a file -------------------------------------------------- */

/* The part of the last block. */
static void write_tail(struct job *job)
{
        uint64_t pos, end, len = job->size - job->whole;
        struct uext4_file *file;
        uint8_t *buffer;
        ssize_t ret;

        if (job->error || len == 0 || !next_data(job->fd, job->whole, job->size, &pos, &end))
                return;
        buffer = cli_alloc(len, 1);
        ret = read_host(job->fd, buffer, len, job->whole);
        if (ret < 0)
                job_fail(job, (int)ret, true);
        if (ret == 0) {
                ret = uext4_open(job->inode, O_WRONLY, &file);
                if (ret == 0) {
                        ret = uext4_pwrite(file, buffer, len, job->whole);
                        uext4_close(file);
                }
                if (ret < 0 || (uint64_t)ret < len)
                        job_fail(job, ret < 0 ? (int)ret : -ENOSPC, false);
                progress_add(len);
        }
        free(buffer);
}

static void job_end(struct writer *w, struct job *job)
{
        write_tail(job);
        if (job->error == 0 && w->params.sync)
                job_fail(job, uext4_fsync(job->file), false);
        uext4_close(job->file);
        close(job->fd);
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
        ret = read_host(job->fd, slot->buffer, len, pos);
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
        uint64_t pos = 0, end;

        while (job->error == 0 && next_data(job->fd, pos, job->whole, &pos, &end)) {
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
        int ret = uext4_open(job->inode, O_WRONLY | (w->params.buffered ? 0 : O_DIRECT),
                             &job->file);

        if (ret == 0)
                ret = uext4_stat(job->inode, &st);
        if (ret == 0 && job->size > 0)
                ret = uext4_truncate(job->file, job->size);
        if (ret < 0)
                return ret;
        job->block = st.blksize > st.dio_offset_align ? st.blksize : st.dio_offset_align;
        job->whole = job->size - job->size % job->block;
        return 0;
}

int writer_add(struct writer *w, struct uext4_inode *inode, int fd, uint64_t size, void *user)
{
        struct job *job = cli_alloc(1, sizeof(*job));
        int ret;

        *job = (struct job){.inode = inode, .fd = fd, .size = size, .user = user};
        ret = job_open(w, job);
        if (ret < 0)
                job_fail(job, ret, false);
        if (ret == 0) {
                ret = write_whole(w, job);
                if (ret < 0)
                        return ret;
        }
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
