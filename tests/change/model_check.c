/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is found in files against what the model says: now, after a mount, after a cut. */

#include "model.h"

/* ---- now ---- */

static uint64_t differs_at(const uint8_t *a, const uint8_t *b, uint64_t len)
{
        uint64_t i = 0;

        while (i < len && a[i] == b[i])
                i++;
        return i;
}

static void check_bytes(struct model *md, const struct model_file *f, const uint8_t *bytes)
{
        const struct model_state *s = model_now(f);
        uint64_t at = differs_at(bytes, s->bytes, s->size);
        char text[160];

        if (at == s->size)
                return;
        snprintf(text, sizeof(text), "byte %llu of %llu is %#x, not %#x%s",
                 (unsigned long long)at, (unsigned long long)s->size, bytes[at], s->bytes[at],
                 rig_has_pattern(bytes + at / 16 * 16, 16) ? ": STALE" : "");
        model_complain(md, f, text);
}

void model_check_file(struct model *md, struct model_file *f)
{
        const struct model_state *s = model_now(f);
        uint8_t *bytes = t_alloc((size_t)s->size + 1);

        if (vfs_size(&f->inode->vfs) != s->size)
                model_complain(md, f, "wrong size");
        if (op_read(f->inode, 0, bytes, (size_t)s->size) < 0)
                model_complain(md, f, "cannot be read");
        check_bytes(md, f, bytes);
        free(bytes);
}

void model_check_all(struct model *md)
{
        for (unsigned i = 0; i < md->nr_files; i++) {
                if (md->files[i].inode)
                        model_check_file(md, &md->files[i]);
        }
        if (!md->no_statfs) {
                uint64_t n = model_total(md);
                char text[128];

                snprintf(text, sizeof(text),
                         "free blocks and those of files are %llu sectors, not %llu",
                         (unsigned long long)n, (unsigned long long)md->total);
                if (n != md->total)
                        model_complain(md, NULL, text);
        }
}

void model_leave(struct model *md)
{
        for (unsigned i = 0; i < md->nr_files; i++) {
                struct model_file *f = &md->files[i];

                if (f->inode)
                        f->last_blocks = f->inode->blocks;
                ext4_iput(f->inode);
                f->inode = NULL;
        }
}

int model_enter(struct model *md)
{
        for (unsigned i = 0; i < md->nr_files; i++) {
                struct model_file *f = &md->files[i];
                int ret;

                if (!model_now(f)->exists)
                        continue;
                ret = model_get(md->m, f, &f->inode);
                if (ret == 0)
                        continue;
                f->inode = NULL;
                if (md->may_fail)
                        return ret;
                model_complain(md, f, "is not there after a mount");
        }
        return 0;
}

/* ---- after a cut ---- */

/*
 * A file that is cut inside a sector has the rest of that made zeros, in place: if the power
 * goes then, a device that leaves junk leaves it in the whole sector.
 */
static bool is_state(const struct model_state *s, const uint8_t *bytes, uint64_t size,
                     bool junk)
{
        const uint64_t safe = junk ? round_down_pow2(size, 512) : size;

        return s->exists && s->size == size && memcmp(s->bytes, bytes, (size_t)safe) == 0;
}

static bool size_is_possible(const struct model_file *f, uint64_t size)
{
        for (size_t i = 0; i < f->nr; i++) {
                const struct model_state *s = &f->states[i];

                if (s->size == size)
                        return true;
                if (i > 0 && (s->ways & MODEL_GRADUAL)) {
                        uint64_t before = f->states[i - 1].size;

                        if (size >= min_t(uint64_t, before, s->size) &&
                            size <= max_t(uint64_t, before, s->size))
                                return true;
                }
        }
        return false;
}

/* Whether `byte` is in a state from the `from`th on, at the place that `at` has moved to. */
static bool byte_is_later(const struct model_file *f, size_t from, uint64_t at, uint8_t byte)
{
        for (size_t i = from; i < f->nr; i++) {
                const struct model_state *s = &f->states[i];

                if (i > from && at >= s->shift_pos)
                        at += (uint64_t)s->shift;
                if ((at < s->size ? s->bytes[at] : 0) == byte)
                        return true;
        }
        return false;
}

static bool byte_is_possible(const struct model_file *f, uint64_t at, uint8_t byte)
{
        for (size_t i = 0; i < f->nr; i++) {
                const struct model_state *s = &f->states[i];

                if ((at < s->size ? s->bytes[at] : 0) == byte || byte_is_later(f, i, at, byte))
                        return true;
        }
        return false;
}

