/* ddpm.h - train, load and sample denoising diffusion models from C, C++ or anything that can call C.
 *
 *   ddpm_ctx *ctx;
 *   ddpm_model *model;
 *   ddpm_sampler *sampler;
 *   if (ddpm_ctx_create(&ctx, "auto") || ddpm_model_load(ctx, "runs/quickstart", &model) ||
 *       ddpm_sampler_create(model, NULL, &sampler) || ddpm_sampler_run(sampler, n, ids, images))
 *       fprintf(stderr, "%s\n", ddpm_last_error(ctx));
 *
 * Every call that can fail returns a ddpm_status (ddpm_status.h), DDPM_OK = 0; the context keeps the
 * message of the last failure: one line, what went wrong, where, and what to do.  A NULL handle, a NULL
 * for what must not be NULL and a value out of its range are DDPM_EINVAL, and what a call makes is NULL after it
 * failed (the context excepted, which holds the message).
 * Handles are opaque.  Each is destroyed once, in any order: a sampler keeps its model alive, and a model its context.
 * A use after that is the caller's mistake, as with free().  Texts and arrays that are handed in are not kept.
 * A context and all that was made from it belong to one thread at a time; several contexts may be
 * used side by side.  The library never prints, exits or aborts.  It reads and writes numbers with a point, whatever
 * locale the caller has set, and leaves that as it is.
 *
 * Images are NHWC: [n, h, w, c] floats of about [-1, 1]. */
#ifndef DDPM_H
#define DDPM_H
#include "ddpm_status.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DDPM_API __attribute__((visibility("default")))
#else
#define DDPM_API
#endif

/* Grows when a declaration below changes in a way that old callers would notice. */
#define DDPM_ABI_VERSION 0
DDPM_API int ddpm_abi_version(void);
DDPM_API const char *ddpm_version(void);                   /* "0.1.0" */
DDPM_API const char *ddpm_status_text(ddpm_status status); /* "out of memory"; never NULL */

/* ---- context: a device and the last message ------------------------------------------------------ */

typedef struct ddpm_ctx ddpm_ctx;

/* device: "auto" (a GPU where one answers), "cpu", "cuda", "cuda:N".  The cpu computes in f32 with as many
 * threads as there are processors, or as OMP_NUM_THREADS says; a GPU in bf16.
 * On failure *ctx holds the message and is still to be destroyed; it is NULL only for want of memory.
 * DDPM_EINVAL: unknown device.  DDPM_EDEVICE: not usable here. */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_ctx_create(ddpm_ctx **ctx, const char *device);
DDPM_API void ddpm_ctx_destroy(ddpm_ctx *ctx); /* once; takes NULL */

/* The message of the last call that failed, "" if none has; valid until the next call.  A NULL context has
 * "out of memory". */
DDPM_API const char *ddpm_last_error(const ddpm_ctx *ctx);
/* The device and library in use, one line; valid until the context is destroyed; "" where there is none. */
DDPM_API const char *ddpm_ctx_describe(const ddpm_ctx *ctx);

/* ---- model: a network with its weights ----------------------------------------------------------- */

typedef struct ddpm_model ddpm_model;

/* A diffusers pipeline folder (UNet2DModel with DDPMScheduler), a checkpoint, or a run folder, of which the
 * newest good checkpoint is taken.  The weights are the EMA's where there is one.
 * DDPM_ENOINPUT: nothing there.  DDPM_EDATA: damaged, weights that are not finite, or a model that is not supported
 * (named). */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_model_load(ddpm_ctx *ctx, const char *pipeline_dir, ddpm_model **model);
DDPM_API void ddpm_model_destroy(ddpm_model *model); /* once; takes NULL */

typedef struct ddpm_model_info {
    int h, w;      /* of the images it was trained on (32 x 32 where its config does not say) */
    int c, c_out;  /* channels in and out */
    int timesteps; /* T */
    int64_t parameters;
} ddpm_model_info;
/* Fails for NULL alone; *info is then all 0. */
DDPM_API ddpm_status ddpm_model_get_info(const ddpm_model *model, ddpm_model_info *info);

/* The network itself: out [n, h, w, c_out] = F(x [n, h, w, c], t [n]), n >= 1, x finite, t in [0, T), not
 * necessarily whole.  The first call with another n plans anew.  DDPM_ENOMEM: too large an n.
 * DDPM_EDIVERGED: the output is not finite; it is in `out` all the same. */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_model_predict(ddpm_model *model, int n, const float *x, const float *t,
                                                        float *out);

/* ---- sampler: images from noise ------------------------------------------------------------------- */

typedef struct ddpm_sampler ddpm_sampler;

typedef struct ddpm_sampler_options {
    size_t struct_size;      /* sizeof(ddpm_sampler_options) */
    int batch;               /* images at a time, to 65536; 0 = 16 */
    int num_inference_steps; /* network evaluations an image; 0 = all T */
    uint64_t seed;           /* image k of a seed is always the same picture */
} ddpm_sampler_options;

/* Ancestral sampling with the model's own schedule, variance and clipping.  NULL options: all 0.  DDPM_EINVAL: another
 * struct_size, a batch not in [0, 65536], num_inference_steps not in [0, T], or a schedule that gives no finite
 * numbers. */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_sampler_create(ddpm_model *model, const ddpm_sampler_options *options,
                                                         ddpm_sampler **sampler);
DDPM_API void ddpm_sampler_destroy(ddpm_sampler *sampler); /* once; takes NULL */

/* Images ids[n], each in [0, 2^32), into images [n, h, w, c]; any n >= 1. */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_sampler_run(ddpm_sampler *sampler, int n, const int64_t *ids, float *images);

/* ---- training -------------------------------------------------------------------------------------- */

typedef struct ddpm_progress {
    uint64_t step, steps; /* done, of all */
    uint64_t skipped;     /* steps whose loss or gradient was not finite */
    float loss, grad_norm, lr;
} ddpm_progress;

typedef enum ddpm_wish { DDPM_GO_ON, DDPM_SAVE, DDPM_STOP } ddpm_wish; /* STOP saves, then leaves */

/* Called after every step; NULL goes on to the end. */
typedef ddpm_wish ddpm_step_function(void *user, const ddpm_progress *progress);

/* Train as the program does: settings[n] are "key=value" or the name of a YAML file ("./a=b.yaml" where it has a =), in
 * the order of the command line (see `ddpm train --help`); the run is in the folder out=.
 * The run computes as device=, precision=, threads= and autotune_cache= say, on the context's device with the context's
 * threads where they are not given; its config.yaml says which.  DDPM_EDEVICE, DDPM_EINVAL: that cannot be had here.
 * DDPM_ESAVED: stopped on request, resume=auto goes on.  DDPM_ELOCKED, DDPM_EDIVERGED, ... */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_train(ddpm_ctx *ctx, int n, const char *const *settings,
                                                ddpm_step_function *on_step, void *user);

#ifdef __cplusplus
}
#endif
#endif
