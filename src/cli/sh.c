/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sh.c - `uext4 sh`: commands for one image, from a terminal or a script (see sh.h).
 *
 * The commands are the same functions as outside.  The image is mounted once; an operand is a
 * path in it, from the current directory, and IMAGE:/PATH another image.  What would end the
 * process ends the command only.
 *
 * A script ends with its first command that fails, for the next ones may rely on it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/change.h"
#include "cli/sh.h"
#include "cli/text.h"

struct sh {
        struct cli *cli;
        struct cli_shell shell;
        struct cli_image *image;
        bool keep_going;
        bool interactive;
        bool quit;
        unsigned long line; /* of a script */
        char **args;        /* of the command that runs */
};

struct builtin {
        const char *name;
        const char *summary;
        void (*run)(struct sh *sh, size_t nr, char **words);
};

/* ---- what is no command outside ----------------------------------------- */

/* The absolute path without "." and "..", to be freed. */
static char *normalize(const char *path)
{
        char *out = cli_alloc(strlen(path) + 2, 1);
        size_t len = 0;

        while (*path) {
                size_t part;

                path += strspn(path, "/");
                part = strcspn(path, "/");
                if (part == 2 && memcmp(path, "..", 2) == 0) {
                        while (len > 0 && out[--len] != '/')
                                ;
                } else if (part > 0 && !(part == 1 && *path == '.')) {
                        out[len++] = '/';
                        memcpy(out + len, path, part);
                        len += part;
                }
                path += part;
        }
        out[len] = '\0';
        if (len == 0)
                out[0] = '/';
        return out;
}

static void run_cd(struct sh *sh, size_t nr, char **words)
{
        const char *to = nr > 1 ? words[1] : "/";
        struct cli_operand op;

        if (!cli_operand_open(sh->cli, to, CLI_FOLLOW, &op))
                return;
        if (!S_ISDIR(op.st.mode)) {
                cli_fail_errno(sh->cli, op.arg, -ENOTDIR);
        } else if (op.image != sh->image) {
                cli_fail(sh->cli, op.arg, "is another image");
        } else {
                free(sh->shell.cwd);
                sh->shell.cwd = normalize(op.path);
        }
        cli_operand_close(&op);
}

static void run_pwd(struct sh *sh, size_t nr, char **words)
{
        puts(sh->shell.cwd);
}

static void run_lcd(struct sh *sh, size_t nr, char **words)
{
        const char *home = getenv("HOME"), *to = nr > 1 ? words[1] : home ? home : "/";

        if (chdir(to) < 0)
                cli_fail_errno(sh->cli, to, -errno);
}

static void run_lpwd(struct sh *sh, size_t nr, char **words)
{
        char *path = getcwd(NULL, 0);

        if (path)
                puts(path);
        else
                cli_fail_errno(sh->cli, NULL, -errno);
        free(path);
}

static void run_sync(struct sh *sh, size_t nr, char **words)
{
        int ret = uext4_syncfs(sh->image->fs);

        if (ret < 0)
                cli_fail_errno(sh->cli, sh->image->uri, ret);
}

static void run_quit(struct sh *sh, size_t nr, char **words)
{
        sh->quit = true;
}

static void run_help(struct sh *sh, size_t nr, char **words);

static const struct builtin builtins[] = {
        {"cd", "go to another directory of the image", run_cd},
        {"pwd", "print the directory", run_pwd},
        {"lcd", "go to another directory of the host", run_lcd},
        {"lpwd", "print the directory of the host", run_lpwd},
        {"sync", "make everything durable", run_sync},
        {"help", "print this list", run_help},
        {"quit", "leave the shell", run_quit},
        {"exit", "leave the shell", run_quit},
};

#define NR_BUILTINS (sizeof(builtins) / sizeof(builtins[0]))

const char *sh_builtin_name(size_t n)
{
        return n < NR_BUILTINS ? builtins[n].name : NULL;
}

static void run_help(struct sh *sh, size_t nr, char **words)
{
        const struct cli_command *command;

        for (size_t i = 0; (command = cli_nth_command(i)); i++)
                if (!command->alone)
                        printf("  %-9s %s\n", command->name, command->summary);
        for (size_t i = 0; i < NR_BUILTINS; i++)
                printf("  %-9s %s\n", builtins[i].name, builtins[i].summary);
        puts("`COMMAND --help` tells more.  Operands are paths in the image; put takes files\n"
             "of the host first, get a place on the host last.");
}

/* ---- a command ---------------------------------------------------------- */

static const struct builtin *find_builtin(const char *name)
{
        for (size_t i = 0; i < NR_BUILTINS; i++)
                if (strcmp(builtins[i].name, name) == 0)
                        return &builtins[i];
        return NULL;
}

