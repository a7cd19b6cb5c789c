/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/hash.h"

#include <string.h>

/*
 * Three hashes of a name, each with characters taken as signed or as unsigned: which of the two
 * depends on the machine that made the file system, and is noted in its superblock.  For
 * names in ASCII there is no difference.
 *
 * Half-MD4 and TEA are fed with words packed from the name, most significant byte first, the
 * rest filled with the length; what is left over of the state after the last
 * portion is the hash.
 */

enum char_sign {
        CHAR_SIGNED,
        CHAR_UNSIGNED,
};

/* The index uses the lowest bit, and the greatest value ends its iteration. */
#define HASH_LAST_VALID 0xfffffffcu
#define HASH_END        0xfffffffeu

static uint32_t char_value(char c, enum char_sign sign)
{
        return sign == CHAR_SIGNED ? (uint32_t)(int8_t)c : (uint8_t)c;
}

static uint32_t rotate_left(uint32_t x, unsigned n)
{
        return x << n | x >> (32 - n);
}

/* ---- legacy ---- */

static uint32_t hash_legacy(const char *name, size_t len, enum char_sign sign)
{
        uint32_t last = 0x12a3fe2d;
        uint32_t before = 0x37abe8f9;

        for (size_t i = 0; i < len; i++) {
                uint32_t next = before + (last ^ char_value(name[i], sign) * 7152373);

                if (next & 0x80000000)
                        next -= 0x7fffffff;
                before = last;
                last = next;
        }
        return last << 1;
}

/* ---- words of a name ---- */

/* Fill nr words from the `len` bytes that are left of a name. */
static void pack_words(const char *name, size_t len, enum char_sign sign, uint32_t *words,
                       size_t nr)
{
        const uint32_t fill = (uint32_t)(len & 0xff) * 0x01010101u;

        for (size_t w = 0; w < nr; w++) {
                words[w] = fill;
                for (size_t i = w * 4; i < w * 4 + 4 && i < len; i++)
                        words[w] = (words[w] << 8) + char_value(name[i], sign);
        }
}

/* ---- half-MD4: the three rounds of MD4, of eight steps each ---- */

static uint32_t md4_mix(unsigned round, uint32_t x, uint32_t y, uint32_t z)
{
        switch (round) {
        case 0:
                return (x & y) | (~x & z);
        case 1:
                return (x & y) | (x & z) | (y & z);
        default:
                return x ^ y ^ z;
        }
}

#define MD4_WORDS 8

static const struct {
        uint32_t add;
        uint8_t order[MD4_WORDS]; /* in which the words are taken */
        uint8_t shift[4];
} md4_rounds[3] = {
        {0x00000000, {0, 1, 2, 3, 4, 5, 6, 7}, {3, 7, 11, 19}},
        {0x5a827999, {1, 3, 5, 7, 0, 2, 4, 6}, {3, 5, 9, 13}},
        {0x6ed9eba1, {3, 7, 2, 6, 1, 5, 0, 4}, {3, 9, 11, 15}},
};

static void md4_half_transform(uint32_t state[4], const uint32_t words[MD4_WORDS])
{
        uint32_t s[4];

        memcpy(s, state, sizeof(s));
        for (unsigned round = 0; round < 3; round++) {
                for (unsigned i = 0; i < MD4_WORDS; i++) {
                        /* The steps change s[0], s[3], s[2], s[1], s[0], ... */
                        unsigned at = (MD4_WORDS - i) % 4;
                        uint32_t x = s[at] + words[md4_rounds[round].order[i]] +
                                     md4_rounds[round].add +
                                     md4_mix(round, s[(at + 1) % 4], s[(at + 2) % 4],
                                             s[(at + 3) % 4]);

                        s[at] = rotate_left(x, md4_rounds[round].shift[i % 4]);
                }
        }
        for (unsigned i = 0; i < 4; i++)
                state[i] += s[i];
}

static uint32_t hash_half_md4(uint32_t state[4], const char *name, size_t len,
                              enum char_sign sign)
{
        for (size_t pos = 0; pos < len; pos += MD4_WORDS * 4) {
                uint32_t words[MD4_WORDS];

                pack_words(name + pos, len - pos, sign, words, MD4_WORDS);
                md4_half_transform(state, words);
        }
        return state[1];
}

/* ---- TEA, sixteen rounds, the name as the key ---- */

#define TEA_WORDS 4

static void tea_transform(uint32_t state[2], const uint32_t key[TEA_WORDS])
{
        uint32_t x = state[0];
        uint32_t y = state[1];
        uint32_t sum = 0;

        for (unsigned i = 0; i < 16; i++) {
                sum += 0x9e3779b9;
                x += ((y << 4) + key[0]) ^ (y + sum) ^ ((y >> 5) + key[1]);
                y += ((x << 4) + key[2]) ^ (x + sum) ^ ((x >> 5) + key[3]);
        }
        state[0] += x;
        state[1] += y;
}

static uint32_t hash_tea(uint32_t state[2], const char *name, size_t len, enum char_sign sign)
{
        for (size_t pos = 0; pos < len; pos += TEA_WORDS * 4) {
                uint32_t words[TEA_WORDS];

                pack_words(name + pos, len - pos, sign, words, TEA_WORDS);
                tea_transform(state, words);
        }
        return state[0];
}

/* ---- all of them ---- */

static void init_state(uint32_t state[4], const le32 seed[4])
{
        static const uint32_t md4_start[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
        uint32_t any = 0;

        for (unsigned i = 0; i < 4; i++)
                any |= state[i] = le32_get(seed[i]);
        if (any == 0)
                memcpy(state, md4_start, sizeof(md4_start));
}

uint32_t ext4_dx_hash(uint8_t version, const le32 seed[4], const char *name, size_t len)
{
        enum char_sign sign =
                version >= EXT4_DX_HASH_LEGACY_UNSIGNED ? CHAR_UNSIGNED : CHAR_SIGNED;
        uint32_t state[4];
        uint32_t hash;

        assert(version <= EXT4_DX_HASH_TEA_UNSIGNED); /* the root's verifier has looked */
        init_state(state, seed);
        switch (version) {
        case EXT4_DX_HASH_LEGACY:
        case EXT4_DX_HASH_LEGACY_UNSIGNED:
                hash = hash_legacy(name, len, sign);
                break;
        case EXT4_DX_HASH_HALF_MD4:
        case EXT4_DX_HASH_HALF_MD4_UNSIGNED:
                hash = hash_half_md4(state, name, len, sign);
                break;
        default:
                hash = hash_tea(state, name, len, sign);
                break;
        }
        hash &= ~1u;
        return hash == HASH_END ? HASH_LAST_VALID : hash;
}

uint32_t ext4_name_tail(const le32 seed[4], const char *name, size_t len)
{
        uint32_t state[4];

        init_state(state, seed);
        return hash_tea(state + 2, name, len, CHAR_UNSIGNED);
}
