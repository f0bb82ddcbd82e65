/* What cannot be built: the first error is kept with the path of its layer, later calls do nothing. */
#include "base/mem.h"
#include "model/network.h"
#include "model/params.h"
#include "nn/nn.h"
#include "ir/operands.h"
#include "sampler_step.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <string.h>

static err why; /* each test is a process of its own */

static tensor *image(plan *p, int64_t h, int64_t w, int64_t c) { return plan_input(p, DTYPE_F32, "x", 2, h, w, c); }
static tensor *bytes(plan *p, int64_t n) { return plan_input(p, DTYPE_U8, "bytes", n, 1, 1, 1); }

static void conv(plan *p, nn_conv_args a)
{
    a.name = "conv", a.cout = a.cout ? a.cout : 8;
    (void)nn_conv2d(p, &a);
}

static void norm(plan *p, nn_norm_args a)
{
    a.name = "norm1", a.eps = 1e-5;
    (void)nn_norm_act(p, &a);
}

static void bad_conv_5x5(plan *p) { conv(p, (nn_conv_args){.x = image(p, 4, 4, 3), .kernel = 5}); }
static void bad_conv_stride_3(plan *p) { conv(p, (nn_conv_args){.x = image(p, 4, 4, 3), .stride = 3}); }
static void bad_conv_1x1_stride_2(plan *p)
{
    conv(p, (nn_conv_args){.x = image(p, 4, 4, 3), .kernel = 1, .stride = 2});
}
static void bad_conv_two_sources_3x3(plan *p)
{
    conv(p, (nn_conv_args){.x = image(p, 4, 4, 3), .x2 = image(p, 4, 4, 3)});
}
static void bad_conv_two_sizes(plan *p)
{
    conv(p, (nn_conv_args){.x = image(p, 4, 4, 3), .x2 = image(p, 4, 5, 3), .kernel = 1});
}
static void bad_conv_odd(plan *p) { conv(p, (nn_conv_args){.x = image(p, 4, 5, 3), .stride = 2, .pad_end = true}); }
static void bad_conv_residual(plan *p)
{
    conv(p, (nn_conv_args){.x = image(p, 4, 4, 3), .residual = image(p, 4, 4, 3)});
}
static void bad_norm_groups(plan *p) { norm(p, (nn_norm_args){.x = image(p, 4, 4, 130), .groups = 32}); }
static void bad_norm_no_groups(plan *p) { norm(p, (nn_norm_args){.x = image(p, 4, 4, 8)}); }
static void bad_norm_two_sizes(plan *p)
{
    norm(p, (nn_norm_args){.x = image(p, 4, 4, 8), .x2 = image(p, 3, 3, 8), .groups = 1});
}
static void bad_norm_cond(plan *p)
{
    norm(p, (nn_norm_args){.x = image(p, 4, 4, 8), .cond = image(p, 1, 1, 8), .kind = COND_SCALE_SHIFT, .groups = 1});
}
static void bad_attention_thirds(plan *p) { (void)nn_attention(p, image(p, 2, 2, 8), 1); }
static void bad_attention_heads(plan *p) { (void)nn_attention(p, image(p, 2, 2, 24), 3); }
static void bad_norm_dropout(plan *p)
{
    tensor *x = image(p, 2, 2, 3);
    norm(p, (nn_norm_args){.x = x, .groups = 1, .state = bytes(p, sizeof(train_state)), .dropout = 1});
}
static void bad_columns_beyond(plan *p) { (void)plan_columns(p, image(p, 1, 1, 8), 4, 5); }
static void bad_columns_of_an_image(plan *p) { (void)plan_columns(p, image(p, 2, 1, 8), 4, 2); }
static void bad_table_narrow(plan *p)
{
    tensor *table = plan_input(p, DTYPE_F32, "table", 10, 1, 1, 3);
    (void)nn_draw(p, &(nn_draw_args){.n = 2, .table = table, .state = bytes(p, sizeof(train_state))});
}
static void bad_state_short(plan *p)
{
    tensor *table = plan_input(p, DTYPE_F32, "table", 10, 1, 1, TABLE_COLUMNS);
    (void)nn_draw(p, &(nn_draw_args){.n = 2, .table = table, .state = bytes(p, 8)});
}
static void bad_loss_channels(plan *p)
{
    nn_loss_args a = {.images = image(p, 4, 4, 3), .pred = image(p, 4, 4, 6), .micro_batches = 1};
    a.rows = plan_input(p, DTYPE_F32, "rows", 2, 1, 1, TABLE_COLUMNS);
    a.state = bytes(p, sizeof(train_state));
    (void)nn_loss(p, &a);
}
static void bad_sampler_bytes(plan *p)
{
    nn_sampler_next(p, bytes(p, 3), bytes(p, sizeof(sampler_state)), plan_input(p, DTYPE_F32, "t", 2, 1, 1, 1));
}
static void bad_sampler_ids(plan *p)
{
    nn_sampler_init(p, &(nn_sampler_init_args){.x = image(p, 4, 4, 3),
                                               .state = bytes(p, sizeof(sampler_state)),
                                               .ids = plan_input(p, DTYPE_I64, "ids", 3, 1, 1, 1)});
}
static void bad_sampler_channels(plan *p)
{
    nn_sampler_step(p, &(nn_sampler_args){.x = image(p, 4, 4, 3),
                                          .model = image(p, 4, 4, 5),
                                          .rows = bytes(p, sizeof(sampler_row)),
                                          .state = bytes(p, sizeof(sampler_state))});
}
static void bad_nothing_wide(plan *p) { (void)image(p, 4, 0, 3); }
static void bad_too_large(plan *p) { (void)image(p, INT64_C(1) << 40, INT64_C(1) << 20, 3); }
static void bad_too_deep(plan *p)
{
    for (int i = 0; i < PLAN_DEPTH; i++) plan_push(p, "%d", i);
}
static void bad_too_long(plan *p) { plan_push(p, "%090d", 7); }
static void bad_wrong_network(plan *p)
{
    const network net = {.kind = NETWORK_SIMPLE, .unet = {.in_channels = 1, .out_channels = 1}};
    (void)network_build(&net, p, &(network_inputs){.x = image(p, 4, 4, 3), .t = image(p, 1, 1, 1)});
}
static void bad_differentiated_twice(plan *p)
{
    tensor *x = image(p, 2, 2, 2), *y = nn_relu(p, x);
    p->training = true;
    plan_want_grad(p, x);
    plan_differentiate(p, y, image(p, 2, 2, 2));
    plan_differentiate(p, x->grad, image(p, 2, 2, 2));
}
static void bad_not_for_training(plan *p)
{
    tensor *x = image(p, 2, 2, 2), *y = nn_relu(p, x);
    plan_want_grad(p, x);
    plan_differentiate(p, y, image(p, 2, 2, 2));
}
static void bad_parameter_of_two_layers(plan *p)
{
    p->training = true;
    tensor *x = image(p, 4, 4, 8), *y;
    y = nn_conv2d(p, &(nn_conv_args){.x = x, .cout = 8, .name = "conv1"});
    y = nn_conv2d(p, &(nn_conv_args){.x = y, .cout = 8, .name = "conv2"});
    p->steps[1]->in[CONV_W] = p->steps[0]->in[CONV_W];
    plan_differentiate(p, y, image(p, 4, 4, 8));
}
static void bad_one_tensor_as_two_operands(plan *p)
{
    tensor *x = image(p, 2, 2, 2);
    p->training = true;
    plan_want_grad(p, x);
    plan_differentiate(p, nn_concat(p, x, x), image(p, 2, 2, 4));
}
static void bad_half_the_columns(plan *p)
{
    p->training = true;
    tensor *m = nn_linear(p, &(nn_linear_args){.x = image(p, 1, 1, 3), .cout = 8, .name = "linear"});
    tensor *y = nn_norm_act(
        p,
        &(nn_norm_args){
            .x = image(p, 2, 2, 4), .cond = plan_columns(p, m, 0, 4), .kind = COND_ADD, .groups = 1, .name = "norm"});
    plan_differentiate(p, y, plan_input(p, DTYPE_F32, "dy", 2, 2, 2, 4));
}
static void bad_embed(plan *p)
{
    (void)nn_time_embed(p, image(p, 1, 1, 1), plan_input(p, DTYPE_F32, "freq", 3, 1, 1, 1), 8, false);
}

