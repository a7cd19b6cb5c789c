/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verify_compare.c - what `uext4 verify --against` compares: names, types, modes, sizes, device
 * numbers, targets and bytes, with a directory of the host that is followed in step with the
 * walk (see verify.h).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cli/progress.h"
#include "cli/text.h"
#include "cli/verify.h"

static void difference(struct verify *v, const char *path, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

static void difference(struct verify *v, const char *path, const char *fmt, ...)
{
        char *text, *name;
        va_list ap;
        int len;

        va_start(ap, fmt);
        len = vasprintf(&text, fmt, ap);
        va_end(ap);
        v->counts.differences++;
        v->cli->status = CLI_FAILED;
        if (len < 0)
                return; /* counted, though not said */
        if (v->differences) {
                json_t *object = json_object();

                json_add_text(object, "path", path);
                json_add_text(object, "difference", text);
                json_push(v->differences, object);
        } else {
                name = text_escape(path, strlen(path));
                progress_hide();
                printf("%s: %s\n", *name ? name : ".", text);
                free(name);
        }
        free(text);
}

/* ---- attributes --------------------------------------------------------- */

/*
 * Compare what both sides know without reading: type, mode, size, device numbers.  False when
 * the host has nothing of this type there, so that there is nothing more to compare.
 */
static bool compare_stat(struct verify *v, const struct walk_item *item, struct stat *st)
{
        int ret = host_tree_stat(&v->host, item->name, st);

        if (ret < 0) {
                difference(v, item->path,
                           ret == -ENOENT ? "only in the image"
                                          : "cannot stat the file to compare with");
                return false;
        }
        if ((st->st_mode & S_IFMT) != (item->st.mode & S_IFMT)) {
                difference(v, item->path, "is a %s, not a %s", text_file_type(item->st.mode),
                           text_file_type(st->st_mode));
                return false;
        }
        if (!S_ISLNK(st->st_mode) && (st->st_mode & 07777) != (item->st.mode & 07777))
                difference(v, item->path, "mode is %04o, not %04o",
                           (unsigned)item->st.mode & 07777u, (unsigned)st->st_mode & 07777u);
        if (S_ISREG(st->st_mode) && (uint64_t)st->st_size != item->st.size)
                difference(v, item->path, "size is %" PRIu64 ", not %" PRIu64, item->st.size,
                           (uint64_t)st->st_size);
        if ((S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) &&
            st->st_rdev != makedev(item->st.rdev_major, item->st.rdev_minor))
                difference(v, item->path, "device is %" PRIu32 ":%" PRIu32 ", not %u:%u",
                           item->st.rdev_major, item->st.rdev_minor, major(st->st_rdev),
                           minor(st->st_rdev));
        return true;
}

void verify_compare_other(struct verify *v, const struct walk_item *item)
{
        struct stat st;

        compare_stat(v, item, &st);
}

void verify_compare_symlink(struct verify *v, const struct walk_item *item, const char *target)
{
        char host[65536]; /* a symlink of ext4 is at most a block */
        struct stat st;
        int ret;

        if (!compare_stat(v, item, &st))
                return;
        ret = host_tree_readlink(&v->host, item->name, host, sizeof(host));
        if (ret < 0)
                difference(v, item->path, "cannot read the link to compare with: %s",
                           cli_strerror(ret));
        else if (strcmp(host, target) != 0)
                difference(v, item->path, "symbolic link leads to another place");
}

/* ---- contents ----------------------------------------------------------- */

int verify_open_host(struct verify *v, const struct walk_item *item)
{
        struct stat st;
        int fd;

        if (!compare_stat(v, item, &st) || (uint64_t)st.st_size != item->st.size)
                return -1;
        fd = host_tree_open_file(&v->host, item->name);
        if (fd < 0)
                difference(v, item->path, "cannot open the file to compare with: %s",
                           cli_strerror(fd));
        return fd < 0 ? -1 : fd;
}

static int read_host(int fd, uint8_t *buf, uint64_t len, uint64_t pos)
{
        while (len > 0) {
                ssize_t ret = pread(fd, buf, len, (off_t)pos);

                if (ret == 0)
                        return -EIO; /* it was longer a moment ago */
                if (ret < 0 && errno != EINTR)
                        return -errno;
                if (ret > 0) {
                        buf += ret;
                        pos += (uint64_t)ret;
                        len -= (uint64_t)ret;
                }
        }
        return 0;
}

bool verify_compare_chunk(struct verify *v, const char *path, int fd,
                          const struct reader_chunk *chunk)
{
        uint64_t i = 0;
        int ret = read_host(fd, v->host_buffer, chunk->len, chunk->pos);

        if (ret < 0) {
                difference(v, path, "cannot read the file to compare with: %s",
                           cli_strerror(ret));
                return false;
        }
        if (memcmp(chunk->data, v->host_buffer, chunk->len) == 0)
                return true;
        while (chunk->data[i] == v->host_buffer[i])
                i++;
        difference(v, path, "contents differ from byte %" PRIu64 " on", chunk->pos + i);
        return false;
}

/* ---- directories -------------------------------------------------------- */

/* Names that only the host has.  Both lists are sorted. */
static void compare_names(struct verify *v, const struct walk_item *item)
{
        struct host_names names;
        size_t k = 0;
        int ret = host_tree_list(&v->host, &names);

        if (ret < 0) {
                difference(v, item->path, "cannot list the directory to compare with: %s",
                           cli_strerror(ret));
                return;
        }
        for (size_t i = 0; i < names.nr; i++) {
                char *path;

                while (k < item->list->nr &&
                       strcmp(item->list->entries[k].name, names.names[i]) < 0)
                        k++;
                if (k < item->list->nr &&
                    strcmp(item->list->entries[k].name, names.names[i]) == 0)
                        continue;
                path = cli_printf("%s%s%s", item->path, *item->path ? "/" : "", names.names[i]);
                difference(v, path, "missing in the image");
                free(path);
        }
        host_names_done(&names);
}

/* mke2fs makes lost+found; the directory that the image was made of has none. */
static bool is_lost_and_found(const struct verify *v, const struct walk_item *item)
{
        struct stat st;

        return strcmp(item->path, "lost+found") == 0 && item->list->nr == 0 &&
               host_tree_stat(&v->host, item->name, &st) == -ENOENT;
}

bool verify_enter_host(struct verify *v, const struct walk_item *item)
{
        struct stat st;
        int ret;

        if (*item->path) { /* the root is open already; its own mode is the image maker's */
                if (is_lost_and_found(v, item))
                        return false;
                if (!compare_stat(v, item, &st))
                        return false;
                ret = host_tree_enter(&v->host, item->name);
                if (ret < 0) {
                        difference(v, item->path,
                                   "cannot open the directory to compare with: %s",
                                   cli_strerror(ret));
                        return false;
                }
        }
        compare_names(v, item);
        return true;
}
