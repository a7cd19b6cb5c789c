/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_MOUNT_CONTROL_H
#define UEXT4_CLI_MOUNT_CONTROL_H

/*
 * mount_control.h - talking to the server of a mount.
 *
 * Its socket has the abstract name "uext4/DEVICE" after the number of the mounted file
 * system: nothing stays behind, whatever becomes of the server.  Packets, and only root and who
 * mounted it are listened to.  A client
 *
 *   - sends "stats" and gets a JSON object;
 *   - or sends nothing and waits: "ending" comes when the kernel has let the file system go,
 *     and the end of the connection when the process is gone, and the image closed.
 */

#include <stdbool.h>

#include "cli/mount_point.h"

/* ---- the server ----------------------------------------------------------- */

struct mount_control;

/* The socket, to be opened before the sandbox: a descriptor or -errno. */
int mount_control_listen(const char *device);

/*
 * Serve it by a thread.  `stats` returns text that is freed; it is not running any more when
 * mount_control_ending() returns.  NULL when memory or threads are short.
 */
struct mount_control *mount_control_start(int fd, char *(*stats)(void *arg), void *arg);

/* The kernel has let go of the file system: from now on there are no statistics.  NULL is fine.
 * The connections end with the process. */
void mount_control_ending(struct mount_control *control);

/* ---- the client ----------------------------------------------------------- */

/* A connection to the server of a mount: a descriptor or -errno, -ECONNREFUSED for none. */
int mount_control_connect(const struct mount_point *mount);

/* The server's process, 0 for none that can be seen from here. */
pid_t mount_control_peer(int fd);

/* What the server says to "stats", to be freed; NULL when it does not answer. */
char *mount_control_stats(int fd);

/*
 * Wait until the server is gone: true.  False: the kernel still has the file system after
 * `timeout_ms`.
 */
bool mount_control_wait(int fd, int timeout_ms);

#endif
