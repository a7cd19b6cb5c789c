/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_sandbox.c - what can be done in the sandbox, and what cannot.
 *
 * Each case runs in a child that has entered it, and ends with the errno of what it has tried.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/sandbox.h"

static int spare_fd; /* a file that is open before */

/* The errno of a call's result. */
static int error_of(long ret)
{
        return ret < 0 ? errno : 0;
}

/* ---- what is refused --------------------------------------------------------- */

static int try_open(void)
{
        return error_of(open("/etc/passwd", O_RDONLY));
}

static int try_make(void)
{
        return error_of(open("/tmp/uext4-sandbox-test", O_RDWR | O_CREAT, 0600));
}

static int try_unlink(void)
{
        return error_of(unlink("/tmp/uext4-sandbox-test"));
}

static int try_socket(void)
{
        return error_of(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_fork(void)
{
        pid_t pid = fork();

        if (pid == 0)
                _exit(0);
        return error_of(pid);
}

static int try_kill(void)
{
        return error_of(kill(getppid(), SIGKILL));
}

static int try_signal_to_init(void)
{
        return error_of(kill(1, SIGTERM));
}

static int try_executable_memory(void)
{
        void *map = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return map == MAP_FAILED ? errno : 0;
}

static int try_make_executable(void)
{
        void *map =
                mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return error_of(mprotect(map, 4096, PROT_READ | PROT_EXEC));
}

static int try_ring(void)
{
        char params[256] = {0};

        return error_of(syscall(SYS_io_uring_setup, 4, params));
}

static int try_ioctl(void)
{
        int n;

        return error_of(ioctl(spare_fd, FIONREAD, &n));
}

static int try_prctl(void)
{
        return error_of(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int try_owner(void)
{
        return error_of(fchown(spare_fd, 0, 0));
}

/* ---- what ends the process --------------------------------------------------- */

static int try_exec(void)
{
        char name[] = "true", *const argv[] = {name, NULL};

        return error_of(execv("/bin/true", argv));
}

static int try_trace(void)
{
        return error_of(syscall(SYS_ptrace, 0, 0, 0, 0));
}

static int try_foreign_memory(void)
{
        struct iovec iov = {&spare_fd, sizeof(spare_fd)};

        return error_of(process_vm_readv(getppid(), &iov, 1, &iov, 1, 0));
}

static int try_namespace(void)
{
        return error_of(syscall(SYS_unshare, 0));
}

/* ---- what is done ------------------------------------------------------------ */

static void *ends_by_itself(void *arg)
{
        pthread_exit(arg);
}

static void *waits(void *arg)
{
        sleep(1000);
        return NULL;
}

/* Threads start, end, and are cancelled as the workers of the server are. */
static int do_threads(void)
{
        pthread_t a, b;
        void *value;
        int ret = pthread_create(&a, NULL, ends_by_itself, &spare_fd);

        if (ret == 0)
                ret = pthread_join(a, &value);
        if (ret == 0 && value != &spare_fd)
                ret = ECHILD;
        if (ret == 0)
                ret = pthread_create(&b, NULL, waits, NULL);
        if (ret == 0)
                ret = pthread_cancel(b);
        return ret ? ret : pthread_join(b, NULL);
}

static int do_io(void)
{
        char buf[8192] = {1};
        struct iovec iov = {buf, sizeof(buf)};
        struct stat st;
        long ret = pwritev2(spare_fd, &iov, 1, 0, RWF_DSYNC);

        if (ret == sizeof(buf))
                ret = preadv2(spare_fd, &iov, 1, 0, 0);
        if (ret == sizeof(buf))
                ret = fallocate(spare_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
        if (ret == 0)
                ret = fdatasync(spare_fd);
        if (ret == 0)
                ret = fstat(spare_fd, &st);
        return error_of(ret);
}

static int do_memory(void)
{
        size_t size = 64u << 20;
        char *mem = malloc(size);

        if (!mem)
                return ENOMEM;
        memset(mem, 1, size);
        mem = realloc(mem, 2 * size);
        free(mem);
        return mem ? 0 : ENOMEM;
}

static int do_tell_the_monitor(void)
{
        return error_of(kill(getppid(), SIGTERM));
}

static int do_open_channel(void)
{
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

        return fd < 0 ? errno : error_of(close(fd));
}

/* ---- running them ------------------------------------------------------------- */

enum step {
        ENTERED,
        CLOSED,
};

static int in_sandbox(int (*what)(void), enum step step)
{
        const struct sandbox_params params = {.monitor = getppid()};
        const char *failed;

        if (sandbox_enter(&params, &failed) < 0)
                return ENOTRECOVERABLE;
        if (step == CLOSED && sandbox_close(&params) < 0)
                return ENOTRECOVERABLE;
        return what();
}

/* The errno that it ended with, or minus the signal. */
static int outcome(int (*what)(void), enum step step)
{
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(in_sandbox(what, step));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static const struct {
        const char *name;
        int (*what)(void);
        int entered, closed;
} cases[] = {
        {"open a file", try_open, EACCES, EPERM},
        {"make a file", try_make, EACCES, EPERM},
        {"remove a file", try_unlink, EPERM, EPERM},
        {"socket", try_socket, EPERM, EPERM},
        {"fork", try_fork, EPERM, EPERM},
        {"kill the monitor", try_kill, EPERM, EPERM},
        {"signal others", try_signal_to_init, EPERM, EPERM},
        {"map executable memory", try_executable_memory, EPERM, EPERM},
        {"make memory executable", try_make_executable, EPERM, EPERM},
        {"make a ring", try_ring, EPERM, EPERM},
        {"any ioctl", try_ioctl, EPERM, EPERM},
        {"any prctl", try_prctl, EPERM, EPERM},
        {"change an owner", try_owner, EPERM, EPERM},
        {"run a program", try_exec, -SIGSYS, -SIGSYS},
        {"trace", try_trace, -SIGSYS, -SIGSYS},
        {"read the memory of others", try_foreign_memory, -SIGSYS, -SIGSYS},
        {"enter a namespace", try_namespace, -SIGSYS, -SIGSYS},
        {"threads", do_threads, 0, 0},
        {"I/O", do_io, 0, 0},
        {"memory", do_memory, 0, 0},
        {"tell the monitor to stop", do_tell_the_monitor, 0, 0},
};

static bool has_landlock(void)
{
        return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >
               0;
}

static void test_cases(void **state)
{
        signal(SIGTERM, SIG_IGN); /* we are the monitor */
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                int entered = outcome(cases[i].what, ENTERED);
                int closed = outcome(cases[i].what, CLOSED);

                if (cases[i].entered == EACCES && !has_landlock())
                        entered = EACCES; /* nobody refuses it yet */
                if (entered != cases[i].entered || closed != cases[i].closed)
                        print_error("%s: %d and %d\n", cases[i].name, entered, closed);
                assert_int_equal(entered, cases[i].entered);
                assert_int_equal(closed, cases[i].closed);
        }
}

/* More channels may be opened until all is ready. */
static void test_channels(void **state)
{
        if (access("/dev/fuse", R_OK | W_OK) < 0)
                skip();
        assert_int_equal(outcome(do_open_channel, ENTERED), 0);
        assert_int_equal(outcome(do_open_channel, CLOSED), EPERM);
}

static bool has_status(pid_t pid, pid_t thread, const char *line)
{
        char path[64], text[256];
        bool found = false;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)thread);
        f = fopen(path, "re");
        assert_non_null(f);
        while (!found && fgets(text, sizeof(text), f))
                found = strncmp(text, line, strlen(line)) == 0;
        fclose(f);
        return found;
}

static void *tells_its_number(void *arg)
{
        const pid_t number = gettid();
        const int *fd = arg;

        (void)!write(*fd, &number, sizeof(number));
        return waits(NULL);
}

/* In a child: it tells the number of a thread that was there before, then that it is inside. */
static _Noreturn void stay_inside(int fd)
{
        pthread_t thread;
        int ret = prctl(PR_SET_PDEATHSIG, SIGKILL); /* if the test fails */

        if (ret == 0)
                ret = pthread_create(&thread, NULL, tells_its_number, &fd);

        if (ret == 0)
                ret = in_sandbox(do_memory, CLOSED);
        (void)!write(fd, &ret, sizeof(ret));
        sleep(1000);
        _exit(0);
}

/* What the kernel shows; the filter is of all threads, also of one that was there before. */
static void test_status(void **state)
{
        int answer[2], ready[2];
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                stay_inside(ready[1]);
        for (int i = 0; i < 2; i++)
                assert_int_equal(read(ready[0], &answer[i], sizeof(int)), sizeof(int));
        assert_true(has_status(pid, pid, "Seccomp:\t2\n"));
        assert_true(has_status(pid, pid, "NoNewPrivs:\t1\n"));
        assert_true(has_status(pid, pid, "CapEff:\t0000000000000000\n"));
        assert_true(has_status(pid, pid, "CapPrm:\t0000000000000000\n"));
        assert_true(has_status(pid, answer[0] ? answer[0] : answer[1], "Seccomp:\t2\n"));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(ready[0]);
        close(ready[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cases),
                cmocka_unit_test(test_channels),
                cmocka_unit_test(test_status),
        };
        const struct sandbox_params params = {.monitor = 0};
        const char *what = "this build";
        int status = 0;
        pid_t pid = fork();
        FILE *file = tmpfile();

        if (pid == 0)
                _exit(!sandbox_is_built() || sandbox_enter(&params, &what) < 0);
        if (pid < 0 || !file || waitpid(pid, &status, 0) < 0 || status != 0) {
                printf("no sandbox here\n");
                return 77;
        }
        spare_fd = fileno(file);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
