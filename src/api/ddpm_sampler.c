/* ddpm_sampler.c - the samplers of the public interface. */
#include "api/api.h"
#include "base/mem.h"
#include "sample/generator.h"
#include "train/recipe.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { DEFAULT_BATCH = 16, MOST_BATCH = 65536 };

/* Sizes of ddpm_sampler_options in the versions so far. */
enum { FIRST_SIZE = offsetof(ddpm_sampler_options, sampler) };

struct ddpm_sampler {
    ddpm_model *model; /* counted in model->users */
    generator *g;
    int batch;
    size_t values; /* per image */
    bool images;   /* the input must have images */
};

/* ---- options ---- */

static bool is_one_of(int option, const config_id *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (option == (int)list[i]) return true;
    return false;
}

/* Options of `ddpm sample` for which this interface has arrays or fields, or that concern its files. */
static ddpm_status check_setting(int option, const char *setting, err *e)
{
    static const config_id arrays[] = {OPTION_sample_from, OPTION_sample_mask, OPTION_sample_between,
                                       OPTION_sample_labels};
    static const config_id fields[] = {OPTION_sample_batch, OPTION_sample_seed, OPTION_sample_strength};
    static const config_id others[] = {OPTION_sample_out,    OPTION_sample_count,  OPTION_sample_ids,
                                       OPTION_sample_format, OPTION_sample_shard,  OPTION_sample_rank,
                                       OPTION_sample_ranks,  OPTION_sample_verify, OPTION_sample_weights,
                                       OPTION_sample_grid,   OPTION_sample_every,  OPTION_sample_trajectory};
    if (is_one_of(option, arrays, sizeof arrays / sizeof *arrays))
        return err_set(e, DDPM_EINVAL, "setting %.60s: images, labels and masks are passed as arrays", setting);
    if (is_one_of(option, fields, sizeof fields / sizeof *fields))
        return err_set(e, DDPM_EINVAL, "setting %.60s: this is a field of ddpm_sampler_options", setting);
    if (is_one_of(option, others, sizeof others / sizeof *others))
        return err_set(e, DDPM_EINVAL, "setting %.60s: concerns the files of `ddpm sample`, not a sampler", setting);
    return DDPM_OK;
}

/* The caller knows of no command line. */
static ddpm_status without_prefix(ddpm_status st, err *e)
{
    static const char prefix[] = "command line: ";
    const size_t n = sizeof prefix - 1;
    if (st != DDPM_OK && !strncmp(e->text, prefix, n)) memmove(e->text, e->text + n, strlen(e->text + n) + 1);
    return st;
}

static ddpm_status assign(ddpm_config *c, const char *setting, err *e)
{
    static const config_scope scope = {.command = "sample", .options = "sample"};
    return without_prefix(config_assign(c, &scope, setting, e), e);
}

static ddpm_status assign_setting(ddpm_config *c, const char *setting, err *e)
{
    char key[CONFIG_KEY + 8];
    const char *renamed;
    if (!setting) return err_set(e, DDPM_EINVAL, "a setting is NULL");
    (void)snprintf(key, sizeof key, "sample.%.*s", (int)strcspn(setting, "="), setting);
    TRY(check_setting(config_find_renamed(strncmp(setting, "sample.", 7) ? key : key + 7, &renamed), setting, e));
    return assign(c, setting, e);
}

static ddpm_status assign_number(ddpm_config *c, const char *key, double v, err *e)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%s=%.17g", key, v);
    return v == 0 ? DDPM_OK : assign(c, text, e);
}

static ddpm_status read_options(ddpm_config *c, const ddpm_sampler_options *o, err *e)
{
    char text[80];
    config_defaults(c);
    TRY(assign_number(c, "num_inference_steps", o->num_inference_steps, e));
    TRY(assign_number(c, "guidance", o->guidance, e));
    TRY(assign_number(c, "strength", o->strength, e));
    (void)snprintf(text, sizeof text, "sampler=%.60s", o->sampler ? o->sampler : "auto");
    TRY(assign(c, text, e));
    if (o->n_settings < 0 || (o->n_settings > 0 && !o->settings))
        return err_set(e, DDPM_EINVAL, "n_settings is %d, and settings is %s", o->n_settings,
                       o->settings ? "given" : "NULL");
    for (int i = 0; i < o->n_settings; i++) TRY(assign_setting(c, o->settings[i], e));
    return config_check(c, e);
}

static ddpm_status make_spec(const ddpm_model *m, const ddpm_sampler_options *o, const ddpm_config *c,
                             generator_spec *spec, err *e)
{
    *spec = recipe_generator(c, m->m, ARENA_PARAM);
    spec->batch = o->batch ? o->batch : DEFAULT_BATCH;
    spec->seed = o->seed;
    spec->watched = false;
    spec->masked = o->mask != NULL;
    if (spec->batch < 1 || spec->batch > MOST_BATCH)
        return err_set(e, DDPM_EINVAL, "batch %d: must be 1 to %d, or 0 for %d", spec->batch, MOST_BATCH,
                       DEFAULT_BATCH);
    if (o->strength != 0) generator_spec_start(spec, o->strength);
    return DDPM_OK;
}

