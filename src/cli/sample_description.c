#include "cli/sample_description.h"

#include "base/mem.h"
#include "io/json_out.h"
#include "train/recipe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { FORMAT = 3, HASH_TEXT = 20 }; /* of sampling.json; incremented when the same description yields other pixels */

/* A hash of the weights, which identifies the model: a run that was trained further is another model. */
static ddpm_status hash_weights(const model *m, char out[HASH_TEXT], err *e)
{
    float *host, *copy;
    const ddpm_status st = params_view(m->store, ARENA_PARAM, &host, &copy, e);
    if (st == DDPM_OK)
        (void)snprintf(out, HASH_TEXT, "%016" PRIx64, (uint64_t)XXH3_64bits(host, m->store->count * sizeof *host));
    mem_free(copy);
    return st;
}

static void describe_sampler(json_out *o, const generator_spec *s)
{
    const sampler_spec *p = &s->sampler;
    const unsigned reads = sampler_info_of(p->kind)->reads;
    json_out_text(o, "sampler", sampler_name(p->kind));
    json_out_int(o, "skipped_steps", p->skip);
    if (p->as_diffusers && reads & SAMPLER_READS_AS_DIFFUSERS) json_out_bool(o, "as_diffusers", true);
    if (reads & SAMPLER_READS_ETA) json_out_real(o, "eta", p->eta);
    if (!(reads & SAMPLER_READS_CHURN) || p->churn == 0) return;
    json_out_real(o, "churn", p->churn);
    json_out_real(o, "churn_min", p->churn_min);
    json_out_real(o, "churn_max", p->churn_max);
    json_out_real(o, "churn_noise", p->churn_noise);
}

/* What the options, or the model's scheduler, may set though the sampler's class has no key for it. */
static void describe_beyond_class(json_out *o, const scheduler_config *c)
{
    if (!scheduler_config_has(c, "rescale_betas_zero_snr"))
        json_out_bool(o, "rescale_betas_zero_snr", c->rescale_betas_zero_snr);
    if (!scheduler_config_has(c, "clip_sample") && !scheduler_config_has(c, "clip_denoised"))
        json_out_bool(o, "clip_sample", c->clip_sample);
    if (!scheduler_config_has(c, "clip_sample_range")) json_out_real(o, "clip_sample_range", c->clip_sample_range);
    if (!scheduler_config_has(c, "thresholding")) {
        json_out_bool(o, "thresholding", c->thresholding);
        json_out_real(o, "dynamic_thresholding_ratio", c->dynamic_thresholding_ratio);
        json_out_real(o, "sample_max_value", c->sample_max_value);
    }
    if (!scheduler_config_has(c, "timestep_spacing"))
        json_out_text(o, "timestep_spacing", scheduler_spacing_name(c->timestep_spacing));
    if (!scheduler_config_has(c, "sigma_schedule")) json_out_text(o, "sigmas", scheduler_sigmas_name(c->sigmas));
    if (!scheduler_config_has(c, "final_sigmas_type"))
        json_out_text(o, "final_sigmas_type", c->final_sigmas_type == SCHEDULER_FINAL_ZERO ? "zero" : "sigma_min");
}

static void describe_guidance(json_out *o, const sample_description *d)
{
    const generator_guidance *g = &d->spec->guidance;
    if (unet_config_classes(&d->m->net.unet) == 0) return;
    json_out_text(o, "labels", d->source->labels.text);
    json_out_real(o, "guidance", g->scale);
    if (g->scale == 1) return;
    json_out_int(o, "null_class", g->null_class);
    json_out_real(o, "guidance_low", g->low);
    json_out_real(o, "guidance_high", g->high);
    json_out_real(o, "guidance_rescale", g->rescale);
}

static void describe_hash(json_out *o, const char *key, uint64_t hash)
{
    char text[HASH_TEXT];
    (void)snprintf(text, sizeof text, "%016" PRIx64, hash);
    json_out_text(o, key, text);
}

