/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tar_out.c - a tree of an image becomes an archive (see tar.h).
 *
 * Entries are written in the order of the walk, each with its contents at once.  Holes are kept
 * by the map that the pax format has for them; libarchive wants to be given their zeros all the
 * same.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "cli/progress.h"
#include "cli/tar.h"
#include "cli/walk.h"

#define BUFFER (1u << 20)
#define HOLE   ((size_t)1 << 30)

struct out {
        struct cli *cli;
        struct archive *a;
        const struct cli_operand *op;
        const char *name;
        const struct override *override;
        struct links links;
        uint8_t *buffer;
        const uint8_t *zeros; /* HOLE bytes, which take no memory */
        bool broken;          /* the archive cannot be written */
};

void tar_fail(struct cli *cli, const char *name, const char *what, struct archive *a)
{
        const char *why = archive_error_string(a);
        int err = archive_errno(a);

        /* Why a file cannot be opened or written is in the number only. */
        if (why && (strncmp(why, "Failed to open", 14) == 0 || strcmp(why, "Write error") == 0))
                cli_fail(cli, name, "cannot %s: %s: %s", what, why, strerror(err));
        else
                cli_fail(cli, name, "cannot %s: %s", what, why ? why : "unknown error");
}

/* ---- attributes --------------------------------------------------------- */

static void fill_stat(struct archive_entry *entry, const struct uext4_stat *st)
{
        archive_entry_set_mode(entry, (mode_t)st->mode);
        archive_entry_set_uid(entry, st->uid);
        archive_entry_set_gid(entry, st->gid);
        archive_entry_set_mtime(entry, st->mtime.tv_sec, st->mtime.tv_nsec);
        archive_entry_set_atime(entry, st->atime.tv_sec, st->atime.tv_nsec);
        archive_entry_set_nlink(entry, st->nlink);
        archive_entry_set_size(entry, S_ISREG(st->mode) ? (int64_t)st->size : 0);
        if (S_ISCHR(st->mode) || S_ISBLK(st->mode)) {
                archive_entry_set_rdevmajor(entry, st->rdev_major);
                archive_entry_set_rdevminor(entry, st->rdev_minor);
        }
}

static void fill_xattr(struct out *out, struct archive_entry *entry, const struct object *o,
                       const char *name)
{
        int type = tar_acl_type(name), ret;
        void *value;
        size_t size;

        ret = object_xattr(o, name, &value, &size);
        if (ret == 0) {
                if (type)
                        ret = tar_acl_to_entry(entry, type, value, size);
                else
                        archive_entry_xattr_add_entry(entry, name, value, size);
                free(value);
        }
        if (ret < 0)
                cli_fail(out->cli, o->source, "cannot read attribute %s: %s", name,
                         cli_strerror(ret));
}

static void fill_xattrs(struct out *out, struct archive_entry *entry, const struct object *o)
{
        const char *name;
        char *names;
        size_t size;
        int ret = object_xattr_names(o, &names, &size);

        if (ret < 0)
                cli_fail(out->cli, o->source, "cannot list attributes: %s", cli_strerror(ret));
        for (size_t at = 0; ret == 0 && (name = object_next_xattr(names, size, &at));)
                fill_xattr(out, entry, o, name);
        free(names);
}

/* ---- contents ----------------------------------------------------------- */

/* The map of holes, when there are any. */
static int fill_sparse(struct archive_entry *entry, const struct object *o)
{
        uint64_t pos = 0, end = 0, size = o->st.size;
        struct content c;
        int ret = o->ops->open(o, &c);

        if (ret < 0)
                return ret;
        while ((ret = c.ops->next_data(&c, end, size, &pos, &end)) > 0 &&
               !(pos == 0 && end == size))
                archive_entry_sparse_add_entry(entry, (int64_t)pos, (int64_t)(end - pos));
        if (ret == 0 && pos == 0 && end == 0 && size > 0) /* nothing but a hole */
                archive_entry_sparse_add_entry(entry, (int64_t)size, 0);
        content_close(&c);
        return ret < 0 ? ret : 0;
}

static void write_bytes(struct out *out, const struct object *o, const uint8_t *bytes,
                        size_t len)
{
        for (size_t done = 0; done < len && !out->broken;) {
                la_ssize_t n = archive_write_data(out->a, bytes + done, len - done);

                if (n <= 0) {
                        tar_fail(out->cli, o->source, "write to the archive", out->a);
                        out->broken = true;
                        return;
                }
                done += (size_t)n;
        }
}

/* libarchive wants to be given the zeros of holes, and does not look at them. */
static void write_hole(struct out *out, const struct object *o, uint64_t len)
{
        while (len > 0 && !out->broken) {
                size_t part = len < HOLE ? (size_t)len : HOLE;

                write_bytes(out, o, out->zeros, part);
                len -= part;
        }
}

