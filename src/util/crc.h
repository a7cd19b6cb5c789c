/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UTIL_CRC_H
#define UTIL_CRC_H

/* Checksums of the format.  None of them inverts at the start or the end: the
 * caller hands in the seed and gets the bare register back. */

#include <stddef.h>
#include <stdint.h>

/* Castagnoli, reflected (metadata_csum, jbd2 v2 and v3). */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* CRC-16/ARC: polynomial 0x8005, reflected (gdt_csum). */
uint16_t crc16(uint16_t crc, const void *data, size_t len);

#endif
