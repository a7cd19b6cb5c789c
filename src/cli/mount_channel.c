/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount_channel.c - mount(2) and umount2(2), and fusermount3(1) for who may not call them
 * (see mount_channel.h).
 *
 * This is done here, not by libfuse, because the server is in its sandbox before it looks at
 * the image, and because the process that unmounts is not the server.  fusermount3 is
 * set-user-ID: it mounts, and sends the channel through the socket that _FUSE_COMMFD names.
 */
#include "cli/mount_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/mount_options.h"

#define FUSERMOUNT "fusermount3"

/* ---- by ourselves ---------------------------------------------------------- */

static int mount_myself(const struct mount_channel_params *p)
{
        char *type = cli_printf("fuse.%s", p->subtype), *options;
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), ret = fd;

        if (fd >= 0) {
                options = cli_printf("fd=%d,rootmode=40000,user_id=%u,group_id=%u%s%s", fd,
                                     (unsigned)getuid(), (unsigned)getgid(),
                                     p->allow_other ? ",allow_other" : "",
                                     p->default_permissions ? ",default_permissions" : "");
                ret = mount(p->source, p->dir, type, p->flags, options);
                free(options);
        }
        free(type);
        if (ret >= 0)
                return fd;
        ret = -errno;
        if (fd >= 0)
                close(fd);
        return ret;
}

/* ---- by fusermount3 -------------------------------------------------------- */

/* In the child: it and its messages, in English, where somebody looks for words in them. */
static _Noreturn void exec_fusermount(char **argv)
{
        setenv("LC_ALL", "C", 1);
        execvp(argv[0], argv);
        fprintf(stderr, "uext4: %s: %s\n", argv[0], strerror(errno));
        _exit(127);
}

static int wait_for(pid_t pid)
{
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* A comma in a name would end the option there. */
static char *escape_commas(const char *text)
{
        char *escaped = cli_alloc(2 * strlen(text) + 1, 1), *to = escaped;

        for (; *text; text++) {
                if (*text == ',' || *text == '\\')
                        *to++ = '\\';
                *to++ = *text;
        }
        return escaped;
}

static char *fusermount_options(const struct mount_channel_params *p)
{
        char *words = mount_options_flag_words(p->flags), *name = escape_commas(p->source);
        char *options =
                cli_printf("fsname=%s,subtype=%s%s%s%s%s", name, p->subtype, *words ? "," : "",
                           words, p->allow_other ? ",allow_other" : "",
                           p->default_permissions ? ",default_permissions" : "");

        free(words);
        free(name);
        return options;
}

/* The descriptor in the first message of the socket; -EPERM when none comes. */
static int receive_descriptor(int sock)
{
        char byte, control[CMSG_SPACE(sizeof(int))];
        struct iovec iov = {&byte, 1};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
        struct cmsghdr *cmsg;
        ssize_t n;
        int fd;

        do {
                n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
        } while (n < 0 && errno == EINTR);
        cmsg = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
        if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
                return -EPERM;
        memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
        return fd;
}

static int mount_by_fusermount(const struct mount_channel_params *p)
{
        char *options = fusermount_options(p), *dir = cli_strdup(p->dir);
        char program[] = FUSERMOUNT, o[] = "-o", end[] = "--";
        char *argv[] = {program, o, options, end, dir, NULL};
        int sock[2], fd = -1;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, sock) < 0)
                return -errno;
        pid = fork();
        if (pid == 0) {
                char *number = cli_printf("%d", sock[0]);

                close(sock[1]);
                setenv("_FUSE_COMMFD", number, 1);
                exec_fusermount(argv);
        }
        close(sock[0]);
        if (pid > 0) {
                fd = receive_descriptor(sock[1]);
                (void)wait_for(pid); /* that it has sent a channel says enough */
        }
        close(sock[1]);
        free(options);
        free(dir);
        return pid < 0 ? -EAGAIN : fd;
}

int mount_channel_open(const struct mount_channel_params *params)
{
        int ret = mount_myself(params);

        if (ret == -EPERM || ret == -EACCES)
                ret = mount_by_fusermount(params);
        return ret;
}

/* ---- unmounting ------------------------------------------------------------ */

/* All of it, cut to what there is room for, without the newline. */
static void read_text(int fd, char ret_text[static MOUNT_CHANNEL_TEXT])
{
        size_t len = 0;
        char rest[64];
        ssize_t n;

        while ((n = read(fd, rest, sizeof(rest))) > 0 || (n < 0 && errno == EINTR)) {
                for (ssize_t i = 0; i < n && len < MOUNT_CHANNEL_TEXT - 1; i++)
                        ret_text[len++] = rest[i];
        }
        ret_text[len] = '\0';
        ret_text[strcspn(ret_text, "\n")] = '\0';
}

static int unmount_by_fusermount(const char *name, bool lazy,
                                 char ret_text[static MOUNT_CHANNEL_TEXT])
{
        char program[] = FUSERMOUNT, u[] = "-u", z[] = "-uz", end[] = "--";
        char *dir = cli_strdup(name);
        char *argv[] = {program, lazy ? z : u, end, dir, NULL};
        int out[2], ret;
        pid_t pid;

        if (pipe2(out, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid == 0) {
                dup2(out[1], STDERR_FILENO);
                exec_fusermount(argv);
        }
        close(out[1]);
        read_text(out[0], ret_text);
        close(out[0]);
        free(dir);
        ret = pid < 0 ? -EAGAIN : wait_for(pid);
        return ret < 0 && strstr(ret_text, "busy") ? -EBUSY : ret;
}

int mount_channel_close(const char *dir, bool lazy, char ret_text[static MOUNT_CHANNEL_TEXT])
{
        ret_text[0] = '\0';
        if (umount2(dir, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
                return 0;
        if (errno != EPERM)
                return -errno;
        return unmount_by_fusermount(dir, lazy, ret_text);
}
