/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attr.c - `uext4 attr`: extended attributes: list, get, set, remove.
 *
 * Values are written as getfattr(1) does, text in quotes or 0x and hexadecimal digits, and read
 * the same way.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/change.h"
#include "cli/json.h"
#include "cli/object.h"
#include "cli/text.h"

enum action {
        ACTION_LIST,
        ACTION_DUMP,
        ACTION_GET,
        ACTION_SET,
        ACTION_REMOVE,
};

struct request {
        enum action action;
        const char *name;
        void *value; /* ACTION_SET */
        size_t size;
        bool several; /* more than one operand */
        json_t *array;
        enum cli_follow follow;
};

/* ---- values ------------------------------------------------------------- */

static char *hex(const uint8_t *value, size_t size)
{
        char *text = cli_alloc(2 * size + 3, 1);

        text[0] = '0';
        text[1] = 'x';
        for (size_t i = 0; i < size; i++)
                snprintf(text + 2 + 2 * i, 3, "%02x", (unsigned)value[i]);
        return text;
}

/* Text when it can be read back as it is, to be freed. */
static char *printed(const void *value, size_t size)
{
        char *text = text_escape(value, size), *quoted;
        bool plain = strlen(text) == size && !memchr(value, '"', size);

        quoted = plain ? cli_printf("\"%s\"", text) : hex(value, size);
        free(text);
        return quoted;
}

static int nibble(char c)
{
        static const char digits[] = "0123456789abcdef";
        const char *at = c ? strchr(digits, c | 0x20) : NULL;

        return at ? (int)(at - digits) : -1;
}

static void parse_value(struct cli *cli, const char *text, struct request *r)
{
        size_t len = strlen(text);

        if (strncmp(text, "0x", 2) != 0) {
                bool quoted = len >= 2 && text[0] == '"' && text[len - 1] == '"';

                r->size = quoted ? len - 2 : len;
                r->value = cli_alloc(r->size, 1);
                memcpy(r->value, text + quoted, r->size);
                return;
        }
        r->size = (len - 2) / 2;
        r->value = cli_alloc(r->size, 1);
        for (size_t i = 2; i < len; i++) {
                int n = nibble(text[i]);

                if (n < 0 || len % 2)
                        cli_usage_error(cli, "invalid value: '%s'", text);
                ((uint8_t *)r->value)[(i - 2) / 2] |= (uint8_t)(i % 2 ? n : n << 4);
        }
}

/* ---- reading ------------------------------------------------------------ */

static void fail(struct cli *cli, const char *file, const char *name, int err)
{
        char *text = cli_quote(name);

        if (err == -EROFS)
                cli_fail_change(cli, file, err);
        else
                cli_fail(cli, file, "attribute %s: %s", text,
                         err == -ENODATA      ? "No such attribute"
                         : err == -EOPNOTSUPP ? "Not supported (names begin with user., "
                                                "trusted., security. or system.)"
                                              : cli_strerror(err));
        free(text);
}

/* One line of a list, with or without the value. */
static void print_one(struct cli *cli, const struct object *o, const char *name, json_t *object,
                      bool with_value)
{
        char *text = text_escape(name, strlen(name)), *shown;
        void *value;
        size_t size;
        int ret = with_value ? object_xattr(o, name, &value, &size) : 0;

        if (ret < 0) {
                fail(cli, o->source, name, ret);
        } else if (!with_value) {
                puts(text);
        } else {
                shown = printed(value, size);
                if (object)
                        json_add_text(object, name, shown);
                else
                        printf("%s=%s\n", text, shown);
                free(shown);
                free(value);
        }
        free(text);
}

static void list(struct cli *cli, const struct object *o, const struct request *r)
{
        json_t *object = r->array ? json_object() : NULL, *top;
        const char *name;
        char *names, *text;
        size_t size;
        int ret = object_xattr_names(o, &names, &size);

        if (ret < 0) {
                cli_fail(cli, o->source, "cannot list attributes: %s", cli_strerror(ret));
                return;
        }
        if (!object && size > 0 && (r->several || r->action == ACTION_DUMP)) {
                text = text_escape(o->source, strlen(o->source));
                printf("# file: %s\n", text);
                free(text);
        }
        for (size_t at = 0; (name = object_next_xattr(names, size, &at));)
                print_one(cli, o, name, object, object || r->action == ACTION_DUMP);
        if (object) {
                top = json_object();
                json_add_text(top, "name", o->source);
                json_add(top, "attributes", object);
                json_push(r->array, top);
        } else if (size > 0 && (r->several || r->action == ACTION_DUMP)) {
                putchar('\n');
        }
        free(names);
}