static unsigned all_ways(const struct model_file *f)
{
        unsigned ways = 0;

        for (size_t i = 1; i < f->nr; i++)
                ways |= f->states[i].ways;
        return ways;
}

/* NULL, or what is wrong.  junk: sectors under way may hold anything but what is stale. */
static const char *check_found(const struct model_file *f, const uint8_t *bytes, uint64_t size,
                               bool junk, uint64_t *ret_at)
{
        *ret_at = 0;
        for (size_t i = 0; i < f->nr; i++) {
                if (is_state(&f->states[i], bytes, size, junk))
                        return NULL;
        }
        if (rig_has_pattern(bytes, (size_t)size))
                return "stale bytes";
        if (!size_is_possible(f, size))
                return "a size that it never had";
        if (junk && all_ways(f))
                return NULL;
        if (!(all_ways(f) & (MODEL_MIXED | MODEL_GRADUAL)))
                return "contents that are of no state";
        for (uint64_t at = 0; at < size; at++) {
                *ret_at = at;
                if (!byte_is_possible(f, at, bytes[at]))
                        return "a byte that was never there";
        }
        return NULL;
}

static const char *describe(const struct model_file *f, const char *what, uint64_t size,
                            uint64_t at, int byte, char *text, size_t room)
{
        size_t used =
                (size_t)snprintf(text, room, "%s: %s (size %llu, byte %#x at %llu):", f->name,
                                 what, (unsigned long long)size, byte, (unsigned long long)at);

        for (size_t i = 0; i < f->nr && used + 80 < room; i++) {
                const struct model_state *s = &f->states[i];

                used += (size_t)snprintf(
                        text + used, room - used, " [%s%s%s size %llu shift %lld: %#x]",
                        s->exists ? "" : "gone ", s->ways & MODEL_MIXED ? "mixed " : "",
                        s->ways & MODEL_GRADUAL ? "gradual" : "", (unsigned long long)s->size,
                        (long long)s->shift, at < s->size ? s->bytes[at] : 0);
        }
        return text;
}

/* Whose bytes these are: any state of any file. */
static void find_bytes(const struct model *md, const uint8_t *bytes, char *text, size_t room)
{
        for (unsigned i = 0; i < md->nr_files; i++) {
                for (size_t k = 0; k < md->files[i].nr; k++) {
                        const struct model_state *s = &md->files[i].states[k];
                        const uint8_t *p = memmem(s->bytes, (size_t)s->size, bytes, 16);

                        if (!p)
                                continue;
                        snprintf(text, room, "; they are in state %zu of %s at %td", k,
                                 md->files[i].name, p - s->bytes);
                        return;
                }
        }
}

static bool may_exist(const struct model_file *f, bool exists)
{
        for (size_t i = 0; i < f->nr; i++) {
                if (f->states[i].exists == exists)
                        return true;
        }
        return false;
}

static const char *check_cut_file(const struct model *md, const struct model_file *f,
                                  struct rig_mount *m, bool junk, char *text, size_t room)
{
        struct ext4_inode *inode;
        const char *wrong;
        uint64_t size, at;
        uint8_t *bytes;
        int ret = model_get(m, f, &inode);

        if (ret == -ENOENT)
                return may_exist(f, false) ? NULL : describe(f, "is gone", 0, 0, 0, text, room);
        if (ret < 0)
                return describe(f, "cannot be had", 0, 0, ret, text, room);
        size = vfs_size(&inode->vfs);
        if (!may_exist(f, true) || size > 64u << 20) {
                wrong = describe(f, "is there", size, 0, 0, text, room);
        } else {
                bytes = t_alloc((size_t)size + 16);
                ret = op_read(inode, 0, bytes, (size_t)size);
                wrong = ret < 0 ? "cannot be read" : check_found(f, bytes, size, junk, &at);
                if (wrong)
                        wrong = describe(f, wrong, size, ret < 0 ? 0 : at,
                                         ret < 0 ? ret : bytes[at], text, room);
                if (wrong && ret == 0)
                        find_bytes(md, bytes + at, text + strlen(text), room - strlen(text));
                free(bytes);
        }
        ext4_iput(inode);
        return wrong;
}

const char *model_check_cut(const struct model *md, struct rig_mount *m, bool junk, char *text,
                            size_t size)
{
        for (unsigned i = 0; i < md->nr_files; i++) {
                const struct model_file *f = &md->files[i];
                const char *wrong = NULL;

                if (f->dir[0] && (f->nr > 1 || f->states[0].exists))
                        wrong = check_cut_file(md, f, m, junk, text, size);
                if (wrong)
                        return wrong;
        }
        return NULL;
}
