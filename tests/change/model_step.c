/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Operations by chance, at places where something may go wrong. */

#include "model.h"

static struct model_file *choose(struct model *md)
{
        for (unsigned tries = 0; tries < 1000; tries++) {
                /* Few files at a time, so that each sees many operations. */
                unsigned n = (unsigned)t_below(&md->rand, md->nr_files);
                struct model_file *f = &md->files[n];

                if (f->inode && (n < 12 || t_below(&md->rand, 4) == 0))
                        return f;
        }
        return NULL;
}

/* Sizes and positions at which something may go wrong. */
static uint64_t random_pos(struct model *md, const struct model_file *f)
{
        const uint64_t bs = f->inode->fs->block_size;
        const uint64_t max = md->max_size;
        uint64_t pos;

        switch (t_below(&md->rand, 6)) {
        case 0:
                pos = model_now(f)->size;
                break;
        case 1:
                pos = t_below(&md->rand, max / bs + 1) * bs;
                break;
        case 2:
                pos = t_below(&md->rand, max / bs + 1) * bs + t_below(&md->rand, 3) - 1;
                break;
        case 3:
                pos = t_below(&md->rand, model_now(f)->size + 1);
                break;
        case 4:
                pos = t_below(&md->rand, 300);
                break;
        default:
                pos = t_below(&md->rand, max);
        }
        return pos > max ? max : pos;
}

static uint64_t random_len(struct model *md, const struct model_file *f, uint64_t pos)
{
        const uint64_t bs = f->inode->fs->block_size;
        uint64_t len;

        switch (t_below(&md->rand, 4)) {
        case 0:
                len = 1 + t_below(&md->rand, bs);
                break;
        case 1:
                len = bs * (1 + t_below(&md->rand, 8));
                break;
        case 2:
                len = 1 + t_below(&md->rand, md->max_size / 4);
                break;
        default:
                len = 1 + t_below(&md->rand, 16 * bs);
        }
        return pos + len > md->max_size ? max_t(uint64_t, 1, md->max_size - pos) : len;
}

static int step_fallocate(struct model *md, struct model_file *f)
{
        static const int modes[] = {
                0,
                FALLOC_FL_KEEP_SIZE,
                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                FALLOC_FL_ZERO_RANGE,
                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                FALLOC_FL_COLLAPSE_RANGE,
                FALLOC_FL_INSERT_RANGE,
                FALLOC_FL_WRITE_ZEROES,
                FALLOC_FL_UNSHARE_RANGE,
                FALLOC_FL_PUNCH_HOLE,
                FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE,
        };
        /* The last three are refused: seldom. */
        int mode = modes[t_below(&md->rand, t_below(&md->rand, 16) ? 9 : ARRAY_LEN(modes))];
        uint64_t pos = random_pos(md, f), len = random_len(md, f, pos);

        if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE) &&
            t_below(&md->rand, 8)) {
                pos = pos / md->unit * md->unit;
                len = (len + md->unit - 1) / md->unit * md->unit;
        }
        if ((mode & FALLOC_FL_INSERT_RANGE) && model_now(f)->size + len > 2 * md->max_size)
                return model_truncate(md, f, random_pos(md, f));
        /* Far behind the end. */
        if (mode == FALLOC_FL_KEEP_SIZE && model_has_extents(f) && t_below(&md->rand, 8) == 0)
                pos += 1ull << (30 + t_below(&md->rand, 10)) % 41;
        return model_fallocate(md, f, mode, pos, len);
}

static int step_write(struct model *md, struct model_file *f)
{
        uint64_t pos = random_pos(md, f);

        if (t_below(&md->rand, 2))
                pos = min_t(uint64_t, model_now(f)->size, md->max_size - 1);
        if (pos >= md->max_size)
                pos = md->max_size - 1;
        return model_write(md, f, pos, random_len(md, f, pos),
                           t_below(&md->rand, 2) ? OP_DIRECT : OP_BUFFERED);
}

static unsigned nr_named(const struct model *md)
{
        unsigned n = 0;

        for (unsigned i = 0; i < md->nr_files; i++)
                n += md->files[i].inode && model_now(&md->files[i])->exists;
        return n;
}

static int step_unlink(struct model *md, struct model_file *f)
{
        int ret = 0;

        if (model_now(f)->exists) {
                if (nr_named(md) <= 6)
                        return 0;
                ret = model_unlink(md, f);
                if (ret < 0 || t_below(&md->rand, 2))
                        return ret;
        }
        return model_put(md, f);
}

int model_step(struct model *md)
{
        struct model_file *f = choose(md);
        uint64_t n = t_below(&md->rand, 100);

        T_CHECK(f);
        if (n < 25)
                return model_truncate(md, f, random_pos(md, f));
        if (n < 65)
                return step_fallocate(md, f);
        if (n < 90)
                return step_write(md, f);
        if (n < 93)
                return step_unlink(md, f);
        if (n < 95)
                return model_tmpfile(md, md->files[0].dir);
        if (n < 98)
                return model_sync(md);
        if (n < 99)
                return model_migrate(md, f);
        model_check_file(md, f);
        return 0;
}
