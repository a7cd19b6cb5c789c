/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sweep.h"

#include <signal.h>
#include <unistd.h>

#define SECONDS_OF_A_RUN 120 /* more is a hang */

static const struct {
        const char *what;
        uint32_t ops; /* 0: memory */
        int error;    /* 0: short */
        bool is_sticky_too;
} kinds[] = {
        [SWEEP_READS] = {"reads", 1u << UEXT4_BDEV_READ, -EIO, true},
        [SWEEP_WRITES] = {"writes", 1u << UEXT4_BDEV_WRITE | 1u << UEXT4_BDEV_WRITE_ZEROES,
                          -EIO, true},
        [SWEEP_FLUSHES] = {"flushes", 1u << UEXT4_BDEV_FLUSH, -EIO, true},
        [SWEEP_DISCARDS] = {"discards", 1u << UEXT4_BDEV_DISCARD, -EIO, true},
        [SWEEP_SHORT_READS] = {"short reads", 1u << UEXT4_BDEV_READ, 0, false},
        [SWEEP_SHORT_WRITES] = {"short writes", 1u << UEXT4_BDEV_WRITE, 0, false},
        [SWEEP_MEMORY] = {"memory", 0, 0, false},
};

/* ---- hangs ---- */

static const struct sweep *running;

static void say(const char *text)
{
        (void)!write(STDERR_FILENO, text, strlen(text));
}

static void on_alarm(int nr)
{
        say("a run does not end: ");
        say(running->name);
        say(", ");
        say(running->what);
        say("\n");
        abort();
}

/* ---- one run ---- */

/* With `must`, nothing fails in it. */
static void run_on(struct sweep *s, struct uext4_bdev *dev, bool must)
{
        int ret;

        running = s;
        signal(SIGALRM, on_alarm);
        alarm(SECONDS_OF_A_RUN);
        ret = s->run(s, dev);
        mem_fail_after(-1);
        if (must && ret < 0) {
                fprintf(stderr, "%s, %s: %s\n", s->name, s->what, strerror(-ret));
                abort();
        }
        s->nr_runs++;
        s->nr_failed += ret < 0;
}

static void look(struct sweep *s, struct uext4_bdev *dev, struct t_image *img)
{
        uext4_bdev_close(dev);
        s->look(s, img);
        alarm(0);
        t_image_free(img);
}

/* The image is the device; but for discards, which that one has none of, a copy. */
static struct uext4_bdev *open_lower(enum sweep_kind kind, const struct t_image *img)
{
        struct uext4_bdev *dev;

        if (kind != SWEEP_DISCARDS)
                return rig_open_image(img);
        T_CHECK(uext4_bdev_open_mem(img->size, &dev) == 0);
        memcpy(dev->ops->mapping(dev), img->data, img->size);
        return dev;
}

/* Request `n` fails, and with `sticky` all later ones; whether there was one. */
static bool run_with_fault(struct sweep *s, enum sweep_kind kind, uint64_t n, bool sticky)
{
        const struct uext4_bdev_fault rule = {.ops = kinds[kind].ops,
                                              .skip = n,
                                              .count = sticky ? 0 : 1,
                                              .error = kinds[kind].error,
                                              .short_len = 512};
        struct t_image img = t_image_copy(&s->img);
        struct uext4_bdev *lower = open_lower(kind, &img);
        struct uext4_bdev *dev;
        bool is_hit;

        snprintf(s->what, sizeof(s->what), "%s: request %llu %s", kinds[kind].what,
                 (unsigned long long)n, sticky ? "and later ones" : "alone");
        T_CHECK(uext4_bdev_open_fault(lower, &dev) == 0);
        T_CHECK(uext4_bdev_fault_add(dev, &rule) == 0);
        run_on(s, dev, kinds[kind].error == 0); /* what is short is carried on */
        is_hit = uext4_bdev_fault_hits(dev) > 0;
        if (kind == SWEEP_DISCARDS)
                memcpy(img.data, lower->ops->mapping(lower), img.size);
        look(s, dev, &img);
        return is_hit;
}

static void run_with_little_memory(struct sweep *s, uint64_t n)
{
        struct t_image img = t_image_copy(&s->img);
        struct uext4_bdev *dev = rig_open_image(&img);

        snprintf(s->what, sizeof(s->what), "allocation %llu fails", (unsigned long long)n);
        mem_fail_after((int64_t)n);
        run_on(s, dev, false);
        look(s, dev, &img);
}

/* Returns the number of allocations. */
static uint64_t run_without_fault(struct sweep *s)
{
        struct t_image img = t_image_copy(&s->img);
        struct uext4_bdev *dev = rig_open_image(&img);
        uint64_t nr = mem_count();

        snprintf(s->what, sizeof(s->what), "nothing fails");
        run_on(s, dev, true);
        nr = mem_count() - nr;
        look(s, dev, &img);
        return nr;
}

/* ---- all of them ---- */

static void sweep_device(struct sweep *s, enum sweep_kind kind, uint64_t first, uint64_t step)
{
        for (unsigned sticky = 0; sticky <= kinds[kind].is_sticky_too; sticky++) {
                uint64_t n = first;

                while (run_with_fault(s, kind, n, sticky))
                        n += step;
                T_CHECK(step > 1 || n > first); /* there are such requests at all */
        }
}

void sweep_kind(struct sweep *s, enum sweep_kind kind, uint64_t step)
{
        const uint64_t first = rig_number("UEXT4_SEED", 1) % step;
        const uint64_t nr = run_without_fault(s);

        s->nr_runs = s->nr_failed = 0;
        if (kinds[kind].ops)
                sweep_device(s, kind, first, step);
        for (uint64_t n = first; !kinds[kind].ops && n < nr; n += step)
                run_with_little_memory(s, n);
        printf("# %s, %s: %llu runs, %llu had something fail\n", s->name, kinds[kind].what,
               (unsigned long long)s->nr_runs, (unsigned long long)s->nr_failed);
        fflush(stdout);
}
