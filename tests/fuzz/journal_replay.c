/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Runs inputs through the walk of the journal's fuzz target, without a fuzzer, under any
 * compiler: the files named, and ROUNDS of the mutator's own.
 *
 *     fuzz_journal_replay ROUNDS [FILE ...]
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal_walk.h"

#define MAX_INPUT (64u << 10)

/* As much of a file as an input can have. */
static int replay_file(const char *path)
{
        FILE *file = fopen(path, "rb");
        uint8_t *data = malloc(MAX_INPUT);
        size_t size;

        if (!file || !data) {
                fprintf(stderr, "%s: %s\n", path, strerror(errno));
                free(data);
                if (file)
                        fclose(file);
                return 1;
        }
        size = fread(data, 1, MAX_INPUT, file);
        printf("%s: %zu bytes\n", path, size);
        fflush(stdout); /* so that a crash has a name */
        journal_walk(data, size);
        fclose(file);
        free(data);
        return 0;
}

/* A journal, changed again and again; now and then a new one. */
static void replay_rounds(unsigned long rounds)
{
        const char *text = getenv("UEXT4_SEED");
        uint64_t seed = text && *text ? strtoull(text, NULL, 0) : 1;
        uint8_t *data = calloc(1, MAX_INPUT);
        size_t size = 0;

        if (!data)
                abort();
        printf("UEXT4_SEED=%llu\n", (unsigned long long)seed);
        fflush(stdout);
        for (unsigned long i = 0; i < rounds; i++) {
                if (i % 8 == 0)
                        size = 0;
                size = journal_mutate(data, size, MAX_INPUT, seed * 1000003 + i);
                journal_walk(data, size);
        }
        free(data);
}

int main(int argc, char **argv)
{
        int status = 0;

        if (argc < 2) {
                fprintf(stderr, "usage: fuzz_journal_replay ROUNDS [FILE ...]\n");
                return 2;
        }
        for (int i = 2; i < argc; i++)
                status |= replay_file(argv[i]);
        replay_rounds(strtoul(argv[1], NULL, 0));
        return status;
}
