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
#include <setjmp.h>
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
        bool alone;  /* it takes an image for itself, or means a whole one: not for `sh` */
};

extern const struct cli_command cli_attr;
extern const struct cli_command cli_bench;
extern const struct cli_command cli_cat;
extern const struct cli_command cli_chattr;
extern const struct cli_command cli_chmod;
extern const struct cli_command cli_chown;
extern const struct cli_command cli_cp;
extern const struct cli_command cli_df;
extern const struct cli_command cli_du;
extern const struct cli_command cli_exercise;
extern const struct cli_command cli_fallocate;
extern const struct cli_command cli_find;
extern const struct cli_command cli_get;
extern const struct cli_command cli_info;
extern const struct cli_command cli_journal;
extern const struct cli_command cli_ln;
extern const struct cli_command cli_ls;
extern const struct cli_command cli_map;
extern const struct cli_command cli_mkdir;
extern const struct cli_command cli_mount;
extern const struct cli_command cli_mv;
extern const struct cli_command cli_put;
extern const struct cli_command cli_recover;
extern const struct cli_command cli_rm;
extern const struct cli_command cli_sh;
extern const struct cli_command cli_stat;
extern const struct cli_command cli_stats;
extern const struct cli_command cli_tar;
extern const struct cli_command cli_touch;
extern const struct cli_command cli_trim;
extern const struct cli_command cli_truncate;
extern const struct cli_command cli_umount;
extern const struct cli_command cli_verify;

/* The command of that name, or NULL; and all of them by number, NULL behind the last. */
const struct cli_command *cli_find_command(const char *name);
const struct cli_command *cli_nth_command(size_t n);

/* A mounted image, kept until the command ends. */
struct cli_image {
        struct cli_image *next;
        char *uri;
        struct uext4_bdev *dev; /* begins where the file system does (mount option offset=) */
        struct uext4_fs *fs;
};

/* Where the commands of `sh` run: operands are paths of its image. */
struct cli_shell {
        char *image;    /* its URI */
        char *cwd;      /* absolute, without a slash behind but for the root */
        jmp_buf escape; /* out of a command that cannot go on */
};

struct cli {
        const struct cli_command *command; /* NULL while none was chosen */
        char *mount_options;               /* what -o gave, NULL for nothing */
        bool verbose;                      /* -v */
        bool writes;                       /* images are mounted to be changed, else `ro` */
        int status;                        /* exit status so far */
        struct cli_shell *shell;           /* NULL outside of one */
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

/* Unmounts everything. */
void cli_images_close(struct cli *cli);

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

/* The same, and one dash is as good as two for a long option. */
int cli_getopt_long_only(struct cli *cli, int argc, char **argv, const char *shorts,
                         const struct option *longs);

/* The only operand; a usage error when there is none, or one more. */
const char *cli_one_operand(struct cli *cli, int argc, char **argv);

/* All operands; a usage error when there is none, but in a shell the current directory then. */
char **cli_operands(struct cli *cli, int argc, char **argv, int *ret_nr);

/* The only one, of a command that has no option of its own but --json. */
const char *cli_one_operand_json(struct cli *cli, int argc, char **argv, bool *ret_json);

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
        char *arg; /* for messages: in full, a bare image with ":/" behind it */
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

/* The operand as IMAGE:/PATH, which in a shell need not be given so; to be freed. */
char *cli_operand_full(struct cli *cli, const char *arg);

/* The mounted image of a full operand, and the path in it, "/" for none; on failure it is
 * said. */
struct cli_image *cli_operand_image(struct cli *cli, const char *arg, const char **ret_path);

/* False when there is no such file; an image that cannot be mounted is said. */
bool cli_operand_exists(struct cli *cli, const char *arg, enum cli_follow follow);

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

/* Append a word to a list with commas, which may be NULL or empty. */
void cli_join(char **list, const char *word);

uint64_t cli_clock_ns(void);

/* As many open files as the host allows, from now on. */
void cli_raise_file_limit(void);

#endif