static void get(struct cli *cli, const struct object *o, const char *name)
{
        void *value;
        size_t size;
        int ret = object_xattr(o, name, &value, &size);

        if (ret < 0) {
                fail(cli, o->source, name, ret);
                return;
        }
        fwrite(value, 1, size, stdout);
        free(value);
}

/* ---- the command -------------------------------------------------------- */

static void one(struct cli *cli, const char *arg, const struct request *r)
{
        struct cli_operand op;
        struct object o;
        int ret = 0;

        if (!cli_operand_open(cli, arg, r->follow, &op))
                return;
        o = object_of_image(op.image, op.inode, &op.st, op.arg);
        switch (r->action) {
        case ACTION_LIST:
        case ACTION_DUMP:
                list(cli, &o, r);
                break;
        case ACTION_GET:
                get(cli, &o, r->name);
                break;
        case ACTION_SET:
                ret = uext4_setxattr(op.inode, r->name, r->value, r->size, 0);
                break;
        case ACTION_REMOVE:
                ret = uext4_removexattr(op.inode, r->name);
                break;
        }
        if (ret < 0)
                fail(cli, op.arg, r->name, ret);
        cli_operand_close(&op);
}

static void set_action(struct cli *cli, struct request *r, enum action action, const char *name)
{
        if (r->action != ACTION_LIST)
                cli_usage_error(cli, "-d, -g, -s and -r exclude each other");
        r->action = action;
        r->name = name;
}

static void parse_option(struct cli *cli, struct request *r, int o)
{
        switch (o) {
        case 'd':
                set_action(cli, r, ACTION_DUMP, NULL);
                break;
        case 'g':
                set_action(cli, r, ACTION_GET, optarg);
                break;
        case 'h':
                r->follow = CLI_NOFOLLOW;
                break;
        case 'r':
                set_action(cli, r, ACTION_REMOVE, optarg);
                break;
        case 's':
                set_action(cli, r, ACTION_SET, optarg);
                break;
        case 'V':
                free(r->value);
                r->value = NULL;
                parse_value(cli, optarg, r);
                break;
        default:
                if (!r->array)
                        r->array = json_array();
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"dump", no_argument, NULL, 'd'},
                {"get", required_argument, NULL, 'g'},
                {"json", no_argument, NULL, CLI_OPT_FIRST},
                {"no-dereference", no_argument, NULL, 'h'},
                {"remove", required_argument, NULL, 'r'},
                {"set", required_argument, NULL, 's'},
                {"value", required_argument, NULL, 'V'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {.follow = CLI_FOLLOW};
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "dg:hr:s:V:", longs)) != -1)
                parse_option(cli, &r, o);
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        if (r.value && r.action != ACTION_SET)
                cli_usage_error(cli, "-V needs -s");
        if (r.array && r.action != ACTION_LIST && r.action != ACTION_DUMP)
                cli_usage_error(cli, "--json is for lists");
        r.several = argc - optind > 1;
        /* What only reads leaves the image alone; in a shell that says what may be. */
        if (!cli->shell)
                cli->writes = r.action == ACTION_SET || r.action == ACTION_REMOVE;
        for (int i = optind; i < argc; i++)
                one(cli, argv[i], &r);
        if (r.array)
                json_print(r.array);
        free(r.value);
}

const struct cli_command cli_attr = {
        .name = "attr",
        .summary = "list, get, set and remove extended attributes",
        .usage =
                "Usage: uext4 attr [OPTION]... IMAGE:/PATH...\n"
                "List the names of extended attributes, or do what an option says.  Names are\n"
                "whole: user.NAME, trusted.NAME, security.NAME, system.posix_acl_access.\n"
                "\n"
                "  -d, --dump             list values, too\n"
                "  -g, --get=NAME         print the bytes of a value\n"
                "  -h, --no-dereference   of a symbolic link itself\n"
                "      --json             print a JSON array with names and values\n"
                "  -r, --remove=NAME      remove an attribute\n"
                "  -s, --set=NAME         set an attribute, to -V\n"
                "  -V, --value=VALUE      text, which may be in quotes, or 0x and hexadecimal\n"
                "                         digits; without, it is empty\n",
        .run = run,
};
