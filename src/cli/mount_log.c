/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mount_log.c - messages of the processes of a mount, and leaving the terminal (see mount.h).
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

#include "cli/mount.h"

void mount_log_line(void *arg, int level, const char *text)
{
        const struct mount_request *request = arg;

        if (level >= LOG_DEBUG && !request->verbose)
                return;
        if (request->logs_to_syslog)
                syslog(level, "%s: %s", request->dir, text);
        else
                fprintf(stderr, "uext4: mount: %s: %s\n", request->dir, text);
}

void mount_say(const struct mount_request *request, int level, const char *fmt, ...)
{
        struct mount_request to = *request;
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        mount_log_line(&to, level, text);
}

/* The connection to the log, too: in the sandbox there is no other one. */
int mount_prepare_detach(const struct mount_request *request)
{
        if (request->foreground)
                return -1;
        openlog("uext4", LOG_PID | LOG_NDELAY, LOG_DAEMON);
        return open("/dev/null", O_RDWR | O_CLOEXEC);
}

void mount_detach(struct mount_request *request, int fd)
{
        if (request->foreground)
                return;
        request->logs_to_syslog = true;
        setsid(); /* signals of the terminal are not for us */
        if (chdir("/") < 0 || fd < 0)
                return;
        for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
                dup2(fd, i);
        if (fd > STDERR_FILENO)
                close(fd);
}
