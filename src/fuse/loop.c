/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The loop: workers that read requests and serve them.
 *
 * Each has channels of its own (FUSE_DEV_IOC_CLONE), so that they share no lock of the kernel
 * but the one of the list of requests; the kernel wakes one of them for a request.  An answer
 * goes to the channel that the request came from.  Between a read that returns and the next one
 * a worker holds nothing but its request; so the moment to end it is in read(2), the one place
 * where it can be cancelled.
 *
 * To be woken takes longer than to serve most requests, and who makes one after the other waits
 * for that each time.  So one worker at a time does not sleep at once when it has nothing to
 * do, but looks again for a moment, on a channel that does not block.  When that has been in
 * vain a few times (programs do not ask so fast, or get no CPU) it is left for a while.
 */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "fuse/internal.h"

enum {
        STACK_SIZE = 512 << 10,
        LOOK_NS = 40000,       /* as long as it takes about to be woken */
        LOOK_STEP_NS = 100000, /* once; when it takes longer others have had the CPU */
        LOOK_MISSES = 4,       /* in vain, one after the other */
        LOOK_REST = 64,        /* requests until it is tried again */
        LOOK_REST_BUSY = 1024, /* the same, when others need the CPU */
};

static void end_loop(struct fuse_server *server, int error)
{
        int expected = 0;

        atomic_compare_exchange_strong(&server->error, &expected, error);
        fuse_server_stop(server);
}

static ssize_t read_channel(struct srv_worker *worker, int fd)
{
        const size_t size =
                sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in) + SRV_MAX_IO;
        ssize_t len = read(fd, worker->in, size);

        worker->fd = fd;
        return len < 0 ? -errno : len;
}

/* -EAGAIN: there is nothing; -EBUSY: and somebody else needs the CPU. */
static ssize_t look_for_a_moment(struct srv_worker *worker)
{
        int64_t before = srv_clock_ns(CLOCK_MONOTONIC), now;
        const int64_t end = before + LOOK_NS;
        ssize_t len;

        for (;;) {
                len = read_channel(worker, worker->polled);
                if (len != -EAGAIN)
                        return len;
                sched_yield();
                now = srv_clock_ns(CLOCK_MONOTONIC);
                if (now - before > LOOK_STEP_NS)
                        return -EBUSY;
                if (now > end)
                        return -EAGAIN;
                before = now;
        }
}

/* -EAGAIN: there is nothing.  What other workers do to the counters at the same time does not
 * matter: they are a guess. */
static ssize_t look(struct srv_worker *worker)
{
        struct fuse_server *server = worker->server;
        ssize_t len = -EAGAIN;

        if (!server->may_look || atomic_exchange(&server->looking, true))
                return -EAGAIN;
        if (atomic_load(&server->look_rest) > 0) {
                atomic_fetch_sub(&server->look_rest, 1);
        } else {
                len = look_for_a_moment(worker);
                if (len == -EBUSY)
                        atomic_store(&server->look_rest, LOOK_REST_BUSY);
                else if (len != -EAGAIN)
                        server->look_misses = 0;
                else if (++server->look_misses >= LOOK_MISSES)
                        atomic_store(&server->look_rest, LOOK_REST);
        }
        atomic_store(&server->looking, false);
        return len == -EBUSY ? -EAGAIN : len;
}

static ssize_t receive(struct srv_worker *worker)
{
        ssize_t len = look(worker);

        if (len != -EAGAIN)
                return len;
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
        len = read_channel(worker, worker->blocking);
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        return len;
}

static void *work(void *arg)
{
        struct srv_worker *worker = arg;
        struct srv_crew *crew = &worker->server->crew;

        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        while (srv_crew_enter(crew, worker->index)) {
                ssize_t len = receive(worker);

                srv_crew_take(crew);
                if (len >= 0) {
                        srv_serve(worker, (size_t)len);
                } else if (len == -ENODEV) {
                        end_loop(worker->server, 0); /* unmounted */
                        return NULL;
                } else if (len != -EINTR && len != -ENOENT && len != -EAGAIN) {
                        end_loop(worker->server, (int)len);
                        return NULL;
                }
        }
        return NULL;
}

static int start_workers(struct fuse_server *server)
{
        pthread_attr_t attr;
        int ret = 0;

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, STACK_SIZE);
        for (unsigned i = 0; i < server->nr_workers && ret == 0; i++) {
                struct srv_worker *w = &server->workers[i];

                ret = -pthread_create(&w->thread, &attr, work, w);
                w->running = ret == 0;
        }
        pthread_attr_destroy(&attr);
        return ret;
}

static int start(struct fuse_server *server)
{
        sigset_t all, before;
        int ret;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        ret = srv_notify_start(server);
        if (ret == 0)
                ret = srv_crew_start(&server->crew);
        if (ret == 0)
                ret = start_workers(server);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return ret;
}

static void wait_for_end(struct fuse_server *server)
{
        uint64_t nr;

        while (read(server->wake_fd, &nr, sizeof(nr)) < 0 && errno == EINTR)
                ;
}

static void end_workers(struct fuse_server *server)
{
        srv_crew_stop(&server->crew);
        for (unsigned i = 0; i < server->nr_workers; i++) {
                if (server->workers[i].running)
                        pthread_cancel(server->workers[i].thread);
        }
        for (unsigned i = 0; i < server->nr_workers; i++) {
                if (server->workers[i].running)
                        pthread_join(server->workers[i].thread, NULL);
                server->workers[i].running = false;
        }
}

int fuse_server_run(struct fuse_server *server)
{
        int ret = start(server);

        if (ret == 0)
                wait_for_end(server);
        srv_notify_stop(server);
        end_workers(server);
        srv_notify_done(server);
        return ret < 0 ? ret : atomic_load(&server->error);
}

void fuse_server_stop(struct fuse_server *server)
{
        const int saved = errno;
        const uint64_t one = 1;

        /* It fails only when there is more to read than it can count. */
        if (write(server->wake_fd, &one, sizeof(one)) < 0)
                errno = saved;
        errno = saved;
}
