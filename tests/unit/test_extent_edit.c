/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Arithmetic on extent nodes: tables of cases, in a small notation, and random changes of one
 * leaf against a plain array that says for each logical block where it is and of what type.
 *
 * A leaf is written as a text: "0+4@100w 8+2@300u" is the written extent of the logical blocks
 * 0 to 3 at block 100, and the unwritten one of 8 and 9 at block 300.
 *
 * UEXT4_OPS sets how many random changes are made; with UEXT4_LONG=1 it is a million.
 */

#include "ext4/extent_edit.h"
#include "t_util.h"

#define MAX_ENTRIES 340u

struct leaf {
        struct ext4_extent_header eh;
        struct ext4_extent_disk ex[MAX_ENTRIES];
};

/* ---- the notation ---- */

static const char *scan_extent(const char *text, struct ext4_map *ret_map)
{
        unsigned lblk, len;
        unsigned long long pblk;
        char type;
        int n = 0;

        T_CHECK(sscanf(text, " %u+%u@%llu%c%n", &lblk, &len, &pblk, &type, &n) == 4);
        *ret_map = (struct ext4_map){lblk, len, pblk,
                                     type == 'w' ? EXT4_MAP_WRITTEN : EXT4_MAP_UNWRITTEN};
        return text + n;
}

static void leaf_init(struct leaf *leaf, unsigned max, const char *text)
{
        unsigned n = 0;

        ext4_node_init(&leaf->eh, max, 0);
        while (*text) {
                struct ext4_splice s = {.at = n++, .nr_new = 1};

                text = scan_extent(text, &s.new[0]);
                ext4_splice_apply(&leaf->eh, &s);
        }
}

static void leaf_text(const struct leaf *leaf, char *text, size_t size)
{
        size_t n = 0;

        text[0] = '\0';
        for (unsigned i = 0; i < ext4_node_entries(&leaf->eh); i++) {
                struct ext4_map ex = ext4_node_extent(&leaf->eh, i);

                n += (size_t)snprintf(text + n, size - n, "%s%u+%llu@%llu%c", i ? " " : "",
                                      ex.lblk, (unsigned long long)ex.len,
                                      (unsigned long long)ex.pblk,
                                      ex.type == EXT4_MAP_WRITTEN ? 'w' : 'u');
        }
}

static void check_leaf_text(const char *row, const struct leaf *leaf, const char *want)
{
        char got[512];

        leaf_text(leaf, got, sizeof(got));
        if (strcmp(got, want) != 0)
                fail_msg("%s: got '%s', want '%s'", row, got, want);
}

/* ---- insert ---- */

static void insert_joins_what_continues(void **state)
{
        static const struct {
                const char *name, *leaf, *new, *want;
                int ret;
        } rows[] = {
                {"into nothing", "", "5+3@50w", "5+3@50w", 0},
                {"before", "10+2@90w", "5+3@50w", "5+3@50w 10+2@90w", 0},
                {"behind", "1+2@90w", "5+3@50w", "1+2@90w 5+3@50w", 0},
                {"between", "1+2@90w 20+1@7u", "5+3@50w", "1+2@90w 5+3@50w 20+1@7u", 0},
                {"continues the left", "0+5@45w", "5+3@50w", "0+8@45w", 0},
                {"continues the right", "8+2@53w", "5+3@50w", "5+5@50w", 0},
                {"fills the gap", "0+5@45w 8+2@53w", "5+3@50w", "0+10@45w", 0},
                {"unwritten too", "0+5@45u 8+2@53u", "5+3@50u", "0+10@45u", 0},
                {"another type", "0+5@45u 8+2@53u", "5+3@50w", "0+5@45u 5+3@50w 8+2@53u", 0},
                {"elsewhere on disk", "0+5@44w 8+2@54w", "5+3@50w", "0+5@44w 5+3@50w 8+2@54w",
                 0},
                {"not beside", "0+4@46w", "5+3@50w", "0+4@46w 5+3@50w", 0},
                {"up to the longest written", "0+32767@0w", "32767+1@32767w", "0+32768@0w", 0},
                {"too long, written", "0+32768@0w", "32768+1@32768w",
                 "0+32768@0w 32768+1@32768w", 0},
                {"up to the longest unwritten", "0+32766@0u", "32766+1@32766u", "0+32767@0u",
                 0},
                {"too long, unwritten", "0+32767@0u", "32767+1@32767u",
                 "0+32767@0u 32767+1@32767u", 0},
                {"only one side fits", "0+32767@0w 32768+9@32768w", "32767+1@32767w",
                 "0+32768@0w 32768+9@32768w", 0},
                {"high block numbers", "0+1@281474976710000w", "1+1@281474976710001w",
                 "0+2@281474976710000w", 0},
                {"the last block of all", "", "4294967294+1@5w", "4294967294+1@5w", 0},
                {"overlaps the left", "0+6@45w", "5+3@50w", "0+6@45w", -EEXIST},
                {"overlaps the right", "7+6@45w", "5+3@50w", "7+6@45w", -EEXIST},
                {"the same", "5+3@50w", "5+3@50w", "5+3@50w", -EEXIST},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct ext4_splice s;
                struct ext4_map new;
                struct leaf leaf;

                leaf_init(&leaf, 10, rows[i].leaf);
                scan_extent(rows[i].new, &new);
                t_assert_row(rows[i].name, ext4_splice_insert(&leaf.eh, &new, &s), rows[i].ret);
                if (rows[i].ret == 0)
                        ext4_splice_apply(&leaf.eh, &s);
                check_leaf_text(rows[i].name, &leaf, rows[i].want);
        }
}

