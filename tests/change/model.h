/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CHANGE_MODEL_H
#define CHANGE_MODEL_H

/*
 * What files hold, as arrays of bytes, and what a power cut may leave of them.
 *
 * Each file has the states that it went through since it was last durable; the last one is how
 * it is now.  A state is entered before the operation begins that leads to it, because from
 * then on it may be found.  After a cut the file must be as in one of its states, wholly;
 * unless the way to a state is said to be
 *
 *      MODEL_MIXED     data in place: each byte is as in one of the states
 *      MODEL_GRADUAL   the size moves step by step
 *
 * What is written in place is not held back for a transaction that moves extents: if the file
 * has been collapsed, and written after that, a cut may leave the file as before, with some of
 * the bytes written, where they would have been then.
 *
 * Operations are carried out on the file and on the model, and their results compared.
 *
 *      model.c         states, files, operations
 *      model_step.c    operations by chance
 *      model_check.c   what is found
 */

#include <linux/falloc.h>

#include "ops.h"

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

#define MODEL_MAX_FILES 128

enum model_way {
        MODEL_MIXED = 1u << 0,
        MODEL_GRADUAL = 1u << 1,
};

struct model_state {
        bool exists; /* has a name */
        unsigned ways;
        int64_t shift; /* by which what lay behind shift_pos has moved on the way here */
        uint64_t shift_pos;
        uint64_t size;
        uint8_t *bytes;
};

struct model_file {
        char dir[128]; /* empty: never had a name */
        char name[64];
        struct ext4_inode *inode; /* NULL: gone */
        uint64_t last_blocks;     /* i_blocks when it was left */
        struct model_state *states;
        size_t nr, room;
};

struct model {
        struct rig_mount *m;
        struct model_file files[MODEL_MAX_FILES];
        unsigned nr_files;
        uint64_t rand;
        uint64_t max_size;
        uint64_t next_version;
        pthread_mutex_t *lock; /* held while states change, for who looks meanwhile; or NULL */
        bool keep_states;      /* for power cuts; else only the last one is kept */
        bool may_fail;         /* devices or memory fail: any error is an answer */
        bool no_statfs;        /* somebody else changes the file system as well */
        unsigned unit;         /* bytes of a cluster */

        /* Free bytes and those of all files together do not change. */
        uint64_t total;

        /* Steps. */
        uint64_t nr_ops, nr_enospc, nr_refused;
        char what[256]; /* the operation under way */
};

void model_init(struct model *md, struct rig_mount *m, uint64_t seed);
void model_done(struct model *md);

/* Take in all regular files of a directory, as they are. */
void model_add_dir(struct model *md, const char *dir);
struct model_file *model_find(struct model *md, const char *name);

static inline struct model_state *model_now(const struct model_file *f)
{
        return &f->states[f->nr - 1];
}

/* ---- one operation: 0, or the error of the library, which the model expects ---- */

int model_truncate(struct model *md, struct model_file *f, uint64_t size);
int model_fallocate(struct model *md, struct model_file *f, int mode, uint64_t pos,
                    uint64_t len);
int model_migrate(struct model *md, struct model_file *f); /* the other kind of map */
int model_write(struct model *md, struct model_file *f, uint64_t pos, uint64_t len,
                enum op_way way);
int model_unlink(struct model *md, struct model_file *f);
int model_put(struct model *md, struct model_file *f); /* of an unlinked file: it is deleted */
int model_tmpfile(struct model *md, const char *dir);
int model_sync(struct model *md);

/* One of them, by chance. */
int model_step(struct model *md);

/* ---- checking ---- */

/* Contents, sizes and the count of free blocks; the process ends with a message otherwise. */
void model_check_file(struct model *md, struct model_file *f);
void model_check_all(struct model *md);

/* All references go (unlinked files are deleted), and come again after a mount. */
void model_leave(struct model *md);
int model_enter(struct model *md); /* -errno only with may_fail */

/* After a cut and recovery: NULL, or what is wrong, in `text`. */
const char *model_check_cut(const struct model *md, struct rig_mount *m, bool junk, char *text,
                            size_t size);

/* What is found now is all that there is: the end of a life. */
void model_settle(struct model *md);

/* ---- between the files of the model ---- */

/* Say what is wrong, and in which operation; end the process. */
void model_complain(const struct model *md, const struct model_file *f, const char *what);
int model_get(struct rig_mount *m, const struct model_file *f, struct ext4_inode **ret_inode);
bool model_has_extents(const struct model_file *f); /* or will have */

/* Free space, and that of all files, in sectors. */
uint64_t model_total(struct model *md);

#endif
