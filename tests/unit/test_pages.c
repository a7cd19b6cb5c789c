/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The page cache without a file system: the tree of folios, the states of their blocks, the
 * folios of a file, what is written back and by whom, and the bound on memory. */

#include <errno.h>
#include <sys/resource.h>

#include "t_util.h"
#include "vfs/inode.h"

#define MAX_POS ((1ull << 63) - 1)

/* ---- a file and its device, both made up ---- */

struct t_file {
        struct vfs_super sb;
        struct vfs_inode inode;
        struct uext4_bdev *dev;
        struct t_log log;
        _Atomic int refs;  /* of the inode, that the mount's list has */
        _Atomic int error; /* what writing back says */
        _Atomic unsigned nr_written;
        bool dirties_again; /* who writes back; once */
};

static struct t_file *file_of(struct vfs_inode *inode)
{
        return container_of(inode, struct t_file, inode);
}

static void t_hold(struct vfs_inode *inode)
{
        atomic_fetch_add(&file_of(inode)->refs, 1);
}

static void t_release(struct vfs_inode *inode)
{
        T_CHECK(atomic_fetch_sub(&file_of(inode)->refs, 1) > 0);
}

static void t_dirty(struct t_file *t, uint64_t pos, uint64_t len);

static int t_write_back(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct t_file *t = file_of(inode);
        int error = atomic_load(&t->error);
        struct folio *f;

        while ((f = vfs_pages_take_dirty(inode, from, to))) {
                from = folio_end(f);
                mtx_lock(&f->lock);
                folio_clear_dirty(f);
                mtx_unlock(&f->lock);
                if (error < 0)
                        vfs_pages_set_error(inode, error);
                atomic_fetch_add(&t->nr_written, 1);
                vfs_pages_written(f);
        }
        if (t->dirties_again) {
                t->dirties_again = false;
                t_dirty(t, 0, 4096);
        }
        return error;
}

static const struct vfs_pagecache_ops t_ops = {
        .hold = t_hold, .release = t_release, .write = t_write_back};

static struct t_file *t_new(uint32_t block_bits, uint64_t limit)
{
        struct t_file *t = t_alloc(sizeof(*t) + CACHE_LINE);
        struct log_sink sink;

        free(t);
        T_CHECK(posix_memalign((void **)&t, CACHE_LINE, sizeof(*t)) == 0);
        memset(t, 0, sizeof(*t));
        t_log_init(&t->log);
        sink = t_log_sink(&t->log);
        T_CHECK(uext4_bdev_open_mem(1 << 20, &t->dev) == 0);
        vfs_super_init(&t->sb, t->dev, &sink);
        t->sb.block_bits = block_bits;
        t->sb.pagecache.ops = &t_ops;
        t->sb.pagecache.limit = limit;
        vfs_inode_init(&t->inode, &t->sb, 12);
        return t;
}

static void t_done(struct t_file *t)
{
        vfs_flusher_stop(&t->sb);
        (void)vfs_write_all(&t->sb);
        vfs_pages_discard(&t->inode, 0, UINT64_MAX);
        assert_int_equal(atomic_load(&t->refs), 0);
        assert_int_equal(atomic_load(&t->sb.pagecache.bytes), 0);
        assert_int_equal(atomic_load(&t->sb.pagecache.dirty_bytes), 0);
        assert_false(vfs_has_pages(&t->inode.pages));
        vfs_inode_done(&t->inode);
        vfs_super_done(&t->sb);
        uext4_bdev_close(t->dev);
        free(t);
}

static struct folio *t_get(struct t_file *t, uint64_t pos, uint32_t size)
{
        struct folio *f;

        assert_int_equal(vfs_pages_get(&t->inode, pos, size, &f), 0);
        assert_true(f->pos <= pos && pos < folio_end(f));
        return f;
}

/* Make blocks dirty; the reference is given back. */
static void t_dirty(struct t_file *t, uint64_t pos, uint64_t len)
{
        struct folio *f = t_get(t, pos, (uint32_t)len);

        assert_true(pos + len <= folio_end(f));
        folio_lock_stable(f);
        vfs_pages_dirty(f, pos, pos + len);
        mtx_unlock(&f->lock);
        folio_put(f);
}

