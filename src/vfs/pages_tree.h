/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VFS_PAGES_TREE_H
#define VFS_PAGES_TREE_H

/*
 * The folios of one file by position: a radix tree of 64 slots a node over the file's pages of
 * FOLIO_MIN_SIZE.  A folio of up to 32 pages stands in each of its pages' slots at the lowest
 * level, a larger one in the slots of the level above.  Folios do not overlap.
 *
 * Its user locks.
 */

#include "vfs/folio.h"

struct pages_node;

struct pages_tree {
        struct pages_node *root; /* NULL: empty */
};

/* The folio that has `pos`, or NULL. */
struct folio *pages_tree_find(const struct pages_tree *tree, uint64_t pos);

/* The first folio that ends behind `pos`, or NULL. */
struct folio *pages_tree_next(const struct pages_tree *tree, uint64_t pos);

/* -EEXIST: another one has some of its bytes.  -ENOMEM. */
must_check int pages_tree_insert(struct pages_tree *tree, struct folio *f);

/* It is in the tree. */
void pages_tree_remove(struct pages_tree *tree, struct folio *f);

#endif