/* What cannot be read is zeros: the entry's size stands already.  0 or -errno. */
static int write_data(struct out *out, const struct object *o, struct content *c, uint64_t pos,
                      uint64_t end)
{
        int error = 0;

        while (pos < end && !out->broken) {
                size_t len = end - pos < BUFFER ? (size_t)(end - pos) : BUFFER;
                int ret = c->ops->read(c, out->buffer, len, pos);

                if (ret < 0) {
                        error = ret;
                        memset(out->buffer, 0, len);
                }
                write_bytes(out, o, out->buffer, len);
                progress_add(len);
                pos += len;
        }
        return error;
}

static void write_contents(struct out *out, const struct object *o)
{
        uint64_t at = 0, pos = 0, end = 0, size = o->st.size;
        struct content c;
        int ret = o->ops->open(o, &c), error = 0;

        if (ret < 0) {
                cli_fail_errno(out->cli, o->source, ret);
                return; /* libarchive fills up with zeros */
        }
        while (!out->broken && (ret = c.ops->next_data(&c, at, size, &pos, &end)) > 0) {
                write_hole(out, o, pos - at);
                ret = write_data(out, o, &c, pos, end);
                error = error ? error : ret;
                at = end;
        }
        error = error ? error : ret;
        if (error < 0)
                cli_fail(out->cli, o->source, "cannot read: %s; zeros instead",
                         cli_strerror(error));
        write_hole(out, o, size - at);
        content_close(&c);
}

/* ---- entries ------------------------------------------------------------ */

static char *entry_name(const struct out *out, const char *path)
{
        return cli_printf("%s%s%s", out->name ? out->name : ".", *path ? "/" : "", path);
}

/* A name of something that is in the archive already? */
static bool fill_link(struct out *out, struct archive_entry *entry, const struct object *o,
                      const char *name)
{
        const struct link *link;

        if (S_ISDIR(o->st.mode) || o->st.nlink < 2)
                return false;
        link = links_find(&out->links, o->key);
        if (link) {
                archive_entry_set_hardlink(entry, link->path);
                archive_entry_set_size(entry, 0);
                return true;
        }
        links_add(&out->links, o->key, name, 0);
        return false;
}

static void write_entry(struct out *out, const struct object *o, struct archive_entry *entry,
                        bool contents)
{
        int ret = archive_write_header(out->a, entry);

        if (ret < ARCHIVE_OK)
                tar_fail(out->cli, o->source, "write to the archive", out->a);
        out->broken |= ret == ARCHIVE_FATAL;
        if (ret >= ARCHIVE_WARN && contents)
                write_contents(out, o);
}

static void add(struct out *out, const struct object *o, const char *path)
{
        struct archive_entry *entry = archive_entry_new2(out->a);
        struct uext4_stat st = o->st;
        char *name = entry_name(out, path), target[PATH_MAX];
        bool contents = false;
        int ret = 0;

        if (out->override)
                override_apply(out->override, &st);
        archive_entry_set_pathname(entry, name);
        fill_stat(entry, &st);
        if (!fill_link(out, entry, o, name)) {
                contents = S_ISREG(st.mode) && st.size > 0;
                fill_xattrs(out, entry, o);
                if (S_ISLNK(st.mode)) {
                        ret = o->ops->readlink(o, target, sizeof(target));
                        archive_entry_set_symlink(entry, ret < 0 ? "" : target);
                } else if (contents) {
                        ret = fill_sparse(entry, o);
                }
        }
        if (ret < 0)
                cli_fail_errno(out->cli, o->source, ret);
        else
                write_entry(out, o, entry, contents);
        free(name);
        archive_entry_free(entry);
}

static void take(struct out *out, const struct walk_item *item)
{
        char *source = cli_operand_name(out->op, item->path);
        struct object o = object_of_image(out->op->image, item->inode, &item->st, source);

        if (item->event == WALK_ERROR || (item->event == WALK_ENTER && item->error < 0))
                cli_fail(out->cli, source, "%s",
                         item->what ? item->what : cli_strerror(item->error));
        if (item->event == WALK_FILE && S_ISSOCK(item->st.mode))
                cli_warn(out->cli, source, "a socket: left out, archives have none");
        else if (item->event == WALK_FILE || item->event == WALK_ENTER)
                add(out, &o, item->path);
        free(source);
}

void tar_write(struct cli *cli, struct archive *a, const struct cli_operand *op,
               const char *name, const struct override *override)
{
        struct out out = {.cli = cli, .a = a, .op = op, .name = name, .override = override};
        struct walk *walk = walk_new(op->image->fs, op->inode);
        struct walk_item item;
        void *zeros;

        out.buffer = cli_alloc(BUFFER, 1);
        zeros = mmap(NULL, HOLE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (zeros == MAP_FAILED) {
                cli_fail_errno(cli, op->arg, -errno);
                out.broken = true;
        }
        out.zeros = zeros;
        while (!out.broken && walk_next(walk, &item) > 0)
                take(&out, &item);
        walk_free(walk);
        links_done(&out.links);
        free(out.buffer);
        if (zeros != MAP_FAILED)
                munmap(zeros, HOLE);
}
