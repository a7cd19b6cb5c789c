/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A server: made, mounted, unmounted, counted.
 *
 * libfuse mounts: by mount(2), or by fusermount3(1) for who may not; and it unmounts.  All
 * channels are opened at once, because a sandbox may not let us later.
 */

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuse/internal.h"

enum {
        MIN_WORKERS = 16,
        MAX_WORKERS = 1024,
};

/* ---- options of libfuse ---- */

static int add_named(char **list, const char *name, const char *value)
{
        const size_t size = strlen(name) + strlen(value) + 2;
        char *opt = malloc(size);
        int ret;

        if (!opt)
                return -ENOMEM;
        snprintf(opt, size, "%s=%s", name, value);
        ret = fuse_opt_add_opt_escaped(list, opt) < 0 ? -ENOMEM : 0;
        free(opt);
        return ret;
}

static int make_list(const struct fuse_server_options *o, char **ret_list)
{
        int ret = add_named(ret_list, "fsname", o->source ? o->source : "uext4");

        if (ret == 0)
                ret = add_named(ret_list, "subtype", o->subtype ? o->subtype : "uext4");
        if (ret == 0 && o->default_permissions &&
            fuse_opt_add_opt(ret_list, "default_permissions") < 0)
                ret = -ENOMEM;
        if (ret == 0 && o->fuse_options && o->fuse_options[0] &&
            fuse_opt_add_opt(ret_list, o->fuse_options) < 0)
                ret = -ENOMEM;
        return ret;
}

static int new_session(struct fuse_server *server, const struct fuse_server_options *o)
{
        static const struct fuse_lowlevel_ops none;
        struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
        char *list = NULL;
        int ret = make_list(o, &list);

        if (ret == 0 &&
            (fuse_opt_add_arg(&args, "uext4") < 0 || fuse_opt_add_arg(&args, "-o") < 0 ||
             fuse_opt_add_arg(&args, list) < 0))
                ret = -ENOMEM;
        if (ret == 0) {
                server->session = fuse_session_new(&args, &none, sizeof(none), server);
                ret = server->session ? 0 : -EINVAL;
        }
        fuse_opt_free_args(&args);
        free(list);
        return ret;
}

/* ---- workers ---- */

/* That we may use. */
static unsigned nr_cpus(void)
{
        cpu_set_t set;

        return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

/*
 * How many requests may be under way is how many workers there are, since each waits for the
 * device itself: more than there are CPUs, for a device with a queue.
 */
static unsigned default_workers(void)
{
        const unsigned nr = nr_cpus() * 4;

        return nr < MIN_WORKERS ? MIN_WORKERS : nr;
}

static int open_channel(struct fuse_server *server, int flags, int *ret_fd)
{
        uint32_t first = (uint32_t)fuse_session_fd(server->session);

        *ret_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | flags);
        if (*ret_fd < 0 || ioctl(*ret_fd, FUSE_DEV_IOC_CLONE, &first) < 0)
                return -errno;
        return 0;
}

/* In: a page, and a payload that begins with the next one.  Out: as large as the payload. */
static int make_buffers(struct srv_worker *w)
{
        const size_t head = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in);
        void *memory = mmap(NULL, SRV_ALIGN + 2 * SRV_MAX_IO, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (memory == MAP_FAILED)
                return -ENOMEM;
        w->memory = memory;
        w->in = w->memory + SRV_ALIGN - head;
        w->out = w->memory + SRV_ALIGN + SRV_MAX_IO;
        return 0;
}

static int make_workers(struct fuse_server *server, unsigned nr)
{
        int ret = 0;

        nr = nr == 0 ? default_workers() : nr;
        nr = nr > MAX_WORKERS ? MAX_WORKERS : nr;
        server->workers = calloc(nr, sizeof(server->workers[0]));
        if (!server->workers)
                return -ENOMEM;
        server->nr_workers = nr;
        srv_crew_init(&server->crew, nr, nr_cpus());
        for (unsigned i = 0; i < nr; i++) {
                server->workers[i].server = server;
                server->workers[i].index = i;
                server->workers[i].blocking = -1;
                server->workers[i].polled = -1;
        }
        for (unsigned i = 0; i < nr && ret == 0; i++) {
                ret = make_buffers(&server->workers[i]);
                if (ret == 0)
                        ret = open_channel(server, 0, &server->workers[i].blocking);
                if (ret == 0)
                        ret = open_channel(server, O_NONBLOCK, &server->workers[i].polled);
        }
        return ret;
}

