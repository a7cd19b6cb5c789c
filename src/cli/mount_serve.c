/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount_serve.c - the server of a mount (see mount.h).
 *
 * In this order: the device is opened, the directory mounted, the log and the control socket
 * opened; the sandbox entered; and only then the image is looked at.  What is wrong with an
 * image is therefore found when it can do no harm, and said while stderr is still there.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "cli/json.h"
#include "cli/mount.h"
#include "cli/mount_channel.h"
#include "cli/mount_control.h"
#include "cli/sandbox.h"
#include "cli/stats.h"
#include "fuse/server.h"

#define MAX_SERVER_STATS 64

struct serving {
        struct cli *cli;
        struct mount_request *request;
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        struct fuse_server *server;
        struct mount_control *control;
        struct sandbox_params sandbox;
        int report;     /* pipe to the monitor */
        int channel;    /* of FUSE */
        int control_fd; /* -1: none */
        int detach_fd;
        bool in_sandbox;
        time_t since;
};

/* ---- signals ---------------------------------------------------------------- */

static struct fuse_server *volatile signalled_server;
static volatile sig_atomic_t is_stopped;
static pid_t monitor;

/* Unmounting is the monitor's; when it is gone all that is left is to stop. */
static void on_signal(int signal)
{
        int error = errno;

        if (signal != MOUNT_STOP_SIGNAL && getppid() == monitor)
                kill(monitor, SIGTERM);
        else if (signalled_server) {
                is_stopped = 1;
                fuse_server_stop(signalled_server);
        }
        errno = error;
}

static const int our_signals[] = {SIGTERM, SIGINT, SIGHUP, MOUNT_STOP_SIGNAL};

#define NR_SIGNALS (sizeof(our_signals) / sizeof(our_signals[0]))

static void mask_signals(int how)
{
        sigset_t set;

        sigemptyset(&set);
        for (size_t i = 0; i < NR_SIGNALS; i++)
                sigaddset(&set, our_signals[i]);
        sigprocmask(how, &set, NULL);
}

/* They are for this thread, when it serves; threads of the library inherit that they are
 * blocked. */
static void catch_signals(struct serving *s)
{
        const struct sigaction action = {.sa_handler = on_signal};

        signalled_server = s->server;
        for (size_t i = 0; i < NR_SIGNALS; i++)
                sigaction(our_signals[i], &action, NULL);
        signal(SIGPIPE, SIG_IGN);
        mask_signals(SIG_UNBLOCK);
}

/* ---- what is opened ----------------------------------------------------------- */

/* False. */
static bool fail(struct serving *s, const char *name, int err)
{
        if (err == -EBUSY)
                cli_fail(s->cli, name, "in use: somebody else has it open or mounted");
        else
                cli_fail_errno(s->cli, name, err);
        return false;
}

/* As the library does it by itself: sectors that are larger than blocks need the host's cache.
 */
static bool needs_host_cache(struct uext4_bdev *dev, uint64_t offset)
{
        uint8_t log_block_size = 6;

        if (uext4_bdev_geometry(dev)->logical_block <= 1024)
                return false;
        (void)uext4_bdev_read_bytes(dev, &log_block_size, 1, offset + 1024 + 24);
        return log_block_size < 6 &&
               uext4_bdev_geometry(dev)->logical_block > 1024u << log_block_size;
}

static void close_device(struct serving *s)
{
        uext4_bdev_close(s->dev);
        s->dev = NULL;
}

static int open_whole_device(struct serving *s, uint32_t flags)
{
        const char *image = s->request->image;
        int ret = uext4_bdev_open(image, flags, mount_log_line, s->request, &s->dev);

        if (ret == 0 && needs_host_cache(s->dev, s->request->options.offset)) {
                close_device(s);
                ret = uext4_bdev_open(image, flags | UEXT4_BDEV_OPEN_BUFFERED, mount_log_line,
                                      s->request, &s->dev);
        }
        return ret;
}

/* MOUNT_TRY_READ_ONLY when it is write-protected. */
static int open_device(struct serving *s)
{
        const struct mount_options *o = &s->request->options;
        int ret = open_whole_device(s, o->is_read_only ? UEXT4_BDEV_OPEN_READONLY : 0);

        if (!o->is_read_only && (ret == -EROFS || ret == -EACCES || ret == -EPERM)) {
                if (open_whole_device(s, UEXT4_BDEV_OPEN_READONLY) == 0) {
                        close_device(s);
                        cli_warn(s->cli, s->request->image,
                                 "cannot be written, mounting read-only");
                        return MOUNT_TRY_READ_ONLY;
                }
        }
        if (ret == 0 && o->offset > 0) {
                ret = uext4_bdev_open_slice(s->dev, o->offset, 0, &s->dev);
                if (ret < 0)
                        close_device(s);
        }
        if (ret < 0)
                fail(s, s->request->image, ret);
        return ret < 0 ? CLI_FAILED : CLI_OK;
}

