/* device.h - the backend that a test program runs on.
 *
 * The cpu backend, unless the program was built for the emulated device (TEST_DEVICE) or the environment selects
 * another: DDPM_TEST_DEVICE=cuda, DDPM_TEST_PRECISION=bf16 (auto, fp32, tf32), DDPM_TEST_WITHOUT=beta (any word of
 * config/cuda_opts.def, or all), DDPM_TEST_AUTOTUNE=FILE (autotune, with FILE as the cache; without it the first algo of
 * each problem is used); on the cpu DDPM_TEST_CONV=direct. */
#ifndef DDPM_TEST_DEVICE_H
#define DDPM_TEST_DEVICE_H
#include "backend/backend.h"
#include "model/params.h"

const char *test_device(void);
precision_kind test_precision(void);
conv_algo test_conv(void); /* on the cpu: CONV_ALGO_WINOGRAD unless DDPM_TEST_CONV is set */
/* A failing creation fails the running test with its message. */
backend *test_backend(int threads);
bool test_is_low(void); /* are activations bf16? */
/* The error bound for this precision: `fp32` for f32 activations, `low` for bf16 (2^-8 per rounding). */
double test_bound(double fp32, double low);
/* The same for results of a whole network.  TF32 rounds factors to 11 bits, where bf16 rounds all values to 8. */
double test_network_bound(double fp32, double low);

/* Uploads floats into memory of type f32 or bf16; test_copy() does the reverse. */
void test_upload(backend *be, const tensor *t, const float *from);
void test_download(backend *be, const tensor *t, float *to);
float *test_copy(backend *be, const tensor *t); /* a download into new memory; mem_free() it */
float test_rounded(float v);                    /* rounded to the type of activations */

/* Downloads an arena of the parameters into new memory; mem_free() it. */
float *test_params(const params *store, arena_kind arena);

#endif
