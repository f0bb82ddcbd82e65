/* ddpm.h - train, load and sample denoising diffusion models from C, C++ or anything that can call C.
 *
 *   ddpm_ctx *ctx;
 *   ddpm_model *model;
 *   ddpm_sampler *sampler;
 *   if (ddpm_ctx_create(&ctx, "auto") || ddpm_model_load(ctx, "runs/quickstart", &model) ||
 *       ddpm_sampler_create(model, NULL, &sampler) || ddpm_sampler_run(sampler, n, ids, images))
 *       fprintf(stderr, "%s\n", ddpm_last_error(ctx));
 *
 * Every call that can fail returns a ddpm_status (ddpm_status.h), DDPM_OK = 0.  The context keeps the message of the
 * last failure: one line that says what went wrong, where, and what to do.  A NULL handle, a NULL argument where NULL
 * is not allowed and a value out of its range are DDPM_EINVAL.  A create or load call that fails sets its handle to
 * NULL (except ddpm_ctx_create(), whose context holds the message).
 * Handles are opaque.  Each is destroyed once, in any order: a sampler keeps its model alive, and a model its context.
 * Use after destroy is the caller's error, as with free().  The library keeps no pointer to texts or arrays that are
 * passed in.  A context and everything created from it belong to one thread at a time; several contexts may be used
 * concurrently.  The library never prints, exits or aborts.  It reads and writes numbers with a decimal point in every
 * locale, and does not change the caller's locale.
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

/* Incremented when a declaration below changes incompatibly. */
#define DDPM_ABI_VERSION 0
DDPM_API int ddpm_abi_version(void);
DDPM_API const char *ddpm_version(void);                   /* "0.1.0" */
DDPM_API const char *ddpm_status_text(ddpm_status status); /* "out of memory"; never NULL */

/* ---- context: a device and the last message ------------------------------------------------------ */

typedef struct ddpm_ctx ddpm_ctx;

/* device: "auto" (a GPU if one is usable, else the CPU), "cpu", "cuda", "cuda:N".  The CPU computes in f32 with
 * OMP_NUM_THREADS threads, by default one per processor; a GPU computes in bf16.
 * On failure *ctx holds the message and must still be destroyed; *ctx is NULL only if memory ran out.
 * DDPM_EINVAL: unknown device.  DDPM_EDEVICE: the device is not usable on this machine. */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_ctx_create(ddpm_ctx **ctx, const char *device);
DDPM_API void ddpm_ctx_destroy(ddpm_ctx *ctx); /* once; accepts NULL */

/* The message of the last call that failed, "" if no call has failed; valid until the next call.  For a NULL context
 * "out of memory". */
DDPM_API const char *ddpm_last_error(const ddpm_ctx *ctx);
/* The device and library in use, one line; valid until the context is destroyed; "" if the context has no device. */
DDPM_API const char *ddpm_ctx_describe(const ddpm_ctx *ctx);

/* ---- model: a network with its weights ----------------------------------------------------------- */

typedef struct ddpm_model ddpm_model;

/* Load a diffusers pipeline folder (UNet2DModel with any scheduler that `ddpm sample` has), a checkpoint, or the newest
 * undamaged checkpoint of a run folder.  The weights are the EMA weights if the checkpoint has them. DDPM_ENOINPUT:
 * nothing is there.  DDPM_EDATA: damaged files, non-finite weights, or an unsupported model (the message names it). */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_model_load(ddpm_ctx *ctx, const char *pipeline_dir, ddpm_model **model);
DDPM_API void ddpm_model_destroy(ddpm_model *model); /* once; accepts NULL */

typedef struct ddpm_model_info {
    int h, w;      /* size of the training images (32 x 32 if the model's config has no sample_size) */
    int c, c_out;  /* input and output channels */
    int timesteps; /* T */
    int64_t parameters;
} ddpm_model_info;
/* Fails only for a NULL argument; *info is then all 0. */
DDPM_API ddpm_status ddpm_model_get_info(const ddpm_model *model, ddpm_model_info *info);

/* One network evaluation: out [n, h, w, c_out] = F(x [n, h, w, c], t [n]), n >= 1, x finite, t in [0, T), not
 * necessarily an integer.  A call with another n than the call before builds a new plan.  DDPM_ENOMEM: n is too large.
 * DDPM_EDIVERGED: the output is not finite; `out` is written nevertheless. */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_model_predict(ddpm_model *model, int n, const float *x, const float *t,
                                                        float *out);

/* The same for a network with classes: labels [n], each in [0, ddpm_model_classes()), or -1 for no class.
 * NULL: all are -1. */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_model_predict_labels(ddpm_model *model, int n, const float *x, const float *t,
                                                               const int *labels, float *out);
