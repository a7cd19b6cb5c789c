/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A copy of the image is mounted for writing (its journal is replayed, its orphans go), and
 * what is found in the first directories and behind some inode numbers is changed by a number
 * of calls that the image's first bytes choose.  Then it is unmounted, mounted for writing once
 * more, and walked as fuzz_image.c walks one.  Now and then the copy as it lies on the device
 * before the unmount, as after a crash, is mounted, too.
 *
 * Where an image has checksums of its metadata, half of the inputs lose the feature: damage
 * then gets behind the checksums, as it does in an image whose checksums a hostile hand has
 * mended.
 *
 * What is bounded is the number of calls and the bytes of one write, never the work of a call.
 */

#include "write_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/format.h"
#include "image_walk.h"
#include "promise.h"
#include "uext4.h"

#ifndef RENAME_NOREPLACE /* stdio.h has them with _GNU_SOURCE */
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE  2
#endif

#define CHOICES     16 /* bytes at the start of an image */
#define MAX_DIRS    6
#define MAX_FILES   10
#define MAX_NAMES   24
#define MAX_ENTRIES 16 /* of one directory */
#define MAX_NUMBERS 6  /* inodes that are taken by number */
#define MAX_CALLS   24
#define MAX_WRITE   (20u << 10)
#define MAX_PIECES  60 /* of what is scattered */
#define NR_REQUESTS 4
#define MEM_ALIGN   4096u

struct name {
        unsigned dir; /* of `dirs` */
        size_t len;
        char text[256];
};

struct walk {
        struct uext4_fs *fs;
        struct write_walk_seen *seen;
        unsigned flags;
        const uint8_t *mem; /* the device */
        size_t size;
        uint64_t choice; /* state of the chooser */
        bool is_readonly;

        struct uext4_inode *dirs[MAX_DIRS], *files[MAX_FILES]; /* referenced */
        unsigned nr_dirs, nr_files;
        struct name names[MAX_NAMES];
        unsigned nr_names;
};

/* ---- promises ---- */

static uint64_t choose(struct walk *w, uint64_t limit)
{
        return choose_number(&w->choice, limit);
}

static bool is_damage(int64_t ret)
{
        return ret == -EUCLEAN || ret == -EBADMSG;
}

static bool is_one_of(int64_t ret, const int *errors)
{
        for (; *errors; errors++)
                if (ret == -*errors)
                        return true;
        return false;
}

/*
 * The result of a change: success, damage, the end of writing, or one of `others` (ends with
 * 0). A device in memory has no other errors.
 */
static int64_t expect(struct walk *w, int64_t ret, const int *others, int line)
{
        if (ret >= 0) {
                w->seen->nr_changes++;
                promise(!w->is_readonly);
                return ret;
        }
        w->seen->nr_refused++;
        if (is_one_of(ret, others))
                return ret;
        if (is_damage(ret))
                w->seen->nr_damages++;
        if (is_damage(ret) || ret == -EROFS) {
                if (!(w->flags & WRITE_WALK_GOOD) || (ret == -EROFS && w->is_readonly))
                        return ret;
        }
        fprintf(stderr, "%s:%d: unexpected error: %s\n", __FILE__, line, strerror((int)-ret));
        abort();
}

#define EXPECT(w, ret, ...) expect(w, ret, (const int[]){__VA_ARGS__, 0}, __LINE__)

/* ---- one file ---- */

struct subject {
        struct walk *w;
        struct uext4_file *file;
        struct uext4_stat st;
        bool is_direct;
};

