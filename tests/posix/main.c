/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Every case on a fresh directory of each target.  A step that ends in another way than the
 * table says is shown, with the target on which it did; the case goes on, so that one
 * difference does not hide the next.  e2fsck has the last word.
 *
 * As root, where loop mounts work, the kernel is the second target; without it the test
 * says so.  The third one is a mount by FUSE, with the command that UEXT4 names.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/host.h"
#include "posix.h"

#define CAP(x)   (1ull << (x))
#define ALL_CAPS (~0ull >> (63 - CAP_LAST_CAP))

static const struct who people[] = {
        {.name = "root", .caps = ALL_CAPS},
        {.name = "weak"}, /* root without any right */
        {.name = "u1", .uid = 1001, .gid = 1001, .groups = {2000}, .nr_groups = 1},
        {.name = "u2", .uid = 1002, .gid = 1002, .groups = {2000, 2001}, .nr_groups = 2},
        {.name = "u3", .uid = 1003, .gid = 1003},
        {.name = "m1", .uid = 1001, .gid = 1001, .umask = 027},
        {.name = "big", .uid = 3000000000, .gid = 3000000001},
        {.name = "dac", .uid = 1009, .gid = 1009, .caps = CAP(CAP_DAC_OVERRIDE)},
        {.name = "dacr", .uid = 1009, .gid = 1009, .caps = CAP(CAP_DAC_READ_SEARCH)},
        {.name = "fowner", .uid = 1009, .gid = 1009, .caps = CAP(CAP_FOWNER)},
        {.name = "fsetid", .uid = 1009, .gid = 1009, .caps = CAP(CAP_FSETID)},
        {.name = "chowner", .uid = 1009, .gid = 1009, .caps = CAP(CAP_CHOWN)},
        {.name = "maker", .uid = 1009, .gid = 1009, .caps = CAP(CAP_MKNOD)},
        {.name = "setfcap", .uid = 1009, .gid = 1009, .caps = CAP(CAP_SETFCAP)},
        {.name = "immut", .uid = 1001, .gid = 1001, .caps = CAP(CAP_LINUX_IMMUTABLE)},
};

static const struct {
        const char *name;
        int err;
} errors[] = {
        {"OK", 0},
        {"EPERM", EPERM},
        {"EACCES", EACCES},
        {"ENOENT", ENOENT},
        {"EEXIST", EEXIST},
        {"EISDIR", EISDIR},
        {"ENOTDIR", ENOTDIR},
        {"ENOTEMPTY", ENOTEMPTY},
        {"EINVAL", EINVAL},
        {"EXDEV", EXDEV},
        {"ENODATA", ENODATA},
        {"EOPNOTSUPP", EOPNOTSUPP},
        {"ENOTTY", ENOTTY},
        {"ELOOP", ELOOP},
        {"ENXIO", ENXIO},
        {"ERANGE", ERANGE},
        {"ENAMETOOLONG", ENAMETOOLONG},
};

static const char *error_name(int ret)
{
        for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
                if (errors[i].err == -ret)
                        return errors[i].name;
        }
        return strerror(-ret);
}

/* ---- steps ---- */

static const struct who *who_is(const char *name)
{
        for (size_t i = 0; i < sizeof(people) / sizeof(people[0]); i++) {
                if (strcmp(people[i].name, name) == 0)
                        return &people[i];
        }
        fprintf(stderr, "nobody is called %s\n", name);
        exit(1);
}

/* `line` is cut into pieces. */
static struct step parse(char *line)
{
        struct step s = {.expect = "OK"};
        char *equals = strstr(line, " = ");
        char *rest = line;

        if (equals) {
                *equals = '\0';
                s.expect = equals + 3;
        }
        s.who = who_is(strsep(&rest, " "));
        s.op = strsep(&rest, " ");
        while (rest && s.nr_args < MAX_ARGS)
                s.arg[s.nr_args++] = strsep(&rest, " ");
        return s;
}

/* The kernel does not know the flags of inodes of a FUSE mount: what only they forbid is
 * forbidden when it is done. */
static bool is_beyond(const struct target *t, const struct step *s)
{
        return strcmp(t->name, "mount") == 0 &&
               (strcmp(s->op, "attrs") == 0 ||
                (strcmp(s->op, "access") == 0 && strcmp(s->expect, "EPERM") == 0));
}

static bool run_step(const struct target *t, const char *dir, const char *name,
                     const char *line)
{
        char copy[512], text[TEXT_SIZE] = "";
        const char *got;
        struct step s;
        int ret;

        snprintf(copy, sizeof(copy), "%s", line);
        s = parse(copy);
        ret = t->run(t->arg, dir, &s, text);
        got = ret == 0 && *text ? text : error_name(ret);
        if (strcmp(got, s.expect) == 0 || is_beyond(t, &s))
                return true;
        printf("%s, %s: %s\n        it is %s\n", t->name, name, line, got);
        return false;
}

