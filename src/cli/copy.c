/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* copy.c - trees, from anywhere into an image (see copy.h). */
#include "cli/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct copy {
        struct cli *cli;
        struct build *build;
        struct uext4_inode *dir; /* the target's, the caller's */
        const char *name;
        const char *target;
        struct uext4_inode **dirs; /* that the walk is in, of the image */
        size_t nr, room;
};

static char *target_of(const struct copy *c, const struct copy_item *item)
{
        size_t len = strlen(c->target);
        bool slash = !*item->path || (len > 0 && c->target[len - 1] == '/');

        return cli_printf("%s%s%s", c->target, slash ? "" : "/", item->path);
}

static struct uext4_inode *current(const struct copy *c)
{
        return c->nr > 0 ? c->dirs[c->nr - 1] : c->dir;
}

/* False: it cannot be entered. */
static bool enter(struct copy *c, const struct copy_item *item, const char *target)
{
        const char *name = c->nr > 0 ? item->name : c->name;
        struct uext4_inode *inode;

        if (item->error < 0)
                cli_fail(c->cli, item->object.source, "reading directory: %s",
                         cli_strerror(item->error));
        inode = name ? build_enter(c->build, current(c), name, &item->object, target) : c->dir;
        if (!inode)
                return false;
        if (c->nr == c->room) {
                c->room = 2 * c->room + 16;
                c->dirs = cli_realloc(c->dirs, c->room, sizeof(*c->dirs));
        }
        c->dirs[c->nr++] = inode;
        return true;
}

static void leave(struct copy *c, const struct copy_item *item, const char *target)
{
        struct uext4_inode *inode = c->dirs[--c->nr];

        if (inode == c->dir) /* the user's own directory stays what it was */
                return;
        build_leave(c->build, inode, &item->object, target);
        uext4_inode_put(inode);
}

static void take(struct copy *c, const struct copy_source *source, struct copy_item *item)
{
        char *target = target_of(c, item);

        switch (item->event) {
        case WALK_FILE:
                build_file(c->build, current(c), c->nr > 0 ? item->name : c->name,
                           &item->object, target);
                break;
        case WALK_ENTER:
                if (!enter(c, item, target))
                        source->skip(source->arg);
                break;
        case WALK_LEAVE:
                leave(c, item, target);
                break;
        case WALK_ERROR:
                cli_fail(c->cli, item->object.source, "%s",
                         item->what ? item->what : cli_strerror(item->error));
                break;
        }
        free(target);
}

void copy_tree(struct cli *cli, struct build *b, const struct copy_source *source,
               struct uext4_inode *dir, const char *name, const char *target)
{
        struct copy c = {.cli = cli, .build = b, .dir = dir, .name = name, .target = target};
        struct copy_item item;

        while (!build_is_broken(b) && source->next(source->arg, &item) > 0) {
                take(&c, source, &item);
                free(item.object.source);
        }
        while (c.nr > 0)
                if (c.dirs[--c.nr] != dir)
                        uext4_inode_put(c.dirs[c.nr]);
        free(c.dirs);
}

/* ---- an image as a source ----------------------------------------------- */

static int image_next(void *arg, struct copy_item *ret_item)
{
        struct copy_image *state = arg;
        struct walk_item item;
        char *source;

        if (walk_next(state->walk, &item) <= 0)
                return 0;
        source = cli_operand_name(state->op, item.path);
        *ret_item = (struct copy_item){
                .event = item.event,
                .path = item.path,
                .name = item.name,
                .object = object_of_image(state->op->image, item.inode, &item.st, source),
                .error = item.error,
                .what = item.what,
        };
        return 1;
}

static void image_skip(void *arg)
{
        const struct copy_image *state = arg;

        walk_skip(state->walk);
}

struct copy_source copy_from_image(struct copy_image *state, const struct cli_operand *op)
{
        *state = (struct copy_image){.op = op, .walk = walk_new(op->image->fs, op->inode)};
        return (struct copy_source){.next = image_next, .skip = image_skip, .arg = state};
}

void copy_image_done(struct copy_image *state)
{
        walk_free(state->walk);
}

uint64_t copy_image_size(const struct cli_operand *op)
{
        struct walk *walk = walk_new(op->image->fs, op->inode);
        struct walk_item item;
        uint64_t size = 0;

        while (walk_next(walk, &item) > 0) {
                uint64_t allocated = item.st.blocks * 512;

                if (item.event == WALK_FILE && S_ISREG(item.st.mode))
                        size += allocated < item.st.size ? allocated : item.st.size;
        }
        walk_free(walk);
        return size;
}
