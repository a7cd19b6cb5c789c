/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Telling the kernel to drop what it has cached, before a request is answered; what it has not
 * written back yet it writes then.
 *
 * Dropping a page waits until the kernel has filled it, that is, for a request which a worker
 * must serve.  If workers waited themselves all of them might; so a thread does it that serves
 * nothing.  It waits for workers, and no worker waits for it; so it ends before they do.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuse/internal.h"

enum {
        MAX_DATA = 64, /* of an answer */
};

struct job {
        STAILQ_ENTRY(job) link;
        int fd; /* where the request came from */
        struct fuse_notify_inval_inode_out drop;
        struct fuse_out_header answer;
        char data[MAX_DATA];
        char *bytes; /* what is answered: data, or memory of the job's */

        /* NULL, or how to get the answer from the file after dropping. */
        int64_t (*ask)(struct job *job);
        struct uext4_file *file;
        uint64_t pos;
        int whence;
        size_t size;
};

STAILQ_HEAD(job_list, job);

struct srv_notifier {
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        struct job_list jobs; /* [lock] */
        bool stop;            /* [lock] */
};

static int64_t seek(struct job *job)
{
        int64_t pos = uext4_seek(job->file, job->pos, job->whence);
        const struct fuse_lseek_out out = {(uint64_t)pos};

        memcpy(job->bytes, &out, sizeof(out));
        return pos < 0 ? pos : (int64_t)sizeof(out);
}

static int64_t read_again(struct job *job)
{
        return uext4_pread(job->file, job->bytes, job->size, job->pos);
}

/* What is dirty in the kernel has come to the library by now. */
static void get_answer(struct job *job)
{
        int64_t n = job->ask(job);

        job->answer.error = n < 0 ? (int32_t)n : 0;
        job->answer.len = (uint32_t)(sizeof(job->answer) + (n < 0 ? 0 : (size_t)n));
}

static void free_job(struct job *job)
{
        if (job->bytes != job->data)
                free(job->bytes);
        free(job);
}

/* That the kernel does not know the inode any more is fine, and so is that it cannot drop what
 * somebody has mapped and locked: nothing more can be done. */
static void do_job(struct job *job)
{
        struct fuse_out_header head = {.error = FUSE_NOTIFY_INVAL_INODE};
        struct iovec drop[] = {{&head, sizeof(head)}, {&job->drop, sizeof(job->drop)}};
        struct iovec answer[] = {{&job->answer, sizeof(job->answer)}, {job->bytes, 0}};

        head.len = sizeof(head) + sizeof(job->drop);
        if (writev(job->fd, drop, 2) < 0)
                errno = 0;
        if (job->ask)
                get_answer(job);
        answer[1].iov_len = job->answer.len - sizeof(job->answer);
        if (writev(job->fd, answer, 2) < 0)
                errno = 0; /* who asked is gone */
        free_job(job);
}

static void *run(void *arg)
{
        struct srv_notifier *n = arg;
        struct job *job;

        pthread_mutex_lock(&n->lock);
        for (;;) {
                while (!(job = STAILQ_FIRST(&n->jobs)) && !n->stop)
                        pthread_cond_wait(&n->changed, &n->lock);
                if (!job)
                        break;
                STAILQ_REMOVE_HEAD(&n->jobs, link);
                pthread_mutex_unlock(&n->lock);
                do_job(job);
                pthread_mutex_lock(&n->lock);
        }
        pthread_mutex_unlock(&n->lock);
        return NULL;
}

/* With room for an answer of `size` bytes; NULL: no memory. */
static struct job *new_job(const struct srv_request *rq, uint64_t nodeid, size_t size)
{
        struct job *job = size <= MAX_DATA ? calloc(1, sizeof(*job)) : NULL;

        if (!job)
                return NULL;
        job->fd = rq->worker->fd;
        job->drop.ino = nodeid;
        job->answer.len = (uint32_t)(sizeof(job->answer) + size);
        job->answer.unique = rq->in->unique;
        job->bytes = job->data;
        return job;
}

/* When the server is stopping nothing is dropped any more: who asked gets an error when the
 * channels are closed. */
static int hand_over(struct srv_request *rq, struct job *job)
{
        struct srv_notifier *n = rq->server->notifier;
        bool is_over;

        rq->answered = true;
        pthread_mutex_lock(&n->lock);
        is_over = n->stop;
        if (!is_over)
                STAILQ_INSERT_TAIL(&n->jobs, job, link);
        pthread_cond_signal(&n->changed);
        pthread_mutex_unlock(&n->lock);
        if (is_over)
                free_job(job);
        return 0;
}

int srv_reply_after_drop(struct srv_request *rq, uint64_t nodeid, uint64_t pos, uint64_t len,
                         const void *data, size_t size)
{
        struct job *job = new_job(rq, nodeid, size);

        if (!job)
                return -ENOMEM;
        job->drop.off = len > 0 ? (int64_t)pos : -1;
        job->drop.len = (int64_t)len;
        memcpy(job->data, data, size);
        return hand_over(rq, job);
}

int srv_seek_after_drop(struct srv_request *rq, uint64_t nodeid, struct uext4_file *file,
                        uint64_t pos, int whence)
{
        struct job *job = new_job(rq, nodeid, sizeof(struct fuse_lseek_out));

        if (!job)
                return -ENOMEM;
        job->ask = seek;
        job->file = file;
        job->pos = pos;
        job->whence = whence;
        return hand_over(rq, job);
}

int srv_read_after_drop(struct srv_request *rq, uint64_t nodeid, struct uext4_file *file,
                        uint64_t pos, size_t size)
{
        struct job *job = new_job(rq, nodeid, 0);
        char *bytes = aligned_alloc(SRV_ALIGN, (size + SRV_ALIGN - 1) / SRV_ALIGN * SRV_ALIGN);

        if (!job || !bytes) {
                free(job);
                free(bytes);
                return -ENOMEM;
        }
        job->ask = read_again;
        job->file = file;
        job->pos = pos;
        job->size = size;
        job->bytes = bytes;
        return hand_over(rq, job);
}

int srv_notify_start(struct fuse_server *server)
{
        struct srv_notifier *n = calloc(1, sizeof(*n));
        int ret;

        if (!n)
                return -ENOMEM;
        pthread_mutex_init(&n->lock, NULL);
        pthread_cond_init(&n->changed, NULL);
        STAILQ_INIT(&n->jobs);
        ret = -pthread_create(&n->thread, NULL, run, n);
        if (ret < 0) {
                free(n);
                return ret;
        }
        server->notifier = n;
        return 0;
}

void srv_notify_stop(struct fuse_server *server)
{
        struct srv_notifier *n = server->notifier;

        if (!n)
                return;
        pthread_mutex_lock(&n->lock);
        n->stop = true;
        pthread_cond_signal(&n->changed);
        pthread_mutex_unlock(&n->lock);
        pthread_join(n->thread, NULL);
}

void srv_notify_done(struct fuse_server *server)
{
        free(server->notifier);
        server->notifier = NULL;
}
