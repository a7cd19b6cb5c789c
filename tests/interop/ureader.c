/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ureader - all that the library says about an image, as JSON lines.
 *
 * Walks an image through the public API alone and prints one line an inode: attributes,
 * extended attributes, directory entries or link target, and for a regular file a checksum of
 * its contents, the SEEK_DATA/SEEK_HOLE sequence, FIEMAP, and answers at some random
 * positions.  The Python side compares these lines with oracles that know nothing of us.
 *
 * What needs no oracle is checked here, because millions of reads are cheap here: buffered,
 * direct, scattered and queued reads of the same range agree, a name found by readdir is found
 * by lookup, a misaligned direct request is refused (B27), a read ends at the size (B29), the
 * two calls of a size-then-fetch pair agree.  A broken promise is a line in "bad" of its inode.
 * An error that the library returned is in "err": on a damaged image it is the right answer.
 *
 * Names and link targets are bytes; they are printed as Latin-1 in JSON.
 *
 *   ureader [-o OPTIONS] [-s SEED] [-m MAX_BYTES_PER_FILE] [-n MAX_INODES] [-i INODE,...] [-q]
 *           IMAGE
 *   ureader -r COMMAND [ARG...]     run it; print its CPU time and peak memory
 *
 * Content checksum: for each aligned piece of 4096 bytes that is not all zeros, CRC-32 of the
 * position (8 bytes, little endian) and the piece.  Holes, unwritten ranges and written zeros
 * look alike, so a huge sparse file costs only what it holds.
 */

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "uext4.h"

#define PIECE        4096u        /* unit of the content checksum */
#define READ_BYTES   (256u << 10) /* of one sequential request */
#define WHOLE_BYTES  (16u << 20)  /* files up to here are read from end to end */
#define MAX_SEGMENTS 400000u
#define NR_SCATTER   6
#define MAX_IOV      6
#define GUARD        64 /* bytes behind each buffer that nobody may touch */

struct options {
        const char *mount_options;
        uint64_t seed;
        uint64_t max_bytes; /* of one file */
        uint64_t max_inodes;
        const char *inodes; /* report these, separated by commas, instead of walking */
        bool quick;         /* no random requests */
};

struct segment {
        uint64_t start, end;
};

struct walk {
        struct uext4_fs *fs;
        struct uext4_queue *queue;
        const struct options *opt;
        uint64_t *todo; /* directories and other inodes to report */
        size_t nr_todo, cap_todo;
        uint64_t *seen; /* open hash of inode numbers; 0 is free */
        size_t nr_seen, cap_seen;
        uint64_t nr_inodes, nr_bad;
        char *mem; /* one buffer for sequential reads, page aligned */
};

/* The inode that is being reported; "bad" and "err" are collected as text. */
struct report {
        struct walk *w;
        uint64_t ino;
        uint64_t rng;
        struct uext4_stat st;
        FILE *bad;
        FILE *err;
        char *bad_text, *err_text;
        size_t bad_len, err_len;
};

/* ---- small things ------------------------------------------------------ */

static void die(const char *what)
{
        fprintf(stderr, "ureader: %s: %s\n", what, strerror(errno));
        exit(3);
}

static void *xrealloc(void *ptr, size_t size)
{
        void *p = realloc(ptr, size ? size : 1);

        if (!p)
                die("memory");
        return p;
}

static void *xaligned(size_t size)
{
        void *p;

        if (posix_memalign(&p, 65536, size))
                die("memory");
        return p;
}

