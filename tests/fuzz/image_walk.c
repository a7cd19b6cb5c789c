/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One image is mounted without and, where it has checksums, with their verification; as it is
 * and, where its journal must be replayed, with the journal.  Each mount is walked from its
 * root: directories are read and every name is looked up, every inode is looked at through all
 * calls that its type has, then inodes are taken by number whether linked or not.
 *
 * What is bounded here is the number of calls, never the work of one call: a call that takes
 * long on a small image is a finding.  The one exception is SEEK_HOLE on a file with an
 * indirect map. Map blocks that point to each other make a file of terabytes without a hole out
 * of a few blocks, and finding that it has none takes as long as it does on the real thing.
 *
 * Buffers are allocated at the size that the call is told, so that AddressSanitizer sees the
 * first byte too many.
 */

#include "image_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "promise.h"
#include "uext4.h"

#define MAX_DIRS          48
#define MAX_ENTRIES       100 /* of one directory; of a good image's all */
#define MAX_READDIR_FAILS 20
#define MAX_LOOKUPS       200 /* of one mount */
#define MAX_FILES         64
#define MAX_BYTES         (1u << 20)
#define MAX_XATTRS        24
#define MAX_XATTR_SIZE    (256u << 10)
#define MAX_INODES        640 /* numbers that are tried */
#define MAX_SEEKS         8
#define MAX_EXTENTS       24
#define MAX_PATHS         8
#define MAX_READ          (6u << 10)
#define NR_REQUESTS       6
#define MAX_HOLE_SEARCH   (1u << 20)
#define CHOICES           16

struct walk {
        struct uext4_fs *fs;
        struct image_walk_seen *seen;
        unsigned flags;
        uint64_t image_size;
        uint64_t choice; /* state of the chooser */
        struct uext4_queue *queue;

        struct uext4_inode *dirs[MAX_DIRS]; /* referenced; nr_done of them have been read */
        unsigned nr_dirs, nr_done;
        uint8_t visited[MAX_INODES / 8 + 1]; /* by number; larger numbers are visited anew */

        unsigned nr_lookups, nr_files;
        uint64_t nr_bytes;
        char paths[MAX_PATHS][300];
        unsigned nr_paths;
};

/* A regular file under test. */
struct subject {
        struct walk *w;
        struct uext4_stat st;
        struct uext4_file *direct, *buffered;
};

/* ---- promises ---- */

static bool is_damage(int64_t ret)
{
        return ret == -EUCLEAN || ret == -EBADMSG;
}

/*
 * A result: no error, damage, or one of `others` (ends with 0).  Nothing else may come of
 * a device that always works.
 */
static int64_t expect(struct walk *w, int64_t ret, const int *others, int line)
{
        if (ret >= 0)
                return ret;
        if (is_damage(ret)) {
                w->seen->nr_damages++;
                if (w->flags & IMAGE_WALK_GOOD) {
                        fprintf(stderr, "image_walk.c:%d: a good image is called damaged: %s\n",
                                line, strerror((int)-ret));
                        abort();
                }
                return ret;
        }
        for (const int *e = others; *e; e++) {
                if (ret == -*e)
                        return ret;
        }
        fprintf(stderr, "image_walk.c:%d: unexpected error: %s\n", line, strerror((int)-ret));
        abort();
}

#define EXPECT(w, ret, ...) expect(w, ret, (const int[]){__VA_ARGS__, 0}, __LINE__)
#define EXPECT_NONE(w, ret) expect(w, ret, (const int[]){0}, __LINE__)

/* A number below `limit`, which the image chooses. */
static uint64_t choose(struct walk *w, uint64_t limit)
{
        return choose_number(&w->choice, limit);
}

/* ---- extended attributes ---- */

static bool has_namespace(const char *name)
{
        static const char *const known[] = {"user.", "trusted.", "security.", "system."};

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
                if (strncmp(name, known[i], strlen(known[i])) == 0)
                        return true;
        }
        return false;
}

