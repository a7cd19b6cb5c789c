/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model.h"

#include "ext4/balloc_group.h"

void model_complain(const struct model *md, const struct model_file *f, const char *what)
{
        fprintf(stderr, "operation %llu (%s): %s: %s\n%s", (unsigned long long)md->nr_ops,
                md->what, f ? f->name : "-", what, md->m->log.text);
        abort();
}

static void lock(const struct model *md)
{
        if (md->lock)
                pthread_mutex_lock(md->lock);
}

static void unlock(const struct model *md)
{
        if (md->lock)
                pthread_mutex_unlock(md->lock);
}

/* ---- states ---- */

static uint8_t *copy_bytes(const uint8_t *bytes, uint64_t size)
{
        uint8_t *p = t_alloc((size_t)size + 1);

        if (size > 0)
                memcpy(p, bytes, (size_t)size);
        return p;
}

static void forget_states(struct model_file *f, size_t nr)
{
        for (size_t i = 0; i < nr; i++)
                free(f->states[i].bytes);
        memmove(f->states, f->states + nr, (f->nr - nr) * sizeof(*f->states));
        f->nr -= nr;
        f->states[0].ways = 0;
}

/* A new state, like the last one, but for its size. */
static struct model_state *push(struct model_file *f, uint64_t size, unsigned ways)
{
        struct model_state s = {.exists = true, .ways = ways, .size = size};

        if (f->nr == f->room) {
                f->room = f->room ? 2 * f->room : 4;
                f->states = realloc(f->states, f->room * sizeof(*f->states));
                T_CHECK(f->states);
        }
        s.bytes = t_alloc((size_t)size + 1);
        if (f->nr > 0) {
                const struct model_state *now = model_now(f);

                s.exists = now->exists;
                memcpy(s.bytes, now->bytes, (size_t)min_t(uint64_t, size, now->size));
        }
        f->states[f->nr++] = s;
        return model_now(f);
}

/* The operation has ended. */
static void done(const struct model *md, struct model_file *f)
{
        lock(md);
        if (!md->keep_states && f->nr > 1)
                forget_states(f, f->nr - 1);
        unlock(md);
}

/* Nothing has happened. */
static void pop(const struct model *md, struct model_file *f)
{
        lock(md);
        free(model_now(f)->bytes);
        f->nr--;
        unlock(md);
}

/* ---- files ---- */

void model_init(struct model *md, struct rig_mount *m, uint64_t seed)
{
        memset(md, 0, sizeof(*md));
        md->m = m;
        md->rand = seed;
        md->max_size = 1u << 20;
        md->next_version = 1;
        md->unit = rig_fs(m)->block_size << rig_fs(m)->cluster_bits;
}

void model_done(struct model *md)
{
        for (unsigned i = 0; i < md->nr_files; i++) {
                struct model_file *f = &md->files[i];

                for (size_t k = 0; k < f->nr; k++)
                        free(f->states[k].bytes);
                free(f->states);
        }
}

static void set_name(struct model_file *f, const char *dir, const char *name)
{
        T_CHECK((size_t)snprintf(f->dir, sizeof(f->dir), "%s", dir) < sizeof(f->dir));
        T_CHECK((size_t)snprintf(f->name, sizeof(f->name), "%s", name) < sizeof(f->name));
}

int model_get(struct rig_mount *m, const struct model_file *f, struct ext4_inode **ret_inode)
{
        char path[256];

        snprintf(path, sizeof(path), "%s/%s", f->dir, f->name);
        return op_get(m, path, ret_inode);
}

static void add_file(struct model *md, const char *dir, const char *name)
{
        struct model_file *f = &md->files[md->nr_files];
        struct model_state *s;
        int ret;

        T_CHECK(md->nr_files < MODEL_MAX_FILES);
        set_name(f, dir, name);
        ret = model_get(md->m, f, &f->inode);
        if (ret < 0)
                model_complain(md, f, "cannot be had");
        if (!S_ISREG(f->inode->mode)) {
                ext4_iput(f->inode);
                memset(f, 0, sizeof(*f));
                return;
        }
        s = push(f, vfs_size(&f->inode->vfs), 0);
        if (op_read(f->inode, 0, s->bytes, (size_t)s->size) < 0)
                model_complain(md, f, "cannot be read");
        md->nr_files++;
}