static void run_words(struct sh *sh, struct sh_words *w)
{
        const struct builtin *builtin = find_builtin(w->words[0]);
        const struct cli_command *command = cli_find_command(w->words[0]);
        struct cli *cli = sh->cli;

        if (builtin) {
                builtin->run(sh, w->nr, w->words);
                return;
        }
        if (!command || command->alone) {
                cli_fail(cli, w->words[0], "%s",
                         command ? "not in a shell, it takes the image for itself"
                                 : "no such command (help lists them)");
                return;
        }
        cli->command = command;
        free(w->words[0]);
        w->words[0] = cli_printf("uext4: %s", command->name);
        optind = 0; /* getopt() begins anew, and puts the words into another order */
        sh->args = cli_alloc(w->nr + 1, sizeof(*sh->args));
        memcpy(sh->args, w->words, w->nr * sizeof(*sh->args));
        if (setjmp(sh->shell.escape) == 0)
                command->run(cli, (int)w->nr, sh->args);
        free(sh->args);
        cli->command = &cli_sh;
        cli->verbose = false;
}

/* Patterns are names of the image; for what put takes from there, of the host; find has its
 * own. */
static void expand(struct sh *sh, struct sh_words *w)
{
        const char *command = w->words[0];

        if (strcmp(command, "put") == 0 || strcmp(command, "lcd") == 0)
                sh_expand_host(w);
        else if (strcmp(command, "find") != 0)
                sh_expand(sh->cli, w);
        for (size_t i = 0; i < w->nr; i++)
                if (w->glob[i])
                        sh_unescape(w->words[i]);
}

/* False: the command failed. */
static bool run_line(struct sh *sh, const char *line)
{
        struct cli *cli = sh->cli;
        int before = cli->status;
        struct sh_words w = {0};
        bool failed;

        cli->status = CLI_OK;
        if (!sh_split(line, &w)) {
                cli_fail(cli, NULL, "a quote has no end: %s", line);
        } else if (w.nr > 0) {
                expand(sh, &w);
                run_words(sh, &w);
        }
        sh_words_done(&w);
        fflush(stdout);
        failed = cli->status != CLI_OK;
        if (failed && !sh->interactive)
                cli_warn(cli, NULL, "line %lu failed: %s", sh->line,
                         line + strspn(line, " \t"));
        /* On a terminal a failure was seen, and does not count. */
        cli->status = sh->interactive || !failed ? before : CLI_FAILED;
        return !failed;
}

/* ---- lines -------------------------------------------------------------- */

static void run_terminal(struct sh *sh)
{
        struct sh_edit *edit = sh_edit_new(sh->cli);
        const char *line;

        while (!sh->quit && (line = sh_edit_line(edit)))
                run_line(sh, line);
        if (!sh->quit)
                putchar('\n');
        sh_edit_free(edit);
}

static void run_script(struct sh *sh)
{
        char *line = NULL;
        size_t room = 0;
        ssize_t len;
        bool ok = true;

        while (!sh->quit && (ok || sh->keep_going) &&
               (len = getline(&line, &room, stdin)) > 0) {
                sh->line++;
                if (line[len - 1] == '\n')
                        line[len - 1] = '\0';
                ok = run_line(sh, line);
        }
        if (ferror(stdin))
                cli_fail(sh->cli, "standard input", "%s", strerror(errno));
        free(line);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"keep-going", no_argument, NULL, 'k'},
                {"read-only", no_argument, NULL, 'r'},
                CLI_LONG_OPTIONS,
        };
        struct sh sh = {.cli = cli};
        const char *arg, *path;
        int o;

        cli->writes = true;
        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "kr", longs)) != -1) {
                sh.keep_going |= o == 'k';
                cli->writes &= o != 'r';
        }
        arg = cli_one_operand(cli, argc, argv);
        sh.image = cli_operand_image(cli, arg, &path);
        if (!sh.image)
                return;
        sh.shell.image = cli_strdup(sh.image->uri);
        sh.shell.cwd = cli_strdup("/");
        sh.interactive = isatty(STDIN_FILENO);
        cli->shell = &sh.shell;
        if (path[1])
                run_cd(&sh, 2, (char *[]){NULL, (char *)(uintptr_t)path});
        if (cli->status == CLI_OK && sh.interactive)
                run_terminal(&sh);
        else if (cli->status == CLI_OK)
                run_script(&sh);
        cli->shell = NULL;
        free(sh.shell.image);
        free(sh.shell.cwd);
}

const struct cli_command cli_sh = {
        .name = "sh",
        .summary = "give many commands for one image",
        .usage = "Usage: uext4 sh [OPTION]... IMAGE[:/DIR]\n"
                 "Read commands from the terminal, with history and completion, or from a "
                 "script\n"
                 "on standard input.  They are those of uext4; an operand is a path in the "
                 "image,\n"
                 "or IMAGE:/PATH.  `help` lists them.\n"
                 "\n"
                 "  -k, --keep-going       in a script, go on when a command fails\n"
                 "  -r, --read-only        change nothing\n",
        .run = run,
        .alone = true,
};
