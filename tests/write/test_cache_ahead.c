/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reading ahead in the background: that it is done, and that nobody sees it.  The thread's
 * requests stop at a gate (held.h), so that others meet it half way.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "../change/rig.h"
#include "held.h"
#include "vfs/pages.h"

#define EXT4_4K                                                                         \
        "-b 4096 -I 256 -N 64 -J size=4 -O none,has_journal,extents,huge_file,flex_bg," \
        "64bit,dir_nlink,extra_isize,metadata_csum,large_file,filetype,sparse_super"

#define FILE_SIZE (6u << 20)
#define PART      65536u

struct stage {
        struct t_image img;
        struct uext4_bdev *fault, *dev;
        struct rig_mount m;
        struct uext4_file *file;
        uint8_t *buf; /* PART bytes */
        struct held_gate gate;
        pthread_t tester;
        struct uext4_file *other; /* of another thread, as it were: see write_another() */
        enum held_when when;      /* the gate is */
        atomic_bool is_done;      /* what the test has begun in a thread */
};

/* The first read of another thread than the test's waits until it may go on. */
static void gate_hook(void *arg, enum held_when when, const struct held_io *io)
{
        struct stage *st = arg;

        if (io->op == UEXT4_BDEV_READ && when == st->when &&
            !pthread_equal(pthread_self(), st->tester))
                held_gate_pass(&st->gate);
}

/* ---- the stage: a file whose parts have a letter each ---- */

static uint8_t letter_at(uint64_t pos)
{
        return (uint8_t)('a' + pos / PART % 26);
}

static void t_begin(struct stage *st, const char *options)
{
        char words[128];

        snprintf(words, sizeof(words), RIG_OPTIONS "%s", options);
        assert_int_equal(rig_mount(&st->m, st->dev, words), 0);
        assert_int_equal(uext4_open_path(st->m.fs, "/file", O_RDWR, &st->file), 0);
}

static void t_end(struct stage *st)
{
        uext4_close(st->file);
        assert_int_equal(rig_unmount(&st->m), 0);
}

static void t_open(struct stage *st, const char *options)
{
        memset(st, 0, sizeof(*st));
        st->img = rig_make(16 << 20, EXT4_4K, NULL, "write /dev/null file\\n");
        assert_int_equal(uext4_bdev_open_fault(rig_open_image(&st->img), &st->fault), 0);
        st->dev = held_open(st->fault);
        st->buf = aligned_alloc(4096, PART);
        t_begin(st, "");
        for (uint64_t pos = 0; pos < FILE_SIZE; pos += PART) {
                memset(st->buf, letter_at(pos), PART);
                assert_int_equal(uext4_pwrite(st->file, st->buf, PART, pos), PART);
        }
        t_end(st);
        t_begin(st, options);
        st->gate = (struct held_gate)HELD_GATE;
        st->tester = pthread_self();
        held_set_hook(st->dev, gate_hook, st);
}

static void t_done(struct stage *st)
{
        uext4_close(st->file);
        rig_end(&st->m, st->dev, &st->img);
        free(st->buf);
}

static void t_read(struct stage *st, uint64_t pos)
{
        assert_int_equal(uext4_pread(st->file, st->buf, PART, pos), PART);
        for (unsigned i = 0; i < PART; i++)
                assert_int_equal(st->buf[i], letter_at(pos));
}

/* It is in the cache, soon. */
static void t_wait_for(struct stage *st, uint64_t pos)
{
        const uint64_t late = clock_ns() + 60000000000ull;

        while (!vfs_pages_have(&st->file->inode->vfs, pos, pos + 1)) {
                assert_true(clock_ns() < late);
                sched_yield();
        }
}

/* Whether it was ever asked. */
static bool t_has_thread(struct stage *st)
{
        return st->m.fs->ext4->vfs.pagecache.readers.has_thread;
}

/* Read on until the thread is at the gate: it fills the folio that would be read next. */
static uint64_t t_meet(struct stage *st, enum held_when when)
{
        uint64_t pos = 0;

        st->when = when; /* there is no thread yet */
        held_gate_arm(&st->gate);
        for (unsigned i = 0; i < 2; i++, pos += PART)
                t_read(st, pos);
        held_gate_wait(&st->gate);
        return pos;
}

/* Run fn while the thread is at the gate: it waits for the thread. */
static void t_must_wait(struct stage *st, void *(*fn)(void *))
{
        const struct timespec nap = {.tv_nsec = 30000000};
        pthread_t other;

        T_CHECK(pthread_create(&other, NULL, fn, st) == 0);
        nanosleep(&nap, NULL);
        assert_false(atomic_load(&st->is_done));
        held_gate_open(&st->gate);
        pthread_join(other, NULL);
        assert_true(atomic_load(&st->is_done));
}

/* ---- tests ---- */