static void read_xattr(struct walk *w, struct uext4_inode *inode, const char *name)
{
        ssize_t size = uext4_getxattr(inode, name, NULL, 0);
        ssize_t again;
        char *buf;

        if (EXPECT_NONE(w, size) < 0) /* what is listed is there */
                return;
        if (size > (ssize_t)MAX_XATTR_SIZE)
                return;
        buf = must_alloc((size_t)size);
        if (size > 0) {
                again = uext4_getxattr(inode, name, buf, (size_t)size);
                promise(again == size || is_damage(again)); /* an ea_inode's data */
        }
        if (size > 1) {
                again = uext4_getxattr(inode, name, buf, (size_t)size - 1);
                promise(again == -ERANGE || is_damage(again));
        }
        free(buf);
}

static void read_xattrs(struct walk *w, struct uext4_inode *inode)
{
        ssize_t size = EXPECT_NONE(w, uext4_listxattr(inode, NULL, 0));
        unsigned nr = 0;
        char *list;

        if (size > 0) {
                list = must_alloc((size_t)size);
                promise(uext4_listxattr(inode, list, (size_t)size) == size);
                promise(list[size - 1] == '\0');
                promise(size == 1 || uext4_listxattr(inode, list, (size_t)size - 1) == -ERANGE);
                for (const char *name = list; name < list + size && nr < MAX_XATTRS; nr++) {
                        promise(has_namespace(name));
                        read_xattr(w, inode, name);
                        name += strlen(name) + 1;
                }
                free(list);
        }
        EXPECT(w, uext4_getxattr(inode, "user.absent", NULL, 0), ENODATA);
        EXPECT(w, uext4_getxattr(inode, "system.posix_acl_access", NULL, 0), ENODATA, EINVAL);
        EXPECT(w, uext4_getxattr(inode, "system.data", NULL, 0), ENODATA, EOPNOTSUPP);
        promise(uext4_getxattr(inode, "nonsense", NULL, 0) < 0);
}

/* By mode and ACL. */
static void ask(struct walk *w, struct uext4_inode *inode)
{
        const struct uext4_cred somebody = {.uid = 1000, .gid = 1000};

        uext4_cred_use(&somebody);
        EXPECT(w, uext4_access(inode, 4), EACCES);
        uext4_cred_use(NULL);
}

/* ---- mappings ---- */

/* What fiemap(2) says of order and of FIEMAP_EXTENT_LAST; and nothing outside of the device. */
static void check_extents(const struct subject *s, const struct fiemap_extent *fe, int nr,
                          uint64_t pos, uint64_t len)
{
        uint64_t at = 0;

        for (int i = 0; i < nr; i++) {
                promise(fe[i].fe_length > 0);
                promise(fe[i].fe_length <= UINT64_MAX - fe[i].fe_logical);
                promise(i == 0 || fe[i].fe_logical >= at);
                at = fe[i].fe_logical + fe[i].fe_length;
                promise(at > pos);
                promise(fe[i].fe_logical < pos || fe[i].fe_logical - pos < len);
                promise(i == nr - 1 || !(fe[i].fe_flags & FIEMAP_EXTENT_LAST));
                promise(fe[i].fe_length <= s->w->image_size);
                promise(fe[i].fe_physical <= s->w->image_size - fe[i].fe_length);
        }
}

static int map_range(const struct subject *s, uint64_t pos, uint64_t len,
                     struct fiemap_extent *fe)
{
        int nr = uext4_fiemap(s->buffered, pos, len, fe, MAX_EXTENTS);

        if (EXPECT(s->w, nr, EFBIG) < 0)
                return 0;
        promise(nr <= MAX_EXTENTS);
        check_extents(s, fe, nr, pos, len);
        return nr;
}

