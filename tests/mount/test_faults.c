/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A mount on a device that fails: the Nth request of its whole life, alone or with all that
 * follow, for each N.
 *
 * A child writes, renames, fsyncs and unmounts by system calls, and says what it knows to be
 * durable; this process is the server.  Whatever fails, the server ends with the mount and
 * gives everything back; nobody hangs (an alarm); errors are EIO, or EROFS when the journal is
 * aborted; and the next mount of the image, without faults, has what the child knows and leaves
 * what e2fsck is content with.
 *
 *      test_faults [STEP]         every STEPth N; 1 with UEXT4_LONG
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../lib/host.h"
#include "fuse/server.h"

#define SIZE         ((size_t)8 << 20)
#define LEN          ((size_t)96 << 10)
#define NR_FILES     4
#define SECONDS      120 /* of one run: more is a hang */
#define SKIPPED      77
#define ALL_REQUESTS 0x1fu

static const char fs_options[] =
        "-b 1024 -I 256 -N 64 -J size=1 -O "
        "none,has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum,"
        "filetype,sparse_super,large_file";

/* What the child tells: of each file the byte that its contents are known to have, 0 nothing.
 */
struct known {
        char byte[NR_FILES];
        bool is_moved; /* all are in the directory */
        int bad_errno; /* an error that should not be, */
        int line;      /* and where */
};

struct run {
        char *image;
        uint64_t fails; /* the request; 0: none does */
        bool sticky;
        enum fuse_cache cache;
        char at[256];
        uint64_t nr_requests, nr_hits;
        struct known *known; /* shared with the child */
};

static _Noreturn void complain(const struct run *r, const char *what, long long got)
{
        fprintf(stderr, "request %llu fails%s, cache %d: %s (%lld)\n",
                (unsigned long long)r->fails, r->sticky ? ", and all behind it" : "",
                (int)r->cache, what, got);
        exit(1);
}

/* ---- the child ---- */

/* True when it went well; an error must be one of those that a failing device gives. */
static bool is_fine(struct known *known, int64_t ret, int line)
{
        if (ret >= 0)
                return true;
        if (errno != EIO && errno != EROFS && known->bad_errno == 0) {
                known->bad_errno = errno;
                known->line = line;
        }
        return false;
}

#define FINE(known, call) is_fine((known), (call), __LINE__)

static void name_of(char *name, size_t size, unsigned file, bool is_moved)
{
        snprintf(name, size, "%sf%u", is_moved ? "d/" : "", file);
}

static bool write_all(struct known *known, int fd, char byte)
{
        static _Alignas(4096) char data[LEN];
        size_t done = 0;

        memset(data, byte, LEN);
        while (done < LEN) {
                int64_t n = pwrite(fd, data + done, LEN - done, (off_t)done);

                if (!FINE(known, n))
                        return false;
                done += (size_t)n;
        }
        return true;
}

/* Written and fsynced; from the first byte on until fsync has succeeded nothing is known. */
static void fill_file(struct known *known, int root, unsigned file, char byte, bool is_moved)
{
        const int flags = O_RDWR | O_CREAT | (file % 2 ? O_DIRECT : 0);
        char name[16];
        bool ok;
        int fd;

        name_of(name, sizeof(name), file, is_moved);
        fd = openat(root, name, flags, 0600);
        if (!FINE(known, fd))
                return;
        known->byte[file] = 0;
        ok = write_all(known, fd, byte);
        if (file == 2)
                ok = FINE(known, fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4 * LEN)) && ok;
        if (FINE(known, fsync(fd)) && ok)
                known->byte[file] = byte;
        close(fd);
}

static void move_all(struct known *known, int root)
{
        char from[16], to[16];
        bool ok = FINE(known, mkdirat(root, "d", 0700));
        int fd;

        if (!ok)
                return;
        for (unsigned i = 0; i < NR_FILES; i++) {
                name_of(from, sizeof(from), i, false);
                name_of(to, sizeof(to), i, true);
                /* One that could not be made is not there. */
                if (faccessat(root, from, F_OK, 0) == 0)
                        ok = FINE(known, renameat(root, from, root, to)) && ok;
        }
        fd = openat(root, "d", O_RDONLY | O_DIRECTORY);
        if (ok && FINE(known, fd) && FINE(known, fsync(fd)))
                known->is_moved = true;
        if (fd >= 0)
                close(fd);
}

