/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sums.c - SHA-256 of file after file (see sums.h), by libcrypto. */
#include "cli/sums.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

struct sums {
        EVP_MD_CTX *file, *total;
};

static _Noreturn void failed(void)
{
        fputs("uext4: libcrypto gives no SHA-256\n", stderr);
        exit(CLI_FAILED);
}

static void start(EVP_MD_CTX *context)
{
        if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
                failed();
}

static EVP_MD_CTX *context_new(void)
{
        EVP_MD_CTX *context = EVP_MD_CTX_new();

        start(context);
        return context;
}

static void add(EVP_MD_CTX *context, const void *data, size_t len)
{
        if (EVP_DigestUpdate(context, data, len) != 1)
                failed();
}

static void finish(EVP_MD_CTX *context, char hex[static SUMS_HEX_MAX])
{
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned len;

        if (EVP_DigestFinal_ex(context, digest, &len) != 1 || len != (SUMS_HEX_MAX - 1) / 2)
                failed();
        for (unsigned i = 0; i < len; i++)
                snprintf(hex + 2 * (size_t)i, 3, "%02x", (unsigned)digest[i]);
}

struct sums *sums_new(void)
{
        struct sums *sums = cli_alloc(1, sizeof(*sums));

        sums->file = context_new();
        sums->total = context_new();
        return sums;
}

void sums_free(struct sums *sums)
{
        if (!sums)
                return;
        EVP_MD_CTX_free(sums->file);
        EVP_MD_CTX_free(sums->total);
        free(sums);
}

void sums_file_add(struct sums *sums, const void *data, size_t len)
{
        add(sums->file, data, len);
}

static char escape_letter(char c)
{
        switch (c) {
        case '\n':
                return 'n';
        case '\r':
                return 'r';
        case '\\':
                return '\\';
        default:
                return 0;
        }
}

/* A name as sha256sum(1) writes it; a line with an escaped name begins with a backslash. */
static char *escape_name(const char *path, const char **ret_mark)
{
        char *out = cli_alloc(strlen(path) + 1, 2);
        size_t n = 0;

        *ret_mark = "";
        for (; *path; path++) {
                char letter = escape_letter(*path);

                if (letter) {
                        out[n++] = '\\';
                        *ret_mark = "\\";
                }
                out[n++] = letter ? letter : *path;
        }
        return out;
}

char *sums_file_done(struct sums *sums, const char *path, char hex[static SUMS_HEX_MAX])
{
        const char *mark;
        char *name = escape_name(path, &mark), *line;

        finish(sums->file, hex);
        start(sums->file);
        line = cli_printf("%s%s  %s\n", mark, hex, name);
        add(sums->total, line, strlen(line));
        free(name);
        return line;
}

void sums_file_drop(struct sums *sums)
{
        start(sums->file);
}

void sums_total(struct sums *sums, char hex[static SUMS_HEX_MAX])
{
        finish(sums->total, hex);
}
