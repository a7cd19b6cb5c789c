/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_CLI_H
#define UEXT4_CLI_CLI_H

/*
 * cli.h - what all commands share: the command table's type, messages, options, images
 * and operands.
 *
 * The program is one thread that lives for one command, so what cannot go on (no memory, a
 * usage error) ends the process; everything that concerns one file is said, remembered
 * in cli->status, and the command goes on with the next file, as coreutils do.
 */

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uext4.h"

/* Exit statuses. */
enum {
        CLI_OK = 0,
        CLI_FAILED = 1, /* something could not be done, or differs */
        CLI_USAGE = 2,  /* the command line was wrong; nothing was done */
};

struct cli;

struct cli_command {
        const char *name;
        const char *summary; /* one line for `uext4 --help` */
        const char *usage;   /* what `uext4 NAME --help` prints, without the common options */
        void (*run)(struct cli *cli, int argc, char **argv);
        bool writes; /* it changes images always: see struct cli */
};

extern const struct cli_command cli_bench;
extern const struct cli_command cli_cat;
extern const struct cli_command cli_exercise;
extern const struct cli_command cli_fallocate;
extern const struct cli_command cli_get;
extern const struct cli_command cli_info;
extern const struct cli_command cli_journal;
extern const struct cli_command cli_ls;
extern const struct cli_command cli_map;
extern const struct cli_command cli_put;
extern const struct cli_command cli_recover;
extern const struct cli_command cli_rm;
extern const struct cli_command cli_stat;
extern const struct cli_command cli_truncate;
extern const struct cli_command cli_verify;

/* A mounted image, kept until the command ends. */
struct cli_image {
        struct cli_image *next;
        char *uri;
        struct uext4_bdev *dev; /* begins where the file system does (mount option offset=) */
        struct uext4_fs *fs;
};

struct cli {
        const struct cli_command *command; /* NULL while none was chosen */
        char *mount_options;               /* what -o gave, NULL for nothing */
        bool verbose;                      /* -v */
        bool writes;                       /* images are mounted to be changed, else `ro` */
        int status;                        /* exit status so far */
        struct cli_image *images;
};

/* ---- messages: "uext4: COMMAND: NAME: text" on stderr ------------------- */

/* `name` comes from an image or the command line and is escaped; NULL for none. */
void cli_fail(struct cli *cli, const char *name, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void cli_fail_errno(struct cli *cli, const char *name, int err);

/* As cli_fail, but the exit status stays. */
void cli_warn(struct cli *cli, const char *name, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* The text for a negative errno, with better words for what ext4 means by some. */
const char *cli_strerror(int err);

/* Says it, points to --help and exits with CLI_USAGE. */
_Noreturn void cli_usage_error(struct cli *cli, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

/* Unmounts everything, flushes stdout, whose failure is a failure, and exits. */
_Noreturn void cli_exit(struct cli *cli);

/* ---- options ------------------------------------------------------------ */

enum {
        CLI_OPT_HELP = 0x1000,
        CLI_OPT_FIRST, /* the first value for a command's own long options */
};

#define CLI_SHORT_OPTIONS "o:v"
#define CLI_LONG_OPTIONS                                                                \
        {"options", required_argument, NULL, 'o'}, {"verbose", no_argument, NULL, 'v'}, \
                {"help", no_argument, NULL, CLI_OPT_HELP},                              \
        {                                                                               \
                NULL, 0, NULL, 0                                                        \
        }

/*
 * getopt_long() over tables that end with the macros above.  Takes care of the common
 * options itself; returns only the command's own, -1 at the end.
 */
int cli_getopt(struct cli *cli, int argc, char **argv, const char *shorts,
               const struct option *longs);

/* Parse an option's value within [min, max]; a usage error otherwise. */
uint64_t cli_option_size(struct cli *cli, const char *option, const char *value, uint64_t min,
                         uint64_t max);
bool cli_option_bool(struct cli *cli, const char *option, const char *value);

/* ---- images and operands ---------------------------------------------- */

/* What -o gave, as it was given, and the log on stderr: for calls that open a device
 * themselves. */
struct uext4_mount_params cli_params(struct cli *cli);

/* Mount, or find among the mounted; on failure it is said and NULL returned. */
struct cli_image *cli_image_get(struct cli *cli, const char *uri);

enum cli_follow {
        CLI_FOLLOW,   /* a symlink at the end of the path is followed */
        CLI_NOFOLLOW, /* it is the operand itself */
};

/* IMAGE:/PATH. */
struct cli_operand {
        char *arg; /* for messages: as given, a bare image with ":/" behind it */
        struct cli_image *image;
        char *path; /* absolute, inside the image */
        struct uext4_inode *inode;
        struct uext4_stat st;
};

/*
 * Split, mount and resolve.  On failure it is said and false returned.  An operand
 * without ":/" is an image and means its root.
 */
bool cli_operand_open(struct cli *cli, const char *arg, enum cli_follow follow,
                      struct cli_operand *ret_op);
void cli_operand_close(struct cli_operand *op);

/* False when there is no such file; an image that cannot be mounted is said. */
bool cli_operand_exists(struct cli *cli, const char *arg);

/* The name of what lies at `path` below the operand, for messages; to be freed. */
char *cli_operand_name(const struct cli_operand *op, const char *path);

/* The length of IMAGE in IMAGE:/PATH, or the whole length where there is no path. */
size_t cli_operand_split(const char *arg);

/* ---- small things ----------------------------------------------------- */

/* As malloc and friends, but they exit when memory is short. */
void *cli_alloc(size_t nr, size_t size); /* zeroed */
void *cli_alloc_aligned(size_t align, size_t size);
void *cli_realloc(void *mem, size_t nr, size_t size);
char *cli_strdup(const char *s);
char *cli_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

uint64_t cli_clock_ns(void);

#endif
