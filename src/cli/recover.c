/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* recover.c - `uext4 recover`: replay the journal of an image in its place. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/json.h"

static void print_text(const struct uext4_recovery *r)
{
        if (!r->was_needed) {
                puts("The journal needs no recovery.");
                return;
        }
        if (r->nr_transactions == 0)
                puts("The journal had no complete transaction.");
        else
                printf("Transactions replayed:  %" PRIu32 ", from %" PRIu32 " on\n",
                       r->nr_transactions, r->first_tid);
        printf("Blocks written:         %" PRIu64 "\n"
               "Revoke records:         %" PRIu64 "\n"
               "Copies revoked:         %" PRIu64 "\n",
               r->nr_blocks, r->nr_revokes, r->nr_skipped);
}

static void print_json(const struct uext4_recovery *r)
{
        json_t *top = json_object();

        json_add_bool(top, "was_needed", r->was_needed);
        json_add_uint(top, "first_transaction", r->first_tid);
        json_add_uint(top, "transactions", r->nr_transactions);
        json_add_uint(top, "blocks", r->nr_blocks);
        json_add_uint(top, "revokes", r->nr_revokes);
        json_add_uint(top, "copies_revoked", r->nr_skipped);
        json_print(top);
}

/* What the library found wrong with the journal stands in the log already. */
static void fail(struct cli *cli, const char *uri, int err)
{
        if (err == -EBUSY)
                cli_fail(cli, uri, "in use: somebody else has it open or mounted");
        else if (err == -EINVAL)
                cli_fail(cli, uri, "cannot recover: no ext4 file system, or wrong options");
        else
                cli_fail(cli, uri, "cannot recover: %s", cli_strerror(err));
}

static void run(struct cli *cli, int argc, char **argv)
{
        bool json;
        const char *uri = cli_one_operand_json(cli, argc, argv, &json);
        const struct uext4_mount_params params = cli_params(cli);
        struct uext4_recovery recovery;
        int ret = uext4_recover(uri, &params, &recovery);

        if (ret < 0)
                fail(cli, uri, ret);
        else if (json)
                print_json(&recovery);
        else
                print_text(&recovery);
}

const struct cli_command cli_recover = {
        .name = "recover",
        .summary = "replay the journal of an image that was not unmounted",
        .usage =
                "Usage: uext4 recover [OPTION]... IMAGE\n"
                "Replay the journal in the image, empty it, and say what was done.  The image\n"
                "must not be in use.  An external journal is named with\n"
                "-o journal_path=PATH.\n"
                "\n"
                "      --json             print JSON\n",
        .run = run,
        .alone = true,
};
