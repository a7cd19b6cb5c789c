/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

/* What must hold, in any thread and without a framework: else the process ends. */
#define T_CHECK(cond)                                                              \
        do {                                                                       \
                if (!(cond)) {                                                     \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
                        abort();                                                   \
                }                                                                  \
        } while (0)

#endif