/* How many labels the network distinguishes (num_class_embeds; 1000000 if class_embed_type is timestep without it); 0: it
 * takes none. */
DDPM_API int ddpm_model_classes(const ddpm_model *model);

/* ---- sampler: images from noise ------------------------------------------------------------------- */

typedef struct ddpm_sampler ddpm_sampler;

/* All 0 is sampling from noise with the model's own scheduler and all its steps.  A caller that was compiled with an
 * earlier version of this header passes a smaller struct_size; the fields behind it count as 0. */
typedef struct ddpm_sampler_options {
    size_t struct_size;      /* sizeof(ddpm_sampler_options) */
    int batch;               /* images per batch, up to 65536; 0 = 16 */
    int num_inference_steps; /* steps per image; 0 = all T, or the sampler's own number */
    uint64_t seed;           /* seed and image id alone decide an image */
    const char *sampler;     /* "unipc", "ddim", ... (`ddpm sample --help`); NULL = that of the model's scheduler */
    double guidance;         /* classifier-free guidance scale; 0 or 1 = none */
    double strength;         /* in (0, 1]: the images of ddpm_sampler_input are the start, with noise (SDEdit) */
    const uint8_t *mask;     /* [h, w]: where it is 0 the images of ddpm_sampler_input stay (RePaint); NULL = no mask */
    int n_settings;          /* further options of `ddpm sample`: "eta=0.5", "timestep_spacing=trailing", ... */
    const char *const *settings;
} ddpm_sampler_options;

/* NULL options: all 0.  The texts and the mask are read during the call alone.  DDPM_EINVAL: a struct_size of no
 * version, a value out of range, an unknown sampler or setting, or a combination that the sampler or the network does
 * not have; also settings for which there are arrays or fields (labels, from, mask, between, batch, seed, strength),
 * and those of the files that `ddpm sample` writes. */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_sampler_create(ddpm_model *model, const ddpm_sampler_options *options,
                                                         ddpm_sampler **sampler);
DDPM_API void ddpm_sampler_destroy(ddpm_sampler *sampler); /* once; accepts NULL */

/* Network evaluations per image; 0 for a NULL sampler. */
DDPM_API int ddpm_sampler_evaluations(const ddpm_sampler *sampler);

/* Sample the images ids[n], each in [0, 2^32), into images [n, h, w, c]; any n >= 1.  A network with classes gets no
 * class (its null class, if there is guidance). */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_sampler_run(ddpm_sampler *sampler, int n, const int64_t *ids, float *images);

typedef struct ddpm_sampler_input {
    size_t struct_size;  /* sizeof(ddpm_sampler_input) */
    int n;               /* 1 or more */
    const int64_t *ids;  /* [n] in [0, 2^32) */
    const int *labels;   /* [n] in [0, ddpm_model_classes()), or -1; NULL = as ddpm_sampler_run() */
    const float *images; /* [n, h, w, c] of about [-1, 1]; needed with strength or mask, else NULL */
} ddpm_sampler_input;

/* As ddpm_sampler_run(), with class labels and images to start from; images and input->images may be the same array. */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_sampler_run_input(ddpm_sampler *sampler, const ddpm_sampler_input *input,
                                                            float *images);

/* ---- training -------------------------------------------------------------------------------------- */

typedef struct ddpm_progress {
    uint64_t step, steps; /* steps done (fewer again after a rollback), and steps of the whole run */
    uint64_t skipped;     /* steps skipped because their loss or gradient was not finite */
    float loss, grad_norm, lr;
} ddpm_progress;

typedef enum ddpm_wish { DDPM_GO_ON, DDPM_SAVE, DDPM_STOP } ddpm_wish; /* STOP saves, then ends the run */

/* Called after every step; a NULL function trains to the end. */
typedef ddpm_wish ddpm_step_function(void *user, const ddpm_progress *progress);

/* Train as `ddpm train` does: settings[n] are "key=value" arguments or names of YAML files ("./a=b.yaml" if the name
 * contains a =), in the order of the command line (see `ddpm train --help`); out= names the run folder.
 * The settings device=, precision=, threads= and autotune_cache= select where and how the run computes; device and
 * threads default to those of the context.  The run's config.yaml records the values.  DDPM_EDEVICE, DDPM_EINVAL: the
 * device or precision is not available.  DDPM_ESAVED: stopped on request, resume=auto continues.  DDPM_ELOCKED,
 * DDPM_EDIVERGED, ... */
DDPM_API DDPM_MUST_CHECK ddpm_status ddpm_train(ddpm_ctx *ctx, int n, const char *const *settings,
                                                ddpm_step_function *on_step, void *user);

#ifdef __cplusplus
}
#endif
#endif
