/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_MOUNT_CHANNEL_H
#define UEXT4_CLI_MOUNT_CHANNEL_H

/*
 * mount_channel.h - the kernel's side of a mount: the channel that its requests come from, and
 * taking it down.  By mount(2) where that is allowed, else by fusermount3(1).
 */

#include <stdbool.h>
#include <stddef.h>

struct mount_channel_params {
        const char *dir, *source;
        const char *subtype;
        unsigned long flags; /* MS_* */
        bool allow_other, default_permissions;
};

/*
 * Mount, and return the channel's descriptor, with which the server begins; -errno.  What
 * fusermount3 has to say it says to stderr.  Until the server answers, whoever looks at the
 * directory waits.
 */
int mount_channel_open(const struct mount_channel_params *params);

/*
 * Unmount: 0, -errno.  -EBUSY: somebody uses it, and it is not `lazy`.  Then what fusermount3
 * said is in `ret_text`, "" for nothing.
 */
#define MOUNT_CHANNEL_TEXT 256
int mount_channel_close(const char *dir, bool lazy, char ret_text[static MOUNT_CHANNEL_TEXT]);

#endif
