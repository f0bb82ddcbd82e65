/* What the options of sampling become: every option has an effect, is refused or is noted as one without effect. */
#include "train/recipe.h"
#include "support/device.h"
#include "support/ok.h"
#include "support/small_run.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 6 };
#define CLASSES DDPM_TESTS "/sample/loops/classes" /* a network of 8x8 pixels, 3 channels and 5 classes */

static err why;
static backend *be;
static model *with_classes, *m; /* m: the one that is asked */

static void open_model(void)
{
    be = test_backend(1);
    OK(model_load(be, CLASSES, &with_classes, NULL, &why));
    m = with_classes;
}

static void close_model(void)
{
    if (m != with_classes) model_destroy(m);
    model_destroy(with_classes);
    backend_destroy(be);
}

TestSuite(recipe_sampling, .init = open_model, .fini = close_model, .timeout = 300);

/* The same network for another process, with or without classes. */
static void use_model(scheduler_class type, bool classes)
{
    network net = with_classes->net;
    scheduler_config s = scheduler_config_of(type);
    if (!classes) net.unet.num_class_embeds = 0;
    if (type == SCHEDULER_CLASS_FLOW_EULER) s.prediction_type = SCHEDULER_FLOW;
    if (m != with_classes) model_destroy(m);
    OK(model_create(be, &net, &s, &m, &why));
}

/* Options with "sample." left out, between blanks. */
static ddpm_config config_of(const char *settings)
{
    static const config_scope scope = {.command = "sample", .options = "sample"};
    ddpm_config c;
    char text[400], *rest = text;
    config_defaults(&c);
    (void)snprintf(text, sizeof text, "%s", settings);
    for (char *one = strtok_r(text, " ", &rest); one; one = strtok_r(NULL, " ", &rest))
        OK(config_assign(&c, &scope, one, &why));
    return c;
}

/* ---- a sampler by its name ---- */

Test(recipe_sampling, a_name_is_its_sampler_with_its_defaults)
{
    for (int k = 0; k < SAMPLER_KINDS; k++) {
        char text[80];
        (void)snprintf(text, sizeof text, "sampler=%s num_inference_steps=7", sampler_name((sampler_kind)k));
        const ddpm_config c = config_of(text);
        const scheduler_config s = recipe_sampling(&c, &with_classes->scheduler),
                               want = sampler_config((sampler_kind)k, &with_classes->scheduler);
        const sampler_spec spec = recipe_sampler(&c, &s), plain = sampler_spec_default((sampler_kind)k, 7);
        cr_expect(!memcmp(&s, &want, sizeof s), "%s: another config", text);
        cr_expect_eq(s.type, sampler_info_of((sampler_kind)k)->scheduler, "%s", text);
        cr_expect(spec.kind == (sampler_kind)k && spec.steps == 7 && spec.skip == 0, "%s", text);
        cr_expect(spec.eta == plain.eta && spec.churn == 0 && spec.churn_noise == 1 && !spec.as_diffusers, "%s", text);
    }
}

/* Without a name it is the folder's, as diffusers has it. */
Test(recipe_sampling, no_name_is_the_folders_scheduler)
{
    static const scheduler_class types[] = {SCHEDULER_CLASS_DDPM, SCHEDULER_CLASS_DDIM, SCHEDULER_CLASS_PNDM,
                                            SCHEDULER_CLASS_UNIPC, SCHEDULER_CLASS_EDM_EULER};
    const ddpm_config c = config_of("num_inference_steps=7");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        scheduler_config folder = scheduler_config_of(types[i]);
        folder.steps_offset = 1, folder.set_alpha_to_one = false;
        const scheduler_config s = recipe_sampling(&c, &folder);
        const sampler_spec spec = recipe_sampler(&c, &s), want = sampler_spec_of(&folder, 7);
        cr_expect(!memcmp(&s, &folder, sizeof s), "class %d", types[i]);
        cr_expect(spec.kind == want.kind && spec.eta == want.eta && spec.as_diffusers, "class %d", types[i]);
    }
}

