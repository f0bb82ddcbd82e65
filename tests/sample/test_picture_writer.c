/* The threads that write pictures, by themselves.
 *
 * Both steps pass a gate that the tests shut: what is asked of the caller meanwhile is asked while nothing can be
 * written, and not by the clock.  The gate opens as soon as the caller waits for the threads. */
#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 4096, D = 12 /* bytes of a picture */ };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool shut;
    int committed;
    int64_t id[MOST];          /* in this order */
    bool deaf;                 /* the threads take no signals */
    int waits, joins;          /* of the caller's */
    int memory_left, refused;  /* allocation that fails (0: none); threads that cannot be started, from this one on */
    int64_t bad_put, bad_take; /* the picture whose preparing or committing fails */
    atomic_int preparing, most_preparing, committing;
    bool out_of_order;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .opened = PTHREAD_COND_INITIALIZER,
           .bad_put = -1,
           .bad_take = -1,
           .refused = MOST};

static void open_gate(void)
{
    pthread_mutex_lock(&world.lock);
    world.shut = false;
    pthread_cond_broadcast(&world.opened);
    pthread_mutex_unlock(&world.lock);
}

static bool is_caller(void) { return getpid() == gettid(); }

static int wait_and_open(pthread_cond_t *what, pthread_mutex_t *lock)
{
    if (is_caller()) {
        world.waits++;
        open_gate();
    }
    return pthread_cond_wait(what, lock);
}

static int join_and_open(pthread_t thread, void **result)
{
    world.joins++;
    open_gate();
    return pthread_join(thread, result);
}

static int create_or_not(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *context)
{
    return world.refused-- <= 0 ? EAGAIN : pthread_create(thread, attr, body, context);
}

static ddpm_status array_or_not(void *out, size_t count, size_t size, const char *what, err *e)
{
    *(void **)out = NULL;
    if (world.memory_left && --world.memory_left == 0) return err_set(e, DDPM_ENOMEM, "%s: none left", what);
    return mem_array(out, count, size, what, e);
}

#define pthread_cond_wait wait_and_open
#define pthread_join      join_and_open
#define pthread_create    create_or_not
#define mem_array         array_or_not
#include "sample/picture_writer.c"
#undef pthread_cond_wait
#undef pthread_join
#undef pthread_create
#undef mem_array

static err why;
TestSuite(picture_writer, .timeout = 60);

/* ---- the steps ---- */

static uint8_t value(int64_t id, int i) { return (uint8_t)((id * 7919 + i * 104729) % 1009); }

static ddpm_status prepare(void *context, picture_item *item, err *e)
{
    sigset_t blocked;
    (void)context;
    const int at_once = atomic_fetch_add(&world.preparing, 1) + 1;
    if (at_once > world.most_preparing) world.most_preparing = at_once;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    pthread_mutex_lock(&world.lock);
    while (world.shut) pthread_cond_wait(&world.opened, &world.lock);
    world.deaf = sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGUSR1);
    pthread_mutex_unlock(&world.lock);
    if (item->id % 3 == 0) (void)sched_yield(); /* others overtake */
    atomic_fetch_sub(&world.preparing, 1);
    if (item->id == world.bad_put) return err_set(e, DDPM_EIO, "picture %lld: cannot be put", (long long)item->id);
    item->png = malloc(D);
    if (!item->png) return err_set(e, DDPM_ENOMEM, "no memory");
    memcpy(item->png, item->pixels, D);
    return DDPM_OK;
}

static ddpm_status commit(void *context, picture_item *item, err *e)
{
    (void)context;
    world.out_of_order |= atomic_fetch_add(&world.committing, 1) != 0; /* one at a time */
    for (int i = 0; i < D; i++) world.out_of_order |= item->png[i] != value(item->id, i);
    if (world.committed < MOST) world.id[world.committed] = item->id;
    world.committed += item->id != world.bad_take;
    atomic_fetch_sub(&world.committing, 1);
    return item->id == world.bad_take ? err_set(e, DDPM_EIO, "picture %lld: the disk is full", (long long)item->id)
                                      : DDPM_OK;
}

