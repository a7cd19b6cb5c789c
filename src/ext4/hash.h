/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_HASH_H
#define EXT4_HASH_H

#include "ext4/format.h"

/*
 * The hash by which the index of a directory is sorted: an even number.  `version` is
 * EXT4_DX_HASH_LEGACY .. EXT4_DX_HASH_TEA_UNSIGNED; `seed` is the superblock's, all zero for
 * the default.
 */
uint32_t ext4_dx_hash(uint8_t version, const le32 seed[4], const char *name, size_t len);

/* The hash versions of a file system's directories are noted without their sign. */
static inline uint8_t ext4_dx_with_sign(uint8_t version, bool is_unsigned)
{
        return is_unsigned ? version + EXT4_DX_HASH_LEGACY_UNSIGNED : version;
}

/*
 * 32 bits more of a name, which have nothing to do with its hash: to tell names of one hash
 * apart (dir_order.c).
 */
uint32_t ext4_name_tail(const le32 seed[4], const char *name, size_t len);

#endif