Test(recipe_sampling, options_override_the_sampler)
{
    const ddpm_config c =
        config_of("sampler=unipc order=2 timestep_spacing=trailing sigmas=karras final=sigma_min "
                  "clip=false thresholding=true dynamic_thresholding_ratio=0.9 sample_max_value=3 "
                  "variance_type=fixed_large eta=0.25 churn=5 churn_min=0.1 churn_max=9 churn_noise=2");
    const scheduler_config s = recipe_sampling(&c, &with_classes->scheduler);
    const sampler_spec p = recipe_sampler(&c, &s);
    cr_expect(s.solver_order == 2 && s.timestep_spacing == SCHEDULER_TRAILING && s.sigmas == SCHEDULER_SIGMAS_KARRAS);
    cr_expect(s.final_sigmas_type == SCHEDULER_FINAL_SIGMA_MIN && !s.clip_sample && s.thresholding);
    cr_expect(s.dynamic_thresholding_ratio == 0.9 && s.sample_max_value == 3);
    cr_expect_eq(s.variance_type, SCHEDULER_FIXED_LARGE);
    cr_expect(p.eta == 0.25 && p.churn == 5 && p.churn_min == 0.1 && p.churn_max == 9 && p.churn_noise == 2);
}

/* ---- tasks ---- */

Test(recipe_sampling, tasks_decide_where_it_starts)
{
    static const struct {
        const char *settings;
        generator_start start;
        int skip;
        bool masked;
    } tasks[] = {
        {"", GENERATOR_FROM_NOISE, 0, false},
        {"strength=0.3", GENERATOR_FROM_NOISE, 0, false},
        {"from=a.png", GENERATOR_FROM_IMAGE, 4, false}, /* strength 0.6 */
        {"from=a.png strength=0.3", GENERATOR_FROM_IMAGE, 7, false},
        {"from=a.png strength=1", GENERATOR_FROM_IMAGE, 0, false},
        {"from=a.png mask=b.png", GENERATOR_FROM_NOISE, 0, true},
        {"from=a.png mask=b.png strength=0.3", GENERATOR_FROM_IMAGE, 7, true},
        {"from=a.png mask=b.png strength=0.6", GENERATOR_FROM_IMAGE, 4, true}, /* the default, but it was typed */
        {"between=a.png,b.png", GENERATOR_FROM_X, 0, false},
    };
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        char text[200];
        (void)snprintf(text, sizeof text, "num_inference_steps=10 %s", tasks[i].settings);
        const ddpm_config c = config_of(text);
        const generator_spec s = recipe_generator(&c, m, ARENA_PARAM);
        cr_expect_eq(s.start, tasks[i].start, "%s: start %d", text, s.start);
        cr_expect_eq(s.sampler.skip, tasks[i].skip, "%s: %d skipped", text, s.sampler.skip);
        cr_expect_eq(s.masked, tasks[i].masked, "%s", text);
        cr_expect(s.h == 8 && s.w == 8 && s.batch == 16 && !s.watched);
        if (s.masked) cr_expect(s.jump_length == 10 && s.jump_n_sample == 10);
    }
}

Test(recipe_sampling, between_is_ddim_without_a_clip_unless_told_otherwise)
{
    ddpm_config c = config_of("between=a,b");
    generator_spec s = recipe_generator(&c, m, ARENA_PARAM);
    cr_expect(s.sampler.kind == SAMPLER_DDIM && s.sampler.eta == 0);
    cr_expect(s.scheduler.type == SCHEDULER_CLASS_DDIM && !s.scheduler.clip_sample);
    c = config_of("between=a,b clip=true");
    s = recipe_generator(&c, m, ARENA_PARAM);
    cr_expect(s.scheduler.clip_sample);
    c = config_of("between=a,b sampler=euler");
    s = recipe_generator(&c, m, ARENA_PARAM);
    cr_expect_eq(s.sampler.kind, SAMPLER_EULER, "it is refused later, not replaced");
}

