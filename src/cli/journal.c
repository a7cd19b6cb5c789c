/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * journal.c - `uext4 journal`: what the superblock of the journal says, and a table of what its
 * log holds.  The table is printed as the log is read, so damage in the middle shows where it
 * is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/text.h"

/* Whether blocks have checksums of their own: without them csum_ok says nothing. */
static bool has_checksums(const struct uext4_journal_info *info)
{
        return strstr(info->features, "journal_checksum_v") != NULL;
}

static const char *kind_name(enum uext4_journal_kind kind)
{
        switch (kind) {
        case UEXT4_JOURNAL_BLOCK:
                return "block";
        case UEXT4_JOURNAL_REVOKE:
                return "revoke";
        default:
                return "commit";
        }
}

/* ---- text --------------------------------------------------------------- */

static void print_number(const char *key, uint64_t n)
{
        char count[TEXT_COUNT_MAX];

        printf("%-18s %s\n", key, text_count(count, n));
}

static void print_info(const struct uext4_journal_info *info)
{
        char uuid[TEXT_UUID_MAX];

        printf("%-18s %s\n", "UUID:", text_uuid(uuid, info->uuid));
        printf("%-18s %s\n", "Features:", info->features[0] ? info->features : "-");
        print_number("Block size:", info->block_size);
        print_number("Blocks:", info->nr_blocks);
        if (info->nr_fast_commit_blocks)
                print_number("Fast commits:", info->nr_fast_commit_blocks);
        printf("%-18s blocks %" PRIu32 " to %" PRIu32 "\n", "Log:", info->first,
               info->last - 1);
        if (info->error)
                printf("%-18s %s\n", "Error:", strerror((int)info->error));
        if (info->start)
                printf("%-18s block %" PRIu32 ", transaction %" PRIu32 "\n",
                       "Begins at:", info->start, info->sequence);
        else
                printf("%-18s transaction %" PRIu32 "\n", "Next is:", info->sequence);
        print_number("Transactions:", info->nr_transactions);
}

static const char *csum_text(const struct uext4_journal_entry *e, bool has_csum)
{
        if (!has_csum)
                return "-";
        return e->csum_ok ? "ok" : "wrong";
}

static void print_entry(const struct uext4_journal_entry *e, bool has_csum)
{
        char time[TEXT_TIME_MAX], block[24] = "-";
        const char *note = e->escaped ? "  escaped" : "";

        if (e->kind != UEXT4_JOURNAL_COMMIT)
                snprintf(block, sizeof(block), "%" PRIu64, e->fs_block);
        printf("%11" PRIu32 " %9" PRIu32 "  %-6s %12s  %-5s", e->tid, e->log_block,
               kind_name(e->kind), block, csum_text(e, has_csum));
        if (e->kind == UEXT4_JOURNAL_COMMIT) {
                text_time(time,
                          (struct timespec){.tv_sec = (time_t)e->sec, .tv_nsec = e->nsec});
                printf("  %s", time);
        }
        printf("%s%s\n", note, e->complete ? "" : "  incomplete");
}

static int print_log(struct uext4_journal *journal, const struct uext4_journal_info *info)
{
        struct uext4_journal_entry entry;
        bool has_csum = has_checksums(info), any = false;
        int ret;

        while ((ret = uext4_journal_next(journal, &entry)) > 0) {
                if (!any)
                        printf("\n%11s %9s  %-6s %12s  %-5s\n", "TRANSACTION", "LOG BLOCK",
                               "KIND", "BLOCK", "CSUM");
                any = true;
                print_entry(&entry, has_csum);
        }
        if (ret == 0)
                printf("\nThe log ends here: %s.\n", info->end);
        return ret;
}

/* ---- JSON --------------------------------------------------------------- */

static json_t *entry_json(const struct uext4_journal_entry *e, bool has_csum)
{
        json_t *object = json_object();

        json_add_text(object, "kind", kind_name(e->kind));
        json_add_uint(object, "transaction", e->tid);
        json_add_uint(object, "log_block", e->log_block);
        if (e->kind != UEXT4_JOURNAL_COMMIT)
                json_add_uint(object, "block", e->fs_block);
        if (e->kind == UEXT4_JOURNAL_BLOCK)
                json_add_bool(object, "escaped", e->escaped);
        json_add(object, "checksum_ok", has_csum ? json_boolean(e->csum_ok) : json_null());
        json_add_bool(object, "complete", e->complete);
        if (e->kind == UEXT4_JOURNAL_COMMIT) {
                json_add(object, "sec", json_integer(e->sec));
                json_add_uint(object, "nsec", e->nsec);
        }
        return object;
}

static int print_json(struct uext4_journal *journal, const struct uext4_journal_info *info)
{
        json_t *top = json_object(), *entries = json_array();
        char uuid[TEXT_UUID_MAX];
        struct uext4_journal_entry entry;
        int ret;

        json_add_text(top, "uuid", text_uuid(uuid, info->uuid));
        json_add(top, "features", json_words(info->features));
        json_add_uint(top, "block_size", info->block_size);
        json_add_uint(top, "blocks", info->nr_blocks);
        json_add_uint(top, "fast_commit_blocks", info->nr_fast_commit_blocks);
        json_add_uint(top, "first", info->first);
        json_add_uint(top, "last", info->last);
        json_add_uint(top, "error", info->error);
        json_add_uint(top, "start", info->start);
        json_add_uint(top, "sequence", info->sequence);
        json_add_uint(top, "transactions", info->nr_transactions);
        while ((ret = uext4_journal_next(journal, &entry)) > 0)
                json_push(entries, entry_json(&entry, has_checksums(info)));
        json_add(top, "entries", entries);
        json_add_text(top, "end", info->end);
        json_print(top);
        return ret;
}

/* ---- the command -------------------------------------------------------- */

static void fail(struct cli *cli, const char *uri, int err)
{
        if (err == -EINVAL)
                cli_fail(cli, uri, "cannot read it: no ext4 file system, or wrong options");
        else if (err == -ENODATA)
                cli_fail(cli, uri, "it has no journal");
        else
                cli_fail_errno(cli, uri, err);
}

static void show(struct cli *cli, const char *uri, bool json)
{
        const struct uext4_mount_params params = cli_params(cli);
        struct uext4_journal *journal;
        struct uext4_journal_info info;
        int ret = uext4_journal_open(uri, &params, &journal);

        if (ret < 0) {
                fail(cli, uri, ret);
                return;
        }
        uext4_journal_get_info(journal, &info);
        if (json) {
                ret = print_json(journal, &info);
        } else {
                print_info(&info);
                ret = print_log(journal, &info);
        }
        if (ret < 0)
                fail(cli, uri, ret);
        uext4_journal_close(journal);
}

static void run(struct cli *cli, int argc, char **argv)
{
        bool json;
        const char *uri = cli_one_operand_json(cli, argc, argv, &json);

        show(cli, uri, json);
}

const struct cli_command cli_journal = {
        .name = "journal",
        .summary = "list what the journal holds",
        .usage = "Usage: uext4 journal [OPTION]... IMAGE\n"
                 "Show what the journal's superblock says, and what its log holds: the copies "
                 "of\n"
                 "blocks, the revoke records and the commits of each transaction.  Nothing is\n"
                 "changed.  An external journal is named with -o journal_path=PATH.\n"
                 "\n"
                 "      --json             print JSON\n",
        .run = run,
        .alone = true,
};
