/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sandbox.c - Landlock, capabilities, seccomp (see sandbox.h).
 *
 * A call that is not on the list fails with EPERM, and the kernel logs it: a library that one
 * day uses a new call in a corner must not cost somebody the mount and what was not yet
 * written, and the call is not made either way.  What only a process in the wrong hands would
 * do, such as running a program, ends it.
 *
 * The list is that of the server's threads: I/O on what is open, memory that is not executable,
 * threads but no processes, signals to itself, and the control socket's clients.  Until all is
 * ready files can be opened, of which Landlock leaves /dev/fuse, for the channels of the
 * threads, and an external journal.  clone3(2), whose flags a filter cannot see, does not exist
 * here, so that the C library uses clone(2).  The server uses no io_uring, whose requests no
 * filter sees.
 */
#include "cli/sandbox.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <malloc.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(UEXT4_COVERAGE)
#define NEEDS_THE_HOUSE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define NEEDS_THE_HOUSE 1
#endif
#endif
#ifndef NEEDS_THE_HOUSE
#define NEEDS_THE_HOUSE 0
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

bool sandbox_is_built(void)
{
        return !NEEDS_THE_HOUSE && sizeof(long) == 8; /* others have calls of other names */
}

/* ---- files: Landlock ------------------------------------------------------- */

/* Of linux/landlock.h, which may be older than the kernel. */
struct ruleset {
        uint64_t files, network, scoped;
};

#define FILES_ABI_1   ((1u << 13) - 1)
#define FILE_REFER    (1u << 13) /* since ABI 2 */
#define FILE_TRUNCATE (1u << 14) /* 3 */
#define FILE_IOCTL    (1u << 15) /* 5 */
#define NETWORK_TCP   3u         /* 4: bind and connect */
#define SCOPED_SOCKET 1u         /* 6: connecting to abstract sockets of others */

static struct ruleset ruleset_of(int abi)
{
        struct ruleset set = {.files = FILES_ABI_1};

        set.files |= abi >= 2 ? FILE_REFER : 0;
        set.files |= abi >= 3 ? FILE_TRUNCATE : 0;
        set.files |= abi >= 5 ? FILE_IOCTL : 0;
        set.network = abi >= 4 ? NETWORK_TCP : 0;
        set.scoped = abi >= 6 ? SCOPED_SOCKET : 0;
        return set;
}

static size_t ruleset_size(int abi)
{
        if (abi < 4)
                return offsetof(struct ruleset, network);
        return abi < 6 ? offsetof(struct ruleset, scoped) : sizeof(struct ruleset);
}

/* What is not there needs no permission. */
static int allow_path(int ruleset, const char *path, uint64_t access)
{
        struct landlock_path_beneath_attr rule = {.allowed_access = access};
        long ret;

        rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
        if (rule.parent_fd < 0)
                return 0;
        ret = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
        close(rule.parent_fd);
        return ret < 0 ? -errno : 0;
}

/* The path in a URI of the library. */
static const char *path_of(const char *uri)
{
        if (strncmp(uri, "file:", 5) == 0 || strncmp(uri, "mmap:", 5) == 0)
                return uri + 5;
        return uri;
}

static int add_rules(int ruleset, const struct sandbox_params *p, uint64_t files)
{
        const uint64_t device = files & (LANDLOCK_ACCESS_FS_READ_FILE |
                                         LANDLOCK_ACCESS_FS_WRITE_FILE | FILE_IOCTL);
        int ret = allow_path(ruleset, "/dev/fuse", device);

        if (ret == 0 && p->journal)
                ret = allow_path(ruleset, path_of(p->journal), device);
        if (ret == 0 && p->reads_proc)
                ret = allow_path(ruleset, "/proc", LANDLOCK_ACCESS_FS_READ_FILE);
        return ret;
}