uint64_t model_total(struct model *md)
{
        struct statvfs st;
        uint64_t n;

        T_CHECK(uext4_statfs(md->m->fs, &st) == 0);
        n = st.f_bfree * st.f_frsize / 512;
        for (unsigned i = 0; i < md->nr_files; i++) {
                struct model_file *f = &md->files[i];

                if (f->inode)
                        n += f->inode->blocks;
        }
        return n;
}

void model_add_dir(struct model *md, const char *path)
{
        struct ext4_inode *dir;
        struct uext4_dirent e;
        uint64_t cookie = 0;

        T_CHECK(op_get(md->m, path, &dir) == 0);
        while (uext4_readdir(inode_out(dir), &cookie, &e) == 1) {
                if (e.name[0] != '.' && md->nr_files < MODEL_MAX_FILES)
                        add_file(md, path, e.name);
        }
        ext4_iput(dir);
        md->total = model_total(md);
}

struct model_file *model_find(struct model *md, const char *name)
{
        for (unsigned i = 0; i < md->nr_files; i++) {
                if (strcmp(md->files[i].name, name) == 0)
                        return &md->files[i];
        }
        fail_msg("no file %s", name);
        return NULL;
}

/* ---- after an operation ---- */

bool model_has_extents(const struct model_file *f)
{
        return f->inode->flags & (EXT4_FL_EXTENTS | EXT4_FL_INLINE_DATA);
}

/*
 * The operation has failed for lack of space, or because of a fault: what it has done is found,
 * and must be something between.
 */
static void take_partial(struct model *md, struct model_file *f)
{
        struct model_state *before = &f->states[f->nr - 2], *after = model_now(f);
        uint64_t size = vfs_size(&f->inode->vfs);
        struct model_state *found;

        if (size < min_t(uint64_t, before->size, after->size) ||
            size > max_t(uint64_t, before->size, after->size))
                model_complain(md, f, "the size after a failure is none of those between");
        lock(md);
        after->ways |= MODEL_MIXED | MODEL_GRADUAL;
        found = push(f, size, MODEL_MIXED | MODEL_GRADUAL);
        unlock(md);
        before = &f->states[f->nr - 3];
        after = &f->states[f->nr - 2];
        if (op_read(f->inode, 0, found->bytes, (size_t)size) < 0)
                model_complain(md, f, "cannot be read after a failure");
        for (uint64_t i = 0; i < size; i++) {
                uint8_t was = i < before->size ? before->bytes[i] : 0;
                uint8_t is = i < after->size ? after->bytes[i] : 0;

                if (found->bytes[i] != was && found->bytes[i] != is && found->bytes[i] != 0)
                        model_complain(md, f, "a byte after a failure was never there");
        }
}

/* The result of an operation whose new state is entered. */
static int conclude(struct model *md, struct model_file *f, int ret, int want)
{
        char text[128];

        if (md->may_fail && ret < 0)
                return ret; /* the test ends here, and looks at what is on the device */
        if (ret == -ENOSPC) {
                md->nr_enospc++;
                take_partial(md, f);
                done(md, f);
                return ret;
        }
        if (ret != want) {
                snprintf(text, sizeof(text), "the result is %d, not %d", ret, want);
                model_complain(md, f, text);
        }
        if (ret < 0) {
                md->nr_refused++;
                pop(md, f);
                return ret;
        }
        if (vfs_size(&f->inode->vfs) != model_now(f)->size) {
                snprintf(text, sizeof(text), "the size is %llu, not %llu",
                         (unsigned long long)vfs_size(&f->inode->vfs),
                         (unsigned long long)model_now(f)->size);
                model_complain(md, f, text);
        }
        done(md, f);
        return 0;
}

#define say(md, ...) snprintf((md)->what, sizeof((md)->what), __VA_ARGS__)

/* ---- truncate ---- */

int model_truncate(struct model *md, struct model_file *f, uint64_t size)
{
        md->nr_ops++;
        say(md, "truncate %s %llu", f->name, (unsigned long long)size);
        lock(md);
        push(f, size, 0);
        unlock(md);
        return conclude(md, f, op_truncate(f->inode, size), 0);
}

/* ---- the map ---- */

static int predict_migration(const struct model_file *f)
{
        const struct ext4_fs *fs = f->inode->fs;

        if ((f->inode->flags & EXT4_FL_INLINE_DATA) ||
            !ext4_has_incompat(fs, EXT4_INCOMPAT_EXTENTS))
                return -EOPNOTSUPP;
        return (f->inode->flags & EXT4_FL_EXTENTS) && fs->cluster_bits > 0 ? -EOPNOTSUPP : 0;
}

