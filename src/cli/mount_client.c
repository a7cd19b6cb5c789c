/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mount_client.c - the client's end of the control socket (see mount_control.h). */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/mount_control.h"
#include "cli/mount_socket.h"

#define MAX_PACKET (128u << 10)

/* A server that does not answer such a question is not well. */
#define STATS_TIMEOUT_MS 10000

/* Anybody may take the name; only who mounted it, or root, speaks for a mount. */
static bool speaks_for(int fd, const struct mount_point *mount)
{
        struct ucred peer;
        socklen_t len = sizeof(peer);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
               (peer.uid == mount->owner || peer.uid == 0);
}

pid_t mount_control_peer(int fd)
{
        struct ucred peer;
        socklen_t len = sizeof(peer);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 ? peer.pid : 0;
}

int mount_control_connect(const struct mount_point *mount)
{
        struct sockaddr_un name;
        socklen_t len = mount_socket_name(mount->device, &name);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), ret = 0;

        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *)&name, len) < 0)
                ret = -errno;
        else if (!speaks_for(fd, mount))
                ret = -ECONNREFUSED;
        if (ret < 0)
                close(fd);
        return ret < 0 ? ret : fd;
}

/* A packet as text, to be freed; NULL at the end of the connection, or when none comes. */
static char *receive(int fd, int timeout_ms)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char *text;
        ssize_t n;
        int ret;

        do {
                ret = poll(&p, 1, timeout_ms);
        } while (ret < 0 && errno == EINTR);
        if (ret <= 0)
                return NULL;
        text = cli_alloc(MAX_PACKET + 1, 1);
        n = recv(fd, text, MAX_PACKET, 0);
        if (n > 0)
                return text;
        free(text);
        return NULL;
}

char *mount_control_stats(int fd)
{
        const char request[] = MOUNT_SOCKET_STATS;

        if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
                return NULL;
        return receive(fd, STATS_TIMEOUT_MS);
}

static bool is_over(int fd)
{
        struct pollfd p = {.fd = fd};

        return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

/* After "ending" it takes as long as it takes. */
bool mount_control_wait(int fd, int timeout_ms)
{
        char *text = receive(fd, timeout_ms);

        if (!text)
                return is_over(fd);
        while (text) {
                free(text);
                text = receive(fd, -1);
        }
        return true;
}
