/* Runs of the VP and VE processes: resumed, begun from a folder, and sampled as the folder says. */
#include "diffusion/sampler.h"
#include "model/model.h"
#include "train/recipe.h"
#include "train/run_rig.h"

TestSuite(processes, .init = make_root, .fini = remove_root);

static void process(ddpm_config *c, const char *name, const char *parameterization)
{
    tiny(c, name);
    config_put(c, parameterization);
    config_put(c, "train.steps=3");
    config_settle(c);
}

static void expect_resumed(const char *parameterization)
{
    process(&whole, "whole", parameterization);
    process(&parts, "parts", parameterization);
    OK(train(&whole, 0, NULL));
    cr_assert_eq(train(&parts, 1, NULL), DDPM_ESAVED, "%s", why.text);
    config_put(&parts, "resume=auto");
    OK(train(&parts, 0, NULL));
    expect_same_end(&whole, &parts, 3);
}

Test(processes, vp_resumed_equals_uninterrupted) { expect_resumed("diffusion.parameterization=vp"); }
Test(processes, ve_resumed_equals_uninterrupted) { expect_resumed("diffusion.parameterization=ve"); }

/* The process that the folder of step 3 names, and the one of a run that begins from it. */
static void expect_taken_over(scheduler_class type)
{
    static ddpm_config next;
    static char folder[PATH_CAP];
    scheduler_config there, of_run = recipe_scheduler(&whole), of_next;
    OK(scheduler_config_read(in_dir(whole.out, "ckpt/step_00000003/scheduler/scheduler_config.json"), NULL, &there,
                             NULL, &why));
    cr_expect_eq(there.type, type);
    cr_expect(!memcmp(&there, &of_run, sizeof there), "the folder says another process than the run's options");
    tiny(&next, "next");
    (void)snprintf(folder, sizeof folder, "model.init_from=%.3000s/ckpt/step_00000003", whole.out);
    config_put(&next, folder);
    config_settle(&next);
    OK(recipe_process(&next, &of_next, &why));
    cr_expect(!memcmp(&there, &of_next, sizeof there), "a run from the folder has another process");
}

static void expect_table(const char *setting, sampler_kind kind, double first_sigma)
{
    scheduler_config there;
    schedule *s;
    sampler_table *table;
    static ddpm_config c;
    c = whole;
    config_put(&c, setting);
    OK(scheduler_config_read(in_dir(whole.out, "ckpt/step_00000003/scheduler/scheduler_config.json"), NULL, &there,
                             NULL, &why));
    const scheduler_config sampling = recipe_sampling(&c, &there);
    const sampler_spec spec = recipe_sampler(&c, &sampling);
    cr_expect_eq(spec.kind, kind, "%s: %s", setting, sampler_name(spec.kind));
    OK(schedule_create(&sampling, &s, &why));
    OK(sampler_create(s, &spec, &table, &why));
    cr_expect_float_eq(table->noise / table->signal, first_sigma, 1e-9 * first_sigma, "%s begins at sigma %g", setting,
                       table->noise / table->signal);
    sampler_destroy(table);
    schedule_destroy(s);
}

Test(processes, vp_is_what_its_folder_says)
{
    process(&whole, "whole", "diffusion.parameterization=vp");
    config_put(&whole, "diffusion.beta_d=12.3");
    config_put(&whole, "diffusion.beta_min=0.7");
    config_put(&whole, "diffusion.epsilon_t=1e-3");
    config_put(&whole, "diffusion.sigma_min=100"); /* without effect */
    OK(train(&whole, 0, NULL));
    expect_taken_over(SCHEDULER_CLASS_SDE_VP);
    const double highest = sqrt(exp(12.3 / 2 + 0.7) - 1);
    expect_table("sample.sampler=auto", SAMPLER_EDM_EULER, highest);
    expect_table("sample.sampler=edm", SAMPLER_EDM, highest);
    expect_table("sample.sampler=edm_dpmpp", SAMPLER_EDM_DPMPP, highest);
    expect_table("sample.sigmas=karras", SAMPLER_EDM_EULER, highest);
}

Test(processes, ve_is_what_its_folder_says)
{
    run_record said = {0};
    process(&whole, "whole", "diffusion.parameterization=ve");
    config_put(&whole, "sample.sampler=edm"); /* its class, EDMEulerScheduler, does not say VE */
    OK(train(&whole, 0, &said));
    cr_expect_not_null(strstr(said.notes, "the checkpoints name ScoreSdeVeScheduler"), "%s", said.notes);
    cr_expect_not_null(strstr(said.notes, "no pipeline of diffusers samples this"), "%s", said.notes);
    expect_taken_over(SCHEDULER_CLASS_SDE_VE);
    expect_table("sample.sampler=auto", SAMPLER_EDM_EULER, 100);
    expect_table("sample.sampler=edm", SAMPLER_EDM, 100);
    cr_expect_eq(whole.diffusion.sigma_min, 0.02);
}

Test(processes, what_ve_does_not_change_stays)
{
    process(&whole, "whole", "diffusion.parameterization=edm");
    cr_expect(whole.diffusion.sigma_min == 0.002 && whole.diffusion.sigma_max == 80);
    tiny(&parts, "parts");
    config_put(&parts, "diffusion.parameterization=ve");
    config_put(&parts, "diffusion.sigma_max=30");
    config_settle(&parts);
    cr_expect(parts.diffusion.sigma_min == 0.02 && parts.diffusion.sigma_max == 30);
    config_put(&parts, "diffusion.predict=v");
    cr_expect_eq(config_check(&parts, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "diffusion.predict=v: with diffusion.parameterization=ve it must be eps");
}
