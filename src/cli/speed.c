/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * speed.c - files against the bare device (see speed.h).
 *
 * Errors of single requests are not counted here: verify has read everything before and has
 * said what cannot be read.  The sides take turns, until each has had enough time to be
 * measured; the first turn is not counted if all of it is small enough to be in a cache of the
 * host afterwards.
 */
#include "cli/speed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/reader.h"

#define WARM_MAX   (256u << 20) /* bytes */
#define MEASURE_NS 250000000u

struct range {
        struct uext4_file *file;
        uint64_t pos, len;
};

struct speed_plan {
        size_t request_size;
        uint64_t limit, bytes; /* on the device */
        struct uext4_file **files;
        size_t nr_files, room_files;
        struct range *ranges;
        size_t nr_ranges, room_ranges;
        struct filemap_piece *pieces;
        size_t nr_pieces, room_pieces;
};

struct speed_plan *speed_plan_new(size_t request_size, uint64_t limit)
{
        struct speed_plan *plan = cli_alloc(1, sizeof(*plan));

        plan->request_size = request_size;
        plan->limit = limit;
        return plan;
}

void speed_plan_free(struct speed_plan *plan)
{
        for (size_t i = 0; i < plan->nr_files; i++)
                uext4_close(plan->files[i]);
        free(plan->files);
        free(plan->ranges);
        free(plan->pieces);
        free(plan);
}

bool speed_plan_is_full(const struct speed_plan *plan)
{
        return plan->bytes >= plan->limit;
}

/* Make room for one more. */
static void *grow(void *array, size_t nr, size_t *room, size_t size)
{
        if (nr < *room)
                return array;
        *room = 2 * *room + 64;
        return cli_realloc(array, *room, size);
}

/* The pieces of one request; how many bytes they have. */
static uint64_t add_pieces(struct speed_plan *plan, const struct filemap *map,
                           struct filemap_iter *at, uint64_t pos, uint64_t end)
{
        struct filemap_piece piece;
        uint64_t bytes = 0;

        while (filemap_next(map, at, pos, end, &piece)) {
                plan->pieces = grow(plan->pieces, plan->nr_pieces, &plan->room_pieces,
                                    sizeof(*plan->pieces));
                plan->pieces[plan->nr_pieces++] = piece;
                bytes += piece.len;
                pos = piece.file_pos + piece.len;
        }
        return bytes;
}

static void add_range(struct speed_plan *plan, struct uext4_file *file, uint64_t pos,
                      uint64_t len)
{
        plan->ranges =
                grow(plan->ranges, plan->nr_ranges, &plan->room_ranges, sizeof(*plan->ranges));
        plan->ranges[plan->nr_ranges++] = (struct range){file, pos, len};
}

int speed_plan_add(struct speed_plan *plan, struct uext4_inode *inode,
                   const struct filemap *map)
{
        struct filemap_iter at = {0};
        struct filemap_piece first;
        struct uext4_file *file;
        struct uext4_stat st;
        uint64_t pos = 0, align, end;
        int ret = reader_open(inode, &file);

        if (ret < 0)
                return ret;
        plan->files =
                grow(plan->files, plan->nr_files, &plan->room_files, sizeof(*plan->files));
        plan->files[plan->nr_files++] = file;
        ret = uext4_stat(inode, &st);
        align = st.dio_offset_align;
        if (ret < 0 || align == 0 || plan->request_size % align != 0)
                return ret; /* served buffered: nothing to compare */
        end = (st.size + align - 1) / align * align;
        while (!speed_plan_is_full(plan) && filemap_next(map, &at, pos, end, &first)) {
                uint64_t len;

                pos = first.file_pos - first.file_pos % plan->request_size;
                len = end - pos < plan->request_size ? end - pos : plan->request_size;
                add_range(plan, file, pos, len);
                plan->bytes += add_pieces(plan, map, &at, pos, pos + len);
                pos += len;
        }
        return 0;
}

/* ---- the files ---------------------------------------------------------- */

struct side {
        struct speed_plan *plan;
        unsigned depth;
        uint8_t *buffers;
        struct iovec *iovs;
};

static void fill_request(const struct side *side, struct uext4_request *req, unsigned slot,
                         const struct range *range)
{
        side->iovs[slot].iov_len = range->len;
        *req = (struct uext4_request){
                .op = UEXT4_READ,
                .file = range->file,
                .iov = &side->iovs[slot],
                .nr_iov = 1,
                .pos = range->pos,
                .user_data = &side->iovs[slot],
        };
}

/* Read all ranges; `idle` has the free slots. */
static int files_loop(const struct side *side, struct uext4_queue *queue,
                      struct uext4_request *reqs, struct uext4_completion *comps,
                      unsigned *idle)
{
        const struct speed_plan *plan = side->plan;
        unsigned nr_idle = side->depth;
        size_t next = 0;

        for (unsigned i = 0; i < side->depth; i++)
                idle[i] = i;
        while (next < plan->nr_ranges || nr_idle < side->depth) {
                unsigned nr = 0;
                int ret;

                for (; next < plan->nr_ranges && nr_idle > 0; nr++)
                        fill_request(side, &reqs[nr], idle[--nr_idle], &plan->ranges[next++]);
                ret = nr ? uext4_queue_submit(queue, reqs, nr) : 0;
                if (ret != (int)nr) /* the queue has room for all slots */
                        return ret < 0 ? ret : -EAGAIN;
                ret = uext4_queue_wait(queue, comps, 1, side->depth, -1);
                if (ret <= 0)
                        return ret < 0 ? ret : -EIO;
                for (int i = 0; i < ret; i++)
                        idle[nr_idle++] =
                                (unsigned)((struct iovec *)comps[i].user_data - side->iovs);
        }
        return 0;
}

