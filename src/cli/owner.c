/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* owner.c - owners as chown(1) spells them (see owner.h). */
#include "cli/owner.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static int parse_id(const char *text, uint32_t *ret_id)
{
        unsigned long long n;
        char *end;

        if (!isdigit((unsigned char)*text))
                return -EINVAL;
        errno = 0;
        n = strtoull(text, &end, 10);
        if (errno || *end || n >= UINT32_MAX) /* the last one means "none" to the host */
                return -EINVAL;
        *ret_id = (uint32_t)n;
        return 0;
}

static int parse_user(const char *text, bool with_group, struct owner *owner)
{
        const struct passwd *pw = getpwnam(text); /* a name may look like a number */

        if (pw) {
                owner->uid = pw->pw_uid;
                owner->gid = with_group ? pw->pw_gid : owner->gid;
                owner->has_gid |= with_group;
        } else if (with_group || parse_id(text, &owner->uid) < 0) {
                return -EINVAL;
        }
        owner->has_uid = true;
        return 0;
}

static int parse_group(const char *text, struct owner *owner)
{
        const struct group *gr = getgrnam(text);

        if (gr)
                owner->gid = gr->gr_gid;
        else if (parse_id(text, &owner->gid) < 0)
                return -EINVAL;
        owner->has_gid = true;
        return 0;
}

int owner_parse(const char *text, struct owner *ret_owner)
{
        const char *colon = strchr(text, ':');
        char *user = cli_printf("%.*s", (int)(colon ? colon - text : (long)strlen(text)), text);
        struct owner owner = {0};
        int ret = 0;

        if (*user)
                ret = parse_user(user, colon && !colon[1], &owner);
        if (ret == 0 && colon && colon[1])
                ret = parse_group(colon + 1, &owner);
        if (!owner.has_uid && !owner.has_gid)
                ret = -EINVAL;
        free(user);
        if (ret == 0)
                *ret_owner = owner;
        return ret;
}