static void t_clean(struct t_file *t, uint64_t pos, uint32_t size)
{
        folio_put(t_get(t, pos, size));
}

/* ---- the tree ---- */

#define NR_PLACES 2048u /* pages of 4 KiB that the model knows, at each base */

/* Bases around which folios stand: at the beginning, at the end of what levels reach, and
 * where the largest files end. */
static const uint64_t bases[] = {
        0,           (1ull << 24) - (4 << 20), (1ull << 36) - (4 << 20),
        16ull << 40, (1ull << 60) - (4 << 20), (1ull << 63) - (8 << 20)};

struct model {
        struct pages_tree tree;
        struct folio *at[ARRAY_LEN(bases)][NR_PLACES];
        struct t_file *t;
};

static struct folio **place(struct model *m, unsigned base, unsigned page)
{
        return &m->at[base][page];
}

/* The first folio at or behind a place, by looking at all. */
static struct folio *model_next(struct model *m, unsigned base, unsigned page)
{
        for (; base < ARRAY_LEN(bases); base++, page = 0) {
                for (; page < NR_PLACES; page++) {
                        if (*place(m, base, page))
                                return *place(m, base, page);
                }
        }
        return NULL;
}

static void model_insert(struct model *m, unsigned base, unsigned page, unsigned nr)
{
        struct folio *f;
        bool is_free = true;
        int ret;

        page -= page % nr;
        f = folio_new(&m->t->inode, bases[base] + (uint64_t)page * 4096, nr * 4096);
        T_CHECK(f);
        for (unsigned i = 0; i < nr; i++)
                is_free &= !*place(m, base, page + i);
        ret = pages_tree_insert(&m->tree, f);
        assert_int_equal(ret, is_free ? 0 : -EEXIST);
        if (ret < 0)
                folio_put(f);
        for (unsigned i = 0; ret == 0 && i < nr; i++)
                *place(m, base, page + i) = f;
}

static void model_remove(struct model *m, struct folio *f)
{
        pages_tree_remove(&m->tree, f);
        for (unsigned b = 0; b < ARRAY_LEN(bases); b++) {
                for (unsigned i = 0; i < NR_PLACES; i++) {
                        if (m->at[b][i] == f)
                                m->at[b][i] = NULL;
                }
        }
        folio_put(f);
}

static void model_compare(struct model *m, unsigned base, unsigned page)
{
        const uint64_t pos = bases[base] + (uint64_t)page * 4096;

        assert_ptr_equal(pages_tree_find(&m->tree, pos + 4095), *place(m, base, page));
        assert_ptr_equal(pages_tree_next(&m->tree, pos), model_next(m, base, page));
}

static void the_tree_is_like_an_array(void **state)
{
        struct model *m = t_alloc(sizeof(*m));
        uint64_t rand = t_seed();

        m->t = t_new(12, 1 << 30);
        for (unsigned n = 0; n < 20000; n++) {
                const unsigned base = (unsigned)t_below(&rand, ARRAY_LEN(bases));
                const unsigned page = (unsigned)t_below(&rand, NR_PLACES);
                const bool grows = t_below(&rand, 16) < (n / 4000 % 2 ? 5 : 10);

                if (grows)
                        model_insert(m, base, page, 1u << t_below(&rand, 9));
                else if (*place(m, base, page))
                        model_remove(m, *place(m, base, page));
                model_compare(m, base, (unsigned)t_below(&rand, NR_PLACES));
                model_compare(m, base, page);
        }
        for (unsigned b = 0; b < ARRAY_LEN(bases); b++) {
                for (unsigned i = 0; i < NR_PLACES; i++) {
                        model_compare(m, b, i);
                        if (*place(m, b, i))
                                model_remove(m, *place(m, b, i));
                }
        }
        assert_null(m->tree.root);
        assert_null(pages_tree_find(&m->tree, 0));
        assert_null(pages_tree_next(&m->tree, 0));
        t_done(m->t);
        free(m);
}

