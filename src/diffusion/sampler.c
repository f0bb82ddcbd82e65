#include "diffusion/sampler.h"
#include "base/mem.h"
#include "diffusion/sampler_draft.h"

/* ---- the registry ---- */

enum {
    SIGMAS = SAMPLER_READS_SIGMAS,
    FINAL = SAMPLER_READS_FINAL,
    PARITY = SAMPLER_READS_AS_DIFFUSERS,
    GRID = SAMPLER_READS_SPACING | SAMPLER_READS_STEPS_OFFSET, /* timesteps of a spacing */
    K = GRID | SIGMAS,                                         /* k-diffusion's */
    SOLVER = K | SAMPLER_READS_ORDER,
    SINGLE = SOLVER & ~SAMPLER_READS_STEPS_OFFSET
};

#define EVERY(name_, class_, per_, more_, reads_, fill_)                                                               \
    .name = name_, .scheduler = SCHEDULER_CLASS_##class_, .per_step = per_, .more = more_, .reads = reads_,            \
    .fill = fill_
#define ONE(id, name_, class_, min_, per_, more_, reads_, fill_)                                                       \
    [SAMPLER_##id] = {EVERY(name_, class_, per_, more_, reads_, fill_), .min_steps = min_, .can_skip = true}
#define ORDERED(id, name_, class_, order_, max_, algorithm_, reads_, fill_)                                            \
    [SAMPLER_##id] = {EVERY(name_, class_, 1, 0, reads_, fill_),                                                       \
                      .min_steps = 1,                                                                                  \
                      .can_skip = true,                                                                                \
                      .order = order_,                                                                                 \
                      .min_order = 1,                                                                                  \
                      .max_order = max_,                                                                               \
                      .algorithm = SCHEDULER_##algorithm_}

/* clang-format off */
static const sampler_info INFO[SAMPLER_KINDS] = {
    [SAMPLER_DDIM_INVERSE] = {EVERY("ddim_inverse", DDIM_INVERSE, 1, 0, GRID | PARITY, fill_ddim_inverse), .min_steps = 1, .from_images = true},
    [SAMPLER_TCD] = {EVERY("tcd", TCD, 1, 0, SAMPLER_READS_ETA, fill_tcd), .min_steps = 1, .can_skip = true, .eta = 0.3},

    /*  kind        name          class       min  evaluations  reads */
    ONE(DDPM,       "ddpm",       DDPM,       1,   1,  0,   GRID | SAMPLER_READS_VARIANCE,             fill_ddpm),
    ONE(DDIM,       "ddim",       DDIM,       1,   1,  0,   GRID | SAMPLER_READS_ETA | PARITY,         fill_ddim),
    ONE(EULER,      "euler",      EULER,      1,   1,  0,   K | FINAL | SAMPLER_READS_CHURN,           fill_euler),
    ONE(EULER_A,    "euler_a",    EULER_A,    1,   1,  0,   K,                                         fill_euler_ancestral),
    ONE(HEUN,       "heun",       HEUN,       1,   2, -1,   K | SAMPLER_READS_CHURN,                   fill_heun),
    ONE(EDM,        "edm",        EDM_EULER,  1,   2, -1,   SIGMAS | SAMPLER_READS_CHURN,              fill_edm),
    ONE(DPM2,       "dpm2",       DPM2,       1,   2, -1,   K,                                         fill_dpm2),
    ONE(DPM2_A,     "dpm2_a",     DPM2_A,     1,   2, -1,   K,                                         fill_dpm2),
    ONE(LMS,        "lms",        LMS,        1,   1,  0,   K,                                         fill_lms),
    ONE(PNDM,       "pndm",       PNDM,       4,   1,  9,   GRID | PARITY,                             fill_pndm),
    ONE(PLMS,       "plms",       PNDM,       1,   1,  1,   GRID | PARITY,                             fill_pndm),
    ONE(EDM_EULER,  "edm_euler",  EDM_EULER,  1,   1,  0,   SIGMAS | FINAL | SAMPLER_READS_CHURN,      fill_edm_euler),
    ONE(FLOW_EULER, "flow_euler", FLOW_EULER, 1,   1,  0,   SIGMAS,                                    fill_flow_euler),
    ONE(CM,         "cm",         CM,         1,   1,  0,   0,                                         fill_consistency),
    ONE(LCM,        "lcm",        LCM,        1,   1,  0,   0,                                         fill_lcm),

    /*      kind          name            class         order  max  algorithm         reads */
    ORDERED(DEIS,         "deis",         DEIS,           3,   3,   DEIS,             SOLVER,                                 fill_deis),
    ORDERED(DPMPP_2M,     "dpmpp_2m",     DPM_MULTISTEP,  2,   3,   DPMSOLVER_PP,     SOLVER | FINAL | PARITY,                fill_dpm_multistep),
    ORDERED(DPMPP_3M,     "dpmpp_3m",     DPM_MULTISTEP,  3,   3,   DPMSOLVER_PP,     SOLVER | FINAL | PARITY,                fill_dpm_multistep),
    ORDERED(DPMPP_2M_SDE, "dpmpp_2m_sde", DPM_MULTISTEP,  2,   3,   SDE_DPMSOLVER_PP, SOLVER | FINAL | PARITY,                fill_dpm_multistep),
    ORDERED(DPMPP_2S,     "dpmpp_2s",     DPM_SINGLESTEP, 2,   3,   DPMSOLVER_PP,     SINGLE | FINAL,                         fill_dpm_singlestep),
    ORDERED(DPM_3S,       "dpm_3s",       DPM_SINGLESTEP, 3,   3,   DPMSOLVER,        SINGLE | FINAL,                         fill_dpm_singlestep),
    ORDERED(UNIPC,        "unipc",        UNIPC,          3,   4,   DPMSOLVER_PP,     SOLVER | FINAL,                         fill_unipc),
    ORDERED(SA,           "sa",           SA,             2,   4,   DATA_PREDICTION,  SOLVER,                                 fill_sa),
    ORDERED(EDM_DPMPP,    "edm_dpmpp",    EDM_DPM,        2,   3,   DPMSOLVER_PP,     SIGMAS | FINAL | SAMPLER_READS_ORDER | PARITY,   fill_edm_dpm),
};
/* clang-format on */

const sampler_info *sampler_info_of(sampler_kind k) { return &INFO[k]; }
const char *sampler_name(sampler_kind k) { return INFO[k].name; }

int sampler_evaluations(sampler_kind k, int steps)
{
    if (k == SAMPLER_PLMS && steps == 1) return 1;
    return INFO[k].per_step * steps + INFO[k].more;
}

/* Those of diffusers' pipelines, and of Karras et al. 2022 for CIFAR-10. */
int sampler_usual_steps(sampler_kind k, int T)
{
    int steps = 50;
    switch (k) {
    case SAMPLER_DDPM: return T;
    case SAMPLER_EDM: steps = 18; break;
    case SAMPLER_CM: steps = 1; break;
    case SAMPLER_LCM:
    case SAMPLER_TCD: steps = 4; break;
    default: break;
    }
    return steps < T ? steps : T > 1 ? T - 1 : 1; /* the solvers take at most T - 1 */
}

/* ---- specs and configs ---- */

sampler_spec sampler_spec_default(sampler_kind k, int steps)
{
    return (sampler_spec){.kind = k, .steps = steps, .eta = INFO[k].eta, .churn_max = INFINITY, .churn_noise = 1};
}

sampler_spec sampler_spec_of(const scheduler_config *c, int steps)
{
    sampler_spec q = sampler_spec_default(sampler_of_class(c), steps);
    q.as_diffusers = true;
    return q;
}

static sampler_kind dpm_multistep_of(const scheduler_config *c)
{
    const bool sde = c->algorithm_type == SCHEDULER_SDE_DPMSOLVER || c->algorithm_type == SCHEDULER_SDE_DPMSOLVER_PP;
    return sde ? SAMPLER_DPMPP_2M_SDE : c->solver_order == 3 ? SAMPLER_DPMPP_3M : SAMPLER_DPMPP_2M;
}

sampler_kind sampler_of_class(const scheduler_config *c)
{
    switch (c->type) {
    case SCHEDULER_CLASS_PNDM: return c->skip_prk_steps ? SAMPLER_PLMS : SAMPLER_PNDM;
    case SCHEDULER_CLASS_DPM_MULTISTEP: return dpm_multistep_of(c);
    case SCHEDULER_CLASS_DPM_SINGLESTEP: return c->solver_order == 3 ? SAMPLER_DPM_3S : SAMPLER_DPMPP_2S;
    case SCHEDULER_CLASS_SDE_VP:
    case SCHEDULER_CLASS_SDE_VE: /* by EDM's sampler, as Karras et al. do, not by the steps of diffusers' classes */
    case SCHEDULER_CLASS_EDM_EULER: return SAMPLER_EDM_EULER;
    default: break;
    }
    for (int k = 0; k < SAMPLER_KINDS; k++) /* the other classes have one sampler each */
        if (INFO[k].scheduler == c->type) return (sampler_kind)k;
    return SAMPLER_DDPM;
}

static bool has_flow_sigmas(scheduler_class type)
{
    return type == SCHEDULER_CLASS_DEIS || type == SCHEDULER_CLASS_DPM_MULTISTEP ||
           type == SCHEDULER_CLASS_DPM_SINGLESTEP || type == SCHEDULER_CLASS_UNIPC || type == SCHEDULER_CLASS_SA;
}

/* What the network was trained for, and what the images are. */
static void copy_process(scheduler_config *c, const scheduler_config *from)
{
    c->num_train_timesteps = from->num_train_timesteps;
    c->beta_start = from->beta_start, c->beta_end = from->beta_end;
    c->beta_schedule = from->beta_schedule;
    c->n_trained_betas = from->n_trained_betas;
    for (int i = 0; i < from->n_trained_betas; i++) c->trained_betas[i] = from->trained_betas[i];
    c->rescale_betas_zero_snr = from->rescale_betas_zero_snr;
    c->prediction_type = from->prediction_type;
    c->variance_type = from->variance_type;
    c->clip_sample = from->clip_sample, c->clip_sample_range = from->clip_sample_range;
    c->thresholding = from->thresholding;
    c->dynamic_thresholding_ratio = from->dynamic_thresholding_ratio;
    c->sample_max_value = from->sample_max_value;
    c->sigma_min = from->sigma_min, c->sigma_max = from->sigma_max, c->sigma_data = from->sigma_data;
    c->rho = from->rho;
    c->precond = from->precond;
    c->beta_min = from->beta_min, c->beta_max = from->beta_max;
    c->epsilon_t = from->epsilon_t, c->sampling_eps = from->sampling_eps;
    if (from->precond != SCHEDULER_PRECOND_EDM) c->sigmas = from->sigmas;
    c->use_flow_sigmas = process_of(from) == PROCESS_FLOW && has_flow_sigmas(c->type);
    c->flow_shift = from->flow_shift;
}

void sampler_set_order(sampler_kind k, scheduler_config *c, int order)
{
    if (INFO[k].scheduler == SCHEDULER_CLASS_SA)
        c->predictor_order = c->corrector_order = order;
    else
        c->solver_order = order;
}

static void apply_name(sampler_kind k, scheduler_config *c)
{
    const sampler_info *info = &INFO[k];
    if (info->order) sampler_set_order(k, c, info->order);
    if (info->order && k != SAMPLER_UNIPC) c->algorithm_type = info->algorithm;
    if (k == SAMPLER_DPM_3S) c->final_sigmas_type = SCHEDULER_FINAL_SIGMA_MIN; /* eps is of no use at sigma zero */
    if (k == SAMPLER_PNDM || k == SAMPLER_PLMS) c->skip_prk_steps = k == SAMPLER_PLMS;
}

scheduler_config sampler_config(sampler_kind k, const scheduler_config *of_folder)
{
    scheduler_config c = *of_folder;
    if (of_folder->type == INFO[k].scheduler) {
        if (sampler_of_class(of_folder) != k) apply_name(k, &c);
        return c;
    }
    c = scheduler_config_of(INFO[k].scheduler);
    copy_process(&c, of_folder);
    apply_name(k, &c);
    return c;
}

ddpm_status sampler_accepts(sampler_kind k, const scheduler_config *of_folder, err *e)
{
    static const char *const names[] = {
        "a diffusion process with betas", "the VP process", "the VE process", "EDM", "a consistency model", "a flow"};
    const scheduler_config c = sampler_config(k, of_folder);
    const diffusion_process of = process_of(of_folder), wanted = process_of(&c);
    if (of == wanted) return DDPM_OK;
    return err_set(e, DDPM_EINVAL, "%s samples %s, but the model's %s says %s", INFO[k].name, names[wanted],
                   scheduler_class_name(of_folder->type), names[of]);
}

/* ---- tables ---- */

static sampler_row rounded(const draft_row *r, const level *after)
{
    sampler_row row = {.t = (float)r->t,
                       .c_skip = (float)r->c_skip,
                       .c_out = (float)r->c_out,
                       .clip = (float)r->clip,
                       .a = (float)r->a,
                       .b = (float)r->b,
                       .e = (float)r->e,
                       .s = (float)r->s,
                       .p = (float)r->p,
                       .q = (float)r->q,
                       .v = (float)r->v,
                       .slot = r->slot,
                       .guidance = 1,
                       .signal = (float)after->al,
                       .noise = (float)after->sg};
    for (int j = 0; j < SAMPLER_SLOTS; j++) row.w[j] = (float)r->w[j];
    return row;
}

ddpm_status sampler_create(const schedule *s, const sampler_spec *spec, sampler_table **out, err *e)
{
    sampler_draft d = {0};
    sampler_table *table = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY_GOTO(draft_create(&d, s, spec, e));
    TRY_GOTO(mem_array(&table, 1, sizeof *table, "sampler", e));
    TRY_GOTO(mem_array(&table->rows, (size_t)d.n_rows, sizeof *table->rows, "sampler", e));
    for (int i = 0; i < d.n_rows; i++) {
        const bool last = i + 1 == d.n_rows;
        const level after = {.al = last ? d.end.al : d.rows[i + 1].al, .sg = last ? d.end.sg : d.rows[i + 1].sg};
        table->rows[i] = rounded(&d.rows[i], &after);
    }
    table->n = d.n_rows;
    table->slots = d.slots;
    table->init = d.init;
    table->signal = d.rows[0].al, table->noise = d.rows[0].sg;
    *out = table;
    table = NULL;
done:
    draft_destroy(&d);
    sampler_destroy(table);
    return st;
}

void sampler_destroy(sampler_table *t)
{
    if (!t) return;
    mem_free(t->rows);
    mem_free(t);
}
