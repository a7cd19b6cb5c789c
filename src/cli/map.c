/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * map.c - `uext4 map`: where a file lies.
 *
 * The extents, and the holes between them, become segments: a cover of the file from 0 to its
 * end or to the end of its last extent.  Table, summary, picture and JSON are views of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/filemap.h"
#include "cli/json.h"
#include "cli/text.h"

enum kind {
        KIND_HOLE,
        KIND_WRITTEN,
        KIND_UNWRITTEN,
        KIND_INLINE,
        KIND_DELAYED,
        KIND_UNKNOWN,
        NR_KINDS
};

static const struct {
        const char *name;
        char letter; /* in the picture */
} kinds[NR_KINDS] = {
        [KIND_HOLE] = {"hole", '.'},           [KIND_WRITTEN] = {"written", '#'},
        [KIND_UNWRITTEN] = {"unwritten", 'u'}, [KIND_INLINE] = {"inline", 'i'},
        [KIND_DELAYED] = {"delayed", 'd'},     [KIND_UNKNOWN] = {"unknown", '?'},
};

/* Flags worth a name beside the kind. */
static const struct {
        uint32_t flag;
        const char *name;
} flag_names[] = {
        {FIEMAP_EXTENT_LAST, "last"},
        {FIEMAP_EXTENT_ENCODED, "encoded"},
        {FIEMAP_EXTENT_DATA_ENCRYPTED, "encrypted"},
        {FIEMAP_EXTENT_NOT_ALIGNED, "not_aligned"},
        {FIEMAP_EXTENT_DATA_TAIL, "tail"},
        {FIEMAP_EXTENT_MERGED, "merged"},
        {FIEMAP_EXTENT_SHARED, "shared"},
};

#define NR_FLAG_NAMES (sizeof(flag_names) / sizeof(flag_names[0]))

struct segment {
        uint64_t logical, physical, len; /* bytes */
        enum kind kind;
        uint32_t flags;
};

struct view {
        const struct cli_operand *op;
        uint32_t block_size;
        uint64_t device_size; /* bytes of the file system */
        struct segment *segments;
        size_t nr;
};

/* ---- segments ----------------------------------------------------------- */

static enum kind extent_kind(uint32_t flags)
{
        if (flags & FIEMAP_EXTENT_DATA_INLINE)
                return KIND_INLINE;
        if (flags & FIEMAP_EXTENT_DELALLOC)
                return KIND_DELAYED;
        if (flags & FIEMAP_EXTENT_UNKNOWN)
                return KIND_UNKNOWN;
        return flags & FIEMAP_EXTENT_UNWRITTEN ? KIND_UNWRITTEN : KIND_WRITTEN;
}

static bool has_place(const struct segment *s)
{
        return s->kind == KIND_WRITTEN || s->kind == KIND_UNWRITTEN || s->kind == KIND_INLINE;
}

static bool is_mapped(const struct segment *s)
{
        return s->kind == KIND_WRITTEN || s->kind == KIND_UNWRITTEN;
}

static void add_hole(struct view *view, uint64_t pos, uint64_t end)
{
        if (pos < end)
                view->segments[view->nr++] =
                        (struct segment){.logical = pos, .len = end - pos, .kind = KIND_HOLE};
}

static void make_segments(struct view *view, const struct filemap *map)
{
        uint64_t pos = 0;

        /* Before each extent and behind the last there may be a hole. */
        view->segments = cli_alloc(2 * map->nr + 1, sizeof(*view->segments));
        for (size_t i = 0; i < map->nr; i++) {
                const struct fiemap_extent *e = &map->extents[i];

                add_hole(view, pos, e->fe_logical);
                view->segments[view->nr++] = (struct segment){
                        .logical = e->fe_logical,
                        .physical = e->fe_physical,
                        .len = e->fe_length,
                        .kind = extent_kind(e->fe_flags),
                        .flags = e->fe_flags,
                };
                pos = e->fe_logical + e->fe_length;
        }
        add_hole(view, pos, view->op->st.size);
}

/* The part of inline data's block that is no block of its own has no number of blocks. */
static uint64_t blocks_of(const struct view *view, uint64_t bytes)
{
        return bytes / view->block_size + (bytes % view->block_size != 0);
}

/* ---- the summary -------------------------------------------------------- */

struct summary {
        uint64_t bytes[NR_KINDS];
        size_t nr[NR_KINDS];
        size_t nr_fragments; /* runs of mapped segments that follow each other on the device */
        size_t nr_mapped;
        uint64_t mapped;
};

static struct summary summarize(const struct view *view)
{
        struct summary sum = {0};
        const struct segment *before = NULL;

