/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_MODE_H
#define UEXT4_CLI_MODE_H

/*
 * mode.h - permissions as chmod(1) spells them: octal, or clauses such as `u+rwX,go-w`.
 */

#include <stddef.h>
#include <stdint.h>

/* One operation of a clause. */
struct mode_change {
        uint32_t who;      /* the bits that it is about, S_ISUID.. and sticky among them */
        char op;           /* '+', '-', '=' */
        uint32_t bits;     /* for all three classes, where no class is copied */
        uint32_t execute;  /* 'X': these too, if it is a directory or executable for somebody */
        char copy;         /* 'u', 'g', 'o': the bits of that class, else 0 */
        uint32_t keep;     /* bits that stay under '=' */
        uint32_t dir_keep; /* and those that do so of a directory */
};

struct mode_spec {
        struct mode_change *changes;
        size_t nr;
};

/* -EINVAL.  A clause without u, g, o, a leaves out what `umask` has.  Owner: mode_done(). */
int mode_parse(const char *text, uint32_t umask, struct mode_spec *ret_spec);
void mode_done(struct mode_spec *spec);

/* The mode, type included, that becomes of `mode`. */
uint32_t mode_apply(const struct mode_spec *spec, uint32_t mode);

#endif
