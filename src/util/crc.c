/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/crc.h"

#include <isa-l/crc.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
        /* ISA-L takes the length as an int, and does not write through its pointer. */
        unsigned char *p = (unsigned char *)(uintptr_t)data;
        const size_t chunk = 1u << 30;

        while (len > chunk) {
                crc = crc32_iscsi(p, (int)chunk, crc);
                p += chunk;
                len -= chunk;
        }
        return crc32_iscsi(p, (int)len, crc);
}

uint16_t crc16(uint16_t crc, const void *data, size_t len)
{
        const uint8_t *p = data;

        while (len-- > 0) {
                crc ^= *p++;
                for (int bit = 0; bit < 8; bit++)
                        crc = (crc & 1) ? (uint16_t)(crc >> 1 ^ 0xa001) : crc >> 1;
        }
        return crc;
}
