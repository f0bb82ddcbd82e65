#include "io/scheduler_keys.h"

#include <math.h>
#include <string.h>

const char *const scheduler_class_names[] = {
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

const char *scheduler_class_name(scheduler_class v) { return scheduler_class_names[v]; }
bool scheduler_class_find(const char *name, scheduler_class *out)
{
    for (int i = 0; scheduler_class_names[i]; i++) {
        if (strcmp(scheduler_class_names[i], name) != 0) continue;
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

const scheduler_key scheduler_keys[] = {
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

const int scheduler_key_count = sizeof scheduler_keys / sizeof *scheduler_keys;

const char *scheduler_key_word(const scheduler_key *k, int value)
{
    return k->words == SPACINGS ? scheduler_spacing_name((scheduler_spacing)value) : k->words[value];
}

bool scheduler_config_has(const scheduler_config *c, const char *name)
{
    for (int i = 0; i < scheduler_key_count; i++)
        if (scheduler_is(c, scheduler_keys[i].classes) && !strcmp(scheduler_keys[i].name, name)) return true;
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
    c.clip_sample = scheduler_is(&c, DDPM | DDIM_FAMILY | CM);
    if (scheduler_is(&c, HEUN | DPM2 | DPM2_A | DISTILLED)) c.beta_start = 0.00085, c.beta_end = 0.012;
    if (scheduler_is(&c, DISTILLED)) c.beta_schedule = SCHEDULER_SCALED_LINEAR;
    if (scheduler_is(&c, K_FAMILY | MULTISTEP)) c.timestep_spacing = SCHEDULER_LINSPACE;
    if (scheduler_is(&c, DPM_SINGLESTEP)) c.timestep_spacing = SCHEDULER_LINSPACE, c.lower_order_final = false;
    if (scheduler_is(&c, PNDM)) c.set_alpha_to_one = false;
    if (scheduler_is(&c, EDM_FAMILY)) c.sigmas = SCHEDULER_SIGMAS_KARRAS;
    if (scheduler_is(&c, DEIS)) c.algorithm_type = SCHEDULER_DEIS, c.solver_type = SCHEDULER_LOGRHO;
    if (scheduler_is(&c, UNIPC)) c.solver_type = SCHEDULER_BH2;
    if (scheduler_is(&c, SA)) c.algorithm_type = SCHEDULER_DATA_PREDICTION;
    if (scheduler_is(&c, CM)) c.num_train_timesteps = 40;
    if (scheduler_is(&c, SDE_FAMILY)) c.num_train_timesteps = 2000;
    if (scheduler_is(&c, SDE_VP)) c.precond = SCHEDULER_PRECOND_VP;
    if (scheduler_is(&c, SDE_VE))
        c.precond = SCHEDULER_PRECOND_VE, c.sigma_min = 0.01, c.sigma_max = 1348.0, c.sampling_eps = 1e-5;
    if (scheduler_is(&c, FLOW_EULER)) c.prediction_type = SCHEDULER_FLOW;
    return c;
}

scheduler_config scheduler_config_default(void) { return scheduler_config_of(SCHEDULER_CLASS_DDPM); }
