/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mode.c - permissions as chmod(1) spells them (see mode.h). */
#include "cli/mode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"

#define CLASS_U 0700u
#define CLASS_G 0070u
#define CLASS_O 0007u
#define ALL_RWX 0777u

static struct mode_change *push(struct mode_spec *spec)
{
        spec->changes = cli_realloc(spec->changes, spec->nr + 1, sizeof(*spec->changes));
        memset(&spec->changes[spec->nr], 0, sizeof(*spec->changes));
        return &spec->changes[spec->nr++];
}

/* Octal sets everything, but a directory keeps set-ID bits unless five digits say otherwise. */
static int parse_octal(const char *text, struct mode_spec *spec)
{
        struct mode_change *change = push(spec);
        size_t len = strspn(text, "01234567");
        unsigned long n = strtoul(text, NULL, 8);

        if (text[len] || len > 7 || n > 07777)
                return -EINVAL;
        change->who = 07777;
        change->op = '=';
        change->bits = (uint32_t)n;
        change->dir_keep = len < 5 ? S_ISUID | S_ISGID : 0;
        return 0;
}

/* "ugoa" in front of a clause: which bits it is about, 0 for none. */
static uint32_t parse_who(const char **at)
{
        uint32_t who = 0;

        for (;; (*at)++) {
                switch (**at) {
                case 'u':
                        who |= CLASS_U | S_ISUID;
                        break;
                case 'g':
                        who |= CLASS_G | S_ISGID;
                        break;
                case 'o':
                        who |= CLASS_O | S_ISVTX;
                        break;
                case 'a':
                        who |= 07777;
                        break;
                default:
                        return who;
                }
        }
}

static void parse_letters(const char **at, struct mode_change *change)
{
        for (;; (*at)++) {
                switch (**at) {
                case 'r':
                        change->bits |= 0444;
                        break;
                case 'w':
                        change->bits |= 0222;
                        break;
                case 'x':
                        change->bits |= 0111;
                        break;
                case 'X':
                        change->execute |= 0111;
                        break;
                case 's':
                        change->bits |= S_ISUID | S_ISGID;
                        break;
                case 't':
                        change->bits |= S_ISVTX;
                        break;
                default:
                        return;
                }
        }
}

static int parse_clause(const char **at, uint32_t umask, struct mode_spec *spec)
{
        uint32_t who = parse_who(at);

        if (!**at || !strchr("+-=", **at))
                return -EINVAL;
        while (**at && strchr("+-=", **at)) {
                struct mode_change *change = push(spec);

                change->op = *(*at)++;
                change->who = who ? who : 07777 & ~umask;
                change->keep = who ? 07777 & ~who : 0;
                if (**at && strchr("ugo", **at))
                        change->copy = *(*at)++;
                else
                        parse_letters(at, change);
                change->dir_keep = (change->bits & (S_ISUID | S_ISGID)) ? 0 : S_ISUID | S_ISGID;
        }
        return 0;
}

int mode_parse(const char *text, uint32_t umask, struct mode_spec *ret_spec)
{
        struct mode_spec spec = {0};
        int ret = 0;

        if (*text >= '0' && *text <= '7') {
                ret = parse_octal(text, &spec);
        } else {
                do {
                        ret = parse_clause(&text, umask, &spec);
                } while (ret == 0 && *text == ',' && *++text);
                if (ret == 0 && *text)
                        ret = -EINVAL;
        }
        if (ret < 0) {
                mode_done(&spec);
                return ret;
        }
        *ret_spec = spec;
        return 0;
}

void mode_done(struct mode_spec *spec)
{
        free(spec->changes);
        *spec = (struct mode_spec){0};
}

/* The permissions of one class, in all three places. */
static uint32_t spread(uint32_t mode, char class)
{
        uint32_t bits = class == 'u' ? mode >> 6 : class == 'g' ? mode >> 3 : mode;

        return (bits & 7) * 0111;
}

static uint32_t apply_one(const struct mode_change *c, uint32_t mode)
{
        uint32_t bits = c->copy ? spread(mode, c->copy) : c->bits;

        if (S_ISDIR(mode) || (mode & 0111))
                bits |= c->execute;
        bits &= c->who;
        switch (c->op) {
        case '+':
                return mode | bits;
        case '-':
                return mode & ~bits;
        default:
                return (mode & (c->keep | (S_ISDIR(mode) ? c->dir_keep : 0))) | bits;
        }
}

uint32_t mode_apply(const struct mode_spec *spec, uint32_t mode)
{
        uint32_t type = mode & S_IFMT;

        for (size_t i = 0; i < spec->nr; i++)
                mode = apply_one(&spec->changes[i], mode);
        return type | (mode & 07777);
}
