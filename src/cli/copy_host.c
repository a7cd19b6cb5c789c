/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * copy_host.c - a tree of the host as a source of copies (see copy.h).
 *
 * Directories are opened by one name relative to their parent, and no symlink below the root is
 * followed.  A frame is a directory that the walk is in, with its sorted names; the descriptors
 * are those of a struct host_tree.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/copy.h"
#include "cli/host.h"

struct frame {
        struct host_names names;
        size_t next;
        size_t path_len;      /* of the directory's own path */
        struct object object; /* the directory; its `source` is not valid */
};

struct copy_host {
        const char *root;
        bool follow;
        bool started;
        bool leaving; /* the top frame's WALK_LEAVE was given, or it is skipped */
        struct host_tree tree;
        struct frame *frames;
        size_t nr, room;
        char *path;
        size_t path_room;
};

int copy_host_new(const char *path, bool follow, struct copy_host **ret_host)
{
        struct copy_host *h;
        struct stat st;

        if (fstatat(AT_FDCWD, path, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        h = cli_alloc(1, sizeof(*h));
        h->root = path;
        h->follow = follow;
        h->path_room = 256;
        h->path = cli_alloc(h->path_room, 1);
        *ret_host = h;
        return 0;
}

static void pop(struct copy_host *h)
{
        host_names_done(&h->frames[--h->nr].names);
        host_tree_leave(&h->tree);
        h->leaving = false;
}

void copy_host_free(struct copy_host *h)
{
        while (h->nr > 0)
                pop(h);
        host_tree_close(&h->tree);
        free(h->frames);
        free(h->path);
        free(h);
}

static char *source_name(const struct copy_host *h)
{
        size_t len = strlen(h->root);
        bool slash = !*h->path || (len > 0 && h->root[len - 1] == '/');

        return cli_printf("%s%s%s", h->root, slash ? "" : "/", h->path);
}

static void append(struct copy_host *h, size_t len, const char *name)
{
        size_t more = strlen(name);

        if (len + more + 2 > h->path_room) {
                h->path_room = 2 * (len + more + 2);
                h->path = cli_realloc(h->path, h->path_room, 1);
        }
        if (len > 0)
                h->path[len++] = '/';
        memcpy(h->path + len, name, more + 1);
}

/* Open the directory and read its names. */
static int push(struct copy_host *h, const struct object *o, struct host_names *ret_names)
{
        int ret;

        memset(ret_names, 0, sizeof(*ret_names));
        ret = h->nr == 0 ? host_tree_open(&h->tree, h->root)
                         : host_tree_enter(&h->tree, o->name);
        if (ret < 0)
                return ret;
        if (h->nr == h->room) {
                h->room = 2 * h->room + 16;
                h->frames = cli_realloc(h->frames, h->room, sizeof(*h->frames));
        }
        ret = host_tree_list(&h->tree, ret_names);
        h->frames[h->nr++] =
                (struct frame){.names = *ret_names, .path_len = strlen(h->path), .object = *o};
        return ret;
}

static void give(const struct copy_host *h, enum walk_event event, struct copy_item *ret_item)
{
        const char *slash = strrchr(h->path, '/');

        ret_item->event = event;
        ret_item->path = h->path;
        ret_item->name = slash ? slash + 1 : h->path;
}

static int visit(struct copy_host *h, int dir, const char *name, bool follow,
                 struct copy_item *ret_item)
{
        char *source = source_name(h);
        struct host_names names;
        size_t nr = h->nr;
        int ret;

        memset(ret_item, 0, sizeof(*ret_item));
        ret = object_of_host(dir, name, follow, source, &ret_item->object);
        give(h, WALK_FILE, ret_item);
        if (ret == 0 && S_ISDIR(ret_item->object.st.mode)) {
                ret = push(h, &ret_item->object, &names);
                if (h->nr > nr) {
                        ret_item->event = WALK_ENTER;
                        ret_item->error = ret;
                        return 1;
                }
        }
        if (ret < 0) {
                ret_item->event = WALK_ERROR;
                ret_item->error = ret;
                ret_item->object.source = source;
        }
        return 1;
}

static int host_next(void *arg, struct copy_item *ret_item)
{
        struct copy_host *h = arg;
        struct frame *frame;
        const char *name;

        if (!h->started) {
                h->started = true;
                return visit(h, AT_FDCWD, h->root, h->follow, ret_item);
        }
        if (h->leaving)
                pop(h);
        if (h->nr == 0)
                return 0;
        frame = &h->frames[h->nr - 1];
        h->path[frame->path_len] = '\0';
        if (frame->next == frame->names.nr) {
                h->leaving = true;
                memset(ret_item, 0, sizeof(*ret_item));
                ret_item->object = frame->object;
                ret_item->object.source = source_name(h);
                give(h, WALK_LEAVE, ret_item);
                return 1;
        }
        name = frame->names.names[frame->next++];
        append(h, frame->path_len, name);
        return visit(h, h->tree.dirs[h->tree.nr - 1], name, false, ret_item);
}

static void host_skip(void *arg)
{
        struct copy_host *h = arg;

        h->leaving = true;
}

struct copy_source copy_from_host(struct copy_host *h)
{
        return (struct copy_source){.next = host_next, .skip = host_skip, .arg = h};
}

uint64_t copy_host_size(const char *path, bool follow)
{
        struct copy_item item;
        struct copy_host *h;
        uint64_t size = 0;

        if (copy_host_new(path, follow, &h) < 0)
                return 0;
        while (host_next(h, &item) > 0) {
                const struct uext4_stat *st = &item.object.st;
                uint64_t allocated = st->blocks * 512;

                if (item.event == WALK_FILE && S_ISREG(st->mode))
                        size += allocated < st->size ? allocated : st->size;
                free(item.object.source);
        }
        copy_host_free(h);
        return size;
}