static bool may_seek_hole(const struct subject *s, uint64_t pos)
{
        return (s->st.flags & (FS_EXTENT_FL | FS_INLINE_DATA_FL)) ||
               s->st.size - pos <= MAX_HOLE_SEARCH;
}

static void seek_from(const struct subject *s, uint64_t pos)
{
        for (unsigned n = 0; n < MAX_SEEKS; n++) {
                int64_t data = uext4_seek(s->buffered, pos, SEEK_DATA);
                int64_t hole;

                if (EXPECT(s->w, data, ENXIO) < 0)
                        return;
                promise((uint64_t)data >= pos && (uint64_t)data < s->st.size);
                if (!may_seek_hole(s, (uint64_t)data))
                        return;
                hole = EXPECT_NONE(s->w, uext4_seek(s->buffered, (uint64_t)data, SEEK_HOLE));
                if (hole < 0)
                        return;
                promise(hole > data && (uint64_t)hole <= s->st.size);
                pos = (uint64_t)hole;
        }
}

static void check_mapping(struct subject *s, struct fiemap_extent *fe, int *ret_nr)
{
        uint64_t size = s->st.size;
        uint64_t some = choose(s->w, size);
        struct fiemap_extent one[MAX_EXTENTS];

        *ret_nr = map_range(s, 0, INT64_MAX, fe);
        map_range(s, some, 1, one);
        map_range(s, some, 1 + choose(s->w, 1u << 20), one);
        EXPECT(s->w, uext4_fiemap(s->buffered, some, 1u << 18, NULL, 0), EFBIG);
        EXPECT(s->w, uext4_fiemap(s->buffered, UINT64_MAX, 1, NULL, 0), EFBIG);

        seek_from(s, 0);
        seek_from(s, some);
        promise(uext4_seek(s->buffered, size, SEEK_DATA) == -ENXIO);
        promise(uext4_seek(s->buffered, size, SEEK_HOLE) == -ENXIO);
        promise(uext4_seek(s->buffered, 0, SEEK_SET) < 0);
}

/* ---- reading ---- */

/* Bytes of [pos, pos + len) in a file of `size`. */
static int64_t inside(uint64_t pos, uint64_t len, uint64_t size)
{
        if (pos >= size)
                return 0;
        return (int64_t)(len < size - pos ? len : size - pos);
}

static void check_count(const struct subject *s, uint64_t pos, size_t len, int64_t got)
{
        promise(got <= inside(pos, len, s->st.size));
        promise(!(s->w->flags & IMAGE_WALK_GOOD) || got == inside(pos, len, s->st.size));
        s->w->nr_bytes += (uint64_t)got;
}

static int64_t read_buffered(const struct subject *s, void *buf, size_t len, uint64_t pos)
{
        int64_t got = uext4_pread(s->buffered, buf, len, pos);

        if (EXPECT(s->w, got, EINVAL) < 0) {
                promise(got != -EINVAL || pos > INT64_MAX - len);
                return got;
        }
        check_count(s, pos, len, got);
        return got;
}

struct read {
        uint64_t pos;
        size_t len;
        char *buf;
        struct iovec iov[3];
        unsigned nr_fetched;
        int64_t result;
};

/* Positions worth reading at: ends of the file and of its extents, and anywhere. */
static uint64_t choose_pos(const struct subject *s, const struct fiemap_extent *fe, int nr)
{
        uint64_t pos = 0;

        switch (choose(s->w, 4)) {
        case 0:
                pos = s->st.size - choose(s->w, s->st.size < 4096 ? s->st.size : 4096);
                break;
        case 1:
                if (nr > 0) {
                        const struct fiemap_extent *e = &fe[choose(s->w, (uint64_t)nr)];

                        pos = e->fe_logical + (choose(s->w, 2) ? e->fe_length : 0);
                        pos -= choose(s->w, pos < 2048 ? pos : 2048);
                }
                break;
        case 2:
                pos = choose(s->w, s->st.size);
                break;
        default:
                break;
        }
        return pos > INT64_MAX ? INT64_MAX : pos;
}