static uint64_t rng_next(uint64_t *state)
{
        uint64_t z = (*state += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

static uint64_t rng_below(uint64_t *state, uint64_t n)
{
        return n ? rng_next(state) % n : 0;
}

static uint32_t crc_table[8][256];

static void crc_setup(void)
{
        for (uint32_t i = 0; i < 256; i++) {
                uint32_t c = i;

                for (int k = 0; k < 8; k++)
                        c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
                crc_table[0][i] = c;
        }
        for (int t = 1; t < 8; t++)
                for (int i = 0; i < 256; i++)
                        crc_table[t][i] = crc_table[0][crc_table[t - 1][i] & 0xff] ^
                                          (crc_table[t - 1][i] >> 8);
}

/* The CRC-32 of zlib. */
static uint32_t crc32_add(uint32_t crc, const void *data, size_t len)
{
        const uint8_t *p = data;

        crc = ~crc;
        for (; len >= 8; len -= 8, p += 8) {
                uint32_t lo, hi;

                memcpy(&lo, p, 4);
                memcpy(&hi, p + 4, 4);
                lo = le32toh(lo) ^ crc;
                hi = le32toh(hi);
                crc = crc_table[7][lo & 0xff] ^ crc_table[6][(lo >> 8) & 0xff] ^
                      crc_table[5][(lo >> 16) & 0xff] ^ crc_table[4][lo >> 24] ^
                      crc_table[3][hi & 0xff] ^ crc_table[2][(hi >> 8) & 0xff] ^
                      crc_table[1][(hi >> 16) & 0xff] ^ crc_table[0][hi >> 24];
        }
        while (len--)
                crc = crc_table[0][(crc ^ *p++) & 0xff] ^ (crc >> 8);
        return ~crc;
}

static bool all_zero(const char *p, size_t len)
{
        return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* `pos` is a multiple of PIECE. */
static uint32_t crc_range(uint32_t crc, uint64_t pos, const char *data, size_t len)
{
        while (len > 0) {
                size_t n = len < PIECE ? len : PIECE;

                if (!all_zero(data, n)) {
                        uint64_t le = htole64(pos);

                        crc = crc32_add(crc, &le, sizeof(le));
                        crc = crc32_add(crc, data, n);
                }
                pos += n;
                data += n;
                len -= n;
        }
        return crc;
}

/* ---- output ------------------------------------------------------------ */

static void put_string_to(FILE *out, const char *s, size_t len)
{
        fputc('"', out);
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)s[i];

                if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
                        fprintf(out, "\\u%04x", c);
                else
                        fputc(c, out);
        }
        fputc('"', out);
}

static void put_string(const char *s, size_t len)
{
        put_string_to(stdout, s, len);
}

static void put_time(const char *name, struct timespec t)
{
        printf(",\"%s\":[%lld,%ld]", name, (long long)t.tv_sec, t.tv_nsec);
}

__attribute__((format(printf, 2, 3))) static void bad(struct report *r, const char *fmt, ...)
{
        va_list ap;
        char text[400];

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        if (ftell(r->bad) > 0)
                fputc(',', r->bad);
        put_string_to(r->bad, text, strlen(text));
        r->w->nr_bad++;
}

static void err(struct report *r, const char *what, int64_t ret)
{
        if (ftell(r->err) > 0)
                fputc(',', r->err);
        fprintf(r->err, "[\"%s\",%" PRId64 "]", what, ret);
}

/* The log goes to stderr, a line of JSON each, so that it cannot fall inside an inode's line.
 */
static void log_line(void *arg, int level, const char *text)
{
        (void)arg;
        flockfile(stderr);
        fprintf(stderr, "{\"log\":[%d,", level);
        put_string_to(stderr, text, strlen(text));
        fprintf(stderr, "]}\n");
        funlockfile(stderr);
}

/* ---- the set of inodes ------------------------------------------------- */

static bool seen_insert(uint64_t *tab, size_t cap, uint64_t ino)
{
        size_t i = (size_t)(ino * 0x9e3779b97f4a7c15u) & (cap - 1);

        while (tab[i] && tab[i] != ino)
                i = (i + 1) & (cap - 1);
        if (tab[i] == ino)
                return false;
        tab[i] = ino;
        return true;
}

static void seen_grow(struct walk *w)
{
        size_t cap = w->cap_seen ? w->cap_seen * 2 : 1024;
        uint64_t *tab = calloc(cap, sizeof(*tab));

        if (!tab)
                die("memory");
        for (size_t i = 0; i < w->cap_seen; i++)
                if (w->seen[i])
                        seen_insert(tab, cap, w->seen[i]);
        free(w->seen);
        w->seen = tab;
        w->cap_seen = cap;
}

static void todo_push(struct walk *w, uint64_t ino)
{
        if (ino == 0)
                return;
        if (w->nr_seen * 2 >= w->cap_seen)
                seen_grow(w);
        if (!seen_insert(w->seen, w->cap_seen, ino))
                return;
        w->nr_seen++;
        if (w->nr_todo == w->cap_todo) {
                w->cap_todo = w->cap_todo ? w->cap_todo * 2 : 1024;
                w->todo = xrealloc(w->todo, w->cap_todo * sizeof(*w->todo));
        }
        w->todo[w->nr_todo++] = ino;
}

/* ---- directories ------------------------------------------------------- */

/* A cookie taken in the middle of a directory leads to the same next entry again. */
static void check_cookie(struct report *r, struct uext4_inode *dir, uint64_t cookie,
                         const struct uext4_dirent *expected)
{
        struct uext4_dirent e;
        int ret = uext4_readdir(dir, &cookie, &e);

        if (ret != 1 || e.ino != expected->ino || strcmp(e.name, expected->name) != 0)
                bad(r, "readdir from a kept cookie: %d, not the entry %s", ret, expected->name);
}

static void check_lookup(struct report *r, struct uext4_inode *dir,
                         const struct uext4_dirent *e)
{
        struct uext4_inode *found;
        int ret = uext4_lookup(dir, e->name, e->name_len, &found);
        struct uext4_stat st;

        if (ret < 0) {
                if (ret == -EUCLEAN || ret == -EBADMSG || ret == -EIO || ret == -ENOKEY ||
                    ret == -ESTALE)
                        err(r, "lookup", ret);
                else
                        bad(r, "lookup of %s: %d, but readdir had it", e->name, ret);
                return;
        }
        ret = uext4_stat(found, &st);
        if (ret < 0 || st.ino != e->ino)
                bad(r, "lookup of %s: inode %" PRIu64 ", readdir says %" PRIu64, e->name,
                    st.ino, e->ino);
        uext4_inode_put(found);
}

static void check_missing(struct report *r, struct uext4_inode *dir)
{
        static const char *const names[] = {"no such name", "zz\x80\xff-missing", "...."};
        struct uext4_inode *found;

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                int ret = uext4_lookup(dir, names[i], strlen(names[i]), &found);

                if (ret == 0) {
                        bad(r, "lookup found %s", names[i]);
                        uext4_inode_put(found);
                } else if (ret != -ENOENT) {
                        err(r, "lookup-missing", ret);
                }
        }
}