/* Where something may happen in a file: ends, blocks and their neighbours, far away. */
static uint64_t choose_pos(const struct subject *s)
{
        struct walk *w = s->w;
        uint64_t block = s->st.blksize ? s->st.blksize : 1024;
        uint64_t pos;

        switch (choose(w, 8)) {
        case 0:
                pos = 0;
                break;
        case 1:
                pos = s->st.size;
                break;
        case 2:
                pos = s->st.size - choose(w, s->st.size < 5000 ? s->st.size : 5000);
                break;
        case 3:
                pos = s->st.size + choose(w, 9000);
                break;
        case 4:
                pos = choose(w, 300000);
                break;
        case 5:
                pos = 1ull << choose(w, 63);
                break;
        default:
                pos = choose(w, s->st.size + 4 * block);
                break;
        }
        if (choose(w, 2))
                pos = pos / block * block;
        return pos;
}

static uint64_t choose_len(const struct subject *s)
{
        uint64_t block = s->st.blksize ? s->st.blksize : 1024;

        switch (choose(s->w, 6)) {
        case 0:
                return 1 + choose(s->w, 3000);
        case 1:
                return 1ull << choose(s->w, 63);
        case 2:
                return s->st.size;
        default:
                return block * (1 + choose(s->w, 40));
        }
}

static void truncate_it(struct subject *s)
{
        EXPECT(s->w, uext4_truncate(s->file, choose_pos(s)), EFBIG, EINVAL, EPERM, ENOSPC,
               EOPNOTSUPP);
}

static void fallocate_it(struct subject *s)
{
        int mode = choose_fallocate_mode(&s->w->choice);

        if (choose(s->w, 40) == 0)
                mode = (int)choose(s->w, 512);
        EXPECT(s->w, uext4_fallocate(s->file, mode, choose_pos(s), choose_len(s)), EFBIG,
               EINVAL, EPERM, ENOSPC, EOPNOTSUPP);
}

/* A write that keeps the rules of direct I/O, but now and then. */
static void plan_write(struct subject *s, uint64_t *ret_pos, size_t *ret_len)
{
        uint64_t align = s->is_direct && s->st.dio_offset_align ? s->st.dio_offset_align : 1;
        uint64_t len = 1 + choose(s->w, choose(s->w, 2) ? 700 : MAX_WRITE - 4096);

        if (choose(s->w, 30) == 0)
                align = 1;
        *ret_pos = choose_pos(s) / align * align;
        *ret_len = (size_t)((len + align - 1) / align * align);
        if (*ret_len > MAX_WRITE)
                *ret_len = align > MAX_WRITE ? (size_t)align : MAX_WRITE / align * align;
}

