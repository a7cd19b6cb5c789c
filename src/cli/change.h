/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_CHANGE_H
#define UEXT4_CLI_CHANGE_H

/* change.h - what the commands that change files share. */

#include "cli/cli.h"

/* Open the operand for writing; what goes wrong is said, and NULL returned. */
struct uext4_file *cli_open_to_write(struct cli *cli, const struct cli_operand *op);

/* Say why the operand could not be changed. */
void cli_fail_change(struct cli *cli, const char *name, int err);

/*
 * Call the function for each operand, and with `recursive` for all that is below; a symlink at
 * an operand's end is followed unless told otherwise.  What cannot be had is said.
 */
struct cli_each {
        bool recursive;
        enum cli_follow follow;
        void (*change)(struct cli *cli, const char *name, struct uext4_inode *inode,
                       const struct uext4_stat *st, void *arg);
        void *arg;
};

void cli_change_each(struct cli *cli, const struct cli_each *each, char **operands, int nr);

/*
 * The attributes of a file that is only looked at: of the host, or IMAGE:/PATH, which in a
 * shell need not be given so.  On failure it is said and false returned.
 */
bool cli_reference(struct cli *cli, const char *arg, struct uext4_stat *ret_st);

/* For -v, on stdout: "VERB 'FROM'", "VERB 'FROM' -> 'TO'", without the verb when it is NULL. */
void cli_say_name(const char *verb, const char *from, const char *to);

/* The name in quotes, escaped; to be freed. */
char *cli_quote(const char *name);

/* umask(2), to look at. */
uint32_t cli_umask(void);

#endif
