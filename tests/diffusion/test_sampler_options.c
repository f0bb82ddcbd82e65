/* What samplers accept and refuse, the configs that they run with, resampling, and spaced noise levels. */
#include "base/mem.h"
#include "diffusion/sampler_draft.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static err why; /* each test is a process of its own */

static scheduler_config folder_for(sampler_kind k)
{
    scheduler_config c = scheduler_config_default();
    if (k == SAMPLER_EDM || k == SAMPLER_EDM_EULER) c = scheduler_config_of(SCHEDULER_CLASS_EDM_EULER);
    if (k == SAMPLER_EDM_DPMPP) c = scheduler_config_of(SCHEDULER_CLASS_EDM_DPM);
    if (k == SAMPLER_FLOW_EULER) c = scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER);
    if (k == SAMPLER_CM) c = scheduler_config_of(SCHEDULER_CLASS_CM);
    return c;
}

static ddpm_status create(const scheduler_config *c, const sampler_spec *spec, sampler_table **table)
{
    schedule *s = NULL;
    cr_assert_eq(schedule_create(c, &s, &why), DDPM_OK, "%s", why.text);
    const ddpm_status st = sampler_create(s, spec, table, &why);
    schedule_destroy(s);
    return st;
}

static void refused(const scheduler_config *c, const sampler_spec *spec, const char *text)
{
    sampler_table *table = NULL;
    why.text[0] = '\0';
    cr_expect_eq(create(c, spec, &table), DDPM_EINVAL, "not refused: %s", text);
    cr_expect_null(table);
    cr_expect_str_eq(why.text, text);
    sampler_destroy(table);
}

/* ---- every sampler with every number of steps ---- */

static void check_table(const sampler_table *t, const char *what)
{
    int written = 0;
    for (int i = 0; i < t->n; i++) {
        const sampler_row *r = &t->rows[i];
        const float all[] = {r->t, r->c_skip, r->c_out, r->clip, r->a,    r->b,    r->e,      r->s,
                             r->p, r->q,      r->v,     r->w[0], r->w[1], r->w[2], r->signal, r->noise};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            cr_assert(isfinite(all[k]), "%s: row %d of %d", what, i, t->n);
        for (int j = 0; j < SAMPLER_SLOTS; j++)
            cr_assert(r->w[j] == 0 || written >> j & 1, "%s: row %d reads slot %d before it is kept", what, i, j);
        if (r->slot >= 0) written |= 1 << r->slot;
        cr_assert(r->slot >= -1 && r->slot < t->slots && r->guidance == 1, "%s: row %d", what, i);
    }
    for (int i = 0; i < t->n; i++) { /* what is kept is read */
        const int slot = t->rows[i].slot;
        int k = i + 1;
        while (slot >= 0 && k < t->n && t->rows[k].w[slot] == 0 && t->rows[k].slot != slot) k++;
        cr_assert(slot < 0 || (k < t->n && t->rows[k].w[slot] != 0), "%s: nobody reads what row %d keeps", what, i);
    }
    cr_assert(t->slots <= SAMPLER_SLOTS && written == (1 << t->slots) - 1, "%s: slots", what);
    cr_assert(isfinite(t->init) && isfinite(t->signal) && isfinite(t->noise), "%s", what);
}

static const scheduler_prediction PREDICTIONS[] = {SCHEDULER_EPSILON, SCHEDULER_SAMPLE, SCHEDULER_V_PREDICTION,
                                                   SCHEDULER_MU, SCHEDULER_FLOW};

Test(sampler_options, every_number_of_steps_works_or_is_refused_by_its_range)
{
    static const int steps[] = {1, 2, 3, 4, 5, 7, 16, 25, 39, 40, 49, 50, 333, 499, 500, 501, 900, 998, 999, 1000, 0};
    for (int k = 0; k < SAMPLER_KINDS; k++)
        for (int spacing = 0; spacing < 5; spacing++)
            for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
                const scheduler_config folder = folder_for((sampler_kind)k);
                scheduler_config c = sampler_config((sampler_kind)k, &folder);
                sampler_spec spec = sampler_spec_default((sampler_kind)k, steps[i]);
                sampler_table *table = NULL;
                char what[100];
                c.timestep_spacing = (scheduler_spacing)spacing;
                spec.as_diffusers = i % 2;
                (void)snprintf(what, sizeof what, "%s, %d steps, %s", sampler_name((sampler_kind)k), steps[i],
                               scheduler_spacing_name(c.timestep_spacing));
                if (create(&c, &spec, &table) == DDPM_OK) {
                    check_table(table, what);
                    if (steps[i]) cr_expect_eq(table->n, sampler_evaluations((sampler_kind)k, steps[i]), "%s", what);
                    if (k != SAMPLER_DDIM_INVERSE)
                        cr_expect(table->rows[table->n - 1].signal == 1 && table->rows[table->n - 1].noise == 0, "%s",
                                  what);
                } else {
                    cr_expect(strstr(why.text, "is not in ["), "%s: %s", what, why.text);
                    cr_expect(steps[i] != 0, "%s: %s", what, why.text);
                }
                sampler_destroy(table);
            }
}

