/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs/pages_tree.h"

#include "util/alloc.h"

#define PAGE_BITS  12u /* of FOLIO_MIN_SIZE */
#define NODE_BITS  6u
#define NODE_SLOTS (1u << NODE_BITS)

/* A slot: NULL, a node, or a folio, which is marked by the lowest bit of its address. */
struct pages_node {
        struct pages_node *parent;
        unsigned shift; /* log2 of the pages that a slot stands for */
        unsigned nr;    /* slots in use */
        void *slots[NODE_SLOTS];
};

static void *mark(struct folio *f)
{
        return (char *)f + 1;
}

static bool is_folio(const void *slot)
{
        return (uintptr_t)slot & 1;
}

static struct folio *folio_of(void *slot)
{
        return (struct folio *)(void *)((char *)slot - 1);
}

static uint64_t page_of(uint64_t pos)
{
        return pos >> PAGE_BITS;
}

static unsigned slot_of(const struct pages_node *node, uint64_t page)
{
        return (unsigned)(page >> node->shift) % NODE_SLOTS;
}

/* Whether the tree below a node of this shift reaches that far. */
static bool shift_reaches(unsigned shift, uint64_t page)
{
        return shift + NODE_BITS >= 64 || page >> (shift + NODE_BITS) == 0;
}

static bool reaches(const struct pages_node *node, uint64_t page)
{
        return shift_reaches(node->shift, page);
}

/* ---- finding ---- */

struct folio *pages_tree_find(const struct pages_tree *tree, uint64_t pos)
{
        const struct pages_node *node = tree->root;
        const uint64_t page = page_of(pos);

        if (!node || !reaches(node, page))
                return NULL;
        for (;;) {
                void *slot = node->slots[slot_of(node, page)];

                if (!slot)
                        return NULL;
                if (is_folio(slot))
                        return folio_of(slot);
                node = slot;
        }
}

/* Below a node: the first folio at or behind `page`, which the node reaches. */
static struct folio *next_below(const struct pages_node *node, uint64_t page)
{
        for (unsigned i = slot_of(node, page); i < NODE_SLOTS; i++) {
                void *slot = node->slots[i];
                struct folio *f = NULL;

                if (slot)
                        f = is_folio(slot) ? folio_of(slot) : next_below(slot, page);
                if (f)
                        return f;
                page = 0; /* all of the nodes to come is behind */
        }
        return NULL;
}

struct folio *pages_tree_next(const struct pages_tree *tree, uint64_t pos)
{
        if (!tree->root || !reaches(tree->root, page_of(pos)))
                return NULL;
        return next_below(tree->root, page_of(pos));
}

/* ---- changing ---- */

static struct pages_node *node_new(struct pages_node *parent, unsigned shift)
{
        struct pages_node *node = mem_zalloc(sizeof(*node));

        if (node) {
                node->parent = parent;
                node->shift = shift;
        }
        return node;
}

/* Nodes without anything in them go, upwards. */
static void prune(struct pages_tree *tree, struct pages_node *node, uint64_t page)
{
        while (node && node->nr == 0) {
                struct pages_node *parent = node->parent;

                if (parent) {
                        parent->slots[slot_of(parent, page)] = NULL;
                        parent->nr--;
                } else {
                        tree->root = NULL;
                }
                mem_free(node);
                node = parent;
        }
}

/* Make the tree reach `page`, and the level of `shift`. */
static int grow(struct pages_tree *tree, uint64_t page, unsigned shift)
{
        if (!tree->root) {
                while (!shift_reaches(shift, page))
                        shift += NODE_BITS;
                tree->root = node_new(NULL, shift);
                return tree->root ? 0 : -ENOMEM;
        }
        while (tree->root->shift < shift || !reaches(tree->root, page)) {
                struct pages_node *node = node_new(NULL, tree->root->shift + NODE_BITS);

                if (!node)
                        return -ENOMEM;
                node->slots[0] = tree->root;
                node->nr = 1;
                tree->root->parent = node;
                tree->root = node;
        }
        return 0;
}

/* The level at which a folio stands. */
static unsigned level_of(const struct folio *f)
{
        return page_of(f->size) >= NODE_SLOTS ? NODE_BITS : 0;
}

static unsigned nr_slots(const struct folio *f)
{
        return (unsigned)(page_of(f->size) >> level_of(f));
}

/* The node in which the folio stands or would stand; *ret_node is the last one on the way when
 * that fails. */
static int descend(struct pages_tree *tree, const struct folio *f, struct pages_node **ret_node)
{
        const uint64_t page = page_of(f->pos);
        struct pages_node *node = tree->root;

        while (node->shift > level_of(f)) {
                void **slot = &node->slots[slot_of(node, page)];

                *ret_node = node;
                if (*slot && is_folio(*slot))
                        return -EEXIST;
                if (!*slot) {
                        *slot = node_new(node, node->shift - NODE_BITS);
                        if (!*slot)
                                return -ENOMEM;
                        node->nr++;
                }
                node = *slot;
        }
        *ret_node = node;
        return 0;
}

int pages_tree_insert(struct pages_tree *tree, struct folio *f)
{
        const uint64_t page = page_of(f->pos);
        struct pages_node *node = NULL;
        unsigned first;
        int ret = grow(tree, page, level_of(f));

        if (ret == 0)
                ret = descend(tree, f, &node);
        else
                node = tree->root;
        first = node ? slot_of(node, page) : 0;
        for (unsigned i = 0; ret == 0 && i < nr_slots(f); i++)
                ret = node->slots[first + i] ? -EEXIST : 0;
        if (ret < 0) {
                prune(tree, node, page);
                return ret;
        }
        for (unsigned i = 0; i < nr_slots(f); i++)
                node->slots[first + i] = mark(f);
        node->nr += nr_slots(f);
        return 0;
}

void pages_tree_remove(struct pages_tree *tree, struct folio *f)
{
        const uint64_t page = page_of(f->pos);
        struct pages_node *node = tree->root;
        unsigned first;

        while (!is_folio(node->slots[slot_of(node, page)]))
                node = node->slots[slot_of(node, page)];
        first = slot_of(node, page);
        for (unsigned i = 0; i < nr_slots(f); i++)
                node->slots[first + i] = NULL;
        node->nr -= nr_slots(f);
        prune(tree, node, page);
}
