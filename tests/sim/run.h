/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef SIM_RUN_H
#define SIM_RUN_H

/*
 * One run: a mount on a device with a clock (device.h), those who use it (actor.h), an end, and
 * what is found afterwards.  All of it follows from a configuration and a seed.
 */

#include "../change/rig.h"
#include "baton.h"

struct run_config {
        const char *name, *mkfs, *options;
        unsigned mib;
        bool no_extents, no_journal;
        bool in_parts;  /* a direct write may move the size to a place inside of it */
        bool no_repair; /* e2fsck leaves the extents of orphans that it truncates, as sizes */
};

extern const struct run_config run_configs[];
extern const unsigned run_nr_configs;

/* What all runs of a configuration begin with. */
struct run_image {
        const struct run_config *config;
        struct t_image img;
        size_t log_super; /* where the journal's superblock is; 0: none */
};

void run_image_make(const struct run_config *config, struct run_image *ret_image);
void run_image_free(struct run_image *image);

struct run_result {
        struct baton_result order;
        bool was_cut, had_faults;
        unsigned nr_images; /* looked at */
        uint64_t nr_events; /* of the device */
};

/* The process ends when something is wrong. */
void run_one(const struct run_image *image, uint64_t seed, bool with_trace,
             struct run_result *ret_result);

#endif