static void every_sampler_with(const scheduler_config *process)
{
    for (int k = 0; k < SAMPLER_KINDS; k++)
        for (int steps = 0; steps <= 12; steps++) {
            scheduler_config folder = folder_for((sampler_kind)k);
            sampler_spec spec = sampler_spec_default((sampler_kind)k, steps);
            sampler_table *table = NULL;
            folder.num_train_timesteps = process->num_train_timesteps;
            if (folder.type == SCHEDULER_CLASS_DDPM) folder = *process;
            const scheduler_config c = sampler_config((sampler_kind)k, &folder);
            spec.as_diffusers = steps % 2;
            if (create(&c, &spec, &table) == DDPM_OK)
                check_table(table, sampler_name((sampler_kind)k));
            else
                cr_expect(strstr(why.text, "is not in [") || strstr(why.text, "original_inference_steps"), "%s",
                          why.text);
            sampler_destroy(table);
        }
}

Test(sampler_options, few_timesteps_and_any_betas_work)
{
    static const int timesteps[] = {1, 2, 3, 4, 10, 60, 4000};
    for (int t = 0; t < 7; t++)
        for (int b = 0; b < 4; b++)
            for (int p = 0; p < 3; p++) {
                scheduler_config c = scheduler_config_default();
                c.num_train_timesteps = timesteps[t], c.beta_schedule = (scheduler_betas)b;
                c.prediction_type = PREDICTIONS[p];
                if (timesteps[t] > 1000) c.beta_end = 0.005;
                every_sampler_with(&c);
                c.beta_start = c.beta_end = 0.01;
                every_sampler_with(&c);
            }
}

/* Whatever is combined, there is a table of finite numbers, or one line that begins with the sampler's name. */
static void combine(sampler_kind k, int pick)
{
    static const int steps[] = {1, 2, 3, 6, 20, 60};
    const scheduler_config folder = folder_for(k);
    scheduler_config c = sampler_config(k, &folder);
    sampler_spec spec = sampler_spec_default(k, steps[pick % 6]);
    sampler_table *table = NULL;
    char what[100];
    c.sigmas = (scheduler_sigmas)(pick / 6 % 5);
    c.final_sigmas_type = (scheduler_final)(pick / 30 % 2);
    c.lower_order_final = pick / 60 % 2;
    if (c.prediction_type == SCHEDULER_EPSILON) c.prediction_type = PREDICTIONS[pick / 120 % 5];
    c.beta_schedule = pick / 600 % 2 ? SCHEDULER_SQUAREDCOS_CAP_V2 : SCHEDULER_LINEAR;
    c.rescale_betas_zero_snr = pick / 1200 % 2 && c.prediction_type != SCHEDULER_EPSILON;
    c.solver_type = pick / 2400 % 2 ? SCHEDULER_HEUN : SCHEDULER_BH1;
    c.clip_sample = pick % 7 == 0;
    if (sampler_info_of(k)->max_order) sampler_set_order(k, &c, 1 + pick % sampler_info_of(k)->max_order);
    if (c.type == SCHEDULER_CLASS_DPM_MULTISTEP || c.type == SCHEDULER_CLASS_DPM_SINGLESTEP)
        c.algorithm_type = (scheduler_algorithm)(pick / 3 % 4);
    if (k == SAMPLER_UNIPC) c.predict_x0 = pick % 2;
    if (k == SAMPLER_SA && pick % 2) c.algorithm_type = SCHEDULER_NOISE_PREDICTION;
    spec.eta = pick % 3 * 0.5, spec.churn = pick % 5 * 10;
    spec.skip = k != SAMPLER_DDIM_INVERSE && spec.steps > 10 ? pick % 10 : 0;
    (void)snprintf(what, sizeof what, "%s, combination %d", sampler_name(k), pick);
    if (create(&c, &spec, &table) == DDPM_OK)
        check_table(table, what);
    else
        cr_expect(!strncmp(why.text, sampler_name(k), strlen(sampler_name(k))) || strstr(why.text, "is not in ["),
                  "%s: %s", what, why.text);
    sampler_destroy(table);
}

