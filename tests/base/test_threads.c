/* Threads that cannot be started are a status: pthread_create() is this program's, for OpenMP's runtime too, which
 * would end the process. */
#include "backend/backend.h"
#include "base/threads.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_int alive, limit = 1 << 20; /* threads beside the first; how many may be */

typedef struct start {
    void *(*run)(void *);
    void *arg;
} start;

static void ended(void *unused) { atomic_fetch_sub(&alive, 1); }

static void *count_and_run(void *from)
{
    const start s = *(start *)from;
    void *result;
    free(from);
    pthread_cleanup_push(ended, NULL); /* OpenMP's threads leave by pthread_exit() */
    result = s.run(s.arg);
    pthread_cleanup_pop(1);
    return result;
}

__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                                                          void *(*run)(void *), void *arg)
{
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    if (atomic_fetch_add(&alive, 1) >= atomic_load(&limit)) return atomic_fetch_sub(&alive, 1), EAGAIN;
    start *s = malloc(sizeof *s);
    *s = (start){run, arg};
    return next(thread, attr, count_and_run, s);
}

/* From now on so many more than there are; returns how many there are. */
static int allow(int more)
{
    const int there = atomic_load(&alive);
    atomic_store(&limit, there + more);
    return there;
}

static int size_of_region(void)
{
    int n = 0;
#pragma omp parallel
#pragma omp atomic
    n++;
    return n;
}

static ddpm_status create(int threads, backend **be, err *e)
{
    return backend_create(&(backend_spec){.device = "cpu", .threads = threads, .conv = CONV_ALGO_DIRECT}, be, e);
}

Test(threads, that_cannot_be_started_are_a_status_faults_C4)
{
    err why = {0};
    backend *be = NULL;
    const int before = allow(11); /* room for 4 beside, 4 that are ending, 2 that read and write; one left over */
    cr_assert_eq(create(32, &be, &why), DDPM_ENOMEM);
    cr_expect_not_null(strstr(why.text, "threads=32: only 5 threads can be started; use threads=5"), "%s", why.text);
    cr_assert_eq(create(5, &be, &why), DDPM_OK, "%s", why.text);
    cr_expect_eq(size_of_region(), 5);
    cr_expect_eq(atomic_load(&alive) - before, 4);
    backend_destroy(be);
    cr_assert_eq(create(3, &be, &why), DDPM_OK, "%s", why.text); /* from a larger team to a smaller, and back */
    cr_expect_eq(size_of_region(), 3);
    backend_destroy(be);
    cr_assert_eq(create(4, &be, &why), DDPM_OK, "%s", why.text);
    cr_expect_eq(size_of_region(), 4);
    backend_destroy(be);
}

Test(threads, of_which_none_was_asked_for_are_as_many_as_can_be_started_faults_C4)
{
    err why = {0};
    backend *be = NULL;
    allow(0);
    cr_assert_eq(create(0, &be, &why), DDPM_OK, "%s", why.text);
    cr_expect_eq(size_of_region(), 1);
    if (threads_processors() > 1) cr_expect(be->remark && strstr(be->remark, "pids.max"), "%s", be->remark);
    backend_destroy(be);
    cr_assert_eq(create(1, &be, &why), DDPM_OK, "one thread needs no other: %s", why.text);
    backend_destroy(be);
}

/* Another thread of the host has a team of its own. */
static void *use_elsewhere(void *arg)
{
    *(ddpm_status *)arg = threads_use(4, NULL);
    return NULL;
}

Test(threads, of_every_thread_of_the_host_are_made_sure_of_faults_C4)
{
    pthread_t other;
    ddpm_status st = DDPM_OK;
    allow(10);
    cr_assert_eq(threads_use(4, NULL), DDPM_OK);
    cr_assert_eq(pthread_create(&other, NULL, use_elsewhere, &st), 0);
    pthread_join(other, NULL);
    cr_expect_eq(st, DDPM_ENOMEM);
    allow(100);
    cr_assert_eq(pthread_create(&other, NULL, use_elsewhere, &st), 0);
    pthread_join(other, NULL);
    cr_expect_eq(st, DDPM_OK);
}

/* As OMP_MAX_ACTIVE_LEVELS=0 and OMP_DYNAMIC=true leave them: oneDNN hung in the first, for want of a thread. */
Test(threads, are_as_many_as_was_said_whatever_the_environment_says_faults_C4)
{
    omp_set_max_active_levels(0);
    omp_set_dynamic(1);
    cr_assert_eq(threads_use(3, NULL), DDPM_OK);
    cr_expect_eq(size_of_region(), 3);
    cr_expect_eq(omp_get_dynamic(), 0);
}

/* A host may call from a parallel region of its own; there every region of ours has one thread. */
Test(threads, of_a_region_of_the_hosts_compute_alone)
{
    ddpm_status st[2] = {DDPM_EIO, DDPM_EIO};
#pragma omp parallel num_threads(2)
    st[omp_get_thread_num()] = threads_use(3, NULL);
    cr_expect(st[0] == DDPM_OK && st[1] == DDPM_OK);
    cr_assert_eq(threads_use(3, NULL), DDPM_OK);
    cr_expect_eq(size_of_region(), 3);
}

Test(threads, more_than_processors_are_told_faults_C4)
{
    err why = {0};
    backend *be = NULL;
    const int there = threads_processors();
    cr_assert(there >= 1 && there <= omp_get_num_procs());
    cr_assert_eq(create(there, &be, &why), DDPM_OK, "%s", why.text);
    cr_expect_null(be->remark, "%s", be->remark);
    backend_destroy(be);
    cr_assert_eq(create(there + 2, &be, &why), DDPM_OK, "%s", why.text);
    char said[80];
    (void)snprintf(said, sizeof said, "%d threads share %d processor", there + 2, there);
    cr_expect(be->remark && strstr(be->remark, said), "%s", be->remark);
    backend_destroy(be);
}