/* ---- convert ---- */

static void convert_takes_its_part_and_joins(void **state)
{
        static const struct {
                const char *name, *leaf;
                unsigned i;
                uint64_t from, to;
                enum ext4_map_type type;
                const char *want;
        } rows[] = {
                {"whole", "0+8@50u", 0, 0, 8, EXT4_MAP_WRITTEN, "0+8@50w"},
                {"head", "0+8@50u", 0, 0, 3, EXT4_MAP_WRITTEN, "0+3@50w 3+5@53u"},
                {"tail", "0+8@50u", 0, 5, 8, EXT4_MAP_WRITTEN, "0+5@50u 5+3@55w"},
                {"middle", "0+8@50u", 0, 2, 5, EXT4_MAP_WRITTEN, "0+2@50u 2+3@52w 5+3@55u"},
                {"to unwritten", "0+8@50w", 0, 2, 5, EXT4_MAP_UNWRITTEN,
                 "0+2@50w 2+3@52u 5+3@55w"},
                {"whole joins the left", "0+4@46w 4+4@50u", 1, 4, 8, EXT4_MAP_WRITTEN,
                 "0+8@46w"},
                {"whole joins the right", "0+4@46u 4+4@50w", 0, 0, 4, EXT4_MAP_WRITTEN,
                 "0+8@46w"},
                {"whole joins both", "0+4@46w 4+4@50u 8+4@54w", 1, 4, 8, EXT4_MAP_WRITTEN,
                 "0+12@46w"},
                {"head joins the left", "0+4@46w 4+4@50u 8+4@54w", 1, 4, 6, EXT4_MAP_WRITTEN,
                 "0+6@46w 6+2@52u 8+4@54w"},
                {"tail joins the right", "0+4@46w 4+4@50u 8+4@54w", 1, 6, 8, EXT4_MAP_WRITTEN,
                 "0+4@46w 4+2@50u 6+6@52w"},
                {"middle joins nobody", "0+4@46w 4+4@50u 8+4@54w", 1, 5, 7, EXT4_MAP_WRITTEN,
                 "0+4@46w 4+1@50u 5+2@51w 7+1@53u 8+4@54w"},
                {"not with a neighbour elsewhere", "0+4@40w 4+4@50u 8+4@60w", 1, 4, 8,
                 EXT4_MAP_WRITTEN, "0+4@40w 4+4@50w 8+4@60w"},
                {"not with one behind a hole", "0+3@46w 4+4@50u", 1, 4, 8, EXT4_MAP_WRITTEN,
                 "0+3@46w 4+4@50w"},
                {"the longest written has one too many", "0+32768@0w", 0, 0, 32767,
                 EXT4_MAP_UNWRITTEN, "0+32767@0u 32767+1@32767w"},
                {"joined to the longest", "0+32767@0w 32767+2@32767u", 1, 32767, 32768,
                 EXT4_MAP_WRITTEN, "0+32768@0w 32768+1@32768u"},
                {"too long to be joined", "0+32768@0w 32768+2@32768u", 1, 32768, 32769,
                 EXT4_MAP_WRITTEN, "0+32768@0w 32768+1@32768w 32769+1@32769u"},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                unsigned before;
                struct ext4_splice s;
                struct leaf leaf;

                leaf_init(&leaf, 10, rows[i].leaf);
                before = ext4_node_entries(&leaf.eh);
                ext4_splice_convert(&leaf.eh, rows[i].i, rows[i].from, rows[i].to, rows[i].type,
                                    &s);
                assert_false(ext4_splice_changes_key(&leaf.eh, &s));
                ext4_splice_apply(&leaf.eh, &s);
                check_leaf_text(rows[i].name, &leaf, rows[i].want);
                t_assert_row(rows[i].name, ext4_node_entries(&leaf.eh),
                             before + (unsigned)ext4_splice_growth(&s));
        }
}

