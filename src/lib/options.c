/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Mount options: a table of names, each with the function that takes its value. */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "lib/lib.h"
#include "util/alloc.h"

/* A number with an optional suffix K, M, G or T (powers of 1024). */
static int parse_size(const char *text, uint64_t *ret_value)
{
        static const char suffixes[] = "KMGT";
        unsigned shift = 0;
        unsigned long long n;
        char *end;

        if (text[0] < '0' || text[0] > '9')
                return -EINVAL;
        errno = 0;
        n = strtoull(text, &end, 0);
        if (errno)
                return -EINVAL;
        if (*end) {
                const char *s = strchr(suffixes, toupper((unsigned char)*end));

                if (!s || end[1])
                        return -EINVAL;
                shift = 10 * (unsigned)(s - suffixes + 1);
        }
        if (n > UINT64_MAX >> shift)
                return -EINVAL;
        *ret_value = n << shift;
        return 0;
}

/* A number without a suffix, at most `max`. */
static int parse_number(const char *text, uint32_t max, uint32_t *ret_value)
{
        unsigned long long n;
        char *end;

        if (text[0] < '0' || text[0] > '9')
                return -EINVAL;
        errno = 0;
        n = strtoull(text, &end, 10);
        if (errno || *end || n > max)
                return -EINVAL;
        *ret_value = (uint32_t)n;
        return 0;
}

/* A word of a list, the place of which is the value. */
static int parse_word(const char *text, const char *const *words, size_t nr,
                      unsigned *ret_value)
{
        for (size_t i = 0; i < nr; i++) {
                if (words[i] && strcmp(words[i], text) == 0) {
                        *ret_value = (unsigned)i;
                        return 0;
                }
        }
        return -EINVAL;
}

static int take_ro(struct lib_options *o, const char *value)
{
        o->ext4.read_only = true;
        return 0;
}

static int take_rw(struct lib_options *o, const char *value)
{
        o->ext4.read_only = false;
        return 0;
}

/* Seconds, as ext4(5) has it; 0 is the default. */
static int take_commit(struct lib_options *o, const char *value)
{
        uint32_t seconds;
        int ret = parse_number(value, UINT32_MAX / 1000, &seconds);

        if (ret == 0)
                o->ext4.commit_ms = seconds * 1000;
        return ret;
}

static void set_barrier(struct lib_options *o, bool on)
{
        o->ext4.nobarrier = !on;
        o->ext4.given |= EXT4_GIVEN_BARRIER;
}

static int take_barrier(struct lib_options *o, const char *value)
{
        uint32_t on = 1;

        if (value && parse_number(value, 1, &on) < 0)
                return -EINVAL;
        set_barrier(o, on);
        return 0;
}

static int take_nobarrier(struct lib_options *o, const char *value)
{
        set_barrier(o, false);
        return 0;
}

static int take_discard(struct lib_options *o, const char *value)
{
        o->ext4.discard = true;
        o->ext4.given |= EXT4_GIVEN_DISCARD;
        return 0;
}

static int take_nodiscard(struct lib_options *o, const char *value)
{
        o->ext4.discard = false;
        o->ext4.given |= EXT4_GIVEN_DISCARD;
        return 0;
}

static int take_errors(struct lib_options *o, const char *value)
{
        static const char *const words[] = {
                [EXT4_ERRORS_CONTINUE] = "continue",
                [EXT4_ERRORS_RO] = "remount-ro",
                [EXT4_ERRORS_PANIC] = "panic",
        };
        unsigned n;

        if (parse_word(value, words, ARRAY_LEN(words), &n) < 0)
                return -EINVAL;
        o->ext4.errors = (uint16_t)n;
        o->ext4.given |= EXT4_GIVEN_ERRORS;
        return 0;
}

static int take_data(struct lib_options *o, const char *value)
{
        static const char *const words[] = {
                [EXT4_DATA_ORDERED] = "ordered",
                [EXT4_DATA_WRITEBACK] = "writeback",
                [EXT4_DATA_JOURNAL] = "journal",
        };
        unsigned n;

        if (parse_word(value, words, ARRAY_LEN(words), &n) < 0)
                return -EINVAL;
        o->ext4.data = (enum ext4_data_mode)n;
        o->ext4.given |= EXT4_GIVEN_DATA;
        return 0;
}

/* As the kernel has it: alone it means always. */
static int take_dax(struct lib_options *o, const char *value)
{
        static const char *const words[] = {
                [EXT4_DAX_INODE] = "inode",
                [EXT4_DAX_ALWAYS] = "always",
                [EXT4_DAX_NEVER] = "never",
        };
        unsigned n = EXT4_DAX_ALWAYS;

        if (value && parse_word(value, words, ARRAY_LEN(words), &n) < 0)
                return -EINVAL;
        o->ext4.dax = (enum ext4_dax_mode)n;
        return 0;
}

static int take_resuid(struct lib_options *o, const char *value)
{
        o->ext4.given |= EXT4_GIVEN_RESUID;
        return parse_number(value, UINT32_MAX, &o->ext4.resuid);
}

static int take_resgid(struct lib_options *o, const char *value)
{
        o->ext4.given |= EXT4_GIVEN_RESGID;
        return parse_number(value, UINT32_MAX, &o->ext4.resgid);
}

static int take_epoch(struct lib_options *o, const char *value)
{
        uint32_t seconds;
        int ret = parse_number(value, UINT32_MAX, &seconds);

        if (ret == 0) {
                o->ext4.has_epoch = true;
                o->ext4.epoch = seconds;
        }
        return ret;
}

static int take_relatime(struct lib_options *o, const char *value)
{
        o->ext4.atime = EXT4_ATIME_RELATIVE;
        return 0;
}

