/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_MOUNT_SOCKET_H
#define UEXT4_CLI_MOUNT_SOCKET_H

/* mount_socket.h - what both ends of the control socket know (see mount_control.h). */

#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MOUNT_SOCKET_STATS  "stats"
#define MOUNT_SOCKET_ENDING "ending"

static inline socklen_t mount_socket_name(const char *device, struct sockaddr_un *ret_name)
{
        int n;

        *ret_name = (struct sockaddr_un){.sun_family = AF_UNIX};
        /* From the second byte on: an abstract name. */
        n = snprintf(ret_name->sun_path + 1, sizeof(ret_name->sun_path) - 1, "uext4/%s",
                     device);
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

#endif