static uint8_t *make_bytes(struct subject *s, size_t len)
{
        uint8_t *buf = aligned_alloc(MEM_ALIGN, (len + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN);

        promise(buf);
        memset(buf, (int)choose(s->w, 256), len);
        return buf;
}

static void write_it(struct subject *s)
{
        static const int rwf[] = {0, 0, 0, RWF_DSYNC, RWF_SYNC, RWF_APPEND, RWF_NOWAIT};
        struct iovec iov[2];
        uint64_t pos;
        size_t len;
        uint8_t *buf;
        int64_t ret;

        plan_write(s, &pos, &len);
        buf = make_bytes(s, len);
        iov[0] = (struct iovec){buf, len / 2 / 512 * 512};
        iov[1] = (struct iovec){buf + iov[0].iov_len, len - iov[0].iov_len};
        ret = uext4_pwritev2(s->file, iov, 2, pos,
                             rwf[choose(s->w, sizeof(rwf) / sizeof(rwf[0]))]);
        EXPECT(s->w, ret, EFBIG, EINVAL, EPERM, ENOSPC, EOPNOTSUPP, EAGAIN);
        promise(ret < 0 || (ret > 0 && (size_t)ret <= len));
        free(buf);
}

static void read_it(struct subject *s)
{
        uint64_t pos;
        size_t len;
        uint8_t *buf;
        int64_t ret;

        plan_write(s, &pos, &len);
        buf = make_bytes(s, len);
        ret = uext4_pread(s->file, buf, len, pos);
        /* As sync_it(): a direct read begins with writing back. */
        promise(ret >= -EINVAL || is_damage(ret) || ret == -EROFS ||
                (ret == -ENOSPC && s->is_direct && !(s->w->flags & WRITE_WALK_GOOD)));
        promise(ret <= (int64_t)len);
        free(buf);
}

/* Some at once; they may meet each other. */
static void write_by_queue(struct subject *s)
{
        struct uext4_completion done[NR_REQUESTS];
        struct uext4_request reqs[NR_REQUESTS];
        struct iovec iov[NR_REQUESTS];
        struct uext4_queue *queue;
        int nr;

        promise(uext4_queue_new(s->w->fs, NR_REQUESTS, &queue) == 0);
        for (unsigned i = 0; i < NR_REQUESTS; i++) {
                plan_write(s, &reqs[i].pos, &iov[i].iov_len);
                iov[i].iov_base = make_bytes(s, iov[i].iov_len);
                reqs[i] = (struct uext4_request){
                        .op = choose(s->w, 4) ? UEXT4_WRITE : UEXT4_READ,
                        .flags = choose(s->w, 6) ? 0 : RWF_DSYNC,
                        .file = s->file,
                        .iov = &iov[i],
                        .nr_iov = 1,
                        .pos = reqs[i].pos,
                        .user_data = &iov[i],
                };
                if (reqs[i].op == UEXT4_READ)
                        reqs[i].flags = 0;
        }
        promise(uext4_queue_submit(queue, reqs, NR_REQUESTS) == NR_REQUESTS);
        if (choose(s->w, 4)) { /* or nobody asks */
                nr = uext4_queue_wait(queue, done, NR_REQUESTS, NR_REQUESTS, -1);
                promise(nr == NR_REQUESTS);
                for (int i = 0; i < nr; i++)
                        promise(done[i].result <=
                                (int64_t)((struct iovec *)done[i].user_data)->iov_len);
        }
        uext4_queue_free(queue);
        for (unsigned i = 0; i < NR_REQUESTS; i++)
                free(iov[i].iov_base);
}

static void sync_it(struct subject *s)
{
        int ret = choose(s->w, 2) ? uext4_fsync(s->file) : uext4_fdatasync(s->file);

        /* Space that was promised may turn out to be none, in groups whose bitmaps are wrong.
         */
        promise(ret == 0 || ret == -EROFS || ret == -ENOSPC || is_damage(ret));
        promise(ret == 0 || !(s->w->flags & WRITE_WALK_GOOD));
}

/* The bytes of a file in place: they are the device's, and stay while they are held. */
static void lease_it(struct subject *s)
{
        struct uext4_lease_params params = {
                .pos = choose_pos(s),
                .len = 1 + choose(s->w, 9000),
                .flags = choose(s->w, 2) ? UEXT4_LEASE_WRITE : 0,
        };
        struct uext4_lease *lease;
        volatile uint8_t *bytes;
        void *addr;
        ssize_t len = uext4_map_lease(s->file, &params, &addr, &lease);

        if (len < 0) {
                EXPECT(s->w, len, ENXIO, EOPNOTSUPP, EINVAL, ENOSPC, EFBIG, EPERM);
                return;
        }
        bytes = addr;
        promise(len > 0 && (uint64_t)len <= params.len);
        promise(bytes >= s->w->mem && bytes + len <= s->w->mem + s->w->size);
        if (params.flags & UEXT4_LEASE_WRITE) {
                bytes[0] = 'l';
                bytes[len - 1] = bytes[0];
        }
        if (choose(s->w, 2)) {
                int ret = uext4_truncate(s->file, params.pos);

                promise(ret < 0);
        }
        uext4_unmap_lease(lease);
}

/* Many small extents, or holes. */
static void scatter(struct subject *s)
{
        uint64_t block = s->st.blksize ? s->st.blksize : 1024;
        uint64_t pos = choose_pos(s) / block * block;
        bool fill = choose(s->w, 2);

        for (unsigned n = 0; n < MAX_PIECES; n++, pos += 2 * block) {
                int mode =
                        fill ? FALLOC_FL_KEEP_SIZE : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

                if (EXPECT(s->w, uext4_fallocate(s->file, mode, pos, block), EFBIG, EINVAL,
                           EPERM, ENOSPC, EOPNOTSUPP) < 0)
                        return;
        }
}

static void change_file(struct walk *w)
{
        static void (*const calls[])(struct subject * s) = {
                truncate_it, truncate_it,    fallocate_it, fallocate_it, fallocate_it, write_it,
                write_it,    write_by_queue, read_it,      sync_it,      lease_it,     scatter};
        static const int how[] = {0,       0,        O_DIRECT,           O_DIRECT,
                                  O_DSYNC, O_APPEND, O_DIRECT | O_APPEND};
        struct subject s = {.w = w};
        struct uext4_inode *inode;
        int flags = O_RDWR | how[choose(w, sizeof(how) / sizeof(how[0]))];
        unsigned nr = 1 + (unsigned)choose(w, 4);
        int ret;

        if (w->nr_files == 0)
                return;
        inode = w->files[choose(w, w->nr_files)];
        s.is_direct = flags & O_DIRECT;
        ret = uext4_open(inode, flags, &s.file);
        if (EXPECT(w, ret, EPERM, ENOKEY, EINVAL, EISDIR) < 0)
                return;
        while (nr-- > 0) {
                promise(uext4_stat(inode, &s.st) == 0);
                calls[choose(w, sizeof(calls) / sizeof(calls[0]))](&s);
        }
        uext4_close(s.file);
}

/* ---- names ---- */

static void keep_file(struct walk *w, struct uext4_inode *inode)
{
        if (w->nr_files < MAX_FILES)
                w->files[w->nr_files++] = inode;
        else
                uext4_inode_put(inode);
}

static void keep_name(struct walk *w, unsigned dir, const char *text, size_t len)
{
        struct name *name;

        if (w->nr_names >= MAX_NAMES)
                return;
        name = &w->names[w->nr_names++];
        name->dir = dir;
        name->len = len;
        memcpy(name->text, text, len);
}

/* A name that is there, or most likely is not. */
static void choose_name(struct walk *w, struct name *ret_name)
{
        if (w->nr_names > 0 && choose(w, 3) == 0) {
                *ret_name = w->names[choose(w, w->nr_names)];
                return;
        }
        ret_name->dir = (unsigned)choose(w, w->nr_dirs);
        ret_name->len = choose(w, 8) ? 1 + choose(w, 30) : choose(w, 256);
        for (size_t i = 0; i < ret_name->len; i++)
                ret_name->text[i] = (char)('a' + choose(w, 26));
}

static void unlink_one(struct walk *w)
{
        struct name name;

        choose_name(w, &name);
        if (w->nr_names > 0 && choose(w, 8))
                name = w->names[choose(w, w->nr_names)];
        EXPECT(w, uext4_unlink(w->dirs[name.dir], name.text, name.len), ENOENT, EISDIR, ENOTDIR,
               EPERM, ENOKEY, EINVAL, ENOSPC, EOPNOTSUPP);
}

static int create_of_kind(struct walk *w, const struct name *name,
                          struct uext4_inode **ret_inode)
{
        struct uext4_inode *dir = w->dirs[name->dir];
        char target[200];

        switch (choose(w, 5)) {
        case 0:
                return uext4_mkdir(dir, name->text, name->len, 0755, ret_inode);
        case 1:
                memset(target, 't', sizeof(target));
                return uext4_symlink(dir, name->text, name->len, target,
                                     choose(w, sizeof(target) + 1), ret_inode);
        case 2:
                return uext4_mknod(dir, name->text, name->len, S_IFCHR | 0600, 1, 300,
                                   ret_inode);
        default:
                return uext4_create(dir, name->text, name->len, 0644, ret_inode);
        }
}

static int create_with(struct walk *w, const struct name *name, struct uext4_inode **ret_inode)
{
        const struct uext4_cred cred = {.uid = 1000, .gid = 1000, .flags = UEXT4_CRED_TRUSTED};
        int ret;

        uext4_cred_use(&cred);
        ret = create_of_kind(w, name, ret_inode);
        uext4_cred_use(NULL);
        return ret;
}

/* By what is there already: who chooses has nothing to do with it. */
static void change_attributes(struct walk *w, struct uext4_inode *inode, uint32_t seed)
{
        const struct uext4_cred somebody = {.uid = 1001, .gid = 1000};
        const struct uext4_setattr set = {
                .mask = seed % 32,
                .mode = seed * 7,
                .uid = seed << 14,
                .gid = seed << 15,
                .atime = {.tv_sec = (time_t)seed << 27},
                .mtime = {.tv_nsec = UTIME_NOW},
        };
        uint32_t flags;
        int ret;

        EXPECT(w, uext4_setattr(inode, &set), EPERM, EOPNOTSUPP, ENOSPC);
        if (uext4_get_flags(inode, &flags) == 0)
                EXPECT(w,
                       uext4_set_flags(inode,
                                       flags ^ (seed % 3 ? FS_SYNC_FL : FS_JOURNAL_DATA_FL)),
                       EPERM, EOPNOTSUPP, ENOKEY);
        uext4_cred_use(&somebody);
        ret = uext4_access(inode, 4);
        uext4_cred_use(NULL);
        promise(ret == 0 || ret == -EACCES || is_damage(ret));
}

static void create_one(struct walk *w)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        struct name name;

        choose_name(w, &name);
        if (EXPECT(w, create_with(w, &name, &inode), EEXIST, ENOSPC, EMLINK, ENOENT, ENOTDIR,
                   EPERM, ENOKEY, EINVAL, EOPNOTSUPP) < 0)
                return;
        promise(uext4_stat(inode, &st) == 0);
        change_attributes(w, inode, (uint32_t)st.ino);
        keep_name(w, name.dir, name.text, name.len);
        if (S_ISDIR(st.mode) && w->nr_dirs < MAX_DIRS)
                w->dirs[w->nr_dirs++] = inode;
        else
                keep_file(w, inode);
}