static void report_dir(struct report *r, struct uext4_inode *dir)
{
        uint64_t cookie = 0;
        uint64_t nr = 0;
        int nr_errors = 0;

        printf(",\"entries\":[");
        for (;;) {
                struct uext4_dirent e;
                uint64_t before = cookie;
                int ret = uext4_readdir(dir, &cookie, &e);

                if (ret == 0)
                        break;
                if (ret < 0) {
                        err(r, "readdir", ret);
                        if (cookie == before || ++nr_errors > 1000)
                                break;
                        continue;
                }
                if (strlen(e.name) != e.name_len && (r->st.flags & 0x800) == 0)
                        bad(r, "name_len %u of %s", e.name_len, e.name);
                printf("%s[", nr++ ? "," : "");
                put_string(e.name, e.name_len);
                printf(",%" PRIu64 ",%u]", e.ino, e.type);
                if (e.cookie != cookie)
                        bad(r, "cookie of the entry and cookie moved on differ at %s", e.name);
                if (rng_below(&r->rng, 16) == 0)
                        check_cookie(r, dir, before, &e);
                if (strcmp(e.name, "..") != 0)
                        check_lookup(r, dir, &e);
                todo_push(r->w, e.ino);
                if (nr > 4000000)
                        break;
        }
        printf("]");
        if (r->st.nlink > 0)
                check_missing(r, dir);
}

/* ---- attributes -------------------------------------------------------- */

static void report_xattr(struct report *r, struct uext4_inode *inode, const char *name)
{
        ssize_t size = uext4_getxattr(inode, name, NULL, 0);

        if (size < 0) {
                err(r, "getxattr", size);
                printf("[");
                put_string(name, strlen(name));
                printf(",null]");
                return;
        }

        unsigned char *value = xrealloc(NULL, (size_t)size + 1);
        ssize_t got = uext4_getxattr(inode, name, value, (size_t)size + (size == 0));

        if (got != size)
                bad(r, "getxattr %s: %zd, the size was %zd", name, got, size);
        printf("[");
        put_string(name, strlen(name));
        printf(",\"");
        for (ssize_t i = 0; i < got; i++)
                printf("%02x", value[i]);
        printf("\"]");
        if (size > 1) {
                got = uext4_getxattr(inode, name, value, (size_t)size - 1);
                if (got != -ERANGE)
                        bad(r, "getxattr %s into %zd of %zd bytes: %zd", name, size - 1, size,
                            got);
        }
        free(value);
}

static void report_xattrs(struct report *r, struct uext4_inode *inode)
{
        ssize_t size = uext4_listxattr(inode, NULL, 0);

        if (size < 0) {
                err(r, "listxattr", size);
                return;
        }

        char *names = xrealloc(NULL, (size_t)size + 1);
        ssize_t got = uext4_listxattr(inode, names, (size_t)size + (size == 0));

        if (got != size)
                bad(r, "listxattr: %zd, the size was %zd", got, size);
        if (size > 1 && uext4_listxattr(inode, names, (size_t)size - 1) != -ERANGE)
                bad(r, "listxattr into a short buffer is not ERANGE");
        if (size > 1)
                got = uext4_listxattr(inode, names, (size_t)size);
        printf(",\"xattrs\":[");
        for (ssize_t i = 0; i < got; i += (ssize_t)strlen(names + i) + 1) {
                if (i)
                        printf(",");
                report_xattr(r, inode, names + i);
        }
        printf("]");
        got = uext4_getxattr(inode, "user.no such attribute", NULL, 0);
        if (got >= 0)
                bad(r, "getxattr found an attribute that is not there");
        free(names);
}

static void report_link(struct report *r, struct uext4_inode *inode)
{
        char buf[8192];
        ssize_t len = uext4_readlink(inode, buf, sizeof(buf));

        if (len < 0) {
                err(r, "readlink", len);
                return;
        }
        if ((size_t)len > sizeof(buf)) {
                bad(r, "readlink: %zd bytes", len);
                return;
        }
        printf(",\"link\":");
        put_string(buf, (size_t)len);

        char part[4] = {'?', '?', '?', '?'};
        ssize_t again = uext4_readlink(inode, part, 3);

        if (again != len || part[3] != '?' || memcmp(part, buf, len < 3 ? (size_t)len : 3) != 0)
                bad(r, "readlink into 3 bytes: %zd", again);
}

