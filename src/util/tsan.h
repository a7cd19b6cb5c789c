/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UTIL_TSAN_H
#define UTIL_TSAN_H

/*
 * What ThreadSanitizer cannot know: memory that plays the part of a disk.  Between begin and
 * end it does not look at what this thread touches; tsan_reads() and tsan_writes() tell it of
 * ranges that it should have looked at.  Without it all of this is nothing.
 */

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UTIL_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define UTIL_TSAN 1
#endif

#ifdef UTIL_TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
void __tsan_read_range(const void *p, unsigned long len);
void __tsan_write_range(void *p, unsigned long len);
#endif

static inline void tsan_ignore_begin(void)
{
#ifdef UTIL_TSAN
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}

static inline void tsan_ignore_end(void)
{
#ifdef UTIL_TSAN
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

static inline void tsan_reads(const void *p, size_t len)
{
#ifdef UTIL_TSAN
        __tsan_read_range(p, len);
#endif
}

static inline void tsan_writes(void *p, size_t len)
{
#ifdef UTIL_TSAN
        __tsan_write_range(p, len);
#endif
}

#endif
