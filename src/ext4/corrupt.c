/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The one place where damage on disk is put into words. */

#include <stdio.h>

#include "ext4/super_write.h"

/*
 * Whether the same was said before.  Damage is met again and again by whoever walks over it;
 * a table of hashes that forgets on collision keeps the log short in bounded memory.
 */
static bool said_before(const struct ext4_where *at, const char *what)
{
        uint64_t hash = (at->ino ^ at->blk << 20) * 0x9e3779b97f4a7c15u;
        _Atomic uint64_t *slot;

        while (*what)
                hash = (hash ^ (uint8_t)*what++) * 0x100000001b3u;
        slot = &at->fs->said[hash >> 32 & (EXT4_NR_SAID - 1)];
        return atomic_exchange_explicit(slot, hash, memory_order_relaxed) == hash;
}

/* Where in the program it was found, for the superblock's memory of errors. */
struct finder {
        int err;
        const char *func;
        uint32_t line;
};

static int say(const struct ext4_where *at, const struct finder *by, const char *what)
{
        const struct ext4_error error = {by->err, at->ino, at->blk, by->func, by->line};
        char place[64] = "";
        int n = 0;

        if (said_before(at, what))
                return by->err;
        if (at->ino)
                n = snprintf(place, sizeof(place), "inode %llu: ", (unsigned long long)at->ino);
        if (at->blk)
                snprintf(place + n, sizeof(place) - (size_t)n,
                         "block %llu: ", (unsigned long long)at->blk);
        log_say(&at->fs->vfs.log, LOG_ERR, "%s%s", place, what);
        ext4_note_error(at->fs, &error);
        return by->err;
}

int ext4_corrupt_in(const struct ext4_where *at, const char *func, uint32_t line,
                    const char *fmt, ...)
{
        const struct finder by = {-EUCLEAN, func, line};
        char what[256];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        return say(at, &by, what);
}

int ext4_bad_csum_in(const struct ext4_where *at, const char *func, uint32_t line,
                     const char *what)
{
        const struct finder by = {-EBADMSG, func, line};
        char text[256];

        snprintf(text, sizeof(text), "%s: the checksum does not match", what);
        return say(at, &by, text);
}