/* ---- contents ---------------------------------------------------------- */

struct contents {
        struct uext4_file *buffered, *direct;
        struct segment *data; /* what SEEK_DATA and SEEK_HOLE say */
        size_t nr_data;
        bool whole;   /* read from end to end, not only the data */
        bool clipped; /* by max_bytes */
};

static void find_segments(struct report *r, struct contents *c)
{
        uint64_t pos = 0;
        size_t cap = 0;

        while (pos < r->st.size && c->nr_data < MAX_SEGMENTS) {
                int64_t start = uext4_seek(c->buffered, pos, SEEK_DATA);

                if (start == -ENXIO)
                        break;
                if (start < 0) {
                        err(r, "seek", start);
                        break;
                }

                int64_t end = uext4_seek(c->buffered, (uint64_t)start, SEEK_HOLE);

                if (end < 0) {
                        err(r, "seek", end);
                        break;
                }
                if ((uint64_t)start < pos || end <= start || (uint64_t)end > r->st.size) {
                        bad(r, "seek at %" PRIu64 ": data %" PRId64 ", hole %" PRId64, pos,
                            start, end);
                        break;
                }
                if (c->nr_data == cap) {
                        cap = cap ? cap * 2 : 16;
                        c->data = xrealloc(c->data, cap * sizeof(*c->data));
                }
                c->data[c->nr_data++] = (struct segment){(uint64_t)start, (uint64_t)end};
                pos = (uint64_t)end;
        }
        printf(",\"data\":[");
        for (size_t i = 0; i < c->nr_data; i++)
                printf("%s[%" PRIu64 ",%" PRIu64 "]", i ? "," : "", c->data[i].start,
                       c->data[i].end);
        printf("]");
}

static int64_t range_crc(struct report *r, struct contents *c, struct uext4_file *file,
                         struct segment range, uint64_t *budget, uint32_t *crc)
{
        for (uint64_t pos = range.start; pos < range.end;) {
                uint64_t left = range.end - pos;
                size_t want = left < READ_BYTES ? (size_t)left : READ_BYTES;
                ssize_t got;

                if (*budget == 0) {
                        c->clipped = true;
                        return 0;
                }
                /* direct requests have whole blocks; the read ends at the size anyway */
                got = uext4_pread(file, r->w->mem, (want + PIECE - 1) / PIECE * PIECE, pos);
                if (got < 0)
                        return got;
                if ((uint64_t)got > left)
                        got = (ssize_t)left;
                if ((size_t)got != want) {
                        bad(r, "read of %zu at %" PRIu64 " gave %zd, size is %" PRIu64, want,
                            pos, got, r->st.size);
                        return -ENODATA;
                }
                *crc = crc_range(*crc, pos, r->w->mem, want);
                pos += want;
                *budget = *budget > want ? *budget - want : 0;
        }
        return 0;
}

/* The checksum of a file, read through `file`. */
static int64_t file_crc(struct report *r, struct contents *c, struct uext4_file *file,
                        uint32_t *ret_crc)
{
        uint64_t budget = r->w->opt->max_bytes;
        uint32_t crc = 0;

        if (c->whole) {
                int64_t ret =
                        range_crc(r, c, file, (struct segment){0, r->st.size}, &budget, &crc);

                *ret_crc = crc;
                return ret;
        }

        uint64_t done = 0;

        for (size_t i = 0; i < c->nr_data; i++) {
                struct segment s = c->data[i];

                s.start = s.start / PIECE * PIECE;
                s.end = (s.end + PIECE - 1) / PIECE * PIECE;
                if (s.start < done)
                        s.start = done;
                if (s.end > r->st.size)
                        s.end = r->st.size;
                if (s.start >= s.end)
                        continue;

                int64_t ret = range_crc(r, c, file, s, &budget, &crc);

                if (ret < 0)
                        return ret;
                done = s.end;
        }
        *ret_crc = crc;
        return 0;
}

static void report_crc(struct report *r, struct contents *c)
{
        uint32_t crc_b = 0;
        uint32_t crc_d = 0;
        int64_t ret;

        c->whole = r->st.size <= WHOLE_BYTES;
        ret = file_crc(r, c, c->buffered, &crc_b);
        if (ret < 0) {
                err(r, "read", ret);
                ret = file_crc(r, c, c->direct, &crc_d);
                if (ret == 0)
                        bad(r, "a direct read is fine where a buffered one failed");
                return;
        }
        ret = file_crc(r, c, c->direct, &crc_d);
        if (ret < 0)
                bad(r, "direct read: %" PRId64 " where a buffered one is fine", ret);
        else if (crc_b != crc_d)
                bad(r, "contents: buffered crc %08x, direct %08x", crc_b, crc_d);
        if (!c->clipped)
                printf(",\"crc\":%" PRIu32, crc_b);
}

