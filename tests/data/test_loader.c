#include "data/loader.h"

#include "data_files.h"
#include "data/image.h"
#include <sched.h>

static dataset *digits(int64_t count)
{
    dataset *d;
    err e = {0};
    const dataset_spec spec = {.kind = DATASET_DIGITS, .resolution = 8, .count = count, .seed = 9};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_OK, "%s", e.text);
    return d;
}

static loader *start(const loader_spec *spec)
{
    loader *l;
    err e = {0};
    cr_assert_eq(loader_create(spec, &l, &e), DDPM_OK, "%s", e.text);
    return l;
}

Test(loader, every_epoch_is_a_permutation)
{
    static const int64_t counts[] = {1, 2, 3, 4, 5, 7, 16, 17, 255, 256, 257, 1000, 4097};
    static uint8_t seen[4097];
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        for (uint64_t epoch = 0; epoch < 5; epoch++) {
            const int64_t n = counts[k];
            memset(seen, 0, sizeof seen);
            for (int64_t i = 0; i < n; i++) {
                const int64_t at = loader_image_index(3, n, epoch * (uint64_t)n + (uint64_t)i, true);
                cr_assert(at >= 0 && at < n && !seen[at], "count %ld epoch %ld: %ld", (long)n, (long)epoch, (long)at);
                seen[at] = 1;
            }
        }
}

Test(loader, order_without_shuffle_is_the_sets_own)
{
    for (uint64_t s = 0; s < 35; s++) cr_assert_eq(loader_image_index(3, 10, s, false), (int64_t)(s % 10));
}

/* Epochs and seeds share no order: the number of places where two random orders agree is Poisson(1). */
Test(loader, orders_of_epochs_and_seeds_are_unrelated)
{
    enum { N = 1000, EPOCHS = 200 };
    int same_epoch = 0, same_seed = 0, fixed = 0, step = 0;
    for (int ep = 0; ep < EPOCHS; ep++)
        for (int i = 0; i < N; i++) {
            const uint64_t s = (uint64_t)ep * N + (uint64_t)i;
            const int64_t at = loader_image_index(5, N, s, true);
            same_epoch += at == loader_image_index(5, N, s + N, true);
            same_seed += at == loader_image_index(6, N, s, true);
            fixed += at == i;
            step += loader_image_index(5, N, s - s % N + (s + 1) % N, true) == (at + 1) % N;
        }
    /* 200 expected each, standard deviation 14 */
    cr_assert(abs(same_epoch - EPOCHS) < 70 && abs(same_seed - EPOCHS) < 70 && abs(fixed - EPOCHS) < 70 &&
                  abs(step - EPOCHS) < 70,
              "%d %d %d %d", same_epoch, same_seed, fixed, step);
}

/* Each of the 10 images comes to each of the 10 places equally often: chi^2 with 81 degrees of freedom. */
Test(loader, places_are_uniform)
{
    enum { N = 10, EPOCHS = 20000 };
    int seen[N][N] = {{0}};
    for (uint64_t s = 0; s < (uint64_t)N * EPOCHS; s++) seen[s % N][loader_image_index(11, N, s, true)]++;
    double chi2 = 0.0;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) {
            const double off = seen[i][k] - (double)EPOCHS / N;
            chi2 += off * off / ((double)EPOCHS / N);
        }
    cr_assert(chi2 > 40 && chi2 < 140, "chi^2 = %.1f", chi2); /* 81 +- 4.6 deviations of 12.7 */
}

Test(loader, large_sets_and_late_ordinals_work)
{
    const int64_t n = ((int64_t)1 << 40) + 12345;
    const int64_t a = loader_image_index(1, n, UINT64_MAX, true), b = loader_image_index(1, n, UINT64_MAX - 1, true);
    cr_assert(a >= 0 && a < n && b >= 0 && b < n && a != b);
    int64_t high = 0;
    for (uint64_t s = 0; s < 100; s++) high += loader_image_index(1, n, s, true) > n / 2;
    cr_assert(high > 20 && high < 80);
}

/* What the loader hands out is what the order says, over epoch borders, whatever threads and prefetch. */
static void assert_follows_order(int batch, int prefetch, int threads, uint64_t first, uint64_t stride)
{
    dataset *d = digits(10);
    const loader_spec spec = {.data = d,
                              .batch = batch,
                              .seed = 4,
                              .first_sample = first,
                              .stride = stride,
                              .shuffle = true,
                              .prefetch = prefetch,
                              .threads = threads};
    loader *l = start(&spec);
    for (uint64_t k = 0; k < 40; k++) {
        const uint8_t *got;
        const int64_t *labels;
        uint8_t want[64];
        err e = {0};
        cr_assert_eq(loader_next(l, &got, &labels, &e), DDPM_OK, "%s", e.text);
        for (int i = 0; i < batch; i++) {
            const uint64_t s = first + k * (stride ? stride : (uint64_t)batch) + (uint64_t)i;
            const int64_t at = loader_image_index(4, 10, s, true);
            cr_assert_eq(dataset_read(d, at, want, NULL), DDPM_OK);
            cr_assert_arr_eq(got + 64 * i, want, 64, "batch %ld image %d", (long)k, i);
            cr_assert_eq(labels[i], dataset_label(d, at), "batch %ld image %d", (long)k, i);
        }
    }
    cr_assert_geq(loader_waited_seconds(l), 0.0);
    loader_destroy(l);
    dataset_close(d);
}

