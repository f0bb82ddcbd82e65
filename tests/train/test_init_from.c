/* faults F8: model.init_from takes the process that the weights were trained for, and says so. */
#include "base/mem.h"
#include "io/scheduler_config.h"
#include "support/io_support.h"
#include "support/ok.h"
#include "support/small_run.h"
#include "train/training_run.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static err why;
static char root[PATH_CAP], folder[PATH_CAP];

/* A tiny network on 8x8 digits; from the folder where `from` says so. */
static ddpm_config options(bool from)
{
    static const char *const settings[] = {"data.kind=digits", "data.resolution=8", "data.channels=1", "data.count=8",
                                           "train.batch=4",    "train.steps=2",     "log.every=1",     NULL};
    ddpm_config c;
    config_defaults(&c);
    config_put_all(&c, settings);
    OK(path_join(c.out, root, "run", &why));
    if (from) memcpy(c.model.init_from, folder, sizeof folder);
    return c;
}

/* A model with this scheduler, or NULL: that of the option `more`, if any. */
static void use_folder_of(const scheduler_config *s, const char *more)
{
    static const char *const network_options[] = {"model.block_out_channels=8",
                                                  "model.down_block_types=DownBlock2D",
                                                  "model.up_block_types=UpBlock2D",
                                                  "model.layers_per_block=1",
                                                  "model.norm_num_groups=4",
                                                  "model.dropout=0.25",
                                                  NULL};
    ddpm_config c = options(false);
    backend *be;
    model *m;
    config_put_all(&c, network_options);
    if (more) config_put(&c, more);
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    OK(recipe_model(&c, be, (image_shape){8, 8, 1, 10}, &m, NULL, &why));
    if (s) m->scheduler = *s;
    OK(params_allocate(m->store, false, false, &why));
    OK(params_init(m->store, 1, &why));
    OK(model_save(m, ARENA_PARAM, folder, &why));
    model_destroy(m);
    backend_destroy(be);
}

static void use_folder(const scheduler_config *s) { use_folder_of(s, NULL); }

static scheduler_config another_process(void)
{
    scheduler_config s = scheduler_config_default();
    s.num_train_timesteps = 20;
    s.prediction_type = SCHEDULER_V_PREDICTION;
    s.beta_schedule = SCHEDULER_SQUAREDCOS_CAP_V2;
    s.beta_start = 1e-3, s.beta_end = 0.1;
    s.variance_type = SCHEDULER_FIXED_LARGE;
    s.clip_sample = false, s.clip_sample_range = 2;
    s.timestep_spacing = SCHEDULER_TRAILING;
    s.steps_offset = 1;
    return s;
}

static void make_root(void)
{
    const scheduler_config s = another_process();
    OK(path_join(folder, scratch_make(root), "folder", &why));
    use_folder(&s);
}
static void remove_root(void) { scratch_remove(root); }

TestSuite(init_from, .init = make_root, .fini = remove_root);

static void collect(void *context, const char *text)
{
    char *all = context;
    const size_t used = strlen(all);
    (void)snprintf(all + used, 8192 - used, "%s\n", text);
}

static ddpm_status train(const ddpm_config *c, char all_notes[8192])
{
    const run_hooks hooks = {.context = all_notes, .note = collect};
    backend *be;
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    all_notes[0] = why.text[0] = '\0';
    const ddpm_status st = run_train(be, c, &hooks, &why);
    backend_destroy(be);
    return st;
}

static void expect_scheduler(const char *path, const scheduler_config *want)
{
    scheduler_config s;
    OK(scheduler_config_read(path, NULL, &s, NULL, &why));
    cr_expect_eq(s.type, SCHEDULER_CLASS_DDPM);
    cr_expect_eq(s.num_train_timesteps, want->num_train_timesteps);
    cr_expect_eq(s.prediction_type, want->prediction_type);
    cr_expect_eq(s.beta_schedule, want->beta_schedule);
    cr_expect(s.beta_start == want->beta_start && s.beta_end == want->beta_end, "%g %g", s.beta_start, s.beta_end);
    cr_expect_eq(s.variance_type, want->variance_type);
    cr_expect(s.clip_sample == want->clip_sample && s.clip_sample_range == want->clip_sample_range);
    cr_expect_eq(s.timestep_spacing, want->timestep_spacing);
    cr_expect_eq(s.steps_offset, want->steps_offset);
}