Test(sampler_options, combinations_are_finite_or_refused)
{
    for (int k = 0; k < SAMPLER_KINDS; k++)
        for (int pick = 0; pick < 4800; pick += 7) combine((sampler_kind)k, pick);
}

/* The depths of memory, which the generator allocates. */
Test(sampler_options, slots_are_as_many_as_the_order_needs)
{
    static const int slots[SAMPLER_KINDS] = {
        [SAMPLER_HEUN] = 1,     [SAMPLER_EDM] = 1,      [SAMPLER_DPM2] = 1,         [SAMPLER_DPM2_A] = 1,
        [SAMPLER_LMS] = 3,      [SAMPLER_PNDM] = 4,     [SAMPLER_PLMS] = 3,         [SAMPLER_DEIS] = 2,
        [SAMPLER_DPMPP_2M] = 1, [SAMPLER_DPMPP_3M] = 2, [SAMPLER_DPMPP_2M_SDE] = 1, [SAMPLER_DPMPP_2S] = 1,
        [SAMPLER_DPM_3S] = 2,   [SAMPLER_UNIPC] = 3,    [SAMPLER_SA] = 2,           [SAMPLER_EDM_DPMPP] = 1};
    for (int k = 0; k < SAMPLER_KINDS; k++) {
        const scheduler_config folder = folder_for((sampler_kind)k), c = sampler_config((sampler_kind)k, &folder);
        const sampler_spec spec = sampler_spec_default((sampler_kind)k, 20);
        sampler_table *t = NULL;
        cr_assert_eq(create(&c, &spec, &t), DDPM_OK, "%s", why.text);
        cr_expect_eq(t->slots, slots[k], "%s: %d slots", sampler_name((sampler_kind)k), t->slots);
        sampler_destroy(t);
    }
}

/* ---- starting from an image ---- */

Test(sampler_options, skipped_steps_leave_the_rows_of_the_rest)
{
    static const sampler_kind one_step[] = {SAMPLER_DDPM, SAMPLER_DDIM, SAMPLER_EULER, SAMPLER_EULER_A, SAMPLER_LCM};
    for (size_t i = 0; i < sizeof one_step / sizeof *one_step; i++) {
        const scheduler_config folder = folder_for(one_step[i]), c = sampler_config(one_step[i], &folder);
        sampler_spec spec = sampler_spec_default(one_step[i], 20);
        sampler_table *all = NULL, *rest = NULL;
        cr_assert_eq(create(&c, &spec, &all), DDPM_OK, "%s", why.text);
        spec.skip = 8;
        cr_assert_eq(create(&c, &spec, &rest), DDPM_OK, "%s", why.text);
        cr_assert_eq(rest->n, 12);
        cr_expect(!memcmp(rest->rows, all->rows + 8, 12 * sizeof *rest->rows), "%s", sampler_name(one_step[i]));
        cr_expect_float_eq(rest->signal, (double)all->rows[7].signal, 1e-6);
        cr_expect_float_eq(rest->noise, (double)all->rows[7].noise, 1e-6);
        sampler_destroy(all);
        sampler_destroy(rest);
    }
    for (int k = 0; k < SAMPLER_KINDS; k++) {
        const scheduler_config folder = folder_for((sampler_kind)k), c = sampler_config((sampler_kind)k, &folder);
        sampler_spec spec = sampler_spec_default((sampler_kind)k, 20);
        sampler_table *rest = NULL;
        spec.skip = 8;
        if (!sampler_info_of((sampler_kind)k)->can_skip) {
            refused(&c, &spec, "ddim_inverse: it cannot start from an image with noise");
            continue;
        }
        cr_assert_eq(create(&c, &spec, &rest), DDPM_OK, "%s", why.text);
        check_table(rest, sampler_name((sampler_kind)k));
        cr_expect_eq(rest->n, sampler_evaluations((sampler_kind)k, 12));
        sampler_destroy(rest);
    }
}

