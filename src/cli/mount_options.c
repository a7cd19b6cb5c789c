/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount_options.c - one table of options (see mount_options.h).
 *
 * The last word counts, as with mount(8).  What only mount(8), fstab(5) and their friends read
 * (`user`, `_netdev`, `x-systemd...`) reaches a mount helper, too, and is passed over; every
 * other unknown word is an error, because an option that does nothing is a promise broken.
 */
#include "cli/mount_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "cli/cli.h"
#include "cli/text.h"

enum value {
        NO_VALUE,
        WITH_VALUE,
        MAYBE_VALUE,
};

struct option_row {
        const char *name;
        enum value value;
        bool for_library;         /* it gets the word as it is */
        unsigned long set, clear; /* MS_* */
        bool (*take)(struct mount_options *o, const char *value);
};

/* ---- what single options do -------------------------------------------- */

static void replace(char **text, const char *value)
{
        free(*text);
        *text = cli_strdup(value);
}

static bool take_ro(struct mount_options *o, const char *value)
{
        o->is_read_only = true;
        return true;
}

static bool take_rw(struct mount_options *o, const char *value)
{
        o->is_read_only = false;
        return true;
}

static bool take_offset(struct mount_options *o, const char *value)
{
        return text_parse_size(value, &o->offset) == 0 && o->offset <= INT64_MAX;
}

static bool take_journal(struct mount_options *o, const char *value)
{
        replace(&o->journal, value);
        return *value;
}

static bool take_fsname(struct mount_options *o, const char *value)
{
        replace(&o->fsname, value);
        return *value;
}

/* It is the end of the type's name, and the kernel takes the rest of a path for that, too. */
static bool take_subtype(struct mount_options *o, const char *value)
{
        replace(&o->subtype, value);
        return *value && !strchr(value, '/');
}

static bool take_allow_other(struct mount_options *o, const char *value)
{
        o->allow_other = true;
        o->allow_root = false;
        return true;
}

static bool take_allow_root(struct mount_options *o, const char *value)
{
        o->allow_root = true;
        o->allow_other = false;
        return true;
}

static bool take_default_permissions(struct mount_options *o, const char *value)
{
        o->default_permissions = true;
        return true;
}

static bool take_nodefault_permissions(struct mount_options *o, const char *value)
{
        o->default_permissions = false;
        return true;
}

static bool take_cache(struct mount_options *o, const char *value)
{
        static const char *const words[] = {"auto", "none", "writeback"};

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
                if (strcmp(value, words[i]) == 0) {
                        replace(&o->cache, value);
                        return true;
                }
        }
        return false;
}

static bool take_threads(struct mount_options *o, const char *value)
{
        uint64_t n;

        if (text_parse_size(value, &n) < 0 || n < 1 || n > 1024)
                return false;
        o->nr_threads = (unsigned)n;
        return true;
}

static bool take_debug(struct mount_options *o, const char *value)
{
        o->debug = true;
        return true;
}

static bool take_sandbox(struct mount_options *o, const char *value)
{
        o->sandbox = MOUNT_SANDBOX_ALWAYS;
        return true;
}

static bool take_nosandbox(struct mount_options *o, const char *value)
{
        o->sandbox = MOUNT_SANDBOX_NEVER;
        return true;
}

/* ---- the table ----------------------------------------------------------- */

#define ATIME_FLAGS (MS_NOATIME | MS_RELATIME | MS_STRICTATIME)
#define USER_FLAGS  (MS_NOSUID | MS_NODEV)

#define LIBRARY(n, v)                                   \
        {                                               \
                .name = n, .value = v, .for_library = 1 \
        }
#define FLAG(n, s, c)                           \
        {                                       \
                .name = n, .set = s, .clear = c \
        }
#define IGNORED(n)                              \
        {                                       \
                .name = n, .value = MAYBE_VALUE \
        }