static void free_workers(struct fuse_server *server)
{
        for (unsigned i = 0; i < server->nr_workers; i++) {
                struct srv_worker *w = &server->workers[i];

                if (w->memory)
                        munmap(w->memory, SRV_ALIGN + 2 * SRV_MAX_IO);
                if (w->blocking >= 0)
                        close(w->blocking);
                if (w->polled >= 0)
                        close(w->polled);
        }
        free(server->workers);
}

/* ---- a server ---- */

static int mount_it(struct fuse_server *server, const struct fuse_server_options *o)
{
        int ret = new_session(server, o);

        if (ret < 0)
                return ret;
        errno = 0;
        if (fuse_session_mount(server->session, o->mountpoint) != 0)
                return errno ? -errno : -EIO;
        return make_workers(server, o->nr_threads);
}

static int init(struct fuse_server *server, const struct fuse_server_options *o)
{
        int ret = srv_nodes_init(server);

        server->wake_fd = eventfd(0, EFD_CLOEXEC);
        if (ret == 0 && server->wake_fd < 0)
                ret = -errno;
        return ret < 0 ? ret : mount_it(server, o);
}

int fuse_server_new(struct uext4_fs *fs, const struct fuse_server_options *o,
                    struct fuse_server **ret_server)
{
        struct fuse_server *server = calloc(1, sizeof(*server));
        int ret;

        if (!server)
                return -ENOMEM;
        server->fs = fs;
        server->cache = o->cache;
        server->atime = o->atime;
        server->default_permissions = o->default_permissions;
        server->allow_root = o->allow_root;
        server->debug = o->debug;
        server->owner = geteuid();
        server->wake_fd = -1;
        server->may_look = nr_cpus() > 1;
        pthread_mutex_init(&server->handles_lock, NULL);
        TAILQ_INIT(&server->handles);
        ret = init(server, o);
        if (ret < 0) {
                fuse_server_free(server);
                return ret;
        }
        *ret_server = server;
        return 0;
}

/* The channels go first: nobody serves them any more, and unmounting would wait for that. */
void fuse_server_free(struct fuse_server *server)
{
        if (!server)
                return;
        free_workers(server);
        if (server->session) {
                fuse_session_unmount(server->session);
                fuse_session_destroy(server->session);
        }
        srv_handles_done(server);
        srv_nodes_done(server);
        if (server->wake_fd >= 0)
                close(server->wake_fd);
        free(server);
}

/* ---- counters ---- */

static void add_up(const struct fuse_server *server, unsigned opcode,
                   struct fuse_server_stat *ret_stat)
{
        *ret_stat = (struct fuse_server_stat){.name = srv_op_name(opcode)};
        for (unsigned i = 0; i < server->nr_workers; i++) {
                const struct srv_counter *c = &server->workers[i].counters[opcode];

                ret_stat->requests += atomic_load_explicit(&c->requests, memory_order_relaxed);
                ret_stat->errors += atomic_load_explicit(&c->errors, memory_order_relaxed);
                ret_stat->bytes += atomic_load_explicit(&c->bytes, memory_order_relaxed);
        }
}

size_t fuse_server_stats(const struct fuse_server *server, struct fuse_server_stat *ret_stats,
                         size_t max)
{
        struct fuse_server_stat stat;
        size_t nr = 0;

        for (unsigned i = 0; i < PROTO_MAX_OPCODE && nr < max; i++) {
                add_up(server, i, &stat);
                if (stat.requests == 0)
                        continue;
                if (!stat.name)
                        stat.name = "other";
                ret_stats[nr++] = stat;
        }
        return nr;
}
