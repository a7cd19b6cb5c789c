/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Shutting down: nothing is written afterwards, and what is there recovers to what a power cut
 * would have left.
 */

#include <fcntl.h>
#include <uext4.h>
#include <unistd.h>

#include "t_write.h"

#define LEN 20000

struct stage {
        struct t_image img;
        struct uext4_bdev *sim, *trace;
        struct uext4_fs *fs;
        struct uext4_inode *root;
        struct t_log log;
};

static void mount(struct stage *st, const struct t_image *img)
{
        const struct uext4_bdev_sim_params params = {
                .size = img->size, .image = img->data, .caps = UEXT4_BDEV_CAP_FUA, .seed = 1};
        struct uext4_mount_params how = {"rw,commit=100000", t_log_line, &st->log};

        t_log_init(&st->log);
        T_CHECK(uext4_bdev_open_sim(&params, &st->sim) == 0);
        T_CHECK(uext4_bdev_open_trace(st->sim, 0, &st->trace) == 0);
        T_CHECK(uext4_mount_bdev(st->trace, &how, &st->fs) == 0);
        T_CHECK(uext4_inode_get(st->fs, UEXT4_ROOT_INO, 0, &st->root) == 0);
}

static uint64_t nr_changes(struct stage *st)
{
        struct uext4_bdev_counts c;

        uext4_bdev_trace_counts(st->trace, &c);
        return c.requests[UEXT4_BDEV_WRITE] + c.requests[UEXT4_BDEV_FLUSH] +
               c.requests[UEXT4_BDEV_DISCARD] + c.requests[UEXT4_BDEV_WRITE_ZEROES];
}

static struct uext4_file *make(struct stage *st, const char *name, int flags)
{
        struct uext4_inode *inode;
        struct uext4_file *file;

        T_CHECK(uext4_create(st->root, name, strlen(name), 0600, &inode) == 0);
        T_CHECK(uext4_open(inode, O_RDWR | flags, &file) == 0);
        uext4_inode_put(inode);
        return file;
}

static void write_bytes(struct uext4_file *file, int byte)
{
        char mem[LEN];

        memset(mem, byte, LEN);
        assert_int_equal(uext4_pwrite(file, mem, LEN, 0), LEN);
}

/* ---- what is left ---- */

/* The first byte of a file of LEN equal ones, 0 when it is empty, -1: there is none. */
static int byte_of(struct uext4_fs *fs, const char *path)
{
        char mem[LEN + 1] = {0};
        struct uext4_file *file;
        ssize_t n;

        if (uext4_open_path(fs, path, O_RDONLY, &file) < 0)
                return -1;
        n = uext4_pread(file, mem, sizeof(mem), 0);
        uext4_close(file);
        assert_true(n == 0 || n == LEN);
        for (ssize_t i = 0; i < n; i++)
                assert_int_equal(mem[i], mem[0]);
        return mem[0];
}

/* Mount what survived, which recovers it; e2fsck is content when it was unmounted. */
static void look(struct stage *st, enum uext4_bdev_sim_mode mode, int kept, int unsynced)
{
        const struct uext4_bdev_sim_survivor how = {.mode = mode};
        const struct uext4_mount_params params = {"rw", NULL, NULL};
        struct t_image img = {t_alloc(st->img.size), st->img.size};
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        const char *complaint;

        T_CHECK(uext4_bdev_sim_survivor(st->sim, &how, img.data) == 0);
        T_CHECK(uext4_bdev_open_buffer(img.data, img.size, 0, &dev) == 0);
        T_CHECK(uext4_mount_bdev(dev, &params, &fs) == 0);
        assert_int_equal(byte_of(fs, "/synced"), kept);
        assert_int_equal(byte_of(fs, "/unsynced"), unsynced);
        T_CHECK(uext4_unmount(fs) == 0);
        uext4_bdev_close(dev);
        complaint = t_fsck(&img, false);
        if (complaint)
                fail_msg("e2fsck: %s", complaint);
        t_image_free(&img);
}

/* ---- each way ---- */