/* A vector of three pieces for `len` bytes. */
static void make_vector(struct walk *w, struct read *r)
{
        size_t first = choose(w, r->len + 1);
        size_t second = choose(w, r->len - first + 1);

        r->iov[0] = (struct iovec){r->buf, first};
        r->iov[1] = (struct iovec){r->buf + first, second};
        r->iov[2] = (struct iovec){r->buf + first + second, r->len - first - second};
}

static void plan_reads(struct subject *s, const struct fiemap_extent *fe, int nr_extents,
                       struct read *reads, struct uext4_request *reqs)
{
        uint64_t align = s->st.dio_offset_align ? s->st.dio_offset_align : 1;

        for (unsigned i = 0; i < NR_REQUESTS; i++) {
                struct read *r = &reads[i];
                uint64_t pos = choose_pos(s, fe, nr_extents);
                size_t len = choose(s->w, MAX_READ);

                *r = (struct read){.pos = pos / align * align,
                                   .len = (len + align - 1) / align * align};
                r->buf = must_alloc(r->len);
                make_vector(s->w, r);
                reqs[i] = (struct uext4_request){
                        .op = UEXT4_READ,
                        .file = s->direct,
                        .iov = r->iov,
                        .nr_iov = 3,
                        .pos = r->pos,
                        .user_data = r,
                };
        }
}

/* All completions, each once. */
static void fetch_all(struct walk *w, unsigned nr)
{
        struct uext4_completion done[NR_REQUESTS];

        while (nr > 0) {
                int got = uext4_queue_wait(w->queue, done, 1, NR_REQUESTS, -1);

                promise(got > 0 && (unsigned)got <= nr);
                for (int i = 0; i < got; i++) {
                        struct read *r = done[i].user_data;

                        promise(r->nr_fetched++ == 0);
                        r->result = done[i].result;
                }
                nr -= (unsigned)got;
        }
        promise(uext4_queue_wait(w->queue, done, 0, NR_REQUESTS, 0) == 0);
}

/* What came by the queue is what a plain read gives. */
static void compare_read(struct subject *s, struct read *r)
{
        char *other = must_alloc(r->len);
        int64_t got = read_buffered(s, other, r->len, r->pos);

        promise(r->nr_fetched == 1);
        if (EXPECT_NONE(s->w, r->result) >= 0) {
                check_count(s, r->pos, r->len, r->result);
                if (got > r->result)
                        got = r->result;
                promise(got <= 0 || memcmp(other, r->buf, (size_t)got) == 0);
        }
        free(other);
        free(r->buf);
}

static void read_by_queue(struct subject *s, const struct fiemap_extent *fe, int nr_extents)
{
        struct read reads[NR_REQUESTS];
        struct uext4_request reqs[NR_REQUESTS];

        plan_reads(s, fe, nr_extents, reads, reqs);
        promise(uext4_queue_submit(s->w->queue, reqs, NR_REQUESTS) == NR_REQUESTS);
        promise(uext4_queue_submit(s->w->queue, reqs, 1) == -EAGAIN);
        fetch_all(s->w, NR_REQUESTS);
        for (unsigned i = 0; i < NR_REQUESTS; i++)
                compare_read(s, &reads[i]);
}

/* Space that is called a hole reads as zeros. */
static void check_hole(struct subject *s)
{
        int64_t hole = 0;
        int64_t end;
        int64_t got;
        size_t len;
        char *buf;

        if (s->st.size == 0 || !may_seek_hole(s, 0))
                return;
        hole = EXPECT_NONE(s->w, uext4_seek(s->buffered, 0, SEEK_HOLE));
        if (hole < 0 || (uint64_t)hole >= s->st.size)
                return;
        end = EXPECT(s->w, uext4_seek(s->buffered, (uint64_t)hole, SEEK_DATA), ENXIO);
        if (end == -ENXIO)
                end = (int64_t)s->st.size;
        if (end < 0)
                return;
        len = (size_t)inside((uint64_t)hole, MAX_READ, (uint64_t)end);
        buf = must_alloc(len);
        got = read_buffered(s, buf, len, (uint64_t)hole);
        for (int64_t i = 0; i < got; i++)
                promise(buf[i] == 0);
        free(buf);
}

