/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * main.c - `uext4 COMMAND ...`: the table of commands, and the names of mount helpers.
 *
 * SIGPIPE keeps its default action, so that `uext4 cat ... | head` ends quietly, as cat does;
 * where somebody has it ignored, the failed write is reported.
 */
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/mount_helper.h"

static const struct cli_command *const commands[] = {
        &cli_info,  &cli_ls,     &cli_stat,   &cli_cat,      &cli_find,      &cli_du,
        &cli_df,    &cli_get,    &cli_put,    &cli_tar,      &cli_cp,        &cli_mv,
        &cli_ln,    &cli_rm,     &cli_mkdir,  &cli_chmod,    &cli_chown,     &cli_chattr,
        &cli_touch, &cli_attr,   &cli_trim,   &cli_truncate, &cli_fallocate, &cli_sh,
        &cli_map,   &cli_bench,  &cli_verify, &cli_journal,  &cli_recover,   &cli_exercise,
        &cli_mount, &cli_umount, &cli_stats,
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(void)
{
        fputs("Usage: uext4 COMMAND [OPTION]... IMAGE[:/PATH]...\n"
              "Read, change and mount ext4, ext3 and ext2 images and devices in user space.\n"
              "\n"
              "Commands:\n",
              stdout);
        for (size_t i = 0; i < NR_COMMANDS; i++)
                printf("  %-9s %s\n", commands[i]->name, commands[i]->summary);
        fputs("\n"
              "      --help     print this help; `uext4 COMMAND --help` tells more\n"
              "      --version  print the version\n"
              "\n"
              "IMAGE is a file or block device, or a URI: file:PATH or mmap:PATH.\n"
              "Commands that only read never write to it.\n",
              stdout);
}

const struct cli_command *cli_nth_command(size_t n)
{
        return n < NR_COMMANDS ? commands[n] : NULL;
}

const struct cli_command *cli_find_command(const char *name)
{
        for (size_t i = 0; i < NR_COMMANDS; i++)
                if (strcmp(commands[i]->name, name) == 0)
                        return commands[i];
        return NULL;
}

/* Under the names of helpers it is one: mount.uext4, umount.fuse.uext4. */
static bool is_called(const char *program, const char *name)
{
        const char *slash = strrchr(program, '/');

        return strncmp(slash ? slash + 1 : program, name, strlen(name)) == 0;
}

int main(int argc, char **argv)
{
        struct cli cli = {0};

        setlocale(LC_CTYPE, "");
        if (argc > 0 && is_called(argv[0], "mount."))
                return mount_helper(argc, argv);
        if (argc > 0 && is_called(argv[0], "umount."))
                return umount_helper(argc, argv);
        if (argc < 2)
                cli_usage_error(&cli, "missing command");
        if (strcmp(argv[1], "--help") == 0) {
                print_help();
        } else if (strcmp(argv[1], "--version") == 0) {
                printf("uext4 %s\n", uext4_version());
        } else {
                cli.command = cli_find_command(argv[1]);
                if (!cli.command)
                        cli_usage_error(&cli, "unknown command '%s'", argv[1]);
                cli.writes = cli.command->writes;
                /* getopt's messages begin with argv[0]. */
                argv[1] = cli_printf("uext4: %s", argv[1]);
                cli.command->run(&cli, argc - 1, argv + 1);
                free(argv[1]);
        }
        cli_exit(&cli);
}