static void all_is_refused(struct stage *st, struct uext4_file *file)
{
        struct uext4_inode *inode = uext4_file_inode(file);
        struct uext4_setattr attr = {.mask = UEXT4_SET_MODE};
        struct uext4_completion done;
        struct uext4_request req = {.op = UEXT4_READ, .file = file, .nr_iov = 1};
        struct uext4_queue *queue;
        struct uext4_file *other;
        uint64_t trimmed;
        char mem[10];
        struct iovec iov = {mem, sizeof(mem)};

        req.iov = &iov;
        assert_int_equal(uext4_pread(file, mem, 10, 0), -EIO);
        assert_int_equal(uext4_pwrite(file, mem, 10, 0), -EIO);
        assert_int_equal(uext4_fsync(file), -EIO);
        assert_int_equal(uext4_truncate(file, 0), -EIO);
        assert_int_equal(uext4_fallocate(file, 0, 0, 1 << 20), -EIO);
        assert_int_equal(uext4_open(inode, O_RDONLY, &other), -EIO);
        assert_int_equal(uext4_create(st->root, "c", 1, 0600, NULL), -EIO);
        assert_int_equal(uext4_unlink(st->root, "synced", 6), -EIO);
        assert_int_equal(uext4_setattr(inode, &attr), -EIO);
        assert_int_equal(uext4_setxattr(inode, "user.a", "b", 1, 0), -EIO);
        assert_int_equal(uext4_syncfs(st->fs), -EIO);
        assert_int_equal(uext4_trim(st->fs, 0, UINT64_MAX, 0, &trimmed), -EIO);
        T_CHECK(uext4_queue_new(st->fs, 1, &queue) == 0);
        assert_int_equal(uext4_queue_submit(queue, &req, 1), 1);
        assert_int_equal(uext4_queue_wait(queue, &done, 1, 1, -1), 1);
        assert_int_equal(done.result, -EIO);
        uext4_queue_free(queue);
        assert_int_equal(uext4_shutdown(st->fs, UEXT4_SHUTDOWN_SYNC), 0);
}

static void each_way(void **state)
{
        static const struct {
                const char *options;
                enum uext4_shutdown how;
                int kept, unsynced;
        } rows[] = {
                {"-b 4096 -O " T_EXT4, UEXT4_SHUTDOWN_NOW, 'a', -1},
                {"-b 4096 -O " T_EXT4, UEXT4_SHUTDOWN_LOG, 'a', 0},
                {"-b 4096 -O " T_EXT4, UEXT4_SHUTDOWN_SYNC, 'b', 'c'},
                {"-b 1024 -O has_journal", UEXT4_SHUTDOWN_NOW, 'a', -1},
                {"-b 1024 -O has_journal", UEXT4_SHUTDOWN_LOG, 'a', 0},
                {"-b 4096 -O " T_EXT4 ",^has_journal", UEXT4_SHUTDOWN_SYNC, 'b', 'c'},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct stage st = {.img = t_mkfs(16 << 20, rows[i].options, NULL)};
                struct uext4_file *synced, *unsynced;
                uint64_t before;

                mount(&st, &st.img);
                synced = make(&st, "synced", 0);
                write_bytes(synced, 'a');
                assert_int_equal(uext4_fsync(synced), 0);
                write_bytes(synced, 'b');
                unsynced = make(&st, "unsynced", 0);
                write_bytes(unsynced, 'c');
                assert_int_equal(uext4_shutdown(st.fs, (enum uext4_shutdown)7), -EINVAL);
                assert_int_equal(uext4_shutdown(st.fs, rows[i].how), 0);
                before = nr_changes(&st);
                all_is_refused(&st, synced);
                uext4_close(synced);
                uext4_close(unsynced);
                uext4_inode_put(st.root);
                assert_int_equal(uext4_unmount(st.fs), 0);
                assert_int_equal(nr_changes(&st), before);
                if (!strstr(rows[i].options, "^has_journal")) {
                        look(&st, UEXT4_BDEV_SIM_NONE, rows[i].kept, rows[i].unsynced);
                        look(&st, UEXT4_BDEV_SIM_ALL, rows[i].kept, rows[i].unsynced);
                }
                uext4_bdev_close(st.trace);
                t_image_free(&st.img);
        }
}

/* What was removed and is still open goes with the next mount; damage found later is not noted.
 */
static void nothing_is_written_at_the_end(void **state)
{
        struct stage st = {.img = t_mkfs(16 << 20, "-b 4096 -O " T_EXT4, NULL)};
        struct uext4_file *file;
        uint64_t before;

        mount(&st, &st.img);
        file = make(&st, "unsynced", O_DIRECT);
        assert_int_equal(uext4_unlink(st.root, "unsynced", 8), 0);
        assert_int_equal(uext4_syncfs(st.fs), 0);
        assert_int_equal(uext4_shutdown(st.fs, UEXT4_SHUTDOWN_NOW), 0);
        before = nr_changes(&st);
        uext4_close(file);
        uext4_inode_put(st.root);
        assert_int_equal(uext4_unmount(st.fs), 0);
        assert_int_equal(nr_changes(&st), before);
        look(&st, UEXT4_BDEV_SIM_NONE, -1, -1);
        uext4_bdev_close(st.trace);
        t_image_free(&st.img);
}