static void put_fiemap(const struct fiemap_extent *fe, int nr)
{
        printf("[");
        for (int i = 0; i < nr; i++)
                printf("%s[%llu,%llu,%llu,%u]", i ? "," : "",
                       (unsigned long long)fe[i].fe_logical,
                       (unsigned long long)fe[i].fe_physical,
                       (unsigned long long)fe[i].fe_length, fe[i].fe_flags);
        printf("]");
}

/* Print the extents of a range; returns how many there are. */
static int report_fiemap_range(struct report *r, struct contents *c, uint64_t pos, uint64_t len)
{
        int nr = uext4_fiemap(c->buffered, pos, len, NULL, 0);

        if (nr < 0) {
                err(r, "fiemap", nr);
                printf("null");
                return nr;
        }

        struct fiemap_extent *fe = xrealloc(NULL, ((size_t)nr + 4) * sizeof(*fe));
        int got = uext4_fiemap(c->buffered, pos, len, fe, (unsigned)nr + 4);

        if (got != nr)
                bad(r, "fiemap: %d extents counted, %d given", nr, got);
        put_fiemap(fe, got < 0 ? 0 : got);
        if (nr > 1) {
                got = uext4_fiemap(c->buffered, pos, len, fe, (unsigned)nr - 1);
                if (got != nr - 1)
                        bad(r, "fiemap with room for %d extents gave %d", nr - 1, got);
        }
        free(fe);
        return nr;
}

/* A position where something happens: an edge of the data, of the file, or anywhere. */
static uint64_t interesting_pos(struct report *r, const struct contents *c)
{
        uint64_t pick = rng_below(&r->rng, 4);

        if (pick == 0 || (pick < 3 && c->nr_data == 0))
                return rng_below(&r->rng, r->st.size + 1);
        if (pick == 3)
                return r->st.size;

        const struct segment *s = &c->data[rng_below(&r->rng, c->nr_data)];

        return rng_below(&r->rng, 2) ? s->start : s->end;
}

static void report_queries(struct report *r, struct contents *c)
{
        printf(",\"seekat\":[");
        for (int i = 0; i < 10; i++) {
                uint64_t pos = interesting_pos(r, c) + rng_below(&r->rng, 3);
                int whence = i & 1 ? SEEK_HOLE : SEEK_DATA;

                pos = pos ? pos - 1 : 0;
                printf("%s[%" PRIu64 ",%d,%" PRId64 "]", i ? "," : "", pos, whence,
                       uext4_seek(c->buffered, pos, whence));
        }
        printf("],\"fiemapat\":[");
        for (int i = 0; i < 3; i++) {
                uint64_t pos = interesting_pos(r, c);
                uint64_t len = 1 + rng_below(&r->rng, r->st.size / (1u << (i * 4)) + 10000);

                printf("%s[%" PRIu64 ",%" PRIu64 ",", i ? "," : "", pos, len);
                report_fiemap_range(r, c, pos, len);
                printf("]");
        }
        printf("]");
}

/* ---- random direct requests --------------------------------------------- */

struct scatter {
        uint64_t pos;
        size_t total;
        int nr;
        struct iovec iov[MAX_IOV];
        char *mem; /* the buffers, each with a guard behind it */
        size_t mem_len;
};

static void scatter_make(struct report *r, struct contents *c, struct scatter *s)
{
        uint64_t align = r->st.dio_offset_align ? r->st.dio_offset_align : 512;
        uint64_t mem_align = r->st.dio_mem_align ? r->st.dio_mem_align : 512;
        uint64_t unit = align > mem_align ? align : mem_align;
        uint64_t pos = interesting_pos(r, c);
        uint64_t back = rng_below(&r->rng, 40000);

        s->pos = (pos > back ? pos - back : 0) / align * align;
        s->nr = 1 + (int)rng_below(&r->rng, MAX_IOV);
        s->total = 0;
        s->mem_len = (size_t)s->nr * (32 * unit + GUARD + mem_align);
        s->mem = xaligned(s->mem_len);
        memset(s->mem, 0xa5, s->mem_len);

        char *p = s->mem;

        for (int i = 0; i < s->nr; i++) {
                size_t len = (size_t)((1 + rng_below(&r->rng, 24)) * unit);

                s->iov[i] = (struct iovec){p, len};
                s->total += len;
                p += len + GUARD;
                p += (mem_align - (uintptr_t)p % mem_align) % mem_align;
        }
}

