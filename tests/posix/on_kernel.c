/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "posix.h"

static int result(long ret)
{
        return ret < 0 ? -errno : 0;
}

/* ---- steps, in a child that is somebody ---- */

static int make(const struct step *s, const char *path)
{
        mode_t mode = (mode_t)posix_number(s->arg[s->nr_args - 1], 8);
        int fd;

        if (is(s, "mkdir"))
                return result(mkdir(path, mode));
        if (is(s, "mknod")) {
                mode |= posix_type(s->arg[1]);
                return result(mknod(path, mode, makedev(1, 3)));
        }
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
        if (fd >= 0)
                close(fd);
        return result(fd);
}

static int make_nameless(const struct step *s, const char *dir)
{
        mode_t mode = (mode_t)posix_number(s->arg[s->nr_args - 1], 8);
        int fd = open(dir, O_TMPFILE | O_WRONLY | (is(s, "tmpexcl") ? O_EXCL : 0), mode);
        char path[64];
        int ret = 0;

        if (fd < 0)
                return -errno;
        if (!is(s, "tmpfile")) {
                snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
                ret = result(linkat(AT_FDCWD, path, AT_FDCWD, s->arg[1], AT_SYMLINK_FOLLOW));
        }
        close(fd);
        return ret;
}

static int set_attributes(const struct step *s, const char *path)
{
        struct timespec times[2];

        if (is(s, "chmod"))
                return result(chmod(path, (mode_t)posix_number(s->arg[1], 8)));
        if (is(s, "chown"))
                return result(
                        chown(path, *s->arg[1] == '-' ? (uid_t)-1 : posix_number(s->arg[1], 10),
                              *s->arg[2] == '-' ? (gid_t)-1 : posix_number(s->arg[2], 10)));
        if (is(s, "touch"))
                return result(utimensat(AT_FDCWD, path, NULL, 0));
        times[0] = posix_time(s->arg[1]);
        times[1] = posix_time(s->arg[2]);
        return result(utimensat(AT_FDCWD, path, times, 0));
}

static int with_file(const struct step *s, const char *path)
{
        int fd = open(path, posix_open_flags(s));
        int ret = 0;

        if (fd < 0)
                return -errno;
        if (is(s, "write"))
                ret = result(pwrite(fd, "x", 1, 0));
        else if (is(s, "truncate"))
                ret = result(ftruncate(fd, posix_number(s->arg[1], 10)));
        close(fd);
        return ret;
}

static int attributes(const struct step *s, const char *path, char *text)
{
        char value[1024];
        ssize_t len;

        if (is(s, "setx"))
                return result(setxattr(path, s->arg[1], value,
                                       posix_value_of_text(s->arg[2], value, sizeof(value)),
                                       0));
        if (is(s, "rmx"))
                return result(removexattr(path, s->arg[1]));
        if (is(s, "acl") || is(s, "dacl"))
                return result(setxattr(path, posix_acl_name(s), value,
                                       posix_acl_of_text(s->arg[1], value, sizeof(value)), 0));
        if (is(s, "listx"))
                len = listxattr(path, value, sizeof(value));
        else if (is(s, "getx"))
                len = getxattr(path, s->arg[1], value, sizeof(value));
        else
                len = getxattr(path, posix_acl_name(s), value, sizeof(value));
        if (len < 0)
                return -errno;
        posix_tell_value(s, value, (size_t)len, text);
        return 0;
}

static int flags(const struct step *s, const char *path, char *text)
{
        int fd = open(path, O_RDONLY | O_NONBLOCK);
        unsigned bits = 0;
        int ret;

        if (fd < 0)
                return -errno;
        ret = result(ioctl(fd, FS_IOC_GETFLAGS, &bits));
        if (ret == 0 && is(s, "flags")) {
                bits = posix_flags_change(s->arg[1], bits);
                ret = result(ioctl(fd, FS_IOC_SETFLAGS, &bits));
        } else if (ret == 0) {
                posix_flags_to_text(bits, text);
        }
        close(fd);
        return ret;
}

static int show(const struct step *s, const char *path, char *text)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return -errno;
        if (is(s, "stat"))
                snprintf(text, TEXT_SIZE, "%04o %u %u %u", st.st_mode & 07777, st.st_uid,
                         st.st_gid, (unsigned)st.st_nlink);
        else if (is(s, "times"))
                snprintf(text, TEXT_SIZE, "%lld.%09ld %lld.%09ld", (long long)st.st_atim.tv_sec,
                         st.st_atim.tv_nsec, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        return 0;
}

