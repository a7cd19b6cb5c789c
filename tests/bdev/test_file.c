/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files and block devices of the host: what can be opened, who is kept out, what the
 * user is told, and what a host offers that lacks direct I/O or io_uring.  Such a host is
 * played by a seccomp filter on a thread of its own.  The tests of block devices need root and
 * a loop device, and are skipped without.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include "tdev.h"

#define SIZE (1024 * 1024)

struct fixture {
        char path[256];
        char *buf;
        char *model;
};

static void fill_file(struct fixture *fx)
{
        int fd = open(fx->path, O_WRONLY);

        assert_true(fd >= 0);
        t_fill(fx->model, SIZE);
        assert_int_equal(pwrite(fd, fx->model, SIZE, 0), SIZE);
        close(fd);
}

static int setup(void **state)
{
        struct fixture *fx = calloc(1, sizeof(*fx));

        t_file_new(NULL, SIZE, fx->path, sizeof(fx->path));
        fx->buf = t_alloc(SIZE);
        fx->model = t_alloc(SIZE);
        fill_file(fx);
        *state = fx;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *fx = *state;

        unlink(fx->path);
        free(fx->buf);
        free(fx->model);
        free(fx);
        return 0;
}

/* What the user was told. */
struct told {
        unsigned nr_lines;
        int level;
        char text[512];
};

static void tell(void *arg, int level, const char *text)
{
        struct told *told = arg;

        told->nr_lines++;
        told->level = level;
        snprintf(told->text, sizeof(told->text), "%s", text);
}

static struct uext4_bdev *open_it(const char *uri, uint32_t flags)
{
        struct uext4_bdev *dev = NULL;

        assert_int_equal(uext4_bdev_open(uri, flags, NULL, NULL, &dev), 0);
        return dev;
}

static int try_open(const char *uri, uint32_t flags)
{
        struct uext4_bdev *dev = NULL;
        int ret = uext4_bdev_open(uri, flags, NULL, NULL, &dev);

        if (ret == 0)
                uext4_bdev_close(dev);
        return ret;
}

/* The first `len` bytes, by both faces. */
static void read_and_compare(struct fixture *fx, struct uext4_bdev *dev, size_t len)
{
        struct uext4_bdev_queue *q = NULL;
        struct t_req r;

        memset(fx->buf, 0, len);
        assert_int_equal(uext4_bdev_read(dev, fx->buf, len, 0), 0);
        assert_memory_equal(fx->buf, fx->model, len);
        memset(fx->buf, 0, len);
        assert_int_equal(uext4_bdev_queue_new(dev, 2, &q), 0);
        t_req_init(&r, UEXT4_BDEV_READ, fx->buf, len, 0);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        t_drain(q);
        assert_int_equal(r.result, 0);
        assert_memory_equal(fx->buf, fx->model, len);
        uext4_bdev_queue_free(q);
}

/* ---- locks ---- */

static void a_second_writer_is_busy(void **state)
{
        static const uint32_t ro = UEXT4_BDEV_OPEN_READONLY;
        static const char *const schemes[] = {"", "file:", "mmap:"};
        struct fixture *fx = *state;
        char uri[300];

        for (int i = 0; i < 3; i++) {
                struct uext4_bdev *dev;

                snprintf(uri, sizeof(uri), "%s%s", schemes[i], fx->path);
                dev = open_it(uri, 0);
                assert_int_equal(try_open(fx->path, 0), -EBUSY);
                assert_int_equal(try_open(fx->path, ro), -EBUSY);
                assert_int_equal(try_open(uri, 0), -EBUSY);
                uext4_bdev_close(dev);
                assert_int_equal(try_open(uri, 0), 0);
        }
}

static void readers_share(void **state)
{
        static const uint32_t ro = UEXT4_BDEV_OPEN_READONLY;
        struct fixture *fx = *state;
        struct uext4_bdev *a = open_it(fx->path, ro);
        struct uext4_bdev *b = open_it(fx->path, ro);

        assert_int_equal(try_open(fx->path, 0), -EBUSY);
        uext4_bdev_close(a);
        assert_int_equal(try_open(fx->path, 0), -EBUSY);
        uext4_bdev_close(b);
        assert_int_equal(try_open(fx->path, 0), 0);
}