/* Compare what a scattered read gave with a plain buffered one. */
static void scatter_check(struct report *r, struct contents *c, const struct scatter *s,
                          int64_t result, const char *how)
{
        uint64_t left = s->pos < r->st.size ? r->st.size - s->pos : 0;
        int64_t expected = (int64_t)(left < s->total ? left : s->total);
        char *plain = xrealloc(NULL, s->total);
        size_t done = 0;

        if (result != expected) {
                bad(r, "%s read of %zu at %" PRIu64 " in %d pieces: %" PRId64, how, s->total,
                    s->pos, s->nr, result);
                goto out;
        }
        if (uext4_pread(c->buffered, plain, s->total, s->pos) != expected) {
                bad(r, "buffered read of %zu at %" PRIu64, s->total, s->pos);
                goto out;
        }
        for (int i = 0; i < s->nr; i++) {
                const char *p = s->iov[i].iov_base;
                size_t n = s->iov[i].iov_len;
                size_t valid = (size_t)expected > done ? (size_t)expected - done : 0;

                if (memcmp(p, plain + done, valid < n ? valid : n) != 0)
                        bad(r, "%s read of %zu at %" PRIu64 ": piece %d differs", how, s->total,
                            s->pos, i);
                for (int g = 0; g < GUARD; g++)
                        if (p[n + (size_t)g] != (char)0xa5) {
                                bad(r, "%s read wrote behind piece %d", how, i);
                                break;
                        }
                done += n;
        }
out:
        free(plain);
}

static void check_scatter_sync(struct report *r, struct contents *c)
{
        for (int i = 0; i < NR_SCATTER; i++) {
                struct scatter s;

                scatter_make(r, c, &s);
                scatter_check(r, c, &s, uext4_preadv2(c->direct, s.iov, s.nr, s.pos, 0),
                              "direct");
                free(s.mem);
        }
}

static void check_scatter_queue(struct report *r, struct contents *c)
{
        struct scatter s[NR_SCATTER];
        struct uext4_request reqs[NR_SCATTER];
        struct uext4_completion done[NR_SCATTER];
        int nr;

        for (int i = 0; i < NR_SCATTER; i++) {
                scatter_make(r, c, &s[i]);
                reqs[i] = (struct uext4_request){
                        .op = UEXT4_READ,
                        .file = c->direct,
                        .iov = s[i].iov,
                        .nr_iov = s[i].nr,
                        .pos = s[i].pos,
                        .user_data = &s[i],
                };
        }
        nr = uext4_queue_submit(r->w->queue, reqs, NR_SCATTER);
        if (nr != NR_SCATTER)
                bad(r, "queue took %d of %d requests", nr, NR_SCATTER);
        if (nr > 0) {
                int got = uext4_queue_wait(r->w->queue, done, (unsigned)nr, (unsigned)nr, -1);

                if (got != nr)
                        bad(r, "queue gave %d of %d completions", got, nr);
                for (int i = 0; i < got; i++)
                        scatter_check(r, c, done[i].user_data, done[i].result, "queued");
        }
        for (int i = 0; i < NR_SCATTER; i++)
                free(s[i].mem);
}

/* B27: misaligned is -EINVAL; B29: nothing at and past the end. */
static void check_edges(struct report *r, struct contents *c)
{
        uint32_t align = r->st.dio_offset_align;
        uint64_t end = (r->st.size + 65535) / 65536 * 65536;
        ssize_t ret;

        if (align == 0)
                align = 512;
        if (r->st.dio_offset_align) {
                ret = uext4_pread(c->direct, r->w->mem, align, 1);
                if (ret != -EINVAL)
                        bad(r, "direct read at a misaligned position: %zd", ret);
                ret = uext4_pread(c->direct, r->w->mem, align - 1, 0);
                if (ret != -EINVAL)
                        bad(r, "direct read of a misaligned length: %zd", ret);
        }
        ret = uext4_pread(c->direct, r->w->mem, 65536, end);
        if (ret != 0)
                bad(r, "direct read past the end: %zd", ret);
        ret = uext4_pread(c->buffered, r->w->mem, 1, r->st.size);
        if (ret != 0)
                bad(r, "buffered read at the end: %zd", ret);
}

static void report_file(struct report *r, struct uext4_inode *inode)
{
        struct contents c = {0};
        int ret = uext4_open(inode, O_RDONLY, &c.buffered);

        if (ret < 0) {
                err(r, "open", ret);
                return;
        }
        ret = uext4_open(inode, O_RDONLY | O_DIRECT, &c.direct);
        if (ret < 0) {
                bad(r, "open for direct reading: %d", ret);
                uext4_close(c.buffered);
                return;
        }
        find_segments(r, &c);
        printf(",\"fiemap\":");
        report_fiemap_range(r, &c, 0, UINT64_MAX);
        report_crc(r, &c);
        if (!r->w->opt->quick && ftell(r->err) == 0 && r->st.size > 0) {
                report_queries(r, &c);
                check_scatter_sync(r, &c);
                check_scatter_queue(r, &c);
                check_edges(r, &c);
        }
        uext4_close(c.direct);
        uext4_close(c.buffered);
        free(c.data);
}

/* ---- one inode --------------------------------------------------------- */

static void report_stat(const struct uext4_stat *st)
{
        printf("{\"ino\":%" PRIu64 ",\"gen\":%u,\"mode\":%u,\"nlink\":%u,\"uid\":%u,\"gid\":%u,"
               "\"projid\":%u,\"rdev\":[%u,%u],\"flags\":%u,\"blksize\":%u,\"size\":%" PRIu64
               ",\"blocks\":%" PRIu64 ",\"dio\":[%u,%u]",
               st->ino, st->generation, st->mode, st->nlink, st->uid, st->gid, st->projid,
               st->rdev_major, st->rdev_minor, st->flags, st->blksize, st->size, st->blocks,
               st->dio_mem_align, st->dio_offset_align);
        put_time("atime", st->atime);
        put_time("mtime", st->mtime);
        put_time("ctime", st->ctime);
        put_time("btime", st->btime);
}

