/* The initial noise; and sampling from weights that are no longer numbers ends with a name, not with a black picture. */
#include "base/mem.h"
#include "support/device.h"
#include "support/ok.h"
#include "ir/operands.h"
#include "plan/plan.h"
#include "sampler_init.h"
#include "sample/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE, BATCH = 3, STEPS = 5, SEED = 11 };

static err why;

typedef struct engine {
    backend *be;
    model *m;
    generator *g;
} engine;

static engine create(bool clip)
{
    engine x = {0};
    network net = {.kind = NETWORK_UNET, .unet = unet_config_default()};
    scheduler_config scheduler = scheduler_config_default();
    scheduler.clip_sample = clip;
    net.unet.sample_size_h = net.unet.sample_size_w = SIDE;
    net.unet.in_channels = net.unet.out_channels = 1;
    net.unet.n_block = 2;
    net.unet.block[0] = net.unet.block[1] = (unet_block){8, UNET_DOWN, UNET_UP};
    net.unet.layers_per_block = 1;
    net.unet.norm_num_groups = 4;
    net.unet.attention_head_dim = 0;
    x.be = test_backend(1);
    OK(model_create(x.be, &net, &scheduler, &x.m, &why));
    OK(params_allocate(x.m->store, false, false, &why));
    OK(params_init(x.m->store, 1, &why));
    const generator_spec spec = {.batch = BATCH,
                                 .h = SIDE,
                                 .w = SIDE,
                                 .sampler = {.steps = STEPS},
                                 .seed = SEED,
                                 .weights = ARENA_PARAM,
                                 .scheduler = scheduler};
    OK(generator_create(x.m, &spec, &x.g, &why));
    OK(generator_allocate(x.g, &why));
    return x;
}

static void destroy(engine *x)
{
    generator_destroy(x->g);
    model_destroy(x->m);
    backend_destroy(x->be);
}

/* Entries of the batch beyond the images repeat the last one. */
Test(generator, every_batch_starts_from_the_noise_of_seed_and_ids)
{
    static const int64_t ids[] = {7, 8, 8};
    static const sampler_state state = {.seed = SEED};
    float want[BATCH * PIXELS], images[BATCH * PIXELS];
    engine x = create(true);
    const tensor *noise = generator_first_plan(x.g)->steps[0]->out[SAMPLER_INIT_X];
    for (int b = 0; b < BATCH; b++)
        sampler_init_one(
            &(sampler_init_args){.x = want, .state = &state, .ids = ids, .n = BATCH, .d = PIXELS, .noise = 1}, b);
    for (int again = 0; again < 2; again++) {
        OK(generator_begin(x.g, &(generator_batch){.n = 2, .ids = ids}, &why));
        float *got = test_copy(x.be, noise);
        cr_expect_arr_eq(got, want, sizeof want);
        mem_free(got);
        OK(generator_run(x.g, &(generator_batch){.n = 2, .ids = ids}, images, &why));
    }
    destroy(&x);
}

static void poison(engine *x, const char *name, float value)
{
    const param *p = params_find(x->m->store, name);
    cr_assert_not_null(p, "%s", name);
    float *w = test_params(x->m->store, ARENA_PARAM);
    w[p->offset] = value;
    OK(params_set(x->m->store, ARENA_PARAM, w, &why));
    mem_free(w);
}

static void expect_named(engine *x, const char *said)
{
    static const int64_t ids[] = {7, 8};
    uint8_t bytes[BATCH * PIXELS];
    float values[BATCH * PIXELS];
    why.text[0] = '\0';
    cr_expect_eq(generator_run_bytes(x->g, &(generator_batch){.n = 2, .ids = ids}, bytes, &why), DDPM_EDIVERGED);
    cr_expect_not_null(strstr(why.text, said), "%s", why.text);
    why.text[0] = '\0';
    cr_expect_eq(generator_run(x->g, &(generator_batch){.n = 2, .ids = ids}, values, &why), DDPM_EDIVERGED);
    cr_expect_not_null(strstr(why.text, said), "%s", why.text);
}

/* faults F13, B5. */
Test(generator, what_is_not_a_number_is_named_with_picture_and_step)
{
    engine x = create(true);
    poison(&x, "conv_out.bias", NAN);
    expect_named(&x, x.be->fn->host_memory ? "picture 7: the network's output at step 1 of 5 is not finite"
                                           : "picture 7: the network's output at step 5 of 5 is not finite");
    destroy(&x);
}

/* Clipping makes a finite picture, all black or white, of a network that says infinity. */
Test(generator, what_is_infinite_is_named_although_it_is_clipped)
{
    engine x = create(true);
    poison(&x, "conv_out.bias", INFINITY);
    expect_named(&x, "the network's output at step");
    destroy(&x);
}

/* The network itself says what is finite: 3e38, and the step makes more of it than a float holds. */
Test(generator, a_picture_that_overflows_is_named)
{
    engine x = create(false);
    poison(&x, "conv_out.bias", 3e38f);
    expect_named(&x, "picture 7 is not finite after step");
    destroy(&x);
}

Test(generator, finite_weights_give_pictures)
{
    static const int64_t ids[] = {7, 8, 9};
    uint8_t bytes[BATCH * PIXELS];
    engine x = create(true);
    OK(generator_run_bytes(x.g, &(generator_batch){.n = BATCH, .ids = ids}, bytes, &why));
    destroy(&x);
}
