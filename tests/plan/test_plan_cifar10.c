/* The network of Ho et al. 2020 for CIFAR-10 as a plan: its parameters as diffusers names and shapes
 * them, its operations and its memory, counted by hand. */
#include "base/mem.h"
#include "support/net_rig.h"

#include <criterion/criterion.h>
#include <string.h>

typedef struct expected {
    char name[NAME_CAP];
    int64_t shape[4]; /* as PyTorch has it; 0 beyond its rank */
} expected;

enum { TENSORS = 328 };
#define PARAMETERS INT64_C(35746307)

typedef struct list {
    expected e[TENSORS + 8];
    int n;
} list;

static void add(list *l, const char *layer, const char *leaf, const int64_t shape[4])
{
    cr_assert(l->n < TENSORS, "more than %d tensors: %s.%s", TENSORS, layer, leaf);
    expected *e = &l->e[l->n++];
    (void)snprintf(e->name, sizeof e->name, "%s.%s", layer, leaf);
    memcpy(e->shape, shape, sizeof e->shape);
}

/* weight of that shape, and a bias of its first dimension */
static void layer(list *l, const char *name, int64_t o, int64_t i, int64_t k)
{
    add(l, name, "weight", (const int64_t[4]){o, i, k, k});
    add(l, name, "bias", (const int64_t[4]){o});
}

static void sub_layer(list *l, const char *block, const char *name, const int64_t shape[3])
{
    char path[NAME_CAP];
    (void)snprintf(path, sizeof path, "%s.%s", block, name);
    layer(l, path, shape[0], shape[1], shape[2]);
}

static void resnet(list *l, const char *block, int64_t i, int64_t o)
{
    sub_layer(l, block, "norm1", (const int64_t[3]){i});
    sub_layer(l, block, "conv1", (const int64_t[3]){o, i, 3});
    sub_layer(l, block, "time_emb_proj", (const int64_t[3]){o, 512});
    sub_layer(l, block, "norm2", (const int64_t[3]){o});
    sub_layer(l, block, "conv2", (const int64_t[3]){o, o, 3});
    if (i != o) sub_layer(l, block, "conv_shortcut", (const int64_t[3]){o, i, 1});
}

static void attention(list *l, const char *block)
{
    sub_layer(l, block, "group_norm", (const int64_t[3]){256});
    sub_layer(l, block, "to_q", (const int64_t[3]){256, 256});
    sub_layer(l, block, "to_k", (const int64_t[3]){256, 256});
    sub_layer(l, block, "to_v", (const int64_t[3]){256, 256});
    sub_layer(l, block, "to_out.0", (const int64_t[3]){256, 256});
}

/* All of google/ddpm-cifar10-32's state_dict. */
static void list_all(list *l)
{
    static const struct {
        const char *block;
        int i, o;
    } resnets[] = {{"down_blocks.0.resnets.0", 128, 128}, {"down_blocks.0.resnets.1", 128, 128},
                   {"down_blocks.1.resnets.0", 128, 256}, {"down_blocks.1.resnets.1", 256, 256},
                   {"down_blocks.2.resnets.0", 256, 256}, {"down_blocks.2.resnets.1", 256, 256},
                   {"down_blocks.3.resnets.0", 256, 256}, {"down_blocks.3.resnets.1", 256, 256},
                   {"mid_block.resnets.0", 256, 256},     {"mid_block.resnets.1", 256, 256},
                   {"up_blocks.0.resnets.0", 512, 256},   {"up_blocks.0.resnets.1", 512, 256},
                   {"up_blocks.0.resnets.2", 512, 256},   {"up_blocks.1.resnets.0", 512, 256},
                   {"up_blocks.1.resnets.1", 512, 256},   {"up_blocks.1.resnets.2", 512, 256},
                   {"up_blocks.2.resnets.0", 512, 256},   {"up_blocks.2.resnets.1", 512, 256},
                   {"up_blocks.2.resnets.2", 384, 256},   {"up_blocks.3.resnets.0", 384, 128},
                   {"up_blocks.3.resnets.1", 256, 128},   {"up_blocks.3.resnets.2", 256, 128}};
    static const char *const attentions[] = {"down_blocks.1.attentions.0", "down_blocks.1.attentions.1",
                                             "mid_block.attentions.0",     "up_blocks.2.attentions.0",
                                             "up_blocks.2.attentions.1",   "up_blocks.2.attentions.2"};
    static const struct {
        const char *name;
        int c;
    } samplers[] = {{"down_blocks.0.downsamplers.0.conv", 128}, {"down_blocks.1.downsamplers.0.conv", 256},
                    {"down_blocks.2.downsamplers.0.conv", 256}, {"up_blocks.0.upsamplers.0.conv", 256},
                    {"up_blocks.1.upsamplers.0.conv", 256},     {"up_blocks.2.upsamplers.0.conv", 256}};
    layer(l, "conv_in", 128, 3, 3);
    layer(l, "time_embedding.linear_1", 512, 128, 0);
    layer(l, "time_embedding.linear_2", 512, 512, 0);
    for (size_t i = 0; i < sizeof resnets / sizeof *resnets; i++)
        resnet(l, resnets[i].block, resnets[i].i, resnets[i].o);
    for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++) attention(l, attentions[i]);
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++)
        layer(l, samplers[i].name, samplers[i].c, samplers[i].c, 3);
    layer(l, "conv_norm_out", 128, 0, 0);
    layer(l, "conv_out", 3, 128, 3);
}