static int take_strictatime(struct lib_options *o, const char *value)
{
        o->ext4.atime = EXT4_ATIME_STRICT;
        return 0;
}

static int take_noatime(struct lib_options *o, const char *value)
{
        o->ext4.atime = EXT4_ATIME_NEVER;
        return 0;
}

static int take_noload(struct lib_options *o, const char *value)
{
        o->ext4.noload = true;
        return 0;
}

static int take_nocsum(struct lib_options *o, const char *value)
{
        o->ext4.nocsum = true;
        return 0;
}

static int take_sb(struct lib_options *o, const char *value)
{
        int ret = parse_size(value, &o->ext4.sb_block);

        return ret == 0 && (o->ext4.sb_block == 0 || o->ext4.sb_block > INT64_MAX / 1024)
                       ? -EINVAL
                       : ret;
}

static int take_offset(struct lib_options *o, const char *value)
{
        return parse_size(value, &o->offset);
}

/* Less does not hold what one request may need at a time. */
#define MIN_PAGE_CACHE (1u << 20)

static int take_meta_cache(struct lib_options *o, const char *value)
{
        return parse_size(value, &o->ext4.meta_cache_bytes);
}

static int take_page_cache(struct lib_options *o, const char *value)
{
        int ret = parse_size(value, &o->ext4.page_cache_bytes);

        return ret == 0 && o->ext4.page_cache_bytes < MIN_PAGE_CACHE ? -EINVAL : ret;
}

static int take_delalloc(struct lib_options *o, const char *value)
{
        o->ext4.nodelalloc = false;
        return 0;
}

static int take_nodelalloc(struct lib_options *o, const char *value)
{
        o->ext4.nodelalloc = true;
        return 0;
}

static int take_journal_path(struct lib_options *o, const char *value)
{
        size_t size = strlen(value) + 1;

        if (size == 1 || size > sizeof(o->journal_path))
                return -EINVAL;
        memcpy(o->journal_path, value, size);
        return 0;
}

enum value {
        NO_VALUE,
        WITH_VALUE,
        MAYBE_VALUE,
};

static const struct option {
        const char *name;
        enum value value;
        int (*take)(struct lib_options *o, const char *value);
} options[] = {
        {"ro", NO_VALUE, take_ro},
        {"rw", NO_VALUE, take_rw},
        {"noload", NO_VALUE, take_noload},
        {"norecovery", NO_VALUE, take_noload},
        {"nocsum", NO_VALUE, take_nocsum},
        {"sb", WITH_VALUE, take_sb},
        {"offset", WITH_VALUE, take_offset},
        {"meta_cache", WITH_VALUE, take_meta_cache},
        {"page_cache", WITH_VALUE, take_page_cache},
        {"delalloc", NO_VALUE, take_delalloc},
        {"nodelalloc", NO_VALUE, take_nodelalloc},
        {"dax", MAYBE_VALUE, take_dax},
        {"journal_path", WITH_VALUE, take_journal_path},
        {"commit", WITH_VALUE, take_commit},
        {"barrier", MAYBE_VALUE, take_barrier},
        {"nobarrier", NO_VALUE, take_nobarrier},
        {"discard", NO_VALUE, take_discard},
        {"nodiscard", NO_VALUE, take_nodiscard},
        {"errors", WITH_VALUE, take_errors},
        {"data", WITH_VALUE, take_data},
        {"resuid", WITH_VALUE, take_resuid},
        {"resgid", WITH_VALUE, take_resgid},
        {"epoch", WITH_VALUE, take_epoch},
        {"relatime", NO_VALUE, take_relatime},
        {"strictatime", NO_VALUE, take_strictatime},
        {"noatime", NO_VALUE, take_noatime},
};

static bool value_fits(const struct option *option, const char *value)
{
        return option->value == MAYBE_VALUE || (option->value == WITH_VALUE) == (value != NULL);
}

static int take_option(struct lib_options *o, char *word, const struct log_sink *log)
{
        char *value = strchr(word, '=');

        if (value)
                *value++ = '\0';
        for (size_t i = 0; i < ARRAY_LEN(options); i++) {
                if (strcmp(options[i].name, word) != 0)
                        continue;
                if (value_fits(&options[i], value) && options[i].take(o, value) == 0)
                        return 0;
                log_say(log, LOG_ERR, "mount option %s: bad value '%s'", word,
                        value ? value : "");
                return -EINVAL;
        }
        log_say(log, LOG_ERR, "unknown mount option '%s'", word);
        return -EINVAL;
}

int lib_parse_options(const char *text, const struct log_sink *log,
                      struct lib_options *ret_options)
{
        struct lib_options o = {
                .ext4 = {.read_only = true,
                         .sb_block = 1,
                         .meta_cache_bytes = EXT4_DEFAULT_META_CACHE,
                         .page_cache_bytes = VFS_PAGECACHE_LIMIT},
        };
        size_t size = text ? strlen(text) + 1 : 1;
        _cleanup_mem_ char *copy = mem_zalloc(size);
        char *rest = copy;
        char *word;

        if (!copy)
                return -ENOMEM;
        if (text)
                memcpy(copy, text, size);
        while ((word = strsep(&rest, ","))) {
                int ret = *word ? take_option(&o, word, log) : 0;

                if (ret < 0)
                        return ret;
        }
        if ((o.ext4.noload || o.ext4.nocsum) && !o.ext4.read_only) {
                log_say(log, LOG_ERR, "mount option %s needs ro",
                        o.ext4.noload ? "noload" : "nocsum");
                return -EINVAL;
        }
        *ret_options = o;
        return 0;
}
