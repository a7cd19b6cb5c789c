/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tj.h"

#define F(csum_, is64_, bs_, nr_, fc_, tid_) \
        .f = {.csum = (csum_),               \
              .is64 = (is64_),               \
              .block_size = (bs_),           \
              .nr_blocks = (nr_),            \
              .nr_fc = (fc_),                \
              .tid = (tid_)}

/* 128 homes: blocks 0 .. 127 of the file system's device. */
const struct rig_config rig_formats[] = {
        {.name = "no checksums", F(TJ_NONE, false, 1024, 296, 0, 0)},
        {.name = "checksums v1", F(TJ_V1, false, 1024, 296, 0, 5)},
        {.name = "checksums v1, 64bit", F(TJ_V1, true, 1024, 264, 0, 0xfffffff0)},
        {.name = "checksums v2", F(TJ_V2, false, 1024, 296, 0, 0xfffffff8)},
        {.name = "checksums v2, 64bit, 4k", F(TJ_V2, true, 4096, 264, 0, 77)},
        {.name = "checksums v3", F(TJ_V3, false, 1024, 296, 0, 0)},
        {.name = "checksums v3, 64bit", F(TJ_V3, true, 1024, 400, 0, 0xfffffff0)},
        {.name = "checksums v3, fast-commit area", F(TJ_V3, true, 1024, 340, 30, 3)},
        {.name = "no checksums, fast-commit area", F(TJ_NONE, true, 1024, 296, 16, 9)},
        {.name = "checksums v3, own device",
         F(TJ_V3, true, 1024, 296, 0, 0x7ffffff8),
         .external = true},
        {.name = "checksums v3, own device, 4k",
         F(TJ_V3, true, 4096, 264, 0, 1),
         .external = true},
        {.name = "no checksums, own device",
         F(TJ_NONE, false, 1024, 272, 0, 2),
         .external = true},
        {.name = "checksums v3, no FUA", F(TJ_V3, false, 1024, 296, 0, 4), .no_fua = true},
        {.name = "v3 asked for, none before",
         F(TJ_NONE, false, 1024, 296, 0, 6),
         .set_incompat = JBD2_INCOMPAT_CSUM_V3 | JBD2_INCOMPAT_64BIT},
        {.name = "v3 asked for, v1 before",
         F(TJ_V1, false, 1024, 296, 0, 6),
         .set_incompat = JBD2_INCOMPAT_CSUM_V3},
};
const size_t rig_nr_formats = sizeof(rig_formats) / sizeof(rig_formats[0]);

struct rig_config rig_plain(uint32_t nr_log, uint32_t nr_homes)
{
        return (struct rig_config){
                .name = "plain",
                .f = {.csum = TJ_V3, .block_size = 1024, .nr_blocks = nr_log, .tid = 1},
                .nr_homes = nr_homes,
                .seed = 1,
        };
}

/* ---- the layout ---- */

static uint32_t nr_homes(const struct rig_config *c)
{
        return c->nr_homes ? c->nr_homes : 128;
}

unsigned rig_nr_devs(const struct rig_config *c)
{
        return c->external && !c->no_log ? 2 : 1;
}

static bool log_is_on(const struct rig_config *c, enum rig_dev which)
{
        return !c->no_log && which == (c->external ? RIG_LOG : RIG_FS);
}

size_t rig_size(const struct rig_config *c, enum rig_dev which)
{
        size_t nr = which == RIG_FS ? nr_homes(c) : 0;

        return (nr + (log_is_on(c, which) ? c->f.nr_blocks : 0)) * c->f.block_size;
}

/* A journal device has an ext4 superblock at byte 1024 before the journal's. */
static uint32_t super_blk(const struct rig_config *c)
{
        if (!c->external)
                return 0;
        return c->f.block_size == 1024 ? 2 : 1;
}

