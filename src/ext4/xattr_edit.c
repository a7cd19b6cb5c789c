/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/xattr_edit.h"

#include <stdlib.h>
#include <string.h>

#include "util/alloc.h"

/* ---- to pieces ---- */

static const struct ext4_xattr_entry *entry_at(const uint8_t *p)
{
        return (const void *)p;
}

static size_t name_room(size_t len)
{
        return sizeof(struct ext4_xattr_entry) + round_up_pow2(len, 4);
}

static bool is_end(const uint8_t *p)
{
        return le32_get(*(const le32 *)(const void *)p) == 0;
}

static const uint8_t *next_of(const uint8_t *p)
{
        return p + name_room(entry_at(p)->e_name_len);
}

static struct ext4_xattr_item item_of(const struct ext4_xattr_entry *entry, const uint8_t *base)
{
        struct ext4_xattr_item item = {
                .key = {entry->e_name_index, (const char *)(entry + 1), entry->e_name_len},
                .size = le32_get(entry->e_value_size),
                .inum = le32_get(entry->e_value_inum),
                .hash = le32_get(entry->e_hash),
        };

        if (item.inum == 0) /* an empty value may have any offset */
                item.value = item.size ? base + le16_get(entry->e_value_offs) : base;
        return item;
}

static int fill_set(struct ext4_xattr_set *set, const uint8_t *first, const uint8_t *base)
{
        size_t nr = 0;

        for (const uint8_t *p = first; p && !is_end(p); p = next_of(p))
                nr++;
        *set = (struct ext4_xattr_set){.room = nr + 1};
        set->items = mem_alloc(set->room * sizeof(*set->items));
        if (!set->items)
                return -ENOMEM;
        for (const uint8_t *p = first; p && !is_end(p); p = next_of(p))
                set->items[set->nr++] = item_of(entry_at(p), base);
        return 0;
}

int ext4_xattr_set_of_ibody(struct ext4_xattr_set *set, const void *ibody, size_t size)
{
        const struct ext4_xattr_ibody_header *header = ibody;

        if (size < sizeof(*header) || le32_get(header->h_magic) != EXT4_XATTR_MAGIC)
                return fill_set(set, NULL, NULL);
        return fill_set(set, (const uint8_t *)(header + 1), (const uint8_t *)(header + 1));
}

int ext4_xattr_set_of_block(struct ext4_xattr_set *set, const void *data, size_t size)
{
        if (size == 0)
                return fill_set(set, NULL, NULL);
        return fill_set(set, (const uint8_t *)data + sizeof(struct ext4_xattr_header), data);
}

void ext4_xattr_set_done(struct ext4_xattr_set *set)
{
        mem_free(set->items);
        *set = (struct ext4_xattr_set){0};
}

/* ---- pieces ---- */

static bool same_key(const struct ext4_xattr_key *a, const struct ext4_xattr_key *b)
{
        return a->index == b->index && a->len == b->len &&
               memcmp(a->name, b->name, a->len) == 0;
}

size_t ext4_xattr_set_find(const struct ext4_xattr_set *set, const struct ext4_xattr_key *key,
                           size_t from)
{
        while (from < set->nr && !same_key(&set->items[from].key, key))
                from++;
        return from;
}

void ext4_xattr_set_remove(struct ext4_xattr_set *set, size_t i)
{
        assert(i < set->nr);
        set->nr--;
        memmove(&set->items[i], &set->items[i + 1], (set->nr - i) * sizeof(set->items[0]));
}

void ext4_xattr_set_add(struct ext4_xattr_set *set, const struct ext4_xattr_item *item)
{
        assert(set->nr < set->room);
        set->items[set->nr++] = *item;
}

static size_t value_room(const struct ext4_xattr_item *item)
{
        return item->inum ? 0 : round_up_pow2((size_t)item->size, 4);
}

size_t ext4_xattr_set_size(const struct ext4_xattr_set *set)
{
        size_t size = 0;

        for (size_t i = 0; i < set->nr; i++)
                size += name_room(set->items[i].key.len) + value_room(&set->items[i]);
        return size;
}

/* ---- together ---- */