Test(recipe_sampling, guidance_has_the_last_class_as_null_unless_told_otherwise)
{
    ddpm_config c = config_of("guidance=2.5 guidance_interval=[0.2,5] guidance_rescale=0.7 trajectory=4 count=3");
    generator_spec s = recipe_generator(&c, m, ARENA_PARAM);
    cr_expect(s.guidance.scale == 2.5 && s.guidance.low == 0.2 && s.guidance.high == 5 && s.guidance.rescale == 0.7);
    cr_expect(s.guidance.null_class == 4 && s.watched && s.batch == 3);
    c = config_of("guidance=2.5 null_class=0");
    s = recipe_generator(&c, m, ARENA_PARAM);
    cr_expect(s.guidance.null_class == 0 && s.guidance.low == 0 && s.guidance.high == 1e6);
}

/* ---- effects and notes ---- */

/* What of a configuration reaches the images. */
typedef struct effect {
    ddpm_status status;
    sampler_row rows[400];
    int n, slots;
    double init, signal, noise, quantile, rescale;
    int null_class;
    generator_start start;
    bool masked;
    char labels[40];
} effect;

static effect e1, e2;

static void find_effect(const ddpm_config *c, effect *to)
{
    generator *g;
    generator_spec s = recipe_generator(c, m, ARENA_PARAM);
    *to = (effect){.start = s.start, .masked = s.masked};
    s.sketch = true;
    to->status = generator_create(m, &s, &g, &why);
    if (to->status != DDPM_OK) return;
    const sampler_table *t = generator_table(g);
    cr_assert(t->n <= 400);
    memcpy(to->rows, t->rows, (size_t)t->n * sizeof *t->rows);
    to->n = t->n, to->slots = t->slots;
    to->init = s.start == GENERATOR_FROM_NOISE ? t->init : 0, to->signal = t->signal, to->noise = t->noise;
    if (s.scheduler.thresholding) to->quantile = s.scheduler.dynamic_thresholding_ratio;
    const bool guided = s.guidance.scale != 1;
    to->rescale = guided ? s.guidance.rescale : 0, to->null_class = guided ? s.guidance.null_class : 0;
    if (m->net.unet.num_class_embeds > 0) (void)snprintf(to->labels, sizeof to->labels, "%.30s", c->sample.labels);
    generator_destroy(g);
}

static bool is_noted(const ddpm_config *c, const char *key)
{
    notes remarks = {.text = ""};
    const generator_spec s = recipe_generator(c, m, ARENA_PARAM);
    char whole[80];
    recipe_note_sampling(c, m, &s, &remarks);
    (void)snprintf(whole, sizeof whole, "sample.%s", key);
    const char *at = strstr(remarks.text, whole);
    return at && !strchr("abcdefghijklmnopqrstuvwxyz_", at[strlen(whole)] ? at[strlen(whole)] : ',');
}