static struct jbd2_place place_of(const struct rig_config *c, struct uext4_bdev *dev)
{
        const uint32_t nr = c->f.nr_blocks, half = nr / 2 + 3;
        struct jbd2_place place = {
                .dev = dev,
                .block_size = c->f.block_size,
                .nr_blocks = nr,
                .super_blk = super_blk(c),
                .runs = mem_array(2, sizeof(struct jbd2_run)),
        };

        T_CHECK(place.runs);
        if (c->external) {
                place.runs[place.nr_runs++] = (struct jbd2_run){0, nr, 0};
        } else {
                place.runs[place.nr_runs++] =
                        (struct jbd2_run){0, half, nr_homes(c) + nr - half};
                place.runs[place.nr_runs++] = (struct jbd2_run){half, nr - half, nr_homes(c)};
        }
        return place;
}

size_t rig_super_pos(const struct rig_config *c)
{
        struct jbd2_place place = place_of(c, NULL);
        size_t pos = (place.runs[0].pblk + place.super_blk) * c->f.block_size;

        mem_free(place.runs);
        return pos;
}

static void make_super(const struct rig_config *c, uint8_t *block)
{
        struct tj_run runs[2] = {{.first = 0, .len = 1, .mem = block}};
        struct tj j;

        tj_init(&j, &c->f, runs);
        tj_put32(block + 0x14, super_blk(c) + 1);
        if (c->super_v1) {
                tj_put32(block + 0x04, TJ_SUPER_V1);
                memset(block + 0x24, 0, 1024 - 0x24);
        } else if (tj_has_csum(&c->f)) {
                tj_seal_super(block);
        }
}

void *rig_make_image(const struct rig_config *c, enum rig_dev which)
{
        uint8_t *image = t_alloc(rig_size(c, which));

        if (log_is_on(c, which))
                make_super(c, image + rig_super_pos(c));
        return image;
}

/* ---- devices ---- */

static struct uext4_bdev *open_sim(const struct rig_config *c, enum rig_dev which,
                                   const void *image)
{
        void *made = image ? NULL : rig_make_image(c, which);
        struct uext4_bdev_sim_params params = {
                .size = rig_size(c, which),
                .image = image ? image : made,
                .caps = c->no_fua ? 0 : UEXT4_BDEV_CAP_FUA,
                .seed = c->seed + which,
        };
        struct uext4_bdev *sim;

        T_CHECK(uext4_bdev_open_sim(&params, &sim) == 0);
        free(made);
        return sim;
}

static struct uext4_bdev *open_memory(const struct rig_config *c, enum rig_dev which)
{
        void *image = rig_make_image(c, which);
        struct uext4_bdev *dev;

        T_CHECK(uext4_bdev_open_mem(rig_size(c, which), &dev) == 0);
        T_CHECK(uext4_bdev_write(dev, image, rig_size(c, which), 0, 0) == 0);
        free(image);
        return dev;
}

static void open_device(struct rig *r, enum rig_dev which, const void *image)
{
        struct uext4_bdev *dev =
                r->c.no_sim ? open_memory(&r->c, which) : open_sim(&r->c, which, image);

        r->sims[which] = r->c.no_sim ? NULL : dev;
        if (r->c.hook)
                T_CHECK(watch_open(dev, r->c.hook, &dev) == 0);
        if (r->c.with_fault) {
                T_CHECK(uext4_bdev_open_fault(dev, &dev) == 0);
                r->faults[which] = dev;
        }
        if (r->c.with_trace) {
                T_CHECK(uext4_bdev_open_trace(dev, 0, &dev) == 0);
                r->traces[which] = dev;
        }
        r->devs[which] = dev;
}

void rig_open(struct rig *r, const struct rig_config *c, void *const images[RIG_NR_DEVS])
{
        int ret;

        memset(r, 0, sizeof(*r));
        r->c = *c;
        t_log_init(&r->log);
        for (unsigned i = 0; i < rig_nr_devs(c); i++)
                open_device(r, i, images ? images[i] : NULL);
        ret = buf_cache_new(r->devs[RIG_FS], c->f.block_size, 1u << 20, &r->bufs);
        T_CHECK(ret == 0);
        ret = rig_load(r);
        if (ret < 0)
                fprintf(stderr, "%s: jbd2_load: %d\n%s", c->name, ret, r->log.text);
        T_CHECK(ret == 0);
}

