/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Mount options: what each one sets, and what is refused, with a line that names it. */

#include "lib/lib.h"
#include "t_util.h"

struct want {
        bool ro, noload, nocsum;
        uint64_t sb, offset, cache;
};

#define DEFAULTS .sb = 1, .offset = 0, .cache = EXT4_DEFAULT_META_CACHE

static const struct {
        const char *text; /* NULL: none */
        struct want want;
} good[] = {
        {NULL, {DEFAULTS, .ro = true}},
        {"", {DEFAULTS, .ro = true}},
        {",", {DEFAULTS, .ro = true}},
        {"rw", {DEFAULTS}},
        {"ro,rw", {DEFAULTS}},
        {"rw,ro", {DEFAULTS, .ro = true}},
        {"noload", {DEFAULTS, .ro = true, .noload = true}},
        {"rw,noload,ro", {DEFAULTS, .ro = true, .noload = true}},
        {"ro", {DEFAULTS, .ro = true}},
        {"ro,", {DEFAULTS, .ro = true}},
        {",,ro,,", {DEFAULTS, .ro = true}},
        {"ro,ro", {DEFAULTS, .ro = true}},
        {"ro,noload", {DEFAULTS, .ro = true, .noload = true}},
        {"noload,ro", {DEFAULTS, .ro = true, .noload = true}},
        {"ro,norecovery", {DEFAULTS, .ro = true, .noload = true}},
        {"ro,nocsum", {DEFAULTS, .ro = true, .nocsum = true}},
        {"sb=8193", {.ro = true, .sb = 8193, .cache = EXT4_DEFAULT_META_CACHE}},
        {"sb=0x2001", {.ro = true, .sb = 8193, .cache = EXT4_DEFAULT_META_CACHE}},
        {"sb=32K", {.ro = true, .sb = 32768, .cache = EXT4_DEFAULT_META_CACHE}},
        {"sb=3,sb=7", {.ro = true, .sb = 7, .cache = EXT4_DEFAULT_META_CACHE}},
        {"offset=0", {DEFAULTS, .ro = true}},
        {"offset=1048576",
         {.ro = true, .sb = 1, .offset = 1u << 20, .cache = EXT4_DEFAULT_META_CACHE}},
        {"offset=1M",
         {.ro = true, .sb = 1, .offset = 1u << 20, .cache = EXT4_DEFAULT_META_CACHE}},
        {"offset=1m",
         {.ro = true, .sb = 1, .offset = 1u << 20, .cache = EXT4_DEFAULT_META_CACHE}},
        {"offset=3G",
         {.ro = true, .sb = 1, .offset = 3ull << 30, .cache = EXT4_DEFAULT_META_CACHE}},
        {"offset=2T",
         {.ro = true, .sb = 1, .offset = 2ull << 40, .cache = EXT4_DEFAULT_META_CACHE}},
        {"meta_cache=64K", {.ro = true, .sb = 1, .cache = 65536}},
        {"offset=16777215T",
         {.ro = true, .sb = 1, .offset = 16777215ull << 40, .cache = EXT4_DEFAULT_META_CACHE}},
        {"ro,sb=2,offset=512,meta_cache=1M,noload,nocsum",
         {.ro = true,
          .noload = true,
          .nocsum = true,
          .sb = 2,
          .offset = 512,
          .cache = 1u << 20}},
};

static void each_option_sets_its_field(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(good); i++) {
                const char *row = good[i].text ? good[i].text : "(null)";
                const struct want *w = &good[i].want;
                struct lib_options o;
                struct t_log log;
                struct log_sink sink = t_log_sink(&log);

                t_log_init(&log);
                t_assert_row(row, lib_parse_options(good[i].text, &sink, &o), 0);
                t_assert_row(row, o.ext4.read_only, w->ro);
                t_assert_row(row, o.ext4.noload, w->noload);
                t_assert_row(row, o.ext4.nocsum, w->nocsum);
                t_assert_row(row, o.ext4.sb_block, w->sb);
                t_assert_row(row, o.offset, w->offset);
                t_assert_row(row, o.ext4.meta_cache_bytes, w->cache);
                t_assert_row(row, log.nr_lines, 0);
        }
}

/* ---- options for writing ---- */

