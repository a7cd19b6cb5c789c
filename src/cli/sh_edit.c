/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sh_edit.c - lines from a terminal, with history and completion, by libedit (see sh.h).
 *
 * The first word is completed from the commands, all others from names: of the image, but of
 * the host for commands that take files from there.
 */
#include <dirent.h>
#include <errno.h>
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/sh.h"
#include "cli/walk.h"

#define HISTORY_SIZE 1000

struct sh_edit {
        struct cli *cli;
        EditLine *el;
        History *history;
        char *history_file; /* NULL: there is no place for one */
        char *prompt;
        char *line;
};

/* The editor hands itself to its functions; there is one terminal, and one shell on it. */
static struct sh_edit *the_edit;

/* ---- completion --------------------------------------------------------- */

struct matches {
        char **names;
        size_t nr;
};

static void add_match(struct matches *m, const char *name, const char *suffix)
{
        m->names = cli_realloc(m->names, m->nr + 1, sizeof(*m->names));
        m->names[m->nr++] = cli_printf("%s%s", name, suffix);
}

static void match_commands(struct matches *m, const char *start)
{
        const struct cli_command *command;
        const char *name;

        for (size_t i = 0; (command = cli_nth_command(i)); i++)
                if (!command->alone && strncmp(command->name, start, strlen(start)) == 0)
                        add_match(m, command->name, " ");
        for (size_t i = 0; (name = sh_builtin_name(i)); i++)
                if (strncmp(name, start, strlen(start)) == 0)
                        add_match(m, name, " ");
}

static const char *entry_suffix(struct uext4_fs *fs, uint64_t ino)
{
        struct uext4_inode *inode;
        struct uext4_stat st = {0};

        if (uext4_inode_get(fs, ino, 0, &inode) < 0)
                return " ";
        if (uext4_stat(inode, &st) < 0)
                st.mode = 0;
        uext4_inode_put(inode);
        return S_ISDIR(st.mode) ? "/" : " ";
}

static void match_image(struct cli *cli, struct matches *m, const char *dir, const char *start)
{
        struct cli_operand op;
        struct dirlist list;

        if (!cli_operand_exists(cli, dir, CLI_FOLLOW) ||
            !cli_operand_open(cli, dir, CLI_FOLLOW, &op))
                return;
        if (S_ISDIR(op.st.mode)) {
                dirlist_read(op.inode, DIRLIST_NO_DOTS, &list);
                for (size_t i = 0; i < list.nr; i++) {
                        const struct dirlist_entry *e = &list.entries[i];

                        if (dirlist_name_is_valid(e) &&
                            strncmp(e->name, start, strlen(start)) == 0)
                                add_match(m, e->name, entry_suffix(op.image->fs, e->ino));
                }
                dirlist_done(&list);
        }
        cli_operand_close(&op);
}

static void match_host(struct matches *m, const char *dir, const char *start)
{
        DIR *d = opendir(dir);
        struct dirent *e;

        while (d && (e = readdir(d)))
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
                    strncmp(e->d_name, start, strlen(start)) == 0)
                        add_match(m, e->d_name, e->d_type == DT_DIR ? "/" : " ");
        if (d)
                closedir(d);
}

/* The n-th word (0 is the command) of this command line: is it a file of the host? */
static bool is_host_word(const char *command, size_t n, size_t nr_operands)
{
        if (strcmp(command, "lcd") == 0)
                return true;
        if (strcmp(command, "put") == 0)
                return n == 1;
        return strcmp(command, "get") == 0 && nr_operands >= 1;
}