typedef struct bad_plan {
    void (*build)(plan *p);
    const char *text;
} bad_plan;
static const bad_plan bad[] = {
    {bad_conv_5x5, "net.0: conv: 5x5 convolution with stride 1 is not supported"},
    {bad_conv_stride_3, "net.0: conv: 3x3 convolution with stride 3 is not supported"},
    {bad_conv_1x1_stride_2, "net.0: conv: 1x1 convolution with stride 2 is not supported"},
    {bad_conv_two_sources_3x3, "net.0: conv: cannot concatenate 4x4 and 4x4 images"},
    {bad_conv_two_sizes, "net.0: conv: cannot concatenate 4x4 and 4x5 images"},
    {bad_conv_odd, "net.0: conv: 4x5 cannot be halved with downsample_padding 0; use a size that stays even, or "
                   "downsample_padding 1"},
    {bad_conv_residual, "net.0: conv: the residual has 3 channels, but the output has 8"},
    {bad_norm_groups, "net.0: norm1: 130 channels are not divisible into 32 groups"},
    {bad_norm_no_groups, "net.0: norm1: 8 channels are not divisible into 0 groups"},
    {bad_norm_two_sizes,
     "net.0: norm1: cannot concatenate a 4x4 image and a 3x3 skip; use a size that every level halves exactly"},
    {bad_norm_cond, "net.0: norm1: the conditioning has shape [2, 8]; [2, 16] is required"},
    {bad_attention_thirds, "net.0: attention: the 8 channels of q, k and v are not divisible into 3 x 1 heads"},
    {bad_attention_heads, "net.0: attention: the 24 channels of q, k and v are not divisible into 3 x 3 heads"},
    {bad_norm_dropout, "net.0: norm1: dropout: probability 1 is not in [0, 1)"},
    {bad_columns_beyond, "net.0: net.0.x: columns [4, 9) require a matrix with these columns, not [2, 1, 1, 8]"},
    {bad_columns_of_an_image, "net.0: net.0.x: columns [4, 6) require a matrix with these columns, not [2, 2, 1, 8]"},
    {bad_table_narrow, "net.0: the training table has the wrong number of columns, 3"},
    {bad_state_short, "net.0: the training state has the wrong size of 8 bytes"},
    {bad_loss_channels, "net.0: the network has 6 output channels, but the images have 3"},
    {bad_sampler_bytes, "net.0: the sampler rows and state have wrong sizes of 3 and 16 bytes"},
    {bad_sampler_ids, "net.0: the initial noise needs 2 ids and a state of 16 bytes, not 3 and 16"},
    {bad_sampler_channels, "net.0: the network has 5 output channels, but the images have 3"},
    {bad_nothing_wide, "net.0: x: invalid shape [2, 4, 0, 3]"},
    {bad_too_large, "net.0: x: invalid shape [2, 1099511627776, 1048576, 3]"},
    {bad_too_deep, "net.0.0.1.2.3.4.5: layers nested more than 8 deep"},
    {bad_too_long, "net.0: layer name too long: 0000000000000000000000000000000000000000"},
    {bad_wrong_network, "net.0: the network has 1 input channels, but the images have 3"},
    {bad_differentiated_twice, "net.0.relu: relu_bwd has no backward pass"},
    {bad_not_for_training, "net.0: a plan created without `training` cannot be differentiated"},
    {bad_parameter_of_two_layers,
     "net.0.conv1: net.0.conv1.weight is a parameter of two layers; its gradients cannot be "
     "added"},
    {bad_one_tensor_as_two_operands, "net.0.concat: net.0.x: concat_bwd has it as two operands: copy one"},
    {bad_half_the_columns, "net.0.norm: net.0.linear: only 4 of 8 columns have a gradient"},
    {bad_embed, "net.0: 3 frequencies for a time embedding of 8 channels; half as many are required"},
};

