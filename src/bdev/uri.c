/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* uri.c - a device by its name: PATH, file:PATH, mmap:PATH, mem:SIZE. */
#include <stdlib.h>
#include <string.h>

#include "bdev/bdev.h"

/* What follows `scheme` in `uri`, or NULL. */
static const char *after_scheme(const char *uri, const char *scheme)
{
        size_t len = strlen(scheme);

        return strncmp(uri, scheme, len) == 0 ? uri + len : NULL;
}

/* By how many bits a suffix shifts; -1 when it is none. */
static int suffix_shift(const char *suffix)
{
        if (*suffix != '\0' && suffix[1] != '\0')
                return -1;
        switch (*suffix) {
        case '\0':
                return 0;
        case 'k':
        case 'K':
                return 10;
        case 'm':
        case 'M':
                return 20;
        case 'g':
        case 'G':
                return 30;
        case 't':
        case 'T':
                return 40;
        default:
                return -1;
        }
}

static int parse_size(const char *text, uint64_t *ret_size)
{
        unsigned long long value;
        char *end;
        int shift;

        if (*text < '0' || *text > '9')
                return -EINVAL;
        errno = 0;
        value = strtoull(text, &end, 10);
        shift = suffix_shift(end);
        if (errno != 0 || shift < 0 || value > (uint64_t)INT64_MAX >> shift)
                return -EINVAL;
        *ret_size = (uint64_t)value << shift;
        return 0;
}

static int open_mem(const char *text, uint32_t flags, struct uext4_bdev **ret_dev)
{
        uint64_t size;
        int ret = parse_size(text, &size);

        if (ret == 0)
                ret = uext4_bdev_open_mem(size, ret_dev);
        if (ret == 0 && (flags & UEXT4_BDEV_OPEN_READONLY))
                (*ret_dev)->geo.caps |= UEXT4_BDEV_CAP_READONLY;
        return ret;
}

int uext4_bdev_open(const char *uri, uint32_t flags, uext4_log_fn *log, void *log_arg,
                    struct uext4_bdev **ret_dev)
{
        const char *rest;

        if ((rest = after_scheme(uri, "mem:")) != NULL)
                return open_mem(rest, flags, ret_dev);
        if ((rest = after_scheme(uri, "mmap:")) != NULL)
                return uext4_bdev_open_mmap(rest, flags, ret_dev);
        rest = after_scheme(uri, "file:");
        return uext4_bdev_open_file(rest ? rest : uri, flags, log, log_arg, ret_dev);
}
