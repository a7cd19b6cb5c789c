/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "posix.h"
#include "uext4.h"

/* The directory of a path and the name in it. */
static int parent_of(struct uext4_fs *fs, const char *path, struct uext4_inode **ret_dir,
                     const char **ret_name)
{
        const char *slash = strrchr(path, '/');
        char dir[512];

        snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
        *ret_name = slash + 1;
        return uext4_resolve(fs, dir, 0, ret_dir);
}

/* What has one name that need not be there. */
static int by_name(const struct step *s, struct uext4_inode *dir, const char *name)
{
        const size_t len = strlen(name);

        if (is(s, "mkdir"))
                return uext4_mkdir(dir, name, len, posix_number(s->arg[1], 8), NULL);
        if (is(s, "create"))
                return uext4_create(dir, name, len, posix_number(s->arg[1], 8), NULL);
        if (is(s, "mknod"))
                return uext4_mknod(dir, name, len,
                                   posix_type(s->arg[1]) | posix_number(s->arg[2], 8), 1, 3,
                                   NULL);
        if (is(s, "unlink"))
                return uext4_unlink(dir, name, len);
        return uext4_rmdir(dir, name, len);
}

/* `to` is not looked at without a name to give. */
static int make_nameless(const struct step *s, struct uext4_fs *fs, const char *path,
                         const char *to)
{
        const uint32_t mode = posix_number(s->arg[s->nr_args - 1], 8);
        struct uext4_inode *dir, *inode;
        const char *name;
        int ret = uext4_resolve(fs, path, 0, &dir);

        if (ret < 0)
                return ret;
        ret = uext4_tmpfile(dir, mode, is(s, "tmpexcl") ? O_EXCL : 0, &inode);
        uext4_inode_put(dir);
        if (ret < 0 || is(s, "tmpfile")) {
                uext4_inode_put(ret < 0 ? NULL : inode);
                return ret;
        }
        ret = parent_of(fs, to, &dir, &name);
        if (ret == 0) {
                ret = uext4_link(inode, dir, name, strlen(name));
                uext4_inode_put(dir);
        }
        uext4_inode_put(inode);
        return ret;
}

static int link_or_rename(const struct step *s, struct uext4_fs *fs, const char *from,
                          const char *to)
{
        struct uext4_inode *old_dir, *new_dir, *inode;
        const char *old_name, *new_name;
        int ret = parent_of(fs, from, &old_dir, &old_name);

        if (ret < 0)
                return ret;
        ret = parent_of(fs, to, &new_dir, &new_name);
        if (ret < 0) {
                uext4_inode_put(old_dir);
                return ret;
        }
        if (is(s, "link")) {
                ret = uext4_lookup(old_dir, old_name, strlen(old_name), &inode);
                if (ret == 0) {
                        ret = uext4_link(inode, new_dir, new_name, strlen(new_name));
                        uext4_inode_put(inode);
                }
        } else {
                ret = uext4_rename(old_dir, old_name, strlen(old_name), new_dir, new_name,
                                   strlen(new_name), posix_rename_flags(s));
        }
        uext4_inode_put(old_dir);
        uext4_inode_put(new_dir);
        return ret;
}

/* ---- what is done to an inode ---- */

static int set_attributes(const struct step *s, struct uext4_inode *inode)
{
        const struct timespec now = {.tv_nsec = UTIME_NOW};
        struct uext4_setattr set = {0};

        if (is(s, "chmod")) {
                set.mask = UEXT4_SET_MODE;
                set.mode = posix_number(s->arg[1], 8);
        } else if (is(s, "chown")) {
                set.mask = (*s->arg[1] != '-' ? UEXT4_SET_UID : 0) |
                           (*s->arg[2] != '-' ? UEXT4_SET_GID : 0);
                set.uid = posix_number(s->arg[1], 10);
                set.gid = posix_number(s->arg[2], 10);
        } else if (is(s, "touch")) {
                set = (struct uext4_setattr){
                        .mask = UEXT4_SET_ATIME | UEXT4_SET_MTIME, .atime = now, .mtime = now};
        } else {
                set.atime = posix_time(s->arg[1]);
                set.mtime = posix_time(s->arg[2]);
                set.mask = (set.atime.tv_nsec != UTIME_OMIT ? UEXT4_SET_ATIME : 0) |
                           (set.mtime.tv_nsec != UTIME_OMIT ? UEXT4_SET_MTIME : 0);
        }
        return uext4_setattr(inode, &set);
}

static int with_file(const struct step *s, struct uext4_inode *inode)
{
        struct uext4_file *file;
        int ret = uext4_open(inode, posix_open_flags(s), &file);

        if (ret < 0)
                return ret;
        if (is(s, "write"))
                ret = uext4_pwrite(file, "x", 1, 0) == 1 ? 0 : -EIO;
        else if (is(s, "truncate"))
                ret = uext4_truncate(file, posix_number(s->arg[1], 10));
        uext4_close(file);
        return ret;
}

static int attributes(const struct step *s, struct uext4_inode *inode, char *text)
{
        char value[1024];
        ssize_t len;

        if (is(s, "setx"))
                return uext4_setxattr(inode, s->arg[1], value,
                                      posix_value_of_text(s->arg[2], value, sizeof(value)), 0);
        if (is(s, "rmx"))
                return uext4_removexattr(inode, s->arg[1]);
        if (is(s, "acl") || is(s, "dacl"))
                return uext4_setxattr(inode, posix_acl_name(s), value,
                                      posix_acl_of_text(s->arg[1], value, sizeof(value)), 0);
        if (is(s, "listx"))
                len = uext4_listxattr(inode, value, sizeof(value));
        else if (is(s, "getx"))
                len = uext4_getxattr(inode, s->arg[1], value, sizeof(value));
        else
                len = uext4_getxattr(inode, posix_acl_name(s), value, sizeof(value));
        if (len < 0)
                return (int)len;
        posix_tell_value(s, value, (size_t)len, text);
        return 0;
}

