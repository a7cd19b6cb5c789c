/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef POSIX_H
#define POSIX_H

/*
 * One table of cases, run on uext4 and on the kernel's ext4, with the same results.
 *
 *      cases.c     the table
 *      main.c      running it, with identities
 *      step.c      the words of a step, and ACLs, flags and the like as text
 *      on_uext4.c  one step by the library
 *      on_kernel.c the same by system calls, on a loop mount, in a child that has the identity
 *
 * A step is a line: who does what, and what comes of it, which is OK if nothing is said.
 *
 *      u1 chmod f 4755 = EPERM
 *      root stat f = 0755 1001 1001 1
 *
 * Paths are relative to the directory of the case, which everybody may write.
 *
 *      mkdir PATH MODE         create PATH MODE        mknod PATH c|b|p|s MODE
 *      symlink TARGET PATH     link OLD NEW            unlink PATH     rmdir PATH
 *      rename OLD NEW          noreplace OLD NEW       exchange OLD NEW
 *      whiteout OLD NEW        tmpfile DIR MODE        (O_TMPFILE, and let go of it)
 *      tmplink DIR NEW MODE    (O_TMPFILE, and give it a name)
 *      tmpexcl DIR NEW MODE    (the same with O_EXCL)
 *      chmod PATH MODE         chown PATH UID GID (- leaves it)
 *      touch PATH              utimes PATH ATIME MTIME (SEC.NSEC, now, or - )
 *      open PATH r|w|rw|a|n    (a: to append, n: O_RDONLY | O_NOATIME)
 *      write PATH  truncate PATH SIZE      access PATH rwx     readdir PATH    look PATH
 *      setx PATH NAME VALUE    getx PATH NAME          rmx PATH NAME   listx PATH
 *      acl PATH ENTRIES        dacl PATH ENTRIES       getacl PATH     getdacl PATH
 *      flags PATH +-LETTERS    (of chattr(1))          lsflags PATH
 *      stat PATH               mode, uid, gid, links
 *      times PATH              access and modification time
 *      what PATH               kind and device number; of a symlink itself
 *      attrs PATH              what statx(2) says of attributes: a, d, i
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct who {
        const char *name;
        uint32_t uid, gid;
        uint32_t groups[3];
        uint32_t nr_groups;
        uint32_t umask;
        uint64_t caps;
};

#define MAX_ARGS 5

struct step {
        const struct who *who;
        const char *op;
        const char *arg[MAX_ARGS];
        unsigned nr_args;
        const char *expect;
};

struct posix_case {
        const char *name;
        bool links_of_others; /* gives names to files of others: fs.protected_hardlinks */
        const char *steps[40];
};

extern const struct posix_case posix_cases[];
extern const size_t posix_nr_cases;

#define TEXT_SIZE 256

/* 0 or -errno; what there is to tell goes to `text`. */
struct target {
        const char *name;
        int (*run)(void *arg, const char *dir, const struct step *step, char *text);
        void *arg;
};

/* ---- step.c: what the words of a step mean ---- */

static inline bool is(const struct step *s, const char *op)
{
        return strcmp(s->op, op) == 0;
}

/* Of noreplace, exchange and whiteout; 0: it is none of them. */
unsigned posix_rename_flags(const struct step *s);

/* The type of a file, of "c", "b", "p" or "s". */
uint32_t posix_type(const char *letter);

/* Of open; what write and truncate open with. */
int posix_open_flags(const struct step *s);

/* The attribute that acl, dacl, getacl and getdacl are about. */
const char *posix_acl_name(const struct step *s);

/* What listx, getx, getacl and getdacl tell of what they have got. */
void posix_tell_value(const struct step *s, const char *value, size_t len, char *text);

/* What an attribute is set to: the text itself, or bytes, 0x0102. */
size_t posix_value_of_text(const char *text, void *buf, size_t size);

/* "u::rwx,u:1002:r--,g::r-x,m::rwx,o::---" and the form of setxattr(2). */
size_t posix_acl_of_text(const char *text, void *buf, size_t size);
void posix_acl_to_text(const void *acl, size_t size, char *text);

/* Letters as in chattr(1); `flags` is changed as "+i", "-a" and the like say. */
uint32_t posix_flags_change(const char *change, uint32_t flags);
void posix_flags_to_text(uint32_t flags, char *text);

uint32_t posix_number(const char *text, int base);

/* "c 0 0"; letters of STATX_ATTR_*. */
void posix_kind_to_text(uint32_t mode, unsigned major, unsigned minor, char *text);
void posix_attributes_to_text(uint64_t attributes, char *text);

struct timespec;
struct timespec posix_time(const char *text);

/* ---- the targets ---- */

struct target posix_on_uext4(const char *image);
int posix_uext4_end(struct target *t);

struct target posix_on_kernel(const char *mount_point);

#endif