/* A failed insertion leaves the tree as it was, nodes included. */
static void the_tree_without_memory(void **state)
{
        static const uint64_t places[] = {0, 1 << 20, 1ull << 40, MAX_POS & ~0xfffffull};

        for (unsigned had = 0; had < ARRAY_LEN(places); had++) {
                for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
                        struct t_file *t = t_new(12, 1 << 30);
                        struct pages_tree tree = {NULL};
                        struct folio *old = folio_new(&t->inode, places[had], 4096);
                        struct folio *new = folio_new(&t->inode, places[i] + 65536, 65536);
                        int ret = -ENOMEM;

                        assert_int_equal(pages_tree_insert(&tree, old), 0);
                        for (int64_t after = 0; ret == -ENOMEM; after++) {
                                mem_fail_after(after);
                                ret = pages_tree_insert(&tree, new);
                                mem_fail_after(-1);
                                assert_ptr_equal(pages_tree_find(&tree, places[had]), old);
                                if (ret == -ENOMEM)
                                        assert_null(pages_tree_find(&tree, places[i] + 65536));
                        }
                        assert_int_equal(ret, 0);
                        pages_tree_remove(&tree, new);
                        pages_tree_remove(&tree, old);
                        assert_null(tree.root);
                        folio_put(new);
                        folio_put(old);
                        t_done(t);
                }
        }
}

/* ---- states of blocks ---- */

static void runs_of_blocks(void **state)
{
        static const struct {
                const char *name;
                uint32_t block_bits, size;
                uint64_t set_from, set_to, from, to; /* in the folio, bytes */
                bool found;
                uint64_t run_from, run_to;
        } rows[] = {
                {"nothing is set", 10, 65536, 0, 0, 0, 65536, false, 0, 0},
                {"all is", 10, 65536, 0, 65536, 0, 65536, true, 0, 65536},
                {"one block", 10, 65536, 1024, 2048, 0, 65536, true, 1024, 2048},
                {"parts of blocks count as these", 10, 65536, 1500, 2049, 0, 65536, true, 1024,
                 3072},
                {"over the end of a word", 10, 1 << 20, 63 << 10, 66 << 10, 0, 1 << 20, true,
                 63 << 10, 66 << 10},
                {"whole words", 10, 1 << 20, 64 << 10, 256 << 10, 1000, 1 << 20, true, 64 << 10,
                 256 << 10},
                {"begins in the run", 10, 65536, 4096, 16384, 6000, 65536, true, 5120, 16384},
                {"ends in the run", 10, 65536, 4096, 16384, 0, 8200, true, 4096, 9216},
                {"ends before it", 10, 65536, 4096, 16384, 0, 4096, false, 0, 0},
                {"begins behind it", 10, 65536, 4096, 16384, 16384, 65536, false, 0, 0},
                {"the last block", 10, 1 << 20, (1 << 20) - 1, 1 << 20, 0, 1 << 20, true,
                 (1 << 20) - 1024, 1 << 20},
                {"one block is all", 16, 65536, 5, 6, 100, 200, true, 0, 65536},
                {"blocks of 4 KiB", 12, 1 << 20, 4096, 8192, 0, 1 << 20, true, 4096, 8192},
        };
        static const uint64_t at[] = {0, 1ull << 40};

        for (unsigned i = 0; i < 2 * ARRAY_LEN(rows); i++) {
                const unsigned r = i / 2;
                const uint64_t pos = at[i % 2];
                struct t_file *t = t_new(rows[r].block_bits, 1 << 30);
                struct folio *f = folio_new(&t->inode, pos, rows[r].size);
                uint64_t from = 0, to = 0;

                if (rows[r].set_to > 0)
                        folio_set_dirty(f, pos + rows[r].set_from, pos + rows[r].set_to);
                t_assert_row(
                        rows[r].name,
                        folio_next_dirty(f, pos + rows[r].from, pos + rows[r].to, &from, &to),
                        rows[r].found);
                if (rows[r].found) {
                        t_assert_row(rows[r].name, from - pos, rows[r].run_from);
                        t_assert_row(rows[r].name, to - pos, rows[r].run_to);
                        /* The other map is nobody's business. */
                        assert_false(folio_is_uptodate(f, from, to));
                }
                folio_clear_dirty(f);
                assert_false(folio_next_dirty(f, pos, pos + rows[r].size, &from, &to));
                folio_put(f);
                t_done(t);
        }
}

