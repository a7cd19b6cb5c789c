/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mount_point.c - /proc/self/mountinfo (see mount_point.h and proc(5)). */
#include "cli/mount_point.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

/* ---- names ---------------------------------------------------------------- */

static bool has_name_of_its_own(const char *base)
{
        return *base && strcmp(base, ".") != 0 && strcmp(base, "..") != 0;
}

/* Only the parent is resolved: the last component may be a mount that does not answer. */
static char *name_below_parent(const char *path)
{
        const char *slash = strrchr(path, '/');
        char *parent = slash ? cli_printf("%.*s/", (int)(slash - path), path) : cli_strdup(".");
        char *real = realpath(parent, NULL), *name = NULL;

        if (real)
                name = cli_printf("%s/%s", strcmp(real, "/") == 0 ? "" : real,
                                  slash ? slash + 1 : path);
        free(real);
        free(parent);
        return name;
}

char *mount_point_name(const char *arg)
{
        char *path = cli_strdup(arg), *name;
        size_t len = strlen(path);
        struct mount_point mount;
        const char *base;

        while (len > 1 && path[len - 1] == '/')
                path[--len] = '\0';
        base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        name = has_name_of_its_own(base) ? name_below_parent(path) : realpath(path, NULL);
        /* Nothing mounted: it may be a symbolic link to what is. */
        if (name && mount_point_find(name, &mount)) {
                mount_point_free(&mount);
        } else if (name) {
                free(name);
                name = realpath(path, NULL);
        }
        free(path);
        return name;
}

/* ---- the table ------------------------------------------------------------ */

static bool is_octal(const char *at)
{
        for (int i = 1; i <= 3; i++)
                if (at[i] < '0' || at[i] > '7')
                        return false;
        return true;
}

/* Blanks and the like are \ooo there. */
static void unescape(char *text)
{
        char *to = text;

        for (const char *from = text; *from; to++) {
                if (*from == '\\' && is_octal(from)) {
                        *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + from[3] -
                                     '0');
                        from += 4;
                } else {
                        *to = *from++;
                }
        }
        *to = '\0';
}

enum field {
        FIELD_DEVICE = 2,
        FIELD_DIR = 4,
        NR_FIELDS = 6, /* before the optional ones, which "-" ends */
};

/* Behind the "-": type, source, options of the file system. */
#define NR_LATER 3

/* Cut a line in place; false: it is none of the table. */
static bool cut_line(char *line, char *fields[NR_FIELDS], char *later[NR_LATER])
{
        char *rest = line, *word;

        line[strcspn(line, "\n")] = '\0';
        for (int i = 0; i < NR_FIELDS; i++)
                if (!(fields[i] = strsep(&rest, " ")))
                        return false;
        while ((word = strsep(&rest, " ")) && strcmp(word, "-") != 0)
                ;
        for (int i = 0; i < NR_LATER; i++)
                if (!(later[i] = strsep(&rest, " ")))
                        return false;
        return true;
}

static uid_t owner_of(const char *options)
{
        static const char key[] = "user_id=";
        const char *at = strstr(options, key);

        return at ? (uid_t)strtoul(at + sizeof(key) - 1, NULL, 10) : 0;
}

bool mount_point_find(const char *dir, struct mount_point *ret_mount)
{
        FILE *f = fopen("/proc/self/mountinfo", "re");
        char *line = NULL, *fields[NR_FIELDS], *later[NR_LATER];
        size_t size = 0;
        bool found = false;

        while (f && getline(&line, &size, f) > 0) {
                if (!cut_line(line, fields, later))
                        continue;
                unescape(fields[FIELD_DIR]);
                if (strcmp(fields[FIELD_DIR], dir) != 0)
                        continue;
                if (found)
                        mount_point_free(ret_mount);
                found = true;
                unescape(later[1]);
                *ret_mount = (struct mount_point){
                        .dir = cli_strdup(dir),
                        .type = cli_strdup(later[0]),
                        .source = cli_strdup(later[1]),
                        .device = cli_strdup(fields[FIELD_DEVICE]),
                        .owner = owner_of(later[2]),
                };
        }
        free(line);
        if (f)
                fclose(f);
        return found;
}

bool mount_point_is_fuse(const struct mount_point *mount)
{
        return strncmp(mount->type, "fuse.", 5) == 0;
}

void mount_point_free(struct mount_point *mount)
{
        free(mount->dir);
        free(mount->source);
        free(mount->type);
        free(mount->device);
}
