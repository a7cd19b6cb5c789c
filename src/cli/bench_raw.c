/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench_raw.c - the raw side of `uext4 bench`: the same blocks at the places of the device
 * where the file has them, through a queue of the same device, with the same depth and the same
 * buffers.
 *
 * Where they are is looked up once, before the clock runs: each block of the file has a row of
 * pieces, one in a file that is not fragmented.  A hole has none; then there is nothing to do
 * for this side, as there is nothing for the device in the other.  Only places that the file
 * has are ever written.
 */
#include <stdlib.h>

#include "cli/bench_side.h"

#define MAX_RAW_BLOCKS (1u << 24) /* bounds the table: 32 bytes each */

struct raw_request {
        struct uext4_bdev_req req; /* first, so that done() finds us */
        struct iovec iov;
        struct bench_slot *slot;
        struct bench_engine *engine;
};

static void slot_piece_done(struct bench_engine *e, struct bench_slot *slot, int error)
{
        if (error && !slot->error)
                slot->error = error;
        if (--slot->pieces_left == 0)
                e->finished[e->nr_finished++] = slot;
}

static void raw_done(struct uext4_bdev_req *req)
{
        struct raw_request *raw = (struct raw_request *)req;

        slot_piece_done(raw->engine, raw->slot, req->result);
}

static void raw_slot_start(struct bench_engine *e, struct bench_slot *slot)
{
        size_t first = e->first_piece[slot->block];
        unsigned nr = (unsigned)(e->first_piece[slot->block + 1] - first);

        slot->error = 0;
        slot->pieces_left =
                nr + 1; /* one for this function, so that it ends here at the earliest */
        for (unsigned i = 0; i < nr; i++) {
                const struct filemap_piece *piece = &e->pieces[first + i];
                struct raw_request *raw = &slot->pieces[i];
                int ret;

                raw->iov.iov_base = (uint8_t *)slot->buffer +
                                    (piece->file_pos - slot->block * e->opt->block_size);
                raw->iov.iov_len = piece->len;
                raw->req.op = slot->write ? UEXT4_BDEV_WRITE : UEXT4_BDEV_READ;
                raw->req.flags =
                        slot->write && e->opt->sync == BENCH_SYNC_DSYNC ? UEXT4_BDEV_FUA : 0;
                if (e->opt->fixed_buffers)
                        raw->req.flags |= UEXT4_BDEV_FIXED;
                raw->req.pos = piece->pos;
                raw->req.len = piece->len;
                ret = uext4_bdev_queue_add(e->raw_queue, &raw->req);
                if (ret < 0)
                        slot_piece_done(e, slot, ret);
        }
        slot_piece_done(e, slot, 0);
}

static int raw_side_submit(struct bench_engine *e)
{
        for (unsigned i = 0; i < e->nr_idle; i++)
                raw_slot_start(e, e->idle[i]);
        e->nr_idle = 0;
        return uext4_bdev_queue_kick(e->raw_queue);
}

static int raw_side_wait(struct bench_engine *e, struct bench_slot **done)
{
        while (e->nr_finished == 0) {
                int ret = uext4_bdev_queue_drive(e->raw_queue, -1);

                if (ret < 0)
                        return ret;
        }
        return bench_take_finished(e, done);
}

static int raw_side_sync(struct bench_engine *e)
{
        return uext4_bdev_flush(e->op->image->dev);
}

const struct bench_side_ops bench_raw_side = {raw_side_submit, raw_side_wait, raw_side_sync};

/* ---- preparing ---------------------------------------------------------- */

static size_t raw_pieces_add(struct bench_engine *e, size_t room,
                             const struct filemap_piece *piece)
{
        if (e->nr_pieces == room) {
                room = 2 * room + 1024;
                e->pieces = cli_realloc(e->pieces, room, sizeof(*e->pieces));
        }
        e->pieces[e->nr_pieces++] = *piece;
        return room;
}

/* Fill in e->pieces; returns how many pieces the most scattered block has. */
static size_t raw_table_fill(struct bench_engine *e, const struct filemap *map)
{
        struct filemap_iter at = {0};
        size_t room = 0, most = 0;

        for (uint64_t block = 0; block < e->nr_blocks; block++) {
                uint64_t pos = block * e->opt->block_size, end = pos + e->opt->block_size;
                struct filemap_piece piece;

                e->first_piece[block] = e->nr_pieces;
                while (filemap_next(map, &at, pos, end, &piece)) {
                        room = raw_pieces_add(e, room, &piece);
                        pos = piece.file_pos + piece.len;
                }
                if (e->nr_pieces - e->first_piece[block] > most)
                        most = e->nr_pieces - e->first_piece[block];
        }
        e->first_piece[e->nr_blocks] = e->nr_pieces;
        return most;
}

static void raw_slots_init(struct bench_engine *e, size_t most)
{
        e->raw_requests = cli_alloc(e->opt->depth * most, sizeof(*e->raw_requests));
        for (unsigned i = 0; i < e->opt->depth; i++) {
                struct bench_slot *slot = &e->slots[i];

                slot->pieces = e->raw_requests + i * most;
                for (size_t k = 0; k < most; k++) {
                        struct raw_request *raw = &slot->pieces[k];

                        raw->slot = slot;
                        raw->engine = e;
                        raw->req.iov = &raw->iov;
                        raw->req.nr_iov = 1;
                        raw->req.done = raw_done;
                }
        }
}

bool bench_raw_init(struct bench_engine *e)
{
        struct filemap map;
        size_t most;
        int ret;

        if (e->nr_blocks > MAX_RAW_BLOCKS) {
                cli_fail(e->cli, e->op->arg, "too many blocks for --raw; use --size");
                return false;
        }
        ret = filemap_read(e->file, &map);
        if (ret < 0) {
                cli_fail(e->cli, e->op->arg, "cannot map: %s", cli_strerror(ret));
                return false;
        }
        e->first_piece = cli_alloc(e->nr_blocks + 1, sizeof(*e->first_piece));
        most = raw_table_fill(e, &map);
        filemap_done(&map);
        if (most == 0) {
                cli_fail(e->cli, e->op->arg, "has no blocks on the device");
                return false;
        }
        raw_slots_init(e, most);
        ret = uext4_bdev_queue_new(e->op->image->dev, e->opt->depth, &e->raw_queue);
        if (ret < 0) {
                cli_fail(e->cli, e->op->arg, "cannot make a queue: %s", cli_strerror(ret));
                return false;
        }
        if (e->opt->fixed_buffers)
                ret = uext4_bdev_queue_register(e->raw_queue, &e->all_buffers, 1);
        return bench_registered(e, ret);
}

void bench_raw_done(struct bench_engine *e)
{
        uext4_bdev_queue_free(e->raw_queue);
        free(e->raw_requests);
        free(e->pieces);
        free(e->first_piece);
}
