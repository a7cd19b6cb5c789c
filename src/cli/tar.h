/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_TAR_H
#define UEXT4_CLI_TAR_H

/*
 * tar.h - archives, by libarchive.
 *
 *      tar.c        the command
 *      tar_out.c    a tree of an image becomes an archive
 *      tar_in.c     an archive becomes a tree of an image
 *      tar_entry.c  an entry as something to be copied
 *      tar_acl.c    ACLs, which archives have as text and images as attributes
 */

#include <archive.h>
#include <archive_entry.h>

#include "cli/build.h"

/* Write a tree; `name` is what it is called in the archive, NULL for ".".  What fails is said.
 */
void tar_write(struct cli *cli, struct archive *a, const struct cli_operand *op,
               const char *name, const struct override *override);

/* Read an archive that has been opened into the directory. */
void tar_read(struct cli *cli, struct archive *a, const struct cli_operand *op,
              const struct build_options *options);

/* "cannot ...: why", of what libarchive could not do. */
void tar_fail(struct cli *cli, const char *name, const char *what, struct archive *a);

/* ---- tar_entry.c ---- */

/* The entry that was read last; its contents can be read once.  `name` is for messages. */
struct object tar_object(struct archive *a, struct archive_entry *entry, char *name);

/* ---- tar_acl.c ---- */

/* Which attribute is the ACL of this type (ARCHIVE_ENTRY_ACL_TYPE_ACCESS, _DEFAULT)? */
const char *tar_acl_name(int type);

/* Is the attribute one?  Then its type, else 0. */
int tar_acl_type(const char *name);

/* Give the entry an ACL, as getxattr(2) gives it; -EINVAL. */
int tar_acl_to_entry(struct archive_entry *entry, int type, const void *value, size_t size);

/* The entry's mode; where an ACL has a mask that is what the group's permissions are. */
uint32_t tar_acl_mode(struct archive_entry *entry);

/* The entry's ACL as an attribute's value, to be freed; *ret_size 0 when it has none. */
void tar_acl_from_entry(struct archive_entry *entry, int type, void **ret_value,
                        size_t *ret_size);

#endif
