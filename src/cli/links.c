/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* links.c - what was met already under another name (see links.h). */
#include "cli/links.h"

#include <search.h>
#include <stdlib.h>

#include "cli/cli.h"

static int compare(const void *a, const void *b)
{
        const struct links_key *x = &((const struct link *)a)->key,
                               *y = &((const struct link *)b)->key;

        if (x->dev != y->dev)
                return x->dev < y->dev ? -1 : 1;
        return (x->ino > y->ino) - (x->ino < y->ino);
}

static void link_free(void *node)
{
        struct link *link = node;

        free(link->path);
        free(link);
}

struct link *links_find(const struct links *links, struct links_key key)
{
        const struct link want = {.key = key};
        struct link *const *found = tfind(&want, &links->tree, compare);

        return found ? *found : NULL;
}

void links_add(struct links *links, struct links_key key, const char *path, uint64_t ino)
{
        struct link *link = cli_alloc(1, sizeof(*link));

        link->key = key;
        link->path = path ? cli_strdup(path) : NULL;
        link->ino = ino;
        if (!tsearch(link, &links->tree, compare))
                link_free(link); /* no memory: it will be a second copy */
}

void links_remove(struct links *links, struct links_key key)
{
        struct link *link = links_find(links, key);

        if (link) {
                tdelete(link, &links->tree, compare);
                link_free(link);
        }
}

void links_done(struct links *links)
{
        tdestroy(links->tree, link_free);
        links->tree = NULL;
}
