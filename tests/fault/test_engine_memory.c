/* A model, a training step and a sampling run while the n-th allocation fails, for every n until none
 * does: DDPM_ENOMEM with a message each time, and nothing leaked (the sanitizer build sees that). */
#include "fault/failing_allocations.h"

#include "data/dataset.h"
#include "data/loader.h"
#include "sample/generator.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <string.h>

typedef struct engine {
    backend *be;
    dataset *data;
    loader *loader;
    model *m;
    trainer *t;
    generator *g;
} engine;

static network small_net(void)
{
    network net = {.kind = NETWORK_UNET, .unet = unet_config_default()};
    net.unet.sample_size_h = net.unet.sample_size_w = 8;
    net.unet.in_channels = net.unet.out_channels = 1;
    net.unet.n_block = 2;
    net.unet.block[0] = (unet_block){8, UNET_DOWN, UNET_ATTN_UP};
    net.unet.block[1] = (unet_block){16, UNET_ATTN_DOWN, UNET_UP};
    net.unet.layers_per_block = 1;
    net.unet.norm_num_groups = 4;
    return net;
}

static ddpm_status train_one(engine *x, err *e)
{
    const network net = small_net();
    const scheduler_config scheduler = scheduler_config_default();
    trainer_spec spec = {.batch = 2, .h = 8, .w = 8, .micro_batches = 1};
    const uint8_t *images;
    spec.update.update.lr.peak = 1e-3, spec.update.update.eps = 1e-8;
    spec.update.update.ema[0] = (ema_rule){.kind = EMA_CONSTANT, .decay = 0.9};
    TRY(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &x->be, e));
    TRY(dataset_open(&(dataset_spec){.kind = DATASET_DIGITS, .resolution = 8, .channels = 1, .count = 8}, &x->data, e));
    TRY(loader_create(&(loader_spec){.data = x->data, .batch = 2}, &x->loader, e));
    TRY(model_create(x->be, &net, &scheduler, &x->m, e));
    TRY(trainer_create(x->m, &spec, &x->t, e));
    TRY(trainer_allocate(x->t, e));
    TRY(params_init(x->m->store, 1, e));
    TRY(loader_next(x->loader, &images, NULL, e));
    TRY(trainer_accumulate(x->t, images, NULL, e));
    return trainer_update(x->t, e);
}

static ddpm_status sample_one(engine *x, err *e)
{
    static float image[64];
    const int64_t id = 3;
    const generator_spec spec = {
        .batch = 1, .h = 8, .w = 8, .sampler = {.steps = 2}, .weights = ARENA_EMA, .scheduler = x->m->scheduler};
    TRY(generator_create(x->m, &spec, &x->g, e));
    TRY(generator_allocate(x->g, e));
    return generator_run(x->g, &(generator_batch){.n = 1, .ids = &id}, image, e);
}

static ddpm_status everything(err *e)
{
    engine x = {0};
    ddpm_status st = train_one(&x, e);
    if (st == DDPM_OK) st = sample_one(&x, e);
    allocations_left = 0;
    generator_destroy(x.g);
    trainer_destroy(x.t);
    model_destroy(x.m);
    loader_destroy(x.loader);
    dataset_close(x.data);
    backend_destroy(x.be);
    return st;
}

Test(engine_memory, every_allocation_may_fail, .timeout = 600)
{
    err e = {0};
    cr_assert_eq(everything(&e), DDPM_OK, "%s", e.text);
#ifdef ALLOCATIONS_NOT_IN_FRONT
    cr_skip_test("no way to get in front of this sanitizer's allocator");
#endif
    long n = 1;
    for (;; n++) {
        e.text[0] = '\0';
        allocations_left = n;
        const ddpm_status st = everything(&e);
        if (st == DDPM_OK) break;
        cr_assert_eq(st, DDPM_ENOMEM, "allocation %ld: %s %s", n, err_name(st), e.text);
        cr_assert_gt(strlen(e.text), 0, "allocation %ld failed without a word", n);
    }
    cr_log_info("%ld allocations", n - 1);
    cr_assert_gt(n, 500, "that were too few to have been all");
}