/* Until the directory has to grow. */
static void create_many(struct walk *w)
{
        struct name name;

        choose_name(w, &name);
        name.len = 40 + choose(w, 216);
        for (unsigned n = 0; n < MAX_PIECES; n++) {
                for (size_t i = 0; i < name.len; i++)
                        name.text[i] = (char)('a' + choose(w, 26));
                if (EXPECT(w,
                           w->nr_files ? uext4_link(w->files[0], w->dirs[name.dir], name.text,
                                                    name.len)
                                       : uext4_create(w->dirs[name.dir], name.text, name.len,
                                                      0600, NULL),
                           EEXIST, ENOSPC, EMLINK, ENOENT, ENOTDIR, EPERM, ENOKEY, EINVAL,
                           EXDEV, EOPNOTSUPP) < 0)
                        return;
        }
        keep_name(w, name.dir, name.text, name.len);
}

static void remove_directory(struct walk *w)
{
        struct name name;

        choose_name(w, &name);
        EXPECT(w, uext4_rmdir(w->dirs[name.dir], name.text, name.len), ENOENT, ENOTDIR,
               ENOTEMPTY, EPERM, ENOKEY, EINVAL, EBUSY, ENOSPC, EOPNOTSUPP);
}

static void rename_one(struct walk *w)
{
        static const unsigned flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
        struct name from, to;
        int ret;

        choose_name(w, &from);
        if (w->nr_names > 0 && choose(w, 8))
                from = w->names[choose(w, w->nr_names)];
        choose_name(w, &to);
        ret = uext4_rename(w->dirs[from.dir], from.text, from.len, w->dirs[to.dir], to.text,
                           to.len, flags[choose(w, sizeof(flags) / sizeof(flags[0]))]);
        if (EXPECT(w, ret, EEXIST, ENOENT, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, EBUSY, EXDEV,
                   EMLINK, ENOSPC, EPERM, ENOKEY, EOPNOTSUPP) >= 0)
                keep_name(w, to.dir, to.text, to.len);
}

