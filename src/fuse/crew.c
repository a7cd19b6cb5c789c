/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The crew: how many of the workers take requests.
 *
 * The kernel wakes a sleeping worker for each request, the one that has slept longest.  With
 * many asleep that is always another one, on another CPU, though one at work would have come
 * for it soon; with few most requests are taken without waking anybody.  While requests need
 * the CPU, two workers for each are enough.  While they wait for a device, as many should be
 * under way as it can take.
 *
 * So workers with an index from `size` on are parked.  When nobody of the crew is left to take
 * a request (`idle` is 0) a thread looks once in a while: the CPU is not used much, so requests
 * wait, and the crew becomes larger.  It becomes smaller again when most of it has been idle
 * for some time.  Who is surplus then notices when it has served its next request.
 *
 * `idle` is counted down, then `is_watched` asked; the watcher clears that, and then asks for
 * `idle`: so one of them sees it when the last one is taken while the watcher leaves.
 */

#include <errno.h>

#include "fuse/internal.h"

enum {
        CREW_OF_CPU = 2,
        LOOK_NS = 1000000,     /* of the watcher, while there is something to see */
        LOOKS_TO_GROW = 8,     /* in most of which nobody is idle */
        LOOKS_TO_SHRINK = 100, /* one after the other with most of the crew idle */
        BUSY_PERCENT = 45,     /* of all CPUs: requests compute rather than wait */
};

/* ---- workers ---- */

/* False: it is over. */
static bool wait_in_park(struct srv_crew *crew, unsigned index)
{
        bool goes_on;

        pthread_mutex_lock(&crew->lock);
        while (!crew->stops && index >= atomic_load(&crew->size))
                pthread_cond_wait(&crew->may_work, &crew->lock);
        goes_on = !crew->stops;
        pthread_mutex_unlock(&crew->lock);
        return goes_on;
}

bool srv_crew_enter(struct srv_crew *crew, unsigned index)
{
        if (index >= atomic_load(&crew->size) && !wait_in_park(crew, index))
                return false;
        atomic_fetch_add(&crew->idle, 1);
        return true;
}

void srv_crew_take(struct srv_crew *crew)
{
        if (atomic_fetch_sub(&crew->idle, 1) > 1 || atomic_exchange(&crew->is_watched, true))
                return;
        pthread_mutex_lock(&crew->lock);
        pthread_cond_signal(&crew->look);
        pthread_mutex_unlock(&crew->lock);
}

/* ---- the watcher ---- */

struct view {
        int64_t since, used; /* time when it began, and CPU time of the process then */
        unsigned nr_looks;   /* since */
        unsigned nr_full;    /* of these, nobody was idle */
        unsigned nr_quiet;   /* most were, the last so many times */
};

static void begin_again(struct view *v)
{
        v->since = srv_clock_ns(CLOCK_MONOTONIC);
        v->used = srv_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        v->nr_looks = v->nr_full = 0;
}

/* Requests have waited for a device rather than computed: some more may be under way. */
static bool has_waited(const struct srv_crew *crew, const struct view *v)
{
        const int64_t all = (srv_clock_ns(CLOCK_MONOTONIC) - v->since) * crew->nr_cpus;
        const int64_t used = srv_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - v->used;

        return v->nr_full * 4 >= v->nr_looks * 3 && used * 100 < all * BUSY_PERCENT;
}

/* [lock] */
static void resize(struct srv_crew *crew, unsigned size)
{
        size = size > crew->max ? crew->max : size;
        atomic_store(&crew->size, size < crew->min ? crew->min : size);
        pthread_cond_broadcast(&crew->may_work);
}

/* [lock] Most are idle, and there are no more than there must be: nothing to see. */
static void leave(struct srv_crew *crew)
{
        atomic_store(&crew->is_watched, false);
        if (atomic_load(&crew->idle) == 0)
                atomic_store(&crew->is_watched, true);
}

/* [lock] */
static void shrink(struct srv_crew *crew, struct view *v)
{
        const unsigned size = atomic_load(&crew->size);

        v->nr_quiet = 0;
        if (size > crew->min)
                resize(crew, size / 2);
        else
                leave(crew);
}

/* [lock] */
static void judge(struct srv_crew *crew, struct view *v)
{
        const unsigned size = atomic_load(&crew->size);
        const unsigned idle = atomic_load(&crew->idle);

        v->nr_looks++;
        v->nr_full += idle == 0;
        v->nr_quiet = idle > size / 2 ? v->nr_quiet + 1 : 0;
        if (v->nr_quiet >= LOOKS_TO_SHRINK)
                shrink(crew, v);
        if (v->nr_looks < LOOKS_TO_GROW)
                return;
        if (size < crew->max && has_waited(crew, v))
                resize(crew, size * 2);
        begin_again(v);
}

static void *watch(void *arg)
{
        struct srv_crew *crew = arg;
        struct view view = {0};

        pthread_mutex_lock(&crew->lock);
        while (!crew->stops) {
                if (!atomic_load(&crew->is_watched)) {
                        pthread_cond_wait(&crew->look, &crew->lock);
                        begin_again(&view);
                } else {
                        const int64_t until = srv_clock_ns(CLOCK_MONOTONIC) + LOOK_NS;
                        const struct timespec at = {until / 1000000000, until % 1000000000};

                        if (pthread_cond_timedwait(&crew->look, &crew->lock, &at) == ETIMEDOUT)
                                judge(crew, &view);
                }
        }
        pthread_mutex_unlock(&crew->lock);
        return NULL;
}

/* ---- beginning and end ---- */

void srv_crew_init(struct srv_crew *crew, unsigned nr_workers, unsigned nr_cpus)
{
        pthread_condattr_t attr;

        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_mutex_init(&crew->lock, NULL);
        pthread_cond_init(&crew->may_work, NULL);
        pthread_cond_init(&crew->look, &attr);
        pthread_condattr_destroy(&attr);
        crew->nr_cpus = nr_cpus;
        crew->max = nr_workers;
        crew->min = nr_cpus * CREW_OF_CPU < nr_workers ? nr_cpus * CREW_OF_CPU : nr_workers;
        atomic_store(&crew->size, crew->min);
}

int srv_crew_start(struct srv_crew *crew)
{
        int ret = -pthread_create(&crew->watcher, NULL, watch, crew);

        crew->has_watcher = ret == 0;
        return ret;
}

void srv_crew_stop(struct srv_crew *crew)
{
        pthread_mutex_lock(&crew->lock);
        crew->stops = true;
        pthread_cond_broadcast(&crew->may_work);
        pthread_cond_broadcast(&crew->look);
        pthread_mutex_unlock(&crew->lock);
        if (crew->has_watcher)
                pthread_join(crew->watcher, NULL);
        crew->has_watcher = false;
        atomic_store(&crew->size, 0); /* who is at work comes to the park next */
}