/* Who has read three parts finds the following ones, and more the farther he gets. */
static void the_next_folios_are_there_before_they_are_asked_for(void **state)
{
        struct stage st;
        uint64_t pos = 0;

        t_open(&st, "");
        for (; pos < 4 * PART; pos += PART)
                t_read(&st, pos);
        t_wait_for(&st, pos + 3 * PART);
        for (; pos < FILE_SIZE; pos += PART)
                t_read(&st, pos);
        t_done(&st);
}

/* The same by loans. */
static void who_borrows_on_and_on_reads_ahead(void **state)
{
        struct stage st;

        t_open(&st, "");
        for (uint64_t pos = 0; pos < 4 * PART; pos += PART) {
                struct uext4_loan *loan;
                struct iovec iov[8];

                assert_int_equal(uext4_lend(st.file, pos, PART, iov, 8, &loan), PART);
                assert_int_equal(*(char *)iov[0].iov_base, letter_at(pos));
                uext4_loan_end(loan);
        }
        t_wait_for(&st, 7 * PART);
        t_done(&st);
}

/* Not for who reads here and there, nor where it would push everything else out. */
static void nobody_else_reads_ahead(void **state)
{
        struct stage st;

        t_open(&st, "");
        for (uint64_t pos = FILE_SIZE; pos > 0; pos -= 2 * PART)
                t_read(&st, pos - 2 * PART);
        assert_false(t_has_thread(&st));
        t_end(&st);
        t_begin(&st, ",page_cache=2M");
        for (uint64_t pos = 0; pos < FILE_SIZE; pos += PART)
                t_read(&st, pos);
        assert_false(t_has_thread(&st));
        t_done(&st);
}

/* Who comes to a folio that is being filled waits for it; others do not. */
static void a_reader_meets_the_thread(void **state)
{
        struct stage st;
        uint64_t pos;

        t_open(&st, "");
        pos = t_meet(&st, HELD_BEFORE);
        t_read(&st, FILE_SIZE - PART);
        held_gate_open(&st.gate);
        for (; pos < FILE_SIZE; pos += PART)
                t_read(&st, pos);
        t_done(&st);
}

static void *run_truncate(void *arg)
{
        struct stage *st = arg;

        T_CHECK(uext4_truncate(st->file, PART) == 0);
        atomic_store(&st->is_done, true);
        return NULL;
}

/* Blocks are not taken away from under the thread, and nothing of them stays (C39). */
static void truncate_waits_for_the_thread_C39(void **state)
{
        struct stage st;
        uint8_t *got;

        t_open(&st, "");
        (void)t_meet(&st, HELD_BEFORE);
        t_must_wait(&st, run_truncate);
        assert_int_equal(uext4_truncate(st.file, FILE_SIZE), 0);
        got = t_alloc(FILE_SIZE);
        assert_int_equal(uext4_pread(st.file, got, FILE_SIZE, 0), FILE_SIZE);
        for (uint64_t i = 0; i < FILE_SIZE; i++)
                assert_int_equal(got[i], i < PART ? 'a' : 0);
        free(got);
        t_done(&st);
}

static void *run_direct_write(void *arg)
{
        struct stage *st = arg;
        struct uext4_file *direct;

        T_CHECK(uext4_open_path(st->m.fs, "/file", O_RDWR | O_DIRECT, &direct) == 0);
        memset(st->buf, '!', PART);
        T_CHECK(uext4_pwrite(direct, st->buf, PART, 2 * PART) == PART);
        uext4_close(direct);
        atomic_store(&st->is_done, true);
        return NULL;
}

/* The thread has read, and is not done with the folio: what is written is newer (B30). */
static void a_direct_write_meets_the_thread_B30(void **state)
{
        struct stage st;

        t_open(&st, "");
        (void)t_meet(&st, HELD_AFTER);
        t_must_wait(&st, run_direct_write);
        assert_int_equal(uext4_pread(st.file, st.buf, PART, 2 * PART), PART);
        for (unsigned i = 0; i < PART; i++)
                assert_int_equal(st.buf[i], '!');
        t_done(&st);
}

static void *run_close(void *arg)
{
        struct stage *st = arg;

        uext4_close(st->file);
        atomic_store(&st->is_done, true);
        return NULL;
}

/* The thread has no reference of its own: who closes the file waits. */
static void closing_waits_for_the_thread(void **state)
{
        struct stage st;

        t_open(&st, "");
        (void)t_meet(&st, HELD_BEFORE);
        t_must_wait(&st, run_close);
        st.file = NULL;
        t_done(&st);
}

/* What the thread could not read the reader does, and hears of it only when he cannot. */
static void errors_are_for_the_reader(void **state)
{
        const struct uext4_bdev_fault rule = {
                .ops = 1u << UEXT4_BDEV_READ, .count = 1, .error = -EIO};
        struct stage st;
        uint64_t pos;

        t_open(&st, "");
        pos = t_meet(&st, HELD_BEFORE);
        assert_int_equal(uext4_bdev_fault_add(st.fault, &rule), 0);
        held_gate_open(&st.gate);
        for (; pos < FILE_SIZE; pos += PART)
                t_read(&st, pos);
        t_done(&st);
}

