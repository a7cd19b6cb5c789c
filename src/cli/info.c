/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* info.c - `uext4 info`: what the superblock says. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/text.h"

/* Bits of the superblock's state. */
static const struct {
        uint16_t bit;
        const char *name;
} states[] = {{1, "clean"}, {2, "errors"}, {4, "orphans"}};

#define NR_STATES (sizeof(states) / sizeof(states[0]))

static void print_line(const char *key, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

static void print_line(const char *key, const char *fmt, ...)
{
        va_list ap;

        printf("%-18s ", key);
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        putchar('\n');
}

static void print_text(const char *key, const char *text)
{
        char *escaped = text_escape(text, strlen(text));

        print_line(key, "%s", *escaped ? escaped : "-");
        free(escaped);
}

static void print_count(const char *key, uint64_t n, const char *behind)
{
        char count[TEXT_COUNT_MAX];

        print_line(key, "%s%s", text_count(count, n), behind);
}

static void print_blocks(const char *key, uint64_t nr, uint32_t block_size)
{
        char count[TEXT_COUNT_MAX], bytes[TEXT_BYTES_MAX];
        uint64_t size;

        if (__builtin_mul_overflow(nr, block_size, &size)) /* a hostile superblock */
                size = UINT64_MAX;
        print_line(key, "%s (%s)", text_count(count, nr), text_bytes(bytes, size));
}

static void print_time(const char *key, int64_t seconds)
{
        char buf[TEXT_TIME_MAX];
        char *dot;

        if (seconds == 0) {
                print_line(key, "-");
                return;
        }
        text_time(buf, (struct timespec){.tv_sec = seconds});
        dot = strchr(buf, '.'); /* the superblock has no parts of a second */
        print_line(key, "%.*s", dot ? (int)(dot - buf) : (int)strlen(buf), buf);
}

static void format_state(char *out, size_t size, uint16_t state)
{
        size_t at = 0;

        out[0] = '\0';
        for (size_t i = 0; i < NR_STATES; i++)
                if (state & states[i].bit)
                        at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "",
                                               states[i].name);
        if (!(state & 1))
                snprintf(out + at, size - at, "%snot clean", at ? ", " : "");
}

static void print_table(const struct uext4_info *info)
{
        char uuid[TEXT_UUID_MAX], state[64];

        text_uuid(uuid, info->uuid);
        format_state(state, sizeof(state), info->state);
        print_text("Label:", info->label);
        print_line("UUID:", "%s", uuid);
        print_text("Last mounted on:", info->last_mounted);
        print_text("Features:", info->features);
        print_line("State:", "%s", state);
        print_line("Journal:", "%s",
                   info->needs_recovery ? "needs recovery" : "needs no recovery");
        print_text("Read-only because:", info->readonly_reason);
        print_line("Revision:", "%" PRIu32, info->revision);
        print_count("Block size:", info->block_size, "");
        if (info->cluster_size != info->block_size)
                print_count("Cluster size:", info->cluster_size, "");
        print_blocks("Blocks:", info->nr_blocks, info->block_size);
        print_blocks("Free blocks:", info->nr_blocks_free, info->block_size);
        print_blocks("Reserved blocks:", info->nr_blocks_reserved, info->block_size);
        print_count("Inodes:", info->nr_inodes, "");
        print_count("Free inodes:", info->nr_inodes_free, "");
        print_count("Inode size:", info->inode_size, "");
        print_count("First inode:", info->first_inode, "");
        print_count("Groups:", info->nr_groups, "");
        print_count("Blocks per group:", info->blocks_per_group, "");
        print_count("Inodes per group:", info->inodes_per_group, "");
        print_count("Mount count:", info->mount_count, "");
        print_time("Created:", info->mkfs_time);
        print_time("Last mounted:", info->mount_time);
        print_time("Last written:", info->write_time);
}

static json_t *state_json(uint16_t state)
{
        json_t *array = json_array();

        for (size_t i = 0; i < NR_STATES; i++)
                if (state & states[i].bit)
                        json_push(array, json_text(states[i].name));
        return array;
}

static void print_json(const struct uext4_info *info)
{
        json_t *top = json_object();
        char uuid[TEXT_UUID_MAX];

        text_uuid(uuid, info->uuid);
        json_add_text(top, "label", info->label);
        json_add_text(top, "uuid", uuid);
        json_add_text(top, "last_mounted", info->last_mounted);
        json_add(top, "features", json_words(info->features));
        json_add(top, "state", state_json(info->state));
        json_add_bool(top, "needs_recovery", info->needs_recovery);
        json_add_text(top, "readonly_reason", info->readonly_reason);
        json_add_uint(top, "revision", info->revision);
        json_add_uint(top, "block_size", info->block_size);
        json_add_uint(top, "cluster_size", info->cluster_size);
        json_add_uint(top, "blocks", info->nr_blocks);
        json_add_uint(top, "blocks_free", info->nr_blocks_free);
        json_add_uint(top, "blocks_reserved", info->nr_blocks_reserved);
        json_add_uint(top, "inodes", info->nr_inodes);
        json_add_uint(top, "inodes_free", info->nr_inodes_free);
        json_add_uint(top, "inode_size", info->inode_size);
        json_add_uint(top, "first_inode", info->first_inode);
        json_add_uint(top, "groups", info->nr_groups);
        json_add_uint(top, "blocks_per_group", info->blocks_per_group);
        json_add_uint(top, "inodes_per_group", info->inodes_per_group);
        json_add_uint(top, "mount_count", info->mount_count);
        json_add(top, "mkfs_time", json_integer(info->mkfs_time));
        json_add(top, "mount_time", json_integer(info->mount_time));
        json_add(top, "write_time", json_integer(info->write_time));
        json_print(top);
}

static void run(struct cli *cli, int argc, char **argv)
{
        bool json;
        const char *uri = cli_one_operand_json(cli, argc, argv, &json);
        struct cli_image *image;
        struct uext4_info info;
        int ret;

        image = cli_image_get(cli, uri);
        if (!image)
                return;
        ret = uext4_get_info(image->fs, &info);
        if (ret < 0)
                cli_fail_errno(cli, uri, ret);
        else if (json)
                print_json(&info);
        else
                print_table(&info);
}

const struct cli_command cli_info = {
        .name = "info",
        .summary = "show what the superblock says",
        .usage = "Usage: uext4 info [OPTION]... IMAGE\n"
                 "Show sizes, counts, features, state and times of a file system, and why it "
                 "is\n"
                 "read-only.\n"
                 "\n"
                 "      --json             print JSON\n",
        .run = run,
};