static void uptodate_is_all_of_it_when_all_blocks_are(void **state)
{
        struct t_file *t = t_new(10, 1 << 30);
        struct folio *f = folio_new(&t->inode, 1 << 20, 1 << 20);
        uint64_t from, to, rand = t_seed();

        while (!atomic_load(&f->is_uptodate)) {
                const uint64_t pos = f->pos + t_below(&rand, f->size);
                const uint64_t end =
                        min_t(uint64_t, folio_end(f), pos + 1 + t_below(&rand, 65536));

                assert_true(folio_next_missing(f, f->pos, folio_end(f), &from, &to));
                assert_false(folio_is_uptodate(f, f->pos, folio_end(f)));
                folio_set_uptodate(f, pos, end);
                assert_true(folio_is_uptodate(f, pos, end));
                assert_false(folio_next_missing(f, pos, end, &from, &to));
        }
        assert_true(folio_is_uptodate(f, f->pos, folio_end(f)));
        assert_false(folio_next_missing(f, f->pos, folio_end(f), &from, &to));
        folio_put(f);
        t_done(t);
}

/* ---- the folios of a file ---- */

static void a_folio_fits_between_others(void **state)
{
        struct t_file *t = t_new(10, 1 << 30);
        struct folio *small = t_get(t, 20480, 4096), *f = t_get(t, 16384, 65536);

        assert_int_equal(small->pos, 20480);
        assert_int_equal(f->size, 4096); /* the neighbour is in the way of more */
        folio_put(f);
        f = t_get(t, 40000, 65536);
        assert_int_equal(f->pos, 32768);
        assert_int_equal(f->size, 32768);
        folio_put(f);
        f = t_get(t, 20481, 1 << 20);
        assert_ptr_equal(f, small);
        folio_put(f);
        folio_put(small);
        t_done(t);
        t = t_new(16, 1 << 30);
        f = t_get(t, 70000, 4096);
        assert_int_equal(f->size, 65536); /* a block at least */
        folio_put(f);
        t_done(t);
}

static void getting_folios_without_memory(void **state)
{
        struct t_file *t = t_new(10, 1 << 30);
        struct folio *f;
        int ret = -ENOMEM;

        /* One allocation that fails is had again, for a smaller folio. */
        for (int64_t after = 0; after < 8; after++) {
                mem_fail_after(after);
                ret = vfs_pages_get(&t->inode, (uint64_t)after << 30, 65536, &f);
                mem_fail_after(-1);
                assert_int_equal(ret, 0);
                folio_put(f);
                mem_fail_after(after);
                ret = vfs_pages_get(&t->inode, ((uint64_t)after << 30) + (1 << 29), 4096, &f);
                mem_fail_after(-1);
                assert_true(ret == 0 || ret == -ENOMEM);
                if (ret == 0)
                        folio_put(f);
        }
        t_done(t);
}

static void dirty_runs_are_found(void **state)
{
        struct t_file *t = t_new(10, 1 << 30);
        uint64_t from, to;

        assert_false(vfs_pages_next_dirty(&t->inode, 0, UINT64_MAX, &from, &to));
        t_clean(t, 0, 65536);
        assert_false(vfs_pages_next_dirty(&t->inode, 0, UINT64_MAX, &from, &to));
        t_dirty(t, 2048, 1024);
        t_dirty(t, 61440, 4096);
        t_dirty(t, 65536, 8192); /* goes on in the next folio */
        assert_true(vfs_pages_next_dirty(&t->inode, 0, UINT64_MAX, &from, &to));
        assert_int_equal(from, 2048);
        assert_int_equal(to, 3072);
        assert_true(vfs_pages_next_dirty(&t->inode, 3072, UINT64_MAX, &from, &to));
        assert_int_equal(from, 61440);
        assert_int_equal(to, 73728);
        assert_true(vfs_pages_next_dirty(&t->inode, 3072, 62464, &from, &to));
        assert_int_equal(to, 62464);
        assert_false(vfs_pages_next_dirty(&t->inode, 3072, 61440, &from, &to));
        assert_true(vfs_pages_are_due(&t->inode, 0, 1));
        assert_false(vfs_pages_are_due(&t->inode, 1 << 20, UINT64_MAX));
        assert_true(vfs_pages_have(&t->inode, 70000, 70001));
        assert_false(vfs_pages_have(&t->inode, 73728, UINT64_MAX));
        t_done(t);
}