static int open_log(const struct rig_config *c, struct uext4_bdev *const devs[RIG_NR_DEVS],
                    struct t_log *log, struct jbd2_journal *ret_log)
{
        struct jbd2_place place = place_of(c, devs[c->external ? RIG_LOG : RIG_FS]);
        struct log_sink sink = t_log_sink(log);

        return jbd2_open(&place, &sink, ret_log);
}

static void told_of_abort(void *arg, int err)
{
        struct rig *r = arg;

        atomic_store(&r->abort_err, err);
        atomic_fetch_add(&r->nr_aborted, 1);
}

int rig_load(struct rig *r)
{
        struct jbd2_options opts = {
                .bufs = r->bufs,
                .fs_dev = r->devs[RIG_FS],
                .log = t_log_sink(&r->log),
                .set_incompat = r->c.set_incompat,
                .commit_ms = r->c.commit_ms,
                .no_timer = r->c.commit_ms == 0,
                .no_barrier = r->c.no_barrier,
                .aborted = told_of_abort,
                .arg = r,
        };
        struct jbd2_journal log;
        int ret;

        if (r->c.no_log)
                return jbd2_load(NULL, &opts, &r->j);
        ret = open_log(&r->c, r->devs, &r->log, &log);
        if (ret < 0)
                return ret;
        ret = jbd2_load(&log, &opts, &r->j);
        if (ret < 0)
                jbd2_close(&log);
        return ret;
}

int rig_unload(struct rig *r)
{
        int ret = jbd2_unload(r->j);

        r->j = NULL;
        return ret;
}

int rig_close(struct rig *r)
{
        int ret = r->j ? rig_unload(r) : 0;

        buf_cache_free(r->bufs);
        for (unsigned i = 0; i < RIG_NR_DEVS; i++)
                uext4_bdev_close(r->devs[i]);
        return ret;
}

/* ---- recovery ---- */

static int recover_from(struct jbd2_journal *j, const struct rig_config *c,
                        struct uext4_bdev *fs)
{
        struct jbd2_extent_of_log extent;
        struct jbd2_recovery stats;
        int ret = jbd2_scan(j, &extent);

        if (ret == 0)
                ret = jbd2_replay(j, &extent, fs, nr_homes(c), &stats);
        if (ret == 0 && (!jbd2_is_empty(j) || be32_get(j->sb.s_errno) != 0))
                ret = jbd2_reset_log(j, extent.end_tid);
        return ret;
}

int rig_recover(const struct rig_config *c, struct uext4_bdev *const devs[RIG_NR_DEVS],
                struct t_log *log)
{
        struct jbd2_journal j;
        int ret;

        if (c->no_log)
                return 0;
        ret = open_log(c, devs, log, &j);
        if (ret < 0)
                return ret;
        ret = recover_from(&j, c, devs[RIG_FS]);
        jbd2_close(&j);
        return ret;
}

struct jbd2_super rig_super(const struct rig_config *c, struct uext4_bdev *dev)
{
        struct jbd2_super sb;

        T_CHECK(uext4_bdev_read_bytes(dev, &sb, sizeof(sb), rig_super_pos(c)) == 0);
        return sb;
}

/* ---- short forms for tests ---- */

void rig_open_plain(struct rig *r)
{
        struct rig_config c = rig_plain(264, 128);

        rig_open(r, &c, NULL);
}

struct jbd2_stats rig_stats(struct rig *r)
{
        struct jbd2_stats st;

        jbd2_get_stats(r->j, &st);
        return st;
}

struct jbd2_handle *rig_start(struct rig *r, uint32_t blocks, uint32_t revokes)
{
        struct jbd2_handle *h = NULL;