static void read_odd(struct subject *s)
{
        uint64_t size = s->st.size;
        uint64_t pos = choose(s->w, size);
        size_t len = 1 + choose(s->w, 700);
        char *buf = must_alloc(len);
        struct iovec iov = {buf, len};

        EXPECT(s->w, uext4_preadv2(s->direct, &iov, 1, 0, RWF_NOWAIT), EAGAIN, EINVAL);
        read_buffered(s, buf, len, pos);
        read_buffered(s, buf, len, size > len / 2 ? size - len / 2 : 0);
        promise(size > INT64_MAX - len || uext4_pread(s->buffered, buf, len, size) == 0);
        if (s->st.dio_offset_align > 1)
                promise(uext4_pread(s->direct, buf, 1, 1) == -EINVAL);
        free(buf);
}

/* Requests that nobody fetches: close and free take care of them. */
static void abandon_reads(struct subject *s)
{
        struct read reads[NR_REQUESTS];
        struct uext4_request reqs[NR_REQUESTS];
        struct uext4_queue *queue;

        promise(uext4_queue_new(s->w->fs, NR_REQUESTS, &queue) == 0);
        plan_reads(s, NULL, 0, reads, reqs);
        promise(uext4_queue_submit(queue, reqs, NR_REQUESTS) == NR_REQUESTS);
        uext4_close(s->direct);
        s->direct = NULL;
        promise(uext4_unmount(s->w->fs) == -EBUSY);
        uext4_queue_free(queue);
        for (unsigned i = 0; i < NR_REQUESTS; i++)
                free(reads[i].buf);
}

static void visit_file(struct walk *w, struct uext4_inode *inode, const struct uext4_stat *st)
{
        struct subject s = {.w = w, .st = *st};
        struct fiemap_extent fe[MAX_EXTENTS];
        int nr_extents;
        int ret;

        if (w->nr_files++ >= MAX_FILES || w->nr_bytes > MAX_BYTES)
                return;
        ret = uext4_open(inode, O_RDONLY, &s.buffered);
        if (EXPECT(w, ret, ENOKEY) < 0)
                return;
        promise(uext4_open(inode, O_RDONLY | O_DIRECT, &s.direct) == 0);
        ret = uext4_open(inode, O_RDWR, &s.direct);
        promise(ret == -EROFS || ret == -EPERM); /* immutable and the like */
        promise(uext4_file_inode(s.direct) == inode);

        read_odd(&s);
        check_mapping(&s, fe, &nr_extents);
        read_by_queue(&s, fe, nr_extents);
        check_hole(&s);
        if (w->nr_files == 1)
                abandon_reads(&s);
        uext4_close(s.direct);
        uext4_close(s.buffered);
}

/* ---- inodes ---- */

static void visit_symlink(struct walk *w, struct uext4_inode *inode)
{
        char small[1];
        char *buf = must_alloc(4096);
        ssize_t len = uext4_readlink(inode, buf, 4096);

        if (EXPECT(w, len, ENOKEY) >= 0) {
                promise(len <= 65536);
                promise(uext4_readlink(inode, small, sizeof(small)) == len);
                promise(len == 0 || small[0] == buf[0]);
        }
        free(buf);
}