static void link_one(struct walk *w)
{
        struct uext4_inode *inode;
        struct name name;

        choose_name(w, &name);
        inode = w->nr_files > 0 && choose(w, 8) ? w->files[choose(w, w->nr_files)]
                                                : w->dirs[choose(w, w->nr_dirs)];
        if (EXPECT(w, uext4_link(inode, w->dirs[name.dir], name.text, name.len), EEXIST, ENOSPC,
                   EMLINK, ENOENT, ENOTDIR, EPERM, EXDEV, ENOKEY, EINVAL, EOPNOTSUPP) >= 0)
                keep_name(w, name.dir, name.text, name.len);
}

static void change_xattr(struct walk *w)
{
        static const char *const names[] = {
                "user.one",   "user.fresh", "trusted.three", "security.second",
                "user.large", "user.block", "nonsense",      "system.nonsense"};
        static const size_t sizes[] = {0, 1, 20, 100, 300, 700, 2000, 9000};
        const char *name = names[choose(w, sizeof(names) / sizeof(names[0]))];
        size_t size = sizes[choose(w, sizeof(sizes) / sizeof(sizes[0]))];
        struct uext4_inode *inode = w->nr_files > 0 && choose(w, 4)
                                            ? w->files[choose(w, w->nr_files)]
                                            : w->dirs[choose(w, w->nr_dirs)];
        uint8_t *value = must_alloc(size);
        int ret;

        memset(value, (int)choose(w, 256), size);
        if (choose(w, 4) == 0)
                ret = uext4_removexattr(inode, name);
        else
                ret = uext4_setxattr(inode, name, value, size, (int)choose(w, 3));
        EXPECT(w, ret, EEXIST, ENODATA, ENOSPC, EPERM, EINVAL, ERANGE, EOPNOTSUPP, E2BIG,
               ENOENT, ENOKEY);
        free(value);
}

