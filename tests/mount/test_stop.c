/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A server that is stopped while programs make requests: it ends all the same, at once, and
 * gives everything back.
 *
 * A child reads and writes the pages of one small file without end, some of its threads with
 * O_DIRECT: so there are requests at every moment, pages that the kernel waits for, and pages
 * that it is to drop.  An alarm says that the server hangs.
 *
 *      test_stop [ROUNDS]         many with UEXT4_LONG
 */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../lib/host.h"
#include "fuse/server.h"

#define SIZE       ((size_t)8 << 20)
#define PAGE       4096u
#define NR_PAGES   4
#define NR_THREADS 8
#define LOAD_NS    50000000 /* until the server is stopped */
#define SECONDS    20       /* of one round: more is a hang */
#define SKIPPED    77

static const char fs_options[] =
        "-b 4096 -I 256 -N 64 -O "
        "none,has_journal,extents,64bit,extra_isize,metadata_csum,filetype,sparse_super";

static char at[256];

static _Noreturn void complain(const char *what, long long got)
{
        fprintf(stderr, "%s (%lld)\n", what, got);
        exit(1);
}

/* What hangs in the kernel could not even be killed: its connection is cut. */
static void on_alarm(int signal)
{
        static const char text[] = "the server goes on though it was stopped\n";

        (void)umount2(at, MNT_FORCE | MNT_DETACH);
        _exit(write(STDERR_FILENO, text, sizeof(text) - 1) < 0 ? 2 : 1);
}

/* ---- the child ---- */

/* Until there is an error: the server is gone. */
static void *load(void *arg)
{
        const unsigned self = *(const unsigned *)arg;
        char path[300];
        void *data;
        int fd;

        snprintf(path, sizeof(path), "%s/f", at);
        fd = open(path, O_RDWR | (self % 2 ? O_DIRECT : 0));
        if (fd < 0 || posix_memalign(&data, PAGE, PAGE) != 0)
                return NULL;
        memset(data, 'a', PAGE);
        for (unsigned i = self;; i++) {
                const off_t pos = (off_t)(i * 2654435761u >> 16) % NR_PAGES * PAGE;

                if (self % 2 && pwrite(fd, data, PAGE, pos) < 0)
                        break;
                if (posix_fadvise(fd, pos, PAGE, POSIX_FADV_DONTNEED) != 0 ||
                    pread(fd, data, PAGE, pos) < 0)
                        break;
        }
        free(data);
        return NULL;
}

static _Noreturn void child(void)
{
        static unsigned numbers[NR_THREADS];
        pthread_t threads[NR_THREADS];

        closefrom(3); /* the server's channels: else it would not see the end */
        for (unsigned i = 0; i < NR_THREADS; i++) {
                numbers[i] = i;
                if (pthread_create(&threads[i], NULL, load, &numbers[i]) != 0)
                        _exit(1);
        }
        for (unsigned i = 0; i < NR_THREADS; i++)
                pthread_join(threads[i], NULL);
        _exit(0);
}

/* ---- the server ---- */

static void *stop(void *server)
{
        const struct timespec nap = {.tv_nsec = LOAD_NS};

        nanosleep(&nap, NULL);
        fuse_server_stop(server);
        return NULL;
}

static void serve(struct uext4_fs *fs)
{
        const struct fuse_server_options options = {
                .mountpoint = at, .default_permissions = true, .nr_threads = 2};
        struct fuse_server *server;
        int ret = fuse_server_new(fs, &options, &server), status;
        pthread_t stopper;
        pid_t pid;

        if (ret < 0)
                complain("a server", ret);
        pid = fork();
        if (pid == 0)
                child();
        if (pid < 0 || pthread_create(&stopper, NULL, stop, server) != 0)
                complain("a child, and a thread", pid);
        alarm(SECONDS);
        ret = fuse_server_run(server);
        if (ret < 0)
                complain("serving", ret);
        pthread_join(stopper, NULL);
        fuse_server_free(server);
        if (waitpid(pid, &status, 0) != pid || status != 0)
                complain("the child", status);
        alarm(0);
}

/* ---- all ---- */

static void say_nothing(void *arg, int level, const char *text)
{
}

static void make_file(struct uext4_fs *fs)
{
        struct uext4_inode *root, *inode;
        struct uext4_file *file;

        if (uext4_inode_get(fs, UEXT4_ROOT_INO, 0, &root) < 0 ||
            uext4_create(root, "f", 1, 0600, &inode) < 0 ||
            uext4_open(inode, O_RDWR, &file) < 0 ||
            uext4_truncate(file, (uint64_t)NR_PAGES * PAGE) < 0)
                complain("a file in the image", 0);
        uext4_close(file);
        uext4_inode_put(inode);
        uext4_inode_put(root);
}

int main(int argc, char **argv)
{
        const struct uext4_mount_params params = {"rw", say_nothing, NULL};
        const char *all = getenv("UEXT4_LONG");
        const unsigned long rounds = argc > 1                       ? strtoul(argv[1], NULL, 0)
                                     : all && strcmp(all, "1") == 0 ? 300
                                                                    : 10;
        char *image = calloc(1, SIZE), *text, dir[250];
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        int status;

        if (!host_has_fuse()) {
                puts("skipped: nothing can be mounted here");
                return SKIPPED;
        }
        signal(SIGALRM, on_alarm);
        host_new_directory(dir, sizeof(dir));
        snprintf(at, sizeof(at), "%s/at", dir);
        if (!image || mkdir(at, 0700) < 0)
                complain("memory, and a directory", 0);
        host_make_image(image, SIZE, fs_options);
        if (uext4_bdev_open_buffer(image, SIZE, 0, &dev) < 0 ||
            uext4_mount_bdev(dev, &params, &fs) < 0)
                complain("a file system", 0);
        make_file(fs);
        for (unsigned long i = 0; i < rounds; i++)
                serve(fs);
        if (uext4_unmount(fs) < 0)
                complain("something was not given back", 0);
        uext4_bdev_close(dev);
        text = host_fsck(image, SIZE, NULL, &status);
        if (status != 0)
                complain(text, status);
        free(text);
        free(image);
        printf("stopped %lu times\n", rounds);
        return 0;
}