/* When nothing can be made durable the file system goes on, unless that was not asked for. */
static void on_a_device_that_fails(void **state)
{
        const struct uext4_bdev_fault rule = {.ops = 1u << UEXT4_BDEV_FLUSH, .error = -EIO};

        for (int how = UEXT4_SHUTDOWN_SYNC; how <= UEXT4_SHUTDOWN_NOW; how++) {
                struct t_image img = t_mkfs(16 << 20, "-b 4096 -O " T_EXT4, NULL);
                struct t_log log;
                struct uext4_mount_params params = {"rw", t_log_line, &log};
                struct uext4_bdev *buffer, *fault;
                struct uext4_inode *root;
                struct uext4_fs *fs;
                const int want = how == UEXT4_SHUTDOWN_NOW ? 0 : -EIO;

                t_log_init(&log);
                T_CHECK(uext4_bdev_open_buffer(img.data, img.size, 0, &buffer) == 0);
                T_CHECK(uext4_bdev_open_fault(buffer, &fault) == 0);
                T_CHECK(uext4_mount_bdev(fault, &params, &fs) == 0);
                T_CHECK(uext4_inode_get(fs, UEXT4_ROOT_INO, 0, &root) == 0);
                assert_int_equal(uext4_create(root, "a", 1, 0600, NULL), 0);
                T_CHECK(uext4_bdev_fault_add(fault, &rule) == 0);
                assert_int_equal(uext4_shutdown(fs, (enum uext4_shutdown)how), want);
                /* The failed flush has aborted the journal: that is not being shut down. */
                assert_int_equal(uext4_create(root, "b", 1, 0600, NULL),
                                 how == UEXT4_SHUTDOWN_SYNC ? -EROFS : -EIO);
                uext4_inode_put(root);
                assert_int_equal(uext4_unmount(fs), how == UEXT4_SHUTDOWN_SYNC ? -EIO : 0);
                uext4_bdev_close(fault);
                t_image_free(&img);
        }
}

/* ---- while others are at it ---- */

#define NR_WRITERS 3

struct crowd {
        struct stage st;
        _Atomic uint64_t synced[NR_WRITERS]; /* what was written and fsynced last */
};

static void write_until_refused(void *arg, unsigned n)
{
        struct crowd *c = arg;
        char name[2] = {(char)('0' + n), '\0'}, extra[2] = {(char)('a' + n), '\0'};
        struct uext4_file *file;
        int ret = 0;

        if (n == NR_WRITERS) {
                for (unsigned i = 0; i < NR_WRITERS; i++) {
                        while (c->synced[i] < 5)
                                usleep(1000);
                }
                T_CHECK(uext4_shutdown(c->st.fs, UEXT4_SHUTDOWN_NOW) == 0);
                return;
        }
        file = make(&c->st, name, n == 1 ? O_DIRECT | O_DSYNC : 0);
        for (uint64_t i = 1; ret >= 0; i++) {
                _Alignas(4096) uint64_t block[512] = {i};

                ret = (int)uext4_pwrite(file, block, sizeof(block), 0);
                if (ret > 0)
                        ret = uext4_fsync(file);
                if (ret == 0)
                        c->synced[n] = i;
                if (ret == 0)
                        ret = uext4_create(c->st.root, extra, 1, 0600, NULL);
                if (ret == 0)
                        ret = uext4_unlink(c->st.root, extra, 1);
        }
        T_CHECK(ret == -EIO);
        uext4_close(file);
}

static void check_synced(const struct crowd *c, struct t_image *img)
{
        const struct uext4_mount_params params = {"rw", NULL, NULL};
        struct uext4_bdev *dev;
        struct uext4_fs *fs;

        T_CHECK(uext4_bdev_open_buffer(img->data, img->size, 0, &dev) == 0);
        T_CHECK(uext4_mount_bdev(dev, &params, &fs) == 0);
        for (unsigned n = 0; n < NR_WRITERS; n++) {
                char path[3] = {'/', (char)('0' + n), '\0'};
                struct uext4_file *file;
                uint64_t found;

                T_CHECK(uext4_open_path(fs, path, O_RDONLY, &file) == 0);
                assert_int_equal(uext4_pread(file, &found, sizeof(found), 0), sizeof(found));
                /* The write behind it may be there, too. */
                assert_true(found == c->synced[n] || found == c->synced[n] + 1);
                uext4_close(file);
        }
        T_CHECK(uext4_unmount(fs) == 0);
        uext4_bdev_close(dev);
}

static void while_others_write(void **state)
{
        const struct uext4_bdev_sim_survivor how = {.mode = UEXT4_BDEV_SIM_NONE};

        for (int round = 0; round < (t_is_long() ? 100 : 3); round++) {
                struct crowd c = {.st.img = t_mkfs(16 << 20, "-b 4096 -O " T_EXT4, NULL)};
                const char *complaint;

                mount(&c.st, &c.st.img);
                t_run_threads(NR_WRITERS + 1, write_until_refused, &c);
                uext4_inode_put(c.st.root);
                assert_int_equal(uext4_unmount(c.st.fs), 0);
                T_CHECK(uext4_bdev_sim_survivor(c.st.sim, &how, c.st.img.data) == 0);
                uext4_bdev_close(c.st.trace);
                check_synced(&c, &c.st.img);
                complaint = t_fsck(&c.st.img, false);
                if (complaint)
                        fail_msg("e2fsck: %s", complaint);
                t_image_free(&c.st.img);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_way),
                cmocka_unit_test(nothing_is_written_at_the_end),
                cmocka_unit_test(on_a_device_that_fails),
                cmocka_unit_test(while_others_write),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