/* clang-format off: a table */
static const struct option_row rows[] = {
        {"ro", NO_VALUE, true, MS_RDONLY, 0, take_ro},
        {"rw", NO_VALUE, true, 0, MS_RDONLY, take_rw},
        {"noatime", NO_VALUE, true, MS_NOATIME, ATIME_FLAGS, NULL},
        {"relatime", NO_VALUE, true, MS_RELATIME, ATIME_FLAGS, NULL},
        {"strictatime", NO_VALUE, true, MS_STRICTATIME, ATIME_FLAGS, NULL},
        {"journal_path", WITH_VALUE, true, 0, 0, take_journal},
        LIBRARY("noload", NO_VALUE),
        LIBRARY("norecovery", NO_VALUE),
        LIBRARY("nocsum", NO_VALUE),
        LIBRARY("sb", WITH_VALUE),
        LIBRARY("meta_cache", WITH_VALUE),
        LIBRARY("page_cache", WITH_VALUE),
        LIBRARY("dax", MAYBE_VALUE),
        LIBRARY("commit", WITH_VALUE),
        LIBRARY("barrier", MAYBE_VALUE),
        LIBRARY("nobarrier", NO_VALUE),
        LIBRARY("discard", NO_VALUE),
        LIBRARY("nodiscard", NO_VALUE),
        LIBRARY("errors", WITH_VALUE),
        LIBRARY("data", WITH_VALUE),
        LIBRARY("delalloc", NO_VALUE),
        LIBRARY("nodelalloc", NO_VALUE),
        LIBRARY("resuid", WITH_VALUE),
        LIBRARY("resgid", WITH_VALUE),
        LIBRARY("epoch", WITH_VALUE),
        {"offset", WITH_VALUE, false, 0, 0, take_offset},

        FLAG("suid", 0, MS_NOSUID),
        FLAG("nosuid", MS_NOSUID, 0),
        FLAG("dev", 0, MS_NODEV),
        FLAG("nodev", MS_NODEV, 0),
        FLAG("exec", 0, MS_NOEXEC),
        FLAG("noexec", MS_NOEXEC, 0),
        FLAG("async", 0, MS_SYNCHRONOUS),
        FLAG("sync", MS_SYNCHRONOUS, 0),
        FLAG("nodiratime", MS_NODIRATIME, 0),
        FLAG("diratime", 0, MS_NODIRATIME),
        {"defaults", NO_VALUE, false, 0, MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS,
         NULL},
        {"user", MAYBE_VALUE, false, USER_FLAGS | MS_NOEXEC, 0, NULL},
        {"users", NO_VALUE, false, USER_FLAGS | MS_NOEXEC, 0, NULL},
        {"owner", NO_VALUE, false, USER_FLAGS, 0, NULL},
        {"group", NO_VALUE, false, USER_FLAGS, 0, NULL},

        {"fsname", WITH_VALUE, false, 0, 0, take_fsname},
        {"subtype", WITH_VALUE, false, 0, 0, take_subtype},
        {"allow_other", NO_VALUE, false, 0, 0, take_allow_other},
        {"allow_root", NO_VALUE, false, 0, 0, take_allow_root},
        {"default_permissions", NO_VALUE, false, 0, 0, take_default_permissions},
        {"nodefault_permissions", NO_VALUE, false, 0, 0, take_nodefault_permissions},
        {"cache", WITH_VALUE, false, 0, 0, take_cache},
        {"threads", WITH_VALUE, false, 0, 0, take_threads},
        {"debug", NO_VALUE, false, 0, 0, take_debug},
        {"sandbox", NO_VALUE, false, 0, 0, take_sandbox},
        {"nosandbox", NO_VALUE, false, 0, 0, take_nosandbox},

        IGNORED("auto"),
        IGNORED("noauto"),
        IGNORED("nouser"),
        IGNORED("nofail"),
        IGNORED("_netdev"),
        IGNORED("loop"),
        IGNORED("comment"),
        IGNORED("helper"),
        IGNORED("uhelper"),
};
/* clang-format on */

static bool is_foreign(const char *name)
{
        return strncasecmp(name, "x-", 2) == 0;
}

static const struct option_row *find_row(const char *name, size_t len)
{
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
                        return &rows[i];
        return NULL;
}

/* ---- lists --------------------------------------------------------------- */

/* What is wrong with the word, or NULL. */
static const char *take_word(struct mount_options *o, const char *word)
{
        const char *equals = strchrnul(word, '='), *value = *equals ? equals + 1 : NULL;
        const struct option_row *row = find_row(word, (size_t)(equals - word));

        if (!row)
                return is_foreign(word) ? NULL : "unknown mount option";
        if (row->value == NO_VALUE && value)
                return "this mount option takes no value";
        if (row->value == WITH_VALUE && !value)
                return "this mount option needs a value";
        if (row->take && !row->take(o, value))
                return "mount option with a bad value";
        o->flags = (o->flags & ~row->clear) | row->set;
        if (row->for_library)
                cli_join(&o->library, word);
        return NULL;
}

char *mount_options_parse(struct mount_options *o, const char *list, const char **ret_why)
{
        char *copy = cli_strdup(list), *rest = copy, *word, *wrong = NULL;

        while (!wrong && (word = strsep(&rest, ","))) {
                const char *why = *word ? take_word(o, word) : NULL;

                if (why) {
                        wrong = cli_strdup(word);
                        *ret_why = why;
                }
        }
        free(copy);
        return wrong;
}

void mount_options_init(struct mount_options *o)
{
        *o = (struct mount_options){
                .library = cli_strdup("rw"),
                .flags = MS_NOSUID | MS_NODEV,
                .default_permissions = true,
        };
}

void mount_options_free(struct mount_options *o)
{
        free(o->library);
        free(o->journal);
        free(o->fsname);
        free(o->subtype);
        free(o->cache);
}

char *mount_options_flag_words(unsigned long flags)
{
        char *words = cli_strdup("");

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                const struct option_row *row = &rows[i];
                bool is_one_flag = row->set && (row->set & (row->set - 1)) == 0;

                if (is_one_flag && (flags & row->set))
                        cli_join(&words, row->name);
        }
        return words;
}
