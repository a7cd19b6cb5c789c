/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Arithmetic on one extent node.
 *
 * Every change of a leaf is one sentence: these neighbouring extents give way to those.  The
 * list of those is made from what was there before, cut where it must be, and then each extent
 * that continues the one before it is joined to it.  So there is one place that joins and one
 * that moves entries about, and the odd cases (head, tail, all of an extent; a neighbour on
 * either side) are only lists of different lengths.
 */

#include "ext4/extent_edit.h"

#include <string.h>

/* Extents and index entries have the same size, and begin with their first logical block. */
_Static_assert(sizeof(struct ext4_extent_disk) == sizeof(struct ext4_extent_index), "one size");

static const struct ext4_extent_disk *extents(const struct ext4_extent_header *eh)
{
        return (const void *)(eh + 1);
}

static struct ext4_extent_disk *entries(struct ext4_extent_header *eh)
{
        return (void *)(eh + 1);
}

static void set_entries(struct ext4_extent_header *eh, unsigned nr)
{
        assert(nr <= ext4_node_max(eh));
        eh->eh_entries = le16_make((uint16_t)nr);
}

/* ---- looking ---- */

ext4_lblk_t ext4_node_key(const struct ext4_extent_header *eh, unsigned i)
{
        return le32_get(extents(eh)[i].ee_block);
}

