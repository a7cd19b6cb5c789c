/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Errors of a file system that is being written: what `errors=` asks for.
 *
 * Damage is found deep inside, with locks held that are behind the journal's and the
 * superblock's in the order.  So who finds it only notes it here, and a thread without locks
 * does the rest: it puts the error into the superblock, under a handle while the journal goes
 * on, past it when that has ended.
 *
 * Who must stop a half-done change does not wait for that: ext4_abort() aborts the journal at
 * once, and only the superblock is left to the thread.
 */

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ext4/super_write.h"
#include "util/alloc.h"
#include "util/thread.h"

/* The errors of this mount.  They are stored as a whole, so that it does no harm to do it
 * twice: as part of a transaction that an abort has made void, and then past the journal. */
struct batch {
        uint32_t before; /* errors that the superblock had at mount */
        uint32_t nr;
        struct ext4_error first, last;
        int64_t first_time, last_time;
};

struct ext4_errors {
        struct mtx lock; /* RANK_LEAF */
        struct cond noted;
        struct batch batch; /* [lock] */
        bool pending;       /* something of it is to be stored [lock] */
        bool aborted;       /* an error that has ended writing is noted [lock] */
        bool stop;          /* [lock] */
        bool running;       /* the thread [mount, unmount] */
        pthread_t thread;
};

/* ---- in the superblock ---- */

/* How the superblock names errors; it has no other numbers. */
static uint8_t code_on_disk(int err)
{
        static const struct {
                int err;
                uint8_t code;
        } codes[] = {
                {EIO, 2},      {ENOMEM, 3},     {EBADMSG, 4},    {EUCLEAN, 5},
                {ENOSPC, 6},   {ENOKEY, 7},     {EROFS, 8},      {EFBIG, 9},
                {EEXIST, 10},  {ERANGE, 11},    {EOVERFLOW, 12}, {EBUSY, 13},
                {ENOTDIR, 14}, {ENOTEMPTY, 15}, {ESHUTDOWN, 16}, {EFAULT, 17},
        };

        for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
                if (codes[i].err == -err)
                        return codes[i].code;
        }
        return 1; /* unknown */
}

static void copy_name(char *field, size_t size, const char *name)
{
        size_t len = name ? strnlen(name, size) : 0;

        memset(field, 0, size);
        memcpy(field, name ? name : "", len);
}

static void set_first(struct ext4_super_block *sb, const struct batch *b)
{
        sb->s_first_error_time = le32_make((uint32_t)b->first_time);
        sb->s_first_error_time_hi = (uint8_t)(b->first_time >> 32);
        sb->s_first_error_ino = le32_make((uint32_t)b->first.ino);
        sb->s_first_error_block = le64_make(b->first.blk);
        sb->s_first_error_line = le32_make(b->first.line);
        sb->s_first_error_errcode = code_on_disk(b->first.err);
        copy_name(sb->s_first_error_func, sizeof(sb->s_first_error_func), b->first.func);
}

static void set_last(struct ext4_super_block *sb, const struct batch *b)
{
        sb->s_last_error_time = le32_make((uint32_t)b->last_time);
        sb->s_last_error_time_hi = (uint8_t)(b->last_time >> 32);
        sb->s_last_error_ino = le32_make((uint32_t)b->last.ino);
        sb->s_last_error_block = le64_make(b->last.blk);
        sb->s_last_error_line = le32_make(b->last.line);
        sb->s_last_error_errcode = code_on_disk(b->last.err);
        copy_name(sb->s_last_error_func, sizeof(sb->s_last_error_func), b->last.func);
}

static void to_super(struct ext4_super_block *sb, void *arg)
{
        const struct batch *b = arg;

        sb->s_state = le16_make(le16_get(sb->s_state) | EXT4_STATE_ERROR);
        if (b->before == 0)
                set_first(sb, b);
        set_last(sb, b);
        sb->s_error_count =
                le32_make(b->before + min_t(uint32_t, b->nr, UINT32_MAX - b->before));
}

