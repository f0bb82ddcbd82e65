#include "support/net_rig.h"
#include "base/mem.h"
#include "support/device.h"
#include "support/ok.h"
#include "train_state.h"

#include <criterion/criterion.h>

const step_attr net_updates = {.update = {.lr = {.peak = 1e-3},
                                          .beta1 = 0.9,
                                          .beta2 = 0.999,
                                          .eps = 1e-8,
                                          .max_grad_norm = 1,
                                          .ema = {{.kind = EMA_CONSTANT, .decay = 0.99}}}};

static void set_widths(unet_config *c, const int widths[4])
{
    for (int i = 0; i < 4; i++) c->block[i].out_channels = widths[i];
}

unet_config net_small_unet(void)
{
    unet_config c = unet_config_default();
    set_widths(&c, (const int[]){8, 8, 16, 16});
    c.norm_num_groups = 4;
    c.layers_per_block = 1;
    return c;
}

unet_config net_cifar10_unet(void)
{
    unet_config c = unet_config_default();
    set_widths(&c, (const int[]){128, 256, 256, 256});
    c.block[0].down = c.block[2].down = c.block[3].down = UNET_DOWN;
    c.block[0].up = c.block[1].up = c.block[3].up = UNET_UP;
    c.block[1].down = UNET_ATTN_DOWN;
    c.block[2].up = UNET_ATTN_UP;
    c.attention_head_dim = 0;
    c.downsample_padding = 0;
    c.flip_sin_to_cos = false;
    c.freq_shift = 1;
    c.norm_eps = 1e-6;
    c.dropout = 0.1;
    return c;
}

static void create(net_rig *r, const net_options *o)
{
    err why = {0};
    r->net = o->net;
    r->be = test_backend(o->threads ? o->threads : 1);
    OK(plan_create(r->be, &r->p, &why));
    OK(params_create(r->be, &r->store, &why));
    r->p->packed = !o->unpacked;
}

static void create_update(net_rig *r, const net_options *o)
{
    err why = {0};
    step_attr a = *o->updates;
    a.update.zero_grad = o->micro_batches > 1;
    OK(plan_create(r->be, &r->update, &why));
    nn_update(r->update, r->state, NULL, NULL, (int64_t)r->store->count, &a);
    OK(plan_finish(r->update, &why));
}

static tensor *labels_of(net_rig *r, const net_options *o)
{
    if (unet_config_classes(&o->net.unet) > 0) r->labels = plan_input(r->p, DTYPE_I64, "labels", o->n, 1, 1, 1);
    return r->labels;
}

void net_train(net_rig *r, const net_options *o)
{
    err why = {0};
    const int micro_batches = o->micro_batches ? o->micro_batches : 1;
    create(r, o);
    plan *p = r->p;
    p->training = true;
    p->recompute = r->be->recompute != o->other_recompute;
    p->add_grads = micro_batches > 1;
    r->images = plan_input(p, DTYPE_U8, "images", o->n, o->h, o->w, o->net.unet.in_channels);
    r->table = plan_input(p, DTYPE_F32, "table", o->timesteps, 1, 1, TABLE_COLUMNS);
    r->state = plan_input(p, DTYPE_U8, "state", sizeof(train_state), 1, 1, 1);
    r->drawn = nn_draw(p, &(nn_draw_args){.n = o->n,
                                          .table = r->table,
                                          .state = r->state,
                                          .labels = labels_of(r, o),
                                          .label_dropout = o->label_dropout,
                                          .null_label = unet_config_classes(&o->net.unet) - 1});
    r->xt = nn_q_sample(
        p, &(nn_q_sample_args){.images = r->images, .rows = r->drawn.rows, .state = r->state, .flip = o->flip});
    r->out = network_build(
        &r->net, p, &(network_inputs){.x = r->xt, .t = r->drawn.t, .state = r->state, .labels = r->drawn.labels});
    if (o->keep) plan_keep(p, r->xt), plan_keep(p, r->drawn.t), plan_keep(p, r->out.y);
    const nn_losses losses = nn_loss(p, &(nn_loss_args){.pred = r->out.y,
                                                        .images = r->images,
                                                        .rows = r->drawn.rows,
                                                        .state = r->state,
                                                        .flip = o->flip,
                                                        .micro_batches = micro_batches});
    r->loss = losses.loss;
    plan_differentiate(p, r->loss, NULL);
    nn_tally(p, &losses, &r->drawn, r->state, NULL, micro_batches);
    cr_assert(plan_ok(p), "%s", p->first.text);
    OK(params_declare(r->store, p, &why));
    OK(plan_finish(p, &why));
    if (o->updates) create_update(r, o);
}