static int read_files(const struct side *side, struct uext4_fs *fs)
{
        struct uext4_request *reqs = cli_alloc(side->depth, sizeof(*reqs));
        struct uext4_completion *comps = cli_alloc(side->depth, sizeof(*comps));
        unsigned *idle = cli_alloc(side->depth, sizeof(*idle));
        struct uext4_queue *queue;
        int ret = uext4_queue_new(fs, side->depth, &queue);

        if (ret == 0) {
                ret = files_loop(side, queue, reqs, comps, idle);
                uext4_queue_free(queue);
        }
        free(idle);
        free(comps);
        free(reqs);
        return ret;
}

/* ---- the bare device ---------------------------------------------------- */

struct raw_slot {
        struct uext4_bdev_req req; /* first, so that done() finds us */
        const struct side *side;
        struct iovec *iov;
        struct uext4_bdev_queue *queue;
        size_t *next; /* piece, of all slots */
        int *error;
};

static void raw_next(struct raw_slot *slot);

static void raw_done(struct uext4_bdev_req *req)
{
        raw_next((struct raw_slot *)req);
}

/* Start the slot's next piece, if there is one. */
static void raw_next(struct raw_slot *slot)
{
        const struct speed_plan *plan = slot->side->plan;
        const struct filemap_piece *piece;
        int ret;

        if (*slot->next == plan->nr_pieces || *slot->error)
                return;
        piece = &plan->pieces[(*slot->next)++];
        slot->iov->iov_len = piece->len;
        slot->req.pos = piece->pos;
        slot->req.len = piece->len;
        ret = uext4_bdev_queue_add(slot->queue, &slot->req);
        if (ret < 0)
                *slot->error = ret;
}

static int read_raw(const struct side *side, struct uext4_bdev *dev)
{
        struct raw_slot *slots = cli_alloc(side->depth, sizeof(*slots));
        struct uext4_bdev_queue *queue;
        size_t next = 0;
        int error = 0, ret = uext4_bdev_queue_new(dev, side->depth, &queue);

        if (ret < 0) {
                free(slots);
                return ret;
        }
        for (unsigned i = 0; i < side->depth; i++) {
                slots[i] = (struct raw_slot){
                        .req = {.op = UEXT4_BDEV_READ,
                                .iov = &side->iovs[i],
                                .nr_iov = 1,
                                .done = raw_done},
                        .side = side,
                        .iov = &side->iovs[i],
                        .queue = queue,
                        .next = &next,
                        .error = &error,
                };
                raw_next(&slots[i]);
        }
        while (ret >= 0 && uext4_bdev_queue_in_flight(queue) > 0) {
                ret = uext4_bdev_queue_kick(queue);
                if (ret == 0)
                        ret = uext4_bdev_queue_drive(queue, -1);
        }
        if (ret < 0)
                error = ret; /* and no completion adds more while the queue is freed */
        uext4_bdev_queue_free(queue);
        free(slots);
        return error;
}

/* ---- both --------------------------------------------------------------- */

/* One pass of both; adds the nanoseconds of each. */
static int pass(const struct side *side, struct uext4_fs *fs, struct uext4_bdev *dev,
                uint64_t *file_ns, uint64_t *raw_ns)
{
        uint64_t start = cli_clock_ns(), middle;
        int ret = read_files(side, fs);

        middle = cli_clock_ns();
        if (ret == 0)
                ret = read_raw(side, dev);
        *file_ns += middle - start;
        *raw_ns += cli_clock_ns() - middle;
        return ret;
}

static double rate(uint64_t bytes, uint64_t ns)
{
        return ns > 0 ? (double)bytes * 1e9 / (double)ns : 0;
}

static int measure(const struct side *side, struct uext4_fs *fs, struct uext4_bdev *dev,
                   struct speed_result *result)
{
        uint64_t file_ns = 0, raw_ns = 0, nr = 0;
        int ret = 0;

        if (result->bytes <= WARM_MAX)
                ret = pass(side, fs, dev, &file_ns, &raw_ns);
        file_ns = raw_ns = 0;
        for (; ret == 0 && (file_ns < MEASURE_NS || raw_ns < MEASURE_NS); nr++)
                ret = pass(side, fs, dev, &file_ns, &raw_ns);
        result->file_rate = rate(nr * result->bytes, file_ns);
        result->raw_rate = rate(nr * result->bytes, raw_ns);
        return ret;
}

int speed_measure(struct speed_plan *plan, struct uext4_fs *fs, struct uext4_bdev *dev,
                  unsigned depth, struct speed_result *ret_result)
{
        struct speed_result result = {.bytes = plan->bytes};
        struct side side = {.plan = plan, .depth = depth};
        int ret;

        side.buffers = cli_alloc_aligned(65536, depth * plan->request_size);
        /* Touched before the clock runs, or the side that is first pays for the pages. */
        memset(side.buffers, 0, depth * plan->request_size);
        side.iovs = cli_alloc(depth, sizeof(*side.iovs));
        for (unsigned i = 0; i < depth; i++)
                side.iovs[i].iov_base = side.buffers + i * plan->request_size;
        ret = result.bytes > 0 ? measure(&side, fs, dev, &result) : 0;
        if (ret == 0)
                *ret_result = result;
        free(side.iovs);
        free(side.buffers);
        return ret;
}