/* `bytes` are zeros; the offsets of values count from `base`. */
static void build(const struct ext4_xattr_set *set, uint8_t *first, const uint8_t *base,
                  uint8_t *end)
{
        for (size_t i = 0; i < set->nr; i++) {
                const struct ext4_xattr_item *item = &set->items[i];
                struct ext4_xattr_entry *entry = (void *)first;

                end -= value_room(item);
                *entry = (struct ext4_xattr_entry){
                        .e_name_len = (uint8_t)item->key.len,
                        .e_name_index = item->key.index,
                        .e_value_inum = le32_make(item->inum),
                        .e_value_size = le32_make(item->size),
                        .e_hash = le32_make(item->hash),
                };
                memcpy(entry + 1, item->key.name, item->key.len);
                if (value_room(item) > 0) {
                        entry->e_value_offs = le16_make((uint16_t)(end - base));
                        memcpy(end, item->value, item->size);
                }
                first += name_room(item->key.len);
        }
}

void ext4_xattr_build_ibody(const struct ext4_xattr_set *set, void *ibody, size_t size)
{
        struct ext4_xattr_ibody_header *header = ibody;
        uint8_t *first = (uint8_t *)(header + 1);

        assert(set->nr == 0 || ext4_xattr_set_size(set) <= ext4_xattr_ibody_room(size));
        memset(ibody, 0, size);
        if (set->nr == 0)
                return;
        header->h_magic = le32_make(EXT4_XATTR_MAGIC);
        build(set, first, first, (uint8_t *)ibody + size);
}

static int compare(const void *x, const void *y)
{
        const struct ext4_xattr_key *a = &((const struct ext4_xattr_item *)x)->key;
        const struct ext4_xattr_key *b = &((const struct ext4_xattr_item *)y)->key;

        if (a->index != b->index)
                return a->index < b->index ? -1 : 1;
        if (a->len != b->len)
                return a->len < b->len ? -1 : 1;
        return memcmp(a->name, b->name, a->len);
}

static uint32_t rotate(uint32_t hash, unsigned bits)
{
        return hash << bits | hash >> (32 - bits);
}

/* Of all entries; 0 when one has none, which is for blocks that are not to be shared. */
static uint32_t hash_of_set(const struct ext4_xattr_set *set)
{
        uint32_t hash = 0;

        for (size_t i = 0; i < set->nr; i++) {
                if (set->items[i].hash == 0)
                        return 0;
                hash = rotate(hash, 16) ^ set->items[i].hash;
        }
        return hash;
}

void ext4_xattr_build_block(struct ext4_xattr_set *set, void *data, size_t size)
{
        struct ext4_xattr_header *header = data;

        assert(ext4_xattr_set_size(set) <= ext4_xattr_block_room(size));
        if (set->nr > 0)
                qsort(set->items, set->nr, sizeof(set->items[0]), compare);
        memset(data, 0, size);
        header->h_magic = le32_make(EXT4_XATTR_MAGIC);
        header->h_refcount = le32_make(1);
        header->h_blocks = le32_make(1);
        header->h_hash = le32_make(hash_of_set(set));
        build(set, (uint8_t *)(header + 1), data, (uint8_t *)data + size);
}

/* ---- hashes ---- */

/* Characters without sign, as new kernels have them; both kinds are accepted everywhere. */
static uint32_t hash_name(const struct ext4_xattr_key *key)
{
        uint32_t hash = 0;

        for (size_t i = 0; i < key->len; i++)
                hash = rotate(hash, 5) ^ (uint8_t)key->name[i];
        return hash;
}

uint32_t ext4_xattr_hash_outside(const struct ext4_xattr_key *key, uint32_t value_hash)
{
        return rotate(hash_name(key), 16) ^ value_hash;
}

uint32_t ext4_xattr_hash_value(const struct ext4_xattr_key *key, const void *value, size_t size)
{
        uint32_t hash = hash_name(key);

        for (size_t at = 0; at < size; at += sizeof(le32)) {
                le32 word = {0};

                memcpy(&word, (const uint8_t *)value + at,
                       min_t(size_t, size - at, sizeof(word)));
                hash = rotate(hash, 16) ^ le32_get(word);
        }
        return hash;
}
