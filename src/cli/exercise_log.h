/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_EXERCISE_LOG_H
#define UEXT4_CLI_EXERCISE_LOG_H

/*
 * exercise_log.h - the log of `uext4 exercise`, lines of text, and the bytes that it writes.
 *
 *      uext4-exercise 1            the first line
 *      f FILE NAME SIZE            a file, by number, and its size before the first round
 *      r ROUND                     a round begins
 *      w SEQ FILE POS LEN          bytes that will be written
 *      a SEQ                       that write is acknowledged
 *
 * Each 512 bytes that write SEQ puts at POS of FILE are 32 times the same 16: SEQ as 64 bits,
 * FILE and POS / 512 as 32 bits, little-endian.
 *
 * Lines are collected, and go to the kernel with a flush; then they outlive the process, not
 * the machine.
 */

#include "cli/cli.h"

#define EXERCISE_UNIT 512u

/* What write `seq` puts at [pos, pos + len) of a file: whole units. */
void exercise_fill(void *buffer, uint64_t seq, unsigned file, uint64_t pos, uint64_t len);

struct exercise_log;

/* Replaces a file that is there.  NULL when that failed and was said. */
struct exercise_log *exercise_log_new(struct cli *cli, const char *path);
void exercise_log_free(struct exercise_log *log); /* without a flush; NULL is fine */

void exercise_log_file(struct exercise_log *log, unsigned file, const char *name,
                       uint64_t size);
void exercise_log_round(struct exercise_log *log, uint64_t round);
void exercise_log_write(struct exercise_log *log, uint64_t seq, unsigned file, uint64_t pos,
                        uint64_t len);
void exercise_log_ack(struct exercise_log *log, uint64_t seq);

/* 0, or -errno, which is said. */
int exercise_log_flush(struct exercise_log *log);

#endif