static const struct {
        const char *text;
        struct ext4_mount_options want;
} writing[] = {
        {"rw", {0}},
        {"commit=30", {.commit_ms = 30000}},
        {"commit=0", {.commit_ms = 0}},
        {"commit=4294967", {.commit_ms = 4294967000u}},
        {"barrier", {.given = EXT4_GIVEN_BARRIER}},
        {"barrier=1", {.given = EXT4_GIVEN_BARRIER}},
        {"barrier=0", {.given = EXT4_GIVEN_BARRIER, .nobarrier = true}},
        {"nobarrier", {.given = EXT4_GIVEN_BARRIER, .nobarrier = true}},
        {"nobarrier,barrier", {.given = EXT4_GIVEN_BARRIER}},
        {"discard", {.given = EXT4_GIVEN_DISCARD, .discard = true}},
        {"discard,nodiscard", {.given = EXT4_GIVEN_DISCARD}},
        {"errors=continue", {.given = EXT4_GIVEN_ERRORS, .errors = EXT4_ERRORS_CONTINUE}},
        {"errors=remount-ro", {.given = EXT4_GIVEN_ERRORS, .errors = EXT4_ERRORS_RO}},
        {"errors=panic", {.given = EXT4_GIVEN_ERRORS, .errors = EXT4_ERRORS_PANIC}},
        {"data=ordered", {.given = EXT4_GIVEN_DATA, .data = EXT4_DATA_ORDERED}},
        {"data=writeback", {.given = EXT4_GIVEN_DATA, .data = EXT4_DATA_WRITEBACK}},
        {"data=journal", {.given = EXT4_GIVEN_DATA, .data = EXT4_DATA_JOURNAL}},
        {"dax", {.dax = EXT4_DAX_ALWAYS}},
        {"dax=always", {.dax = EXT4_DAX_ALWAYS}},
        {"dax=inode", {.dax = EXT4_DAX_INODE}},
        {"dax,dax=never", {.dax = EXT4_DAX_NEVER}},
        {"resuid=1000", {.given = EXT4_GIVEN_RESUID, .resuid = 1000}},
        {"resgid=4294967295", {.given = EXT4_GIVEN_RESGID, .resgid = UINT32_MAX}},
        {"relatime", {.atime = EXT4_ATIME_RELATIVE}},
        {"strictatime", {.atime = EXT4_ATIME_STRICT}},
        {"strictatime,noatime", {.atime = EXT4_ATIME_NEVER}},
        {"epoch=0", {.has_epoch = true}},
        {"epoch=1700000000", {.has_epoch = true, .epoch = 1700000000}},
        {"rw,discard,resuid=1,data=journal",
         {.given = EXT4_GIVEN_DISCARD | EXT4_GIVEN_RESUID | EXT4_GIVEN_DATA,
          .discard = true,
          .resuid = 1,
          .data = EXT4_DATA_JOURNAL}},
};

static void options_for_writing_say_what_was_given(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(writing); i++) {
                const struct ext4_mount_options *w = &writing[i].want;
                const char *row = writing[i].text;
                struct lib_options o;
                struct t_log log;
                struct log_sink sink = t_log_sink(&log);

                t_log_init(&log);
                t_assert_row(row, lib_parse_options(row, &sink, &o), 0);
                t_assert_row(row, o.ext4.given, w->given);
                t_assert_row(row, o.ext4.commit_ms, w->commit_ms);
                t_assert_row(row, o.ext4.nobarrier, w->nobarrier);
                t_assert_row(row, o.ext4.discard, w->discard);
                t_assert_row(row, o.ext4.errors, w->errors);
                t_assert_row(row, o.ext4.data, w->data);
                t_assert_row(row, o.ext4.atime, w->atime);
                t_assert_row(row, o.ext4.dax, w->dax);
                t_assert_row(row, o.ext4.resuid, w->resuid);
                t_assert_row(row, o.ext4.resgid, w->resgid);
                t_assert_row(row, o.ext4.has_epoch, w->has_epoch);
                t_assert_row(row, o.ext4.epoch, w->epoch);
        }
}