static const picture_writer_spec three = {
    .batch = 4, .picture_bytes = D, .threads = 3, .prepare = prepare, .commit = commit};

static picture_writer *start(int threads)
{
    picture_writer *w;
    picture_writer_spec spec = three;
    spec.threads = threads;
    cr_assert_eq(picture_writer_create(&spec, &w, &why), DDPM_OK, "%s", why.text);
    return w;
}

/* Pictures first, first + 1, ... */
static ddpm_status push(picture_writer *w, int64_t first, int n, err *e)
{
    picture_item items[4];
    uint8_t pixels[4 * D];
    for (int b = 0; b < n; b++) {
        items[b] = (picture_item){.id = first + b};
        for (int i = 0; i < D; i++) pixels[b * D + i] = value(first + b, i);
    }
    return picture_writer_push(w, items, n, pixels, e);
}

static void finish(picture_writer *w) { cr_assert_eq(picture_writer_finish(w, &why), DDPM_OK, "%s", why.text); }

/* Pictures 0 .. n - 1 were committed, in this order, one at a time, each with its own pixels. */
static void expect_committed(int n)
{
    cr_expect_eq(world.committed, n);
    for (int i = 0; i < n && i < MOST; i++) cr_expect_eq(world.id[i], i);
    cr_expect_not(world.out_of_order);
}

/* ---- the tests ---- */

Test(picture_writer, commits_every_picture_in_the_order_given)
{
    for (int threads = 1; threads <= 8; threads++) {
        picture_writer *w = start(threads);
        int at = 0;
        world.committed = 0;
        for (int k = 0; k < 200; at += 1 + k++ % 4) cr_assert_eq(push(w, at, 1 + k % 4, &why), DDPM_OK);
        finish(w);
        expect_committed(at);
        picture_writer_destroy(w);
    }
}

Test(picture_writer, prepares_on_all_threads_at_once)
{
    picture_writer *w = start(3);
    world.shut = true;
    cr_assert_eq(push(w, 0, 4, NULL), DDPM_OK);
    while (atomic_load(&world.preparing) < 3) (void)sched_yield();
    open_gate();
    finish(w);
    cr_expect_eq(world.most_preparing, 3);
    picture_writer_destroy(w);
}

Test(picture_writer, two_batches_are_taken_while_nothing_can_be_written)
{
    picture_writer *w = start(2);
    world.shut = true;
    cr_assert_eq(push(w, 0, 4, NULL), DDPM_OK);
    cr_assert_eq(push(w, 4, 4, NULL), DDPM_OK);
    cr_assert(world.shut && world.waits == 0 && world.committed == 0);
    finish(w);
    expect_committed(8);
    picture_writer_destroy(w);
}

Test(picture_writer, the_third_waits_until_the_first_is_written)
{
    picture_writer *w = start(2);
    world.shut = true;
    for (int k = 0; k < 3; k++) cr_assert_eq(push(w, 4 * k, 4, NULL), DDPM_OK);
    cr_expect_gt(world.waits, 0);
    cr_expect_geq(world.committed, 4);
    cr_expect_gt(picture_writer_waited(w), 0);
    for (int k = 3; k < 16; k++) cr_assert_eq(push(w, 4 * k, 4, NULL), DDPM_OK);
    finish(w);
    expect_committed(64);
    picture_writer_destroy(w);
}

Test(picture_writer, takes_no_signals)
{
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    picture_writer *w = start(1);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int s = 1; s < 32; s++) cr_expect_eq(sigismember(&before, s), sigismember(&after, s), "signal %d", s);
    cr_assert_eq(push(w, 0, 1, NULL), DDPM_OK);
    finish(w);
    cr_expect(world.deaf);
    picture_writer_destroy(w);
}