static void invalidating_keeps_what_is_dirty(void **state)
{
        struct t_file *t = t_new(10, 1 << 30);

        for (uint64_t pos = 0; pos < 65536; pos += 4096)
                t_clean(t, pos, 4096);
        t_dirty(t, 8192, 1024);
        assert_int_equal(vfs_pages_invalidate(&t->inode, 0, 4096), 0);
        assert_int_equal(vfs_pages_invalidate(&t->inode, 4097, 12288), -EBUSY);
        assert_int_equal(atomic_load(&t->inode.pages.nr), 14);
        assert_int_equal(vfs_pages_invalidate(&t->inode, 65535, UINT64_MAX), 0);
        assert_int_equal(atomic_load(&t->inode.pages.nr), 13);
        assert_int_equal(vfs_pages_flush(&t->inode, 0, UINT64_MAX), 0);
        assert_int_equal(vfs_pages_invalidate(&t->inode, 8192, 8193), 0);
        assert_int_equal(atomic_load(&t->inode.pages.nr), 12);
        t_done(t);
}

static void discarding_takes_whole_folios(void **state)
{
        struct t_file *t = t_new(10, 1 << 30);

        for (uint64_t pos = 0; pos < 65536; pos += 4096)
                t_dirty(t, pos, 4096);
        assert_int_equal(atomic_load(&t->sb.pagecache.dirty_bytes), 65536);
        vfs_pages_discard(&t->inode, 4095, 12289);
        assert_int_equal(atomic_load(&t->inode.pages.nr), 14);
        assert_int_equal(atomic_load(&t->sb.pagecache.dirty_bytes), 65536 - 8192);
        vfs_pages_discard(&t->inode, 12288, 16383);
        assert_int_equal(atomic_load(&t->inode.pages.nr), 14);
        vfs_pages_discard(&t->inode, 61440, UINT64_MAX);
        assert_int_equal(atomic_load(&t->inode.pages.nr), 13);
        vfs_pages_discard(&t->inode, 0, UINT64_MAX);
        assert_false(vfs_has_dirty(&t->inode.pages));
        assert_int_equal(atomic_load(&t->nr_written), 0);
        t_done(t);
}

/* Dirty, taken, dirty again by who had its lock, which the writer waits for: written once. */
static void dirty_again_while_it_is_written(void **state)
{
        struct t_file *t = t_new(10, 1 << 30);
        struct folio *f = t_get(t, 0, 4096), *taken, *other;

        mtx_lock(&f->lock);
        vfs_pages_dirty(f, 0, 1024);
        taken = vfs_pages_take_dirty(&t->inode, 0, UINT64_MAX);
        assert_ptr_equal(taken, f);
        assert_true(vfs_has_dirty(&t->inode.pages));
        vfs_pages_dirty(f, 1024, 2048);
        mtx_unlock(&f->lock);
        assert_null(vfs_pages_take_dirty(&t->inode, 0, UINT64_MAX));
        t_dirty(t, 4096, 4096);
        other = vfs_pages_take_dirty(&t->inode, 0, UINT64_MAX);
        assert_non_null(other);
        assert_int_equal(other->pos, 4096);
        vfs_pages_written(other);
        assert_true(vfs_has_dirty(&t->inode.pages));
        vfs_pages_written(taken);
        assert_false(vfs_has_dirty(&t->inode.pages));
        assert_null(vfs_pages_take_dirty(&t->inode, 0, UINT64_MAX));
        folio_put(f);
        t_done(t);
}