/* A queue is part of the device: when both are closed nothing of it keeps the file. */
static void a_closed_device_is_free_at_once(void **state)
{
        struct fixture *fx = *state;

        for (int i = 0; i < 100; i++) {
                struct uext4_bdev *dev = open_it(fx->path, 0);

                read_and_compare(fx, dev, 65536);
                uext4_bdev_close(dev);
        }
}

/* ---- what can be opened ---- */

static void only_files_and_block_devices_are_opened(void **state)
{
        struct fixture *fx = *state;
        char fifo[300];

        assert_int_equal(try_open("/nonexistent/image", 0), -ENOENT);
        assert_int_equal(try_open("/", 0), -EISDIR);
        assert_int_equal(try_open("/dev/null", 0), -ENOTBLK);
        snprintf(fifo, sizeof(fifo), "%s.fifo", fx->path);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(try_open(fifo, UEXT4_BDEV_OPEN_READONLY), -ENOTBLK);
        unlink(fifo);
}

static void a_file_without_write_permission_opens_read_only(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev *dev;

        assert_int_equal(chmod(fx->path, 0444), 0);
        if (geteuid() != 0)
                assert_int_equal(try_open(fx->path, 0), -EACCES);
        dev = open_it(fx->path, UEXT4_BDEV_OPEN_READONLY);
        assert_int_equal(uext4_bdev_read(dev, fx->buf, SIZE, 0), 0);
        assert_memory_equal(fx->buf, fx->model, SIZE);
        assert_int_equal(uext4_bdev_write(dev, fx->buf, 512, 0, 0), -EROFS);
        uext4_bdev_close(dev);
}

static void odd_bytes_at_the_end_are_lost(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev *dev;

        assert_int_equal(truncate(fx->path, 8192 + 511), 0);
        dev = open_it(fx->path, UEXT4_BDEV_OPEN_BUFFERED);
        assert_int_equal(uext4_bdev_geometry(dev)->size, 8192);
        uext4_bdev_close(dev);

        assert_int_equal(truncate(fx->path, 511), 0);
        dev = open_it(fx->path, 0);
        assert_int_equal(uext4_bdev_geometry(dev)->size, 0);
        assert_int_equal(uext4_bdev_read_bytes(dev, fx->buf, 1, 0), -ENXIO);
        uext4_bdev_close(dev);
}

/* It was there when it was opened. */
static void a_file_cut_short_is_eio(void **state)
{
        struct fixture *fx = *state;
        struct uext4_bdev *dev = open_it(fx->path, 0);
        struct uext4_bdev_queue *q = NULL;
        struct t_req r;

        assert_int_equal(truncate(fx->path, 8192), 0);
        assert_int_equal(uext4_bdev_read(dev, fx->buf, 16384, 0), -EIO);
        assert_int_equal(uext4_bdev_read(dev, fx->buf, 4096, 65536), -EIO);
        assert_int_equal(uext4_bdev_queue_new(dev, 2, &q), 0);
        t_req_init(&r, UEXT4_BDEV_READ, fx->buf, 16384, 0);
        assert_int_equal(uext4_bdev_queue_add(q, &r.req), 0);
        t_drain(q);
        assert_int_equal(r.result, -EIO);
        uext4_bdev_queue_free(q);
        uext4_bdev_close(dev);
}

static void writes_reach_the_file(void **state)
{
        static const uint32_t flags[] = {0, UEXT4_BDEV_OPEN_BUFFERED};
        struct fixture *fx = *state;

        for (int i = 0; i < 3; i++) {
                struct uext4_bdev *dev = NULL;
                int fd;

                if (i < 2)
                        dev = open_it(fx->path, flags[i]);
                else
                        assert_int_equal(uext4_bdev_open_mmap(fx->path, 0, &dev), 0);
                t_fill(fx->buf, 65536);
                memcpy(fx->model, fx->buf, 65536);
                assert_int_equal(uext4_bdev_write(dev, fx->buf, 65536, 0, UEXT4_BDEV_FUA), 0);
                assert_int_equal(uext4_bdev_write_zeroes(dev, 4096, 8192, 0), 0);
                memset(fx->model + 4096, 0, 8192);
                assert_int_equal(uext4_bdev_flush(dev), 0);
                uext4_bdev_close(dev);

                fd = open(fx->path, O_RDONLY);
                assert_int_equal(pread(fd, fx->buf, SIZE, 0), SIZE);
                assert_memory_equal(fx->buf, fx->model, SIZE);
                close(fd);
        }
}