/* ---- remove, cut ---- */

static void remove_leaves_what_is_outside(void **state)
{
        static const struct {
                const char *name, *leaf;
                unsigned i;
                uint64_t from, to;
                const char *want;
                bool key_changes;
        } rows[] = {
                {"whole", "0+8@50w 20+1@9u", 0, 0, 8, "20+1@9u", true},
                {"the only one", "0+8@50w", 0, 0, 8, "", true},
                {"head", "0+8@50w", 0, 0, 3, "3+5@53w", true},
                {"tail", "0+8@50u", 0, 3, 8, "0+3@50u", false},
                {"middle", "0+8@50u", 0, 3, 5, "0+3@50u 5+3@55u", false},
                {"the last one", "0+8@50w 20+1@9u", 1, 20, 21, "0+8@50w", false},
                {"neighbours that meet are left alone", "0+2@50w 2+2@52w 4+2@54w", 1, 2, 3,
                 "0+2@50w 3+1@53w 4+2@54w", false},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct ext4_splice s;
                struct leaf leaf;

                leaf_init(&leaf, 10, rows[i].leaf);
                ext4_splice_remove(&leaf.eh, rows[i].i, rows[i].from, rows[i].to, &s);
                t_assert_row(rows[i].name, ext4_splice_changes_key(&leaf.eh, &s),
                             rows[i].key_changes);
                ext4_splice_apply(&leaf.eh, &s);
                check_leaf_text(rows[i].name, &leaf, rows[i].want);
        }
}

static void cut_makes_two_of_one(void **state)
{
        struct ext4_splice s;
        struct leaf leaf;

        leaf_init(&leaf, 10, "0+8@50u 8+1@58u");
        ext4_splice_cut(&leaf.eh, 0, 3, &s);
        assert_int_equal(ext4_splice_growth(&s), 1);
        ext4_splice_apply(&leaf.eh, &s);
        check_leaf_text("cut", &leaf, "0+3@50u 3+5@53u 8+1@58u");
}

static void a_splice_fits_when_there_is_room(void **state)
{
        struct ext4_splice s;
        struct leaf leaf;

        leaf_init(&leaf, 4, "0+8@50u 10+1@70w 20+1@80w");
        ext4_splice_convert(&leaf.eh, 0, 2, 5, EXT4_MAP_WRITTEN, &s);
        assert_int_equal(ext4_splice_growth(&s), 2);
        assert_false(ext4_splice_fits(&leaf.eh, &s));
        ext4_splice_convert(&leaf.eh, 0, 0, 5, EXT4_MAP_WRITTEN, &s);
        assert_true(ext4_splice_fits(&leaf.eh, &s));
}

/* ---- nodes ---- */

static void find_gives_the_entry_at_or_before(void **state)
{
        struct leaf leaf;

        leaf_init(&leaf, 10, "");
        assert_int_equal(ext4_node_find(&leaf.eh, 0), -1);
        leaf_init(&leaf, 10, "5+1@1w 10+1@2w 4294967294+1@3w");
        assert_int_equal(ext4_node_find(&leaf.eh, 4), -1);
        assert_int_equal(ext4_node_find(&leaf.eh, 5), 0);
        assert_int_equal(ext4_node_find(&leaf.eh, 9), 0);
        assert_int_equal(ext4_node_find(&leaf.eh, 10), 1);
        assert_int_equal(ext4_node_find(&leaf.eh, 0xfffffffd), 1);
        assert_int_equal(ext4_node_find(&leaf.eh, 0xffffffff), 2);
}

