/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_PROGRESS_H
#define UEXT4_CLI_PROGRESS_H

/*
 * progress.h - one progress bar at the foot of the terminal.
 *
 * There is one stderr, hence one bar, and no object for it.  Where stderr is no terminal all of
 * this does nothing.
 */

#include <stdbool.h>
#include <stdint.h>

/* Would progress_start() show a bar?  (Counting the total beforehand may be dear.) */
bool progress_wanted(void);

/* What is counted: bytes, or files of any kind. */
void progress_start(uint64_t total_bytes);
void progress_start_files(uint64_t total_files);
void progress_add(uint64_t n);

/* Take the bar away, for a message; the next progress_add() brings it back. */
void progress_hide(void);
void progress_stop(void);

#endif