/* ---- names ---- */

static void uris_name_devices(void **state)
{
        static const struct {
                const char *uri;
                int64_t size; /* or -errno */
        } table[] = {
                {"mem:4096", 4096},        {"mem:4k", 4096},
                {"mem:3M", 3 << 20},       {"mem:2g", 2ll << 30},
                {"mem:1T", 1ll << 40},     {"mem:1000", 512},
                {"mem:", -EINVAL},         {"mem:0", -EINVAL},
                {"mem:-1", -EINVAL},       {"mem:1X", -EINVAL},
                {"mem:1 ", -EINVAL},       {"mem:1KB", -EINVAL},
                {"mem:9999999T", -EINVAL}, {"mem:99999999999999999999", -EINVAL},
                {"file:", -ENOENT},        {"nosuch:thing", -ENOENT},
                {"mmap:/", -EISDIR},
        };

        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
                struct uext4_bdev *dev = NULL;
                int ret = uext4_bdev_open(table[i].uri, 0, NULL, NULL, &dev);

                assert_int_equal(ret, table[i].size < 0 ? table[i].size : 0);
                if (ret == 0)
                        assert_int_equal(uext4_bdev_geometry(dev)->size, table[i].size);
                uext4_bdev_close(dev);
        }
}

static void memory_can_be_read_only_by_uri(void **state)
{
        struct uext4_bdev *dev = open_it("mem:64K", UEXT4_BDEV_OPEN_READONLY);
        char block[512];

        memset(block, 1, sizeof(block));
        assert_int_equal(uext4_bdev_write(dev, block, 512, 0, 0), -EROFS);
        assert_int_equal(uext4_bdev_read(dev, block, 512, 0), 0);
        assert_int_equal(block[0], 0);
        uext4_bdev_close(dev);
}

/* A terabyte that nobody has written to costs nothing and reads as zeros. */
static void big_memory_is_sparse(void **state)
{
        struct uext4_bdev *dev = open_it("mem:1T", 0);
        char block[512] = {1};

        assert_int_equal(uext4_bdev_read(dev, block, 512, (1ull << 40) - 512), 0);
        assert_int_equal(block[0], 0);
        memset(block, 7, 512);
        assert_int_equal(uext4_bdev_write(dev, block, 512, 1ull << 39, 0), 0);
        assert_int_equal(uext4_bdev_read(dev, block, 512, 1ull << 39), 0);
        assert_int_equal(block[511], 7);
        uext4_bdev_close(dev);
}

static void slices_stay_inside(void **state)
{
        struct uext4_bdev *mem = open_it("mem:64K", 0), *slice = NULL, *two = NULL;
        char *map = mem->ops->mapping(mem);

        assert_int_equal(uext4_bdev_open_slice(mem, 65536 + 512, 0, &slice), -ENXIO);
        assert_int_equal(uext4_bdev_open_slice(mem, 512, 65536, &slice), -ENXIO);
        assert_int_equal(uext4_bdev_open_slice(mem, 512, UINT64_MAX - 511, &slice), -ENXIO);
        assert_int_equal(uext4_bdev_open_slice(mem, 100, 512, &slice), -EINVAL);
        assert_int_equal(uext4_bdev_open_slice(mem, 512, 100, &slice), -EINVAL);
        assert_int_equal(uext4_bdev_open_slice(mem, 4096, 8192, &slice), 0);
        assert_int_equal(uext4_bdev_open_slice(slice, 512, 0, &two), 0);
        assert_int_equal(uext4_bdev_geometry(two)->size, 8192 - 512);
        assert_ptr_equal(two->ops->mapping(two), map + 4096 + 512);
        uext4_bdev_close(two);
}

