/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_MOUNT_H
#define UEXT4_CLI_MOUNT_H

/*
 * mount.h - the processes of a mount.
 *
 *      command -> monitor -> server
 *
 * The command waits until all is ready and ends; in the foreground it is the monitor itself.
 * The server has the image and the kernel's requests, and is in the sandbox; it can do nothing
 * but serve.  The monitor never sees a byte of the image.  It waits for signals and for the
 * server's end, and unmounts, which the server may not; so a server that dies leaves no
 * dead directory behind.  When it is the monitor that dies the server goes on until
 * somebody unmounts.
 */

#include <stdbool.h>

#include "cli/cli.h"
#include "cli/mount_options.h"

struct mount_request {
        const char *image; /* URI */
        char *dir;         /* absolute */
        char *source;      /* as mountinfo shall show it */
        struct mount_options options;
        bool foreground; /* no process stays behind, and messages go to stderr */
        bool verbose;
        bool logs_to_syslog; /* this process has no stderr any more */
};

/* Of the server, and of all: exit statuses beside those of the command. */
enum {
        MOUNT_TRY_READ_ONLY = 3, /* the server: it was to write, and cannot; try without */
};

/* What the server tells the monitor through a pipe, once each, in this order. */
enum mount_report_what {
        MOUNT_REPORT_MOUNTED, /* from now on the directory must be taken care of */
        MOUNT_REPORT_READY,
        MOUNT_REPORT_LET_GO, /* it is mounted nowhere any more */
};

#define MOUNT_DEVICE_MAX 32

struct mount_report {
        enum mount_report_what what;
        char device[MOUNT_DEVICE_MAX]; /* MOUNTED: "0:53", "" if it is not known */
};

/* Mount, and come back when it is ready, or in the foreground when it is over: the exit
 * status, with all said. */
int mount_start(struct cli *cli, struct mount_request *request);

/* The monitor tells the server to stop at once, without unmounting. */
#define MOUNT_STOP_SIGNAL SIGUSR1

/* Be the server: the process' exit status.  `report` is the pipe. */
int mount_serve(struct cli *cli, struct mount_request *request, int report);

/* A line of the library, or of ours: to stderr, or to syslog(3); `arg` is the request. */
void mount_log_line(void *arg, int level, const char *text);
void mount_say(const struct mount_request *request, int level, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/*
 * Leave the terminal for the background: what must be opened for that, and then, when all is
 * ready, the step.  In the foreground they do nothing.
 */
int mount_prepare_detach(const struct mount_request *request); /* a descriptor or -1 */
void mount_detach(struct mount_request *request, int fd);

#endif