int ext4_node_find(const struct ext4_extent_header *eh, ext4_lblk_t lblk)
{
        int lo = 0, hi = (int)ext4_node_entries(eh);

        while (lo < hi) {
                int mid = lo + (hi - lo) / 2;

                if (ext4_node_key(eh, (unsigned)mid) <= lblk)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return lo - 1;
}

ext4_fsblk_t ext4_node_child(const struct ext4_extent_header *eh, unsigned i)
{
        const struct ext4_extent_index *ei = (const void *)&extents(eh)[i];

        return le48_join(ei->ei_leaf_lo, ei->ei_leaf_hi);
}

struct ext4_map ext4_node_extent(const struct ext4_extent_header *eh, unsigned i)
{
        const struct ext4_extent_disk *ex = &extents(eh)[i];
        uint32_t len = le16_get(ex->ee_len);
        bool unwritten = len > EXT4_EXTENT_MAX_LEN;

        return (struct ext4_map){
                .lblk = le32_get(ex->ee_block),
                .len = unwritten ? len - EXT4_EXTENT_MAX_LEN : len,
                .pblk = le48_join(ex->ee_start_lo, ex->ee_start_hi),
                .type = unwritten ? EXT4_MAP_UNWRITTEN : EXT4_MAP_WRITTEN,
        };
}

static struct ext4_extent_disk to_disk(const struct ext4_map *map)
{
        uint32_t len = (uint32_t)map->len;

        assert(map->type != EXT4_MAP_HOLE);
        assert(len >= 1 && map->len <= ext4_extent_max_len(map->type)); /* I2 */
        if (map->type == EXT4_MAP_UNWRITTEN)
                len += EXT4_EXTENT_MAX_LEN;
        return (struct ext4_extent_disk){
                .ee_block = le32_make(map->lblk),
                .ee_len = le16_make((uint16_t)len),
                .ee_start_hi = le16_make((uint16_t)(map->pblk >> 32)),
                .ee_start_lo = le32_make((uint32_t)map->pblk),
        };
}

/* Whether b continues a, and one extent can hold both. */
static bool is_mergeable(const struct ext4_map *a, const struct ext4_map *b)
{
        return a->type == b->type && ext4_map_end(a) == b->lblk &&
               a->pblk + a->len == b->pblk && a->len + b->len <= ext4_extent_max_len(a->type);
}

/* ---- planning ---- */

#define MAX_PIECES 5 /* the extent before, three pieces of one, the extent after */

struct pieces {
        struct ext4_map map[MAX_PIECES];
        unsigned nr;
};

/* The part [from, to) of an extent, as another type; nothing if it is empty. */
static void add_piece(struct pieces *p, const struct ext4_map *ex, uint64_t from, uint64_t to,
                      enum ext4_map_type type)
{
        if (from >= to)
                return;
        assert(p->nr < MAX_PIECES);
        p->map[p->nr++] = (struct ext4_map){
                .lblk = (ext4_lblk_t)from,
                .len = to - from,
                .pblk = ex->pblk + (from - ex->lblk),
                .type = type,
        };
}

/* True when the first or last piece is the neighbour as it was: it need not be written. */
static bool is_same(const struct ext4_map *a, const struct ext4_map *b)
{
        return a->lblk == b->lblk && a->len == b->len;
}

/* One more extent behind the others: joined to the last one if it continues it. */
static void join_piece(struct pieces *p, const struct ext4_map *ex)
{
        if (p->nr > 0 && is_mergeable(&p->map[p->nr - 1], ex)) {
                p->map[p->nr - 1].len += ex->len;
                return;
        }
        assert(p->nr < MAX_PIECES);
        p->map[p->nr++] = *ex;
}

/*
 * Make a splice of what shall stand in the place of `nr_old` entries from `at` on, the
 * neighbours drawn in where they are joined.
 */
static void plan(const struct ext4_extent_header *eh, unsigned at, unsigned nr_old,
                 const struct pieces *middle, struct ext4_splice *ret_splice)
{
        bool has_before = at > 0, has_after = at + nr_old < ext4_node_entries(eh);
        struct ext4_map before = {.len = 0}, after = {.len = 0};
        struct pieces all = {.nr = 0};
        unsigned first = 0;

        if (has_before) {
                before = ext4_node_extent(eh, at - 1);
                join_piece(&all, &before);
        }
        for (unsigned i = 0; i < middle->nr; i++)
                join_piece(&all, &middle->map[i]);
        if (has_after) {
                after = ext4_node_extent(eh, at + nr_old);
                join_piece(&all, &after);
        }
        /* Neighbours that are as they were stay out of it. */
        if (has_before && is_same(&all.map[0], &before)) {
                first = 1;
        } else if (has_before) {
                at--;
                nr_old++;
        }
        if (has_after && is_same(&all.map[all.nr - 1], &after))
                all.nr--;
        else if (has_after)
                nr_old++;
        assert(all.nr >= first && all.nr - first <= EXT4_SPLICE_MAX_NEW);
        *ret_splice = (struct ext4_splice){at, nr_old, all.nr - first, {{0}}};
        memcpy(ret_splice->new, all.map + first, (all.nr - first) * sizeof(all.map[0]));
}

int ext4_splice_insert(const struct ext4_extent_header *eh, const struct ext4_map *new,
                       struct ext4_splice *ret_splice)
{
        struct pieces middle = {.map = {*new}, .nr = 1};
        int i = ext4_node_find(eh, new->lblk);
        unsigned at = (unsigned)(i + 1);

        assert(new->len >= 1 && new->len <= ext4_extent_max_len(new->type));
        if (i >= 0) {
                struct ext4_map before = ext4_node_extent(eh, (unsigned)i);

                if (ext4_map_end(&before) > new->lblk)
                        return -EEXIST;
        }
        if (at < ext4_node_entries(eh) && ext4_node_key(eh, at) < ext4_map_end(new))
                return -EEXIST;
        plan(eh, at, 0, &middle, ret_splice);
        return 0;
}

void ext4_splice_convert(const struct ext4_extent_header *eh, unsigned i, uint64_t from,
                         uint64_t to, enum ext4_map_type type, struct ext4_splice *ret_splice)
{
        struct ext4_map ex = ext4_node_extent(eh, i);
        struct pieces middle = {.nr = 0};

        assert(from >= ex.lblk && from < to && to <= ext4_map_end(&ex));
        assert(to - from <= ext4_extent_max_len(type));
        add_piece(&middle, &ex, ex.lblk, from, ex.type);
        add_piece(&middle, &ex, from, to, type);
        add_piece(&middle, &ex, to, ext4_map_end(&ex), ex.type);
        plan(eh, i, 1, &middle, ret_splice);
}

/* What is left of an extent on either side of a gap, which may be empty. */
static void plan_gap(const struct ext4_extent_header *eh, unsigned i, uint64_t from,
                     uint64_t to, struct ext4_splice *ret_splice)
{
        struct ext4_map ex = ext4_node_extent(eh, i);
        struct pieces left = {.nr = 0};

        assert(from >= ex.lblk && from <= to && to <= ext4_map_end(&ex));
        add_piece(&left, &ex, ex.lblk, from, ex.type);
        add_piece(&left, &ex, to, ext4_map_end(&ex), ex.type);
        *ret_splice = (struct ext4_splice){.at = i, .nr_old = 1, .nr_new = left.nr};
        memcpy(ret_splice->new, left.map, left.nr * sizeof(left.map[0]));
}

void ext4_splice_remove(const struct ext4_extent_header *eh, unsigned i, uint64_t from,
                        uint64_t to, struct ext4_splice *ret_splice)
{
        assert(from < to);
        plan_gap(eh, i, from, to, ret_splice);
}

void ext4_splice_cut(const struct ext4_extent_header *eh, unsigned i, uint64_t at,
                     struct ext4_splice *ret_splice)
{
        plan_gap(eh, i, at, at, ret_splice);
        assert(ret_splice->nr_new == 2);
}

bool ext4_splice_changes_key(const struct ext4_extent_header *eh, const struct ext4_splice *s)
{
        if (s->at > 0)
                return false;
        return s->nr_old == 0 || s->nr_new == 0 || s->new[0].lblk != ext4_node_key(eh, 0);
}

/* ---- changing ---- */

void ext4_splice_apply(struct ext4_extent_header *eh, const struct ext4_splice *s)
{
        struct ext4_extent_disk *ex = entries(eh) + s->at;
        unsigned nr = ext4_node_entries(eh);

        assert(ext4_node_depth(eh) == 0);
        assert(s->at + s->nr_old <= nr && ext4_splice_fits(eh, s));
        if (s->nr_new < s->nr_old) {
                ext4_node_remove(eh, s->at + s->nr_new, s->nr_old - s->nr_new);
        } else {
                memmove(ex + s->nr_new, ex + s->nr_old, (nr - s->at - s->nr_old) * sizeof(*ex));
                set_entries(eh, nr + s->nr_new - s->nr_old);
        }
        for (unsigned i = 0; i < s->nr_new; i++)
                ex[i] = to_disk(&s->new[i]);
}

void ext4_node_init(struct ext4_extent_header *eh, unsigned max, unsigned depth)
{
        memset(eh, 0, sizeof(*eh) + max * sizeof(struct ext4_extent_disk));
        eh->eh_magic = le16_make(EXT4_EXTENT_MAGIC);
        eh->eh_max = le16_make((uint16_t)max);
        eh->eh_depth = le16_make((uint16_t)depth);
}

void ext4_node_remove(struct ext4_extent_header *eh, unsigned i, unsigned nr)
{
        struct ext4_extent_disk *ex = entries(eh);
        unsigned all = ext4_node_entries(eh);

        assert(i <= all && nr <= all - i);
        memmove(ex + i, ex + i + nr, (all - i - nr) * sizeof(*ex));
        memset(ex + all - nr, 0, nr * sizeof(*ex));
        set_entries(eh, all - nr);
}

void ext4_node_insert_child(struct ext4_extent_header *eh, unsigned i, ext4_lblk_t key,
                            ext4_fsblk_t child)
{
        struct ext4_extent_disk *ex = entries(eh);
        unsigned all = ext4_node_entries(eh);
        const struct ext4_extent_index ei = {
                .ei_block = le32_make(key),
                .ei_leaf_lo = le32_make((uint32_t)child),
                .ei_leaf_hi = le16_make((uint16_t)(child >> 32)),
        };

        assert(ext4_node_depth(eh) > 0 && i <= all);
        set_entries(eh, all + 1);
        memmove(ex + i + 1, ex + i, (all - i) * sizeof(*ex));
        memcpy(ex + i, &ei, sizeof(ei));
}

void ext4_node_set_key(struct ext4_extent_header *eh, unsigned i, ext4_lblk_t key)
{
        assert(i < ext4_node_entries(eh));
        entries(eh)[i].ee_block = le32_make(key);
}

void ext4_node_move_tail(struct ext4_extent_header *from, unsigned i,
                         struct ext4_extent_header *to)
{
        unsigned nr = ext4_node_entries(from) - i;

        assert(i <= ext4_node_entries(from));
        assert(ext4_node_entries(to) == 0 && ext4_node_depth(to) == ext4_node_depth(from));
        set_entries(to, nr);
        memcpy(entries(to), entries(from) + i, nr * sizeof(struct ext4_extent_disk));
        ext4_node_remove(from, i, nr);
}

void ext4_node_replace(struct ext4_extent_header *to, const struct ext4_extent_header *from)
{
        unsigned nr = ext4_node_entries(from);

        ext4_node_init(to, ext4_node_max(to), ext4_node_depth(from));
        set_entries(to, nr);
        memcpy(entries(to), extents(from), nr * sizeof(struct ext4_extent_disk));
}

unsigned ext4_node_split_point(const struct ext4_extent_header *eh, unsigned pos)
{
        unsigned nr = ext4_node_entries(eh);

        assert(nr >= 2);
        /* A file that grows at its end leaves full nodes behind. */
        return pos >= nr ? nr - 1 : nr / 2;
}

void ext4_node_shift(struct ext4_extent_header *eh, unsigned i, unsigned nr, int64_t delta)
{
        struct ext4_map a, b;

        assert(ext4_node_depth(eh) == 0 && i + nr <= ext4_node_entries(eh) && nr > 0);
        for (unsigned k = i; k < i + nr; k++) {
                int64_t key = ext4_node_key(eh, k) + delta;

                assert(key >= 0 && key <= (int64_t)EXT4_MAX_LBLK);
                ext4_node_set_key(eh, k, (ext4_lblk_t)key);
        }
        if (i == 0)
                return;
        a = ext4_node_extent(eh, i - 1);
        b = ext4_node_extent(eh, i);
        assert(ext4_map_end(&a) <= b.lblk);
        if (is_mergeable(&a, &b)) {
                a.len += b.len;
                entries(eh)[i - 1] = to_disk(&a);
                ext4_node_remove(eh, i, 1);
        }
}
