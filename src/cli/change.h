/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_CHANGE_H
#define UEXT4_CLI_CHANGE_H

/* change.h - what the commands that change files share. */

#include "cli/cli.h"

/* Open the operand for writing; what goes wrong is said, and NULL returned. */
struct uext4_file *cli_open_to_write(struct cli *cli, const struct cli_operand *op);

/* Say why the operand could not be changed. */
void cli_fail_change(struct cli *cli, const char *name, int err);

#endif