static const struct {
    const char *key, *values[MOST], *given; /* given: other options of the command */
} options[] = {
    {"order", {"1", "2", "3"}, ""},
    {"eta", {"0", "0.5"}, ""},
    {"timestep_spacing", {"leading", "trailing", "linspace", "quadratic"}, ""},
    {"sigmas", {"none", "karras", "exponential"}, ""},
    {"final", {"zero", "sigma_min"}, ""},
    {"churn", {"5"}, ""},
    {"churn_min", {"3"}, ""},
    {"churn_max", {"3"}, ""},
    {"churn_noise", {"1.1"}, ""},
    {"churn_min", {"3"}, "churn=5"},
    {"churn_max", {"3"}, "churn=5"},
    {"churn_noise", {"1.1"}, "churn=5"},
    {"variance_type", {"fixed_small", "fixed_large"}, ""},
    {"clip", {"true", "false"}, ""},
    {"clip", {"true", "false"}, "thresholding=true sample_max_value=2"},
    {"thresholding", {"true", "false"}, "sample_max_value=2"},
    {"dynamic_thresholding_ratio", {"0.8"}, ""},
    {"dynamic_thresholding_ratio", {"0.8"}, "thresholding=true"},
    {"sample_max_value", {"2"}, ""},
    {"sample_max_value", {"2"}, "thresholding=true"},
    {"labels", {"1,2"}, ""},
    {"guidance_interval", {"[0.5,3]"}, ""},
    {"guidance_rescale", {"0.5"}, ""},
    {"null_class", {"0"}, ""},
    {"guidance", {"3"}, ""},
    {"guidance_interval", {"[0.5,3]"}, "guidance=3"},
    {"guidance_rescale", {"0.5"}, "guidance=3"},
    {"null_class", {"0"}, "guidance=3"},
    {"strength", {"0.3"}, ""},
    {"strength", {"0.3"}, "from=a.png"},
    {"strength", {"0.3"}, "from=a.png mask=b.png jump_n_sample=1"},
    {"strength", {"0.3"}, "between=a.png,b.png"},
    {"jump_length", {"3"}, ""},
    {"jump_length", {"3"}, "from=a.png mask=b.png"},
    {"jump_length", {"3"}, "from=a.png mask=b.png jump_n_sample=1"},
    {"jump_n_sample", {"3"}, ""},
    {"jump_n_sample", {"3"}, "from=a.png mask=b.png jump_length=3"},
};

/* An effect, a refusal, or a note. */
static void check_option(size_t i, const char *sampler, int counts[3])
{
    char text[300];
    (void)snprintf(text, sizeof text, "num_inference_steps=10 %s %s", sampler, options[i].given);
    ddpm_config c = config_of(text);
    find_effect(&c, &e1);
    if (e1.status != DDPM_OK) return; /* there is nothing to change */
    bool acts = false, noted = true;
    for (int v = 0; v < MOST && options[i].values[v]; v++) {
        (void)snprintf(text, sizeof text, "num_inference_steps=10 %s %s %s=%s", sampler, options[i].given,
                       options[i].key, options[i].values[v]);
        c = config_of(text);
        find_effect(&c, &e2);
        counts[2] += e2.status != DDPM_OK;
        acts |= memcmp(&e1, &e2, sizeof e1) != 0;
        noted &= is_noted(&c, options[i].key);
    }
    counts[acts]++;
    cr_expect_neq(acts, noted, "%s on a %s%s: %s", text, scheduler_class_name(m->scheduler.type),
                  m->net.unet.num_class_embeds ? " with classes" : "",
                  acts ? "has an effect and is noted as one without" : "has no effect, and nobody says so");
}

static int check_all(scheduler_class type, bool classes)
{
    int samplers = 0, counts[3] = {0};
    err ignored;
    use_model(type, classes);
    for (int k = -1; k < SAMPLER_KINDS; k++) { /* -1: auto */
        char name[40] = "";
        if (k >= 0 && sampler_accepts((sampler_kind)k, &m->scheduler, &ignored) != DDPM_OK) continue;
        if (k >= 0) (void)snprintf(name, sizeof name, "sampler=%s", sampler_name((sampler_kind)k));
        for (size_t i = 0; i < sizeof options / sizeof *options; i++) check_option(i, name, counts);
        samplers++;
    }
    cr_expect(counts[0] > 0 && counts[1] > 0, "%d and %d", counts[0], counts[1]);
    return samplers;
}

Test(recipe_sampling, every_option_acts_or_is_refused_or_noted)
{
    cr_expect_geq(check_all(SCHEDULER_CLASS_DDPM, true), 19);
}

Test(recipe_sampling, every_option_acts_or_is_refused_or_noted_without_classes)
{
    cr_expect_geq(check_all(SCHEDULER_CLASS_DDIM, false), 19);
}

Test(recipe_sampling, every_option_acts_or_is_refused_or_noted_on_other_processes)
{
    cr_expect_geq(check_all(SCHEDULER_CLASS_EDM_EULER, false), 4);
    cr_expect_geq(check_all(SCHEDULER_CLASS_FLOW_EULER, false), 2);
    cr_expect_geq(check_all(SCHEDULER_CLASS_CM, false), 2);
}