static int compare(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* How far all begin alike. */
static size_t common(const struct matches *m)
{
        size_t len = strlen(m->names[0]);

        for (size_t i = 1; i < m->nr; i++)
                for (size_t k = 0; k < len; k++)
                        if (m->names[i][k] != m->names[0][k])
                                len = k;
        return len;
}

static void list_matches(const struct matches *m)
{
        putchar('\n');
        for (size_t i = 0; i < m->nr; i++)
                printf("%s%s", m->names[i], i + 1 < m->nr ? "  " : "\n");
        fflush(stdout);
}

/* Insert what is certain behind what has been typed, `typed` bytes of each name. */
static unsigned char insert(EditLine *el, struct matches *m, size_t typed)
{
        size_t len = common(m);
        bool space = len > 0 && m->nr == 1 && m->names[0][len - 1] == ' ';
        char *rest, *quoted, *text;

        rest = cli_printf("%.*s", (int)(len - typed - space), m->names[0] + typed);
        quoted = sh_quote(rest);
        text = cli_printf("%s%s", quoted, space ? " " : "");
        if (*text)
                el_insertstr(el, text);
        free(text);
        free(quoted);
        free(rest);
        if (len > typed)
                return CC_REFRESH;
        if (m->nr > 1)
                list_matches(m);
        return m->nr > 1 ? CC_REDISPLAY : CC_ERROR;
}

static size_t count_operands(const struct sh_words *w)
{
        size_t nr = 0;

        for (size_t i = 1; i + 1 < w->nr; i++)
                nr += w->words[i][0] != '-';
        return nr;
}

static void find_matches(struct cli *cli, const struct sh_words *w, struct matches *m,
                         const char *word)
{
        const char *slash = strrchr(word, '/'), *start = slash ? slash + 1 : word;
        char *dir = cli_printf("%.*s", (int)(start - word), word);

        if (w->nr <= 1)
                match_commands(m, word);
        else if (is_host_word(w->words[0], w->nr - 1, count_operands(w)))
                match_host(m, *dir ? dir : ".", start);
        else
                match_image(cli, m, *dir ? dir : ".", start);
        free(dir);
}

static unsigned char complete(EditLine *el, int key)
{
        const LineInfo *info = el_line(el);
        char *line = cli_printf("%.*s", (int)(info->cursor - info->buffer), info->buffer);
        size_t len = strlen(line);
        unsigned char ret = CC_ERROR;
        struct matches m = {0};
        struct sh_words w;

        if (sh_split(line, &w)) {
                const char *word, *slash;

                /* Behind a blank a new word begins. */
                if (w.nr == 0 ||
                    (len > 0 && line[len - 1] == ' ' && (len < 2 || line[len - 2] != '\\')))
                        sh_words_push(&w, cli_strdup(""), false);
                word = w.words[w.nr - 1];
                find_matches(the_edit->cli, &w, &m, word);
                slash = w.nr > 1 ? strrchr(word, '/') : NULL;
                if (m.nr > 0) {
                        qsort(m.names, m.nr, sizeof(*m.names), compare);
                        ret = insert(el, &m, strlen(slash ? slash + 1 : word));
                }
                sh_words_done(&w);
        }
        for (size_t i = 0; i < m.nr; i++)
                free(m.names[i]);
        free(m.names);
        free(line);
        return ret;
}

/* ---- lines -------------------------------------------------------------- */

static const char *prompt(EditLine *el)
{
        free(the_edit->prompt);
        the_edit->prompt = cli_printf("uext4:%s> ", the_edit->cli->shell->cwd);
        return the_edit->prompt;
}

static char *history_path(void)
{
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

        if (state && *state)
                return cli_printf("%s/uext4_history", state);
        return home && *home ? cli_printf("%s/.uext4_history", home) : NULL;
}

struct sh_edit *sh_edit_new(struct cli *cli)
{
        struct sh_edit *e = cli_alloc(1, sizeof(*e));
        HistEvent event;

        the_edit = e;
        e->cli = cli;
        e->el = el_init("uext4", stdin, stdout, stderr);
        e->history = history_init();
        if (!e->el || !e->history) {
                fputs("uext4: out of memory\n", stderr);
                exit(CLI_FAILED);
        }
        el_set(e->el, EL_PROMPT, prompt);
        el_set(e->el, EL_EDITOR, "emacs");
        el_set(e->el, EL_SIGNAL, 1);
        el_set(e->el, EL_HIST, history, e->history);
        el_set(e->el, EL_ADDFN, "uext4-complete", "complete a name", complete);
        el_set(e->el, EL_BIND, "^I", "uext4-complete", NULL);
        el_source(e->el, NULL); /* the user's ~/.editrc */
        history(e->history, &event, H_SETSIZE, HISTORY_SIZE);
        history(e->history, &event, H_SETUNIQUE, 1);
        e->history_file = history_path();
        if (e->history_file)
                history(e->history, &event, H_LOAD, e->history_file);
        return e;
}

void sh_edit_free(struct sh_edit *e)
{
        HistEvent event;

        if (e->history_file)
                history(e->history, &event, H_SAVE, e->history_file);
        history_end(e->history);
        el_end(e->el);
        free(e->history_file);
        free(e->prompt);
        free(e->line);
        free(e);
        the_edit = NULL;
}

const char *sh_edit_line(struct sh_edit *e)
{
        const char *line;
        HistEvent event;
        int len;

        for (;;) {
                line = el_gets(e->el, &len);
                if (line || errno != EINTR)
                        break;
                el_reset(e->el); /* ^C: a new line */
                putchar('\n');
        }
        if (!line || len <= 0)
                return NULL;
        if (line[strspn(line, " \t\n")])
                history(e->history, &event, H_ENTER, line);
        free(e->line);
        e->line = cli_printf("%.*s", len - (line[len - 1] == '\n'), line);
        return e->line;
}
