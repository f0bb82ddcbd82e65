/* Sampling with guidance, history, a mask, images and a film, and the way between two images, while the n-th allocation
 * fails, for every n until none does: DDPM_ENOMEM with a message each time, and nothing leaked (the sanitizer build sees
 * that).  The model is there before and works afterwards. */
#include "fault/failing_allocations.h"

#include "base/mem.h"
#include "data/image.h"
#include "sample/film.h"
#include "sample/picture_source.h"
#include "support/io_support.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { SIDE = 8, C = 3, D = SIDE * SIDE * C, N = 2 };

static err why;
static char root[PATH_CAP], from[PATH_CAP], mask[PATH_CAP], ends[3 * PATH_CAP];
static backend *be;
static model *m;

static void put_image(char path[PATH_CAP], const char *name, int c)
{
    image img;
    OK(image_create(&img, SIDE, SIDE, c, name, &why));
    for (int i = 0; i < SIDE * SIDE * c; i++) img.pixel[i] = (uint8_t)(5 * i);
    (void)snprintf(path, PATH_CAP, "%s", in_dir(root, name));
    OK(image_write_png(path, &img, &why));
    image_free(&img);
}

static void open_model(void)
{
    char b[PATH_CAP];
    scratch_make(root);
    put_image(from, "a.png", C);
    put_image(b, "b.png", 1);
    put_image(mask, "mask.png", 1);
    (void)snprintf(ends, sizeof ends, "%s,%s", from, b);
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    OK(model_load(be, DDPM_TESTS "/sample/loops/classes", &m, NULL, &why));
}

static void close_model(void)
{
    model_destroy(m);
    backend_destroy(be);
    scratch_remove(root);
}

TestSuite(sampling_memory, .init = open_model, .fini = close_model, .timeout = 600);

static generator_spec spec_of(sampler_kind k)
{
    return (generator_spec){.batch = N,
                            .h = SIDE,
                            .w = SIDE,
                            .weights = ARENA_PARAM,
                            .scheduler = sampler_config(k, &m->scheduler),
                            .sampler = sampler_spec_default(k, 4),
                            .jump_length = 1,
                            .jump_n_sample = 1};
}

typedef struct work {
    picture_source source;
    generator *g;
    film strip;
    uint8_t *png;
} work;

static ddpm_status run(work *w, const generator_spec *spec, err *e)
{
    static const int64_t one[] = {3}; /* a part of the batch */
    uint8_t bytes[N * D];
    generator_batch batch;
    size_t size;
    TRY(generator_create(m, spec, &w->g, e));
    TRY(generator_allocate(w->g, e));
    if (spec->masked) TRY(generator_set_mask(w->g, w->source.mask, e));
    TRY(picture_source_batch(&w->source, one, 1, &batch, e));
    if (spec->watched) {
        TRY(film_create(&w->strip, spec, C, N, 2, e));
        film_record(&w->strip, w->g);
    }
    TRY(generator_run_bytes(w->g, &batch, bytes, e));
    return spec->watched ? film_encode(&w->strip, &w->png, &size, e) : DDPM_OK;
}

static ddpm_status edit(work *w, sampler_kind k, int jumps, err *e)
{
    const picture_source_spec what = {.labels = "1,0-3", .from = from, .mask = mask, .between = ""};
    generator_spec spec = spec_of(k);
    uint64_t hash;
    spec.guidance = (generator_guidance){.scale = 2, .rescale = 0.5, .null_class = 4};
    spec.masked = spec.watched = true;
    spec.jump_n_sample = jumps;
    generator_spec_start(&spec, 0.8);
    TRY(picture_source_open(&w->source, &what, m, &spec, e));
    TRY(picture_source_hash(&w->source, &hash, e));
    return run(w, &spec, e);
}

static ddpm_status edit_with_history(work *w, err *e) { return edit(w, SAMPLER_UNIPC, 1, e); }
static ddpm_status edit_with_jumps(work *w, err *e) { return edit(w, SAMPLER_DDIM, 2, e); }

static ddpm_status between(work *w, err *e)
{
    const picture_source_spec what = {.labels = "", .from = "", .mask = "", .between = ends, .count = 3};
    generator_spec spec = spec_of(SAMPLER_DDIM);
    spec.start = GENERATOR_FROM_X;
    TRY(picture_source_open(&w->source, &what, m, &spec, e));
    TRY(picture_source_invert(&w->source, m, &spec, e));
    return run(w, &spec, e);
}

static ddpm_status attempt(ddpm_status (*task)(work *, err *), err *e)
{
    work w = {0};
    const ddpm_status st = task(&w, e);
    allocations_left = 0;
    picture_source_close(&w.source);
    generator_destroy(w.g);
    film_free(&w.strip);
    free(w.png);
    return st;
}

static void fail_each(ddpm_status (*task)(work *, err *))
{
    OK(attempt(task, &why));
#ifdef ALLOCATIONS_NOT_IN_FRONT
    cr_skip_test("no way to get in front of this sanitizer's allocator");
#endif
    long n = 1;
    for (;; n++) {
        err e = {0};
        allocations_left = n;
        const ddpm_status st = attempt(task, &e);
        if (st == DDPM_OK) break;
        cr_assert_eq(st, DDPM_ENOMEM, "allocation %ld: %s %s", n, err_name(st), e.text);
        cr_assert_gt(strlen(e.text), 0, "allocation %ld failed without a word", n);
    }
    cr_log_info("%ld allocations", n - 1);
    cr_assert_gt(n, 300, "%ld: that were too few to have been all", n);
    OK(attempt(task, &why));
}

Test(sampling_memory, with_guidance_a_mask_and_history) { fail_each(edit_with_history); }
Test(sampling_memory, with_guidance_a_mask_and_jumps) { fail_each(edit_with_jumps); }
Test(sampling_memory, between_two_images) { fail_each(between); }