static void check_stat(struct walk *w, const struct uext4_stat *st)
{
        promise(st->size <= INT64_MAX);
        promise(st->atime.tv_nsec >= 0 && st->atime.tv_nsec < 1000000000);
        promise(st->mtime.tv_nsec >= 0 && st->mtime.tv_nsec < 1000000000);
        promise(st->ctime.tv_nsec >= 0 && st->ctime.tv_nsec < 1000000000);
        promise(st->btime.tv_nsec >= 0 && st->btime.tv_nsec < 1000000000);
        promise((st->dio_mem_align == 0) == (st->dio_offset_align == 0));
        if (st->uid > w->seen->max_uid)
                w->seen->max_uid = st->uid;
}

/* The first time that an inode is met; true for numbers too large to remember. */
static bool is_new(struct walk *w, uint64_t ino)
{
        uint8_t bit = (uint8_t)(1u << (ino % 8));

        if (ino >= MAX_INODES)
                return true;
        if (w->visited[ino / 8] & bit)
                return false;
        w->visited[ino / 8] |= bit;
        return true;
}

static void check_no_directory(struct uext4_inode *inode)
{
        struct uext4_inode *child;
        struct uext4_dirent e;
        uint64_t cookie = 0;

        promise(uext4_lookup(inode, "a", 1, &child) == -ENOTDIR);
        promise(uext4_readdir(inode, &cookie, &e) == -ENOTDIR);
}

/* Takes the reference. */
static void visit(struct walk *w, struct uext4_inode *inode)
{
        struct uext4_file *file;
        struct uext4_stat st;

        EXPECT_NONE(w, uext4_stat(inode, &st));
        if (!is_new(w, st.ino)) {
                uext4_inode_put(inode);
                return;
        }
        w->seen->nr_inodes++;
        check_stat(w, &st);
        read_xattrs(w, inode);
        ask(w, inode);
        if (S_ISREG(st.mode)) {
                visit_file(w, inode, &st);
        } else {
                promise(uext4_open(inode, O_RDONLY, &file) < 0);
        }
        if (S_ISLNK(st.mode))
                visit_symlink(w, inode);
        else
                promise(uext4_readlink(inode, NULL, 0) < 0);
        if (!S_ISDIR(st.mode)) {
                check_no_directory(inode);
        } else if (w->nr_dirs < MAX_DIRS) {
                w->dirs[w->nr_dirs++] = inode;
                return;
        }
        uext4_inode_put(inode);
}

static void visit_numbers(struct walk *w, uint64_t nr_inodes)
{
        const uint64_t odd[] = {0,          nr_inodes,  nr_inodes + 1,
                                UINT32_MAX, 1ull << 32, UINT64_MAX};
        uint64_t last = nr_inodes < MAX_INODES ? nr_inodes : MAX_INODES;
        struct uext4_inode *inode;
        struct uext4_stat st;

        for (uint64_t ino = 1; ino <= last; ino++) {
                if (EXPECT(w, uext4_inode_get(w->fs, ino, 0, &inode), ESTALE) < 0)
                        continue;
                EXPECT_NONE(w, uext4_stat(inode, &st));
                promise(st.ino == ino);
                visit(w, inode);
                if (st.generation != UINT32_MAX)
                        promise(uext4_inode_get(w->fs, ino, st.generation + 1, &inode) ==
                                -ESTALE);
        }
        for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
                if (EXPECT(w, uext4_inode_get(w->fs, odd[i], 0, &inode), ESTALE) >= 0)
                        visit(w, inode);
        }
}

/* ---- directories ---- */

static void remember_path(struct walk *w, const char *name)
{
        if (w->nr_paths < MAX_PATHS)
                snprintf(w->paths[w->nr_paths++], sizeof(w->paths[0]), "/%s", name);
}

static void visit_entry(struct walk *w, struct uext4_inode *dir, const struct uext4_dirent *e)
{
        struct uext4_inode *child;
        struct uext4_stat st;
        int ret;

        if (w->nr_lookups++ >= MAX_LOOKUPS && !(w->flags & IMAGE_WALK_GOOD))
                return;
        /* A name is not found where a damaged index leads elsewhere. */
        ret = uext4_lookup(dir, e->name, e->name_len, &child);
        if (EXPECT(w, ret, ENOENT, ENOKEY) < 0) {
                promise(ret != -ENOENT || !(w->flags & IMAGE_WALK_GOOD));
                return;
        }
        EXPECT_NONE(w, uext4_stat(child, &st));
        promise(st.ino == e->ino || !(w->flags & IMAGE_WALK_GOOD));
        visit(w, child);
}