/* Only the first rows know that steps are missing: whether the orders fall at the end depends on the whole way. */
Test(sampler_options, multistep_samplers_take_their_stride_after_skipped_steps)
{
    static const sampler_kind kinds[] = {SAMPLER_LMS,          SAMPLER_DEIS,  SAMPLER_DPMPP_2M, SAMPLER_DPMPP_3M,
                                         SAMPLER_DPMPP_2M_SDE, SAMPLER_UNIPC, SAMPLER_SA};
    for (int k = 0; k < 7; k++) {
        const scheduler_config folder = folder_for(kinds[k]), c = sampler_config(kinds[k], &folder);
        sampler_spec spec = sampler_spec_default(kinds[k], 20);
        sampler_table *all = NULL, *rest = NULL;
        cr_assert_eq(create(&c, &spec, &all), DDPM_OK, "%s", why.text);
        spec.skip = 8;
        cr_assert_eq(create(&c, &spec, &rest), DDPM_OK, "%s", why.text);
        for (int i = 5; i < 12; i++) {
            const sampler_row *r = &rest->rows[i], *same = &all->rows[i + 8];
            cr_expect(r->t == same->t && r->a == same->a && r->b == same->b && r->s == same->s, "%s: row %d",
                      sampler_name(kinds[k]), i);
        }
        sampler_destroy(all);
        sampler_destroy(rest);
    }
}

/* ---- bad input ---- */

Test(sampler_options, bad_choices_are_named)
{
    const scheduler_config ddpm = scheduler_config_default();
    scheduler_config c = sampler_config(SAMPLER_DPMPP_2M, &ddpm);
    sampler_spec spec = sampler_spec_default(SAMPLER_DPMPP_2M, 20);
    refused(&ddpm, &spec, "dpmpp_2m: it samples with the config of DPMSolverMultistepScheduler, not of DDPMScheduler");
    c.solver_order = 5;
    refused(&c, &spec, "dpmpp_2m: order 5 is not in [1, 3]");
    c.solver_order = 2;
    spec.steps = 1000;
    refused(&c, &spec, "num_inference_steps 1000 is not in [1, 999], the range of dpmpp_2m");
    spec.steps = 20, spec.skip = 20;
    refused(&c, &spec, "dpmpp_2m: skip 20 is not in [0, 19], with 20 steps");
    spec.skip = 0, spec.eta = 1.5;
    refused(&c, &spec, "dpmpp_2m: eta 1.5 is not in [0, 1]");
    spec.eta = 0, spec.churn = -1;
    refused(&c, &spec, "dpmpp_2m: churn -1, from 0 to inf, noise 1: one is negative");
    spec.churn = 0;
    c.algorithm_type = SCHEDULER_SDE_DPMSOLVER;
    refused(&c, &spec, "dpmpp_2m: algorithm_type sde-dpmsolver cannot end at sigma zero; use final sigma_min");
    c.algorithm_type = SCHEDULER_DEIS;
    refused(&c, &spec, "dpmpp_2m: algorithm_type is not one of dpmsolver, dpmsolver++, sde-dpmsolver, sde-dpmsolver++");
    c = sampler_config(SAMPLER_PNDM, &ddpm);
    spec = sampler_spec_default(SAMPLER_PNDM, 3);
    refused(&c, &spec, "num_inference_steps 3 is not in [4, 1000], the range of pndm");
    c = sampler_config(SAMPLER_HEUN, &ddpm);
    c.prediction_type = SCHEDULER_MU, c.sigmas = SCHEDULER_SIGMAS_KARRAS;
    spec = sampler_spec_default(SAMPLER_HEUN, 7);
    refused(&c, &spec,
            "heun: prediction_type mu is known at whole timesteps alone, not at t = 901.983; use "
            "timestep_spacing=leading or trailing, and sigmas=none");
    spec = sampler_spec_default(SAMPLER_EULER, 7);
    c = sampler_config(SAMPLER_EULER, &ddpm);
    c.timestep_spacing = SCHEDULER_LEADING, c.steps_offset = 990;
    refused(&c, &spec, "euler: steps_offset 990: timestep 1842 is not below num_train_timesteps = 1000");
}

