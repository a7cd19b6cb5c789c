/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * umount.c - `uext4 umount`, and the helper of umount(8).
 *
 * When the kernel has unmounted, the server is still writing what it has, and has the image
 * open.  So the connection to it is made before, and waited for to end: then the image is
 * closed. A server that is dead is not waited for.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/mount_channel.h"
#include "cli/mount_control.h"
#include "cli/mount_helper.h"
#include "cli/mount_point.h"

/* How long the kernel may take to let go of what nobody has mounted. */
#define LET_GO_MS 10000

/* How often, and for how long, to try again when nobody seems to use it: half a second. */
#define LOOK_NS   20000000
#define MAX_LOOKS 25

#define HELPER_FAILED 32

/* ---- who is in there --------------------------------------------------------- */

static bool is_below(const char *path, const char *dir)
{
        size_t len = strlen(dir);

        return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool links_below(const char *link, const char *dir)
{
        char path[4096];
        ssize_t n = readlink(link, path, sizeof(path) - 1);

        if (n < 0)
                return false;
        path[n] = '\0';
        return is_below(path, dir);
}

static bool has_open_below(const char *pid, const char *dir)
{
        char *name = cli_printf("/proc/%s/fd", pid);
        DIR *fds = opendir(name);
        struct dirent *entry;
        bool found = false;

        while (fds && !found && (entry = readdir(fds))) {
                char *link = cli_printf("%s/%s", name, entry->d_name);

                found = links_below(link, dir);
                free(link);
        }
        if (fds)
                closedir(fds);
        free(name);
        return found;
}

static bool uses(const char *pid, const char *dir)
{
        static const char *const links[] = {"cwd", "root", "exe"};
        bool found = false;

        for (size_t i = 0; !found && i < sizeof(links) / sizeof(links[0]); i++) {
                char *link = cli_printf("/proc/%s/%s", pid, links[i]);

                found = links_below(link, dir);
                free(link);
        }
        return found || has_open_below(pid, dir);
}

static char *name_of(const char *pid)
{
        char *path = cli_printf("/proc/%s/comm", pid), name[32] = "?";
        FILE *f = fopen(path, "re");

        if (f && fgets(name, sizeof(name), f))
                name[strcspn(name, "\n")] = '\0';
        if (f)
                fclose(f);
        free(path);
        return cli_strdup(name);
}

/*
 * "123 (bash), 456 (vi)" as far as we may know, to be freed; NULL for nobody.  The server is
 * none: its image may lie in the directory, below the mount.
 */
static char *users_of(const char *dir, pid_t server)
{
        DIR *processes = opendir("/proc");
        struct dirent *entry;
        char *list = NULL;

        while (processes && (entry = readdir(processes))) {
                char *name, *old = list;

                if (entry->d_name[0] < '0' || entry->d_name[0] > '9' ||
                    atoi(entry->d_name) == server || !uses(entry->d_name, dir))
                        continue;
                name = name_of(entry->d_name);
                list = cli_printf("%s%s%s (%s)", old ? old : "", old ? ", " : "", entry->d_name,
                                  name);
                free(old);
                free(name);
        }
        if (processes)
                closedir(processes);
        return list;
}

/* ---- unmounting --------------------------------------------------------------- */

/*
 * -EBUSY when somebody uses it, who is in *ret_users as far as known.  Who only looks, as a
 * program does that watches processes or files, is gone at once.
 */
static int unmount_dir(const struct mount_point *mount, bool lazy, pid_t server,
                       char **ret_users, char text[static MOUNT_CHANNEL_TEXT])
{
        const struct timespec nap = {.tv_nsec = LOOK_NS};
        int ret;

        *ret_users = NULL;
        for (int i = 0;; i++) {
                ret = mount_channel_close(mount->dir, lazy, text);
                if (ret != -EBUSY)
                        return ret;
                *ret_users = users_of(mount->dir, server);
                if (*ret_users || i == MAX_LOOKS)
                        return ret;
                nanosleep(&nap, NULL);
        }
}

static void unmount(struct cli *cli, const struct mount_point *mount, bool lazy)
{
        int server = lazy ? -1 : mount_control_connect(mount);
        char text[MOUNT_CHANNEL_TEXT], *users;
        int ret = unmount_dir(mount, lazy, mount_control_peer(server), &users, text);

        if (ret == -EBUSY)
                cli_fail(cli, mount->dir, "busy: used by %s", users ? users : "somebody");
        else if (ret < 0)
                cli_fail(cli, mount->dir, "%s", *text ? text : cli_strerror(ret));
        else if (server >= 0 && !mount_control_wait(server, LET_GO_MS))
                cli_fail(cli, mount->dir,
                         "unmounted here, but its server goes on, with %s open: it is mounted "
                         "elsewhere, in another namespace perhaps",
                         mount->source);
        if (server >= 0)
                close(server);
        free(users);
}

static void umount_one(struct cli *cli, const char *arg, bool lazy)
{
        char *dir = mount_point_name(arg);
        struct mount_point mount;

        if (!dir) {
                cli_fail_errno(cli, arg, -errno);
        } else if (!mount_point_find(dir, &mount)) {
                cli_fail(cli, arg, "not mounted");
        } else {
                if (mount_point_is_fuse(&mount))
                        unmount(cli, &mount, lazy);
                else
                        cli_fail(cli, arg, "mounted, but not by uext4: the type is %s",
                                 mount.type);
                mount_point_free(&mount);
        }
        free(dir);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"lazy", no_argument, NULL, 'l'},
                CLI_LONG_OPTIONS,
        };
        bool lazy = false;

        while (cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "l", longs) != -1)
                lazy = true;
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        if (cli->mount_options)
                cli_usage_error(cli, "mount options are for mounting");
        for (int i = optind; i < argc; i++)
                umount_one(cli, argv[i], lazy);
}

const struct cli_command cli_umount = {
        .name = "umount",
        .summary = "unmount, and wait until the image is closed",
        .usage = "Usage: uext4 umount [OPTION]... DIR...\n"
                 "Unmount what `uext4 mount` has mounted.  When it comes back the server is "
                 "gone,\n"
                 "and the image is complete and closed.  A dead mount can be unmounted, too.\n"
                 "\n"
                 "  -l, --lazy             take the directory away now, serve who has files "
                 "open\n"
                 "                         until they are closed, and do not wait\n",
        .run = run,
        .alone = true,
};

/* ---- the helper ----------------------------------------------------------------- */

int umount_helper(int argc, char **argv)
{
        struct cli cli = {.command = &cli_umount};
        bool lazy = false;
        int o;

        /* Of umount(8)'s others none is about what is done here. */
        while ((o = getopt(argc, argv, "nlfvrt:N:")) != -1) {
                if (o == '?')
                        return 1;
                lazy |= o == 'l';
        }
        if (argc - optind != 1) {
                fprintf(stderr, "Usage: %s DIR [-nlfvr] [-t TYPE]\n", argv[0]);
                return 1;
        }
        umount_one(&cli, argv[optind], lazy);
        return cli.status == CLI_OK ? 0 : HELPER_FAILED;
}