Test(init_from, what_nobody_sets_is_as_the_folder_says_and_is_kept)
{
    static char said[8192];
    const scheduler_config want = another_process();
    ddpm_config c = options(true), kept;
    OK(train(&c, said));
    cr_expect_not_null(strstr(said, "diffusion.num_train_timesteps=20"), "%s", said);
    cr_expect_not_null(strstr(said, "diffusion.predict=v"), "%s", said);
    cr_expect_not_null(strstr(said, "diffusion.beta_schedule=squaredcos_cap_v2"), "%s", said);
    cr_expect_not_null(strstr(said, "diffusion.beta_start=0.001, diffusion.beta_end=0.1,"), "%s", said);
    cr_expect_null(strstr(said, "options that differ"), "%s", said);
    cr_expect_null(strstr(said, "no effect"), "%s", said);
    expect_scheduler(in_dir(c.out, "ckpt/step_00000002/scheduler/scheduler_config.json"), &want);
    config_defaults(&kept);
    OK(config_read_file(&kept, in_dir(c.out, "config.yaml"), &why));
    cr_expect_eq(kept.diffusion.predict, DIFFUSION_PREDICT_V);
    cr_expect_eq(kept.diffusion.num_train_timesteps, 20);
    cr_expect_eq(kept.model.dropout, 0.25);
    cr_expect_not(kept.diffusion.clip_sample);
    config_put(&c, "resume=auto");
    config_put(&c, "train.steps=3");
    OK(train(&c, said));
    cr_expect_null(strstr(said, "differs from the checkpoint"), "%s", said);
    expect_scheduler(in_dir(c.out, "ckpt/step_00000003/scheduler/scheduler_config.json"), &want);
}

/* The checkpoint holds the network, its weights and its process. */
Test(init_from, a_run_goes_on_without_the_folder_that_it_began_from)
{
    static char said[8192];
    const scheduler_config want = another_process();
    ddpm_config c = options(true), kept;
    OK(train(&c, said));
    scratch_remove(folder);
    config_put(&c, "resume=auto");
    config_put(&c, "train.steps=3");
    OK(train(&c, said));
    cr_expect_null(strstr(said, "differs from the checkpoint"), "%s", said);
    cr_expect_null(strstr(said, "has no effect"), "%s", said);
    config_put(&c, "model.init_from=/another");
    config_put(&c, "train.steps=4");
    OK(train(&c, said));
    cr_expect_not_null(strstr(said, "model.init_from=/another has no effect"), "%s", said);
    config_put(&c, "model.init_from=");
    config_put(&c, "train.steps=5");
    OK(train(&c, said));
    expect_scheduler(in_dir(c.out, "ckpt/step_00000005/scheduler/scheduler_config.json"), &want);
    config_defaults(&kept);
    OK(config_read_file(&kept, in_dir(c.out, "config.yaml"), &why));
    cr_expect_str_eq(kept.model.init_from, folder, "it says where the run began");
}

Test(init_from, what_is_set_stays_and_is_said)
{
    static char said[8192];
    scheduler_config want = another_process();
    ddpm_config c = options(true);
    config_put(&c, "diffusion.num_train_timesteps=10");
    config_put(&c, "diffusion.predict=eps");
    config_put(&c, "diffusion.clip_sample_range=2"); /* as there: nothing to say */
    config_put(&c, "model.layers_per_block=2");
    config_put(&c, "model.norm_num_groups=4"); /* as there */
    OK(train(&c, said));
    want.num_train_timesteps = 10, want.prediction_type = SCHEDULER_EPSILON;
    expect_scheduler(in_dir(c.out, "ckpt/step_00000002/scheduler/scheduler_config.json"), &want);
    cr_expect_not_null(strstr(said, ": diffusion.num_train_timesteps (in the folder: 20), "
                                    "diffusion.predict (in the folder: v)"),
                       "%s", said);
    cr_expect_null(strstr(said, "clip_sample_range (in the folder"), "%s", said);
    cr_expect_not_null(strstr(said, "model.layers_per_block"), "%s", said);
    cr_expect_null(strstr(said, "norm_num_groups"), "%s", said);
}

