/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* change.c - what the commands that change files share. */
#include <errno.h>
#include <fcntl.h>

#include "cli/change.h"

void cli_fail_change(struct cli *cli, const char *name, int err)
{
        if (err == -EROFS)
                cli_fail(cli, name, "Read-only file system (`uext4 info -o rw` says why)");
        else
                cli_fail_errno(cli, name, err);
}

struct uext4_file *cli_open_to_write(struct cli *cli, const struct cli_operand *op)
{
        struct uext4_file *file;
        int ret = uext4_open(op->inode, O_WRONLY, &file);

        if (ret == 0)
                return file;
        if (ret == -EINVAL)
                cli_fail(cli, op->arg, "Not a regular file");
        else
                cli_fail_change(cli, op->arg, ret);
        return NULL;
}