/* 1: done; 0: this kernel has no Landlock. */
static int close_files(const struct sandbox_params *p)
{
        int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
                               LANDLOCK_CREATE_RULESET_VERSION);
        struct ruleset set = ruleset_of(abi);
        int fd, ret;

        if (abi < 1)
                return 0;
        fd = (int)syscall(SYS_landlock_create_ruleset, &set, ruleset_size(abi), 0);
        if (fd < 0)
                return -errno;
        ret = add_rules(fd, p, set.files);
        if (ret == 0 && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
                ret = -errno;
        close(fd);
        return ret < 0 ? ret : 1;
}

/* ---- privileges ------------------------------------------------------------ */

/* No capability comes back through running a program as root either. */
static void drop_bounds(void)
{
        for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
                (void)prctl(PR_CAPBSET_DROP,
                            cap); /* fails without CAP_SETPCAP: then so be it */
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

static int drop_privileges(void)
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

        drop_bounds();
        return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

/* ---- system calls: seccomp ------------------------------------------------- */

static const char *const allowed[] = {
        /* I/O on what is open */
        "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek",
        "openat fsync fdatasync sync_file_range fallocate fcntl flock close fstat newfstatat "
        "statx",
        "eventfd2 poll ppoll dup2 dup3 chdir setsid",
        /* the control socket's clients, and the log */
        "accept4 getsockopt recvfrom recvmsg sendto sendmsg",
        /* memory */
        "brk munmap mremap madvise msync mincore membarrier",
        /* threads and time */
        "futex set_robust_list rseq sched_yield sched_getaffinity getcpu exit exit_group "
        "gettid",
        "getpid getppid nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time",
        "getrandom restart_syscall sysinfo",
        /* signals, and who we are */
        "rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack getuid geteuid getgid getegid",
        /* more of this sandbox; it can only become narrower */
        "seccomp",
};

/* Nobody calls these in good faith. */
static const char *const deadly[] = {
        "execve execveat ptrace process_vm_readv process_vm_writev pidfd_getfd bpf mount setns",
        "unshare init_module finit_module kexec_load",
};

/* FUSE_DEV_IOC_CLONE of linux/fuse.h, which has no place of its own in C libraries. */
#define FUSE_CLONE _IOR(229, 0, uint32_t)

static const unsigned long ioctls[] = {
        FUSE_CLONE, BLKDISCARD, BLKZEROOUT, BLKSSZGET, BLKGETSIZE64, BLKROGET,
};

/* The call's number, or what is no call on this machine. */
static bool find_call(const char *name, int *ret_nr)
{
        *ret_nr = seccomp_syscall_resolve_name(name);
        return *ret_nr >= 0;
}

static int add_word(scmp_filter_ctx ctx, uint32_t action, const char *word, size_t len)
{
        char name[32];
        int call;

        if (len >= sizeof(name))
                return -EINVAL;
        memcpy(name, word, len);
        name[len] = '\0';
        return find_call(name, &call) ? seccomp_rule_add(ctx, action, call, 0) : 0;
}

static int add_list(scmp_filter_ctx ctx, uint32_t action, const char *const *lines, size_t nr)
{
        int ret = 0;

        for (size_t i = 0; i < nr; i++) {
                for (const char *at = lines[i]; *at && ret == 0; at += strspn(at, " ")) {
                        size_t len = strcspn(at, " ");

                        ret = add_word(ctx, action, at, len);
                        at += len;
                }
        }
        return ret;
}

/* Allow a call where an argument, masked, has a value. */
static int allow_if(scmp_filter_ctx ctx, const char *name, unsigned arg, uint64_t mask,
                    uint64_t value)
{
        int call;

        if (!find_call(name, &call))
                return 0;
        return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1,
                                SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, mask, value));
}

static int add_ioctls(scmp_filter_ctx ctx)
{
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < ARRAY_LEN(ioctls); i++)
                ret = allow_if(ctx, "ioctl", 1, UINT32_MAX, ioctls[i]);
        return ret;
}