Test(loader, batches_follow_the_order)
{
    assert_follows_order(4, 0, 0, 0, 0);
    assert_follows_order(4, 1, 1, 0, 0);
    assert_follows_order(7, 2, 4, 0, 0);
    assert_follows_order(25, 8, 3, 0, 0); /* more than the set has */
    assert_follows_order(3, 4, 2, 1234567, 0);
    assert_follows_order(4, 3, 2, 8, 12); /* the third of three ranks */
}

Test(loader, a_batch_stays_until_the_next_call)
{
    dataset *d = digits(50);
    const loader_spec spec = {.data = d, .batch = 8, .prefetch = 2, .threads = 3, .shuffle = true};
    loader *l = start(&spec);
    for (int k = 0; k < 200; k++) {
        const uint8_t *got;
        uint8_t copy[8 * 64];
        cr_assert_eq(loader_next(l, &got, NULL, NULL), DDPM_OK);
        memcpy(copy, got, sizeof copy);
        for (int spin = 0; spin < 3; spin++) sched_yield();
        cr_assert_arr_eq(copy, got, sizeof copy);
    }
    loader_destroy(l);
    dataset_close(d);
}

Test(loader, a_bad_image_is_reported_with_its_name_and_stays_reported)
{
    char dir[PATH_CAP];
    const uint8_t *batch;
    dataset *d;
    loader *l;
    new_folder(dir);
    copy_file(FIXTURE("resize_wide_8x8.png"), dir, "a.png");
    copy_file(FIXTURE("resize_wide_8x8.png"), dir, "b.png");
    copy_file(FIXTURE("resize_wide_8x8.png"), dir, "c.png");
    const dataset_spec data = {.path = dir, .cache_mb = -1};
    cr_assert_eq(dataset_open(&data, &d, NULL), DDPM_OK);
    copy_file(FIXTURE("bad_truncated.png"), dir, "c.png");
    const loader_spec spec = {.data = d, .batch = 1, .threads = 2};
    l = start(&spec);
    cr_assert_eq(loader_next(l, &batch, NULL, NULL), DDPM_OK);
    cr_assert_eq(loader_next(l, &batch, NULL, NULL), DDPM_OK);
    for (int again = 0; again < 3; again++) {
        err e = {0};
        cr_assert_eq(loader_next(l, &batch, NULL, &e), DDPM_EDATA);
        cr_assert_null(batch);
        cr_assert_not_null(strstr(e.text, "/c.png: PNG truncated"), "%s", e.text);
    }
    loader_destroy(l);
    dataset_close(d);
    drop_folder(dir);
}

/* faults A7: a lost file is replaced in every batch, whichever thread meets it, and counted once. */
Test(loader, a_lost_image_is_replaced)
{
    char dir[PATH_CAP], path[PATH_CAP], said[600];
    const uint8_t *batch;
    dataset *d;
    new_folder(dir);
    copy_file(FIXTURE("resize_wide_8x8.png"), dir, "a.png");
    copy_file(FIXTURE("resize_wide_8x8.png"), dir, "b.png");
    copy_file(FIXTURE("resize_strip_8x8.png"), dir, "c.png");
    const dataset_spec data = {.path = dir, .cache_mb = -1, .max_bad = 1};
    cr_assert_eq(dataset_open(&data, &d, NULL), DDPM_OK);
    cr_assert(path_join(path, dir, "b.png", NULL) == DDPM_OK && remove(path) == 0);
    const loader_spec spec = {.data = d, .batch = 3, .threads = 8, .prefetch = 8};
    loader *l = start(&spec);
    for (int k = 0; k < 50; k++) {
        err e = {0};
        cr_assert_eq(loader_next(l, &batch, NULL, &e), DDPM_OK, "%s", e.text);
        cr_assert_arr_eq(batch + 192, batch + 2 * 192, 192); /* c in the place of b */
        cr_assert_neq(memcmp(batch, batch + 192, 192), 0);
    }
    loader_destroy(l);
    cr_assert(dataset_lost(d, said, sizeof said) && strstr(said, "1 file became unreadable"), "%s", said);
    dataset_close(d);
    drop_folder(dir);
}

Test(loader, can_be_destroyed_at_any_moment)
{
    dataset *d = digits(64);
    loader_destroy(NULL);
    for (int k = 0; k < 300; k++) {
        const loader_spec spec = {.data = d, .batch = 1 + k % 50, .threads = 1 + k % 5, .prefetch = 1 + k % 7};
        loader *l = start(&spec);
        const uint8_t *batch;
        for (int i = 0; i < k % 4; i++) cr_assert_eq(loader_next(l, &batch, NULL, NULL), DDPM_OK);
        loader_destroy(l);
    }
    dataset_close(d);
}

Test(loader, specs_out_of_range_are_refused)
{
    dataset *d = digits(5);
    const loader_spec bad[] = {{.data = d, .batch = 0},
                               {.data = d, .batch = 1, .prefetch = -1},
                               {.data = d, .batch = 1, .prefetch = 1025},
                               {.data = d, .batch = 1, .threads = 257}};
    for (int i = 0; i < 4; i++) {
        loader *l;
        cr_assert_eq(loader_create(&bad[i], &l, NULL), DDPM_EINVAL);
        cr_assert_null(l);
    }
    dataset_close(d);
}