void net_sample(net_rig *r, const net_options *o, int rows)
{
    err why = {0};
    create(r, o);
    plan *p = r->p;
    r->x = plan_input(p, DTYPE_F32, "x", o->n, o->h, o->w, o->net.unet.in_channels);
    r->t = plan_input(p, DTYPE_F32, "t", o->n, 1, 1, 1);
    r->rows = plan_input(p, DTYPE_U8, "rows", rows * (int64_t)sizeof(sampler_row), 1, 1, 1);
    r->state = plan_input(p, DTYPE_U8, "state", sizeof(sampler_state), 1, 1, 1);
    r->ids = plan_input(p, DTYPE_I64, "ids", o->n, 1, 1, 1);
    nn_sampler_next(p, r->rows, r->state, r->t);
    r->out = network_build(&r->net, p, &(network_inputs){.x = r->x, .t = r->t, .labels = labels_of(r, o)});
    nn_sampler_step(
        p, &(nn_sampler_args){.x = r->x, .model = r->out.y, .rows = r->rows, .state = r->state, .ids = r->ids});
    OK(params_declare(r->store, p, &why));
    OK(plan_finish(p, &why));
}

void net_allocate(net_rig *r, arena_kind weights, const char *weights_path)
{
    err why = {0};
    OK(plan_allocate(r->p, &why));
    OK(network_fill(&r->net, r->p, &r->out, &why));
    OK(params_allocate(r->store, r->loss != NULL, true, &why));
    if (weights_path) OK(params_load(r->store, ARENA_PARAM, weights_path, NULL, &why));
    if (weights_path) OK(params_load(r->store, ARENA_EMA, weights_path, NULL, &why));
    OK(params_bind(r->store, r->p, weights, &why));
    if (!r->update) return;
    OK(plan_allocate(r->update, &why));
    OK(params_bind(r->store, r->update, ARENA_PARAM, &why));
}

/* Every second image has the label of the one before it. */
static void write_labels(net_rig *r)
{
    err why = {0};
    int64_t *labels;
    OK(mem_array(&labels, (size_t)r->labels->n, sizeof *labels, "test", &why));
    for (int64_t b = 0; b < r->labels->n; b++) labels[b] = b / 2 % unet_config_classes(&r->net.unet);
    OK(plan_write(r->p, r->labels, labels, &why));
    mem_free(labels);
}

void net_start(net_rig *r)
{
    err why = {0};
    uint8_t *images;
    float *table;
    const int64_t pixels = tensor_count(r->images), values = tensor_count(r->table);
    net_allocate(r, ARENA_PARAM, NULL);
    OK(params_init(r->store, 3, &why));
    OK(mem_array(&images, (size_t)pixels, sizeof *images, "test", &why));
    OK(mem_array(&table, (size_t)values, sizeof *table, "test", &why));
    for (int64_t i = 0; i < pixels; i++) images[i] = (uint8_t)(i * 7919 >> 3);
    for (int64_t i = 0; i < values; i++) table[i] = 0.5f + 0.1f * (float)(i % 7);
    OK(plan_write(r->p, r->images, images, &why));
    OK(plan_write(r->p, r->table, table, &why));
    OK(plan_write(r->p, r->state, &(train_state){.seed = 5, .beta1_pow = 1, .beta2_pow = 1}, &why));
    mem_free(images);
    mem_free(table);
    if (r->labels) write_labels(r);
}

void net_run(net_rig *r)
{
    err why = {0};
    if (r->store) OK(params_refresh(r->store, ARENA_PARAM, &why));
    OK(plan_run(r->p, &why));
}

void net_destroy(net_rig *r)
{
    plan_destroy(r->update);
    plan_destroy(r->p);
    params_destroy(r->store);
    backend_destroy(r->be);
}