static int show_more(const struct step *s, const char *path, char *text)
{
        struct statx st;

        if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) < 0)
                return -errno;
        if (is(s, "what"))
                posix_kind_to_text(st.stx_mode, st.stx_rdev_major, st.stx_rdev_minor, text);
        else
                posix_attributes_to_text(st.stx_attributes, text);
        return 0;
}

static int list(const char *path)
{
        DIR *dir = opendir(path);

        if (!dir)
                return -errno;
        while (readdir(dir))
                ;
        closedir(dir);
        return 0;
}

static int do_step(const char *dir, const struct step *s, char *text)
{
        const char *path = s->arg[0];
        const char *other = s->nr_args > 1 ? s->arg[1] : "";

        if (chdir(dir) < 0)
                return -errno;
        if (is(s, "mkdir") || is(s, "create") || is(s, "mknod"))
                return make(s, path);
        if (is(s, "symlink"))
                return result(symlink(path, other));
        if (is(s, "link"))
                return result(link(path, other));
        if (is(s, "unlink"))
                return result(unlink(path));
        if (is(s, "rmdir"))
                return result(rmdir(path));
        if (is(s, "rename") || posix_rename_flags(s))
                return result(
                        renameat2(AT_FDCWD, path, AT_FDCWD, other, posix_rename_flags(s)));
        if (strncmp(s->op, "tmp", 3) == 0)
                return make_nameless(s, path);
        if (is(s, "chmod") || is(s, "chown") || is(s, "touch") || is(s, "utimes"))
                return set_attributes(s, path);
        if (is(s, "open") || is(s, "write") || is(s, "truncate"))
                return with_file(s, path);
        if (is(s, "access"))
                return result(syscall(439 /* faccessat2 */, AT_FDCWD, path,
                                      (strchr(other, 'r') ? R_OK : 0) |
                                              (strchr(other, 'w') ? W_OK : 0) |
                                              (strchr(other, 'x') ? X_OK : 0),
                                      AT_EACCESS));
        if (is(s, "readdir"))
                return list(path);
        if (is(s, "flags") || is(s, "lsflags"))
                return flags(s, path, text);
        if (is(s, "what") || is(s, "attrs"))
                return show_more(s, path, text);
        if (is(s, "stat") || is(s, "times") || is(s, "look"))
                return show(s, path, text);
        return attributes(s, path, text);
}

/* ---- being somebody ---- */

static int become(const struct who *who)
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2];
        gid_t groups[3];

        for (uint32_t i = 0; i < who->nr_groups; i++)
                groups[i] = who->groups[i];
        if (syscall(SYS_capget, &header, data) < 0)
                return -1;
        /* What this process has not got it cannot keep. */
        data[0].effective = data[0].permitted &= (uint32_t)who->caps;
        data[1].effective = data[1].permitted &= (uint32_t)(who->caps >> 32);
        data[0].inheritable = data[1].inheritable = 0;
        umask((mode_t)who->umask);
        if (setgroups(who->nr_groups, groups) < 0 ||
            setresgid(who->gid, who->gid, who->gid) < 0 || prctl(PR_SET_KEEPCAPS, 1) < 0 ||
            setresuid(who->uid, who->uid, who->uid) < 0)
                return -1;
        return (int)syscall(SYS_capset, &header, data);
}

struct answer {
        int ret;
        char text[TEXT_SIZE];
};

static int run(void *arg, const char *dir, const struct step *s, char *text)
{
        struct answer answer = {.ret = -EIO};
        char path[512];
        int fds[2];
        int status;
        pid_t pid;

        snprintf(path, sizeof(path), "%s%s", (const char *)arg, dir);
        if (pipe(fds) < 0)
                return -errno;
        pid = fork();
        if (pid == 0) {
                struct answer mine = {0};

                mine.ret = become(s->who) < 0 ? -ENOTRECOVERABLE : do_step(path, s, mine.text);
                if (write(fds[1], &mine, sizeof(mine)) != sizeof(mine))
                        _exit(1);
                _exit(0);
        }
        close(fds[1]);
        if (pid < 0 || read(fds[0], &answer, sizeof(answer)) != sizeof(answer))
                answer.ret = -EIO;
        close(fds[0]);
        if (pid > 0)
                waitpid(pid, &status, 0);
        memcpy(text, answer.text, TEXT_SIZE);
        return answer.ret;
}

struct target posix_on_kernel(const char *mount_point)
{
        return (struct target){
                .name = "kernel", .run = run, .arg = (void *)(uintptr_t)mount_point};
}