/* sigma's range of the folder's process is not that of another one. */
Test(init_from, another_process_has_its_own_defaults)
{
    const scheduler_config edm = scheduler_config_of(SCHEDULER_CLASS_EDM_EULER);
    for (int k = 0; k < 2; k++) {
        ddpm_config c = options(true);
        if (k == 1) use_folder(&edm);
        config_put(&c, "diffusion.parameterization=ve");
        config_put(&c, "diffusion.predict=eps");
        config_settle(&c);
        OK(recipe_adopt(&c, NULL, &why));
        cr_expect(c.diffusion.sigma_min == 0.02 && c.diffusion.sigma_max == 100, "%g to %g", c.diffusion.sigma_min,
                  c.diffusion.sigma_max);
    }
}

Test(init_from, a_learned_variance_is_of_processes_with_betas_alone)
{
    ddpm_config c = options(true);
    use_folder_of(NULL, "diffusion.variance_type=learned_range");
    config_put(&c, "diffusion.parameterization=vp");
    config_put(&c, "diffusion.predict=eps");
    cr_expect_eq(recipe_adopt(&c, NULL, &why), DDPM_EINVAL);
    cr_expect(strstr(why.text, folder) && strstr(why.text, "half of its 2 output channels"), "%s", why.text);
    c = options(true);
    OK(recipe_adopt(&c, NULL, &why));
    cr_expect_eq(c.diffusion.variance_type, DIFFUSION_VARIANCE_TYPE_LEARNED_RANGE);
}

Test(init_from, values_that_no_option_takes_are_refused_unless_another_is_set)
{
    scheduler_config s = another_process();
    ddpm_config c = options(true);
    s.num_train_timesteps = 20000;
    use_folder(&s);
    cr_expect_eq(recipe_adopt(&c, NULL, &why), DDPM_EINVAL);
    cr_expect(strstr(why.text, folder) && strstr(why.text, "diffusion.num_train_timesteps = 20000"), "%s", why.text);
    config_put(&c, "diffusion.num_train_timesteps=1000");
    OK(recipe_adopt(&c, NULL, &why));
    cr_expect_eq(c.diffusion.num_train_timesteps, 1000);
    config_put(&c, "diffusion.beta_start=0.5"); /* above the folder's beta_end */
    cr_expect_eq(recipe_adopt(&c, NULL, &why), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "diffusion.beta_start=0.5 is above"), "%s", why.text);
    cr_expect_not_null(strstr(why.text, folder), "%s", why.text);
}

Test(init_from, schedulers_that_cannot_be_trained_are_refused_with_the_way_out)
{
    ddpm_config c = options(true);
    scheduler_config s = scheduler_config_of(SCHEDULER_CLASS_DPM_MULTISTEP);
    s.use_flow_sigmas = true, s.flow_shift = 3, s.prediction_type = SCHEDULER_FLOW;
    use_folder(&s);
    cr_expect_eq(recipe_adopt(&c, NULL, &why), DDPM_EINVAL);
    cr_expect(strstr(why.text, folder) && strstr(why.text, "FlowMatchEulerDiscreteScheduler, whose shift is this one's "
                                                           "flow_shift = 3"),
              "%s", why.text);
    s = scheduler_config_default();
    s.num_train_timesteps = s.n_trained_betas = 2, s.trained_betas[0] = s.trained_betas[1] = 0.1;
    use_folder(&s);
    cr_expect_eq(recipe_adopt(&c, NULL, &why), DDPM_EINVAL);
    cr_expect(strstr(why.text, folder) && strstr(why.text, "lists its betas (trained_betas)"), "%s", why.text);
}