static unsigned run_case(const struct target *t, unsigned nr)
{
        const struct posix_case *c = &posix_cases[nr];
        char dir[16], line[64];
        unsigned bad;

        snprintf(dir, sizeof(dir), "/c%u", nr);
        snprintf(line, sizeof(line), "root mkdir c%u 0777", nr);
        bad = !run_step(t, "", c->name, line);
        for (const char *const *step = c->steps; *step; step++)
                bad += !run_step(t, dir, c->name, *step);
        return bad;
}

/* ---- the whole ---- */

__attribute__((format(printf, 1, 2))) static bool command(const char *format, ...)
{
        char text[1024];
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        return system(text) == 0;
}

static bool protects_links(void)
{
        FILE *f = fopen("/proc/sys/fs/protected_hardlinks", "r");
        int on = 1;

        if (f) {
                if (fscanf(f, "%d", &on) != 1)
                        on = 1;
                fclose(f);
        }
        return on;
}

static unsigned run_all(const struct target *t, const char *only)
{
        bool skip_links = strcmp(t->name, "uext4") != 0 && protects_links();
        unsigned bad = 0;

        for (unsigned i = 0; i < posix_nr_cases; i++) {
                if (skip_links && posix_cases[i].links_of_others)
                        continue;
                if (!only || strcmp(only, posix_cases[i].name) == 0)
                        bad += run_case(t, i) > 0;
        }
        printf("%s: %zu cases, %u bad\n", t->name, posix_nr_cases, bad);
        return bad;
}

static bool make_image(const char *image)
{
        return command(
                "truncate -s 16M %s && MKE2FS_CONFIG=/dev/null mke2fs -q -F -b 4096 -I 256 "
                "-O has_journal,extents,huge_file,dir_index,filetype,64bit,dir_nlink,"
                "extra_isize,metadata_csum,ext_attr,large_file %s 2> /dev/null",
                image, image);
}

static bool check_image(const char *image)
{
        return command("e2fsck -fn %s > %s.log 2>&1", image, image) ||
               (command("cat %s.log", image), false);
}

/* Without the sandbox, in which the server cannot see the groups of others (docs/mount.md). */
static unsigned on_mount(const char *dir, const char *only)
{
        const char *uext4 = getenv("UEXT4");
        char image[300], point[300];
        struct target t;
        unsigned bad;

        snprintf(image, sizeof(image), "%s/mount.img", dir);
        snprintf(point, sizeof(point), "%s/fuse", dir);
        if (geteuid() != 0 || !uext4 || !make_image(image) || mkdir(point, 0755) < 0 ||
            !command("%s mount --no-sandbox -o allow_other,suid,dev %s %s", uext4, image,
                     point)) {
                printf("mount: not asked: no root, no UEXT4, or no FUSE\n");
                return 0;
        }
        t = posix_on_kernel(point);
        t.name = "mount";
        bad = run_all(&t, only);
        bad += !command("%s umount %s", uext4, point);
        return bad + !check_image(image);
}

static unsigned on_uext4(const char *dir, const char *only)
{
        char image[300], uri[320];
        struct target t;
        unsigned bad;

        snprintf(image, sizeof(image), "%s/uext4.img", dir);
        snprintf(uri, sizeof(uri), "file:%s", image);
        if (!make_image(image))
                return 1;
        t = posix_on_uext4(uri);
        bad = run_all(&t, only);
        bad += posix_uext4_end(&t) != 0;
        return bad + !check_image(image);
}

static unsigned on_kernel(const char *dir, const char *only)
{
        char image[300], point[300];
        struct target t;
        unsigned bad;

        snprintf(image, sizeof(image), "%s/kernel.img", dir);
        snprintf(point, sizeof(point), "%s/mnt", dir);
        if (geteuid() != 0 || !make_image(image) || mkdir(point, 0755) < 0 ||
            !command("mount -t ext4 -o loop,acl,user_xattr %s %s 2> /dev/null", image, point)) {
                printf("kernel: not asked: no root, or no loop mounts of ext4\n");
                return 0;
        }
        t = posix_on_kernel(point);
        bad = run_all(&t, only);
        bad += !command("umount %s", point);
        return bad + !check_image(image);
}

int main(int argc, char **argv)
{
        const char *only = argc > 1 ? argv[1] : NULL;
        char dir[256];

        host_new_directory(dir, sizeof(dir));
        if (chmod(dir, 0711) < 0)
                return 1;
        setvbuf(stdout, NULL, _IOLBF, 0);
        umask(0);
        return on_uext4(dir, only) + on_kernel(dir, only) + on_mount(dir, only) > 0;
}