        for (size_t i = 0; i < view->nr; i++) {
                const struct segment *s = &view->segments[i];

                sum.bytes[s->kind] += s->len;
                sum.nr[s->kind]++;
                if (!is_mapped(s))
                        continue;
                sum.nr_mapped++;
                sum.mapped += s->len;
                /* A hole moves the position on the device that would be next not at all. */
                if (!before || before->physical + before->len != s->physical)
                        sum.nr_fragments++;
                before = s;
        }
        return sum;
}

static void print_summary(const struct view *view, const struct summary *sum)
{
        char size[TEXT_BYTES_MAX], bytes[TEXT_BYTES_MAX];
        size_t nr_extents = view->nr - sum->nr[KIND_HOLE];

        printf("%s: %s, %zu extent%s in %zu fragment%s", view->op->arg,
               text_bytes(size, view->op->st.size), nr_extents, nr_extents == 1 ? "" : "s",
               sum->nr_fragments, sum->nr_fragments == 1 ? "" : "s");
        for (int k = 0; k < NR_KINDS; k++)
                if (sum->nr[k])
                        printf(", %s %s", text_bytes(bytes, sum->bytes[k]), kinds[k].name);
        if (sum->nr_fragments > 0)
                printf(", %s a fragment", text_bytes(bytes, sum->mapped / sum->nr_fragments));
        putchar('\n');
}

/* ---- the table ---------------------------------------------------------- */

static void print_flags(uint32_t flags)
{
        const char *comma = " ";

        for (size_t i = 0; i < NR_FLAG_NAMES; i++) {
                if (flags & flag_names[i].flag) {
                        printf("%s%s", comma, flag_names[i].name);
                        comma = ",";
                }
        }
}

static void print_table(const struct view *view)
{
        printf("%16s %18s %16s %10s  type\n", "logical", "physical", "bytes", "blocks");
        for (size_t i = 0; i < view->nr; i++) {
                const struct segment *s = &view->segments[i];

                printf("%16" PRIu64 " ", s->logical);
                if (has_place(s))
                        printf("%18" PRIu64, s->physical);
                else
                        printf("%18s", "-");
                printf(" %16" PRIu64 " %10" PRIu64 "  %s", s->len, blocks_of(view, s->len),
                       kinds[s->kind].name);
                print_flags(s->flags);
                putchar('\n');
        }
}

/* ---- the picture -------------------------------------------------------- */

/* The cell of a strip of `width` cells over `total` bytes in which byte `pos` lies. */
static size_t cell_of(uint64_t pos, uint64_t total, size_t width)
{
        return (size_t)((unsigned __int128)pos * width / total);
}

static void print_strip(const char *cells, size_t width, uint64_t total)
{
        char bytes[TEXT_BYTES_MAX];

        text_bytes(bytes, total);
        printf("|%.*s|\n 0%*s\n", (int)width, cells, (int)width - 1, bytes);
}

/* The file from front to back: each cell the letter of its kind, '+' where kinds meet. */
static void picture_file(const struct view *view, char *cells, size_t width)
{
        const struct segment *last = &view->segments[view->nr - 1];
        uint64_t total = last->logical + last->len;

        memset(cells, ' ', width);
        for (size_t i = 0; i < view->nr; i++) {
                const struct segment *s = &view->segments[i];
                size_t from = cell_of(s->logical, total, width);
                size_t to = cell_of(s->logical + s->len - 1, total, width);

                for (size_t c = from; c <= to && c < width; c++)
                        cells[c] = cells[c] == ' ' || cells[c] == kinds[s->kind].letter
                                           ? kinds[s->kind].letter
                                           : '+';
        }
        print_strip(cells, width, total);
}

static uint64_t overlap(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
        uint64_t from = a > b ? a : b, to = a_end < b_end ? a_end : b_end;

        return from < to ? to - from : 0;
}

/* Add to each cell of the device how many of its bytes the segment has. */
static void fill_device(const struct view *view, const struct segment *s, uint64_t *filled,
                        size_t width)
{
        uint64_t end = s->physical + s->len;

        if (s->len == 0 || end < s->physical || end > view->device_size)
                return; /* not on this device: a damaged map */
        for (size_t c = cell_of(s->physical, view->device_size, width);
             c < width && c <= cell_of(end - 1, view->device_size, width); c++) {
                uint64_t from = (uint64_t)((unsigned __int128)view->device_size * c / width);
                uint64_t to =
                        (uint64_t)((unsigned __int128)view->device_size * (c + 1) / width);

                filled[c] += overlap(s->physical, end, from, to);
        }
}