/* One line, with this status and these words, from whatever is called next. */
static void expect_failed(picture_writer *w, ddpm_status status, const char *said, bool pushing)
{
    err e = {0};
    const ddpm_status st = pushing ? push(w, 50, 1, &e) : picture_writer_finish(w, &e);
    cr_expect_eq(st, status, "%s", err_name(st));
    cr_expect(e.status == status && strstr(e.text, said) && !strchr(e.text, '\n'), "%s", e.text);
    cr_expect_eq(picture_writer_status(w), status);
}

Test(picture_writer, the_first_failure_ends_the_writing_and_stays)
{
    for (int committing = 0; committing < 2; committing++) {
        picture_writer *w = start(3);
        *(committing ? &world.bad_take : &world.bad_put) = 5;
        world.shut = true;
        world.committed = 0;
        for (int k = 0; k < 2; k++) cr_assert_eq(push(w, 4 * k, 4, NULL), DDPM_OK);
        cr_assert_eq(picture_writer_status(w), DDPM_OK);
        open_gate();
        while (picture_writer_status(w) == DDPM_OK) (void)sched_yield();
        const char *said = committing ? "picture 5: the disk is full" : "picture 5: cannot be put";
        for (int again = 0; again < 3; again++) expect_failed(w, DDPM_EIO, said, true);
        for (int again = 0; again < 3; again++) expect_failed(w, DDPM_EIO, said, false);
        expect_committed(5); /* those before it are, nothing behind it is */
        picture_writer_destroy(w);
        world.bad_put = world.bad_take = -1;
    }
}

Test(picture_writer, a_caller_that_waits_learns_of_the_failure)
{
    picture_writer *w = start(2);
    world.bad_take = 1;
    world.shut = true;
    for (int k = 0; k < 2; k++) cr_assert_eq(push(w, 4 * k, 4, NULL), DDPM_OK);
    expect_failed(w, DDPM_EIO, "picture 1: the disk", true);
    cr_expect_gt(world.waits, 0);
    cr_expect_eq(world.committed, 1);
    picture_writer_destroy(w);
}

Test(picture_writer, can_be_destroyed_at_any_moment)
{
    picture_writer_destroy(NULL);
    for (int k = 0; k < 300; k++) {
        picture_writer *w = start(1 + k % 4);
        world.shut = k % 3 == 0;
        world.committed = 0;
        const int batches = k % (world.shut ? 3 : 5);
        for (int b = 0; b < batches; b++) cr_assert_eq(push(w, 2 * b, 2, NULL), DDPM_OK);
        if (k % 7 == 0) finish(w);
        picture_writer_destroy(w);
        expect_committed(2 * batches); /* what was pushed is written */
    }
}

Test(picture_writer, what_it_lacks_at_the_start_is_said)
{
    picture_writer *w;
    world.refused = 0;
    cr_assert_eq(picture_writer_create(&three, &w, &why), DDPM_ENOMEM);
    cr_assert(strstr(why.text, "cannot start the thread that writes the pictures: Resource temp") && !w, "%s",
              why.text);
    world.refused = 1; /* one thread is enough */
    cr_assert_eq(picture_writer_create(&three, &w, &why), DDPM_OK);
    cr_assert_eq(push(w, 0, 4, NULL), DDPM_OK);
    picture_writer_destroy(w);
    expect_committed(4);
    for (int n = 1;; n++) {
        world.memory_left = n;
        world.refused = MOST;
        const ddpm_status st = picture_writer_create(&three, &w, &why);
        if (world.memory_left) {
            cr_assert(st == DDPM_OK && n > 3, "allocation %d", n);
            break;
        }
        cr_assert(st == DDPM_ENOMEM && !w && strstr(why.text, "none left"), "allocation %d: %s", n, why.text);
    }
    picture_writer_destroy(w);
}