static void report(struct serving *s, enum mount_report_what what, const char *device)
{
        struct mount_report r = {.what = what};
        ssize_t n;

        snprintf(r.device, sizeof(r.device), "%s", device);
        n = write(s->report, &r, sizeof(r)); /* a monitor that is gone needs none */
        (void)n;
}

static void open_control(struct serving *s, const char *device)
{
        s->control_fd = mount_control_listen(device);
        if (s->control_fd < 0)
                mount_say(s->request, LOG_WARNING,
                          "no control socket (%s): no statistics, and umount does not wait",
                          strerror(-s->control_fd));
}

static bool open_channel(struct serving *s)
{
        const struct mount_options *o = &s->request->options;
        const struct mount_channel_params params = {
                .dir = s->request->dir,
                .source = s->request->source,
                .subtype = o->subtype ? o->subtype : "uext4",
                .flags = o->flags,
                .allow_other = o->allow_other || o->allow_root,
                .default_permissions = o->default_permissions,
        };
        struct mount_point mount;

        s->channel = mount_channel_open(&params);
        if (s->channel < 0)
                return fail(s, s->request->dir, s->channel);
        if (mount_point_find(s->request->dir, &mount)) {
                report(s, MOUNT_REPORT_MOUNTED, mount.device);
                open_control(s, mount.device);
                mount_point_free(&mount);
        }
        return true;
}

/* ---- the sandbox ---------------------------------------------------------------- */

static bool enter_sandbox(struct serving *s)
{
        const struct mount_options *o = &s->request->options;
        const char *what;
        int ret;

        s->sandbox = (struct sandbox_params){
                .monitor = getppid(),
                .journal = o->journal,
                .reads_proc = !o->default_permissions,
        };
        if (o->sandbox == MOUNT_SANDBOX_NEVER)
                return true;
        if (!sandbox_is_built() && o->sandbox == MOUNT_SANDBOX_IF_POSSIBLE)
                return true;
        what = "this build";
        ret = sandbox_is_built() ? sandbox_enter(&s->sandbox, &what) : -EOPNOTSUPP;
        s->in_sandbox = ret == 0;
        if (s->in_sandbox)
                return true;
        cli_warn(s->cli, NULL, "no sandbox (%s): %s", what, strerror(-ret));
        return o->sandbox != MOUNT_SANDBOX_ALWAYS;
}

/* All that has to be open is. */
static bool close_sandbox(struct serving *s)
{
        int ret = s->in_sandbox ? sandbox_close(&s->sandbox) : 0;

        return ret < 0 ? fail(s, "sandbox", ret) : true;
}

/* ---- the file system ------------------------------------------------------------- */

static void fail_mount(struct serving *s, int err)
{
        const char *image = s->request->image;

        if (err == -EINVAL)
                cli_fail(s->cli, image, "cannot mount: no ext4 file system, or wrong options");
        else
                cli_fail(s->cli, image, "cannot mount: %s", cli_strerror(err));
}

/* It was mounted read-only though it was not to be. */
static bool is_only_read(struct serving *s)
{
        struct uext4_info info;

        return !s->request->options.is_read_only && uext4_get_info(s->fs, &info) == 0 &&
               info.readonly_reason[0];
}

static int mount_fs(struct serving *s)
{
        const struct uext4_mount_params params = {.options = s->request->options.library,
                                                  .log = mount_log_line,
                                                  .log_arg = s->request};
        int ret = uext4_mount_bdev(s->dev, &params, &s->fs);

        if (ret < 0) {
                fail_mount(s, ret);
                return CLI_FAILED;
        }
        return is_only_read(s) ? MOUNT_TRY_READ_ONLY : CLI_OK;
}

static enum fuse_cache cache_of(const struct mount_options *o)
{
        if (o->cache && strcmp(o->cache, "none") == 0)
                return FUSE_CACHE_NONE;
        if (o->cache && strcmp(o->cache, "writeback") == 0)
                return FUSE_CACHE_WRITEBACK;
        return FUSE_CACHE_AUTO;
}

static enum fuse_atime atime_of(const struct mount_options *o)
{
        if (o->is_read_only || (o->flags & MS_NOATIME))
                return FUSE_ATIME_NEVER;
        return o->flags & MS_STRICTATIME ? FUSE_ATIME_STRICT : FUSE_ATIME_RELATIVE;
}

