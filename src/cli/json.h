/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_JSON_H
#define UEXT4_CLI_JSON_H

/*
 * json.h - building and printing JSON.  Memory that is short ends the program, so no caller has
 * to look at results.
 */

#include <jansson.h>
#include <stdint.h>

/* Add a member; the value belongs to the object afterwards. */
void json_add(json_t *object, const char *key, json_t *value);
void json_add_uint(json_t *object, const char *key, uint64_t n);
void json_add_real(json_t *object, const char *key, double n);
void json_add_bool(json_t *object, const char *key, int b);

/* Text that may be any bytes: what is no UTF-8 appears as \xHH. */
void json_add_text(json_t *object, const char *key, const char *text);
json_t *json_text(const char *text);

/* An array of the words of `text`, which spaces part. */
json_t *json_words(const char *text);

/* Append to an array. */
void json_push(json_t *array, json_t *value);

/* Print on stdout, with a newline, and free. */
void json_print(json_t *value);

#endif