static void check_handles(struct report *r)
{
        struct uext4_inode *again;
        int ret = uext4_inode_get(r->w->fs, r->ino, r->st.generation, &again);

        if (ret < 0)
                bad(r, "inode_get with its own generation: %d", ret);
        else
                uext4_inode_put(again);
        if (r->st.generation + 1 != 0) {
                ret = uext4_inode_get(r->w->fs, r->ino, r->st.generation + 1, &again);
                if (ret == 0)
                        uext4_inode_put(again);
                if (ret != -ESTALE)
                        bad(r, "inode_get with another generation: %d", ret);
        }
}

static void check_not_openable(struct report *r, struct uext4_inode *inode)
{
        struct uext4_file *file;
        int ret = uext4_open(inode, O_RDONLY, &file);
        int expected = S_ISDIR(r->st.mode) ? -EISDIR : -EINVAL;

        if (ret == 0)
                uext4_close(file);
        if (ret != expected)
                bad(r, "open of a file that is not regular: %d", ret);
}

static void report_inode(struct walk *w, uint64_t ino)
{
        struct report r = {.w = w, .ino = ino, .rng = w->opt->seed ^ (ino << 20)};
        struct uext4_inode *inode;
        int ret = uext4_inode_get(w->fs, ino, 0, &inode);

        if (ret < 0) {
                printf("{\"ino\":%" PRIu64 ",\"err\":[[\"inode_get\",%d]]}\n", ino, ret);
                return;
        }
        r.bad = open_memstream(&r.bad_text, &r.bad_len);
        r.err = open_memstream(&r.err_text, &r.err_len);
        if (!r.bad || !r.err)
                die("memory");

        ret = uext4_stat(inode, &r.st);
        if (ret < 0)
                bad(&r, "stat: %d", ret);
        report_stat(&r.st);
        report_xattrs(&r, inode);
        check_handles(&r);
        if (S_ISDIR(r.st.mode))
                report_dir(&r, inode);
        else if (S_ISLNK(r.st.mode))
                report_link(&r, inode);
        else if (S_ISREG(r.st.mode))
                report_file(&r, inode);
        if (!S_ISREG(r.st.mode))
                check_not_openable(&r, inode);
        fclose(r.bad);
        fclose(r.err);
        printf(",\"bad\":[%s],\"err\":[%s]}\n", r.bad_text, r.err_text);
        free(r.bad_text);
        free(r.err_text);
        uext4_inode_put(inode);
        w->nr_inodes++;
}

/* ---- the file system --------------------------------------------------- */

static void report_fs(struct uext4_fs *fs)
{
        struct uext4_info info;
        struct statvfs st;
        int ret = uext4_statfs(fs, &st);

        if (ret == 0)
                printf("{\"statfs\":{\"bsize\":%lu,\"frsize\":%lu,\"blocks\":%lu,\"bfree\":%lu,"
                       "\"bavail\":%lu,\"files\":%lu,\"ffree\":%lu,\"namemax\":%lu}}\n",
                       st.f_bsize, st.f_frsize, st.f_blocks, st.f_bfree, st.f_bavail,
                       st.f_files, st.f_ffree, st.f_namemax);
        else
                printf("{\"statfs\":null,\"ret\":%d}\n", ret);
        ret = uext4_get_info(fs, &info);
        if (ret < 0) {
                printf("{\"info\":null,\"ret\":%d}\n", ret);
                return;
        }
        printf("{\"info\":{\"block_size\":%u,\"cluster_size\":%u,\"inode_size\":%u,"
               "\"nr_groups\":%u,\"inodes_per_group\":%u,\"blocks_per_group\":%u,"
               "\"nr_blocks\":%" PRIu64 ",\"nr_blocks_free\":%" PRIu64
               ",\"nr_blocks_reserved\":%" PRIu64 ",\"nr_inodes\":%" PRIu64
               ",\"nr_inodes_free\":%" PRIu64 ",\"first_inode\":%u,\"revision\":%u,"
               "\"state\":%u,\"needs_recovery\":%d,\"uuid\":\"",
               info.block_size, info.cluster_size, info.inode_size, info.nr_groups,
               info.inodes_per_group, info.blocks_per_group, info.nr_blocks,
               info.nr_blocks_free, info.nr_blocks_reserved, info.nr_inodes,
               info.nr_inodes_free, info.first_inode, info.revision, info.state,
               info.needs_recovery);
        for (int i = 0; i < 16; i++)
                printf("%02x", info.uuid[i]);
        printf("\",\"label\":");
        put_string(info.label, strlen(info.label));
        printf(",\"features\":");
        put_string(info.features, strlen(info.features));
        printf(",\"readonly_reason\":");
        put_string(info.readonly_reason, strlen(info.readonly_reason));
        printf("}}\n");
}

