/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_SUMS_H
#define UEXT4_CLI_SUMS_H

/*
 * sums.h - SHA-256 of file after file, as sha256sum(1) prints them, and of that list.
 *
 * Where libcrypto has no SHA-256 the program ends: there is nothing to go on with.
 */

#include <stddef.h>

#define SUMS_HEX_MAX 65

struct sums;

struct sums *sums_new(void);
void sums_free(struct sums *sums); /* NULL is fine */

/* Bytes of the current file. */
void sums_file_add(struct sums *sums, const void *data, size_t len);

/*
 * The current file is complete; the next one begins.  Returns its line, "HEX  PATH\n", escaped
 * as sha256sum(1) does, to be freed; the total takes the line in.
 */
char *sums_file_done(struct sums *sums, const char *path, char hex[static SUMS_HEX_MAX]);

/* The current file is left out. */
void sums_file_drop(struct sums *sums);

/* The sum of all lines.  Nothing can be added afterwards. */
void sums_total(struct sums *sums, char hex[static SUMS_HEX_MAX]);

#endif