static void look_up_absent(struct walk *w, struct uext4_inode *dir)
{
        struct uext4_inode *child;
        char name[256];
        int ret;

        memset(name, 'n', sizeof(name));
        ret = uext4_lookup(dir, name, 256, &child);
        promise(ret == -ENAMETOOLONG || ret == -ENOKEY);
        for (unsigned i = 0; i < 3; i++) {
                size_t len = i == 0 ? 255 : 1 + choose(w, 20);

                name[0] = (char)choose(w, 256);
                ret = uext4_lookup(dir, name, len, &child);
                if (EXPECT(w, ret, ENOENT, ENOKEY) >= 0)
                        uext4_inode_put(child);
        }
}

static void read_directory(struct walk *w, struct uext4_inode *dir, bool is_root)
{
        struct uext4_dirent e;
        uint64_t cookie = 0;
        unsigned nr_fails = 0;

        for (unsigned n = 0; n < MAX_ENTRIES || (w->flags & IMAGE_WALK_GOOD); n++) {
                uint64_t before = cookie;
                int ret = uext4_readdir(dir, &cookie, &e);

                if (EXPECT(w, ret, ENOKEY) == 0 || ret == -ENOKEY)
                        break;
                promise(cookie != before); /* also behind a damaged block */
                if (ret < 0) {
                        if (++nr_fails > MAX_READDIR_FAILS)
                                break;
                        continue;
                }
                promise(ret == 1 && e.cookie == cookie);
                promise(e.name_len > 0 && e.name_len <= 255 && e.name[e.name_len] == '\0');
                if (is_root)
                        remember_path(w, e.name);
                visit_entry(w, dir, &e);
        }
        /* A position that nobody was given. */
        cookie = choose(w, 1u << 20);
        EXPECT(w, uext4_readdir(dir, &cookie, &e), ENOKEY, EINVAL);
        look_up_absent(w, dir);
}

/* Directories that were met, and those met while reading them. */
static void read_directories(struct walk *w)
{
        while (w->nr_done < w->nr_dirs) {
                struct uext4_inode *dir = w->dirs[w->nr_done++];

                read_directory(w, dir, w->nr_done == 1);
                uext4_inode_put(dir);
        }
}

static void resolve(struct walk *w, const char *path, uint32_t flags)
{
        struct uext4_inode *inode;
        int ret = uext4_resolve(w->fs, path, flags, &inode);

        if (EXPECT(w, ret, ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, ENOKEY) >= 0)
                uext4_inode_put(inode);
}

static void resolve_paths(struct walk *w)
{
        static const char *const fixed[] = {"/", "", "//..//./", "/lost+found/../x/",
                                            "a/b/c/d"};
        char path[400];

        for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
                resolve(w, fixed[i], 0);
        for (unsigned i = 0; i < w->nr_paths; i++) {
                resolve(w, w->paths[i], 0);
                resolve(w, w->paths[i], UEXT4_NOFOLLOW);
                snprintf(path, sizeof(path), "%s/", w->paths[i]);
                resolve(w, path, UEXT4_NOFOLLOW);
                snprintf(path, sizeof(path), "%s/../%s", w->paths[i], w->paths[0]);
                resolve(w, path, 0);
        }
}

/* ---- a mount ---- */

static void quiet_log(void *arg, int level, const char *text)
{
        promise(level >= 0 && level <= 7);
        promise(strlen(text) > 0);
}

static int mount_image(struct uext4_bdev *dev, const char *options, struct uext4_fs **ret_fs)
{
        const struct uext4_mount_params params = {.options = options, .log = quiet_log};

        return uext4_mount_bdev(dev, &params, ret_fs);
}