/* Signals to our own threads, as abort() sends; and to the monitor, which then unmounts. */
static int add_signals(scmp_filter_ctx ctx, pid_t monitor)
{
        int ret = allow_if(ctx, "tgkill", 0, UINT32_MAX, (uint32_t)getpid());

        if (ret < 0 || monitor <= 0)
                return ret;
        return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(kill), 2,
                                SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)monitor),
                                SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, SIGTERM));
}

static int add_rules_of_calls(scmp_filter_ctx ctx, pid_t monitor)
{
        int ret = add_list(ctx, SCMP_ACT_ALLOW, allowed, ARRAY_LEN(allowed));

        if (ret == 0)
                ret = add_list(ctx, SCMP_ACT_KILL_PROCESS, deadly, ARRAY_LEN(deadly));
        if (ret == 0)
                ret = allow_if(ctx, "mmap", 2, PROT_EXEC, 0);
        if (ret == 0)
                ret = allow_if(ctx, "mprotect", 2, PROT_EXEC, 0);
        if (ret == 0)
                ret = allow_if(ctx, "clone", 0, CLONE_THREAD, CLONE_THREAD);
        if (ret == 0) /* that is for hide_clone3() */
                ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone3), 0);
        if (ret == 0)
                ret = allow_if(ctx, "prctl", 0, UINT32_MAX, PR_SET_NAME);
        if (ret == 0)
                ret = add_ioctls(ctx);
        if (ret == 0)
                ret = add_signals(ctx, monitor);
        return ret;
}

enum logging {
        LOG_NOTHING,
        LOG_REFUSED,
};

/* Of all threads. */
static int load(scmp_filter_ctx ctx, enum logging logging)
{
        int ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);

        if (ret == 0)
                ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_LOG, logging == LOG_REFUSED);
        if (ret == 0)
                ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0); /* it is set */
        (void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, if it knows how */
        return ret < 0 ? ret : seccomp_load(ctx);
}

/* A filter of its own: that the C library tries is nothing for the log. */
static int hide_clone3(void)
{
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        int ret;

        if (!ctx)
                return -ENOMEM;
        ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
        if (ret == 0)
                ret = load(ctx, LOG_NOTHING);
        seccomp_release(ctx);
        return ret;
}

static int filter_calls(pid_t monitor)
{
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        int ret;

        if (!ctx)
                return -ENOMEM;
        ret = add_rules_of_calls(ctx, monitor);
        if (ret == 0)
                ret = load(ctx, LOG_REFUSED);
        seccomp_release(ctx);
        return ret;
}

/* ---- the steps -------------------------------------------------------------- */

/* What is read from files when it is first needed, and could not be later. */
static void load_late_comers(void)
{
        tzset();
        mallopt(M_ARENA_MAX, 8 * get_nprocs());                /* as it would find out itself */
        (void)dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_GLOBAL); /* for pthread_exit() */
}

int sandbox_enter(const struct sandbox_params *params, const char **ret_what)
{
        int has_landlock, ret;

        load_late_comers();
        *ret_what = "no_new_privs";
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        *ret_what = "Landlock";
        has_landlock = close_files(params);
        if (has_landlock < 0)
                return has_landlock;
        if (!has_landlock && params->reads_proc) /* or else all files could be */
                return -EOPNOTSUPP;
        *ret_what = "capabilities";
        ret = drop_privileges();
        if (ret < 0)
                return ret;
        *ret_what = "seccomp";
        ret = hide_clone3();
        return ret < 0 ? ret : filter_calls(params->monitor);
}

int sandbox_close(const struct sandbox_params *params)
{
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        int ret;

        if (!ctx)
                return -ENOMEM;
        ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                               SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, FUSE_CLONE));
        if (ret == 0 && !params->reads_proc)
                ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(openat), 0);
        if (ret == 0)
                ret = load(ctx, LOG_REFUSED);
        seccomp_release(ctx);
        return ret;
}
