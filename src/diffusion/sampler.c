#include "diffusion/sampler.h"
#include "base/mem.h"
#include "diffusion/sampler_draft.h"

/* ---- the registry ---- */

enum {
    GRID = SAMPLER_READS_SPACING | SAMPLER_READS_STEPS_OFFSET, /* timesteps of a spacing */
    K = GRID | SAMPLER_READS_SIGMAS,
    DPM = K | SAMPLER_READS_ORDER
};

/* clang-format off */
static const sampler_info INFO[SAMPLER_KINDS] = {
    [SAMPLER_DDPM] = {"ddpm", SCHEDULER_CLASS_DDPM, .reads = GRID | SAMPLER_READS_VARIANCE, .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_ddpm},
    [SAMPLER_DDIM] = {"ddim", SCHEDULER_CLASS_DDIM, .reads = GRID | SAMPLER_READS_ETA, .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_ddim},
    [SAMPLER_DDIM_INVERSE] = {"ddim_inverse", SCHEDULER_CLASS_DDIM_INVERSE, .reads = GRID, .min_steps = 1, .per_step = 1, .fill = fill_ddim_inverse},
    [SAMPLER_EULER] = {"euler", SCHEDULER_CLASS_EULER, .reads = K | SAMPLER_READS_CHURN | SAMPLER_READS_FINAL,
                       .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_euler},
    [SAMPLER_EULER_A] = {"euler_a", SCHEDULER_CLASS_EULER_A, .reads = K, .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_euler_ancestral},
    [SAMPLER_HEUN] = {"heun", SCHEDULER_CLASS_HEUN, .reads = K | SAMPLER_READS_CHURN, .per_step = 2, .more = -1,
                      .min_steps = 1, .can_skip = true, .fill = fill_heun},
    [SAMPLER_EDM] = {"edm", SCHEDULER_CLASS_EDM_EULER, .reads = SAMPLER_READS_SIGMAS | SAMPLER_READS_CHURN,
                     .per_step = 2, .more = -1, .min_steps = 1, .can_skip = true, .fill = fill_edm},
    [SAMPLER_DPM2] = {"dpm2", SCHEDULER_CLASS_DPM2, .reads = K, .per_step = 2, .more = -1, .min_steps = 1, .can_skip = true, .fill = fill_dpm2},
    [SAMPLER_DPM2_A] = {"dpm2_a", SCHEDULER_CLASS_DPM2_A, .reads = K, .per_step = 2, .more = -1, .min_steps = 1, .can_skip = true, .fill = fill_dpm2},
    [SAMPLER_LMS] = {"lms", SCHEDULER_CLASS_LMS, .reads = K, .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_lms},
    [SAMPLER_PNDM] = {"pndm", SCHEDULER_CLASS_PNDM, .reads = GRID, .min_steps = 4, .more = 9, .per_step = 1, .can_skip = true, .fill = fill_pndm},
    [SAMPLER_PLMS] = {"plms", SCHEDULER_CLASS_PNDM, .reads = GRID, .more = 1, .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_pndm},
    [SAMPLER_DEIS] = {"deis", SCHEDULER_CLASS_DEIS, .reads = DPM, .order = 3, .max_order = 3,
                      .algorithm = SCHEDULER_DEIS, .min_steps = 1, .per_step = 1, .min_order = 1, .can_skip = true, .fill = fill_deis},
    [SAMPLER_DPMPP_2M] = {"dpmpp_2m", SCHEDULER_CLASS_DPM_MULTISTEP, .reads = DPM | SAMPLER_READS_FINAL, .order = 2,
                          .max_order = 3, .algorithm = SCHEDULER_DPMSOLVER_PP, .min_steps = 1, .per_step = 1, .min_order = 1, .can_skip = true, .fill = fill_dpm_multistep},
    [SAMPLER_DPMPP_3M] = {"dpmpp_3m", SCHEDULER_CLASS_DPM_MULTISTEP, .reads = DPM | SAMPLER_READS_FINAL, .order = 3,
                          .max_order = 3, .algorithm = SCHEDULER_DPMSOLVER_PP, .min_steps = 1, .per_step = 1, .min_order = 1, .can_skip = true, .fill = fill_dpm_multistep},
    [SAMPLER_DPMPP_2M_SDE] = {"dpmpp_2m_sde", SCHEDULER_CLASS_DPM_MULTISTEP, .reads = DPM | SAMPLER_READS_FINAL,
                              .order = 2, .max_order = 3, .algorithm = SCHEDULER_SDE_DPMSOLVER_PP,
                              .min_steps = 1, .per_step = 1, .min_order = 1, .can_skip = true, .fill = fill_dpm_multistep},
    [SAMPLER_DPMPP_2S] = {"dpmpp_2s", SCHEDULER_CLASS_DPM_SINGLESTEP,
                          .reads = (DPM | SAMPLER_READS_FINAL) & ~SAMPLER_READS_STEPS_OFFSET, .order = 2,
                          .max_order = 3, .algorithm = SCHEDULER_DPMSOLVER_PP, .min_steps = 1, .per_step = 1, .min_order = 1, .can_skip = true, .fill = fill_dpm_singlestep},
    [SAMPLER_DPM_3S] = {"dpm_3s", SCHEDULER_CLASS_DPM_SINGLESTEP,
                        .reads = (DPM | SAMPLER_READS_FINAL) & ~SAMPLER_READS_STEPS_OFFSET, .order = 3, .max_order = 3,
                        .algorithm = SCHEDULER_DPMSOLVER, .min_steps = 1, .per_step = 1, .min_order = 1, .can_skip = true, .fill = fill_dpm_singlestep},
    [SAMPLER_UNIPC] = {"unipc", SCHEDULER_CLASS_UNIPC, .reads = DPM | SAMPLER_READS_FINAL, .order = 3, .max_order = 4,
                       .min_steps = 1, .per_step = 1, .min_order = 1, .can_skip = true, .fill = fill_unipc},
    [SAMPLER_SA] = {"sa", SCHEDULER_CLASS_SA, .reads = DPM, .order = 2, .max_order = 4,
                    .algorithm = SCHEDULER_DATA_PREDICTION, .min_steps = 1, .per_step = 1, .min_order = 1, .can_skip = true, .fill = fill_sa},
    [SAMPLER_EDM_EULER] = {"edm_euler", SCHEDULER_CLASS_EDM_EULER,
                           .reads = SAMPLER_READS_SIGMAS | SAMPLER_READS_CHURN | SAMPLER_READS_FINAL,
                           .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_edm_euler},
    [SAMPLER_EDM_DPMPP] = {"edm_dpmpp", SCHEDULER_CLASS_EDM_DPM,
                           .reads = SAMPLER_READS_SIGMAS | SAMPLER_READS_ORDER | SAMPLER_READS_FINAL, .order = 2,
                           .max_order = 3, .algorithm = SCHEDULER_DPMSOLVER_PP, .min_steps = 1, .per_step = 1, .min_order = 1, .can_skip = true, .fill = fill_edm_dpm},
    [SAMPLER_FLOW_EULER] = {"flow_euler", SCHEDULER_CLASS_FLOW_EULER, .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_flow_euler},
    [SAMPLER_CM] = {"cm", SCHEDULER_CLASS_CM, .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_consistency},
    [SAMPLER_LCM] = {"lcm", SCHEDULER_CLASS_LCM, .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_lcm},
    [SAMPLER_TCD] = {"tcd", SCHEDULER_CLASS_TCD, .reads = SAMPLER_READS_ETA, .eta = 0.3, .min_steps = 1, .per_step = 1, .can_skip = true, .fill = fill_tcd},
};
/* clang-format on */

