/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that grow in turns: change_grow IMAGE fallocate|append FILES STEP TURNS makes each of
 * /g0 .. longer by STEP bytes, TURNS times.  All are open all the time: who closes a file gives
 * back what is kept for it.
 */
#include <fcntl.h>

#include "ops.h"

#define MAX_FILES 64

static void grow(struct uext4_file *file, bool append, uint64_t pos, uint64_t step,
                 const char *bytes)
{
        if (append)
                T_CHECK(uext4_pwrite(file, bytes, (size_t)step, pos) == (ssize_t)step);
        else
                T_CHECK(uext4_fallocate(file, 0, pos, step) == 0);
}

int main(int argc, char **argv)
{
        struct uext4_file *files[MAX_FILES];
        struct uext4_bdev *dev;
        struct rig_mount m;
        char *bytes;

        if (argc != 6) {
                fprintf(stderr, "usage: change_grow IMAGE fallocate|append FILES STEP TURNS\n");
                return 2;
        }
        const bool append = strcmp(argv[2], "append") == 0;
        const unsigned nr = (unsigned)strtoul(argv[3], NULL, 0);
        const uint64_t step = strtoull(argv[4], NULL, 0);
        const unsigned turns = (unsigned)strtoul(argv[5], NULL, 0);

        T_CHECK(nr <= MAX_FILES);
        bytes = t_alloc((size_t)step);
        memset(bytes, 'g', (size_t)step);
        T_CHECK(uext4_bdev_open_mmap(argv[1], 0, &dev) == 0);
        T_CHECK(rig_mount(&m, dev, RIG_OPTIONS) == 0);
        for (unsigned n = 0; n < nr; n++) {
                char path[16];

                snprintf(path, sizeof(path), "/g%u", n);
                T_CHECK(uext4_open_path(m.fs, path, O_RDWR | O_DIRECT, &files[n]) == 0);
        }
        for (unsigned i = 0; i < nr * turns; i++)
                grow(files[i % nr], append, i / nr * step, step, bytes);
        for (unsigned n = 0; n < nr; n++)
                uext4_close(files[n]);
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
        free(bytes);
        return 0;
}
