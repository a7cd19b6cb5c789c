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

static int take_ro(struct lib_options *o, const char *value)
{
        o->ext4.read_only = true;
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

static int take_meta_cache(struct lib_options *o, const char *value)
{
        return parse_size(value, &o->ext4.meta_cache_bytes);
}

static int take_journal_path(struct lib_options *o, const char *value)
{
        size_t size = strlen(value) + 1;

        if (size == 1 || size > sizeof(o->journal_path))
                return -EINVAL;
        memcpy(o->journal_path, value, size);
        return 0;
}

static const struct option {
        const char *name;
        bool has_value;
        int (*take)(struct lib_options *o, const char *value);
} options[] = {
        {"ro", false, take_ro},
        {"noload", false, take_noload},
        {"norecovery", false, take_noload},
        {"nocsum", false, take_nocsum},
        {"sb", true, take_sb},
        {"offset", true, take_offset},
        {"meta_cache", true, take_meta_cache},
        {"journal_path", true, take_journal_path},
};

static int take_option(struct lib_options *o, char *word, const struct log_sink *log)
{
        char *value = strchr(word, '=');

        if (value)
                *value++ = '\0';
        for (size_t i = 0; i < ARRAY_LEN(options); i++) {
                if (strcmp(options[i].name, word) != 0)
                        continue;
                if (options[i].has_value == (value != NULL) && options[i].take(o, value) == 0)
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
                .ext4 = {.sb_block = 1, .meta_cache_bytes = EXT4_DEFAULT_META_CACHE},
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
