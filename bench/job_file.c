/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job_file.c - a whole file through a cache: written, read, overwritten (worker.h). */
#include <errno.h>
#include <stdlib.h>

#include "worker.h"

#define OVERWRITTEN_PART 8u /* of the file is what is overwritten */
#define OPS_PER_LOOK     16u

static void job_write(struct bench *b)
{
        const double start = now();
        union handle file;

        check("create", b->on->create(b->root, "new", 0, &file));
        for (uint64_t pos = 0; pos < b->p.size; pos += CHUNK) {
                size_t len = b->p.size - pos < CHUNK ? (size_t)(b->p.size - pos) : CHUNK;

                check_whole("write", b->on->write(file, b->buf, len, pos, false), len);
        }
        check("fdatasync", b->on->fdatasync(file));
        report("write", b->p.size, now() - start);
        b->on->close(file);
        check("unlink", b->on->unlink(b->root, "new"));
}

static union handle open_data(const struct bench *b)
{
        union handle file;

        check("cannot open data", b->on->open(b->root, "data", 0, &file));
        return file;
}

static void job_read(struct bench *b)
{
        union handle file = open_data(b);
        double start = now();

        read_all(b, file);
        report("cold", b->p.size, now() - start);
        start = now();
        read_all(b, file);
        report("warm", b->p.size, now() - start);
        b->on->close(file);
}

static void write_page(const struct bench *b, union handle file, uint32_t page)
{
        const uint64_t pos = (uint64_t)page * PAGE;

        check_whole("write", b->on->write(file, b->buf, PAGE, pos, false), PAGE);
}

/*
 * Making a clean page dirty costs more than writing to one that is: the first has a number of
 * requests, not a time, so that the second has the same pages whoever is measured.
 */
static void job_overwrite(struct bench *b)
{
        const uint32_t nr_pages = (uint32_t)(b->p.size / PAGE);
        const uint32_t nr_dirty = nr_pages / OVERWRITTEN_PART;
        uint32_t *pages = shuffled(nr_pages);
        union handle file = open_data(b);
        uint64_t nr = 0;
        double start;

        if (nr_dirty == 0)
                fail("size", -EINVAL);
        read_all(b, file);
        start = now();
        for (uint32_t i = 0; i < nr_dirty; i++)
                write_page(b, file, pages[i]);
        report("clean", nr_dirty, now() - start);
        start = now();
        while (nr % OPS_PER_LOOK || now() - start < b->p.seconds)
                write_page(b, file, pages[nr++ % nr_dirty]);
        report("dirty", nr, now() - start);
        b->on->close(file);
        free(pages);
}

const struct job file_jobs[] = {
        {"write", job_write},
        {"read", job_read},
        {"overwrite", job_overwrite},
        {NULL, NULL},
};
