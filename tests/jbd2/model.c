/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model.h"

void model_init(struct model *m, uint32_t nr_meta, uint32_t nr_data, uint32_t block_size)
{
        memset(m, 0, sizeof(*m));
        pthread_mutex_init(&m->lock, NULL);
        m->nr_meta = nr_meta;
        m->nr_blocks = nr_meta + nr_data;
        m->block_size = block_size;
        m->next_version = 1;
        m->blocks = t_alloc(m->nr_blocks * sizeof(*m->blocks));
        for (uint32_t i = 0; i < m->nr_blocks; i++) {
                m->blocks[i].room = 4;
                m->blocks[i].nr = 1;
                m->blocks[i].entries = t_alloc(4 * sizeof(struct model_entry));
                m->blocks[i].no_copies = true;
        }
}

void model_done(struct model *m)
{
        for (uint32_t i = 0; i < m->nr_blocks; i++)
                free(m->blocks[i].entries);
        free(m->blocks);
        pthread_mutex_destroy(&m->lock);
}

uint32_t model_age(const struct model *m, uint32_t tid)
{
        return tid - m->first_tid + 1;
}

/* What no cut can bring back. */
static void prune(const struct model *m, struct model_block *b)
{
        size_t old = 0;

        while (old + 1 < b->nr && b->entries[old + 1].age <= m->durable)
                old++;
        b->nr -= old;
        memmove(b->entries, b->entries + old, b->nr * sizeof(*b->entries));
}

void model_append(struct model *m, uint32_t blk, uint32_t tid, enum model_kind kind,
                  uint64_t version)
{
        struct model_block *b = &m->blocks[blk];
        const uint32_t age = model_age(m, tid);

        T_CHECK(age >= b->entries[b->nr - 1].age);
        m->newest = age > m->newest ? age : m->newest;
        if (age == b->entries[b->nr - 1].age)
                b->nr--;
        else
                prune(m, b);
        if (b->nr == b->room) {
                b->room *= 2;
                b->entries = realloc(b->entries, b->room * sizeof(*b->entries));
                T_CHECK(b->entries);
        }
        b->entries[b->nr++] = (struct model_entry){age, kind, version};
}

const struct model_entry *model_last(const struct model *m, uint32_t blk)
{
        const struct model_block *b = &m->blocks[blk];

        return &b->entries[b->nr - 1];
}

void model_update_durable(struct model *m, const struct jbd2 *j)
{
        while (m->durable < m->newest && jbd2_is_durable(j, m->first_tid + m->durable))
                m->durable++;
}

/* ---- versions ---- */

static uint64_t first_word(uint32_t blk, uint64_t version)
{
        uint64_t state = (uint64_t)blk << 40 ^ version;

        return t_rand(&state);
}

/* Now and then a block begins with the journal's magic (J9). */
static bool begins_with_magic(uint32_t blk, uint64_t version)
{
        return (blk + version) % 5 == 0;
}

void model_fill(const struct model *m, uint32_t blk, uint64_t version, void *bytes)
{
        uint64_t word = first_word(blk, version);
        uint64_t *p = bytes;

        if (version == 0) {
                memset(bytes, 0, m->block_size);
                return;
        }
        for (uint32_t i = 0; i < m->block_size / sizeof(*p); i++)
                p[i] = word += 0x9e3779b97f4a7c15u;
        if (begins_with_magic(blk, version))
                tj_put32(bytes, TJ_MAGIC);
}

bool model_is(const struct model *m, uint32_t blk, uint64_t version, const void *bytes)
{
        uint64_t want[4096 / sizeof(uint64_t)];

        T_CHECK(m->block_size <= sizeof(want));
        model_fill(m, blk, version, want);
        return memcmp(want, bytes, m->block_size) == 0;
}

/* ---- the check ---- */

/* Bit t: as after the transaction of age durable + t. */
typedef uint64_t ages;

static unsigned nr_ages(const struct model *m)
{
        T_CHECK(m->newest - m->durable < 63);
        return m->newest - m->durable + 1;
}

/* The bits of the ages from .. to - 1. */
static ages age_range(const struct model *m, uint32_t from, uint32_t to)
{
        ages set = 0;

        for (unsigned t = 0; t < nr_ages(m); t++)
                if (m->durable + t >= from && m->durable + t < to)
                        set |= 1ull << t;
        return set;
}