/* ENOSPC: a bitmap whose free blocks had been promised to cached pages is found damaged. */
static void sync_all(struct walk *w)
{
        int ret = choose(w, 2) ? uext4_syncfs(w->fs)
                               : uext4_fsync_inode(w->dirs[choose(w, w->nr_dirs)]);

        promise(ret == 0 || ret == -EROFS || ret == -ENOSPC || is_damage(ret));
        promise(ret == 0 || !(w->flags & WRITE_WALK_GOOD));
}

/* The last reference to a file: if it has no name any more, it goes. */
static void drop_file(struct walk *w)
{
        unsigned i;

        if (w->nr_files == 0)
                return;
        i = (unsigned)choose(w, w->nr_files);
        uext4_inode_put(w->files[i]);
        w->files[i] = w->files[--w->nr_files];
}

/* ---- what there is ---- */

/* Takes the reference. */
static void collect(struct walk *w, struct uext4_inode *inode)
{
        struct uext4_stat st;

        promise(uext4_stat(inode, &st) == 0);
        if (S_ISDIR(st.mode) && w->nr_dirs < MAX_DIRS)
                w->dirs[w->nr_dirs++] = inode;
        else if (S_ISREG(st.mode) || S_ISLNK(st.mode))
                keep_file(w, inode);
        else
                uext4_inode_put(inode);
}