static void children_keep_their_order(void **state)
{
        struct leaf node, right;

        ext4_node_init(&node.eh, 10, 1);
        ext4_node_insert_child(&node.eh, 0, 50, 1ull << 40);
        ext4_node_insert_child(&node.eh, 0, 10, 7);
        ext4_node_insert_child(&node.eh, 2, 90, 9);
        ext4_node_insert_child(&node.eh, 1, 20, 8);
        assert_int_equal(ext4_node_entries(&node.eh), 4);
        assert_int_equal(ext4_node_key(&node.eh, 0), 10);
        assert_int_equal(ext4_node_key(&node.eh, 1), 20);
        assert_int_equal(ext4_node_key(&node.eh, 2), 50);
        assert_int_equal(ext4_node_key(&node.eh, 3), 90);
        assert_true(ext4_node_child(&node.eh, 2) == 1ull << 40);

        ext4_node_init(&right.eh, 10, 1);
        ext4_node_move_tail(&node.eh, 3, &right.eh);
        assert_int_equal(ext4_node_entries(&node.eh), 3);
        assert_int_equal(ext4_node_entries(&right.eh), 1);
        assert_int_equal(ext4_node_child(&right.eh, 0), 9);

        ext4_node_remove(&node.eh, 0, 2);
        assert_int_equal(ext4_node_entries(&node.eh), 1);
        assert_int_equal(ext4_node_key(&node.eh, 0), 50);
        ext4_node_set_key(&node.eh, 0, 45);
        assert_int_equal(ext4_node_key(&node.eh, 0), 45);

        ext4_node_init(&right.eh, 4, 3);
        ext4_node_replace(&right.eh, &node.eh);
        assert_int_equal(ext4_node_depth(&right.eh), 1);
        assert_int_equal(ext4_node_max(&right.eh), 4);
        assert_int_equal(ext4_node_entries(&right.eh), 1);
        assert_int_equal(ext4_node_key(&right.eh, 0), 45);
}

static void splitting_leaves_both_with_something(void **state)
{
        struct leaf leaf;

        leaf_init(&leaf, 10, "0+1@1w 2+1@5w");
        assert_int_equal(ext4_node_split_point(&leaf.eh, 0), 1);
        assert_int_equal(ext4_node_split_point(&leaf.eh, 2), 1);
        leaf_init(&leaf, 10, "0+1@1w 2+1@5w 4+1@9w 6+1@13w");
        assert_int_equal(ext4_node_split_point(&leaf.eh, 1), 2);
        /* At the end: a full node stays behind. */
        assert_int_equal(ext4_node_split_point(&leaf.eh, 4), 3);
}

static void shift_moves_and_joins(void **state)
{
        static const struct {
                const char *name, *leaf;
                unsigned i, nr;
                int64_t delta;
                const char *want;
        } rows[] = {
                {"back", "0+2@10w 8+2@30w 12+1@50u", 1, 2, -4, "0+2@10w 4+2@30w 8+1@50u"},
                {"back up to the one before", "0+2@10w 8+2@30w", 1, 1, -6, "0+2@10w 2+2@30w"},
                {"back and joined", "0+2@10w 8+2@12w 12+1@50u", 1, 2, -6, "0+4@10w 6+1@50u"},
                {"to block 0", "8+2@12w", 0, 1, -8, "0+2@12w"},
                {"forward", "0+2@10w 8+2@30w 12+1@50u", 1, 2, 4, "0+2@10w 12+2@30w 16+1@50u"},
                {"forward, all", "0+2@10w 8+2@30w", 0, 2, 100, "100+2@10w 108+2@30w"},
                {"far", "0+1@10w", 0, 1, 4294967294, "4294967294+1@10w"},
                {"some", "0+1@10w 4+1@20w 90+1@5u", 1, 1, 80, "0+1@10w 84+1@20w 90+1@5u"},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct leaf leaf;

                leaf_init(&leaf, 10, rows[i].leaf);
                ext4_node_shift(&leaf.eh, rows[i].i, rows[i].nr, rows[i].delta);
                check_leaf_text(rows[i].name, &leaf, rows[i].want);
        }
}

/* ---- against an array ---- */