static const char *block_at(const struct model *m, const void *image, uint32_t blk)
{
        return (const char *)image + (size_t)blk * m->block_size;
}

static bool entry_holds(const struct model *m, const void *image, uint32_t blk,
                        const struct model_entry *e)
{
        return e->kind == MODEL_ANY || model_is(m, blk, e->version, block_at(m, image, blk));
}

static ages ages_of_block(const struct model *m, const void *image, uint32_t blk)
{
        const struct model_block *b = &m->blocks[blk];
        ages set = 0;

        if (b->is_ordered) {
                if (model_is(m, blk, b->need_version, block_at(m, image, blk)))
                        return age_range(m, 0, UINT32_MAX);
                return age_range(m, 0, b->need_age);
        }
        for (size_t i = 0; i < b->nr; i++) {
                uint32_t from = b->entries[i].age;
                uint32_t to = i + 1 < b->nr ? b->entries[i + 1].age : UINT32_MAX;
                ages range = age_range(m, from, to);

                if (range && entry_holds(m, image, blk, &b->entries[i]))
                        set |= range;
        }
        return set;
}

void model_tell_block(const struct model *m, const void *bytes, uint32_t blk)
{
        const struct model_block *b = &m->blocks[blk];

        if (b->is_ordered)
                fprintf(stderr, "  data: version %llu from age %u on\n",
                        (unsigned long long)b->need_version, b->need_age);
        for (size_t i = 0; i < b->nr && !b->is_ordered; i++) {
                const struct model_entry *e = &b->entries[i];
                bool is_it = e->kind != MODEL_ANY && model_is(m, blk, e->version, bytes);

                fprintf(stderr, "  age %u kind %d version %llu%s\n", e->age, e->kind,
                        (unsigned long long)e->version, is_it ? " <- found" : "");
        }
}

static void tell(const struct model *m, const void *image, uint32_t blk, ages before, ages set)
{
        fprintf(stderr,
                "block %u does not fit: durable age %u, newest %u, others allow +%#llx, it "
                "+%#llx\n",
                blk, m->durable, m->newest, (unsigned long long)before,
                (unsigned long long)set);
        model_tell_block(m, block_at(m, image, blk), blk);
}

/* Without a log there are no transactions: what is durable must be there, by block. */
static ages loosen(const struct model *m, uint32_t blk, ages set)
{
        const struct model_block *b = &m->blocks[blk];
        bool may_be_torn = b->is_ordered ? b->need_age > m->durable
                                         : b->entries[b->nr - 1].age > m->durable;

        return m->no_log && (set || may_be_torn) ? ~0ull : set;
}

int64_t model_check(struct model *m, const void *image)
{
        ages all = age_range(m, 0, UINT32_MAX);

        for (uint32_t blk = 0; blk < m->nr_blocks; blk++) {
                ages set = loosen(m, blk, ages_of_block(m, image, blk));

                if (!(all & set)) {
                        tell(m, image, blk, all, set);
                        return -1;
                }
                all &= set;
        }
        return m->durable + 63 - __builtin_clzll(all);
}

static void rebase_block(struct model *m, const void *image, uint32_t blk, uint32_t age)
{
        struct model_block *b = &m->blocks[blk];
        size_t i = b->nr - 1;

        while (i > 0 && b->entries[i].age > age)
                i--;
        b->entries[0] = b->entries[i];
        b->entries[0].age = 0;
        b->nr = 1;
        b->life_age = 0;
        b->no_copies = true;
        if (b->is_ordered && !model_is(m, blk, b->need_version, block_at(m, image, blk)))
                b->is_ordered = false;
        b->need_age = 0;
        b->life = b->entries[0].kind == MODEL_META   ? MODEL_USED
                  : b->entries[0].kind == MODEL_DATA ? MODEL_HAS_DATA
                                                     : MODEL_FREE;
        if (blk >= m->nr_meta && !b->is_ordered)
                b->entries[0].kind = MODEL_ANY;
}

void model_rebase(struct model *m, const void *image, uint32_t age, uint32_t first_tid)
{
        for (uint32_t blk = 0; blk < m->nr_blocks; blk++)
                rebase_block(m, image, blk, age);
        m->first_tid = first_tid;
        m->durable = m->newest = 0;
}
