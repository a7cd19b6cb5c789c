/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount_watch.c - the command and the monitor (see mount.h).
 *
 * The monitor has its signals blocked and fetches them: SIGTERM and its like unmount, in a
 * child that may wait for the server as long as that takes; when the directory is busy what is
 * written is made durable, the mount is detached, and the server told to stop.  A second such
 * signal does not wait.  SIGCHLD is the child's end, or the server's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "cli/mount.h"
#include "cli/mount_channel.h"
#include "cli/mount_point.h"

struct monitor {
        struct cli *cli;
        struct mount_request *request;
        pid_t server;
        pid_t unmounter;               /* 0: none */
        int ready;                     /* pipe to the command, -1 in the foreground */
        int reports;                   /* pipe from the server, while there is one */
        char device[MOUNT_DEVICE_MAX]; /* "": not mounted */
};

/* Those that the monitor fetches. */
static sigset_t our_signals(void)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        return set;
}

/* ---- the directory --------------------------------------------------------- */

/* What is mounted there is ours. */
static bool is_mounted(const struct monitor *m)
{
        struct mount_point mount;
        bool is_ours;

        if (!m->device[0] || !mount_point_find(m->request->dir, &mount))
                return false;
        is_ours = strcmp(mount.device, m->device) == 0;
        mount_point_free(&mount);
        return is_ours;
}

static void detach(const struct monitor *m)
{
        char text[MOUNT_CHANNEL_TEXT];

        if (is_mounted(m))
                (void)mount_channel_close(m->request->dir, true, text);
}

/* In a child: 0 when nothing is mounted there any more. */
static int unmount(const struct monitor *m)
{
        char text[MOUNT_CHANNEL_TEXT];
        int ret = is_mounted(m) ? mount_channel_close(m->request->dir, false, text) : 0;
        int fd;

        if (ret != -EBUSY)
                return ret;
        fd = open(m->request->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
                (void)syncfs(fd); /* its error reached who wrote, or will */
                close(fd);
        }
        return mount_channel_close(m->request->dir, true, text);
}

/* ---- the server ------------------------------------------------------------- */

/* 0, and its reports can be read, or -errno. */
static int start_server(struct monitor *m, const sigset_t *signals)
{
        int report[2];

        if (pipe2(report, O_CLOEXEC) < 0)
                return -errno;
        fflush(stdout);
        m->server = fork();
        if (m->server == 0) {
                close(report[0]);
                if (m->ready >= 0)
                        close(m->ready);
                sigprocmask(SIG_SETMASK, signals, NULL);
                exit(mount_serve(m->cli, m->request, report[1]));
        }
        close(report[1]);
        m->reports = report[0];
        return m->server < 0 ? -EAGAIN : 0;
}

/*
 * The next one, or false when the server has ended.  What is mounted nowhere any more is not to
 * be looked for: its number may be that of another mount by now.
 */
static bool next_report(struct monitor *m, struct mount_report *ret_report)
{
        ssize_t n;

        do {
                n = read(m->reports, ret_report, sizeof(*ret_report));
        } while (n < 0 && errno == EINTR);
        if (n != sizeof(*ret_report))
                return false;
        if (ret_report->what == MOUNT_REPORT_MOUNTED)
                snprintf(m->device, sizeof(m->device), "%s", ret_report->device);
        else if (ret_report->what == MOUNT_REPORT_LET_GO)
                m->device[0] = '\0';
        return true;
}

/* The server has ended: what it said last, and what it left. */
static void clean_up(struct monitor *m)
{
        struct mount_report report;

        while (next_report(m, &report))
                ;
        close(m->reports);
        detach(m);
        m->device[0] = '\0';
}

/* The server's exit status; how it died is said. */
static int exit_status(struct monitor *m, int status)
{
        if (WIFEXITED(status))
                return WEXITSTATUS(status);
        mount_say(m->request, LOG_ERR,
                  "the server has died of signal %d; the next mount recovers the image",
                  WTERMSIG(status));
        return CLI_FAILED;
}

/* Start it and wait until it is ready: CLI_OK, or its exit status when it is not. */
static int try_to_start(struct monitor *m, const sigset_t *signals)
{
        int ret = start_server(m, signals), status;
        struct mount_report report;

        if (ret < 0) {
                cli_fail_errno(m->cli, m->request->dir, ret);
                return CLI_FAILED;
        }
        while (next_report(m, &report))
                if (report.what == MOUNT_REPORT_READY)
                        return CLI_OK;
        while (waitpid(m->server, &status, 0) < 0 && errno == EINTR)
                ;
        clean_up(m);
        status = exit_status(m, status);
        return status == CLI_OK ? CLI_FAILED : status;
}