static void errors_are_numbered(void **state)
{
        struct t_file *t = t_new(10, 1 << 30);
        uint64_t a = vfs_pages_error_now(&t->inode), b = a, c;

        assert_int_equal(vfs_pages_error_since(&t->inode, &a), 0);
        vfs_pages_set_error(&t->inode, -EIO);
        c = vfs_pages_error_now(&t->inode);
        assert_int_equal(vfs_pages_error_since(&t->inode, &a), -EIO);
        assert_int_equal(vfs_pages_error_since(&t->inode, &a), 0);
        vfs_pages_set_error(&t->inode, -ENOSPC);
        assert_int_equal(vfs_pages_error_since(&t->inode, &a), -ENOSPC);
        assert_int_equal(vfs_pages_error_since(&t->inode, &b), -ENOSPC);
        assert_int_equal(vfs_pages_error_since(&t->inode, &b), 0);
        assert_int_equal(vfs_pages_error_since(&t->inode, &c), -ENOSPC);
        vfs_pages_set_error(&t->inode, -EIO); /* the same again is another one */
        assert_int_equal(vfs_pages_error_since(&t->inode, &c), -EIO);
        atomic_store(&t->error, -EROFS);
        t_dirty(t, 0, 4096);
        assert_int_equal(vfs_pages_flush(&t->inode, 0, UINT64_MAX), -EROFS);
        assert_int_equal(vfs_pages_flush(&t->inode, 0, UINT64_MAX), 0);
        assert_int_equal(vfs_pages_error_since(&t->inode, &c), -EROFS);
        atomic_store(&t->error, 0);
        t_done(t);
}

/* ---- the bound ---- */

static void the_longest_unused_goes_first(void **state)
{
        struct t_file *t = t_new(12, 1 << 20);
        struct folio *f;

        for (uint64_t pos = 0; pos < 1 << 20; pos += 65536)
                t_clean(t, pos, 65536);
        folio_put(vfs_pages_find(&t->inode, 0)); /* was used */
        t_clean(t, 1 << 20, 65536);
        f = vfs_pages_find(&t->inode, 0);
        assert_non_null(f);
        folio_put(f);
        assert_null(vfs_pages_find(&t->inode, 65536));
        assert_int_equal(atomic_load(&t->sb.pagecache.bytes), 1 << 20);
        t_done(t);
}

static void the_bound_holds(void **state)
{
        const uint64_t limit = 1 << 20;
        struct t_file *t = t_new(12, limit);
        uint64_t rand = t_seed();

        for (unsigned n = 0; n < 4000; n++) {
                const uint64_t pos = t_below(&rand, 20 << 20);
                const uint32_t size = 4096u << t_below(&rand, 7);

                if (t_below(&rand, 2)) {
                        t_clean(t, pos, size);
                } else {
                        t_dirty(t, round_down_pow2(pos, 4096), 4096);
                        vfs_balance_dirty(&t->inode);
                        assert_true(atomic_load(&t->sb.pagecache.dirty_bytes) <= limit / 2);
                }
                assert_true(atomic_load(&t->sb.pagecache.bytes) <= limit);
        }
        assert_true(atomic_load(&t->nr_written) > 0);
        t_done(t);
}

/* What somebody holds stays, and is not in the way. */
static void fill_and_drop(struct t_file *t, uint64_t bytes, uint32_t size)
{
        for (uint64_t pos = 0; pos < bytes; pos += size) {
                struct folio *f = t_get(t, pos, size);

                assert_int_equal(f->size, size);
                memset(f->data, (int)(pos / size), f->size);
                folio_put(f);
        }
}

/* A cache that is full takes no memory from the kernel any more. */
static void folios_use_memory_again(void **state)
{
        struct t_file *t = t_new(12, 4 << 20);
        struct rusage before, after;

        if (!vfs_pagecache_arena(&t->sb.pagecache)->memory) {
                t_done(t);
                skip(); /* Address Sanitizer watches each */
        }
        fill_and_drop(t, 32 << 20, 1 << 20);
        getrusage(RUSAGE_SELF, &before);
        fill_and_drop(t, 256 << 20, 1 << 20);
        getrusage(RUSAGE_SELF, &after);
        assert_true(after.ru_minflt - before.ru_minflt < 64);
        t_done(t);
}

