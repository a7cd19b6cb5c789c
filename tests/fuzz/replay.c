/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Runs files through the walk of the fuzz target, without a fuzzer, under any compiler.
 *
 *     fuzz_image_replay [--good] PATH ... [--any PATH ...]
 *
 * A PATH is an image or a folder of images.  After --good no image may be found damaged; after
 * --any (and at the start) anything goes but a crash, a hang or a broken promise.
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image_walk.h"

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

static int replay_file(const char *path, unsigned flags)
{
        struct image_walk_seen seen;
        size_t size;
        uint8_t *data = read_whole(path, &size);

        if (!data)
                return -1;
        printf("%s: ", path);
        fflush(stdout); /* so that a crash has a name */
        image_walk(data, size, flags, &seen);
        printf("%u mounts, %u inodes, %llu bytes, %u damages\n", seen.nr_mounts, seen.nr_inodes,
               (unsigned long long)seen.nr_bytes, seen.nr_damages);
        free(data);
        return 0;
}

static int no_dot(const struct dirent *entry)
{
        return entry->d_name[0] != '.';
}

static int replay_folder(const char *path, unsigned flags)
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
                if (replay_file(name, flags) < 0)
                        ret = -1;
                free(list[i]);
        }
        free(list);
        return ret;
}

int main(int argc, char **argv)
{
        unsigned flags = 0;
        int status = 0;
        int nr = 0;

        for (int i = 1; i < argc; i++) {
                struct stat st;

                if (strcmp(argv[i], "--good") == 0) {
                        flags = IMAGE_WALK_GOOD;
                        continue;
                }
                if (strcmp(argv[i], "--any") == 0) {
                        flags = 0;
                        continue;
                }
                nr++;
                if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
                        status |= replay_folder(argv[i], flags);
                else
                        status |= replay_file(argv[i], flags);
        }
        if (nr == 0) {
                fprintf(stderr,
                        "usage: fuzz_image_replay [--good] PATH ... [--any PATH ...]\n");
                return 2;
        }
        return status ? 1 : 0;
}