static void picture_device(const struct view *view, char *cells, size_t width)
{
        uint64_t *filled = cli_alloc(width, sizeof(*filled));
        uint64_t cell_size = view->device_size / width + 1;

        for (size_t i = 0; i < view->nr; i++)
                if (has_place(&view->segments[i]))
                        fill_device(view, &view->segments[i], filled, width);
        for (size_t c = 0; c < width; c++)
                cells[c] = filled[c] == 0 ? '.' : filled[c] >= cell_size / 2 ? '#' : 'o';
        print_strip(cells, width, view->device_size);
        free(filled);
}

static void print_picture(const struct view *view)
{
        size_t width = text_terminal_width(STDOUT_FILENO);
        char *cells;

        width = width > 22 ? width - 2 : 20;
        cells = cli_alloc(width, 1);
        puts("file (# written, u unwritten, . hole, i inline, + several):");
        if (view->nr > 0)
                picture_file(view, cells, width);
        else
                puts(" (empty)");
        puts("device (. nothing of the file, o less than half of the cell, # more):");
        if (view->device_size > 0)
                picture_device(view, cells, width);
        free(cells);
}

/* ---- JSON --------------------------------------------------------------- */

static json_t *segment_json(const struct segment *s)
{
        json_t *object = json_object(), *flags = json_array();

        json_add_uint(object, "logical", s->logical);
        if (has_place(s))
                json_add_uint(object, "physical", s->physical);
        json_add_uint(object, "length", s->len);
        json_add_text(object, "type", kinds[s->kind].name);
        for (size_t i = 0; i < NR_FLAG_NAMES; i++)
                if (s->flags & flag_names[i].flag)
                        json_push(flags, json_text(flag_names[i].name));
        json_add(object, "flags", flags);
        return object;
}

static void print_json(const struct view *view, const struct summary *sum)
{
        json_t *top = json_object(), *segments = json_array();

        json_add_text(top, "name", view->op->arg);
        json_add_uint(top, "size", view->op->st.size);
        json_add_uint(top, "block_size", view->block_size);
        json_add_uint(top, "extents", view->nr - sum->nr[KIND_HOLE]);
        json_add_uint(top, "fragments", sum->nr_fragments);
        for (size_t i = 0; i < view->nr; i++)
                json_push(segments, segment_json(&view->segments[i]));
        json_add(top, "segments", segments);
        json_print(top);
}

/* ---- the command -------------------------------------------------------- */

struct options {
        bool picture, json;
};

static void show(const struct options *opt, const struct view *view)
{
        struct summary sum = summarize(view);

        if (opt->json) {
                print_json(view, &sum);
                return;
        }
        if (opt->picture)
                print_picture(view);
        else
                print_table(view);
        print_summary(view, &sum);
}

static void map_operand(struct cli *cli, const struct options *opt,
                        const struct cli_operand *op)
{
        struct view view = {.op = op};
        struct uext4_info info;
        struct uext4_file *file;
        struct filemap map;
        int ret = uext4_get_info(op->image->fs, &info);

        if (ret == 0)
                ret = uext4_open(op->inode, O_RDONLY | O_CLOEXEC, &file);
        if (ret == 0) {
                ret = filemap_read(file, &map);
                uext4_close(file);
        } else if (ret == -EINVAL) {
                cli_fail(cli, op->arg, "Not a regular file");
                return;
        }
        if (ret < 0) {
                cli_fail_errno(cli, op->arg, ret);
                return;
        }
        view.block_size = info.block_size;
        view.device_size = info.nr_blocks * info.block_size;
        make_segments(&view, &map);
        show(opt, &view);
        free(view.segments);
        filemap_done(&map);
}

enum {
        OPT_PICTURE = CLI_OPT_FIRST,
        OPT_JSON
};

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"picture", no_argument, NULL, OPT_PICTURE},
                {"json", no_argument, NULL, OPT_JSON},
                CLI_LONG_OPTIONS,
        };
        struct options opt = {0};
        const char *arg;
        struct cli_operand op;
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS, longs)) != -1) {
                if (o == OPT_PICTURE)
                        opt.picture = true;
                else
                        opt.json = true;
        }
        arg = cli_one_operand(cli, argc, argv);
        if (cli_operand_open(cli, arg, CLI_FOLLOW, &op)) {
                map_operand(cli, &opt, &op);
                cli_operand_close(&op);
        }
}

const struct cli_command cli_map = {
        .name = "map",
        .summary = "show where a file lies on the device",
        .usage = "Usage: uext4 map [OPTION]... IMAGE:/PATH\n"
                 "List the extents and holes of a file, in bytes, and say how fragmented it "
                 "is.\n"
                 "\n"
                 "      --picture          draw the file, and where it lies on the device,\n"
                 "                         instead of the table\n"
                 "      --json             print JSON\n",
        .run = run,
};
