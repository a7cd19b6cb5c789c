/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_say(const struct log_sink *sink, int level, const char *fmt, ...)
{
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        if (sink->fn)
                sink->fn(sink->arg, level, text);
        else if (level <= LOG_WARNING)
                fprintf(stderr, "uext4: %s\n", text);
}
