/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_OWNER_H
#define UEXT4_CLI_OWNER_H

/* owner.h - owners as chown(1) spells them. */

#include <stdbool.h>
#include <stdint.h>

struct owner {
        bool has_uid, has_gid;
        uint32_t uid, gid;
};

/*
 * "OWNER", "OWNER:GROUP", "OWNER:" (the group of that user) or ":GROUP": numbers, or names of
 * the host.  -EINVAL.
 */
int owner_parse(const char *text, struct owner *ret_owner);

#endif