static void collect_names(struct walk *w, unsigned dir)
{
        struct uext4_inode *inode;
        struct uext4_dirent e;
        uint64_t cookie = 0;

        for (unsigned n = 0; n < MAX_ENTRIES; n++) {
                int ret = uext4_readdir(w->dirs[dir], &cookie, &e);

                promise(ret >= 0 || ret == -ENOKEY || is_damage(ret));
                if (ret == 0 || ret == -ENOKEY)
                        break;
                if (ret < 0 || strcmp(e.name, ".") == 0 || strcmp(e.name, "..") == 0)
                        continue;
                keep_name(w, dir, e.name, e.name_len);
                if (uext4_lookup(w->dirs[dir], e.name, e.name_len, &inode) == 0)
                        collect(w, inode);
        }
}

static void collect_all(struct walk *w, uint64_t nr_inodes)
{
        struct uext4_inode *inode;

        promise(uext4_inode_get(w->fs, UEXT4_ROOT_INO, 0, &w->dirs[0]) == 0);
        w->nr_dirs = 1;
        for (unsigned dir = 0; dir < w->nr_dirs; dir++)
                collect_names(w, dir);
        if (w->flags & WRITE_WALK_GOOD)
                return; /* the journal and the like are nobody's to change */
        for (unsigned n = 0; n < MAX_NUMBERS; n++) {
                uint64_t ino = 1 + choose(w, choose(w, 3) ? nr_inodes : 12);

                if (uext4_inode_get(w->fs, ino, 0, &inode) == 0)
                        collect(w, inode);
        }
}

static void put_all(struct walk *w)
{
        for (unsigned i = 0; i < w->nr_files; i++)
                uext4_inode_put(w->files[i]);
        for (unsigned i = 0; i < w->nr_dirs; i++)
                uext4_inode_put(w->dirs[i]);
        w->nr_files = w->nr_dirs = 0;
}

/* ---- a mount ---- */

static void quiet_log(void *arg, int level, const char *text)
{
        promise(level >= 0 && level <= 7 && strlen(text) > 0);
}

static int mount_image(struct uext4_bdev *dev, const char *options, struct uext4_fs **ret_fs)
{
        const struct uext4_mount_params params = {.options = options, .log = quiet_log};

        return uext4_mount_bdev(dev, &params, ret_fs);
}

/* `errors` is always given: the superblock may ask for the end of this process. */
static int mount_to_write(struct walk *w, struct uext4_bdev *dev)
{
        static const char *const more[] = {"",
                                           "",
                                           ",data=journal",
                                           ",data=writeback",
                                           ",discard",
                                           ",dax=always",
                                           ",meta_cache=16K",
                                           ",nobarrier,meta_cache=16K"};
        const char *errors = choose(w, 2) ? "rw,errors=continue" : "rw,errors=remount-ro";
        char options[100];
        int ret;

        snprintf(options, sizeof(options), "%s%s", errors,
                 more[choose(w, sizeof(more) / sizeof(more[0]))]);
        ret = mount_image(dev, options, &w->fs);
        if (ret == -EINVAL || ret == -EOPNOTSUPP) /* data= needs a journal */
                ret = mount_image(dev, errors, &w->fs);
        if (ret != 0 && ret != -EINVAL && ret != -EOPNOTSUPP && !is_damage(ret)) {
                fprintf(stderr, "unexpected error of a mount: %s\n", strerror(-ret));
                abort();
        }
        promise(ret == 0 || !(w->flags & WRITE_WALK_GOOD));
        if (ret == 0)
                w->seen->nr_mounts++;
        return ret;
}

static void change_all(struct walk *w)
{
        static void (*const calls[])(struct walk * w) = {
                change_file, change_file,      change_file,  change_file, change_file,
                change_file, unlink_one,       unlink_one,   create_one,  create_one,
                link_one,    sync_all,         drop_file,    create_many, rename_one,
                rename_one,  remove_directory, change_xattr, change_xattr};
        unsigned nr = 4 + (unsigned)choose(w, MAX_CALLS - 4);

        while (nr-- > 0)
                calls[choose(w, sizeof(calls) / sizeof(calls[0]))](w);
}

