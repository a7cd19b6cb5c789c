/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * walk.c - an iterator over a tree of an image (see walk.h).
 *
 * A frame is a directory that the walk is in: its inode, its sorted list, how far it is.  The
 * path is one growing string that each frame cuts back to its own length.
 *
 * Invariants:
 *  W1  a directory's inode number is in `seen` from its WALK_ENTER on, and is never entered
 *      again;
 *
 *  W2  walk->current is the inode of the last WALK_FILE item, or NULL: put by the next step;
 *
 *  W3  the inode of a frame is put when the step after its WALK_LEAVE drops the frame.
 */
#include "cli/walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"

/* ---- one directory -------------------------------------------------------- */

static bool is_dot(const char *name)
{
        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static void dirlist_push(struct dirlist *list, const struct uext4_dirent *de)
{
        struct dirlist_entry *entry;
        size_t len = de->name_len < sizeof(de->name) ? de->name_len : sizeof(de->name) - 1;

        if (list->nr == list->room) {
                list->room = 2 * list->room + 16;
                list->entries = cli_realloc(list->entries, list->room, sizeof(*list->entries));
        }
        entry = &list->entries[list->nr++];
        entry->ino = de->ino;
        entry->name_len = len;
        entry->name = cli_alloc(len + 1, 1);
        memcpy(entry->name, de->name, len);
}

static int entry_compare(const void *a, const void *b)
{
        const struct dirlist_entry *x = a, *y = b;

        return strcmp(x->name, y->name);
}

int dirlist_read(struct uext4_inode *dir, enum dirlist_dots dots, struct dirlist *ret_list)
{
        struct uext4_dirent de;
        uint64_t cookie = 0, before;
        int first_error = 0, ret;

        memset(ret_list, 0, sizeof(*ret_list));
        do {
                before = cookie;
                ret = uext4_readdir(dir, &cookie, &de);
                if (ret < 0 && first_error == 0)
                        first_error = ret;
                if (ret > 0 && (dots == DIRLIST_DOTS || !is_dot(de.name)))
                        dirlist_push(ret_list, &de);
        } while (ret > 0 || (ret < 0 && cookie != before)); /* on behind a damaged block */
        if (ret_list->nr > 0)
                qsort(ret_list->entries, ret_list->nr, sizeof(*ret_list->entries),
                      entry_compare);
        return first_error;
}

void dirlist_done(struct dirlist *list)
{
        for (size_t i = 0; i < list->nr; i++)
                free(list->entries[i].name);
        free(list->entries);
        memset(list, 0, sizeof(*list));
}

bool dirlist_name_is_valid(const struct dirlist_entry *entry)
{
        return entry->name_len > 0 && strlen(entry->name) == entry->name_len &&
               !strchr(entry->name, '/');
}

/* ---- a set of inode numbers ----------------------------------------------- */

/* Open addressing; 0 is a free place, as inode 0 does not exist. */
struct ino_set {
        uint64_t *slots;
        size_t room, nr; /* room is a power of two, or 0 */
};

static bool ino_set_insert(struct ino_set *set, uint64_t ino)
{
        size_t i = (size_t)(ino * 0x9e3779b97f4a7c15u >> 32) & (set->room - 1);

        while (set->slots[i] != 0 && set->slots[i] != ino)
                i = (i + 1) & (set->room - 1);
        if (set->slots[i] == ino)
                return false;
        set->slots[i] = ino;
        set->nr++;
        return true;
}

static void ino_set_grow(struct ino_set *set)
{
        struct ino_set bigger = {.room = set->room ? 2 * set->room : 64};

        bigger.slots = cli_alloc(bigger.room, sizeof(*bigger.slots));
        for (size_t i = 0; i < set->room; i++)
                if (set->slots[i] != 0)
                        ino_set_insert(&bigger, set->slots[i]);
        free(set->slots);
        *set = bigger;
}

/* Was it not there yet? */
static bool ino_set_add(struct ino_set *set, uint64_t ino)
{
        if (2 * set->nr >= set->room)
                ino_set_grow(set);
        return ino_set_insert(set, ino);
}

/* ---- a tree --------------------------------------------------------------- */

struct frame {
        struct uext4_inode *inode; /* the walk's, but for the root's */
        struct uext4_stat st;
        struct dirlist list;
        size_t next;     /* index of the entry to visit next */
        size_t path_len; /* of the directory's own path */
};

struct walk {
        struct uext4_fs *fs;
        struct uext4_inode *root;
        struct uext4_inode *current; /* W2 */
        bool started;
        bool leaving; /* the top frame's WALK_LEAVE was given */
        struct frame *frames;
        size_t nr, room;
        char *path;
        size_t path_len, path_room;
        struct ino_set seen; /* W1 */
};

struct walk *walk_new(struct uext4_fs *fs, struct uext4_inode *root)
{
        struct walk *walk = cli_alloc(1, sizeof(*walk));

        walk->fs = fs;
        walk->root = root;
        walk->path_room = 256;
        walk->path = cli_alloc(walk->path_room, 1);
        return walk;
}

static void path_cut(struct walk *walk, size_t len)
{
        walk->path_len = len;
        walk->path[len] = '\0';
}

static void path_append(struct walk *walk, const char *name)
{
        size_t len = strlen(name);

        if (walk->path_len + len + 2 > walk->path_room) {
                walk->path_room = 2 * (walk->path_len + len + 2);
                walk->path = cli_realloc(walk->path, walk->path_room, 1);
        }
        if (walk->path_len > 0)
                walk->path[walk->path_len++] = '/';
        memcpy(walk->path + walk->path_len, name, len + 1);
        walk->path_len += len;
}

static void frame_pop(struct walk *walk)
{
        struct frame *frame = &walk->frames[--walk->nr];

        dirlist_done(&frame->list);
        if (frame->inode != walk->root)
                uext4_inode_put(frame->inode);
        walk->leaving = false;
}

static int frame_push(struct walk *walk, struct uext4_inode *inode, const struct uext4_stat *st)
{
        struct frame *frame;

        if (walk->nr == walk->room) {
                walk->room = 2 * walk->room + 16;
                walk->frames = cli_realloc(walk->frames, walk->room, sizeof(*walk->frames));
        }
        frame = &walk->frames[walk->nr++];
        frame->inode = inode;
        frame->st = *st;
        frame->next = 0;
        frame->path_len = walk->path_len;
        return dirlist_read(inode, DIRLIST_NO_DOTS, &frame->list);
}

void walk_free(struct walk *walk)
{
        if (walk->current != walk->root)
                uext4_inode_put(walk->current);
        while (walk->nr > 0)
                frame_pop(walk);
        free(walk->frames);
        free(walk->path);
        free(walk->seen.slots);
        free(walk);
}

static const char *last_component(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

static void give(struct walk *walk, enum walk_event event, struct walk_item *ret_item)
{
        memset(ret_item, 0, sizeof(*ret_item));
        ret_item->event = event;
        ret_item->path = walk->path;
        ret_item->name = last_component(walk->path);
}

/* The directory of an item, when `inside` frames are of its own. */
static void give_dir(const struct walk *walk, size_t inside, struct walk_item *ret_item)
{
        ret_item->dir = walk->nr > inside ? walk->frames[walk->nr - inside - 1].inode : NULL;
}

static int give_error(struct walk *walk, int error, const char *what,
                      struct walk_item *ret_item)
{
        give(walk, WALK_ERROR, ret_item);
        ret_item->error = error;
        ret_item->what = what;
        return 1;
}

/* The walk's path leads to `inode`, which is taken over. */
static int visit(struct walk *walk, struct uext4_inode *inode, struct walk_item *ret_item)
{
        struct uext4_stat st;
        int ret = uext4_stat(inode, &st);

        walk->current = inode;
        if (ret < 0)
                return give_error(walk, ret, NULL, ret_item);
        if (!S_ISDIR(st.mode)) {
                give(walk, WALK_FILE, ret_item);
                give_dir(walk, 0, ret_item);
        } else if (!ino_set_add(&walk->seen, st.ino)) {
                return give_error(walk, -EUCLEAN, "directory has a second name", ret_item);
        } else {
                walk->current = NULL;
                ret = frame_push(walk, inode, &st);
                give(walk, WALK_ENTER, ret_item);
                give_dir(walk, 1, ret_item);
                ret_item->list = &walk->frames[walk->nr - 1].list;
                ret_item->error = ret;
        }
        ret_item->inode = inode;
        ret_item->st = st;
        return 1;
}

static int visit_entry(struct walk *walk, const struct dirlist_entry *entry,
                       struct walk_item *ret_item)
{
        struct uext4_inode *inode;
        int ret;

        path_append(walk, entry->name);
        if (!dirlist_name_is_valid(entry))
                return give_error(walk, -EUCLEAN, "refused: not a valid name", ret_item);
        ret = uext4_inode_get(walk->fs, entry->ino, 0, &inode);
        if (ret < 0)
                return give_error(walk, ret, NULL, ret_item);
        return visit(walk, inode, ret_item);
}

static int give_leave(struct walk *walk, struct walk_item *ret_item)
{
        struct frame *frame = &walk->frames[walk->nr - 1];

        walk->leaving = true;
        give(walk, WALK_LEAVE, ret_item);
        give_dir(walk, 1, ret_item);
        ret_item->inode = frame->inode;
        ret_item->st = frame->st;
        return 1;
}

int walk_next(struct walk *walk, struct walk_item *ret_item)
{
        struct frame *frame;

        if (walk->current && walk->current != walk->root)
                uext4_inode_put(walk->current);
        walk->current = NULL;
        if (!walk->started) {
                walk->started = true;
                return visit(walk, walk->root, ret_item);
        }
        if (walk->leaving)
                frame_pop(walk);
        if (walk->nr == 0)
                return 0;
        frame = &walk->frames[walk->nr - 1];
        path_cut(walk, frame->path_len);
        if (frame->next == frame->list.nr)
                return give_leave(walk, ret_item);
        return visit_entry(walk, &frame->list.entries[frame->next++], ret_item);
}

void walk_skip(struct walk *walk)
{
        walk->leaving = true; /* the next step drops the frame */
}

uint64_t walk_count(struct uext4_fs *fs, struct uext4_inode *root)
{
        struct walk *walk = walk_new(fs, root);
        struct walk_item item;
        uint64_t nr = 0;

        while (walk_next(walk, &item) > 0)
                nr += item.event == WALK_FILE || item.event == WALK_LEAVE;
        walk_free(walk);
        return nr;
}