/* ---- poorer hosts ---- */

/*
 * From now on this thread's system call `nr` fails with `error` if its third argument has one
 * of `bits`; bits 0: always.
 */
static void forbid(int nr, uint32_t bits, int error)
{
        const uint32_t low_half = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;
        const struct sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 2),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                         offsetof(struct seccomp_data, args[2]) + low_half),
                BPF_JUMP(BPF_JMP | (bits ? BPF_JSET : BPF_JGE) | BPF_K, bits, 1, 0),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        };
        struct sock_fprog prog = {
                .len = sizeof(code) / sizeof(code[0]),
                .filter = (struct sock_filter *)(uintptr_t)code,
        };

        T_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        T_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
}

static void on_poorer_host(void *(*fn)(void *), struct fixture *fx)
{
        pthread_t thread;

        pthread_create(&thread, NULL, fn, fx);
        pthread_join(thread, NULL);
}

static void *open_without_direct_io(void *arg)
{
        struct fixture *fx = arg;
        struct uext4_bdev *dev = NULL;
        struct told told = {0};

        forbid(SYS_openat, O_DIRECT, EINVAL);
        T_CHECK(uext4_bdev_open_file(fx->path, 0, tell, &told, &dev) == 0);
        T_CHECK(told.nr_lines == 1 && told.level == LOG_NOTICE);
        T_CHECK(strstr(told.text, "no direct I/O") && strstr(told.text, fx->path));
        T_CHECK(!(dev->geo.caps & UEXT4_BDEV_CAP_DIRECT) && dev->geo.mem_align == 1);
        T_CHECK(uext4_bdev_read(dev, fx->buf, SIZE, 0) == 0);
        T_CHECK(memcmp(fx->buf, fx->model, SIZE) == 0);
        T_CHECK(told.nr_lines == 1);
        uext4_bdev_close(dev);

        /* nobody to tell */
        T_CHECK(uext4_bdev_open_file(fx->path, 0, NULL, NULL, &dev) == 0);
        uext4_bdev_close(dev);

        /* nothing to tell: it was asked for */
        told.nr_lines = 0;
        T_CHECK(uext4_bdev_open_file(fx->path, UEXT4_BDEV_OPEN_BUFFERED, tell, &told, &dev) ==
                0);
        T_CHECK(told.nr_lines == 0);
        uext4_bdev_close(dev);
        return NULL;
}

static void without_direct_io_the_cache_is_used(void **state)
{
        on_poorer_host(open_without_direct_io, *state);
}

static void *queue_without_uring(void *arg)
{
        struct fixture *fx = arg;
        struct uext4_bdev *dev = NULL;
        struct told told = {0};

        T_CHECK(uext4_bdev_open_file(fx->path, UEXT4_BDEV_OPEN_BUFFERED, tell, &told, &dev) ==
                0);
        forbid(SYS_io_uring_setup, 0, EPERM);
        for (int i = 0; i < 2; i++) {
                struct uext4_bdev_queue *q = NULL;
                struct t_req r[16];

                T_CHECK(uext4_bdev_queue_new(dev, 4, &q) == 0);
                memset(fx->buf, 0, SIZE);
                for (size_t k = 0; k < 16; k++) {
                        t_req_init(&r[k], UEXT4_BDEV_READ, fx->buf + k * 65536, 65536,
                                   k * 65536);
                        T_CHECK(uext4_bdev_queue_add(q, &r[k].req) == 0);
                }
                t_drain(q);
                T_CHECK(memcmp(fx->buf, fx->model, SIZE) == 0);
                uext4_bdev_queue_free(q);
        }
        T_CHECK(told.nr_lines == 1 && strstr(told.text, "no io_uring"));
        uext4_bdev_close(dev);
        return NULL;
}

static void without_io_uring_queues_still_work(void **state)
{
        on_poorer_host(queue_without_uring, *state);
}

/* ---- block devices ---- */

/*
 * A loop device with blocks of `block` bytes on the file, which goes when the descriptor is
 * closed; -1 where there is none to have.
 */