/* Where only pieces are free that are too small, a folio is smaller. */
static void folios_fit_between_pieces(void **state)
{
        struct t_file *t = t_new(12, 8 << 20);
        struct arena *arena = vfs_pagecache_arena(&t->sb.pagecache);
        char *taken[64];
        unsigned nr = 0;

        if (!arena->memory) {
                t_done(t);
                skip();
        }
        while (nr < ARRAY_LEN(taken) && (taken[nr] = arena_get(arena, 512 << 10)))
                nr++;
        arena_put(arena, taken[--nr], 512 << 10);
        folio_put(t_get(t, 0, 1 << 20));
        assert_int_equal(atomic_load(&t->sb.pagecache.bytes), 512 << 10);
        folio_put(t_get(t, 1 << 20, 65536)); /* there is always memory for the smallest */
        assert_int_equal(atomic_load(&t->sb.pagecache.bytes), (512 << 10) + 4096);
        while (nr > 0)
                arena_put(arena, taken[--nr], 512 << 10);
        t_done(t);
}

static void what_is_held_stays_over_the_bound(void **state)
{
        struct t_file *t = t_new(12, 1 << 20);
        struct folio *held[40];

        for (unsigned i = 0; i < ARRAY_LEN(held); i++)
                held[i] = t_get(t, (uint64_t)i << 16, 65536);
        assert_int_equal(atomic_load(&t->sb.pagecache.bytes), sizeof(held) / 8 * 65536);
        for (unsigned i = 0; i < ARRAY_LEN(held); i++)
                folio_put(held[i]);
        t_clean(t, 1ull << 30, 4096);
        assert_true(atomic_load(&t->sb.pagecache.bytes) <= 1 << 20);
        t_done(t);
}

/* ---- threads ---- */

#define NR_THREADS 4

/* A file that comes and goes, while others make room: who lets go of its last folio does not
 * touch it any more. */
struct comers {
        struct t_file *t;
        atomic_bool is_over;
        _Atomic int refs;
};

static void come_and_go(struct comers *c)
{
        for (unsigned n = 0; n < 3000; n++) {
                struct vfs_inode *inode = t_alloc(sizeof(*inode));
                struct folio *f;

                vfs_inode_init(inode, &c->t->sb, 13);
                for (unsigned i = 0; i < 3; i++) {
                        T_CHECK(vfs_pages_get(inode, i << 16, 65536, &f) == 0);
                        folio_put(f);
                }
                vfs_pages_discard(inode, 0, UINT64_MAX);
                vfs_inode_done(inode);
                memset(inode, 0x5a, sizeof(*inode));
                free(inode);
        }
        atomic_store(&c->is_over, true);
}

static void press(struct comers *c, unsigned n)
{
        uint64_t rand = n;
        struct folio *f;

        while (!atomic_load(&c->is_over)) {
                T_CHECK(vfs_pages_get(&c->t->inode, t_below(&rand, 64) << 18, 1 << 18, &f) ==
                        0);
                folio_put(f);
        }
}

static void come_or_press(void *arg, unsigned n)
{
        if (n == 0)
                come_and_go(arg);
        else
                press(arg, n);
}

static void files_go_while_room_is_made(void **state)
{
        struct comers c = {.t = t_new(12, 1 << 20)};

        t_run_threads(3, come_or_press, &c);
        t_done(c.t);
}

/* Written when there was no thread, and dirty again before that was over. */
static void what_stays_dirty_has_a_flusher(void **state)
{
        struct t_file *t = t_new(12, 1 << 20);
        struct vfs_pagecache *cache = &t->sb.pagecache;

        t_dirty(t, 0, 4096);
        vfs_flusher_stop(&t->sb);
        t->dirties_again = true;
        assert_int_equal(vfs_write_all(&t->sb), 0);
        mtx_lock(&cache->lock);
        assert_int_equal(t->inode.pages.list, VFS_PAGES_DIRTY);
        assert_true(cache->has_flusher);
        mtx_unlock(&cache->lock);
        t_done(t);
}

/* From being dirty to being written a file has something dirty, at each moment: who sees that
 * it has not takes the device for right. */
struct steady {
        struct t_file *t;
        _Atomic uint64_t nr; /* odd while something is dirty or being written */
        atomic_bool is_over;
};