/* Settings of sampling that have no option are in the checkpoints as in the folder, or their loss is said. */
Test(init_from, settings_of_sampling_are_kept)
{
    static char said[8192];
    scheduler_config s = scheduler_config_of(SCHEDULER_CLASS_EDM_EULER), kept;
    const char *saved = "ckpt/step_00000002/scheduler/scheduler_config.json";
    s.sigmas = SCHEDULER_SIGMAS_EXPONENTIAL, s.final_sigmas_type = SCHEDULER_FINAL_SIGMA_MIN;
    use_folder(&s);
    ddpm_config c = options(true);
    OK(train(&c, said));
    OK(scheduler_config_read(in_dir(c.out, saved), NULL, &kept, NULL, &why));
    cr_expect(kept.sigmas == s.sigmas && kept.final_sigmas_type == s.final_sigmas_type);
    cr_expect_null(strstr(said, "not the folder's"), "%s", said);
    s = scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER);
    s.stochastic_sampling = true, s.sigmas = SCHEDULER_SIGMAS_KARRAS;
    use_folder(&s);
    c = options(true);
    OK(path_join(c.out, root, "flow", &why));
    OK(train(&c, said));
    OK(scheduler_config_read(in_dir(c.out, saved), NULL, &kept, NULL, &why));
    cr_expect(kept.stochastic_sampling && kept.sigmas == SCHEDULER_SIGMAS_KARRAS);
    s = scheduler_config_of(SCHEDULER_CLASS_DPM_MULTISTEP);
    s.thresholding = true, s.sample_max_value = 2, s.sigmas = SCHEDULER_SIGMAS_KARRAS;
    use_folder(&s);
    c = options(true);
    OK(path_join(c.out, root, "other", &why));
    OK(train(&c, said));
    OK(scheduler_config_read(in_dir(c.out, saved), NULL, &kept, NULL, &why));
    cr_expect(kept.type == SCHEDULER_CLASS_DDPM && kept.thresholding && kept.sample_max_value == 2);
    cr_expect_not_null(strstr(said, "name DDPMScheduler, not the folder's DPMSolverMultistepScheduler"), "%s", said);
}

/* faults F19f: README says that diffusers loads what was trained here */
Test(init_from, what_diffusers_cannot_load_is_said)
{
    static const char *const settings[] = {"diffusion.predict=mu", "model.kind=simple", "diffusion.predict=v"};
    for (int i = 0; i < 3; i++) {
        ddpm_config c = options(false);
        notes said = {""};
        backend *be;
        model *m;
        config_put(&c, settings[i]);
        OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
        OK(recipe_model(&c, be, (image_shape){8, 8, 1, 10}, &m, &said, &why));
        cr_expect_eq(strstr(said.text, "diffusers cannot") != NULL, i < 2, "%s: '%s'", settings[i], said.text);
        model_destroy(m);
        backend_destroy(be);
    }
}

Test(init_from, options_that_change_nothing_beside_the_others_are_said)
{
    static const struct {
        const char *first, *second, *words;
    } cases[] = {{"model.kind=simple", "model.layers_per_block=3", "model.kind=simple: model.layers_per_block"},
                 {"diffusion.beta_schedule=squaredcos_cap_v2", "diffusion.beta_end=0.01", ": diffusion.beta_end"},
                 {"diffusion.beta_schedule=squaredcos_cap_v2", "diffusion.beta_end=0.02", NULL},
                 {"diffusion.beta_schedule=sigmoid", "diffusion.beta_end=0.01", NULL},
                 {"train.lr_scheduler=cosine", "train.lr_power=2", "train.lr_scheduler=cosine: train.lr_power"},
                 {"train.lr_scheduler=polynomial", "train.lr_power=2", NULL},
                 {"diffusion.parameterization=edm", "train.P_mean=1", NULL},
                 {"train.timestep_sampling=auto", "train.P_mean=1", "train.timestep_sampling=auto: train.P_mean"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ddpm_config c = options(false);
        notes said = {""};
        backend *be;
        model *m;
        config_put(&c, cases[i].first);
        config_put(&c, cases[i].second);
        OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
        OK(recipe_model(&c, be, (image_shape){8, 8, 1, 10}, &m, &said, &why));
        if (cases[i].words)
            cr_expect_not_null(strstr(said.text, cases[i].words), "%s", said.text);
        else
            cr_expect_null(strstr(said.text, "no effect"), "%s", said.text);
        model_destroy(m);
        backend_destroy(be);
    }
}