#define NR_LBLKS 4096u

/* Where each logical block is; 0: hole. */
struct model {
        uint64_t pblk[NR_LBLKS];
        uint8_t type[NR_LBLKS];
};

struct random_test {
        struct leaf leaf;
        struct model model;
        uint64_t rand;
        unsigned nr_lblks; /* changed at random: few for a small leaf, which is full soon */
        unsigned nr_done, nr_full;
};

/* Every block, and that the leaf is sorted and its extents have lengths that they may have. */
static void compare(const struct random_test *t)
{
        uint64_t lblk = 0;

        for (unsigned i = 0; i <= ext4_node_entries(&t->leaf.eh); i++) {
                struct ext4_map ex = {.lblk = NR_LBLKS};

                if (i < ext4_node_entries(&t->leaf.eh))
                        ex = ext4_node_extent(&t->leaf.eh, i);
                T_CHECK(ex.lblk >= lblk && ext4_map_end(&ex) <= NR_LBLKS);
                for (; lblk < ex.lblk; lblk++)
                        T_CHECK(t->model.type[lblk] == EXT4_MAP_HOLE);
                for (; lblk < ext4_map_end(&ex); lblk++) {
                        T_CHECK(t->model.type[lblk] == ex.type);
                        T_CHECK(t->model.pblk[lblk] == ex.pblk + (lblk - ex.lblk));
                }
        }
}

/* [from, to) from `from` on that is all alike in the model and in one piece on disk. */
static unsigned alike_to(const struct model *m, unsigned from, unsigned to)
{
        unsigned end = from + 1;

        while (end < to && m->type[end] == m->type[from] &&
               (m->type[from] == EXT4_MAP_HOLE || m->pblk[end] == m->pblk[end - 1] + 1))
                end++;
        return end;
}

static void set_model(struct model *m, unsigned from, unsigned to, uint64_t pblk,
                      enum ext4_map_type type)
{
        for (unsigned lblk = from; lblk < to; lblk++) {
                m->pblk[lblk] = pblk + (lblk - from);
                m->type[lblk] = (uint8_t)type;
        }
}

/* Now and then make room in a full leaf. */
static void remove_some(struct random_test *t)
{
        unsigned i = (unsigned)t_below(&t->rand, ext4_node_entries(&t->leaf.eh));
        struct ext4_map ex = ext4_node_extent(&t->leaf.eh, i);
        struct ext4_splice s;

        ext4_splice_remove(&t->leaf.eh, i, ex.lblk, ext4_map_end(&ex), &s);
        ext4_splice_apply(&t->leaf.eh, &s);
        set_model(&t->model, ex.lblk, (unsigned)ext4_map_end(&ex), 0, EXT4_MAP_HOLE);
}

static bool apply_if_fits(struct random_test *t, const struct ext4_splice *s)
{
        if (!ext4_splice_fits(&t->leaf.eh, s)) {
                t->nr_full++;
                remove_some(t);
                return false;
        }
        ext4_splice_apply(&t->leaf.eh, s);
        t->nr_done++;
        return true;
}

static void random_insert(struct random_test *t, unsigned from, unsigned to)
{
        bool unwritten = t_rand(&t->rand) & 1;
        struct ext4_map new = {
                .lblk = from,
                .len = to - from,
                /* Often what the neighbours have, so that they are joined. */
                .pblk = t_below(&t->rand, 4) ? 100000 + from : 500000 + t_below(&t->rand, 9),
                .type = unwritten ? EXT4_MAP_UNWRITTEN : EXT4_MAP_WRITTEN,
        };
        struct ext4_splice s;

        T_CHECK(ext4_splice_insert(&t->leaf.eh, &new, &s) == 0);
        if (apply_if_fits(t, &s))
                set_model(&t->model, from, to, new.pblk, new.type);
}

