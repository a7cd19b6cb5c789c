/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define PAGE ((size_t)4096)
#define HUGE ((uintptr_t)2 << 20)

const char *host_tmp_dir(void)
{
        const char *dir = getenv("TMPDIR");

        if (dir && *dir)
                return dir;
        return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

/* ---- files ---- */

static void write_all(int fd, const char *data, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = pwrite(fd, data + done, size - done, (off_t)done);

                T_CHECK(n > 0);
                done += (size_t)n;
        }
}

struct host_file host_file_new(const void *data, size_t size)
{
        struct host_file f = {.fd = memfd_create("test", MFD_CLOEXEC)};

        T_CHECK(f.fd >= 0 && ftruncate(f.fd, (off_t)size) == 0);
        if (data)
                write_all(f.fd, data, size);
        snprintf(f.path, sizeof(f.path), "/proc/%d/fd/%d", (int)getpid(), f.fd);
        return f;
}

void host_file_close(struct host_file *f)
{
        close(f->fd);
}

void host_file_read(const struct host_file *f, void *data, size_t size)
{
        off_t pos = 0, end;

        while ((pos = lseek(f->fd, pos, SEEK_DATA)) >= 0 && (size_t)pos < size) {
                end = lseek(f->fd, pos, SEEK_HOLE);
                T_CHECK(end > pos);
                end = (size_t)end < size ? end : (off_t)size;
                while (pos < end) {
                        ssize_t n = pread(f->fd, (char *)data + pos, (size_t)(end - pos), pos);

                        T_CHECK(n > 0);
                        pos += n;
                }
        }
}

void host_make_fs(const char *path, const char *options)
{
        char command[4096];

        snprintf(command, sizeof(command),
                 "MKE2FS_CONFIG=/dev/null mke2fs -q -F %s %s >/dev/null 2>&1", options, path);
        T_CHECK(system(command) == 0);
}

void host_make_image(void *image, size_t size, const char *options)
{
        struct host_file f = host_file_new(NULL, size);

        host_make_fs(f.path, options);
        host_file_read(&f, image, size);
        host_file_close(&f);
}

/* ---- the one for images ---- */

/* What was never written is a hole: to read it by way of the mapping would make pages of it. */
static struct image_file {
        pthread_mutex_t lock; /* of all of this, and while a program reads */
        struct host_file f;
        size_t size, nr_pages; /* nr_pages: of the mapping */
        char *map;             /* NULL: there is none yet */
        bool *is_written;      /* of each page */
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void forget(void)
{
        if (!shared.map)
                return;
        munmap(shared.map, shared.nr_pages * PAGE);
        host_file_close(&shared.f);
        free(shared.is_written);
}

static void make_file(size_t size)
{
        forget();
        shared.f = host_file_new(NULL, size);
        shared.size = size;
        shared.nr_pages = (size + PAGE - 1) / PAGE;
        shared.map = mmap(NULL, shared.nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
                          shared.f.fd, 0);
        T_CHECK(shared.map != MAP_FAILED);
        shared.is_written = calloc(shared.nr_pages, sizeof(*shared.is_written));
        T_CHECK(shared.is_written);
}

/*
 * Neither of the two is anybody else's at this time, and what the sanitizers would look at is
 * each byte of the image for each call.
 */
__attribute__((no_sanitize("address", "thread"))) static bool is_same(const char *a,
                                                                      const char *b, size_t len)
{
        const uint64_t *one = (const void *)a, *two = (const void *)b;
        uint64_t differs = 0;

        for (size_t i = 0; i < len / sizeof(*one); i++)
                differs |= one[i] ^ (two ? two[i] : 0);
        return differs == 0;
}

static void update(const char *image)
{
        for (size_t i = 0; i < shared.nr_pages; i++) {
                const char *from = image + i * PAGE;
                char *to = shared.map + i * PAGE;
                const size_t left = shared.size - i * PAGE, len = left < PAGE ? left : PAGE;

                if (len % 8 == 0 && is_same(from, shared.is_written[i] ? to : NULL, len))
                        continue;
                memcpy(to, from, len);
                shared.is_written[i] = true;
        }
}

static const char *path_locked(const void *image, size_t size)
{
        if (!shared.map || shared.size != size)
                make_file(size);
        update(image);
        return shared.f.path;
}

const char *host_path(const void *image, size_t size)
{
        const char *path;

        pthread_mutex_lock(&shared.lock);
        path = path_locked(image, size);
        pthread_mutex_unlock(&shared.lock);
        return path;
}

/* ---- e2fsck ---- */

/* All that comes from there, and a zero. */
static char *read_all(int fd)
{
        size_t room = 8192, used = 0;
        char *text = malloc(room);
        ssize_t n;

        T_CHECK(text);
        while ((n = read(fd, text + used, room - 1 - used)) > 0) {
                used += (size_t)n;
                if (used == room - 1) {
                        room *= 2;
                        text = realloc(text, room);
                        T_CHECK(text);
                }
        }
        text[used] = '\0';
        return text;
}

/* Without a shell between: that would take a third of the time. */
static char *run(char *const argv[], int *ret_status)
{
        extern char **environ;
        posix_spawn_file_actions_t actions;
        int fds[2];
        pid_t pid;
        char *text;

        T_CHECK(pipe(fds) == 0);
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
        posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
        posix_spawn_file_actions_addclose(&actions, fds[0]);
        posix_spawn_file_actions_addclose(&actions, fds[1]);
        T_CHECK(posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) == 0);
        posix_spawn_file_actions_destroy(&actions);
        close(fds[1]);
        text = read_all(fds[0]);
        close(fds[0]);
        T_CHECK(waitpid(pid, ret_status, 0) == pid);
        *ret_status = WIFEXITED(*ret_status) ? WEXITSTATUS(*ret_status) : 255;
        return text;
}