/* No byte changes. */
int model_migrate(struct model *md, struct model_file *f)
{
        int want = predict_migration(f);

        md->nr_ops++;
        say(md, "migrate %s", f->name);
        lock(md);
        push(f, model_now(f)->size, 0);
        unlock(md);
        return conclude(md, f, op_migrate(f->inode), want);
}

/* ---- fallocate ---- */

static void zero(struct model_state *s, uint64_t pos, uint64_t end)
{
        end = min_t(uint64_t, end, s->size);
        if (pos < end)
                memset(s->bytes + pos, 0, (size_t)(end - pos));
}

static bool is_aligned(const struct model *md, uint64_t pos, uint64_t len)
{
        return (pos | len) % md->unit == 0;
}

/* 0 or what the library must say. */
static int predict(const struct model *md, const struct model_file *f, int mode, uint64_t pos,
                   uint64_t len)
{
        uint64_t size = model_now(f)->size;

        if (len == 0)
                return -EINVAL;
        switch (mode) {
        case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
                return 0;
        case 0:
        case FALLOC_FL_KEEP_SIZE:
        case FALLOC_FL_ZERO_RANGE:
        case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
        case FALLOC_FL_WRITE_ZEROES:
                return model_has_extents(f) ? 0 : -EOPNOTSUPP;
        case FALLOC_FL_COLLAPSE_RANGE:
                if (!model_has_extents(f))
                        return -EOPNOTSUPP;
                return is_aligned(md, pos, len) && pos + len < size ? 0 : -EINVAL;
        case FALLOC_FL_INSERT_RANGE:
                if (!model_has_extents(f))
                        return -EOPNOTSUPP;
                return is_aligned(md, pos, len) && pos < size ? 0 : -EINVAL;
        default:
                return -EOPNOTSUPP;
        }
}

static void push_collapsed(struct model_file *f, uint64_t pos, uint64_t len)
{
        const struct model_state *old = model_now(f);
        uint8_t *bytes = copy_bytes(old->bytes, old->size);
        uint64_t size = old->size;
        struct model_state *s = push(f, size - len, 0);

        s->shift = -(int64_t)len;
        s->shift_pos = pos + len;
        memcpy(s->bytes + pos, bytes + pos + len, (size_t)(size - pos - len));
        free(bytes);
}

static void push_inserted(struct model_file *f, uint64_t pos, uint64_t len)
{
        uint64_t size = model_now(f)->size;
        struct model_state *s = push(f, size + len, 0);

        s->shift = (int64_t)len;
        s->shift_pos = pos;
        memmove(s->bytes + pos + len, s->bytes + pos, (size_t)(size - pos));
        memset(s->bytes + pos, 0, (size_t)len);
}

static void push_fallocated(struct model_file *f, int mode, uint64_t pos, uint64_t len)
{
        uint64_t size = model_now(f)->size;

        switch (mode & ~FALLOC_FL_KEEP_SIZE) {
        case FALLOC_FL_COLLAPSE_RANGE:
                push_collapsed(f, pos, len);
                break;
        case FALLOC_FL_INSERT_RANGE:
                push_inserted(f, pos, len);
                break;
        default:
                if (!(mode & FALLOC_FL_KEEP_SIZE))
                        size = max_t(uint64_t, size, pos + len);
                push(f, size, MODEL_GRADUAL);
                if (mode & ~FALLOC_FL_KEEP_SIZE) {
                        model_now(f)->ways |= MODEL_MIXED;
                        zero(model_now(f), pos, pos + len);
                }
        }
}

/*
 * Preallocation says that there is no space: then there is none, but what is kept for others,
 * and no more than this request wanted: a map that finds no block for a node gives the data
 * back.
 */
static void check_that_it_is_full(struct model *md, const struct model_file *f, uint64_t len)
{
        const struct ext4_fs *fs = rig_fs(md->m);
        const uint64_t kept = fs->balloc->pool + fs->balloc->reserved;
        char text[128];

        if (md->no_statfs || ext4_free_clusters(fs) <= kept + len / md->unit + 8)
                return;
        snprintf(text, sizeof(text), "no space, and %llu clusters are free",
                 (unsigned long long)ext4_free_clusters(fs));
        model_complain(md, f, text);
}