Test(sampler_options, a_flow_keeps_its_noise_levels)
{
    const scheduler_config flow = scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER);
    scheduler_config c = sampler_config(SAMPLER_UNIPC, &flow);
    const sampler_spec spec = {.kind = SAMPLER_UNIPC, .steps = 5};
    c.sigmas = SCHEDULER_SIGMAS_KARRAS;
    refused(
        &c, &spec,
        "unipc: the model is a flow, whose noise levels follow from its shift (use_flow_sigmas); karras sigmas cannot "
        "take their place: set sigmas=none, or sampler=flow_euler, which can");
}

Test(sampler_options, networks_of_other_processes_are_refused)
{
    const scheduler_config ddpm = scheduler_config_default(), edm = scheduler_config_of(SCHEDULER_CLASS_EDM_EULER),
                           flow = scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER);
    cr_expect_eq(sampler_accepts(SAMPLER_HEUN, &ddpm, &why), DDPM_OK);
    cr_expect_eq(sampler_accepts(SAMPLER_EDM_DPMPP, &edm, &why), DDPM_OK);
    cr_expect_eq(sampler_accepts(SAMPLER_UNIPC, &flow, &why), DDPM_OK);
    cr_expect_eq(sampler_accepts(SAMPLER_EDM, &ddpm, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "edm samples EDM, but the model's DDPMScheduler says a diffusion process with betas");
    cr_expect_eq(sampler_accepts(SAMPLER_DDIM, &flow, &why), DDPM_EINVAL);
    cr_expect_eq(sampler_accepts(SAMPLER_CM, &edm, &why), DDPM_EINVAL);
}

/* ---- configs ---- */

Test(sampler_options, a_name_stands_for_its_class_order_and_algorithm)
{
    for (int k = 0; k < SAMPLER_KINDS; k++) {
        const scheduler_config folder = folder_for((sampler_kind)k), c = sampler_config((sampler_kind)k, &folder);
        cr_expect_eq(c.type, sampler_info_of((sampler_kind)k)->scheduler);
        if (k != SAMPLER_EDM) /* diffusers has no class for algorithm 2 */
            cr_expect_eq(sampler_of_class(&c), k, "%s: %s", sampler_name((sampler_kind)k),
                         sampler_name(sampler_of_class(&c)));
    }
}

Test(sampler_options, names_are_those_of_the_option)
{
    static const char *const names[] = {
#define SAMPLER(id, name) name,
#include "config/sampler_names.def"
    };
    for (int k = 0; k < SAMPLER_KINDS; k++) cr_expect_str_eq(sampler_name((sampler_kind)k), names[k]);
}

Test(sampler_options, the_process_is_the_folders_and_the_rest_the_classs)
{
    scheduler_config folder = scheduler_config_default();
    folder.num_train_timesteps = 500, folder.beta_end = 0.03, folder.clip_sample_range = 2;
    folder.timestep_spacing = SCHEDULER_TRAILING;
    scheduler_config c = sampler_config(SAMPLER_DPM_3S, &folder);
    cr_expect(c.num_train_timesteps == 500 && c.beta_end == 0.03 && c.clip_sample && c.clip_sample_range == 2);
    cr_expect(c.timestep_spacing == SCHEDULER_LINSPACE && c.solver_order == 3 &&
              c.algorithm_type == SCHEDULER_DPMSOLVER && c.final_sigmas_type == SCHEDULER_FINAL_SIGMA_MIN);
    c = sampler_config(SAMPLER_DDPM, &folder);
    cr_expect_eq(c.timestep_spacing, SCHEDULER_TRAILING);
    folder = scheduler_config_of(SCHEDULER_CLASS_DPM_MULTISTEP);
    folder.solver_order = 1, folder.sigmas = SCHEDULER_SIGMAS_KARRAS;
    c = sampler_config(SAMPLER_DPMPP_2M, &folder);
    cr_expect(c.solver_order == 1 && c.sigmas == SCHEDULER_SIGMAS_KARRAS);
    c = sampler_config(SAMPLER_DPMPP_2M_SDE, &folder);
    cr_expect(c.solver_order == 2 && c.algorithm_type == SCHEDULER_SDE_DPMSOLVER_PP &&
              c.sigmas == SCHEDULER_SIGMAS_KARRAS);
    folder = scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER);
    folder.flow_shift = 3;
    c = sampler_config(SAMPLER_UNIPC, &folder);
    cr_expect(c.use_flow_sigmas && c.flow_shift == 3 && c.prediction_type == SCHEDULER_FLOW);
    cr_expect(sampler_spec_of(&folder, 10).as_diffusers && !sampler_spec_default(SAMPLER_DDPM, 10).as_diffusers);
    cr_expect_eq(sampler_spec_of(&folder, 10).kind, SAMPLER_FLOW_EULER);
}