        T_CHECK(jbd2_start(r->j, blocks, revokes, &h) == 0);
        return h;
}

int rig_set(struct rig *r, struct jbd2_handle *h, uint64_t blk, uint8_t byte)
{
        struct buf *buf;
        void *bytes;
        int ret = buf_read(r->bufs, blk, NULL, 0, &buf);

        if (ret < 0)
                return ret;
        ret = jbd2_get_write(h, buf, &bytes);
        if (ret == 0) {
                memset(bytes, byte, r->c.f.block_size);
                jbd2_dirty(h, buf);
        }
        buf_put(buf);
        return ret;
}

uint32_t rig_set_many(struct rig *r, uint64_t blk, unsigned nr, uint8_t byte)
{
        struct jbd2_handle *h = rig_start(r, nr, 0);
        uint32_t tid = jbd2_tid(h);

        for (unsigned i = 0; i < nr; i++)
                T_CHECK(rig_set(r, h, blk + i, byte) == 0);
        T_CHECK(jbd2_stop(h) == 0);
        return tid;
}

struct buf *rig_get_buf(struct rig *r, uint64_t blk)
{
        struct buf *buf;

        T_CHECK(buf_read(r->bufs, blk, NULL, 0, &buf) == 0);
        return buf;
}

void rig_create(struct rig *r, struct jbd2_handle *h, uint64_t blk, uint8_t byte)
{
        struct buf *buf;
        void *bytes;

        T_CHECK(buf_new(r->bufs, blk, &buf) == 0);
        T_CHECK(jbd2_get_create(h, buf, &bytes) == 0);
        for (unsigned i = 0; i < r->c.f.block_size; i++)
                T_CHECK(((uint8_t *)bytes)[i] == 0);
        memset(bytes, byte, r->c.f.block_size);
        jbd2_dirty(h, buf);
        buf_put(buf);
}

int rig_device_byte(struct rig *r, uint64_t blk)
{
        uint8_t byte;

        T_CHECK(uext4_bdev_read_bytes(r->devs[RIG_FS], &byte, 1, blk * r->c.f.block_size) == 0);
        return byte;
}

int rig_cached_byte(struct rig *r, uint64_t blk)
{
        struct buf *buf;
        int byte, ret = buf_read(r->bufs, blk, NULL, 0, &buf);

        if (ret < 0)
                return ret;
        byte = *(const uint8_t *)buf->data;
        buf_put(buf);
        return byte;
}

int rig_recovered_byte(struct rig *r, enum uext4_bdev_sim_mode mode, uint64_t blk)
{
        const struct uext4_bdev_sim_survivor how = {.mode = mode};
        struct uext4_bdev *devs[RIG_NR_DEVS] = {0};
        void *images[RIG_NR_DEVS] = {0};
        struct t_log log;
        uint8_t block[4096];
        int ret;

        t_log_init(&log);
        for (unsigned i = 0; i < rig_nr_devs(&r->c); i++) {
                size_t size = rig_size(&r->c, i);

                images[i] = t_alloc(size);
                T_CHECK(uext4_bdev_sim_survivor(r->sims[i], &how, images[i]) == 0);
                T_CHECK(uext4_bdev_open_buffer(images[i], size, 0, &devs[i]) == 0);
        }
        ret = rig_recover(&r->c, devs, &log);
        if (ret == 0)
                ret = uext4_bdev_read_bytes(devs[RIG_FS], block, r->c.f.block_size,
                                            blk * r->c.f.block_size);
        for (unsigned i = 0; i < RIG_NR_DEVS; i++) {
                uext4_bdev_close(devs[i]);
                free(images[i]);
        }
        return ret < 0 ? ret : block[0];
}

int rig_durable_byte(struct rig *r, uint64_t blk)
{
        return rig_recovered_byte(r, UEXT4_BDEV_SIM_NONE, blk);
}