static void random_change(struct random_test *t, unsigned from, unsigned to)
{
        enum ext4_map_type type =
                t->model.type[from] == EXT4_MAP_WRITTEN ? EXT4_MAP_UNWRITTEN : EXT4_MAP_WRITTEN;
        unsigned i = (unsigned)ext4_node_find(&t->leaf.eh, from);
        struct ext4_map ex = ext4_node_extent(&t->leaf.eh, i);
        struct ext4_splice s;

        to = min_t(unsigned, to, ext4_map_end(&ex));
        switch (t_below(&t->rand, 8)) {
        case 0 ... 3:
                ext4_splice_convert(&t->leaf.eh, i, from, to, type, &s);
                if (apply_if_fits(t, &s))
                        set_model(&t->model, from, to, t->model.pblk[from], type);
                break;
        case 4:
                if (from == ex.lblk)
                        break;
                ext4_splice_cut(&t->leaf.eh, i, from, &s);
                apply_if_fits(t, &s);
                break;
        default:
                ext4_splice_remove(&t->leaf.eh, i, from, to, &s);
                if (apply_if_fits(t, &s))
                        set_model(&t->model, from, to, 0, EXT4_MAP_HOLE);
        }
}

/* All from an extent on, into the hole before it or behind the last one. */
static void random_shift(struct random_test *t)
{
        unsigned nr = ext4_node_entries(&t->leaf.eh);
        struct model old = t->model;
        uint64_t from, free_from = 0;
        struct ext4_map last;
        int64_t delta;
        unsigned i;

        if (nr == 0)
                return;
        i = (unsigned)t_below(&t->rand, nr);
        from = ext4_node_key(&t->leaf.eh, i);
        last = ext4_node_extent(&t->leaf.eh, nr - 1);
        if (i > 0) {
                struct ext4_map before = ext4_node_extent(&t->leaf.eh, i - 1);

                free_from = ext4_map_end(&before);
        }
        delta = t_rand(&t->rand) & 1
                        ? -(int64_t)t_below(&t->rand, from - free_from + 1)
                        : (int64_t)t_below(&t->rand, t->nr_lblks - ext4_map_end(&last) + 1);
        ext4_node_shift(&t->leaf.eh, i, nr - i, delta);
        set_model(&t->model, (unsigned)free_from, NR_LBLKS, 0, EXT4_MAP_HOLE);
        for (uint64_t lblk = from; lblk < ext4_map_end(&last); lblk++) {
                t->model.pblk[(int64_t)lblk + delta] = old.pblk[lblk];
                t->model.type[(int64_t)lblk + delta] = old.type[lblk];
        }
        t->nr_done++;
}

static void random_step(struct random_test *t)
{
        unsigned from = (unsigned)t_below(&t->rand, t->nr_lblks);
        unsigned to = from + 1 + (unsigned)t_below(&t->rand, t_below(&t->rand, 8) ? 16 : 256);

        to = alike_to(&t->model, from, min_t(unsigned, to, t->nr_lblks));
        if (t_below(&t->rand, 512) == 0)
                random_shift(t);
        else if (t->model.type[from] == EXT4_MAP_HOLE)
                random_insert(t, from, to);
        else
                random_change(t, from, to);
}

static void random_changes_equal_the_array(void **state)
{
        static const unsigned rooms[] = {MAX_ENTRIES, 84, 5};
        const unsigned ops = t_nr_ops(100000);
        struct random_test *t = t_alloc(sizeof(*t));

        t->rand = t_seed();
        for (unsigned r = 0; r < ARRAY_LEN(rooms); r++) {
                memset(&t->model, 0, sizeof(t->model));
                leaf_init(&t->leaf, rooms[r], "");
                t->nr_lblks = min_t(unsigned, NR_LBLKS, rooms[r] * 12);
                for (unsigned n = 0; n < ops / ARRAY_LEN(rooms); n++) {
                        random_step(t);
                        if (n % 64 == 0)
                                compare(t);
                }
                compare(t);
        }
        printf("# %u changes, %u that did not fit\n", t->nr_done, t->nr_full);
        fflush(stdout);
        T_CHECK(ops < 1000 || (t->nr_done > ops / 2 && t->nr_full > 0));
        free(t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(insert_joins_what_continues),
                cmocka_unit_test(convert_takes_its_part_and_joins),
                cmocka_unit_test(remove_leaves_what_is_outside),
                cmocka_unit_test(cut_makes_two_of_one),
                cmocka_unit_test(a_splice_fits_when_there_is_room),
                cmocka_unit_test(find_gives_the_entry_at_or_before),
                cmocka_unit_test(children_keep_their_order),
                cmocka_unit_test(splitting_leaves_both_with_something),
                cmocka_unit_test(shift_moves_and_joins),
                cmocka_unit_test(random_changes_equal_the_array),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
