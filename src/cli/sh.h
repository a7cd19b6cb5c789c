/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_SH_H
#define UEXT4_CLI_SH_H

/*
 * sh.h - the parts of the shell:
 *
 *      sh.c        commands, and where they run
 *      sh_words.c  a line becomes words
 *      sh_edit.c   lines from a terminal, with history and completion
 */

#include "cli/cli.h"

/* ---- sh_words.c ---- */

struct sh_words {
        char **words; /* NULL behind the last one */
        bool *glob;   /* it has *, ? or [ outside of quotes */
        size_t nr;
};

/*
 * Split at blanks; '...', "..." and backslashes quote, # begins a comment.  A word with a
 * pattern has the backslashes that fnmatch() needs.  False: a quote has no end.
 */
bool sh_split(const char *line, struct sh_words *ret_words);
void sh_words_done(struct sh_words *words);
void sh_words_push(struct sh_words *words, char *word, bool glob); /* takes it over */

/* Names of the image, or of the host, in place of words with patterns, where there are any. */
void sh_expand(struct cli *cli, struct sh_words *words);
void sh_expand_host(struct sh_words *words);

/* Take the backslashes out that keep a pattern's characters from being one. */
void sh_unescape(char *word);

/* The word as it can be typed; to be freed. */
char *sh_quote(const char *word);

/* ---- sh_edit.c ---- */

struct sh_edit;

/* With the history of earlier shells. */
struct sh_edit *sh_edit_new(struct cli *cli);

/* Stores the history. */
void sh_edit_free(struct sh_edit *edit);

/* A line without its newline, valid until the next one; NULL at the end. */
const char *sh_edit_line(struct sh_edit *edit);

/* ---- sh.c ---- */

/* The names of what is no command outside; NULL behind the last one. */
const char *sh_builtin_name(size_t n);

#endif