static int to_super_logged(struct ext4_fs *fs, struct batch *b)
{
        struct ext4_super_loc loc;
        struct jbd2_handle *h;
        int ret = jbd2_start(fs->journal, EXT4_SUPER_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = ext4_super_begin(h, fs, &loc);
        if (ret == 0) {
                to_super(loc.sb, b);
                ext4_super_store(h, fs, &loc);
        }
        return first_error(ret, jbd2_stop(h));
}

/* ---- doing it ---- */

static void store(struct ext4_fs *fs, struct batch *b)
{
        int ret = -EROFS;

        if (ext4_is_down(fs))
                return;
        if (fs->journal && jbd2_error(fs->journal) == 0)
                ret = to_super_logged(fs, b);
        /* Nothing writes the superblock home any more after an abort. */
        if (ret < 0 && (!fs->journal || jbd2_error(fs->journal) != 0))
                ret = ext4_super_write_home(fs, to_super, b);
        if (ret < 0)
                log_say(&fs->vfs.log, LOG_ERR,
                        "the error state cannot be written to the superblock: %s",
                        strerror(-ret));
}

/* The journal's abort, which it reports in turn, is this error and not another one. */
static void end_writing(struct ext4_fs *fs, const struct batch *b)
{
        bool panic = fs->opts.errors == EXT4_ERRORS_PANIC;

        if (!fs->journal || jbd2_error(fs->journal) != 0)
                return;
        log_say(&fs->vfs.log, LOG_ERR, "damage was found: no more writing (errors=%s)",
                panic ? "panic" : "remount-ro");
        mtx_lock(&fs->errors->lock);
        fs->errors->aborted = true;
        mtx_unlock(&fs->errors->lock);
        jbd2_abort(fs->journal, b->first.err);
}

static void carry_out(struct ext4_fs *fs, struct batch *b)
{
        if (fs->opts.errors != EXT4_ERRORS_CONTINUE)
                end_writing(fs, b);
        store(fs, b);
        if (fs->opts.errors == EXT4_ERRORS_PANIC) {
                log_say(&fs->vfs.log, LOG_CRIT, "errors=panic: this process ends here");
                abort();
        }
}

static void *errors_thread(void *arg)
{
        struct ext4_fs *fs = arg;
        struct ext4_errors *e = fs->errors;

        mtx_lock(&e->lock);
        for (;;) {
                struct batch b = e->batch;

                if (e->pending) {
                        e->pending = false;
                        mtx_unlock(&e->lock);
                        carry_out(fs, &b);
                        mtx_lock(&e->lock);
                } else if (e->stop) {
                        break;
                } else {
                        cond_wait(&e->noted, &e->lock);
                }
        }
        mtx_unlock(&e->lock);
        return NULL;
}

/* ---- noting it ---- */

static void note(struct ext4_errors *e, const struct ext4_error *error)
{
        struct batch *b = &e->batch;
        int64_t now = (int64_t)time(NULL);

        if (b->nr == 0) {
                b->first = *error;
                b->first_time = now;
        }
        b->last = *error;
        b->last_time = now;
        b->nr += b->nr < UINT32_MAX;
        e->pending = true;
        cond_signal(&e->noted);
}

void ext4_note_error(struct ext4_fs *fs, const struct ext4_error *error)
{
        struct ext4_errors *e = fs->errors;

        if (!e)
                return;
        mtx_lock(&e->lock);
        note(e, error);
        mtx_unlock(&e->lock);
}

/* The one error that ends writing counts once, whoever hears of it first; but it is stored
 * again when the journal has ended, because what the journal had of it is void. */
static void note_abort(struct ext4_errors *e, const struct ext4_error *error)
{
        mtx_lock(&e->lock);
        if (!e->aborted)
                note(e, error);
        e->aborted = true;
        e->pending = true;
        cond_signal(&e->noted);
        mtx_unlock(&e->lock);
}

void ext4_abort_at(struct ext4_fs *fs, const struct ext4_error *error)
{
        if (!fs->errors || !fs->journal)
                return;
        note_abort(fs->errors, error);
        jbd2_abort(fs->journal, error->err);
}

void ext4_journal_aborted(void *arg, int err)
{
        struct ext4_fs *fs = arg;
        const struct ext4_error error = {err, 0, 0, __func__, __LINE__};

        log_say(&fs->vfs.log, LOG_ERR, "no more writing, what was not committed is lost: %s",
                strerror(-err));
        note_abort(fs->errors, &error);
}

int ext4_writable(const struct ext4_fs *fs)
{
        if (ext4_is_down(fs))
                return -EIO;
        return fs->journal && jbd2_error(fs->journal) == 0 ? 0 : -EROFS;
}

/* ---- mount and unmount ---- */

int ext4_errors_new(struct ext4_fs *fs)
{
        struct ext4_errors *e = mem_zalloc(sizeof(*e));

        if (!e)
                return -ENOMEM;
        e->batch.before = le32_get(fs->sb.s_error_count);
        mtx_init(&e->lock, RANK_LEAF);
        cond_init(&e->noted);
        fs->errors = e;
        return 0;
}

int ext4_errors_start(struct ext4_fs *fs)
{
        int ret = thread_start(&fs->errors->thread, errors_thread, fs);

        fs->errors->running = ret == 0;
        return ret;
}

void ext4_errors_stop(struct ext4_fs *fs)
{
        struct ext4_errors *e = fs->errors;

        if (!e || !e->running)
                return;
        mtx_lock(&e->lock);
        e->stop = true;
        cond_signal(&e->noted);
        mtx_unlock(&e->lock);
        pthread_join(e->thread, NULL);
        e->running = false;
}

bool ext4_errors_finish(struct ext4_fs *fs)
{
        struct ext4_errors *e = fs->errors;

        /* Also what is stored already: a copy of the superblock that was on its way home when
         * the journal aborted may have come after it. */
        if (e->pending || e->aborted)
                store(fs, &e->batch);
        e->pending = false;
        return e->aborted;
}

void ext4_errors_free(struct ext4_fs *fs)
{
        struct ext4_errors *e = fs->errors;

        if (!e)
                return;
        cond_done(&e->noted);
        mtx_done(&e->lock);
        mem_free(e);
        fs->errors = NULL;
}