/* ---- creation ---- */

static ddpm_status create_sampler(ddpm_model *m, const ddpm_sampler_options *o, const ddpm_config *c, ddpm_sampler *s,
                                  err *e)
{
    generator_spec spec;
    TRY(make_spec(m, o, c, &spec, e));
    s->model = m;
    m->users++;
    s->batch = spec.batch;
    s->images = spec.start != GENERATOR_FROM_NOISE || spec.masked;
    s->values = (size_t)spec.h * (size_t)spec.w * (size_t)m->m->net.unet.in_channels;
    TRY(generator_create(m->m, &spec, &s->g, e));
    TRY(generator_allocate(s->g, e));
    return o->mask ? generator_set_mask(s->g, o->mask, e) : DDPM_OK;
}

static ddpm_status new_sampler(ddpm_model *m, const ddpm_sampler_options *o, ddpm_sampler **out)
{
    err *e = &m->ctx->last;
    ddpm_sampler *s = NULL;
    ddpm_config *c = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(mem_array(&c, 1, sizeof *c, "options", e));
    TRY_GOTO(read_options(c, o, e));
    TRY_GOTO(mem_array(&s, 1, sizeof *s, "sampler", e));
    TRY_GOTO(create_sampler(m, o, c, s, e));
    *out = s;
    s = NULL;
done:
    ddpm_sampler_destroy(s);
    mem_free(c);
    return st;
}

ddpm_status ddpm_sampler_create(ddpm_model *m, const ddpm_sampler_options *options, ddpm_sampler **sampler)
{
    ddpm_sampler_options o = {.struct_size = sizeof o};
    if (sampler) *sampler = NULL;
    if (!m) return DDPM_EINVAL;
    if (!sampler) return err_set(&m->ctx->last, DDPM_EINVAL, "sampler is NULL");
    if (options && options->struct_size != sizeof o && options->struct_size != FIRST_SIZE)
        return err_set(
            &m->ctx->last, DDPM_EINVAL,
            "struct_size is %zu, but ddpm_sampler_options of this library has %zu bytes, and %d in an earlier "
            "version",
            options->struct_size, sizeof o, FIRST_SIZE);
    if (options) memcpy(&o, options, options->struct_size);
    const locale_t caller = api_enter();
    return api_leave(caller, new_sampler(m, &o, sampler));
}

void ddpm_sampler_destroy(ddpm_sampler *s)
{
    if (!s) return;
    generator_destroy(s->g);
    ddpm_model_destroy(s->model);
    mem_free(s);
}

int ddpm_sampler_evaluations(const ddpm_sampler *s) { return s ? generator_steps(s->g) : 0; }

/* ---- sampling ---- */

static ddpm_status run_sampler(ddpm_sampler *s, const ddpm_sampler_input *in, float *images)
{
    err *e = &s->model->ctx->last;
    for (int at = 0, some; at < in->n; at += some) {
        some = in->n - at < s->batch ? in->n - at : s->batch;
        const generator_batch b = {.n = some,
                                   .ids = in->ids + at,
                                   .labels = in->labels ? in->labels + at : NULL,
                                   .images = in->images ? in->images + (size_t)at * s->values : NULL};
        TRY(generator_run(s->g, &b, images + (size_t)at * s->values, e));
    }
    return DDPM_OK;
}

ddpm_status ddpm_sampler_run_input(ddpm_sampler *s, const ddpm_sampler_input *in, float *images)
{
    if (!s) return DDPM_EINVAL;
    err *e = &s->model->ctx->last;
    if (!in || in->struct_size != sizeof *in)
        return err_set(e, DDPM_EINVAL, "sample: input is NULL, or its struct_size is not %zu", sizeof *in);
    if (in->n < 1 || !in->ids || !images)
        return err_set(e, DDPM_EINVAL, "sample: n = %d must be at least 1, and ids, images must not be NULL", in->n);
    for (int i = 0; i < in->n; i++)
        if (in->ids[i] < 0 || in->ids[i] > UINT32_MAX)
            return err_set(e, DDPM_EINVAL, "sample: ids[%d] = %lld is not in [0, 2^32)", i, (long long)in->ids[i]);
    if (in->labels && unet_config_classes(&s->model->m->net.unet) == 0)
        return err_set(e, DDPM_EINVAL, "sample: the network has no classes; labels must be NULL");
    if (!in->images != !s->images)
        return err_set(e, DDPM_EINVAL, "sample: the sampler %s; input->images must %sbe NULL",
                       s->images ? "starts from images or has a mask" : "starts from noise", s->images ? "not " : "");
    for (size_t i = 0; in->images && i < (size_t)in->n * s->values; i++)
        if (!isfinite(in->images[i]))
            return err_set(e, DDPM_EINVAL, "sample: value %zu of images is %g, not finite", i, (double)in->images[i]);
    const locale_t caller = api_enter();
    return api_leave(caller, run_sampler(s, in, images));
}

ddpm_status ddpm_sampler_run(ddpm_sampler *s, int n, const int64_t *ids, float *images)
{
    const ddpm_sampler_input in = {.struct_size = sizeof in, .n = n, .ids = ids};
    return ddpm_sampler_run_input(s, &in, images);
}
