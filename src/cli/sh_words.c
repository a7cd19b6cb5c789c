/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sh_words.c - a line of the shell becomes words (see sh.h). */
#include <fnmatch.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/sh.h"
#include "cli/walk.h"

static const char specials[] = "*?[\\";

/* ---- splitting ---------------------------------------------------------- */

void sh_words_push(struct sh_words *w, char *word, bool glob)
{
        w->words = cli_realloc(w->words, w->nr + 2, sizeof(*w->words));
        w->glob = cli_realloc(w->glob, w->nr + 1, sizeof(*w->glob));
        w->words[w->nr] = word;
        w->glob[w->nr++] = glob;
        w->words[w->nr] = NULL;
}

void sh_words_done(struct sh_words *w)
{
        for (size_t i = 0; i < w->nr; i++)
                free(w->words[i]);
        free(w->words);
        free(w->glob);
        *w = (struct sh_words){0};
}

struct scan {
        const char *at;
        char *word;
        size_t len;
        bool glob;
};

/* A character that stands for itself. */
static void take_plain(struct scan *s, char c)
{
        if (strchr(specials, c))
                s->word[s->len++] = '\\';
        s->word[s->len++] = c;
}

/* All of a quoted part; false when it has no end. */
static bool take_quoted(struct scan *s)
{
        char quote = *s->at++;

        for (; *s->at && *s->at != quote; s->at++) {
                if (quote == '"' && *s->at == '\\' && s->at[1] && strchr("\"\\", s->at[1]))
                        s->at++;
                take_plain(s, *s->at);
        }
        return *s->at == quote;
}

static bool take_word(struct scan *s)
{
        for (; *s->at && !strchr(" \t\r\n", *s->at); s->at++) {
                if (*s->at == '\'' || *s->at == '"') {
                        if (!take_quoted(s))
                                return false;
                } else if (*s->at == '\\' && s->at[1]) {
                        take_plain(s, *++s->at);
                } else {
                        s->glob |= strchr("*?[", *s->at) != NULL;
                        s->word[s->len++] = *s->at;
                }
        }
        return true;
}

bool sh_split(const char *line, struct sh_words *ret_words)
{
        struct scan s = {.at = line};
        struct sh_words words = {0};

        for (;;) {
                s.at += strspn(s.at, " \t\r\n");
                if (!*s.at || *s.at == '#')
                        break;
                s.word = cli_alloc(2 * strlen(s.at) + 1, 1);
                s.len = 0;
                s.glob = false;
                if (!take_word(&s)) {
                        free(s.word);
                        sh_words_done(&words);
                        return false;
                }
                if (!s.glob)
                        sh_unescape(s.word);
                sh_words_push(&words, s.word, s.glob);
        }
        *ret_words = words;
        return true;
}

void sh_unescape(char *word)
{
        char *out = word;

        for (; *word; word++) {
                if (*word == '\\' && word[1])
                        word++;
                *out++ = *word;
        }
        *out = '\0';
}

char *sh_quote(const char *word)
{
        char *text = cli_alloc(2 * strlen(word) + 1, 1), *out = text;

        for (; *word; word++) {
                if (strchr(" \t\\'\"#*?[", *word))
                        *out++ = '\\';
                *out++ = *word;
        }
        return text;
}

/* ---- names of the image ------------------------------------------------- */

/* What matches the pattern in the directory, behind `prefix`; deeper with the rest of it. */
static void match_in(struct cli *cli, const char *prefix, const char *pattern,
                     struct sh_words *out);

static void match_one(struct cli *cli, const char *prefix, const struct dirlist_entry *entry,
                      const char *rest, struct sh_words *out)
{
        char *path = cli_printf("%s%s", prefix, entry->name);
        struct cli_operand op;

        if (!*rest) {
                sh_words_push(out, path, false);
                return;
        }
        if (cli_operand_exists(cli, path, CLI_FOLLOW) &&
            cli_operand_open(cli, path, CLI_FOLLOW, &op)) {
                char *deeper = cli_printf("%s/", path);

                if (S_ISDIR(op.st.mode))
                        match_in(cli, deeper, rest + strspn(rest, "/"), out);
                free(deeper);
                cli_operand_close(&op);
        }
        free(path);
}

static void match_in(struct cli *cli, const char *prefix, const char *pattern,
                     struct sh_words *out)
{
        size_t len = strcspn(pattern, "/");
        char *part = cli_printf("%.*s", (int)len, pattern);
        struct dirlist list;
        struct cli_operand op;

        if (!len) { /* "dir/": the directory itself */
                sh_words_push(out, cli_strdup(prefix), false);
        } else if (cli_operand_open(cli, *prefix ? prefix : ".", CLI_FOLLOW, &op)) {
                if (S_ISDIR(op.st.mode)) {
                        dirlist_read(op.inode, DIRLIST_NO_DOTS, &list);
                        for (size_t i = 0; i < list.nr; i++)
                                if (dirlist_name_is_valid(&list.entries[i]) &&
                                    fnmatch(part, list.entries[i].name, FNM_PERIOD) == 0)
                                        match_one(cli, prefix, &list.entries[i], pattern + len,
                                                  out);
                        dirlist_done(&list);
                }
                cli_operand_close(&op);
        }
        free(part);
}

/* The directories in front of the first part with a pattern need not be searched. */
static size_t plain_prefix(const char *word)
{
        size_t end = strcspn(word, "*?[");

        while (end > 0 && word[end - 1] != '/')
                end--;
        return end;
}

static void expand_image(struct cli *cli, const char *word, struct sh_words *out)
{
        size_t plain = plain_prefix(word);
        char *prefix = cli_printf("%.*s", (int)plain, word);

        sh_unescape(prefix);
        if (!plain || cli_operand_exists(cli, prefix, CLI_FOLLOW))
                match_in(cli, prefix, word + plain, out);
        free(prefix);
}

static void expand_host(const char *word, struct sh_words *out)
{
        glob_t found;

        if (glob(word, 0, NULL, &found) != 0)
                return;
        for (size_t i = 0; i < found.gl_pathc; i++)
                sh_words_push(out, cli_strdup(found.gl_pathv[i]), false);
        globfree(&found);
}

/* As sh: what matches nothing stays.  `cli` NULL: names of the host. */
static void expand(struct cli *cli, struct sh_words *words)
{
        struct sh_words all = {0};

        for (size_t i = 0; i < words->nr; i++) {
                size_t before = all.nr;

                if (words->glob[i] && cli)
                        expand_image(cli, words->words[i], &all);
                else if (words->glob[i])
                        expand_host(words->words[i], &all);
                if (all.nr == before)
                        sh_words_push(&all, cli_strdup(words->words[i]), words->glob[i]);
        }
        sh_words_done(words);
        *words = all;
}

void sh_expand(struct cli *cli, struct sh_words *words)
{
        expand(cli, words);
}

void sh_expand_host(struct sh_words *words)
{
        expand(NULL, words);
}
