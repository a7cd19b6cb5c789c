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

#endif
