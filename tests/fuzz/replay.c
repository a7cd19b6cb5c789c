/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Runs files through the walks of the fuzz targets, without a fuzzer, under any compiler.
 *
 *     fuzz_image_replay [--write] [--rounds N] [--good] PATH ... [--any PATH ...]
 *
 * A PATH is an image or a folder of images.  After --good no image may be found damaged; after
 * --any (and at the start) anything goes but a crash, a hang or a broken promise.  After
 * --write the images are written (their copies in memory), as by fuzz_write, N times (1) with N
 * different choices of what is done; the first of them is the file's own.
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image_walk.h"
#include "write_walk.h"

static struct {
        bool is_good, write;
        unsigned long rounds;
} options = {.rounds = 1};

/* A copy of the file on the heap at its very size; NULL after a message. */
static uint8_t *read_whole(const char *path, size_t *ret_size)
{
        FILE *file = fopen(path, "rb");
        struct stat st;
        uint8_t *data;

        if (!file || fstat(fileno(file), &st) < 0) {
                fprintf(stderr, "%s: %s\n", path, strerror(errno));
                if (file)
                        fclose(file);
                return NULL;
        }
        *ret_size = (size_t)st.st_size;
        data = malloc(*ret_size ? *ret_size : 1);
        if (!data || fread(data, 1, *ret_size, file) != *ret_size) {
                fprintf(stderr, "%s: cannot be read\n", path);
                free(data);
                data = NULL;
        }
        fclose(file);
        return data;
}

static void walk_image(const uint8_t *data, size_t size)
{
        struct image_walk_seen seen;

        image_walk(data, size, options.is_good ? IMAGE_WALK_GOOD : 0, &seen);
        printf("%u mounts, %u inodes, %llu bytes, %u damages\n", seen.nr_mounts, seen.nr_inodes,
               (unsigned long long)seen.nr_bytes, seen.nr_damages);
}

/* What is done is chosen by the first bytes, which are not the file system's. */
static void walk_writing(uint8_t *data, size_t size)
{
        struct write_walk_seen seen;
        uint64_t choice = 0;

        for (unsigned long i = 0; i < options.rounds; i++) {
                write_walk(data, size, options.is_good ? WRITE_WALK_GOOD : 0, &seen);
                printf("%u mounts, %u changes, %u refused, %u damages\n", seen.nr_mounts,
                       seen.nr_changes, seen.nr_refused, seen.nr_damages);
                fflush(stdout);
                if (size >= sizeof(choice)) {
                        choice = i + 1;
                        memcpy(data, &choice, sizeof(choice));
                }
        }
}

static int replay_file(const char *path)
{
        size_t size;
        uint8_t *data = read_whole(path, &size);

        if (!data)
                return -1;
        printf("%s: ", path);
        fflush(stdout); /* so that a crash has a name */
        if (options.write)
                walk_writing(data, size);
        else
                walk_image(data, size);
        free(data);
        return 0;
}

static int no_dot(const struct dirent *entry)
{
        return entry->d_name[0] != '.';
}

static int replay_folder(const char *path)
{
        struct dirent **list;
        int nr = scandir(path, &list, no_dot, alphasort);
        int ret = 0;

        if (nr < 0) {
                fprintf(stderr, "%s: %s\n", path, strerror(errno));
                return -1;
        }
        for (int i = 0; i < nr; i++) {
                char name[4096];

                snprintf(name, sizeof(name), "%s/%s", path, list[i]->d_name);
                if (replay_file(name) < 0)
                        ret = -1;
                free(list[i]);
        }
        free(list);
        return ret;
}

static int replay(const char *path)
{
        struct stat st;

        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                return replay_folder(path);
        return replay_file(path);
}

int main(int argc, char **argv)
{
        int status = 0;
        int nr = 0;

        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--good") == 0) {
                        options.is_good = true;
                } else if (strcmp(argv[i], "--any") == 0) {
                        options.is_good = false;
                } else if (strcmp(argv[i], "--write") == 0) {
                        options.write = true;
                } else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
                        options.rounds = strtoul(argv[++i], NULL, 10);
                } else {
                        nr++;
                        status |= replay(argv[i]);
                }
        }
        if (nr == 0) {
                fprintf(stderr, "usage: fuzz_image_replay [--write] [--rounds N] [--good] "
                                "PATH ... [--any PATH ...]\n");
                return 2;
        }
        return status ? 1 : 0;
}