static const char *advice(sampler_kind k, const scheduler_config *c, int steps)
{
    const sampler_spec spec = sampler_spec_default(k, steps);
    schedule *s = NULL;
    cr_assert_eq(schedule_create(c, &s, &why), DDPM_OK, "%s", why.text);
    const char *text = sampler_advice(s, &spec);
    schedule_destroy(s);
    return text;
}

Test(sampler_options, bad_choices_get_advice)
{
    scheduler_config ddpm = scheduler_config_default();
    cr_expect_null(advice(SAMPLER_DDPM, &ddpm, 50));
    ddpm.variance_type = SCHEDULER_FIXED_LARGE;
    cr_expect_null(advice(SAMPLER_DDPM, &ddpm, 500));
    cr_expect_null(advice(SAMPLER_DDPM, &ddpm, 0));
    cr_expect(strstr(advice(SAMPLER_DDPM, &ddpm, 499), "fixed_large"));
    ddpm.beta_schedule = SCHEDULER_SQUAREDCOS_CAP_V2, ddpm.clip_sample = false;
    scheduler_config c = sampler_config(SAMPLER_DPMPP_2M, &ddpm);
    cr_expect(strstr(advice(SAMPLER_DPMPP_2M, &c, 20), "leading"));
    c.lambda_min_clipped = -5.1;
    cr_expect_null(advice(SAMPLER_DPMPP_2M, &c, 20));
    c.sigmas = SCHEDULER_SIGMAS_BETA;
    cr_expect(strstr(advice(SAMPLER_DPMPP_2M, &c, 20), "karras"));
    c = sampler_config(SAMPLER_EULER, &ddpm);
    c.prediction_type = SCHEDULER_V_PREDICTION;
    cr_expect_null(advice(SAMPLER_EULER, &c, 20));
    c.timestep_spacing = SCHEDULER_LEADING;
    cr_expect(strstr(advice(SAMPLER_EULER, &c, 1), "one step"));
}

/* ---- resampling ---- */

/* The timesteps told of RePaintScheduler(), set_timesteps(steps, jump_length, jump_n_sample) with 100 timesteps, in the
 * loop of its pipeline, where the list rises without the network. */
typedef struct visits {
    int steps, jump_length, jump_n_sample;
    const char *told;
} visits;

static const visits VISITS[] = {
    {5, 2, 2, "80 60 40 60 40 20 0 20 0"},
    {10, 3, 3, "90 80 70 60 80 70 60 80 70 60 50 40 30 50 40 30 50 40 30 20 10 0 20 10 0 20 10 0"},
    {7, 1, 2, "84 70 70 56 56 42 42 28 28 14 14 0 0"},
    {4, 10, 3, "75 50 25 0"},
    {20, 5, 2, "95 90 85 80 75 70 65 60 55 50 70 65 60 55 50 45 40 35 30 25 45 40 35 30 25 20 15 10 5 0 20 15 10 5 0"},
    {6, 3, 1, "80 64 48 32 16 0"},
    {10, 10, 2, "90 80 70 60 50 40 30 20 10 0"},
    {9, 2, 4, "88 77 66 77 66 77 66 77 66 55 44 55 44 55 44 55 44 33 22 33 22 33 22 33 22 11 0 11 0 11 0 11 0"},
};

Test(sampler_options, resampling_visits_what_repaint_visits)
{
    for (size_t i = 0; i < sizeof VISITS / sizeof *VISITS; i++) {
        const visits *v = &VISITS[i];
        scheduler_config c = scheduler_config_default();
        const sampler_spec spec = sampler_spec_default(SAMPLER_DDPM, v->steps);
        sampler_table *t = NULL;
        char told[1000] = "";
        c.num_train_timesteps = 100;
        cr_assert_eq(create(&c, &spec, &t), DDPM_OK, "%s", why.text);
        cr_assert_eq(sampler_resample(&t, v->jump_length, v->jump_n_sample, &why), DDPM_OK, "%s", why.text);
        for (int k = 0; k < t->n; k++)
            (void)snprintf(told + strlen(told), sizeof told - strlen(told), "%s%g", k ? " " : "", (double)t->rows[k].t);
        cr_expect_str_eq(told, v->told);
        check_table(t, "resampled");
        sampler_destroy(t);
    }
}