const sampler_info *sampler_info_of(sampler_kind k) { return &INFO[k]; }
const char *sampler_name(sampler_kind k) { return INFO[k].name; }

int sampler_evaluations(sampler_kind k, int steps)
{
    if (k == SAMPLER_PLMS && steps == 1) return 1;
    return INFO[k].per_step * steps + INFO[k].more;
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
    case SCHEDULER_CLASS_EDM_EULER: return SAMPLER_EDM_EULER;
    default: break;
    }
    for (int k = 0; k < SAMPLER_KINDS; k++) /* the other classes have one sampler each */
        if (INFO[k].scheduler == c->type) return (sampler_kind)k;
    return SAMPLER_DDPM;
}

static bool is_flow(const scheduler_config *c) { return c->type == SCHEDULER_CLASS_FLOW_EULER || c->use_flow_sigmas; }

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
    c->use_flow_sigmas = is_flow(from) && has_flow_sigmas(c->type);
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

/* The processes that a network can be trained for. */
typedef enum process { OF_BETAS, OF_EDM, OF_CONSISTENCY, OF_FLOW } process;

static process process_of(const scheduler_config *c)
{
    if (c->type == SCHEDULER_CLASS_EDM_EULER || c->type == SCHEDULER_CLASS_EDM_DPM) return OF_EDM;
    if (c->type == SCHEDULER_CLASS_CM) return OF_CONSISTENCY;
    return is_flow(c) ? OF_FLOW : OF_BETAS;
}

ddpm_status sampler_accepts(sampler_kind k, const scheduler_config *of_folder, err *e)
{
    static const char *const names[] = {"a diffusion process with betas", "EDM", "a consistency model", "a flow"};
    const scheduler_config c = sampler_config(k, of_folder);
    const process of = process_of(of_folder), wanted = process_of(&c);
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