static int loop_new(struct fixture *fx, uint32_t block, char *ret_path, size_t path_size)
{
        struct loop_config config = {
                .block_size = block,
                .info.lo_flags = LO_FLAGS_AUTOCLEAR,
        };
        int control, nr, loop;

        control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
        if (control < 0)
                return -1;
        nr = ioctl(control, LOOP_CTL_GET_FREE);
        close(control);
        if (nr < 0)
                return -1;
        snprintf(ret_path, path_size, "/dev/loop%d", nr);
        loop = open(ret_path, O_RDWR | O_CLOEXEC);
        if (loop < 0)
                return -1;
        config.fd = (uint32_t)open(fx->path, O_RDWR | O_CLOEXEC);
        if (ioctl(loop, LOOP_CONFIGURE, &config) < 0) {
                close(loop);
                loop = -1;
        }
        close((int)config.fd);
        return loop;
}

static void use_block_device(struct fixture *fx, struct uext4_bdev *dev, uint32_t block)
{
        assert_int_equal(uext4_bdev_geometry(dev)->logical_block, block);
        assert_int_equal(uext4_bdev_geometry(dev)->size, SIZE);
        read_and_compare(fx, dev, SIZE);
        t_fill(fx->buf, 65536);
        memcpy(fx->model, fx->buf, 65536);
        assert_int_equal(uext4_bdev_write(dev, fx->buf, 65536, 0, UEXT4_BDEV_FUA), 0);
        assert_int_equal(uext4_bdev_write_zeroes(dev, 131072, 65536, UEXT4_BDEV_FUA), 0);
        memset(fx->model + 131072, 0, 65536);
        if (dev->geo.caps & UEXT4_BDEV_CAP_DISCARD) {
                assert_int_equal(uext4_bdev_discard(dev, 262144, 65536), 0);
                assert_int_equal(uext4_bdev_read(dev, fx->model + 262144, 65536, 262144), 0);
        }
        assert_int_equal(uext4_bdev_flush(dev), 0);
        read_and_compare(fx, dev, SIZE);
        assert_int_equal(uext4_bdev_read_bytes(dev, fx->buf, 1234, SIZE - 1234), 0);
        assert_memory_equal(fx->buf, fx->model + SIZE - 1234, 1234);
}

static void a_block_device_is_used_by_its_blocks(void **state)
{
        static const uint32_t blocks[] = {512, 4096};
        struct fixture *fx = *state;

        for (int i = 0; i < 2; i++) {
                struct uext4_bdev *dev;
                char path[64];
                int loop = loop_new(fx, blocks[i], path, sizeof(path));

                if (loop < 0) {
                        print_message("no loop device here, skipped\n");
                        return;
                }
                dev = open_it(path, 0);
                use_block_device(fx, dev, blocks[i]);
                assert_int_equal(try_open(path, 0), -EBUSY);
                assert_int_equal(try_open(path, UEXT4_BDEV_OPEN_READONLY), -EBUSY);
                /* O_EXCL, as the kernel's own mounts and mkfs ask for it */
                assert_int_equal(open(path, O_RDWR | O_EXCL), -1);
                assert_int_equal(errno, EBUSY);
                uext4_bdev_close(dev);
                assert_int_equal(try_open(path, UEXT4_BDEV_OPEN_BUFFERED), 0);
                close(loop);
        }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        static const struct CMUnitTest tests[] = {
                T(a_second_writer_is_busy),
                T(readers_share),
                T(a_closed_device_is_free_at_once),
                T(only_files_and_block_devices_are_opened),
                T(a_file_without_write_permission_opens_read_only),
                T(odd_bytes_at_the_end_are_lost),
                T(a_file_cut_short_is_eio),
                T(writes_reach_the_file),
                T(uris_name_devices),
                T(memory_can_be_read_only_by_uri),
                T(big_memory_is_sparse),
                T(slices_stay_inside),
                T(without_direct_io_the_cache_is_used),
                T(without_io_uring_queues_still_work),
                T(a_block_device_is_used_by_its_blocks),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
