/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* change.c - what the commands that change files share. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/object.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/walk.h"

char *cli_quote(const char *name)
{
        char *text = text_escape(name, strlen(name)), *quoted = cli_printf("'%s'", text);

        free(text);
        return quoted;
}

void cli_say_name(const char *verb, const char *from, const char *to)
{
        char *a = cli_quote(from), *b = to ? cli_quote(to) : NULL;

        progress_hide();
        printf("%s%s%s%s%s\n", verb ? verb : "", verb ? " " : "", a, b ? " -> " : "",
               b ? b : "");
        free(a);
        free(b);
}

uint32_t cli_umask(void)
{
        mode_t mask = umask(0);

        umask(mask);
        return mask;
}

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

bool cli_reference(struct cli *cli, const char *arg, struct uext4_stat *ret_st)
{
        struct cli_operand op;
        struct object o;
        int ret;

        if (!cli->shell && !arg[cli_operand_split(arg)]) {
                ret = object_of_host(AT_FDCWD, arg, true, NULL, &o);
                if (ret < 0)
                        cli_fail_errno(cli, arg, ret);
                else
                        *ret_st = o.st;
                return ret == 0;
        }
        if (!cli_operand_open(cli, arg, CLI_FOLLOW, &op))
                return false;
        *ret_st = op.st;
        cli_operand_close(&op);
        return true;
}

static void change_tree(struct cli *cli, const struct cli_each *each,
                        const struct cli_operand *op)
{
        struct walk *walk = walk_new(op->image->fs, op->inode);
        struct walk_item item;

        if (progress_wanted())
                progress_start_files(walk_count(op->image->fs, op->inode));
        while (walk_next(walk, &item) > 0) {
                char *name = cli_operand_name(op, item.path);

                if (item.event == WALK_ERROR || (item.event == WALK_ENTER && item.error < 0))
                        cli_fail(cli, name, "%s",
                                 item.what ? item.what : cli_strerror(item.error));
                /* A directory when all in it is done: what it allows may be taken away. */
                if (item.event == WALK_FILE || item.event == WALK_LEAVE) {
                        each->change(cli, name, item.inode, &item.st, each->arg);
                        progress_add(1);
                }
                free(name);
        }
        progress_stop();
        walk_free(walk);
}

void cli_change_each(struct cli *cli, const struct cli_each *each, char **operands, int nr)
{
        for (int i = 0; i < nr; i++) {
                struct cli_operand op;

                if (!cli_operand_open(cli, operands[i], each->follow, &op))
                        continue;
                if (each->recursive && S_ISDIR(op.st.mode))
                        change_tree(cli, each, &op);
                else
                        each->change(cli, op.arg, op.inode, &op.st, each->arg);
                cli_operand_close(&op);
        }
}
