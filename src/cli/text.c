/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * text.c - numbers, names, modes and times as people read and write them.
 *
 * Everything here is pure but for the locale (LC_CTYPE decides what is printable) and
 * the time zone.
 */
#include "cli/text.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <wchar.h>
#include <wctype.h>

#include "cli/cli.h"

/* ---- numbers ------------------------------------------------------------ */

static int suffix_shift(const char *suffix)
{
        static const char letters[] = "kmgt";
        const char *at;

        if (suffix[0] == '\0')
                return 0;
        at = strchr(letters, suffix[0] | 0x20);
        if (!at || (suffix[1] != '\0' && strcmp(suffix + 1, "iB") != 0))
                return -EINVAL;
        return 10 * (int)(at - letters + 1);
}

int text_parse_size(const char *s, uint64_t *ret_size)
{
        char *end;
        uint64_t n;
        int shift;

        if (s[0] < '0' || s[0] > '9') /* strtoull would take blanks and signs */
                return -EINVAL;
        errno = 0;
        n = strtoull(s, &end, 10);
        if (errno)
                return -errno;
        shift = suffix_shift(end);
        if (shift < 0)
                return shift;
        if (n > UINT64_MAX >> shift)
                return -ERANGE;
        *ret_size = n << shift;
        return 0;
}

const char *text_bytes(char buf[static TEXT_BYTES_MAX], uint64_t bytes)
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
        double n = (double)bytes;
        size_t unit = 0;

        while (n >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
                n /= 1024;
                unit++;
        }
        snprintf(buf, TEXT_BYTES_MAX, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
        return buf;
}

const char *text_count(char buf[static TEXT_COUNT_MAX], uint64_t n)
{
        char digits[TEXT_COUNT_MAX];
        size_t len = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, n);
        size_t out = 0;

        for (size_t i = 0; i < len; i++) {
                if (i > 0 && (len - i) % 3 == 0)
                        buf[out++] = ',';
                buf[out++] = digits[i];
        }
        buf[out] = '\0';
        return buf;
}

/* ---- names -------------------------------------------------------------- */

/* How many bytes at `s` are one printable character; 0 when its first byte must be escaped. */
static size_t printable(const char *s, size_t len, mbstate_t *state)
{
        wchar_t wc;
        size_t n = mbrtowc(&wc, s, len, state);

        if (n == 0 || n == (size_t)-1 || n == (size_t)-2) {
                memset(state, 0, sizeof(*state));
                return 0;
        }
        return iswprint((wint_t)wc) && wc != L'\\' ? n : 0;
}

static size_t escape_byte(char *out, unsigned char c)
{
        static const char plain[] = "\n\t\r\\", letters[] = "ntr\\";
        const char *at = c ? strchr(plain, c) : NULL;

        out[0] = '\\';
        if (at) {
                out[1] = letters[at - plain];
                return 2;
        }
        out[1] = (char)('0' + (c >> 6));
        out[2] = (char)('0' + ((c >> 3) & 7));
        out[3] = (char)('0' + (c & 7));
        return 4;
}

char *text_escape(const char *s, size_t len)
{
        char *buf = cli_alloc(len + 1, 4);
        mbstate_t state;
        size_t out = 0;

        memset(&state, 0, sizeof(state));
        for (size_t i = 0; i < len;) {
                size_t n = printable(s + i, len - i, &state);

                if (n == 0) {
                        out += escape_byte(buf + out, (unsigned char)s[i]);
                        i++;
                } else {
                        memcpy(buf + out, s + i, n);
                        out += n;
                        i += n;
                }
        }
        buf[out] = '\0';
        return buf;
}

char *text_base_name(const char *path)
{
        size_t end = strlen(path), start;
        char *name;

        while (end > 0 && path[end - 1] == '/')
                end--;
        for (start = end; start > 0 && path[start - 1] != '/';)
                start--;
        name = cli_printf("%.*s", (int)(end - start), path + start);
        if (*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
                return name;
        free(name);
        return NULL;
}

char *text_dir_name(const char *path)
{
        size_t end = strlen(path);

        while (end > 1 && path[end - 1] == '/')
                end--;
        while (end > 0 && path[end - 1] != '/')
                end--;
        return end > 0 ? cli_printf("%.*s", (int)end, path) : cli_strdup(".");
}

/* ---- modes -------------------------------------------------------------- */

static const struct {
        uint32_t type;
        char letter;
        const char *name;
} file_types[] = {
        {S_IFREG, '-', "regular file"},
        {S_IFDIR, 'd', "directory"},
        {S_IFLNK, 'l', "symbolic link"},
        {S_IFCHR, 'c', "character special file"},
        {S_IFBLK, 'b', "block special file"},
        {S_IFIFO, 'p', "fifo"},
        {S_IFSOCK, 's', "socket"},
};

#define NR_FILE_TYPES (sizeof(file_types) / sizeof(file_types[0]))

static size_t file_type_index(uint32_t mode)
{
        size_t i = 0;

        while (i < NR_FILE_TYPES && (mode & S_IFMT) != file_types[i].type)
                i++;
        return i;
}

const char *text_file_type(uint32_t mode)
{
        size_t i = file_type_index(mode);

        return i < NR_FILE_TYPES ? file_types[i].name : "weird file";
}

/* One of the three places that show set-user-ID, set-group-ID and sticky beside x. */
static char execute_letter(bool execute, bool special, char letter)
{
        if (special)
                return execute ? letter : (char)(letter - 'a' + 'A');
        return execute ? 'x' : '-';
}

const char *text_mode(char buf[static TEXT_MODE_MAX], uint32_t mode)
{
        size_t i = file_type_index(mode);

        buf[0] = i < NR_FILE_TYPES ? file_types[i].letter : '?';
        for (int bit = 8; bit >= 0; bit--)
                buf[9 - bit] = mode & (1u << bit) ? "xwr"[bit % 3] : '-';
        buf[3] = execute_letter(mode & S_IXUSR, mode & S_ISUID, 's');
        buf[6] = execute_letter(mode & S_IXGRP, mode & S_ISGID, 's');
        buf[9] = execute_letter(mode & S_IXOTH, mode & S_ISVTX, 't');
        buf[10] = '\0';
        return buf;
}

/* ---- times -------------------------------------------------------------- */

const char *text_time(char buf[static TEXT_TIME_MAX], struct timespec ts)
{
        struct tm tm;
        char day[32], zone[16];

        if (!localtime_r(&ts.tv_sec, &tm)) {
                snprintf(buf, TEXT_TIME_MAX, "%" PRIi64, (int64_t)ts.tv_sec);
                return buf;
        }
        strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &tm);
        strftime(zone, sizeof(zone), "%z", &tm);
        snprintf(buf, TEXT_TIME_MAX, "%s.%09ld %s", day, ts.tv_nsec, zone);
        return buf;
}