/* With one image as data, x before each row is N(signal image, noise^2), in jumps, too. */
Test(sampler_options, resampling_keeps_the_level_of_noise)
{
    static const sampler_kind kinds[] = {SAMPLER_DDPM, SAMPLER_DDIM, SAMPLER_EULER_A};
    for (int k = 0; k < 3; k++) {
        scheduler_config folder = scheduler_config_default();
        folder.clip_sample = false;
        const scheduler_config c = sampler_config(kinds[k], &folder);
        sampler_spec spec = sampler_spec_default(kinds[k], 20);
        sampler_table *t = NULL;
        const double image = 0.6;
        if (kinds[k] == SAMPLER_DDIM) spec.eta = 1;
        cr_assert_eq(create(&c, &spec, &t), DDPM_OK, "%s", why.text);
        double mean = t->signal * image, variance = t->noise * t->noise;
        cr_assert_eq(sampler_resample(&t, 4, 3, &why), DDPM_OK, "%s", why.text);
        cr_expect_eq(t->n, 20 + 4 * 2 * 4);
        for (int i = 0; i < t->n; i++) {
            const sampler_row *r = &t->rows[i];
            cr_assert_eq(r->e, 0);
            mean = (double)r->a * mean + (double)r->b * image;
            variance = (double)r->a * (double)r->a * variance + (double)r->s * (double)r->s;
            cr_expect(fabs(mean - (double)r->signal * image) < 1e-5, "%s, row %d: mean %.6f", sampler_name(kinds[k]), i,
                      mean);
            cr_expect(fabs(variance - (double)r->noise * (double)r->noise) < 1e-5, "%s, row %d: variance %.6f for %.6f",
                      sampler_name(kinds[k]), i, variance, (double)r->noise * (double)r->noise);
        }
        sampler_destroy(t);
    }
}

Test(sampler_options, resampling_refuses_what_it_cannot_do)
{
    const scheduler_config ddpm = scheduler_config_default(), dpm = sampler_config(SAMPLER_DPMPP_2M, &ddpm);
    scheduler_config learned = ddpm;
    sampler_spec spec = sampler_spec_default(SAMPLER_DPMPP_2M, 20);
    sampler_table *t = NULL, *same = NULL;
    cr_assert_eq(create(&dpm, &spec, &t), DDPM_OK, "%s", why.text);
    same = t;
    cr_expect_eq(sampler_resample(&t, 5, 2, &why), DDPM_EINVAL);
    cr_expect(t == same && strstr(why.text, "without memory"));
    sampler_destroy(t);
    spec = sampler_spec_default(SAMPLER_DDPM, 20);
    learned.variance_type = SCHEDULER_LEARNED_RANGE;
    cr_assert_eq(create(&learned, &spec, &t), DDPM_OK, "%s", why.text);
    cr_expect_eq(sampler_resample(&t, 5, 2, &why), DDPM_EINVAL);
    cr_expect(strstr(why.text, "learned"));
    cr_expect_eq(sampler_resample(&t, 0, 2, &why), DDPM_EINVAL);
    cr_expect_eq(sampler_resample(&t, 1, 0, &why), DDPM_EINVAL);
    sampler_destroy(t);
    cr_assert_eq(create(&ddpm, &spec, &t), DDPM_OK, "%s", why.text);
    cr_expect_eq(sampler_resample(&t, 5, 100000000, &why), DDPM_EINVAL);
    cr_expect(strstr(why.text, "evaluations"));
    sampler_destroy(t);
}

/* ---- details ---- */