static void check_counters(struct walk *w)
{
        struct statvfs st;
        int ret = uext4_statfs(w->fs, &st);

        if (ret == 0)
                promise(st.f_bavail <= st.f_bfree && st.f_bfree <= w->size / st.f_frsize);
        promise(ret == 0 || is_damage(ret));
}

static void unmount(struct walk *w)
{
        int ret = uext4_unmount(w->fs);

        promise(ret != -EBUSY);
        promise(ret == 0 || !(w->flags & WRITE_WALK_GOOD));
}

/*
 * Mount, change, unmount.  With `crashed` the device as it is before what is open is given back
 * goes there.
 */
static void write_image(struct walk *w, uint8_t *crashed)
{
        struct uext4_bdev *dev;
        struct uext4_info info;

        promise(uext4_bdev_open_buffer((void *)(uintptr_t)w->mem, w->size, 0, &dev) == 0);
        if (mount_to_write(w, dev) == 0) {
                promise(uext4_get_info(w->fs, &info) == 0);
                w->is_readonly = info.readonly_reason[0];
                collect_all(w, info.nr_inodes);
                change_all(w);
                check_counters(w);
                if (crashed) {
                        (void)!uext4_syncfs(w->fs); /* all of it in the journal, if at all */
                        memcpy(crashed, w->mem, w->size);
                }
                put_all(w);
                unmount(w);
        }
        uext4_bdev_close(dev);
}

/* Once more, without a change: recovery, orphans, and what an error has left. */
static void mount_again(struct walk *w, uint8_t *mem)
{
        struct uext4_bdev *dev;

        promise(uext4_bdev_open_buffer(mem, w->size, 0, &dev) == 0);
        if (mount_to_write(w, dev) == 0)
                unmount(w);
        uext4_bdev_close(dev);
}

static void look_at(struct walk *w, uint8_t *mem)
{
        struct image_walk_seen seen;

        if (w->flags & WRITE_WALK_GOOD)
                mem[9] = 0; /* with its checksums, too */
        image_walk(mem, w->size, w->flags & WRITE_WALK_GOOD ? IMAGE_WALK_GOOD : 0, &seen);
}

/* ---- an image ---- */

static void drop_checksums(uint8_t *image, size_t size)
{
        struct ext4_super_block *sb = (void *)(image + EXT4_SUPER_OFFSET);
        uint32_t ro_compat, incompat;

        if (size < EXT4_SUPER_OFFSET + EXT4_SUPER_SIZE)
                return;
        ro_compat = le32_get(sb->s_feature_ro_compat);
        incompat = le32_get(sb->s_feature_incompat);
        ro_compat &= ~(EXT4_RO_COMPAT_METADATA_CSUM | EXT4_RO_COMPAT_GDT_CSUM);
        sb->s_feature_ro_compat = le32_make(ro_compat);
        sb->s_feature_incompat = le32_make(incompat & ~EXT4_INCOMPAT_CSUM_SEED);
}

void write_walk(const uint8_t *image, size_t size, unsigned flags,
                struct write_walk_seen *ret_seen)
{
        struct walk w = {.seen = ret_seen, .flags = flags, .size = size};
        uint8_t *crashed = NULL;
        uint8_t *mem;

        *ret_seen = (struct write_walk_seen){0};
        if (size < CHOICES || size % 512 != 0)
                return;
        mem = must_alloc(size);
        memcpy(mem, image, size);
        memcpy(&w.choice, image, sizeof(w.choice));
        if (!(flags & WRITE_WALK_GOOD) && choose(&w, 2))
                drop_checksums(mem, size);
        if (choose(&w, 4) == 0)
                crashed = must_alloc(size);
        w.mem = mem;
        write_image(&w, crashed);
        mount_again(&w, mem);
        look_at(&w, mem);
        if (crashed && ret_seen->nr_mounts > 0) {
                mount_again(&w, crashed);
                look_at(&w, crashed);
        }
        free(crashed);
        free(mem);
}
