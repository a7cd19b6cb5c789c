/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * progress.c - the progress bar: bytes or files, rate, time to go.
 *
 * The line is drawn over itself at most ten times a second.  The rate is the mean since the
 * start: it is steady, and for one long copy it is what the user wants to know.
 */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/text.h"

#define REDRAW_NS 100000000u

static struct {
        bool active;
        bool drawn;
        bool files; /* else bytes */
        uint64_t total, done;
        uint64_t start_ns, drawn_ns;
} bar;

bool progress_wanted(void)
{
        return isatty(STDERR_FILENO);
}

static void start(uint64_t total, bool files)
{
        if (!progress_wanted())
                return;
        memset(&bar, 0, sizeof(bar));
        bar.active = true;
        bar.files = files;
        bar.total = total;
        bar.start_ns = bar.drawn_ns = cli_clock_ns();
}

void progress_start(uint64_t total_bytes)
{
        start(total_bytes, false);
}

void progress_start_files(uint64_t total_files)
{
        start(total_files, true);
}

static void draw_cells(unsigned width, double share)
{
        unsigned filled = (unsigned)(share * width);

        fputc('[', stderr);
        for (unsigned i = 0; i < width; i++)
                fputc(i < filled ? '=' : i == filled ? '>' : ' ', stderr);
        fputc(']', stderr);
}

/* How much there is, and how fast it goes. */
static void amounts(char *text, size_t size, double rate)
{
        char done[TEXT_BYTES_MAX], total[TEXT_BYTES_MAX];

        if (bar.files)
                snprintf(text, size, "%" PRIu64 "/%" PRIu64 " files  %.0f/s", bar.done,
                         bar.total, rate);
        else
                snprintf(text, size, "%s/%s  %.1f MB/s", text_bytes(done, bar.done),
                         text_bytes(total, bar.total), rate / 1e6);
}

static void draw(uint64_t now)
{
        double seconds = (double)(now - bar.start_ns) / 1e9;
        double rate = (double)bar.done / seconds;
        double share = bar.total ? (double)bar.done / (double)bar.total : 1;
        uint64_t left = bar.total > bar.done ? bar.total - bar.done : 0;
        uint64_t eta = rate > 0 ? (uint64_t)((double)left / rate) : 0;
        char what[120], tail[160];
        unsigned width = text_terminal_width(STDERR_FILENO);
        int len;

        if (share > 1) /* the total was an estimate */
                share = 1;
        amounts(what, sizeof(what), rate);
        len = snprintf(tail, sizeof(tail), " %s  ETA %" PRIu64 ":%02" PRIu64, what, eta / 60,
                       eta % 60);
        fprintf(stderr, "\r\033[K%3.0f%% ", share * 100);
        if (width > (unsigned)len + 18)
                draw_cells(width - (unsigned)len - 8, share);
        fputs(tail, stderr);
        fflush(stderr);
        bar.drawn = true;
        bar.drawn_ns = now;
}

void progress_add(uint64_t n)
{
        uint64_t now;

        if (!bar.active)
                return;
        bar.done += n;
        now = cli_clock_ns();
        if (now - bar.drawn_ns >= REDRAW_NS)
                draw(now);
}

void progress_hide(void)
{
        if (!bar.drawn)
                return;
        fputs("\r\033[K", stderr);
        bar.drawn = false;
}

void progress_stop(void)
{
        progress_hide();
        bar.active = false;
}