static void check_info(struct walk *w, struct uext4_info *info)
{
        promise(uext4_get_info(w->fs, info) == 0);
        promise(strnlen(info->features, sizeof(info->features)) < sizeof(info->features));
        promise(strnlen(info->label, sizeof(info->label)) < sizeof(info->label));
        promise(strnlen(info->last_mounted, sizeof(info->last_mounted)) <
                sizeof(info->last_mounted));
}

static void check_counters(struct walk *w)
{
        struct uext4_stats stats;
        struct statvfs st;

        uext4_get_stats(w->fs, &stats);
        if (EXPECT_NONE(w, uext4_statfs(w->fs, &st)) < 0)
                return;
        promise(st.f_bavail <= st.f_bfree && st.f_bfree <= w->image_size / st.f_frsize);
        promise(st.f_favail <= st.f_ffree && st.f_ffree <= st.f_files);
}

static void walk_mount(struct walk *w, struct uext4_info *ret_info)
{
        struct uext4_inode *root;

        check_info(w, ret_info);
        check_counters(w);
        promise(uext4_queue_new(w->fs, NR_REQUESTS, &w->queue) == 0);
        promise(uext4_inode_get(w->fs, UEXT4_ROOT_INO, 0, &root) == 0);
        promise(uext4_unmount(w->fs) == -EBUSY);
        visit(w, root);
        read_directories(w);
        resolve_paths(w);
        visit_numbers(w, ret_info->nr_inodes);
        read_directories(w);
        check_counters(w);
        promise(uext4_unmount(w->fs) == -EBUSY);
        uext4_queue_free(w->queue);
}

/* False when it cannot be mounted. */
static bool walk_with(struct uext4_bdev *dev, const char *options, const uint8_t *choices,
                      unsigned flags, struct image_walk_seen *seen, struct uext4_info *ret_info)
{
        struct walk w = {
                .seen = seen,
                .flags = flags,
                .image_size = uext4_bdev_geometry(dev)->size,
        };
        char text[64];
        int ret;

        memcpy(&w.choice, choices, sizeof(w.choice));
        /* In a small cache blocks come and go. */
        snprintf(text, sizeof(text), "%s%s", options, choices[8] & 1 ? ",meta_cache=16K" : "");
        ret = mount_image(dev, text, &w.fs);
        if (EXPECT(&w, ret, EINVAL, EOPNOTSUPP) < 0) {
                promise(!(flags & IMAGE_WALK_GOOD));
                return false;
        }
        seen->nr_mounts++;
        walk_mount(&w, ret_info);
        seen->nr_bytes += w.nr_bytes;
        promise(uext4_unmount(w.fs) == 0);
        return true;
}

void image_walk(const uint8_t *image, size_t size, unsigned flags,
                struct image_walk_seen *ret_seen)
{
        /* Read-only: the device never writes what it is told to leave alone. */
        void *mem = (void *)(uintptr_t)image;
        struct image_walk_seen seen = {0};
        struct uext4_bdev *dev;
        struct uext4_info info;

        *ret_seen = seen;
        if (size < CHOICES ||
            uext4_bdev_open_buffer(mem, size, UEXT4_BDEV_OPEN_READONLY, &dev) < 0) {
                promise(!(flags & IMAGE_WALK_GOOD));
                return;
        }
        if (walk_with(dev, "ro,noload,nocsum", image, flags, &seen, &info) &&
            image[9] % 4 == 0) {
                if (info.needs_recovery)
                        walk_with(dev, "ro,nocsum", image, flags, &seen, &info);
                if (strstr(info.features, "metadata_csum") ||
                    strstr(info.features, "uninit_bg"))
                        walk_with(dev, "ro,noload", image, flags, &seen, &info);
        }
        uext4_bdev_close(dev);
        *ret_seen = seen;
}
