#include "base/mem.h"
#include "io/safetensors.h"
#include "io/weights.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHTS FIXTURES "/pipeline/unet/diffusion_pytorch_model.safetensors"
#define FIRST   FIXTURES "/first/diffusion_pytorch_model.fp16.safetensors"

Test(weights, filters_change_layout_by_index)
{
    enum { O = 3, I = 4, H = 2, W = 5, N = O * I * H * W };
    const int64_t shape[4] = {O, I, H, W};
    float torch[N], ours[N], back[N];
    for (int i = 0; i < N; i++) torch[i] = (float)i;
    filter_from_torch(ours, torch, shape);
    for (int o = 0; o < O; o++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                for (int i = 0; i < I; i++)
                    cr_assert_eq(ours[((o * H + y) * W + x) * I + i], torch[((o * I + i) * H + y) * W + x]);
    filter_to_torch(back, ours, shape);
    cr_assert_arr_eq(back, torch, sizeof torch);
}

Test(weights, reads_diffusers_weights_into_our_layout)
{
    test_net net = net_load(FIXTURES "/tensors.txt");
    notes n = {""};
    err e = {0};
    cr_assert_eq(weights_read(WEIGHTS, net.tensors, net.n, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(net_differences(&net), 0);
    cr_assert_str_eq(n.text, "");
    net_free(&net);
}

Test(weights, reads_the_first_releases_names_shapes_and_halves)
{
    test_net net = net_load(FIXTURES "/tensors.txt");
    notes n = {""};
    err e = {0};
    cr_assert_eq(weights_read(FIRST, net.tensors, net.n, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(net_differences(&net), 0);
    cr_assert_not_null(strstr(n.text, "144 of 144 tensors are not F32"), "%s", n.text);
    net_free(&net);
}

Test(weights, writes_the_bytes_that_diffusers_writes)
{
    char dir[PATH_CAP];
    test_net net = net_load(FIXTURES "/tensors.txt");
    err e = {0};
    const char *out = in_dir(scratch_make(dir), "w.safetensors");
    net_fill(&net);
    cr_assert_eq(weights_write(out, net.tensors, net.n, false, &e), DDPM_OK, "%s", e.text);
    cr_assert(same_bytes(WEIGHTS, out));
    net_free(&net);
    scratch_remove(dir);
}

static named_tensor *by_name(test_net *net, const char *name)
{
    for (int i = 0; i < net->n; i++)
        if (!strcmp(net->tensors[i].name, name)) return &net->tensors[i];
    cr_assert_fail("no tensor %s", name);
    return NULL;
}

/* All faults at once: one message, and not a value written. */
Test(weights, what_is_not_finite_is_not_written)
{
    char dir[PATH_CAP];
    test_net net = net_load(FIXTURES "/tensors.txt");
    err e = {0};
    const char *out = in_dir(scratch_make(dir), "w.safetensors");
    net_fill(&net);
    net.tensors[net.n - 1].data[tensor_values(&net.tensors[net.n - 1]) - 1] = INFINITY;
    cr_expect_eq(weights_write(out, net.tensors, net.n, false, &e), DDPM_EDIVERGED);
    cr_expect_not_null(strstr(e.text, net.tensors[net.n - 1].name), "%s", e.text);
    cr_expect_not(path_exists(out));
    net_free(&net);
    scratch_remove(dir);
}

Test(weights, everything_that_does_not_fit_is_in_one_message)
{
    test_net net = net_load(FIXTURES "/tensors.txt");
    err e = {0};
    by_name(&net, "conv_in.weight")->shape[1] = 3;
    named_tensor *bias = by_name(&net, "conv_in.bias");
    const char *kept = bias->name;
    bias->name = "class_embedding.weight";
    cr_assert_eq(weights_read(WEIGHTS, net.tensors, net.n - 1, NULL, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "1 missing, 2 extra, 1 with a different shape"), "%s", e.text);
    cr_assert_not_null(strstr(e.text, "conv_in.weight is [4, 1, 3, 3] in the file, [4, 3, 3, 3] in the model"), "%s",
                       e.text);
    cr_assert_not_null(strstr(e.text, "missing: class_embedding.weight"), "%s", e.text);
    cr_assert_not_null(strstr(e.text, "extra: conv_in.bias, conv_out.bias"), "%s", e.text);
    for (int t = 0; t < net.n; t++)
        for (int64_t i = 0; i < tensor_values(&net.tensors[t]) && strcmp(net.tensors[t].name, "conv_in.weight"); i++)
            cr_assert_eq(net.tensors[t].data[i], 0.0f, "%s was written", net.tensors[t].name);
    bias->name = kept;
    net_free(&net);
}

Test(weights, three_of_many_faults_are_named)
{
    test_net net = net_load(FIXTURES "/tensors.txt");
    named_tensor few[2] = {net.tensors[0], net.tensors[1]};
    err e = {0};
    cr_assert_eq(weights_read(WEIGHTS, few, 2, NULL, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "0 missing, 142 extra, 0 with a different shape; extra: "), "%s", e.text);
    int commas = 0;
    for (const char *c = strstr(e.text, "; extra: "); *c; c++) commas += *c == ',';
    cr_assert_eq(commas, 2, "%s", e.text);
    net_free(&net);
}

/* A [c, c] matrix may come as [c, c, 1, 1], but not as [c, c, 3, 1], and a vector never as more. */
Test(weights, only_a_1x1_filter_is_a_matrix)
{
    char dir[PATH_CAP];
    float v[12] = {0}, to[12];
    const char *path = in_dir(scratch_make(dir), "w.safetensors");
    for (int taps = 1; taps <= 3; taps += 2) {
        err e = {0};
        const safetensors_item item = {
            .name = "a.weight", .dtype = SAFETENSORS_F32, .rank = 4, .shape = {2, 2, taps, 1}, .data = v};
        const named_tensor want = {"a.weight", 2, {2, 2}, to};
        cr_assert_eq(safetensors_write(path, &item, 1, false, &e), DDPM_OK, "%s", e.text);
        cr_assert_eq(weights_read(path, &want, 1, NULL, &e), taps == 1 ? DDPM_OK : DDPM_EDATA);
    }
    scratch_remove(dir);
}

/* One tensor of one type whose value 2 of {1, 2, value, 4} does not do: nothing is written, and it is named. */
static void refuse_value(const char *path, safetensors_dtype dtype, const void *values, const char *words)
{
    float good[2] = {1, 2}, to_good[2] = {0}, to_bad[4] = {0};
    err e = {0};
    const safetensors_item items[] = {
        {.name = "good.bias", .dtype = SAFETENSORS_F32, .rank = 1, .shape = {2}, .data = good},
        {.name = "bad.bias", .dtype = dtype, .rank = 1, .shape = {4}, .data = values}};
    const named_tensor want[] = {{"good.bias", 1, {2}, to_good}, {"bad.bias", 1, {4}, to_bad}};
    cr_assert_eq(safetensors_write(path, items, 2, false, &e), DDPM_OK, "%s", e.text);
    cr_expect_eq(weights_read(path, want, 2, NULL, &e), DDPM_EDATA);
    cr_expect(strstr(e.text, words) && strstr(e.text, path), "'%s' is not in '%s'", words, e.text);
    cr_expect(to_good[0] == 0 && to_bad[0] == 0, "something was written");
}

/* faults F13, B5: black pictures without a word */
Test(weights, values_that_are_not_finite_are_named)
{
    char dir[PATH_CAP];
    const char *path = in_dir(scratch_make(dir), "w.safetensors");
    const float f32[] = {1, 2, -INFINITY, 4};
    const double f64[] = {1, 2, 1e39, 4};
    const uint16_t f16[] = {0x3c00, 0, 0x7e00, 0}, bf16[] = {0x3f80, 0, 0x7f80, 0};
    refuse_value(path, SAFETENSORS_F32, f32, "bad.bias: value 2 of 4 is -inf");
    refuse_value(path, SAFETENSORS_F64, f64, "bad.bias: value 2 of 4 is inf");
    refuse_value(path, SAFETENSORS_F16, f16, "bad.bias: value 2 of 4 is nan");
    refuse_value(path, SAFETENSORS_BF16, bf16, "bad.bias: value 2 of 4 is inf");
    scratch_remove(dir);
}

Test(weights, whole_numbers_are_not_weights)
{
    char dir[PATH_CAP];
    const int64_t v[2] = {1, 2};
    float to[2];
    err e = {0};
    const char *path = in_dir(scratch_make(dir), "w.safetensors");
    const safetensors_item item = {.name = "a", .dtype = SAFETENSORS_I64, .rank = 1, .shape = {2}, .data = v};
    const named_tensor want = {"a", 1, {2}, to};
    cr_assert_eq(safetensors_write(path, &item, 1, false, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(weights_read(path, &want, 1, NULL, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "a is I64[2] in the file, [2] in the model"), "%s", e.text);
    scratch_remove(dir);
}

Test(weights, the_weights_of_a_folder_are_found_or_what_to_do_is_said)
{
    static const struct {
        const char *file, *words;
        ddpm_status status;
    } cases[] = {
        {NULL, "expected diffusion_pytorch_model.safetensors", DDPM_ENOINPUT},
        {"diffusion_pytorch_model.bin", "safe_serialization=True", DDPM_EDATA},
        {"diffusion_pytorch_model.safetensors.index.json", "max_shard_size", DDPM_EDATA},
        {"diffusion_pytorch_model.fp16.safetensors", "/diffusion_pytorch_model.fp16.safetensors", DDPM_OK},
        {"diffusion_pytorch_model.safetensors", "/diffusion_pytorch_model.safetensors", DDPM_OK},
    };
    char dir[PATH_CAP], found[PATH_CAP];
    scratch_make(dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) { /* each file comes on top of those before */
        err e = {0};
        if (cases[i].file) put_file(in_dir(dir, cases[i].file), "x");
        const ddpm_status st = weights_find(dir, found, &e);
        cr_assert_eq(st, cases[i].status, "case %zu: %s", i, e.text);
        const char *said = st == DDPM_OK ? found : e.text;
        cr_assert_not_null(strstr(said, cases[i].words), "%s", said);
    }
    scratch_remove(dir);
}