/* Anything may come of these; they must end, and not with nonsense. */
static void do_this_and_that(struct known *known, int root, const char *at)
{
        char path[300];
        struct stat st;
        int fd = openat(root, "t", O_RDWR | O_CREAT, 0600);

        snprintf(path, sizeof(path), "%s/t", at);
        if (FINE(known, fd)) {
                FINE(known, setxattr(path, "user.a", "value", 5, 0));
                write_all(known, fd, 't');
                FINE(known, ftruncate(fd, 1000));
                FINE(known, fdatasync(fd));
                FINE(known, linkat(root, "t", root, "u", 0));
                FINE(known, fstatat(root, "t", &st, 0));
                close(fd);
        }
        if (faccessat(root, "t", F_OK, 0) == 0)
                FINE(known, unlinkat(root, "t", 0));
}

static void unmount_it(const struct run *r)
{
        char command[300];

        snprintf(command, sizeof(command), "fusermount3 -u %s", r->at);
        if (geteuid() == 0 ? umount2(r->at, 0) : system(command))
                _exit(3);
}

static void child(const struct run *r)
{
        int root;

        closefrom(3); /* the server's channels: else it would not see the end */
        root = open(r->at, O_RDONLY | O_DIRECTORY);
        if (FINE(r->known, root)) {
                for (unsigned i = 0; i < NR_FILES; i++)
                        fill_file(r->known, root, i, 'a', false);
                move_all(r->known, root);
                do_this_and_that(r->known, root, r->at);
                for (unsigned i = 0; r->known->is_moved && i < NR_FILES; i += 2)
                        fill_file(r->known, root, i, 'b', true);
                close(root);
        }
        unmount_it(r);
        _exit(0);
}

/* ---- the server ---- */

static void say_nothing(void *arg, int level, const char *text)
{
}

static void serve(struct run *r, struct uext4_fs *fs)
{
        const struct fuse_server_options options = {.mountpoint = r->at,
                                                    .cache = r->cache,
                                                    .default_permissions = true,
                                                    .nr_threads = 4};
        struct fuse_server *server;
        int ret = fuse_server_new(fs, &options, &server), status = 0;
        pid_t pid;

        if (ret < 0)
                complain(r, "a server", ret);
        pid = fork();
        if (pid == 0)
                child(r);
        ret = fuse_server_run(server);
        if (ret < 0)
                complain(r, "serving", ret);
        fuse_server_free(server);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
                complain(r, "the child", status);
        if (r->known->bad_errno)
                complain(r, strerror(r->known->bad_errno), r->known->line);
}

static struct uext4_bdev *open_device(struct run *r, struct uext4_bdev **ret_fault)
{
        const struct uext4_bdev_fault rule = {.ops = ALL_REQUESTS,
                                              .skip = r->fails - 1,
                                              .count = r->sticky ? 0 : 1,
                                              .error = -EIO};
        struct uext4_bdev *buffer, *trace;

        if (uext4_bdev_open_buffer(r->image, SIZE, 0, &buffer) < 0 ||
            uext4_bdev_open_fault(buffer, ret_fault) < 0 ||
            uext4_bdev_open_trace(*ret_fault, 0, &trace) < 0 ||
            (r->fails && uext4_bdev_fault_add(*ret_fault, &rule) < 0))
                complain(r, "devices", 0);
        return trace;
}

static void live(struct run *r)
{
        const struct uext4_mount_params params = {"rw", say_nothing, NULL};
        struct uext4_bdev *fault, *dev = open_device(r, &fault);
        struct uext4_bdev_counts counts;
        struct uext4_fs *fs;

        memset(r->known, 0, sizeof(*r->known));
        alarm(SECONDS);
        if (uext4_mount_bdev(dev, &params, &fs) == 0) {
                serve(r, fs);
                if (uext4_unmount(fs) == -EBUSY)
                        complain(r, "something was not given back", 0);
        }
        uext4_bdev_trace_counts(dev, &counts);
        r->nr_requests = 0;
        for (unsigned i = 0; i < UEXT4_BDEV_NR_OPS; i++)
                r->nr_requests += counts.requests[i];
        r->nr_hits = uext4_bdev_fault_hits(fault);
        uext4_bdev_close(dev);
}