static bool new_server(struct serving *s)
{
        const struct mount_options *o = &s->request->options;
        char mountpoint[32];
        const struct fuse_server_options options = {
                .mountpoint = mountpoint, /* open already, and mounted */
                .allow_root = o->allow_root,
                .cache = cache_of(o),
                .atime = atime_of(o),
                .nr_threads = o->nr_threads,
                .default_permissions = o->default_permissions,
                .debug = o->debug,
        };
        int ret;

        snprintf(mountpoint, sizeof(mountpoint), "/dev/fd/%d", s->channel);
        ret = fuse_server_new(s->fs, &options, &s->server);
        return ret < 0 ? fail(s, s->request->dir, ret) : true;
}

/* ---- statistics -------------------------------------------------------------------- */

static json_t *server_stats(const struct serving *s)
{
        struct fuse_server_stat stats[MAX_SERVER_STATS];
        size_t nr = fuse_server_stats(s->server, stats, MAX_SERVER_STATS);
        json_t *all = json_object();

        for (size_t i = 0; i < nr; i++) {
                json_t *one = json_object();

                json_add_uint(one, "requests", stats[i].requests);
                json_add_uint(one, "errors", stats[i].errors);
                json_add_uint(one, "bytes", stats[i].bytes);
                json_add(all, stats[i].name, one);
        }
        return all;
}

static char *stats_text(void *arg)
{
        const struct serving *s = arg;
        const struct mount_request *r = s->request;
        struct uext4_stats library;
        json_t *top = json_object();
        char *text;

        uext4_get_stats(s->fs, &library);
        json_add_text(top, "directory", r->dir);
        json_add_text(top, "source", r->source);
        json_add_text(top, "options", r->options.library);
        json_add_uint(top, "pid", (uint64_t)getpid());
        json_add_uint(top, "seconds", (uint64_t)(time(NULL) - s->since));
        json_add_bool(top, "sandbox", s->in_sandbox);
        json_add(top, "requests", server_stats(s));
        json_add(top, "library", stats_json(&library));
        text = json_dumps(top, JSON_COMPACT);
        json_decref(top);
        return text;
}

/* ---- all of it ----------------------------------------------------------------------- */

static int prepare(struct serving *s)
{
        int status = open_device(s);

        if (status != CLI_OK)
                return status;
        s->detach_fd = mount_prepare_detach(s->request);
        /* Each thread has two channels. */
        cli_raise_file_limit();
        json_object_seed(0); /* from a file; later it could not be read */
        /* While the kernel writes back to us, memory for us must not wait for that. */
        (void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
        if (!open_channel(s) || !enter_sandbox(s))
                return CLI_FAILED;
        mask_signals(SIG_BLOCK);
        status = mount_fs(s);
        if (status != CLI_OK)
                return status;
        if (chdir("/") < 0) /* so that it keeps nobody's directory busy */
                fail(s, "/", -errno);
        else if (new_server(s) && close_sandbox(s))
                return CLI_OK;
        return CLI_FAILED;
}

static int serve(struct serving *s)
{
        int ret;

        catch_signals(s);
        s->since = time(NULL);
        if (s->control_fd >= 0)
                s->control = mount_control_start(s->control_fd, stats_text, s);
        mount_detach(s->request, s->detach_fd);
        report(s, MOUNT_REPORT_READY, "");
        ret = fuse_server_run(s->server);
        mask_signals(SIG_BLOCK);
        if (ret == 0 && !is_stopped)
                report(s, MOUNT_REPORT_LET_GO, "");
        if (ret < 0)
                mount_say(s->request, LOG_ERR, "the channel has failed: %s", strerror(-ret));
        mount_control_ending(s->control);
        return ret < 0 ? CLI_FAILED : CLI_OK;
}

/* The image is closed last, with its lock: whoever waits for the end may open it. */
static int finish(struct serving *s, int status)
{
        int ret = 0;

        signalled_server = NULL;
        fuse_server_free(s->server);
        if (s->fs)
                ret = uext4_unmount(s->fs);
        if (ret < 0) {
                mount_say(s->request, LOG_ERR, "cannot unmount: %s", cli_strerror(ret));
                status = CLI_FAILED;
        }
        if (ret != -EBUSY)
                close_device(s);
        return status;
}

int mount_serve(struct cli *cli, struct mount_request *request, int report_fd)
{
        struct serving s = {.cli = cli,
                            .request = request,
                            .report = report_fd,
                            .channel = -1,
                            .control_fd = -1,
                            .detach_fd = -1};
        int status;

        monitor = getppid();
        status = prepare(&s);
        if (status == CLI_OK)
                status = serve(&s);
        return finish(&s, status);
}
