/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* json.c - building and printing JSON with jansson (see json.h). */
#include "cli/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static void check(int failed)
{
        if (failed) {
                fputs("uext4: out of memory\n", stderr);
                exit(CLI_FAILED);
        }
}

void json_add(json_t *object, const char *key, json_t *value)
{
        check(!object || json_object_set_new(object, key, value) != 0);
}

void json_push(json_t *array, json_t *value)
{
        check(!array || json_array_append_new(array, value) != 0);
}

void json_add_uint(json_t *object, const char *key, uint64_t n)
{
        /* JSON readers have signed 64-bit integers at best; beyond them a real is nearest. */
        json_add(object, key,
                 n <= INT64_MAX ? json_integer((json_int_t)n) : json_real((double)n));
}

void json_add_real(json_t *object, const char *key, double n)
{
        json_add(object, key, json_real(n));
}

void json_add_bool(json_t *object, const char *key, int b)
{
        json_add(object, key, json_boolean(b));
}

/* The length of the UTF-8 character at `s`, judged by jansson itself; 0 when it is none. */
static size_t utf8_length(const char *s, size_t len)
{
        for (size_t n = 1; n <= 4 && n <= len; n++) {
                json_t *one = json_stringn(s, n);

                if (one) {
                        json_decref(one);
                        return n;
                }
        }
        return 0;
}

json_t *json_text(const char *text)
{
        json_t *value = json_string(text);
        size_t len = strlen(text), out = 0;
        char *buf;

        if (value)
                return value;
        buf = cli_alloc(len + 1, 4);
        for (size_t i = 0; i < len;) {
                size_t n = utf8_length(text + i, len - i);

                if (n == 0) {
                        out += (size_t)snprintf(buf + out, 5, "\\x%02x",
                                                (unsigned)(unsigned char)text[i++]);
                } else {
                        memcpy(buf + out, text + i, n);
                        out += n;
                        i += n;
                }
        }
        value = json_stringn(buf, out);
        free(buf);
        check(!value);
        return value;
}

void json_add_text(json_t *object, const char *key, const char *text)
{
        json_add(object, key, json_text(text));
}

json_t *json_words(const char *text)
{
        json_t *array = json_array();
        char *copy = cli_strdup(text), *rest = copy, *word;

        while ((word = strsep(&rest, " ")))
                if (*word)
                        json_push(array, json_text(word));
        free(copy);
        return array;
}

void json_print(json_t *value)
{
        check(!value);
        /* A failed write stays in ferror(stdout), which cli_exit() looks at. */
        if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) == 0)
                putchar('\n');
        json_decref(value);
}