/* ---- what is left ---- */

static void check_file(const struct run *r, struct uext4_fs *fs, unsigned i)
{
        static char data[LEN + 1];
        char path[16] = "/", elsewhere[16] = "/";
        struct uext4_file *file;
        int ret;

        name_of(path + 1, sizeof(path) - 1, i, r->known->is_moved);
        name_of(elsewhere + 1, sizeof(elsewhere) - 1, i, true);
        ret = uext4_open_path(fs, path, O_RDONLY, &file);
        if (ret == -ENOENT && !r->known->is_moved)
                ret = uext4_open_path(fs, elsewhere, O_RDONLY, &file);
        if (ret < 0)
                complain(r, "a file that was fsynced", ret);
        if (uext4_pread(file, data, sizeof(data), 0) != (ssize_t)LEN)
                complain(r, "its length", i);
        for (size_t k = 0; k < LEN; k++) {
                if (data[k] != r->known->byte[i])
                        complain(r, "its contents", (long long)k);
        }
        uext4_close(file);
}

static void look(const struct run *r)
{
        const struct uext4_mount_params params = {"rw", say_nothing, NULL};
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        char *text;
        int status, ret;

        if (uext4_bdev_open_buffer(r->image, SIZE, 0, &dev) < 0)
                complain(r, "a device", 0);
        ret = uext4_mount_bdev(dev, &params, &fs);
        if (ret < 0)
                complain(r, "the next mount", ret);
        for (unsigned i = 0; i < NR_FILES; i++) {
                if (r->known->byte[i])
                        check_file(r, fs, i);
        }
        ret = uext4_unmount(fs);
        if (ret < 0)
                complain(r, "unmounting it", ret);
        uext4_bdev_close(dev);
        text = host_fsck(r->image, SIZE, NULL, &status);
        if (status != 0) {
                fputs(text, stderr);
                complain(r, "e2fsck", status);
        }
        free(text);
}

/* ---- all ---- */

static void sweep(struct run *r, const char *fresh, uint64_t step)
{
        uint64_t nr, nr_runs = 0, nr_hits = 0;

        r->fails = 0;
        memcpy(r->image, fresh, SIZE);
        live(r);
        nr = r->nr_requests;
        if (!r->known->is_moved || r->known->byte[0] != 'b' || r->known->byte[1] != 'a')
                complain(r, "a run without faults", r->known->byte[0]);
        look(r);
        for (r->fails = 1; r->fails <= nr; r->fails += step) {
                r->sticky = !r->sticky;
                for (unsigned i = 0; i < (step == 1 ? 2 : 1); i++) {
                        r->sticky = !r->sticky;
                        memcpy(r->image, fresh, SIZE);
                        live(r);
                        look(r);
                        nr_runs++;
                        nr_hits += r->nr_hits > 0;
                }
        }
        printf("cache %d: %llu requests, %llu runs, %llu with a fault\n", (int)r->cache,
               (unsigned long long)nr, (unsigned long long)nr_runs,
               (unsigned long long)nr_hits);
        if (nr_hits * 2 < nr_runs)
                complain(r, "hardly any fault was met", (long long)nr_hits);
}

int main(int argc, char **argv)
{
        const char *all = getenv("UEXT4_LONG");
        const bool is_long = all && strcmp(all, "1") == 0;
        struct run r = {.image = calloc(1, SIZE)};
        char *fresh = calloc(1, SIZE);
        char dir[250];
        uint64_t step = argc > 1 ? strtoull(argv[1], NULL, 0) : is_long ? 1 : 7;

        if (!host_has_fuse()) {
                puts("skipped: nothing can be mounted here");
                return SKIPPED;
        }
        r.known = mmap(NULL, sizeof(*r.known), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        host_new_directory(dir, sizeof(dir));
        snprintf(r.at, sizeof(r.at), "%s/at", dir);
        if (!fresh || !r.image || r.known == MAP_FAILED || mkdir(r.at, 0700) < 0)
                return 1;
        host_make_image(fresh, SIZE, fs_options);
        for (int cache = 0; cache < 3; cache++) {
                r.cache = (enum fuse_cache)cache;
                sweep(&r, fresh, step);
        }
        munmap(r.known, sizeof(*r.known));
        free(fresh);
        free(r.image);
        return 0;
}
