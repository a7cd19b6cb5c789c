/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

/* Where the lines go that a person should see.  One sink per mount. */

#include <syslog.h>

#include "util/base.h"

struct log_sink {
        void (*fn)(void *arg, int level,
                   const char *text); /* NULL: stderr, warnings and worse */
        void *arg;
};

/* One line, without a newline; cut at 512 bytes. */
void log_say(const struct log_sink *sink, int level, const char *fmt, ...) printf_like(3, 4);

#endif