static plan *new_plan(backend **be)
{
    plan *p = NULL;
    cr_assert_eq(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, be, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(plan_create(*be, &p, &why), DDPM_OK, "%s", why.text);
    plan_push(p, "net");
    plan_push(p, "%d", 0);
    return p;
}

Test(plan_errors, name_the_layer_and_stick)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        backend *be = NULL;
        plan *p = new_plan(&be);
        bad[i].build(p);
        cr_expect(!plan_ok(p), "not noticed: %s", bad[i].text);
        const int n_step = p->n_step, n_tensor = p->n_tensor;
        (void)nn_relu(p, image(p, 2, 2, 2)); /* does nothing */
        (void)plan_fail(p, DDPM_EDATA, "a later error");
        cr_expect(p->n_step == n_step && p->n_tensor == n_tensor, "%s: the plan goes on growing", bad[i].text);
        why = (err){0};
        cr_expect_eq(plan_finish(p, &why), DDPM_EINVAL, "%s", bad[i].text);
        cr_expect_str_eq(why.text, bad[i].text);
        plan_destroy(p);
        backend_destroy(be);
    }
}

Test(plan_errors, of_the_backend_name_the_step)
{
    backend *be = NULL;
    plan *p = new_plan(&be);
    norm(p, (nn_norm_args){.x = image(p, 1, 1, 8200), .groups = 2});
    cr_expect(plan_ok(p));
    cr_expect_eq(plan_finish(p, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text,
                     "net.0.norm1 (norm_act): GroupNorm: 4100 channels per group; at most 4096 are supported");
    plan_destroy(p);
    backend_destroy(be);
}

Test(plan_errors, a_missing_operand_passes_through)
{
    backend *be = NULL;
    plan *p = new_plan(&be);
    cr_expect_null(nn_conv2d(p, &(nn_conv_args){.x = NULL, .cout = 3, .name = "conv"}));
    cr_expect_null(nn_upconv(p, NULL, 3, INIT_FAN_AVG, "conv"));
    cr_expect_null(nn_norm_act(p, &(nn_norm_args){.x = NULL, .groups = 1, .name = "norm"}));
    cr_expect_null(nn_linear(p, &(nn_linear_args){.x = NULL, .cout = 3, .name = "linear"}));
    cr_expect_null(nn_attention(p, NULL, 1));
    cr_expect_null(nn_relu(p, NULL));
    cr_expect_null(nn_affine(p, NULL, 1, 0));
    cr_expect_null(nn_time_embed(p, NULL, NULL, 4, false));
    cr_expect_null(nn_time_mlp(p, &(nn_time_mlp_args){.dim = 4, .width = 16, .name = "mlp"}));
    cr_expect_null(nn_draw(p, &(nn_draw_args){.n = 1}).rows);
    cr_expect_null(nn_q_sample(p, &(nn_q_sample_args){.images = NULL}));
    cr_expect_null(nn_loss(p, &(nn_loss_args){.pred = NULL}).loss);
    cr_expect_null(plan_columns(p, NULL, 0, 1));
    nn_tally(p, &(nn_losses){.loss = NULL}, &(nn_drawn){.rows = NULL}, NULL, NULL, 1);
    nn_sampler_init(p, &(nn_sampler_init_args){.x = NULL});
    nn_sampler_next(p, NULL, NULL, NULL);
    nn_sampler_step(p, &(nn_sampler_args){.x = NULL});
    plan_differentiate(p, NULL, NULL);
    cr_expect_eq(p->n_step, 0);
    cr_expect(plan_ok(p));
    plan_destroy(p);
    backend_destroy(be);
}

Test(plan_errors, no_memory_no_run)
{
    backend *be = NULL;
    plan *p = new_plan(&be);
    (void)nn_relu(p, image(p, 2, 2, 2));
    cr_assert_eq(plan_finish(p, &why), DDPM_OK, "%s", why.text);
    cr_expect_eq(plan_run(p, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "the memory of the plan is not allocated");
    plan_destroy(p);
    plan_destroy(NULL);
    backend_destroy(be);
}

/* A layer deep in a real network: its full path, from the network alone. */
Test(plan_errors, carry_the_full_path_of_a_network)
{
    backend *be = NULL;
    plan *p = NULL;
    network net = {.kind = NETWORK_UNET, .unet = unet_config_default()};
    net.unet.block[1].out_channels = 66; /* which 4 groups do not divide */
    net.unet.block[0].out_channels = 64;
    net.unet.block[2].out_channels = net.unet.block[3].out_channels = 64;
    net.unet.attention_head_dim = 0;
    net.unet.norm_num_groups = 4;
    cr_assert_eq(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(plan_create(be, &p, &why), DDPM_OK, "%s", why.text);
    const network_inputs in = {.x = plan_input(p, DTYPE_F32, "x", 1, 24, 24, 3),
                               .t = plan_input(p, DTYPE_F32, "t", 1, 1, 1, 1)};
    (void)network_build(&net, p, &in);
    cr_expect_eq(plan_finish(p, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "down_blocks.1.resnets.0: norm2: 66 channels are not divisible into 4 groups");
    plan_destroy(p);
    backend_destroy(be);
}

/* faults F19a: the message led from padding 0 to padding 1, and there to another refusal */
Test(plan_errors, sides_that_the_levels_cannot_halve_are_told_the_nearest_that_they_can)
{
    static const struct {
        int h, w, levels;
        const char *words;
    } cases[] = {
        {28, 28, 4,
         "28x28 images: with 4 levels the sides must be multiples of 8, nearest 24 and 32 (data.resolution)"},
        {32, 20, 4,
         "32x20 images: with 4 levels the sides must be multiples of 8, nearest 16 and 24 (data.resolution)"},
        {5, 64, 4, "5x64 images: with 4 levels the sides must be multiples of 8, nearest 8 (data.resolution)"},
        {9, 9, 2, "9x9 images: with 2 levels the sides must be multiples of 2, nearest 8 and 10 (data.resolution)"}};
    backend *be = NULL;
    cr_assert_eq(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why), DDPM_OK, "%s", why.text);
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        network net = {.kind = NETWORK_UNET, .unet = unet_config_default()};
        plan *p = NULL;
        net.unet.n_block = cases[i / 2].levels;
        net.unet.downsample_padding = i % 2;
        cr_assert_eq(plan_create(be, &p, &why), DDPM_OK, "%s", why.text);
        (void)network_build(&net, p,
                            &(network_inputs){.x = plan_input(p, DTYPE_F32, "x", 1, cases[i / 2].h, cases[i / 2].w, 3),
                                              .t = plan_input(p, DTYPE_F32, "t", 1, 1, 1, 1)});
        cr_expect_eq(plan_finish(p, &why), DDPM_EINVAL);
        cr_expect_str_eq(why.text, cases[i / 2].words);
        plan_destroy(p);
    }
    backend_destroy(be);
}