int model_fallocate(struct model *md, struct model_file *f, int mode, uint64_t pos,
                    uint64_t len)
{
        int want = predict(md, f, mode, pos, len);
        int ret;

        md->nr_ops++;
        say(md, "fallocate %s mode %#x %llu+%llu, size %llu", f->name, (unsigned)mode,
            (unsigned long long)pos, (unsigned long long)len,
            (unsigned long long)model_now(f)->size);
        lock(md);
        if (want < 0)
                push(f, model_now(f)->size, 0);
        else
                push_fallocated(f, mode, pos, len);
        unlock(md);
        ret = op_fallocate(f->inode, mode, pos, len);
        if (ret == -ENOSPC)
                check_that_it_is_full(md, f, len);
        return conclude(md, f, ret, want);
}

/* ---- write ---- */

/* No two writes write the same, and none writes the pattern. */
static void fill(struct model *md, uint8_t *bytes, uint64_t len)
{
        uint64_t state = md->next_version++;

        state = t_rand(&state); /* or the next version would be this one, a word later */
        for (uint64_t i = 0; i < len; i += 8) {
                uint64_t word = t_rand(&state) | 0x0101010101010101u;

                memcpy(bytes + i, &word, (size_t)min_t(uint64_t, 8, len - i));
        }
}

int model_write(struct model *md, struct model_file *f, uint64_t pos, uint64_t len,
                enum op_way way)
{
        struct model_state *s;

        md->nr_ops++;
        say(md, "write %s %llu+%llu, size %llu", f->name, (unsigned long long)pos,
            (unsigned long long)len, (unsigned long long)model_now(f)->size);
        lock(md);
        /* The size follows the data, piece by piece. */
        s = push(f, max_t(uint64_t, model_now(f)->size, pos + len),
                 MODEL_MIXED | MODEL_GRADUAL);
        fill(md, s->bytes + pos, len);
        unlock(md);
        return conclude(md, f, op_write(f->inode, pos, s->bytes + pos, (size_t)len, way), 0);
}

/* ---- names ---- */

int model_unlink(struct model *md, struct model_file *f)
{
        int ret;

        md->nr_ops++;
        say(md, "unlink %s", f->name);
        lock(md);
        push(f, model_now(f)->size, 0)->exists = false;
        unlock(md);
        ret = op_unlink(md->m, f->dir, f->name);
        if (md->may_fail && ret < 0)
                return ret;
        return conclude(md, f, ret, 0);
}

int model_put(struct model *md, struct model_file *f)
{
        md->nr_ops++;
        say(md, "put %s", f->name);
        ext4_iput(f->inode);
        f->inode = NULL;
        return 0;
}

/* Where nothing is, or what is gone and never had a name. */
static struct model_file *free_slot(struct model *md)
{
        for (unsigned i = 0; i < md->nr_files; i++) {
                struct model_file *f = &md->files[i];

                if (!f->dir[0] && !f->inode)
                        return f;
        }
        return md->nr_files < MODEL_MAX_FILES ? &md->files[md->nr_files] : NULL;
}

static void enter_tmpfile(struct model *md, struct model_file *f, struct ext4_inode *inode)
{
        char name[32];

        lock(md);
        while (f->nr > 0)
                free(f->states[--f->nr].bytes);
        snprintf(name, sizeof(name), "(tmp %td)", f - md->files);
        set_name(f, "", name);
        push(f, 0, 0)->exists = false;
        f->inode = inode;
        if (f == &md->files[md->nr_files])
                md->nr_files++;
        unlock(md);
}

int model_tmpfile(struct model *md, const char *dir)
{
        struct model_file *f = free_slot(md);
        struct ext4_inode *inode;
        int ret;

        md->nr_ops++;
        say(md, "tmpfile");
        if (!f)
                return -EMFILE;
        ret = op_tmpfile(md->m, dir, &inode);
        if (ret == 0)
                enter_tmpfile(md, f, inode);
        else if (ret != -ENOSPC && !md->may_fail)
                model_complain(md, NULL, "no new inode");
        return ret;
}

int model_sync(struct model *md)
{
        int ret = op_sync(md->m);

        md->nr_ops++;
        say(md, "sync");
        if (ret < 0) {
                if (!md->may_fail)
                        model_complain(md, NULL, "sync fails");
                return ret;
        }
        model_settle(md);
        return 0;
}

void model_settle(struct model *md)
{
        lock(md);
        for (unsigned i = 0; i < md->nr_files; i++) {
                struct model_file *f = &md->files[i];

                if (f->nr > 1)
                        forget_states(f, f->nr - 1);
        }
        unlock(md);
}