/* scipy.stats.beta(a, b).ppf(p), printed by make_sampler_tables.py */
Test(sampler_options, beta_quantiles_are_scipys)
{
    static const double p[] = {1e-9, 1e-6, 0.001, 0.01, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.99, 0.999, 1 - 1e-6};
    static const double want[2][13] = {
        {1.85588246249141e-15, 1.8558824624053043e-10, 1.855873851745199e-05, 0.0008612388215429059,
         0.03958440558878085, 0.17568037865269498, 0.5000000000000001, 0.6372990092467856, 0.824319621347305,
         0.9604155944112192, 0.9991387611784571, 0.9999814412614826, 0.9999999998144118},
        {8.165054699768939e-06, 0.00025828782935406356, 0.008255492787746678, 0.026763191142755053, 0.09259525891312873,
         0.16116291679032652, 0.26444998329566005, 0.3094444275453144, 0.3894794852007245, 0.5103163065514917,
         0.7056863283197075, 0.818613866919134, 0.9555730480299243}};
    for (int i = 0; i < 13; i++) {
        cr_expect_float_eq(beta_quantile(p[i], 0.6, 0.6) / want[0][i], 1, 1e-9, "p = %g", p[i]);
        cr_expect_float_eq(beta_quantile(p[i], 2, 5) / want[1][i], 1, 1e-9, "p = %g", p[i]);
    }
    cr_expect(beta_quantile(0, 0.6, 0.6) == 0 && beta_quantile(1, 0.6, 0.6) == 1);
}

/* V is a log variance: with `learned` the deviation is exp(V / 2), with `learned_range` it lies between those of
 * fixed_small (V = -1) and fixed_large (V = 1). */
Test(sampler_options, learned_variances_are_exponents)
{
    sampler_table *t[4];
    for (int v = 0; v < 4; v++) {
        scheduler_config c = scheduler_config_default();
        const sampler_spec spec = sampler_spec_default(SAMPLER_DDPM, 100);
        c.variance_type = (scheduler_variance)v;
        cr_assert_eq(create(&c, &spec, &t[v]), DDPM_OK, "%s", why.text);
    }
    for (int i = 0; i + 1 < 100; i++) {
        const sampler_row *range = &t[SCHEDULER_LEARNED_RANGE]->rows[i], *learned = &t[SCHEDULER_LEARNED]->rows[i];
        const double small = (double)range->s * exp(-(double)range->v),
                     large = (double)range->s * exp((double)range->v);
        cr_expect_float_eq(small / (double)t[SCHEDULER_FIXED_SMALL]->rows[i].s, 1, 1e-5);
        cr_expect_float_eq(large / (double)t[SCHEDULER_FIXED_LARGE]->rows[i].s, 1, 1e-5);
        cr_expect(learned->s == 1 && learned->v == 0.5f);
    }
    for (int v = 0; v < 4; v++) {
        cr_expect(t[v]->rows[99].s == 0 && t[v]->rows[99].v == 0);
        sampler_destroy(t[v]);
    }
}

Test(sampler_options, thresholding_keeps_its_maximum_in_the_rows)
{
    scheduler_config c = scheduler_config_default();
    const sampler_spec spec = sampler_spec_default(SAMPLER_DDPM, 10);
    sampler_table *t = NULL;
    c.thresholding = true, c.sample_max_value = 3;
    cr_assert_eq(create(&c, &spec, &t), DDPM_OK, "%s", why.text);
    cr_expect_eq(t->rows[5].clip, 3);
    sampler_destroy(t);
}

/* FlowMatchEulerDiscreteScheduler(shift=3.0, use_karras_sigmas=True), then exponential, then beta: set_timesteps(6) of
 * diffusers 0.42.1. */
Test(sampler_options, sigmas_of_a_flow_are_spaced_as_diffusers_spaces_them)
{
    static const struct {
        scheduler_sigmas kind;
        double t[6];
    } known[] = {{SCHEDULER_SIGMAS_KARRAS, {1000, 485.507568, 216.886200, 87.231949, 30.608547, 8.928572}},
                 {SCHEDULER_SIGMAS_EXPONENTIAL, {1000, 389.185272, 151.465179, 58.948018, 22.941700, 8.928572}},
                 {SCHEDULER_SIGMAS_BETA, {1000, 878.175720, 640.537415, 368.391144, 130.752808, 8.928572}}};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        scheduler_config c = scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER);
        sampler_table *table;
        const sampler_spec spec = {.kind = SAMPLER_FLOW_EULER, .steps = 6};
        c.flow_shift = 3, c.sigmas = known[k].kind;
        cr_assert_eq(create(&c, &spec, &table), DDPM_OK, "%s", why.text);
        for (int i = 0; i < 6; i++) cr_expect_float_eq(table->rows[i].t, known[k].t[i], 1e-6 * known[k].t[i]);
        sampler_destroy(table);
    }
}
