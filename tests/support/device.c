#include "support/device.h"
#include "backend/cuda/cuda_backend.h"
#include "base/mem.h"
#include "math/bf16.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#ifndef TEST_DEVICE
#define TEST_DEVICE "cpu"
#endif

const char *test_device(void)
{
    const char *device = getenv("DDPM_TEST_DEVICE");
    return device && device[0] ? device : TEST_DEVICE;
}

precision_kind test_precision(void)
{
    static const char *const names[] = {"auto", "fp32", "tf32", "bf16"};
    const char *name = getenv("DDPM_TEST_PRECISION");
    if (!name || !name[0]) return strcmp(test_device(), "cpu") ? PRECISION_FP32 : PRECISION_AUTO;
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) return (precision_kind)i;
    cr_assert_fail("DDPM_TEST_PRECISION=%s", name);
    return PRECISION_AUTO;
}

conv_algo test_conv(void)
{
    const char *word = getenv("DDPM_TEST_CONV");
    if (!word || !word[0]) return CONV_ALGO_WINOGRAD;
    cr_assert_str_eq(word, "direct", "DDPM_TEST_CONV=%s", word);
    return CONV_ALGO_DIRECT;
}

static unsigned test_without(void)
{
    const char *word = getenv("DDPM_TEST_WITHOUT");
    unsigned all = 0;
    if (!word || !word[0]) return 0;
#define OPTIMIZATION(NAME, text, bit)                                                                                  \
    all |= (bit);                                                                                                      \
    if (!strcmp(word, #text)) return bit;
    CUDA_OPT_LIST(OPTIMIZATION)
#undef OPTIMIZATION
    cr_assert_str_eq(word, "all", "DDPM_TEST_WITHOUT=%s", word);
    return all;
}

backend *test_backend(int threads)
{
    err why = {0};
    backend *be = NULL;
    const char *autotune_cache = getenv("DDPM_TEST_AUTOTUNE");
    OK(backend_create(&(backend_spec){.device = test_device(),
                                      .threads = threads,
                                      .precision = test_precision(),
                                      .conv = test_conv(),
                                      .autotune_cache = autotune_cache,
                                      /* without it every process would autotune every problem */
                                      .disabled = (autotune_cache ? 0 : CUDA_OPT_TUNING) | test_without()},
                      &be, &why));
    return be;
}

bool test_is_low(void)
{
    const precision_kind p = test_precision();
    return p == PRECISION_BF16 || (p == PRECISION_AUTO && strcmp(test_device(), "cpu"));
}

double test_bound(double fp32, double low)
{
    if (test_precision() == PRECISION_TF32) return low < 1e-3 ? low : 1e-3 + fp32;
    return test_is_low() ? low : fp32;
}

double test_network_bound(double fp32, double low)
{
    return test_precision() == PRECISION_TF32 ? low / 4 : test_is_low() ? low : fp32;
}

float test_rounded(float v) { return test_is_low() ? bf16_to_f32(bf16_of(v)) : v; }

static void *room(const tensor *t, size_t size)
{
    err why = {0};
    void *memory;
    OK(mem_array(&memory, (size_t)tensor_count(t), size, "test", &why));
    return memory;
}

void test_upload(backend *be, const tensor *t, const float *from)
{
    err why = {0};
    const size_t count = (size_t)tensor_count(t);
    if (t->dtype == DTYPE_F32) {
        OK(be->fn->upload(be, t->data, from, count * sizeof *from, &why));
        return;
    }
    bf16 *low = room(t, sizeof *low);
    for (size_t i = 0; i < count; i++) low[i] = bf16_of(from[i]);
    OK(be->fn->upload(be, t->data, low, count * sizeof *low, &why));
    mem_free(low);
}

void test_download(backend *be, const tensor *t, float *to)
{
    err why = {0};
    const size_t count = (size_t)tensor_count(t);
    if (t->dtype == DTYPE_F32) {
        OK(be->fn->download(be, to, t->data, count * sizeof *to, &why));
        return;
    }
    bf16 *low = room(t, sizeof *low);
    OK(be->fn->download(be, low, t->data, count * sizeof *low, &why));
    for (size_t i = 0; i < count; i++) to[i] = bf16_to_f32(low[i]);
    mem_free(low);
}

float *test_copy(backend *be, const tensor *t)
{
    float *copy = room(t, sizeof *copy);
    test_download(be, t, copy);
    return copy;
}

float *test_params(const params *store, arena_kind arena)
{
    err why = {0};
    float *copy;
    OK(mem_array(&copy, store->count, sizeof *copy, "parameters", &why));
    OK(params_get(store, arena, copy, &why));
    return copy;
}
