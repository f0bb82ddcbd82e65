#include "base/threads.h"
#include "base/cgroup.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { SPARE = 2 }; /* threads that read and write images concurrently */

int threads_affinity(void) { return omp_get_num_procs(); }

int threads_processors(void)
{
    const int quota = cgroup_processors(""), there = threads_affinity();
    return quota < there ? quota : there;
}

/* ---- can they be started? ---- */

typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool open;
} gate;

static void *wait_at(void *arg)
{
    gate *g = arg;
    pthread_mutex_lock(&g->lock);
    while (!g->open) pthread_cond_wait(&g->opened, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* Give test threads the stack size of OpenMP's: OMP_STACKSIZE is a number of KiB, or of the unit letter after it. */
static void set_stack(pthread_attr_t *attr)
{
    const char *text = getenv("OMP_STACKSIZE");
    char letter = 'K';
    unsigned long long size = 0;
    if (!text || sscanf(text, "%llu %c", &size, &letter) < 1) return;
    const int shift = letter == 'B' || letter == 'b'   ? 0
                      : letter == 'M' || letter == 'm' ? 20
                      : letter == 'G' || letter == 'g' ? 30
                                                       : 10;
    if (size <= SIZE_MAX >> shift) (void)pthread_attr_setstacksize(attr, (size_t)size << shift);
}

/* The number of threads, at most `most`, that can be started now, found by starting and joining them. */
static int startable(int most)
{
    gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};
    pthread_t *thread = calloc((size_t)most, sizeof *thread);
    pthread_attr_t attr;
    sigset_t all, before;
    int n = 0;
    if (!thread) return 0;
    (void)pthread_attr_init(&attr);
    set_stack(&attr);
    sigfillset(&all); /* signals are handled by the other threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (n < most && pthread_create(&thread[n], &attr, wait_at, &g) == 0) n++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_lock(&g.lock);
    g.open = true;
    pthread_cond_broadcast(&g.opened);
    pthread_mutex_unlock(&g.lock);
    for (int i = 0; i < n; i++) pthread_join(thread[i], NULL);
    (void)pthread_attr_destroy(&attr);
    free(thread);
    return n;
}

/* ---- teams ---- */

static _Thread_local int team = 1; /* threads of the calling thread's team, including itself */

/* The largest possible team of at most n threads.  If a region has fewer threads than the region before, the runtime
 * ends the surplus and may start new ones before these have ended, so there must be room for both. */
static int largest_team(int n)
{
    if (n <= team) return n;
    const int room = team - 1 + startable(2 * (n - 1) + SPARE - (team - 1));
    const int most = (room - SPARE) / 2 + 1;
    return most > team ? most : team;
}

static ddpm_status refuse(int n, int most, err *e)
{
    return err_set(
        e, DDPM_ENOMEM,
        "threads=%d: only %d threads can be started; use threads=%d, or raise the limit (ulimit -u or -v, pids.max)", n,
        most, most);
}

/* A library kernel that synchronizes n threads would hang with fewer, so the team must have exactly n. */
ddpm_status threads_use(int n, err *e)
{
    const bool alone = omp_in_parallel(); /* within a parallel region of the host program: no own team */
    const int most = alone ? n : largest_team(n);
    int there = 0;
    if (most < n) return refuse(n, most, e);
    omp_set_dynamic(0);
    if (omp_get_max_active_levels() < 1) omp_set_max_active_levels(1);
    omp_set_num_threads(alone ? 1 : n);
    if (n == team || alone) return DDPM_OK;
#pragma omp parallel num_threads(n) /* start the threads now: later it may fail */
#pragma omp atomic
    there++;
    team = there;
    return there == n ? DDPM_OK : refuse(n, there, e);
}

ddpm_status threads_choose(int requested, int *n, char note[THREADS_NOTE], err *e)
{
    const int there = threads_processors(), limit = omp_get_thread_limit();
    const int target = requested > 0 ? requested : there, allowed = target < limit ? target : limit;
    note[0] = '\0';
    *n = requested > 0 ? allowed : largest_team(allowed);
    if (*n < target)
        (void)snprintf(note, THREADS_NOTE, "%d of %d threads: %s", *n, target,
                       *n < allowed ? "no more can be started (ulimit -u or -v, pids.max)"
                                    : "OMP_THREAD_LIMIT allows no more");
    else if (target > there)
        (void)snprintf(note, THREADS_NOTE,
                       "%d threads share %d processor%s, which is slow: threads=%d is faster (0 = one per processor)",
                       target, there, there == 1 ? "" : "s", there);
    return threads_use(*n, e);
}