char *host_fsck(const void *image, size_t size, const char *argument, int *ret_status)
{
        char program[] = "e2fsck", how[] = "-fn", more[64], path[sizeof(shared.f.path)];
        char *argv[] = {program, how, path, NULL, NULL};
        char *text;

        if (argument) {
                snprintf(more, sizeof(more), "%s", argument);
                argv[2] = more;
                argv[3] = path;
        }
        pthread_mutex_lock(&shared.lock);
        snprintf(path, sizeof(path), "%s", path_locked(image, size));
        text = run(argv, ret_status);
        pthread_mutex_unlock(&shared.lock);
        return text;
}

char *host_repair(void *image, size_t size, int *ret_status)
{
        struct host_file f = host_file_new(image, size);
        char program[] = "e2fsck", how[] = "-fy";
        char *const argv[] = {program, how, f.path, NULL};
        char *text = run(argv, ret_status);

        memset(image, 0, size);
        host_file_read(&f, image, size);
        host_file_close(&f);
        return text;
}

/* ---- directories ---- */

void host_new_directory(char *path, size_t size)
{
        char command[1024];
        int status = 0;
        pid_t pid;

        snprintf(path, size, "%s/uext4-XXXXXX", host_tmp_dir());
        T_CHECK(mkdtemp(path));
        signal(SIGTERM, SIG_IGN); /* for all of a test: the child ends of it */
        pid = fork();
        T_CHECK(pid >= 0);
        if (pid == 0) {
                signal(SIGTERM, SIG_DFL);
                return;
        }
        T_CHECK(waitpid(pid, &status, 0) == pid);
        snprintf(command, sizeof(command),
                 "for at in %s/*; do umount -l $at || fusermount3 -uz $at; done 2>/dev/null; "
                 "rm -r --one-file-system %s",
                 path, path);
        (void)!system(command);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

bool host_has_fuse(void)
{
        return access("/dev/fuse", R_OK | W_OK) == 0 &&
               (geteuid() == 0 || system("fusermount3 -V >/dev/null 2>&1") == 0);
}

/* ---- mounts by the kernel ---- */

/* On a directory, and taken away from there at once. */
static bool mount_there(struct host_mount *m, const char *file, const char *at,
                        const char *options)
{
        char command[1024];
        bool is_mounted;

        snprintf(command, sizeof(command), "mount -t ext4 -o loop,%s %s %s >/dev/null 2>&1",
                 options, file, at);
        is_mounted = system(command) == 0;
        if (is_mounted) {
                m->fd = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                T_CHECK(umount2(at, MNT_DETACH) == 0 && m->fd >= 0);
                snprintf(m->path, sizeof(m->path), "/proc/self/fd/%d", m->fd);
        }
        return is_mounted;
}

bool host_mount(struct host_mount *m, const void *image, size_t size, const char *options)
{
        char dir[256], file[300], at[300];
        bool is_mounted;

        if (geteuid() != 0)
                return false;
        snprintf(dir, sizeof(dir), "%s/uext4-loop-XXXXXX", host_tmp_dir());
        T_CHECK(mkdtemp(dir));
        snprintf(file, sizeof(file), "%s/image", dir);
        snprintf(at, sizeof(at), "%s/at", dir);
        m->image = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        T_CHECK(m->image >= 0 && mkdir(at, 0700) == 0);
        write_all(m->image, image, size);
        is_mounted = mount_there(m, file, at, options);
        T_CHECK(rmdir(at) == 0 && unlink(file) == 0 && rmdir(dir) == 0);
        if (!is_mounted)
                close(m->image);
        return is_mounted;
}

void host_umount(struct host_mount *m, void *image, size_t size)
{
        close(m->fd);
        T_CHECK(pread(m->image, image, size, 0) == (ssize_t)size);
        close(m->image);
}

/* ---- large pages ---- */

/*
 * Tests hold whole devices in memory and copy them for each power cut, and the sanitizers map
 * every large piece afresh: its page faults take much of the time.  They call this hook for
 * each piece before anybody has touched it.  Without a sanitizer nothing calls it; then the C
 * library does the same where GLIBC_TUNABLES says so (scripts/check).
 */
void __sanitizer_malloc_hook(const volatile void *ptr, size_t size);

void __sanitizer_malloc_hook(const volatile void *ptr, size_t size)
{
        const uintptr_t start = ((uintptr_t)ptr + HUGE - 1) & ~(HUGE - 1);
        const uintptr_t end = ((uintptr_t)ptr + size) & ~(HUGE - 1);

        /* Where it does not work nothing is lost but time. */
        if (start < end)
                (void)madvise((void *)start, end - start, MADV_HUGEPAGE);
}
