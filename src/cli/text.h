/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_TEXT_H
#define UEXT4_CLI_TEXT_H

/* text.h - numbers, names, modes and times as people read and write them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* A number with an optional suffix K, M, G, T (powers of 1024; also k, KiB).  -EINVAL, -ERANGE.
 */
int text_parse_size(const char *s, uint64_t *ret_size);

/* "1.5 MiB" */
#define TEXT_BYTES_MAX 32
const char *text_bytes(char buf[static TEXT_BYTES_MAX], uint64_t bytes);

/* "12,345,678" */
#define TEXT_COUNT_MAX 32
const char *text_count(char buf[static TEXT_COUNT_MAX], uint64_t n);

/* The bytes with everything that a terminal might obey as \n, \t, \\ or \ooo; to be freed. */
char *text_escape(const char *s, size_t len);

/* The last component of a path, without the slashes behind it, to be freed; NULL for "/", "."
 * and "..". */
char *text_base_name(const char *path);

/* What lies before it, to be freed: "/" at least of an absolute path, "." where there is
 * nothing.
 */
char *text_dir_name(const char *path);

/* "-rwxr-xr-x" */
#define TEXT_MODE_MAX 11
const char *text_mode(char buf[static TEXT_MODE_MAX], uint32_t mode);

/* "regular file", as stat(1) names it */
const char *text_file_type(uint32_t mode);

/* "2026-01-31 12:00:00.000000000 +0100", as stat(1) */
#define TEXT_TIME_MAX 64
const char *text_time(char buf[static TEXT_TIME_MAX], struct timespec ts);

/* "Jan 31 12:00", or with the year when it is older than half a year or to come, as ls(1) */
const char *text_time_short(char buf[static TEXT_TIME_MAX], struct timespec ts, time_t now);

/* Inode flags as lsattr(1) prints them: one place per letter, '-' where not set. */
#define TEXT_FLAGS_MAX 32
const char *text_inode_flags(char buf[static TEXT_FLAGS_MAX], uint32_t flags);

/* The name of the i-th known inode flag and whether `flags` has it; NULL behind the last. */
const char *text_inode_flag_name(size_t i, uint32_t flags, bool *ret_set);

/* "01234567-89ab-cdef-0123-456789abcdef" */
#define TEXT_UUID_MAX 37
const char *text_uuid(char buf[static TEXT_UUID_MAX], const uint8_t uuid[static 16]);

/* Columns of the terminal on `fd`, else of $COLUMNS, else 80. */
unsigned text_terminal_width(int fd);

#endif