static int flags(const struct step *s, struct uext4_inode *inode, char *text)
{
        uint32_t bits;
        int ret = uext4_get_flags(inode, &bits);

        if (ret == 0 && is(s, "flags"))
                return uext4_set_flags(inode, posix_flags_change(s->arg[1], bits));
        if (ret == 0)
                posix_flags_to_text(bits, text);
        return ret;
}

static int show(const struct step *s, struct uext4_inode *inode, char *text)
{
        struct uext4_stat st;
        int ret = uext4_stat(inode, &st);

        if (is(s, "stat"))
                snprintf(text, TEXT_SIZE, "%04o %u %u %u", st.mode & 07777, st.uid, st.gid,
                         st.nlink);
        else if (is(s, "times"))
                snprintf(text, TEXT_SIZE, "%lld.%09ld %lld.%09ld", (long long)st.atime.tv_sec,
                         st.atime.tv_nsec, (long long)st.mtime.tv_sec, st.mtime.tv_nsec);
        else if (is(s, "what"))
                posix_kind_to_text(st.mode, st.rdev_major, st.rdev_minor, text);
        else if (is(s, "attrs"))
                posix_attributes_to_text(st.attributes, text);
        return ret;
}

static int list(struct uext4_inode *dir)
{
        struct uext4_dirent entry;
        uint64_t cookie = 0;
        int ret;

        do {
                ret = uext4_readdir(dir, &cookie, &entry);
        } while (ret > 0);
        return ret;
}

static int by_inode(const struct step *s, struct uext4_inode *inode, char *text)
{
        if (is(s, "chmod") || is(s, "chown") || is(s, "touch") || is(s, "utimes"))
                return set_attributes(s, inode);
        if (is(s, "open") || is(s, "write") || is(s, "truncate"))
                return with_file(s, inode);
        if (is(s, "access"))
                return uext4_access(inode, (strchr(s->arg[1], 'r') ? R_OK : 0) |
                                                   (strchr(s->arg[1], 'w') ? W_OK : 0) |
                                                   (strchr(s->arg[1], 'x') ? X_OK : 0));
        if (is(s, "readdir"))
                return list(inode);
        if (is(s, "flags") || is(s, "lsflags"))
                return flags(s, inode, text);
        if (is(s, "stat") || is(s, "times") || is(s, "look") || is(s, "what") || is(s, "attrs"))
                return show(s, inode, text);
        return attributes(s, inode, text);
}

/* ---- one step ---- */

static int run_as(struct uext4_fs *fs, const char *dir, const struct step *s, char *text)
{
        struct uext4_inode *inode;
        char path[512], other[512];
        const char *name;
        int ret;

        snprintf(path, sizeof(path), "%s/%s", dir, s->arg[0]);
        snprintf(other, sizeof(other), "%s/%s", dir, s->nr_args > 1 ? s->arg[1] : "");
        if (is(s, "link") || is(s, "rename") || posix_rename_flags(s))
                return link_or_rename(s, fs, path, other);
        if (strncmp(s->op, "tmp", 3) == 0)
                return make_nameless(s, fs, path, other);
        if (is(s, "symlink")) {
                ret = parent_of(fs, other, &inode, &name);
                if (ret == 0) {
                        ret = uext4_symlink(inode, name, strlen(name), s->arg[0],
                                            strlen(s->arg[0]), NULL);
                        uext4_inode_put(inode);
                }
                return ret;
        }
        if (is(s, "mkdir") || is(s, "create") || is(s, "mknod") || is(s, "unlink") ||
            is(s, "rmdir")) {
                ret = parent_of(fs, path, &inode, &name);
                if (ret == 0) {
                        ret = by_name(s, inode, name);
                        uext4_inode_put(inode);
                }
                return ret;
        }
        ret = uext4_resolve(fs, path, is(s, "what") ? UEXT4_NOFOLLOW : 0, &inode);
        if (ret == 0) {
                ret = by_inode(s, inode, text);
                uext4_inode_put(inode);
        }
        return ret;
}

static int run(void *arg, const char *dir, const struct step *s, char *text)
{
        const struct uext4_cred cred = {
                .uid = s->who->uid,
                .gid = s->who->gid,
                .groups = s->who->groups,
                .nr_groups = s->who->nr_groups,
                .umask = s->who->umask,
                .caps = s->who->caps,
        };
        int ret;

        uext4_cred_use(&cred);
        ret = run_as(arg, dir, s, text);
        uext4_cred_use(NULL);
        return ret;
}

struct target posix_on_uext4(const char *image)
{
        const struct uext4_mount_params params = {.options = "rw"};
        struct uext4_fs *fs;
        int ret = uext4_mount(image, &params, &fs);

        if (ret < 0) {
                fprintf(stderr, "%s: %s\n", image, strerror(-ret));
                exit(1);
        }
        return (struct target){.name = "uext4", .run = run, .arg = fs};
}

int posix_uext4_end(struct target *t)
{
        return uext4_unmount(t->arg);
}
