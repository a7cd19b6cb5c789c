/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* place.c - a name in a directory of an image (see place.h). */
#include "cli/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/text.h"

/* No path is deeper: what goes up longer goes round. */
#define MAX_DEPTH 100000

static int resolve_dir(struct place *p, const char *path)
{
        struct uext4_stat st;
        int ret = uext4_resolve(p->image->fs, path, 0, &p->dir);

        if (ret < 0)
                return ret;
        ret = uext4_stat(p->dir, &st);
        if (ret == 0 && !S_ISDIR(st.mode))
                ret = -ENOTDIR;
        if (ret < 0) {
                uext4_inode_put(p->dir);
                p->dir = NULL;
        }
        return ret;
}

/* The last component is the name; all of it is the directory when that has none. */
static int resolve_parent(struct place *p, const char *path)
{
        size_t len = strlen(path);
        char *dir;
        int ret;

        p->name = text_base_name(path);
        p->slash = len > 0 && path[len - 1] == '/';
        dir = p->name ? text_dir_name(path) : cli_strdup(path);
        ret = resolve_dir(p, dir);
        free(dir);
        return ret;
}

/* The image, and what the operand says about it; NULL and all is said. */
static bool begin(struct cli *cli, const char *arg, struct place *p, const char **ret_path)
{
        *p = (struct place){.arg = cli_operand_full(cli, arg)};
        p->image = cli_operand_image(cli, p->arg, ret_path);
        if (!p->image)
                place_close(p);
        return p->image;
}

static bool finish(struct cli *cli, struct place *p, int ret, struct place *ret_place)
{
        if (ret < 0) {
                cli_fail_errno(cli, p->arg, ret);
                place_close(p);
                return false;
        }
        *ret_place = *p;
        return true;
}

bool place_open(struct cli *cli, const char *arg, struct place *ret_place)
{
        const char *path;
        struct place p;

        return begin(cli, arg, &p, &path) &&
               finish(cli, &p, resolve_parent(&p, path), ret_place);
}

bool place_open_name(struct cli *cli, const char *arg, struct place *ret_place)
{
        if (!place_open(cli, arg, ret_place))
                return false;
        if (ret_place->name)
                return true;
        cli_fail(cli, ret_place->arg, "Not the name of something new");
        place_close(ret_place);
        return false;
}

bool place_open_target(struct cli *cli, const char *arg, bool single, struct place *ret_place)
{
        const char *path;
        struct place p;
        int ret;

        if (!begin(cli, arg, &p, &path))
                return false;
        ret = resolve_dir(&p, path);
        if (single && (ret == -ENOENT || ret == -ENOTDIR))
                ret = resolve_parent(&p, path);
        else if (ret == -ENOENT)
                ret = -ENOTDIR;
        return finish(cli, &p, ret, ret_place);
}

void place_close(struct place *p)
{
        uext4_inode_put(p->dir);
        free(p->name);
        free(p->arg);
}

int place_find(const struct place *p, struct uext4_inode **ret_inode, struct uext4_stat *ret_st)
{
        struct uext4_inode *inode;
        int ret = uext4_lookup(p->dir, p->name, strlen(p->name), &inode);

        if (ret < 0)
                return ret == -ENOENT ? 0 : ret;
        ret = uext4_stat(inode, ret_st);
        if (ret < 0) {
                uext4_inode_put(inode);
                return ret;
        }
        *ret_inode = inode;
        return 1;
}

char *place_text(const struct place *p, const char *name)
{
        size_t len = strlen(p->arg);
        bool bare = !p->arg[cli_operand_split(p->arg)];

        if (!name || p->name)
                return cli_strdup(p->arg);
        return cli_printf("%s%s%s", p->arg,
                          bare                     ? ":/"
                          : p->arg[len - 1] == '/' ? ""
                                                   : "/",
                          name);
}

int place_is_below(struct uext4_fs *fs, struct uext4_inode *dir, uint64_t ino)
{
        struct uext4_inode *at, *up;
        struct uext4_stat st;
        int ret = uext4_stat(dir, &st);

        if (ret == 0)
                ret = uext4_inode_get(fs, st.ino, 0, &at);
        if (ret < 0)
                return ret;
        for (unsigned depth = 0; st.ino != ino && st.ino != UEXT4_ROOT_INO; depth++) {
                ret = depth < MAX_DEPTH ? uext4_lookup(at, "..", 2, &up) : -EUCLEAN;
                if (ret < 0)
                        break;
                uext4_inode_put(at);
                at = up;
                ret = uext4_stat(at, &st);
                if (ret < 0)
                        break;
        }
        uext4_inode_put(at);
        return ret < 0 ? ret : st.ino == ino;
}