static void report_stats(struct uext4_fs *fs)
{
        struct uext4_stats s;

        uext4_get_stats(fs, &s);
        printf("{\"stats\":{\"direct_reads\":%" PRIu64 ",\"buffered_reads\":%" PRIu64
               ",\"fallback_inline\":%" PRIu64 ",\"fallback_data_journal\":%" PRIu64
               ",\"fallback_verity\":%" PRIu64 ",\"extent_cache_hits\":%" PRIu64
               ",\"extent_cache_misses\":%" PRIu64 ",\"meta_reads\":%" PRIu64 "}}\n",
               s.direct_reads, s.buffered_reads, s.fallback_inline, s.fallback_data_journal,
               s.fallback_verity, s.extent_cache_hits, s.extent_cache_misses, s.meta_reads);
}

static void walk_all(struct walk *w)
{
        if (!w->opt->inodes)
                todo_push(w, UEXT4_ROOT_INO);
        for (const char *p = w->opt->inodes; p && *p; p += *p == ',') {
                char *end;

                todo_push(w, strtoull(p, &end, 10));
                if (end == p)
                        break;
                p = end;
        }
        /* w->todo grows while directories are read */
        for (size_t i = 0; i < w->nr_todo && w->nr_inodes < w->opt->max_inodes; i++)
                report_inode(w, w->todo[i]);
}

static double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds_of(const struct timeval *t)
{
        return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

/* Run a command; a fresh small process, so that its peak memory is its own.  The time is the
 * CPU's, which says the same on a busy machine. */
static int run_measured(char **argv)
{
        struct rusage ru;
        int status;
        pid_t pid = fork();

        if (pid < 0)
                die("fork");
        if (pid == 0) {
                execvp(argv[0], argv);
                _exit(127);
        }
        if (wait4(pid, &status, 0, &ru) < 0)
                die("wait4");
        fprintf(stderr, "{\"cpu_seconds\":%.6f,\"maxrss_kib\":%ld,\"status\":%d}\n",
                seconds_of(&ru.ru_utime) + seconds_of(&ru.ru_stime), ru.ru_maxrss,
                WIFEXITED(status) ? WEXITSTATUS(status) : 255);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int read_image(const char *image, const struct options *opt)
{
        struct uext4_mount_params params = {.options = opt->mount_options, .log = log_line};
        struct walk w = {.opt = opt};
        double start = now();
        int ret = uext4_mount(image, &params, &w.fs);

        printf("{\"mount\":%d,\"seconds\":%.6f}\n", ret, now() - start);
        if (ret < 0)
                return 1;
        ret = uext4_queue_new(w.fs, NR_SCATTER, &w.queue);
        if (ret < 0) {
                printf("{\"queue_new\":%d}\n", ret);
                uext4_unmount(w.fs);
                return 1;
        }
        w.mem = xaligned(READ_BYTES + 65536);
        report_fs(w.fs);
        walk_all(&w);
        report_stats(w.fs);

        ret = uext4_unmount(w.fs);
        if (ret != -EBUSY) {
                printf("{\"unmount_busy\":%d}\n", ret);
                return 1;
        }
        uext4_queue_free(w.queue);
        ret = uext4_unmount(w.fs);
        printf("{\"done\":true,\"inodes\":%" PRIu64 ",\"bad\":%" PRIu64 ",\"unmount\":%d}\n",
               w.nr_inodes, w.nr_bad, ret);
        free(w.mem);
        free(w.seen);
        free(w.todo);
        return ret < 0 || w.nr_bad ? 2 : 0;
}

int main(int argc, char **argv)
{
        struct options opt = {.mount_options = "ro",
                              .seed = 1,
                              .max_bytes = UINT64_MAX,
                              .max_inodes = UINT64_MAX};
        int c;

        while ((c = getopt(argc, argv, "+o:s:m:n:i:qr")) != -1) {
                switch (c) {
                case 'o':
                        opt.mount_options = optarg;
                        break;
                case 's':
                        opt.seed = strtoull(optarg, NULL, 0);
                        break;
                case 'm':
                        opt.max_bytes = strtoull(optarg, NULL, 0);
                        break;
                case 'n':
                        opt.max_inodes = strtoull(optarg, NULL, 0);
                        break;
                case 'i':
                        opt.inodes = optarg;
                        break;
                case 'q':
                        opt.quick = true;
                        break;
                case 'r':
                        return run_measured(argv + optind);
                default:
                        return 3;
                }
        }
        if (optind + 1 != argc) {
                fprintf(stderr,
                        "usage: ureader [-o OPTIONS] [-s SEED] [-m BYTES] [-n INODES] "
                        "[-i INODE,...] [-q] IMAGE\n       ureader -r COMMAND [ARG...]\n");
                return 3;
        }
        crc_setup();
        return read_image(argv[optind], &opt);
}
