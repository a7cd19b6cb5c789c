/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount_control.c - the server's end of the control socket (see mount_control.h).
 *
 * One thread polls.  `lock` holds the end back while statistics are made; a client that does
 * not read is dropped, it cannot hold anybody up.
 */
#include "cli/mount_control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cli/mount_socket.h"

#define MAX_CLIENTS 16

/* How often, and for how long, to look whether a name has become free: five seconds. */
#define NAP_NS   5000000
#define MAX_NAPS 1000

enum { /* in the set that is polled */
        AT_LISTEN,
        AT_WAKE,
        AT_CLIENTS,
};

struct mount_control {
        struct pollfd polled[AT_CLIENTS + MAX_CLIENTS]; /* its thread's */
        nfds_t nr;
        int wake; /* eventfd: it ends [const] */

        pthread_mutex_t lock;
        char *(*stats)(void *arg); /* NULL when it ends [lock] */
        void *arg;
};

/*
 * The kernel gives a number to the next mount as soon as it has let the last one go; the server
 * of that has the name until it notices.
 */
static int bind_name(int fd, const char *device)
{
        const struct timespec nap = {.tv_nsec = NAP_NS};
        struct sockaddr_un name;
        socklen_t len = mount_socket_name(device, &name);

        for (int i = 0; bind(fd, (struct sockaddr *)&name, len) < 0; i++) {
                if (errno != EADDRINUSE || i == MAX_NAPS)
                        return -errno;
                nanosleep(&nap, NULL);
        }
        return 0;
}

int mount_control_listen(const char *device)
{
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ret;

        if (fd < 0)
                return -errno;
        ret = bind_name(fd, device);
        if (ret == 0 && listen(fd, MAX_CLIENTS) < 0)
                ret = -errno;
        if (ret < 0)
                close(fd);
        return ret < 0 ? ret : fd;
}

/* ---- its thread ------------------------------------------------------------- */

static bool may_ask(int fd)
{
        struct ucred peer;
        socklen_t len = sizeof(peer);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
               (peer.uid == 0 || peer.uid == geteuid());
}

static bool say(int fd, const char *text)
{
        return send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

/* False: nobody has called. */
static bool accept_one(struct mount_control *c)
{
        int fd = accept4(c->polled[AT_LISTEN].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
                return false;
        if (c->nr < AT_CLIENTS + MAX_CLIENTS && may_ask(fd))
                c->polled[c->nr++] = (struct pollfd){.fd = fd, .events = POLLIN};
        else
                close(fd);
        return true;
}

static bool say_stats(struct mount_control *c, int fd)
{
        char *text = NULL;
        bool said;

        pthread_mutex_lock(&c->lock);
        if (c->stats)
                text = c->stats(c->arg);
        pthread_mutex_unlock(&c->lock);
        said = text && say(fd, text);
        free(text);
        return said;
}

/* False: it is gone, or talks nonsense. */
static bool serve_client(struct mount_control *c, int fd)
{
        char text[16];
        ssize_t n = recv(fd, text, sizeof(text), 0);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        if (n != sizeof(MOUNT_SOCKET_STATS) - 1 || memcmp(text, MOUNT_SOCKET_STATS, n) != 0)
                return false;
        return say_stats(c, fd);
}

static void serve_clients(struct mount_control *c)
{
        nfds_t kept = AT_CLIENTS;

        for (nfds_t i = AT_CLIENTS; i < c->nr; i++) {
                bool stays = !c->polled[i].revents || serve_client(c, c->polled[i].fd);

                if (stays)
                        c->polled[kept++] = c->polled[i];
                else
                        close(c->polled[i].fd);
        }
        c->nr = kept;
}

/* The name is free for the next mount with this number; who is connected stays so. */
static void tell_the_end(struct mount_control *c)
{
        while (accept_one(c))
                ;
        close(c->polled[AT_LISTEN].fd);
        c->polled[AT_LISTEN].fd = -1;
        c->polled[AT_WAKE].fd = -1;
        for (nfds_t i = AT_CLIENTS; i < c->nr; i++)
                (void)say(c->polled[i].fd, MOUNT_SOCKET_ENDING);
}

static void *serve(void *arg)
{
        struct mount_control *c = arg;

        for (;;) {
                if (poll(c->polled, c->nr, -1) < 0)
                        continue;
                serve_clients(c);
                if (c->polled[AT_LISTEN].revents)
                        accept_one(c);
                if (c->polled[AT_WAKE].revents)
                        tell_the_end(c);
        }
        return NULL;
}

/* ---- its life ---------------------------------------------------------------- */

/* Signals are for the thread that serves the file system. */
static bool start_thread(struct mount_control *c)
{
        sigset_t all, old;
        pthread_t thread;
        int ret;

        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &old);
        ret = pthread_create(&thread, NULL, serve, c);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (ret == 0)
                pthread_detach(thread);
        return ret == 0;
}

struct mount_control *mount_control_start(int fd, char *(*stats)(void *arg), void *arg)
{
        struct mount_control *c = calloc(1, sizeof(*c));
        int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        if (!c || wake < 0)
                goto fail;
        c->wake = wake;
        c->stats = stats;
        c->arg = arg;
        c->polled[AT_LISTEN] = (struct pollfd){.fd = fd, .events = POLLIN};
        c->polled[AT_WAKE] = (struct pollfd){.fd = wake, .events = POLLIN};
        c->nr = AT_CLIENTS;
        pthread_mutex_init(&c->lock, NULL);
        if (start_thread(c))
                return c;
fail:
        if (wake >= 0)
                close(wake);
        free(c);
        return NULL;
}

void mount_control_ending(struct mount_control *control)
{
        if (!control)
                return;
        pthread_mutex_lock(&control->lock);
        control->stats = NULL;
        pthread_mutex_unlock(&control->lock);
        eventfd_write(control->wake, 1);
}
