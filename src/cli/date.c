/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* date.c - times as people write them (see date.h). */
#include "cli/date.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ".123" as nanoseconds; *at moves behind it. */
static int parse_fraction(const char **at, long *ret_nsec)
{
        long nsec = 0, unit = 100000000;

        *ret_nsec = 0;
        if (**at != '.')
                return 0;
        if (!isdigit((unsigned char)*++*at))
                return -EINVAL;
        for (; isdigit((unsigned char)**at); (*at)++) {
                nsec += (**at - '0') * unit;
                unit /= 10; /* what is finer is left out */
        }
        *ret_nsec = nsec;
        return 0;
}

static int parse_seconds(const char *text, struct timespec *ret_ts)
{
        const char *at;
        char *end;

        errno = 0;
        ret_ts->tv_sec = strtoll(text, &end, 10);
        at = end;
        if (errno || end == text || isspace((unsigned char)*text))
                return -EINVAL;
        if (parse_fraction(&at, &ret_ts->tv_nsec) < 0 || *at)
                return -EINVAL;
        if (*text == '-' &&
            ret_ts->tv_nsec > 0) { /* time runs forward from the second before */
                ret_ts->tv_sec--;
                ret_ts->tv_nsec = 1000000000 - ret_ts->tv_nsec;
        }
        return 0;
}

/* "Z", "+02:00", "-0530", or nothing: then *ret_given is false. */
static int parse_zone(const char *at, bool *ret_given, long *ret_offset)
{
        int sign = *at == '-' ? -1 : 1, hours, minutes, len = 0;

        *ret_given = *at;
        *ret_offset = 0;
        if (!*at || strcmp(at, "Z") == 0)
                return 0;
        if ((*at != '+' && *at != '-') || at[1 + strspn(at + 1, "0123456789:")])
                return -EINVAL;
        if (sscanf(at + 1, "%2d:%2d%n", &hours, &minutes, &len) != 2 &&
            sscanf(at + 1, "%2d%2d%n", &hours, &minutes, &len) != 2)
                return -EINVAL;
        if (at[1 + len] || hours > 23 || minutes > 59)
                return -EINVAL;
        *ret_offset = sign * (hours * 3600L + minutes * 60L);
        return 0;
}

static int parse_calendar(const char *text, struct timespec *ret_ts)
{
        struct tm tm = {.tm_isdst = -1};
        const char *at = strptime(text, "%Y-%m-%d", &tm);
        long offset;
        bool zone;

        if (!at)
                return -EINVAL;
        ret_ts->tv_nsec = 0;
        if (*at == 'T' || (*at == ' ' && isdigit((unsigned char)at[1]))) {
                const char *time = at + 1;

                at = strptime(time, "%H:%M:%S", &tm);
                if (!at)
                        at = strptime(time, "%H:%M", &tm);
                if (!at || parse_fraction(&at, &ret_ts->tv_nsec) < 0)
                        return -EINVAL;
        }
        while (*at == ' ')
                at++;
        if (parse_zone(at, &zone, &offset) < 0)
                return -EINVAL;
        ret_ts->tv_sec = zone ? timegm(&tm) - offset : mktime(&tm);
        return 0;
}

int date_parse(const char *text, struct timespec *ret_ts)
{
        struct timespec ts;
        int ret = 0;

        if (strcmp(text, "now") == 0)
                clock_gettime(CLOCK_REALTIME, &ts);
        else if (*text == '@')
                ret = parse_seconds(text + 1, &ts);
        else
                ret = parse_calendar(text, &ts);
        if (ret == 0)
                *ret_ts = ts;
        return ret;
}

bool date_epoch(struct cli *cli, int64_t *ret_seconds)
{
        const char *text = getenv("SOURCE_DATE_EPOCH");
        struct timespec ts;

        if (!text || !*text)
                return false;
        if (parse_seconds(text, &ts) < 0 || ts.tv_nsec || ts.tv_sec < 0 ||
            ts.tv_sec > UINT32_MAX)
                cli_usage_error(cli,
                                "SOURCE_DATE_EPOCH is no number of seconds that ext4 has: '%s'",
                                text);
        *ret_seconds = ts.tv_sec;
        return true;
}

struct timespec date_now(struct cli *cli)
{
        struct timespec now;
        int64_t epoch;

        clock_gettime(CLOCK_REALTIME, &now);
        if (date_epoch(cli, &epoch) && now.tv_sec >= epoch)
                now = (struct timespec){.tv_sec = epoch};
        return now;
}
