/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_MOUNT_HELPER_H
#define UEXT4_CLI_MOUNT_HELPER_H

/*
 * mount_helper.h - the program under the names by which mount(8) and umount(8) call it:
 * mount.uext4, mount.fuse.uext4, umount.uext4, umount.fuse.uext4.  Exit statuses are theirs.
 */

int mount_helper(int argc, char **argv);
int umount_helper(int argc, char **argv);

#endif