/* The images by their contents. */
static ddpm_status describe_editing(json_out *o, const sample_description *d, err *e)
{
    uint64_t images;
    static const char *const starts[] = {"noise", "image", "x"};
    if (d->source->files.n == 0) return DDPM_OK;
    json_out_text(o, "start", starts[d->spec->start]);
    TRY(picture_source_hash(d->source, &images, e));
    describe_hash(o, d->spec->start == GENERATOR_FROM_X ? "between" : "from", images);
    if (d->spec->start == GENERATOR_FROM_X) json_out_int(o, "count", d->source->count);
    if (!d->source->mask) return DDPM_OK;
    describe_hash(o, "mask", XXH3_64bits(d->source->mask, (size_t)d->source->h * (size_t)d->source->w));
    json_out_int(o, "jump_length", d->spec->jump_length);
    json_out_int(o, "jump_n_sample", d->spec->jump_n_sample);
    return DDPM_OK;
}

static void describe_levels(json_out *o, const unet_config *u)
{
    json_out_open(o, "block_out_channels", '[');
    for (int i = 0; i < u->n_block; i++) json_out_int(o, NULL, u->block[i].out_channels);
    json_out_close(o, ']');
    json_out_open(o, "down_attention", '[');
    for (int i = 0; i < u->n_block; i++) json_out_bool(o, NULL, u->block[i].down == UNET_ATTN_DOWN);
    json_out_close(o, ']');
    json_out_open(o, "up_attention", '[');
    for (int i = 0; i < u->n_block; i++) json_out_bool(o, NULL, u->block[i].up == UNET_ATTN_UP);
    json_out_close(o, ']');
}

/* The network options that affect sampling; dropout, for instance, does not. */
static void describe_network(json_out *o, const network *net)
{
    const unet_config *u = &net->unet;
    json_out_open(o, "network", '{');
    json_out_text(o, "kind", net->kind == NETWORK_SIMPLE ? "simple" : "unet");
    if (net->kind == NETWORK_UNET) {
        describe_levels(o, u);
        json_out_int(o, "layers_per_block", u->layers_per_block);
        json_out_int(o, "attention_head_dim", u->attention_head_dim);
        json_out_int(o, "norm_num_groups", u->norm_num_groups);
        json_out_int(o, "attn_norm_num_groups", u->attn_norm_num_groups);
        json_out_real(o, "norm_eps", u->norm_eps);
        json_out_int(o, "downsample_padding", u->downsample_padding);
        json_out_bool(o, "flip_sin_to_cos", u->flip_sin_to_cos);
        json_out_real(o, "freq_shift", u->freq_shift);
        json_out_bool(o, "mid_block", u->mid_block);
        json_out_bool(o, "add_attention", u->add_attention);
        json_out_bool(o, "scale_shift", u->time_scale_shift == UNET_SHIFT_SCALE);
        json_out_bool(o, "center_input_sample", u->center_input_sample);
        json_out_int(o, "num_class_embeds", u->num_class_embeds);
        if (u->class_embed_type != UNET_CLASS_NULL) json_out_int(o, "class_embed_type", (int)u->class_embed_type);
    }
    json_out_close(o, '}');
}

ddpm_status sample_describe(const sample_description *d, char **text, size_t *size, err *e)
{
    char weights[HASH_TEXT];
    const generator_spec *s = d->spec;
    TRY(hash_weights(d->m, weights, e));
    json_out o = json_out_begin(false, e);
    json_out_open(&o, NULL, '{');
    json_out_int(&o, "format", FORMAT);
    json_out_int(&o, "seed", (int64_t)s->seed);
    json_out_text(&o, "weights", weights);
    json_out_int(&o, "num_inference_steps", s->sampler.steps ? s->sampler.steps : s->scheduler.num_train_timesteps);
    describe_sampler(&o, s);
    scheduler_config_put(&o, &s->scheduler);
    describe_beyond_class(&o, &s->scheduler);
    describe_guidance(&o, d);
    const ddpm_status st = describe_editing(&o, d, e);
    json_out_int(&o, "height", s->h);
    json_out_int(&o, "width", s->w);
    json_out_int(&o, "channels", d->m->net.unet.in_channels);
    json_out_text(&o, "backend", d->m->be->fn->name);
    json_out_text(&o, "precision", recipe_precision(d->config, d->m->be));
    describe_network(&o, &d->m->net);
    json_out_close(&o, '}');
    if (st == DDPM_OK) return json_out_finish(&o, text, size);
    free(o.text);
    return st;
}
