/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* exercise_log.c - the log of `uext4 exercise`, and its bytes (see exercise_log.h). */
#include "cli/exercise_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put_le(uint8_t *at, uint64_t value, unsigned bytes)
{
        for (unsigned i = 0; i < bytes; i++)
                at[i] = (uint8_t)(value >> (8 * i));
}

void exercise_fill(void *buffer, uint64_t seq, unsigned file, uint64_t pos, uint64_t len)
{
        for (uint64_t at = 0; at < len; at += EXERCISE_UNIT) {
                uint8_t *unit = (uint8_t *)buffer + at;

                put_le(unit, seq, 8);
                put_le(unit + 8, file, 4);
                put_le(unit + 12, (pos + at) / EXERCISE_UNIT, 4);
                for (unsigned done = 16; done < EXERCISE_UNIT; done *= 2)
                        memcpy(unit + done, unit, done);
        }
}

struct exercise_log {
        struct cli *cli;
        const char *path;
        int fd;
        FILE *text; /* in memory: what the next flush writes */
        char *buffer;
        size_t size;
};

struct exercise_log *exercise_log_new(struct cli *cli, const char *path)
{
        struct exercise_log *log = cli_alloc(1, sizeof(*log));

        log->cli = cli;
        log->path = path;
        log->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (log->fd >= 0)
                log->text = open_memstream(&log->buffer, &log->size);
        if (!log->text) {
                cli_fail_errno(cli, path, -errno);
                exercise_log_free(log);
                return NULL;
        }
        fputs("uext4-exercise 1\n", log->text);
        return log;
}

void exercise_log_free(struct exercise_log *log)
{
        if (!log)
                return;
        if (log->text)
                fclose(log->text);
        if (log->fd >= 0)
                close(log->fd);
        free(log->buffer);
        free(log);
}

void exercise_log_file(struct exercise_log *log, unsigned file, const char *name, uint64_t size)
{
        fprintf(log->text, "f %u %s %" PRIu64 "\n", file, name, size);
}

void exercise_log_round(struct exercise_log *log, uint64_t round)
{
        fprintf(log->text, "r %" PRIu64 "\n", round);
}

void exercise_log_write(struct exercise_log *log, uint64_t seq, unsigned file, uint64_t pos,
                        uint64_t len)
{
        fprintf(log->text, "w %" PRIu64 " %u %" PRIu64 " %" PRIu64 "\n", seq, file, pos, len);
}

void exercise_log_ack(struct exercise_log *log, uint64_t seq)
{
        fprintf(log->text, "a %" PRIu64 "\n", seq);
}

int exercise_log_flush(struct exercise_log *log)
{
        size_t done = 0;
        int ret = 0;

        if (fflush(log->text) != 0)
                ret = -ENOMEM;
        while (ret == 0 && done < log->size) {
                ssize_t n = write(log->fd, log->buffer + done, log->size - done);

                if (n < 0 && errno != EINTR)
                        ret = -errno;
                if (n > 0)
                        done += (size_t)n;
        }
        rewind(log->text);
        if (ret < 0)
                cli_fail(log->cli, log->path, "cannot write: %s", cli_strerror(ret));
        return ret;
}
