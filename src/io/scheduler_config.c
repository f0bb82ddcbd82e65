#include "io/scheduler_config.h"
#include "base/mem.h"
#include "base/file.h"
#include "io/json_in.h"
#include "io/json_out.h"
#include "io/unet_config.h"

#include <math.h>
#include <string.h>

static const char *const CLASSES[] = {
#define CLASS(id, name) name,
#include "io/scheduler_classes.def"
    "GaussianDDPMScheduler", /* the old name of DDPMScheduler */
    NULL};
static const char *const SCHEDULES[] = {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", NULL};
static const char *const VARIANCES[] = {"fixed_small", "fixed_large", "learned", "learned_range", NULL};
static const char *const PREDICTIONS[] = {"epsilon", "sample", "v_prediction", "mu", "flow_prediction", NULL};
static const char *const SPACINGS[] = {"leading", "linspace", "trailing", NULL};
static const char *const OWN_SPACINGS[] = {"quadratic", "logsnr"};
static const char *const SIGMAS[] = {"none", "karras", "exponential", "beta", "lu", NULL};
static const char *const FINALS[] = {"zero", "sigma_min", NULL};
static const char *const ALGORITHMS[] = {"dpmsolver++", "dpmsolver",       "sde-dpmsolver++",  "sde-dpmsolver",
                                         "deis",        "data_prediction", "noise_prediction", NULL};
static const char *const SOLVERS[] = {"midpoint", "heun", "bh2", "bh1", "logrho", NULL};

const char *scheduler_class_name(scheduler_class v) { return CLASSES[v]; }
bool scheduler_class_find(const char *name, scheduler_class *out)
{
    for (int i = 0; CLASSES[i]; i++) {
        if (strcmp(CLASSES[i], name) != 0) continue;
        *out = i < SCHEDULER_CLASSES ? (scheduler_class)i : SCHEDULER_CLASS_DDPM;
        return true;
    }
    return false;
}
const char *scheduler_betas_name(scheduler_betas v) { return SCHEDULES[v]; }
const char *scheduler_variance_name(scheduler_variance v) { return VARIANCES[v]; }
const char *scheduler_prediction_name(scheduler_prediction v) { return PREDICTIONS[v]; }
const char *scheduler_spacing_name(scheduler_spacing v)
{
    return v < SCHEDULER_QUADRATIC ? SPACINGS[v] : OWN_SPACINGS[v - SCHEDULER_QUADRATIC];
}
const char *scheduler_sigmas_name(scheduler_sigmas v) { return SIGMAS[v]; }

/* ---- which class has which key ------------------------------------------------------------------ */

/* clang-format off */
enum {
#define CLASS(id, name) id = 1 << SCHEDULER_CLASS_##id,
#include "io/scheduler_classes.def"
    K_FAMILY = EULER | EULER_A | HEUN | DPM2 | DPM2_A | LMS, /* those of k-diffusion */
    SOLVERS_OF_DPM = DPM_MULTISTEP | DPM_SINGLESTEP,
    EDM_FAMILY = EDM_EULER | EDM_DPM,
    SDE_FAMILY = SDE_VP | SDE_VE,
    DISTILLED = LCM | TCD,
    DDIM_FAMILY = DDIM | DDIM_INVERSE,
    MULTISTEP = DEIS | DPM_MULTISTEP | UNIPC | SA,
    SOLVER = MULTISTEP | DPM_SINGLESTEP,
    WITH_BETAS = DDPM | DDIM_FAMILY | K_FAMILY | PNDM | SOLVER | DISTILLED,
    WITH_SIGMAS = EULER | HEUN | DPM2 | DPM2_A | LMS | SOLVER | FLOW_EULER,
    ALL = ~0
};

typedef enum key_type {
    KEY_INT, KEY_REAL, KEY_BOOL, KEY_WORD,
    KEY_BETAS,                      /* trained_betas: null or T numbers */
    KEY_SIGMAS,                     /* use_..._sigmas: `value` is the constant of true */
    KEY_INFINITE,                   /* a number, or -Infinity */
    KEY_STEPS,                      /* a list of step numbers, kept as bits */
    KEY_OWN,                        /* a key that diffusers does not know: the word `fixed`, which must be there */
    KEY_NULL, KEY_FALSE, KEY_FIXED, /* nothing else is supported; KEY_FIXED: the word `words`, or the number `value` */
} key_type;

typedef struct key {
    const char *name;
    unsigned classes;
    key_type type;
    size_t offset;
    double min, max;
    const char *const *words; /* of KEY_WORD; NULL ends the list */
    const char *fixed;        /* of KEY_FIXED, or NULL: the number `value` */
    double value;
} key;

#define AT(field)                       offsetof(scheduler_config, field)
#define INT(name, cs, field, lo, hi)    {#name, cs, KEY_INT, AT(field), lo, hi, NULL, NULL, 0}
#define REAL(name, cs, field, lo, hi)   {#name, cs, KEY_REAL, AT(field), lo, hi, NULL, NULL, 0}
#define BOOL(name, cs, field)           {#name, cs, KEY_BOOL, AT(field), 0, 0, NULL, NULL, 0}
#define WORD(name, cs, field, list)     {#name, cs, KEY_WORD, AT(field), 0, 0, list, NULL, 0}
#define SIGMA(name, cs, constant)       {#name, cs, KEY_SIGMAS, AT(sigmas), 0, 0, NULL, NULL, constant}
#define NONE(name, cs)                  {#name, cs, KEY_NULL, 0, 0, 0, NULL, NULL, 0}
#define OFF(name, cs)                   {#name, cs, KEY_FALSE, 0, 0, 0, NULL, NULL, 0}
#define ONLY(name, cs, word)            {#name, cs, KEY_FIXED, 0, 0, 0, NULL, word, 0}
#define OWN(name, cs, word)             {#name, cs, KEY_OWN, 0, 0, 0, NULL, word, 0}
#define NUMBER(name, cs, number)        {#name, cs, KEY_FIXED, 0, 0, 0, NULL, NULL, number}
#define OTHER(name, cs, type, field)    {#name, cs, type, AT(field), 0, 0, NULL, NULL, 0}

/* In alphabetical order, as diffusers writes them. */
static const key KEYS[] = {
    WORD(algorithm_type, DEIS | SOLVERS_OF_DPM | EDM_DPM | SA, algorithm_type, ALGORITHMS),
    NUMBER(base_image_seq_len, FLOW_EULER, 256),
    NUMBER(base_shift, FLOW_EULER, 0.5),
    REAL(beta_end, WITH_BETAS, beta_end, 0, 0.9999),
    REAL(beta_max, SDE_VP, beta_max, 1e-9, 1e3),
    REAL(beta_min, SDE_VP, beta_min, 1e-9, 1e3),
    WORD(beta_schedule, WITH_BETAS, beta_schedule, SCHEDULES),
    REAL(beta_start, WITH_BETAS, beta_start, 0, 0.9999),
    BOOL(clip_denoised, CM, clip_sample),
    BOOL(clip_sample, DDPM | DDIM_FAMILY | HEUN | DISTILLED, clip_sample),
    REAL(clip_sample_range, DDPM | DDIM_FAMILY | HEUN | DISTILLED, clip_sample_range, 1e-6, 1e6),
    NUMBER(correct_steps, SDE_VE, 1),
    INT(corrector_order, SA, corrector_order, 0, 4),
    OTHER(disable_corrector, UNIPC, KEY_STEPS, disable_corrector),
    REAL(dynamic_thresholding_ratio, DDPM | DDIM | SOLVER | EDM_DPM | DISTILLED, dynamic_thresholding_ratio, 0, 1),
    REAL(epsilon_t, SDE_VP, epsilon_t, 1e-9, 0.5),
    BOOL(euler_at_final, DPM_MULTISTEP | EDM_DPM, euler_at_final),
    WORD(final_sigmas_type, EULER | SOLVERS_OF_DPM | UNIPC | EDM_FAMILY, final_sigmas_type, FINALS),
    REAL(flow_shift, SOLVER, flow_shift, 1e-3, 1e3),
    ONLY(interpolation_type, EULER, "linear"),
    OFF(invert_sigmas, FLOW_EULER),
    OTHER(lambda_min_clipped, SOLVERS_OF_DPM | SA, KEY_INFINITE, lambda_min_clipped),
    BOOL(lower_order_final, SOLVER | EDM_DPM, lower_order_final),
    NUMBER(max_image_seq_len, FLOW_EULER, 4096),
    NUMBER(max_shift, FLOW_EULER, 1.15),
    INT(num_train_timesteps, ALL, num_train_timesteps, 1, SCHEDULER_MAX_TIMESTEPS),
    INT(original_inference_steps, DISTILLED, original_inference_steps, 1, SCHEDULER_MAX_TIMESTEPS),
    OWN(preconditioning, SDE_VE, "ve"),
    OWN(preconditioning, SDE_VP, "vp"),
    BOOL(predict_x0, UNIPC, predict_x0),
    WORD(prediction_type, WITH_BETAS | EDM_FAMILY, prediction_type, PREDICTIONS),
    INT(predictor_order, SA, predictor_order, 1, 4),
    BOOL(rescale_betas_zero_snr, DDPM | DDIM_FAMILY | EULER | EULER_A | DPM_MULTISTEP | UNIPC | DISTILLED,
         rescale_betas_zero_snr),
    REAL(rho, EDM_FAMILY | CM, rho, 0.1, 100),
    REAL(s_noise, CM, s_noise, 0, 100),
    REAL(sample_max_value, DDPM | DDIM | SOLVER | EDM_DPM | DISTILLED, sample_max_value, 1e-6, 1e6),
    REAL(sampling_eps, SDE_FAMILY, sampling_eps, 1e-9, 0.5),
    BOOL(set_alpha_to_one, DDIM_FAMILY | PNDM | DISTILLED, set_alpha_to_one),
    REAL(shift, FLOW_EULER, flow_shift, 1e-3, 1e3),
    NONE(shift_terminal, FLOW_EULER | UNIPC),
    REAL(sigma_data, EDM_FAMILY | CM, sigma_data, 1e-6, 1e6),
    REAL(sigma_max, EDM_FAMILY | CM | SDE_VE, sigma_max, 1e-6, 1e6),
    NONE(sigma_max, EULER | UNIPC),
    REAL(sigma_min, EDM_FAMILY | CM | SDE_VE, sigma_min, 1e-9, 1e6),
    NONE(sigma_min, EULER | UNIPC),
    WORD(sigma_schedule, EDM_FAMILY, sigmas, SIGMAS),
    BOOL(skip_prk_steps, PNDM, skip_prk_steps),
    NUMBER(snr, SDE_VE, 0.15),
    INT(solver_order, DEIS | SOLVERS_OF_DPM | UNIPC | EDM_DPM, solver_order, 1, 4),
    NONE(solver_p, UNIPC),
    WORD(solver_type, DEIS | SOLVERS_OF_DPM | UNIPC | EDM_DPM, solver_type, SOLVERS),
    INT(steps_offset, DDPM | DDIM_FAMILY | K_FAMILY | PNDM | MULTISTEP | DISTILLED, steps_offset, 0,
        SCHEDULER_MAX_TIMESTEPS),
    BOOL(stochastic_sampling, FLOW_EULER, stochastic_sampling),
    NONE(tau_func, SA),
    BOOL(thresholding, DDPM | DDIM | SOLVER | EDM_DPM | DISTILLED, thresholding),
    ONLY(time_shift_type, DEIS | SOLVERS_OF_DPM | UNIPC | FLOW_EULER, "exponential"),
    REAL(timestep_scaling, DISTILLED, timestep_scaling, 1e-6, 1e6),
    WORD(timestep_spacing, DDPM | DDIM_FAMILY | K_FAMILY | PNDM | MULTISTEP | DISTILLED, timestep_spacing, SPACINGS),
    ONLY(timestep_type, EULER, "discrete"),
    OTHER(trained_betas, WITH_BETAS, KEY_BETAS, trained_betas),
    SIGMA(use_beta_sigmas, WITH_SIGMAS, SCHEDULER_SIGMAS_BETA),
    OFF(use_dynamic_shifting, DEIS | SOLVERS_OF_DPM | UNIPC | FLOW_EULER),
    SIGMA(use_exponential_sigmas, WITH_SIGMAS, SCHEDULER_SIGMAS_EXPONENTIAL),
    BOOL(use_flow_sigmas, SOLVER, use_flow_sigmas),
    SIGMA(use_karras_sigmas, WITH_SIGMAS, SCHEDULER_SIGMAS_KARRAS),
    SIGMA(use_lu_lambdas, DPM_MULTISTEP, SCHEDULER_SIGMAS_LU),
    WORD(variance_type, DDPM, variance_type, VARIANCES),
    NONE(variance_type, SOLVERS_OF_DPM | SA),
};
/* clang-format on */
enum { N_KEYS = sizeof KEYS / sizeof *KEYS };

static bool has(const scheduler_config *c, unsigned classes) { return classes >> c->type & 1; }

/* The class that names the process of a network sampled by one of EDM's. */
static unsigned process_class(const scheduler_config *c)
{
    return c->precond == SCHEDULER_PRECOND_VP ? SDE_VP : c->precond == SCHEDULER_PRECOND_VE ? SDE_VE : 0;
}

bool scheduler_config_has(const scheduler_config *c, const char *name)
{
    for (int i = 0; i < N_KEYS; i++)
        if (has(c, KEYS[i].classes) && !strcmp(KEYS[i].name, name)) return true;
    return false;
}

/* ---- defaults ----------------------------------------------------------------------------------- */

static scheduler_config common_defaults(scheduler_class type)
{
    return (scheduler_config){.type = type,
                              .num_train_timesteps = 1000,
                              .beta_start = 0.0001,
                              .beta_end = 0.02,
                              .clip_sample_range = 1.0,
                              .dynamic_thresholding_ratio = 0.995,
                              .sample_max_value = 1.0,
                              .set_alpha_to_one = true,
                              .solver_order = 2,
                              .predictor_order = 2,
                              .corrector_order = 2,
                              .lower_order_final = true,
                              .lambda_min_clipped = -INFINITY,
                              .predict_x0 = true,
                              .flow_shift = 1.0,
                              .sigma_min = 0.002,
                              .sigma_max = 80.0,
                              .sigma_data = 0.5,
                              .rho = 7.0,
                              .beta_min = 0.1,
                              .beta_max = 20.0,
                              .epsilon_t = 1e-5,
                              .sampling_eps = 1e-3,
                              .s_noise = 1.0,
                              .original_inference_steps = 50,
                              .timestep_scaling = 10.0};
}

scheduler_config scheduler_config_of(scheduler_class type)
{
    scheduler_config c = common_defaults(type);
    c.clip_sample = has(&c, DDPM | DDIM_FAMILY | CM);
    if (has(&c, HEUN | DPM2 | DPM2_A | DISTILLED)) c.beta_start = 0.00085, c.beta_end = 0.012;
    if (has(&c, DISTILLED)) c.beta_schedule = SCHEDULER_SCALED_LINEAR;
    if (has(&c, K_FAMILY | MULTISTEP)) c.timestep_spacing = SCHEDULER_LINSPACE;
    if (has(&c, DPM_SINGLESTEP)) c.timestep_spacing = SCHEDULER_LINSPACE, c.lower_order_final = false;
    if (has(&c, PNDM)) c.set_alpha_to_one = false;
    if (has(&c, EDM_FAMILY)) c.sigmas = SCHEDULER_SIGMAS_KARRAS;
    if (has(&c, DEIS)) c.algorithm_type = SCHEDULER_DEIS, c.solver_type = SCHEDULER_LOGRHO;
    if (has(&c, UNIPC)) c.solver_type = SCHEDULER_BH2;
    if (has(&c, SA)) c.algorithm_type = SCHEDULER_DATA_PREDICTION;
    if (has(&c, CM)) c.num_train_timesteps = 40;
    if (has(&c, SDE_FAMILY)) c.num_train_timesteps = 2000;
    if (has(&c, SDE_VP)) c.precond = SCHEDULER_PRECOND_VP;
    if (has(&c, SDE_VE))
        c.precond = SCHEDULER_PRECOND_VE, c.sigma_min = 0.01, c.sigma_max = 1348.0, c.sampling_eps = 1e-5;
    if (has(&c, FLOW_EULER)) c.prediction_type = SCHEDULER_FLOW;
    return c;
}

scheduler_config scheduler_config_default(void) { return scheduler_config_of(SCHEDULER_CLASS_DDPM); }

/* ---- reading ------------------------------------------------------------------------------------ */

static int count_words(const char *const *words)
{
    int n = 0;
    while (words[n]) n++;
    return n;
}

/* The key, or if it is absent its name in diffusers' first releases. */
static const char *present(json_in *j, const char *name)
{
    static const char *const first[][2] = {{"num_train_timesteps", "timesteps"},
                                           {"clip_sample", "clip_predicted_image"}};
    for (int i = 0; i < 2; i++)
        if (!strcmp(name, first[i][0]) && !json_in_get(j, name) && json_in_get(j, first[i][1])) return first[i][1];
    return name;
}

static void read_betas(json_in *j, const key *k, scheduler_config *c)
{
    const json_t *list = json_in_get(j, k->name);
    if (!list || json_is_null(list)) return;
    const size_t n = json_array_size(list);
    if (n < 1 || n > SCHEDULER_MAX_TRAINED || n != (size_t)c->num_train_timesteps) {
        json_in_fail(j, "trained_betas must be null or a list of num_train_timesteps = %d numbers, at most %d",
                     c->num_train_timesteps, SCHEDULER_MAX_TRAINED);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const double beta = json_is_number(v) ? json_number_value(v) : -1;
        if (!(beta > 0 && beta < 1)) {
            json_in_fail(j, "trained_betas: number %zu is not in (0, 1)", i + 1);
            return;
        }
        c->trained_betas[i] = beta;
    }
    c->n_trained_betas = (int)n;
}

static void read_steps(json_in *j, const key *k, uint64_t *bits)
{
    const json_t *list = json_in_get(j, k->name);
    if (!list) return;
    if (!json_is_array(list)) json_in_fail(j, "%s must be a list of step numbers", k->name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        const json_int_t step = json_is_integer(v) ? json_integer_value(v) : -1;
        if (step < 0 || step > 63) {
            json_in_fail(j, "%s: number %zu is not in [0, 63]", k->name, i + 1);
            return;
        }
        *bits |= UINT64_C(1) << step;
    }
}

static void read_fixed(json_in *j, const key *k)
{
    const json_t *v = json_in_get(j, k->name);
    const bool word = v && json_is_string(v) && k->fixed && !strcmp(json_string_value(v), k->fixed);
    const bool number = v && json_is_number(v) && !k->fixed && json_number_value(v) == k->value;
    if (!v || word || number) return;
    if (k->fixed)
        json_in_fail(j, "%s is not supported unless it is \"%s\"", k->name, k->fixed);
    else
        json_in_fail(j, "%s is not supported unless it is %g", k->name, k->value);
}

static void read_own(json_in *j, const key *k, const scheduler_config *c)
{
    const json_t *v = json_in_get(j, k->name);
    if (v && json_is_string(v) && !strcmp(json_string_value(v), k->fixed)) return;
    json_in_fail(j, "%s is supported as this program writes it alone, with %s \"%s\"", CLASSES[c->type], k->name,
                 k->fixed);
}

static void read_key(json_in *j, const key *k, scheduler_config *c)
{
    void *at = (char *)c + k->offset;
    const char *name = present(j, k->name);
    switch (k->type) {
    case KEY_INT: *(int *)at = json_in_int(j, name, *(int *)at, (int)k->min, (int)k->max); return;
    case KEY_REAL: *(double *)at = json_in_real(j, name, *(double *)at, k->min, k->max); return;
    case KEY_BOOL: *(bool *)at = json_in_bool(j, name, *(bool *)at); return;
    case KEY_WORD: *(int *)at = json_in_choice(j, name, *(int *)at, k->words, count_words(k->words)); return;
    case KEY_BETAS: read_betas(j, k, c); return;
    case KEY_SIGMAS:
        if (!json_in_bool(j, name, false)) return;
        if (c->sigmas) json_in_fail(j, "%s and use_%s_sigmas are both true", name, SIGMAS[c->sigmas]);
        c->sigmas = (scheduler_sigmas)k->value;
        return;
    case KEY_INFINITE:
        if (!json_in_null(j, name)) *(double *)at = json_in_real(j, name, -INFINITY, -1e6, 1e6);
        return;
    case KEY_STEPS: read_steps(j, k, at); return;
    case KEY_NULL:
        if (!json_in_null(j, name)) json_in_fail(j, "%s is not supported; it must be null", name);
        return;
    case KEY_FALSE:
        if (json_in_bool(j, name, false)) json_in_fail(j, "%s is not supported; it must be false", name);
        return;
    case KEY_FIXED: read_fixed(j, k); return;
    case KEY_OWN: read_own(j, k, c); return;
    }
}

/* Keys that other classes have, in files that were written by a scheduler made from_config() of another class: without
 * effect, as in diffusers.  DDPM's class refuses set_alpha_to_one = false, which would change its last step. */
static void read_foreign(json_in *j, const scheduler_config *c)
{
    if (has(c, DDPM) && !json_in_bool(j, "set_alpha_to_one", true))
        json_in_fail(j, "set_alpha_to_one = false is not supported by %s; it must be true", CLASSES[c->type]);
    for (int i = 0; i < N_KEYS; i++)
        if (!has(c, KEYS[i].classes)) (void)json_in_get(j, KEYS[i].name);
}

static void check_values(json_in *j, const scheduler_config *c)
{
    if (c->n_trained_betas == 0 && (c->beta_start <= 0.0 || c->beta_end < c->beta_start))
        json_in_fail(j, "beta_start = %g and beta_end = %g: must satisfy 0 < beta_start <= beta_end < 1", c->beta_start,
                     c->beta_end);
    if (has(c, EDM_FAMILY | CM | SDE_VE) && c->sigma_min >= c->sigma_max)
        json_in_fail(j, "sigma_min = %g is not below sigma_max = %g", c->sigma_min, c->sigma_max);
    const bool of_betas = has(c, WITH_BETAS) && !c->use_flow_sigmas, edm = has(c, EDM_FAMILY);
    const scheduler_prediction predicts = c->prediction_type;
    if (edm && predicts != SCHEDULER_EPSILON && predicts != SCHEDULER_V_PREDICTION)
        json_in_fail(j, "prediction_type = \"%s\": %s needs epsilon or v_prediction", PREDICTIONS[predicts],
                     CLASSES[c->type]);
    if (of_betas && predicts == SCHEDULER_FLOW)
        json_in_fail(j, "prediction_type = \"flow_prediction\" needs use_flow_sigmas = true, or another class than %s",
                     CLASSES[c->type]);
    if (has(c, SDE_VP) && c->beta_max < c->beta_min)
        json_in_fail(j, "beta_min = %g is above beta_max = %g", c->beta_min, c->beta_max);
    if (c->steps_offset >= c->num_train_timesteps)
        json_in_fail(j, "steps_offset = %d is not below num_train_timesteps = %d", c->steps_offset,
                     c->num_train_timesteps);
}

static ddpm_status read_all(json_in *j, const scheduler_class *as, scheduler_config *c, notes *n)
{
    const int type = as ? (int)*as : json_in_choice(j, "_class_name", 0, CLASSES, count_words(CLASSES));
    *c = scheduler_config_of(type < SCHEDULER_CLASSES ? (scheduler_class)type : SCHEDULER_CLASS_DDPM);
    const bool epsilon = json_in_bool(j, "predict_epsilon", true);
    if (!epsilon) c->prediction_type = SCHEDULER_SAMPLE;
    for (int i = 0; i < N_KEYS; i++) /* the betas need T */
        if (has(c, KEYS[i].classes)) read_key(j, &KEYS[i], c);
    read_foreign(j, c);
    check_values(j, c);
    return json_in_close(j, n);
}

/* Python writes -Infinity, which JSON does not have: null, of the same length. */
static void replace_infinities(char *text)
{
    static const char word[] = "-Infinity", null[] = "null     ";
    for (char *at = strstr(text, word); at; at = strstr(at, word)) memcpy(at, null, strlen(null));
}

static ddpm_status parse(const char *text, size_t size, const char *where, const scheduler_class *as,
                         scheduler_config *c, notes *n, err *e)
{
    char *copy;
    TRY(mem_array(&copy, size + 1, 1, "scheduler config", e));
    memcpy(copy, text, size);
    copy[size] = '\0';
    replace_infinities(copy);
    json_in j = json_in_text(copy, size, where, e);
    mem_free(copy);
    return read_all(&j, as, c, n);
}

ddpm_status scheduler_config_parse(const char *text, size_t size, const char *where, scheduler_config *c, notes *n,
                                   err *e)
{
    return parse(text, size, where, NULL, c, n, e);
}

ddpm_status scheduler_config_read(const char *path, const scheduler_class *as, scheduler_config *c, notes *n, err *e)
{
    char *text;
    size_t size;
    TRY(file_read(path, JSON_IN_MAX_BYTES, &text, &size, e));
    const ddpm_status st = parse(text, size, path, as, c, n, e);
    mem_free(text);
    return st;
}

/* ---- writing ------------------------------------------------------------------------------------ */

static void write_betas(json_out *j, const key *k, const scheduler_config *c)
{
    if (c->n_trained_betas == 0) {
        json_out_text(j, k->name, NULL);
        return;
    }
    json_out_open(j, k->name, '[');
    for (int i = 0; i < c->n_trained_betas; i++) json_out_real(j, NULL, c->trained_betas[i]);
    json_out_close(j, ']');
}

static void write_steps(json_out *j, const key *k, uint64_t bits)
{
    json_out_open(j, k->name, '[');
    for (int i = 0; i < 64; i++)
        if (bits >> i & 1) json_out_int(j, NULL, i);
    json_out_close(j, ']');
}

static void write_number(json_out *j, const char *name, double v)
{
    if (v == rint(v))
        json_out_int(j, name, (int64_t)v);
    else
        json_out_real(j, name, v);
}

static const char *word_of(const key *k, int v)
{
    return k->words == SPACINGS ? scheduler_spacing_name((scheduler_spacing)v) : k->words[v];
}

static void write_key(json_out *j, const key *k, const scheduler_config *c)
{
    const void *at = (const char *)c + k->offset;
    switch (k->type) {
    case KEY_INT: json_out_int(j, k->name, *(const int *)at); return;
    case KEY_REAL: json_out_real(j, k->name, *(const double *)at); return;
    case KEY_BOOL: json_out_bool(j, k->name, *(const bool *)at); return;
    case KEY_WORD: json_out_text(j, k->name, word_of(k, *(const int *)at)); return;
    case KEY_BETAS: write_betas(j, k, c); return;
    case KEY_SIGMAS: json_out_bool(j, k->name, c->sigmas == (scheduler_sigmas)k->value); return;
    case KEY_INFINITE: json_out_real_or_infinity(j, k->name, *(const double *)at); return;
    case KEY_STEPS: write_steps(j, k, *(const uint64_t *)at); return;
    case KEY_NULL: json_out_text(j, k->name, NULL); return;
    case KEY_FALSE: json_out_bool(j, k->name, false); return;
    case KEY_OWN:
    case KEY_FIXED: k->fixed ? json_out_text(j, k->name, k->fixed) : write_number(j, k->name, k->value); return;
    }
}

void scheduler_config_put(json_out *o, const scheduler_config *c)
{
    json_out_text(o, "scheduler", CLASSES[c->type]);
    for (int i = 0; i < N_KEYS; i++) {
        if (!has(c, KEYS[i].classes) && !(process_class(c) & KEYS[i].classes)) continue;
        if (KEYS[i].type == KEY_INFINITE && isinf(c->lambda_min_clipped))
            json_out_text(o, KEYS[i].name, NULL);
        else
            write_key(o, &KEYS[i], c);
    }
}

ddpm_status scheduler_config_write(const scheduler_config *c, const char *path, err *e)
{
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    json_out_text(&j, "_class_name", CLASSES[c->type]);
    json_out_text(&j, "_diffusers_version", DIFFUSERS_VERSION);
    for (int i = 0; i < N_KEYS; i++)
        if (has(c, KEYS[i].classes)) write_key(&j, &KEYS[i], c);
    json_out_close(&j, '}');
    return json_out_finish_file(&j, path);
}
