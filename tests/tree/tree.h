/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TREE_TREE_H
#define TREE_TREE_H

/*
 * What one thread has made: names, and what they lead to.
 *
 *      tree.c        the model, and what it is compared with
 *      tree_step.c   one change of both
 *
 * A wrong answer ends the process, with the call and what was expected.
 */

#include "../change/rig.h"

#define NR_SHARED 4
#define MAX_TREES 8
#define MAX_NODES 400
#define MAX_NAMES 500

enum kind {
        KIND_FILE,
        KIND_DIR,
        KIND_SYMLINK,
        KIND_CHAR,
        KIND_FIFO,
        KIND_WHITEOUT,
        NR_KINDS,
};

struct node {
        bool is_used;
        enum kind kind;
        uint64_t ino;
        unsigned nr_names;
        unsigned nr_in;   /* names in it, of a directory */
        unsigned nr_dirs; /* of these, directories */
        int parent;       /* of a directory: where its name is */
        size_t target;    /* length of a symlink's */
        uint32_t minor;
        size_t value; /* size of the attribute "user.v"; 0: there is none */
        uint8_t fill; /* of which its bytes are */
};

struct name {
        bool is_used;
        int dir; /* NR_SHARED and more: a node, counted from there; else one that is shared */
        int node;
        char text[256];
};

struct tree {
        unsigned id;
        uint64_t rand;
        struct uext4_fs *fs;
        struct uext4_inode *shared[NR_SHARED];
        uint64_t shared_ino[NR_SHARED];
        struct node nodes[MAX_NODES];
        struct name names[MAX_NAMES];
        unsigned nr_new; /* numbers names */
        uint64_t nr_done, nr_refused;
        char what[1400]; /* the call that was made last */
};

void tree_init(struct tree *t, unsigned id, uint64_t seed);

/* The file system is mounted; it is about to be unmounted. */
void tree_enter(struct tree *t, struct uext4_fs *fs);
void tree_leave(struct tree *t);

/* Make one change, or something that must be refused. */
void tree_step(struct tree *t);

/* All that should be there is there, as it should be, and nothing else. */
void tree_check(struct tree *t);

/* No name in the shared directories is nobody's but those that may be. */
void tree_check_strangers(struct tree *trees, unsigned nr);

/* A line for everything there is: path in hexadecimal, inode, mode, links, device, target. */
void tree_write_list(struct uext4_fs *fs, FILE *out);

/* ---- for tree_step.c ---- */

_Noreturn void tree_fail(struct tree *t, const char *what, long long got, long long want);

/* The directory of a name, with a reference. */
struct uext4_inode *tree_dir(struct tree *t, int dir);
uint64_t tree_dir_ino(const struct tree *t, int dir);

/* What a node is, with a reference. */
struct uext4_inode *tree_get(struct tree *t, const struct node *node);

#endif
