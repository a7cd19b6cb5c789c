/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "posix.h"

/* ---- words ---- */

unsigned posix_rename_flags(const struct step *s)
{
        return is(s, "noreplace")  ? RENAME_NOREPLACE
               : is(s, "exchange") ? RENAME_EXCHANGE
               : is(s, "whiteout") ? RENAME_WHITEOUT
                                   : 0;
}

uint32_t posix_type(const char *letter)
{
        return *letter == 'c'   ? S_IFCHR
               : *letter == 'b' ? S_IFBLK
               : *letter == 'p' ? S_IFIFO
                                : S_IFSOCK;
}

int posix_open_flags(const struct step *s)
{
        const char *how = is(s, "open") ? s->arg[1] : "w";

        return strcmp(how, "r") == 0    ? O_RDONLY
               : strcmp(how, "w") == 0  ? O_WRONLY
               : strcmp(how, "rw") == 0 ? O_RDWR
               : strcmp(how, "a") == 0  ? O_WRONLY | O_APPEND
                                        : O_RDONLY | O_NOATIME;
}

const char *posix_acl_name(const struct step *s)
{
        return is(s, "acl") || is(s, "getacl") ? "system.posix_acl_access"
                                               : "system.posix_acl_default";
}

void posix_tell_value(const struct step *s, const char *value, size_t len, char *text)
{
        if (is(s, "getacl") || is(s, "getdacl")) {
                posix_acl_to_text(value, len, text);
                return;
        }
        len = len < TEXT_SIZE ? len : TEXT_SIZE - 1;
        for (size_t i = 0; i < len; i++)
                text[i] = value[i] ? value[i] : ',';
        text[len] = '\0';
}

/* ---- texts ---- */

uint32_t posix_number(const char *text, int base)
{
        return (uint32_t)strtoul(text, NULL, base);
}

void posix_kind_to_text(uint32_t mode, unsigned major, unsigned minor, char *text)
{
        static const char letters[] = "?pc?d?b?-?l?s???";

        snprintf(text, TEXT_SIZE, "%c %u %u", letters[(mode & S_IFMT) >> 12], major, minor);
}

void posix_attributes_to_text(uint64_t attributes, char *text)
{
        snprintf(text, TEXT_SIZE, "%s%s%s", attributes & STATX_ATTR_APPEND ? "a" : "",
                 attributes & STATX_ATTR_NODUMP ? "d" : "",
                 attributes & STATX_ATTR_IMMUTABLE ? "i" : "");
}

struct timespec posix_time(const char *text)
{
        struct timespec t = {.tv_nsec = UTIME_OMIT};
        char *dot;

        if (strcmp(text, "-") == 0)
                return t;
        t.tv_nsec = UTIME_NOW;
        if (strcmp(text, "now") == 0)
                return t;
        t.tv_sec = strtoll(text, &dot, 10);
        t.tv_nsec = *dot == '.' ? strtol(dot + 1, NULL, 10) : 0;
        return t;
}

size_t posix_value_of_text(const char *text, void *buf, size_t size)
{
        size_t len = strlen(text);

        if (strncmp(text, "0x", 2) != 0) {
                memcpy(buf, text, len < size ? len : size);
                return len;
        }
        for (size_t i = 2; i + 2 <= len && i / 2 <= size; i += 2) {
                const char byte[3] = {text[i], text[i + 1]};

                ((uint8_t *)buf)[i / 2 - 1] = (uint8_t)strtoul(byte, NULL, 16);
        }
        return len / 2 - 1;
}

static const struct {
        char letter;
        uint16_t plain, named;
} tags[] = {
        {'u', ACL_USER_OBJ, ACL_USER},
        {'g', ACL_GROUP_OBJ, ACL_GROUP},
        {'m', ACL_MASK, ACL_MASK},
        {'o', ACL_OTHER, ACL_OTHER},
};

static void put(uint8_t *to, uint32_t value, unsigned bytes)
{
        for (unsigned i = 0; i < bytes; i++)
                to[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get(const uint8_t *from, unsigned bytes)
{
        uint32_t value = 0;

        for (unsigned i = 0; i < bytes; i++)
                value |= (uint32_t)from[i] << (8 * i);
        return value;
}

size_t posix_acl_of_text(const char *text, void *buf, size_t size)
{
        uint8_t *to = buf;

        put(to, POSIX_ACL_XATTR_VERSION, 4);
        to += 4;
        while (*text) {
                const char *id = strchr(text, ':') + 1;
                const char *perm = strchr(id, ':') + 1;
                uint16_t tag = 0;

                for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
                        if (tags[i].letter == *text)
                                tag = *id == ':' ? tags[i].plain : tags[i].named;
                }
                put(to, tag, 2);
                put(to + 2,
                    (perm[0] == 'r' ? 4u : 0) | (perm[1] == 'w' ? 2 : 0) | (perm[2] == 'x'), 2);
                put(to + 4, *id == ':' ? (uint32_t)ACL_UNDEFINED_ID : posix_number(id, 10), 4);
                to += 8;
                text = perm + 3 + (perm[3] == ',');
        }
        return (size_t)(to - (uint8_t *)buf);
}

void posix_acl_to_text(const void *acl, size_t size, char *text)
{
        const uint8_t *from = (const uint8_t *)acl + 4;
        int used = 0;

        for (; from + 8 <= (const uint8_t *)acl + size; from += 8) {
                uint32_t tag = get(from, 2), perm = get(from + 2, 2);
                char letter = '?', id[16] = "";

                for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
                        if (tag == tags[i].plain || tag == tags[i].named)
                                letter = tags[i].letter;
                }
                if (tag == ACL_USER || tag == ACL_GROUP)
                        snprintf(id, sizeof(id), "%u", get(from + 4, 4));
                used += snprintf(text + used, (size_t)(TEXT_SIZE - used), "%s%c:%s:%c%c%c",
                                 used ? "," : "", letter, id, perm & 4 ? 'r' : '-',
                                 perm & 2 ? 'w' : '-', perm & 1 ? 'x' : '-');
        }
}

static const struct {
        char letter;
        uint32_t flag;
} letters[] = {
        {'S', FS_SYNC_FL},   {'D', FS_DIRSYNC_FL}, {'i', FS_IMMUTABLE_FL},
        {'a', FS_APPEND_FL}, {'d', FS_NODUMP_FL},  {'A', FS_NOATIME_FL},
        {'T', FS_TOPDIR_FL}, {'t', FS_NOTAIL_FL},  {'P', FS_PROJINHERIT_FL},
        {'c', FS_COMPR_FL},  {'s', FS_SECRM_FL},   {'u', FS_UNRM_FL},
};

uint32_t posix_flags_change(const char *change, uint32_t flags)
{
        for (const char *p = change + 1; *p; p++) {
                for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
                        if (letters[i].letter != *p)
                                continue;
                        if (*change == '+')
                                flags |= letters[i].flag;
                        else
                                flags &= ~letters[i].flag;
                }
        }
        return flags;
}

void posix_flags_to_text(uint32_t flags, char *text)
{
        char *to = text;

        *to++ = '+';
        for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
                if (flags & letters[i].flag)
                        *to++ = letters[i].letter;
        }
        *to = '\0';
}
