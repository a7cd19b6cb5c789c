/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* override.c - what copies are given instead of what their sources have (see override.h). */
#include "cli/override.h"

#include <sys/stat.h>

#include "cli/change.h"
#include "cli/date.h"
#include "cli/owner.h"

void override_init(struct override *v, struct cli *cli)
{
        *v = (struct override){0};
        v->reproducible = date_epoch(cli, &v->epoch);
}

void override_done(struct override *v)
{
        mode_done(&v->mode);
}

bool override_option(struct override *v, struct cli *cli, int opt, const char *value)
{
        struct owner owner;

        switch (opt) {
        case OPT_OWNER:
                if (owner_parse(value, &owner) < 0)
                        cli_usage_error(cli, "invalid --owner: '%s'", value);
                v->has_uid |= owner.has_uid;
                v->has_gid |= owner.has_gid;
                v->uid = owner.uid;
                v->gid = owner.gid;
                return true;
        case OPT_MODE:
                mode_done(&v->mode);
                if (mode_parse(value, cli_umask(), &v->mode) < 0)
                        cli_usage_error(cli, "invalid --mode: '%s'", value);
                return true;
        case OPT_MTIME:
                if (date_parse(value, &v->mtime) < 0)
                        cli_usage_error(cli, "invalid --mtime: '%s'", value);
                v->has_mtime = true;
                return true;
        default:
                return false;
        }
}

static void clamp(struct timespec *ts, int64_t epoch)
{
        if (ts->tv_sec >= epoch)
                *ts = (struct timespec){.tv_sec = epoch};
}

void override_apply(const struct override *v, struct uext4_stat *st)
{
        if (v->has_uid)
                st->uid = v->uid;
        if (v->has_gid)
                st->gid = v->gid;
        if (v->mode.nr > 0 && !S_ISLNK(st->mode))
                st->mode = mode_apply(&v->mode, st->mode);
        if (v->has_mtime)
                st->mtime = st->atime = v->mtime;
        if (v->reproducible) {
                clamp(&st->mtime, v->epoch);
                st->atime = st->mtime;
        }
}