const char *text_time_short(char buf[static TEXT_TIME_MAX], struct timespec ts, time_t now)
{
        const time_t half_year = 31556952 / 2; /* half a mean Gregorian year */
        struct tm tm;
        bool recent = ts.tv_sec <= now && now - ts.tv_sec < half_year;

        if (!localtime_r(&ts.tv_sec, &tm)) {
                snprintf(buf, TEXT_TIME_MAX, "%12" PRIi64, (int64_t)ts.tv_sec);
                return buf;
        }
        if (recent)
                strftime(buf, TEXT_TIME_MAX, "%b %e %H:%M", &tm);
        else
                strftime(buf, TEXT_TIME_MAX, "%b %e  %Y", &tm);
        return buf;
}

/* ---- inode flags -------------------------------------------------------- */

/* In the order of lsattr(1); the letters are those of chattr(1). */
static const struct {
        uint32_t flag;
        char letter;
        const char *name;
} inode_flags[] = {
        {FS_SECRM_FL, 's', "secure_deletion"},
        {FS_UNRM_FL, 'u', "undelete"},
        {FS_SYNC_FL, 'S', "synchronous_updates"},
        {FS_DIRSYNC_FL, 'D', "synchronous_directory_updates"},
        {FS_IMMUTABLE_FL, 'i', "immutable"},
        {FS_APPEND_FL, 'a', "append_only"},
        {FS_NODUMP_FL, 'd', "no_dump"},
        {FS_NOATIME_FL, 'A', "no_atime"},
        {FS_COMPR_FL, 'c', "compression_requested"},
        {FS_ENCRYPT_FL, 'E', "encrypted"},
        {FS_JOURNAL_DATA_FL, 'j', "journaled_data"},
        {FS_INDEX_FL, 'I', "indexed_directory"},
        {FS_NOTAIL_FL, 't', "no_tailmerging"},
        {FS_TOPDIR_FL, 'T', "top_of_directory_hierarchies"},
        {FS_EXTENT_FL, 'e', "extents"},
        {FS_NOCOW_FL, 'C', "no_cow"},
        {FS_DAX_FL, 'x', "dax"},
        {FS_CASEFOLD_FL, 'F', "casefold"},
        {FS_INLINE_DATA_FL, 'N', "inline_data"},
        {FS_PROJINHERIT_FL, 'P', "project_hierarchy"},
        {FS_VERITY_FL, 'V', "verity"},
        {FS_NOCOMP_FL, 'm', "no_compression"},
};

#define NR_INODE_FLAGS (sizeof(inode_flags) / sizeof(inode_flags[0]))

_Static_assert(NR_INODE_FLAGS < TEXT_FLAGS_MAX, "all letters fit");

const char *text_inode_flags(char buf[static TEXT_FLAGS_MAX], uint32_t flags)
{
        for (size_t i = 0; i < NR_INODE_FLAGS; i++)
                buf[i] = flags & inode_flags[i].flag ? inode_flags[i].letter : '-';
        buf[NR_INODE_FLAGS] = '\0';
        return buf;
}

const char *text_inode_flag_name(size_t i, uint32_t flags, bool *ret_set)
{
        if (i >= NR_INODE_FLAGS)
                return NULL;
        *ret_set = flags & inode_flags[i].flag;
        return inode_flags[i].name;
}

/* ---- the rest ----------------------------------------------------------- */

const char *text_uuid(char buf[static TEXT_UUID_MAX], const uint8_t uuid[static 16])
{
        size_t at = 0;

        for (size_t i = 0; i < 16; i++) {
                if (i == 4 || i == 6 || i == 8 || i == 10)
                        buf[at++] = '-';
                snprintf(buf + at, 3, "%02x", (unsigned)uuid[i]);
                at += 2;
        }
        return buf;
}

unsigned text_terminal_width(int fd)
{
        struct winsize size;
        const char *columns = getenv("COLUMNS");
        uint64_t n;

        if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
                return size.ws_col;
        if (columns && text_parse_size(columns, &n) == 0 && n > 0 && n < 10000)
                return (unsigned)n;
        return 80;
}