static const struct {
        const char *text;
        const char *said; /* in the log */
} bad[] = {
        {"rw,nosuch", "unknown mount option 'nosuch'"},
        {"nosuch", "unknown mount option 'nosuch'"},
        {"ro,nosuch=1", "'nosuch'"},
        {"RO", "'RO'"},
        {" ro", "' ro'"},
        {"ro ", "'ro '"},
        {"r", "'r'"},
        {"=", "''"},
        {"ro=1", "ro: bad value '1'"},
        {"ro=", "ro: bad value ''"},
        {"ro,noload=x", "noload: bad value 'x'"},
        {"sb", "sb: bad value"},
        {"sb=", "sb: bad value"},
        {"sb=0", "sb: bad value '0'"},
        {"sb=x", "sb: bad value 'x'"},
        {"sb=-1", "sb: bad value '-1'"},
        {"sb=+1", "sb: bad value '+1'"},
        {"sb= 1", "sb: bad value ' 1'"},
        {"sb=1 ", "sb: bad value '1 '"},
        {"sb=1Kb", "sb: bad value '1Kb'"},
        {"sb=1X", "sb: bad value '1X'"},
        {"sb=1=2", "sb: bad value '1=2'"},
        {"sb=9007199254740992", "sb: bad value"}, /* times 1024 is 2^63 */
        {"offset=1KK", "offset: bad value '1KK'"},
        {"offset=1 ", "offset: bad value '1 '"},
        {"offset=18446744073709551616", "offset: bad value"},
        {"offset=16777216T", "offset: bad value"},
        {"meta_cache=99999999999999999999", "meta_cache: bad value"},
        {"meta_cache=lots", "meta_cache: bad value 'lots'"},
        {"noload,rw", "noload needs ro"},
        {"rw,norecovery", "noload needs ro"},
        {"rw,nocsum", "nocsum needs ro"},
        {"rw=1", "rw: bad value '1'"},
        {"commit", "commit: bad value ''"},
        {"commit=x", "commit: bad value 'x'"},
        {"commit=5s", "commit: bad value '5s'"},
        {"commit=-1", "commit: bad value '-1'"},
        {"commit=4294968", "commit: bad value"}, /* milliseconds would not fit */
        {"barrier=2", "barrier: bad value '2'"},
        {"barrier=", "barrier: bad value ''"},
        {"nobarrier=1", "nobarrier: bad value '1'"},
        {"discard=1", "discard: bad value '1'"},
        {"errors", "errors: bad value ''"},
        {"errors=", "errors: bad value ''"},
        {"errors=remount", "errors: bad value 'remount'"},
        {"data=orderly", "data: bad value 'orderly'"},
        {"dax=", "dax: bad value ''"},
        {"dax=yes", "dax: bad value 'yes'"},
        {"resuid=root", "resuid: bad value 'root'"},
        {"resuid=4294967296", "resuid: bad value"},
        {"resgid=", "resgid: bad value ''"},
        {"noatime=1", "noatime: bad value '1'"},
        {"epoch=now", "epoch: bad value 'now'"},
        {"epoch=4294967296", "epoch: bad value"},
};

static void bad_options_are_refused_and_named(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct lib_options o = {.offset = 77};
                struct t_log log;
                struct log_sink sink = t_log_sink(&log);

                t_log_init(&log);
                t_assert_row(bad[i].text, lib_parse_options(bad[i].text, &sink, &o), -EINVAL);
                t_assert_row(bad[i].text, log.nr_lines, 1);
                if (!t_log_has(&log, bad[i].said))
                        fail_msg("'%s': the log says %s", bad[i].text, log.text);
                t_assert_row(bad[i].text, o.offset, 77); /* nothing is written on failure */
        }
}

static void no_memory_is_enomem(void **state)
{
        struct lib_options o;
        struct t_log log;
        struct log_sink sink = t_log_sink(&log);
        int ret;

        t_log_init(&log);
        mem_fail_after(0);
        ret = lib_parse_options("ro", &sink, &o);
        mem_fail_after(-1);
        assert_int_equal(ret, -ENOMEM);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_option_sets_its_field),
                cmocka_unit_test(options_for_writing_say_what_was_given),
                cmocka_unit_test(bad_options_are_refused_and_named),
                cmocka_unit_test(no_memory_is_enomem),
        };

        return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