/* An image that cannot be written is mounted again without, so that the kernel knows. */
static int start(struct monitor *m, const sigset_t *signals)
{
        struct mount_options *o = &m->request->options;
        const char *why;
        int status = try_to_start(m, signals);

        if (status != MOUNT_TRY_READ_ONLY)
                return status;
        (void)mount_options_parse(o, "ro", &why);
        status = try_to_start(m, signals);
        return status == MOUNT_TRY_READ_ONLY ? CLI_FAILED : status;
}

/* ---- the monitor ------------------------------------------------------------- */

static void stop_server(const struct monitor *m)
{
        kill(m->server, MOUNT_STOP_SIGNAL);
}

static void on_stop(struct monitor *m)
{
        if (m->unmounter > 0) { /* the second time */
                detach(m);
                stop_server(m);
                return;
        }
        m->unmounter = fork();
        if (m->unmounter == 0)
                _exit(unmount(m) < 0 ? 1 : 0);
        if (m->unmounter < 0)
                stop_server(m);
}

/* Collect who has ended; false when it was the server, with its status. */
static bool on_child(struct monitor *m, int *ret_status)
{
        bool alive = true;
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                if (pid == m->server) {
                        *ret_status = status;
                        alive = false;
                } else if (pid == m->unmounter) {
                        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                                m->device[0] = '\0';
                        if (alive)
                                stop_server(m); /* somebody may have it open still */
                }
        }
        return alive;
}

/* Until the server ends: the exit status. */
static int watch(struct monitor *m)
{
        const sigset_t set = our_signals();
        int status = 0, signal;
        bool alive = true;

        while (alive) {
                if (sigwait(&set, &signal) != 0)
                        continue;
                if (signal == SIGCHLD)
                        alive = on_child(m, &status);
                else
                        on_stop(m);
        }
        clean_up(m);
        return exit_status(m, status);
}

/* Who has asked is gone: then it is not wanted any more. */
static void tell_the_command(struct monitor *m, int status)
{
        const char byte = (char)status;
        ssize_t n;

        do {
                n = write(m->ready, &byte, 1);
        } while (n < 0 && errno == EINTR);
        close(m->ready);
        if (n != 1 && status == CLI_OK)
                raise(SIGTERM);
}

/* The exit status. */
static int be_monitor(struct monitor *m)
{
        int fd = mount_prepare_detach(m->request), status;
        const sigset_t set = our_signals();
        sigset_t old;

        sigprocmask(SIG_BLOCK, &set, &old);
        status = start(m, &old);
        if (status == CLI_OK)
                mount_detach(m->request, fd);
        if (m->ready >= 0)
                tell_the_command(m, status);
        return status == CLI_OK ? watch(m) : status;
}

/* ---- the command -------------------------------------------------------------- */

static int wait_until_ready(struct cli *cli, const struct mount_request *request, int fd)
{
        char status;
        ssize_t n;

        do {
                n = read(fd, &status, 1);
        } while (n < 0 && errno == EINTR);
        close(fd);
        if (n == 1)
                return status;
        cli_fail(cli, request->dir, "the process that was to mount it has died");
        return CLI_FAILED;
}

/* What a script has open, a lock perhaps, is not for a process that stays.  But for one. */
static void close_inherited(int keep)
{
        if (keep > STDERR_FILENO + 1)
                (void)close_range(STDERR_FILENO + 1, (unsigned)keep - 1, 0);
        (void)close_range((unsigned)keep + 1, UINT_MAX, 0);
}

static int start_in_background(struct monitor *m)
{
        int ready[2];
        pid_t pid;

        if (pipe2(ready, O_CLOEXEC) < 0 || (fflush(stdout), pid = fork()) < 0) {
                cli_fail(m->cli, m->request->dir, "cannot start: %s", strerror(errno));
                return CLI_FAILED;
        }
        if (pid == 0) {
                close(ready[0]);
                close_inherited(ready[1]);
                signal(SIGPIPE, SIG_IGN);
                m->ready = ready[1];
                exit(be_monitor(m));
        }
        close(ready[1]);
        return wait_until_ready(m->cli, m->request, ready[0]);
}

int mount_start(struct cli *cli, struct mount_request *request)
{
        struct monitor m = {.cli = cli, .request = request, .ready = -1};

        return request->foreground ? be_monitor(&m) : start_in_background(&m);
}
