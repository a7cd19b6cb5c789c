/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host.h"

#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

void host_read(int fd, void *data, size_t size)
{
        off_t pos = 0, end;

        while ((pos = lseek(fd, pos, SEEK_DATA)) >= 0 && (size_t)pos < size) {
                end = lseek(fd, pos, SEEK_HOLE);
                T_CHECK(end > pos);
                end = (size_t)end < size ? end : (off_t)size;
                while (pos < end) {
                        ssize_t n = pread(fd, (char *)data + pos, (size_t)(end - pos), pos);

                        T_CHECK(n > 0);
                        pos += n;
                }
        }
}

/* ---- the file ---- */

/*
 * It lives as long as the process and is in no directory.  What was never written is a hole: to
 * read it by way of the mapping would make pages of it.
 */
static struct file {
        pthread_mutex_t lock; /* of all of this, and while a program reads */
        int fd;
        size_t size, nr_pages; /* nr_pages: of the mapping */
        char *map;
        bool *is_written; /* of each page */
        char path[64];
} file = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

static void forget(void)
{
        if (file.map)
                munmap(file.map, file.nr_pages * PAGE);
        if (file.fd >= 0)
                close(file.fd);
        free(file.is_written);
        file.map = NULL;
        file.is_written = NULL;
}

static void make_file(size_t size)
{
        forget();
        file.fd = memfd_create("image", MFD_CLOEXEC);
        T_CHECK(file.fd >= 0 && ftruncate(file.fd, (off_t)size) == 0);
        file.size = size;
        file.nr_pages = (size + PAGE - 1) / PAGE;
        file.map = mmap(NULL, file.nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd,
                        0);
        T_CHECK(file.map != MAP_FAILED);
        file.is_written = calloc(file.nr_pages, sizeof(*file.is_written));
        T_CHECK(file.is_written);
        snprintf(file.path, sizeof(file.path), "/proc/%d/fd/%d", (int)getpid(), file.fd);
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
        for (size_t i = 0; i < file.nr_pages; i++) {
                const char *from = image + i * PAGE;
                char *to = file.map + i * PAGE;
                const size_t left = file.size - i * PAGE, len = left < PAGE ? left : PAGE;

                if (len % 8 == 0 && is_same(from, file.is_written[i] ? to : NULL, len))
                        continue;
                memcpy(to, from, len);
                file.is_written[i] = true;
        }
}

static const char *path_locked(const void *image, size_t size)
{
        if (file.fd < 0 || file.size != size)
                make_file(size);
        update(image);
        return file.path;
}

const char *host_path(const void *image, size_t size)
{
        const char *path;

        pthread_mutex_lock(&file.lock);
        path = path_locked(image, size);
        pthread_mutex_unlock(&file.lock);
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
        char program[] = "e2fsck", how[] = "-fn", more[64], path[sizeof(file.path)];
        char *argv[] = {program, how, path, NULL, NULL};
        char *text;

        if (argument) {
                snprintf(more, sizeof(more), "%s", argument);
                argv[2] = more;
                argv[3] = path;
        }
        pthread_mutex_lock(&file.lock);
        snprintf(path, sizeof(path), "%s", path_locked(image, size));
        text = run(argv, ret_status);
        pthread_mutex_unlock(&file.lock);
        return text;
}

char *host_repair(void *image, size_t size, int *ret_status)
{
        char program[] = "e2fsck", how[] = "-fy", path[sizeof(file.path)];
        char *const argv[] = {program, how, path, NULL};
        int fd = memfd_create("repair", MFD_CLOEXEC);
        char *text;

        T_CHECK(fd >= 0 && pwrite(fd, image, size, 0) == (ssize_t)size);
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
        text = run(argv, ret_status);
        T_CHECK(pread(fd, image, size, 0) == (ssize_t)size);
        close(fd);
        return text;
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
