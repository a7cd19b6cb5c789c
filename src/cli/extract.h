/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_EXTRACT_H
#define UEXT4_CLI_EXTRACT_H

/* extract.h - a file or a tree of an image becomes one of the host. */

#include "cli/cli.h"

struct extract {
        bool force, no_clobber;

        /* The target: an entry `name` of the directory, or, with NULL, the directory itself. */
        int dir;
        char *name;
        char *local; /* its path, for -v */
};

/* What fails is said, and the rest goes on. */
void extract_tree(struct cli *cli, const struct extract *to, const struct cli_operand *op);

#endif