static net_rig train_plan(int64_t batch)
{
    net_rig r = {0};
    net_train(
        &r,
        &(net_options){
            .net = {NETWORK_UNET, net_cifar10_unet()}, .n = batch, .h = 32, .w = 32, .threads = 2, .timesteps = 1000});
    return r;
}

Test(plan_cifar10, has_the_published_parameters)
{
    static list l;
    net_rig r = train_plan(1);
    list_all(&l);
    cr_expect_eq(l.n, TENSORS);
    cr_expect_eq(r.store->n, TENSORS, "%d parameters", r.store->n);
    cr_expect_eq(r.store->values, PARAMETERS, "%lld values", (long long)r.store->values);
    for (int i = 0; i < l.n; i++) {
        const expected *e = &l.e[i];
        const param *q = params_find(r.store, e->name);
        cr_assert_not_null(q, "no parameter %s", e->name);
        const int rank = e->shape[2] ? 4 : e->shape[1] ? 2 : 1;
        cr_expect(q->rank == rank && q->n == e->shape[0] && (rank < 2 || q->c == e->shape[1]) &&
                      (rank < 4 ? q->h * q->w == 1 : q->h == e->shape[2] && q->w == e->shape[3]),
                  "%s: rank %d, [%lld, %lld, %lld, %lld]", q->name, q->rank, (long long)q->n, (long long)q->c,
                  (long long)q->h, (long long)q->w);
    }
    net_destroy(&r);
}

/* Multiplications of one image, by hand: 3x3 convolutions outside the upsamplers 4 669 046 784, 1x1
 * shortcuts 249 561 088, projections around attention 339 738 624, its two products 167 903 232, the
 * time embedding 2 883 584; and 22 020 096 = 256^2 (4^2 + 8^2 + 16^2) pairs of channels and pixels
 * below an upsampler, 36 multiplications each as written, 16 as folded.  The published 6.22e9 are the
 * former. */
#define WITHOUT_UPSAMPLERS INT64_C(5429133312)
#define PAIRS              INT64_C(22020096)

Test(plan_cifar10, multiplies_as_counted_by_hand)
{
    enum { N = 3 };
    net_rig r = train_plan(N);
    double products = 0, upsampling = 0;
    for (int i = 0; i < r.p->n_forward; i++) {
        const op_kind op = r.p->steps[i]->op;
        const double flops = plan_flops(r.p, i, i + 1);
        if (op == OP_conv2d || op == OP_upconv || op == OP_linear || op == OP_time_mlp || op == OP_attention)
            products += flops;
        if (op == OP_upconv) upsampling += flops;
    }
    cr_expect_eq(WITHOUT_UPSAMPLERS + 36 * PAIRS, INT64_C(6221856768));
    cr_expect_eq(upsampling, 2.0 * N * 16 * PAIRS, "%.0f", upsampling);
    cr_expect_eq(products, 2.0 * N * (WITHOUT_UPSAMPLERS + 16 * PAIRS), "%.0f", products);
    const double all = plan_flops(r.p, 0, r.p->n_forward), backward = plan_flops(r.p, r.p->n_forward, r.p->n_step);
    cr_expect(all > products && all < 1.02 * products, "%.4g of %.4g are no products", all - products, all);
    cr_expect(backward > 1.95 * products && backward < 2.1 * products, "backward %.4g, forward %.4g", backward,
              products);
    cr_log_info("forward %.4g, backward %.4g operations an image", all / N, backward / N);
    net_destroy(&r);
}

/* 2.47 GiB, and 21.7 without overlaying, when this was written: bounds, so that growth is noticed. */
Test(plan_cifar10, trains_a_batch_of_128_in_under_3_gib)
{
    net_rig r = train_plan(128);
    const double gib = 1024.0 * 1024.0 * 1024.0, packed = (double)r.p->bytes[ARENA_ACT] / gib;
    const double unpacked = (double)r.p->unpacked_bytes / gib;
    cr_log_info("batch 128: %.3f GiB of activations, %.3f without overlaying", packed, unpacked);
    cr_expect(packed > 2 && packed < 3, "%.3f GiB", packed);
    cr_expect(unpacked > 2 * packed, "%.3f GiB without overlaying", unpacked);
    net_destroy(&r);
}