/* ---- this thread, the flusher's, the journal's, and that of errors ---- */

/* Of one thread: what /proc says of its mask. */
static uint64_t blocked_signals(const char *tid)
{
        char path[512], line[256];
        unsigned long long mask = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/self/task/%s/status", tid);
        f = fopen(path, "r");
        T_CHECK(f);
        while (fgets(line, sizeof(line), f)) {
                if (sscanf(line, "SigBlk: %llx", &mask) == 1)
                        break;
        }
        fclose(f);
        return mask;
}

static void signals_are_the_programs(void **state)
{
        const pid_t me = gettid();
        struct dirent *entry;
        unsigned nr = 0;
        struct stage st;
        DIR *tasks;

        t_open(&st, "");
        t_read(&st, 0);
        t_read(&st, PART);
        assert_true(t_has_thread(&st));
        assert_int_equal(uext4_pwrite(st.file, st.buf, PART, 0), PART);
        tasks = opendir("/proc/self/task");
        assert_non_null(tasks);
        while ((entry = readdir(tasks))) {
                if (entry->d_name[0] == '.' || atoi(entry->d_name) == me)
                        continue;
                nr++;
                if (!(blocked_signals(entry->d_name) & 1ull << (SIGUSR1 - 1)))
                        fail_msg("one of our threads takes signals");
        }
        closedir(tasks);
        assert_true(nr >= 4);
        t_done(&st);
}

/* While unmount writes back, another file is written, and closed; the flusher does the rest. */
static void write_another(void *arg, enum held_when when, const struct held_io *io)
{
        struct stage *st = arg;
        struct vfs_pagecache *cache = &st->m.fs->ext4->vfs.pagecache;
        struct uext4_file *other = st->other;
        bool is_busy = true;

        if (io->op != UEXT4_BDEV_WRITE || !other || !pthread_equal(pthread_self(), st->tester))
                return;
        st->other = NULL;
        for (unsigned i = 0; i < 6; i++) /* more than a quarter of the cache */
                T_CHECK(uext4_pwrite(other, st->buf, PART, i * PART) == PART);
        uext4_close(other);
        while (is_busy) { /* but for the file that is being written here */
                sched_yield();
                mtx_lock(&cache->lock);
                is_busy = !TAILQ_EMPTY(&cache->dirty) || cache->nr_releasing > 0 ||
                          TAILQ_NEXT(TAILQ_FIRST(&cache->writing), link);
                mtx_unlock(&cache->lock);
        }
}

static unsigned nr_threads(void)
{
        DIR *tasks = opendir("/proc/self/task");
        const struct dirent *entry;
        unsigned nr = 0;

        T_CHECK(tasks);
        while ((entry = readdir(tasks)))
                nr += entry->d_name[0] != '.';
        closedir(tasks);
        return nr;
}

static void unmounting_ends_all_threads(void **state)
{
        const unsigned before = nr_threads();
        struct uext4_inode *root, *inode;
        struct stage st;

        t_open(&st, ",page_cache=1M");
        assert_int_equal(uext4_resolve(st.m.fs, "/", 0, &root), 0);
        assert_int_equal(uext4_create(root, "other", 5, 0644, &inode), 0);
        assert_int_equal(uext4_open(inode, O_RDWR, &st.other), 0);
        uext4_inode_put(inode);
        uext4_inode_put(root);
        assert_int_equal(uext4_pwrite(st.file, st.buf, PART, 0), PART);
        uext4_close(st.file);
        held_set_hook(st.dev, write_another, &st);
        assert_int_equal(rig_unmount(&st.m), 0);
        assert_null(st.other);
        assert_int_equal(nr_threads(), before);
        held_set_hook(st.dev, NULL, NULL);
        uext4_bdev_close(st.dev);
        rig_must_be_clean(st.img.data, st.img.size);
        t_image_free(&st.img);
        free(st.buf);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_next_folios_are_there_before_they_are_asked_for),
                cmocka_unit_test(who_borrows_on_and_on_reads_ahead),
                cmocka_unit_test(nobody_else_reads_ahead),
                cmocka_unit_test(a_reader_meets_the_thread),
                cmocka_unit_test(truncate_waits_for_the_thread_C39),
                cmocka_unit_test(a_direct_write_meets_the_thread_B30),
                cmocka_unit_test(closing_waits_for_the_thread),
                cmocka_unit_test(errors_are_for_the_reader),
                cmocka_unit_test(signals_are_the_programs),
                cmocka_unit_test(unmounting_ends_all_threads),
        };

        return cmocka_run_group_tests_name("cache_ahead", tests, NULL, NULL);
}
