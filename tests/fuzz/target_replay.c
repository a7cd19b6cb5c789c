/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Runs inputs through the walk of a fuzz target, without a fuzzer, under any compiler: the
 * files in a folder, and ROUNDS of the target's own mutations.
 *
 *     fuzz_TARGET_replay ROUNDS [FOLDER]
 */

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "promise.h"
#include "target.h"

static int no_dot(const struct dirent *entry)
{
        return entry->d_name[0] != '.';
}

static int replay_file(const char *path)
{
        FILE *file = fopen(path, "rb");
        uint8_t *data = must_alloc(TARGET_MAX_INPUT);
        size_t size;

        if (!file) {
                fprintf(stderr, "%s: %s\n", path, strerror(errno));
                free(data);
                return 1;
        }
        size = fread(data, 1, TARGET_MAX_INPUT, file);
        printf("%s: %zu bytes\n", path, size);
        fflush(stdout); /* so that a crash has a name */
        target_walk(data, size);
        fclose(file);
        free(data);
        return 0;
}

static int replay_folder(const char *path)
{
        struct dirent **list;
        int nr = scandir(path, &list, no_dot, alphasort);
        int status = nr < 0;

        for (int i = 0; i < nr; i++) {
                char name[4096];

                snprintf(name, sizeof(name), "%s/%s", path, list[i]->d_name);
                status |= replay_file(name);
                free(list[i]);
        }
        if (nr >= 0)
                free(list);
        return status;
}

/*
 * A good input, changed again and again.  Damage must be met, and must not be met: a mutator
 * that the verifiers always stop, or never, would leave most of the code alone.
 */
static int replay_rounds(unsigned long rounds)
{
        const char *text = getenv("UEXT4_SEED");
        uint64_t seed = text && *text ? strtoull(text, NULL, 0) : 1;
        uint8_t *data = must_alloc(TARGET_MAX_INPUT);
        unsigned long nr_damaged = 0;
        size_t size = 0;

        printf("UEXT4_SEED=%llu\n", (unsigned long long)seed);
        fflush(stdout);
        for (unsigned long i = 0; i < rounds; i++) {
                if (i % 12 == 0)
                        size = 0;
                size = target_mutate(data, size, TARGET_MAX_INPUT, seed * 1000003 + i);
                nr_damaged += target_walk(data, size);
        }
        free(data);
        printf("%lu of %lu damaged\n", nr_damaged, rounds);
        return nr_damaged < rounds / 8 || nr_damaged > rounds - rounds / 8;
}

int main(int argc, char **argv)
{
        int status = 0;

        if (argc < 2) {
                fprintf(stderr, "usage: fuzz_TARGET_replay ROUNDS [FOLDER]\n");
                return 2;
        }
        if (argc > 2)
                status = replay_folder(argv[2]);
        return status | replay_rounds(strtoul(argv[1], NULL, 0));
}