/* A folio that has been dirty for five seconds the flusher would write. */
static void dirty_and_write(struct steady *s)
{
        const time_t end = time(NULL) + 3;

        for (unsigned i = 0; i < 300000 && time(NULL) < end; i++) {
                struct folio *f;

                t_dirty(s->t, 0, 4096);
                atomic_fetch_add(&s->nr, 1);
                f = vfs_pages_take_dirty(&s->t->inode, 0, UINT64_MAX);
                T_CHECK(f);
                atomic_fetch_add(&s->nr, 1);
                mtx_lock(&f->lock);
                folio_clear_dirty(f);
                mtx_unlock(&f->lock);
                vfs_pages_written(f);
        }
        atomic_store(&s->is_over, true);
}

static void stay_dirty(void *arg, unsigned n)
{
        struct steady *s = arg;

        if (n == 0)
                dirty_and_write(s);
        while (!atomic_load(&s->is_over)) {
                const uint64_t nr = atomic_load(&s->nr);
                const bool has = vfs_has_dirty(&s->t->inode.pages);

                T_CHECK(has || nr % 2 == 0 || atomic_load(&s->nr) != nr);
        }
}

static void what_is_taken_stays_due(void **state)
{
        struct steady s = {.t = t_new(12, 1 << 20)};

        t_run_threads(2, stay_dirty, &s);
        t_done(s.t);
}

static void use_pages(void *arg, unsigned n)
{
        struct t_file *t = arg;
        uint64_t rand = 100 + n;
        uint64_t from, to, seen = 0;

        for (unsigned i = 0; i < 3000; i++) {
                const uint64_t pos = round_down_pow2(t_below(&rand, 4 << 20), 4096);
                struct folio *f;

                switch (t_below(&rand, 8)) {
                case 0:
                        T_CHECK(vfs_pages_flush(&t->inode, pos, pos + 65536) == 0);
                        break;
                case 1:
                        (void)!vfs_pages_invalidate(&t->inode, pos, pos + 65536);
                        break;
                case 2:
                        vfs_pages_discard(&t->inode, pos, pos + 65536);
                        break;
                case 3:
                        (void)vfs_pages_next_dirty(&t->inode, pos, UINT64_MAX, &from, &to);
                        T_CHECK(vfs_pages_error_since(&t->inode, &seen) == 0);
                        break;
                case 4:
                        T_CHECK(vfs_write_all(&t->sb) == 0);
                        break;
                default:
                        T_CHECK(vfs_pages_get(&t->inode, pos, 4096u << t_below(&rand, 5), &f) ==
                                0);
                        folio_lock_stable(f);
                        if (!f->is_removed)
                                vfs_pages_dirty(f, pos, pos + 4096);
                        mtx_unlock(&f->lock);
                        folio_put(f);
                        vfs_balance_dirty(&t->inode);
                }
                /* Each thread may have one in use, and be adding one. */
                T_CHECK(atomic_load(&t->sb.pagecache.bytes) <=
                        t->sb.pagecache.limit + 2 * NR_THREADS * 65536);
        }
}

static void threads_use_one_file(void **state)
{
        struct t_file *t = t_new(12, 1 << 20);

        t_run_threads(NR_THREADS, use_pages, t);
        t_done(t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_tree_is_like_an_array),
                cmocka_unit_test(the_tree_without_memory),
                cmocka_unit_test(runs_of_blocks),
                cmocka_unit_test(uptodate_is_all_of_it_when_all_blocks_are),
                cmocka_unit_test(a_folio_fits_between_others),
                cmocka_unit_test(getting_folios_without_memory),
                cmocka_unit_test(dirty_runs_are_found),
                cmocka_unit_test(invalidating_keeps_what_is_dirty),
                cmocka_unit_test(discarding_takes_whole_folios),
                cmocka_unit_test(dirty_again_while_it_is_written),
                cmocka_unit_test(errors_are_numbered),
                cmocka_unit_test(the_longest_unused_goes_first),
                cmocka_unit_test(the_bound_holds),
                cmocka_unit_test(folios_use_memory_again),
                cmocka_unit_test(folios_fit_between_pieces),
                cmocka_unit_test(what_is_held_stays_over_the_bound),
                cmocka_unit_test(files_go_while_room_is_made),
                cmocka_unit_test(what_stays_dirty_has_a_flusher),
                cmocka_unit_test(what_is_taken_stays_due),
                cmocka_unit_test(threads_use_one_file),
        };

        return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
