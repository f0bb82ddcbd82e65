#include "io/scheduler_config.h"
#include "support/io_support.h"

#include <dirent.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static scheduler_config parse(const char *text, notes *n)
{
    scheduler_config c;
    err e = {0};
    cr_assert_eq(scheduler_config_parse(text, strlen(text), "s.json", &c, n, &e), DDPM_OK, "%s", e.text);
    return c;
}

static void refuse(const char *text, const char *words)
{
    scheduler_config c;
    err e = {0};
    cr_expect_eq(scheduler_config_parse(text, strlen(text), "s.json", &c, NULL, &e), DDPM_EDATA, "accepted: %s", text);
    cr_expect_not_null(strstr(e.text, words), "%s: expected '%s', got '%s'", text, words, e.text);
}

static ddpm_status rewrite(const char *from, const char *to, notes *n, err *e)
{
    scheduler_config c;
    TRY(scheduler_config_read(from, NULL, &c, n, e));
    return scheduler_config_write(&c, to, e);
}

Test(scheduler_config, what_diffusers_writes_is_written_again_to_the_byte)
{
    static const char *const names[] = {"scheduler_defaults", "scheduler_cosine", "scheduler_other",
                                        "scheduler_sigmoid"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_CAP];
        (void)snprintf(path, sizeof path, "%s/configs/%s.json", FIXTURES, names[i]);
        expect_rewritten(rewrite, path, path);
    }
}

/* Every class with its defaults and with other values; no class is missing. */
Test(scheduler_config, every_class_is_written_again_to_the_byte)
{
    struct dirent *entry;
    bool seen[SCHEDULER_CLASSES] = {false};
    int n = 0;
    DIR *d = opendir(FIXTURES "/schedulers");
    cr_assert_not_null(d);
    while ((entry = readdir(d)) != NULL) {
        char path[PATH_CAP];
        scheduler_config c;
        err e = {0};
        if (entry->d_name[0] == '.') continue;
        (void)snprintf(path, sizeof path, "%s/schedulers/%s", FIXTURES, entry->d_name);
        expect_rewritten(rewrite, path, path);
        cr_assert_eq(scheduler_config_read(path, NULL, &c, NULL, &e), DDPM_OK, "%s", e.text);
        seen[c.type] = true;
        n++;
    }
    closedir(d);
    cr_assert_eq(n, 2 * SCHEDULER_CLASSES);
    for (int i = 0; i < SCHEDULER_CLASSES; i++) cr_expect(seen[i], "%s", scheduler_class_name((scheduler_class)i));
}

/* diffusers' from_config(): keys of the file that the other class has not are without effect. */
Test(scheduler_config, a_file_can_be_read_as_another_class)
{
    const scheduler_class as = SCHEDULER_CLASS_DDIM;
    scheduler_config c;
    notes n = {""};
    err e = {0};
    cr_assert_eq(scheduler_config_read(FIXTURES "/schedulers/UniPCMultistep.other.json", &as, &c, &n, &e), DDPM_OK,
                 "%s", e.text);
    cr_expect_eq(c.type, SCHEDULER_CLASS_DDIM);
    cr_expect_eq(c.timestep_spacing, SCHEDULER_TRAILING);
    cr_expect_eq(c.solver_order, 2);
    cr_expect_str_eq(n.text, "");
}

Test(scheduler_config, an_empty_object_is_diffusers_default)
{
    char dir[PATH_CAP];
    const char *empty = in_dir(scratch_make(dir), "empty.json");
    put_file(empty, "{}");
    expect_rewritten(rewrite, empty, FIXTURES "/configs/scheduler_defaults.json");
    scratch_remove(dir);
}

Test(scheduler_config, every_word_has_its_value)
{
    scheduler_config c = parse("{\"beta_schedule\": \"squaredcos_cap_v2\", \"variance_type\": \"fixed_large\","
                               "\"prediction_type\": \"v_prediction\", \"timestep_spacing\": \"trailing\"}",
                               NULL);
    cr_assert_eq(c.beta_schedule, SCHEDULER_SQUAREDCOS_CAP_V2);
    cr_assert_eq(c.variance_type, SCHEDULER_FIXED_LARGE);
    cr_assert_eq(c.prediction_type, SCHEDULER_V_PREDICTION);
    cr_assert_eq(c.timestep_spacing, SCHEDULER_TRAILING);
    c = parse("{\"beta_schedule\": \"scaled_linear\", \"variance_type\": \"fixed_small\", \"prediction_type\": \"mu\","
              "\"timestep_spacing\": \"linspace\", \"steps_offset\": 1, \"clip_sample\": false}",
              NULL);
    cr_assert_eq(c.beta_schedule, SCHEDULER_SCALED_LINEAR);
    cr_assert_eq(c.variance_type, SCHEDULER_FIXED_SMALL);
    cr_assert_eq(c.prediction_type, SCHEDULER_MU);
    cr_assert_eq(c.timestep_spacing, SCHEDULER_LINSPACE);
    cr_assert_eq(c.steps_offset, 1);
    cr_assert_not(c.clip_sample);
    c = parse("{\"beta_schedule\": \"sigmoid\", \"prediction_type\": \"sample\"}", NULL);
    cr_assert_eq(c.beta_schedule, SCHEDULER_SIGMOID);
    cr_assert_eq(c.prediction_type, SCHEDULER_SAMPLE);
    cr_assert_str_eq(scheduler_prediction_name(SCHEDULER_V_PREDICTION), "v_prediction");
    cr_assert_str_eq(scheduler_betas_name(SCHEDULER_SIGMOID), "sigmoid");
    cr_assert_str_eq(scheduler_variance_name(SCHEDULER_FIXED_LARGE), "fixed_large");
    cr_assert_str_eq(scheduler_spacing_name(SCHEDULER_LINSPACE), "linspace");
}

Test(scheduler_config, the_first_releases_keys_are_taken)
{
    scheduler_config c;
    notes n = {""};
    err e = {0};
    cr_assert_eq(scheduler_config_read(FIXTURES "/first/scheduler_config.json", NULL, &c, &n, &e), DDPM_OK, "%s",
                 e.text);
    cr_assert_eq(c.type, SCHEDULER_CLASS_DDPM);
    cr_assert_eq(c.num_train_timesteps, 300);
    cr_assert_not(c.clip_sample);
    cr_assert_eq(c.variance_type, SCHEDULER_FIXED_LARGE);
    cr_assert_not_null(strstr(n.text, "tensor_format"), "%s", n.text);
    cr_assert_eq(parse("{\"predict_epsilon\": false}", NULL).prediction_type, SCHEDULER_SAMPLE);
    cr_assert_eq(parse("{\"predict_epsilon\": true}", NULL).prediction_type, SCHEDULER_EPSILON);
    cr_assert_eq(parse("{\"timesteps\": 300, \"num_train_timesteps\": 400}", NULL).num_train_timesteps, 400);
}

Test(scheduler_config, what_is_not_supported_is_refused_by_name)
{
    refuse("{\"_class_name\": \"RePaintScheduler\"}", /* faults F16 */
           "_class_name = \"RePaintScheduler\" is not supported; supported: DDPMScheduler, DDIMScheduler");
    refuse("{\"_class_name\": \"ScoreSdeVeScheduler\"}", /* of an NCSN++ that is told sigma itself */
           "ScoreSdeVeScheduler is supported as this program writes it alone, with preconditioning \"ve\"");
    refuse("{\"_class_name\": \"ScoreSdeVpScheduler\", \"preconditioning\": \"ve\"}", "preconditioning \"vp\"");
    refuse("{\"_class_name\": \"ScoreSdeVpScheduler\", \"preconditioning\": \"vp\", \"beta_min\": 30}",
           "beta_min = 30 is above beta_max = 20");
    refuse("{\"_class_name\": \"UniPCMultistepScheduler\", \"use_dynamic_shifting\": true}", "use_dynamic_shifting");
    refuse("{\"_class_name\": \"UniPCMultistepScheduler\", \"solver_p\": [\"x\"]}", "solver_p");
    refuse("{\"_class_name\": \"UniPCMultistepScheduler\", \"disable_corrector\": [64]}", "disable_corrector");
    refuse("{\"_class_name\": \"EulerDiscreteScheduler\", \"interpolation_type\": \"log_linear\"}",
           "interpolation_type");
    refuse("{\"_class_name\": \"EulerDiscreteScheduler\", \"sigma_min\": 0.1}", "sigma_min");
    refuse("{\"_class_name\": \"LMSDiscreteScheduler\", \"use_karras_sigmas\": true, \"use_beta_sigmas\": true}",
           "both true");
    refuse("{\"trained_betas\": [0.1, 0.2]}", "trained_betas");
    refuse("{\"trained_betas\": [0.1, 1.0], \"num_train_timesteps\": 2}", "number 2 is not in (0, 1)");
    refuse("{\"set_alpha_to_one\": false}", "set_alpha_to_one");
    refuse("{\"variance_type\": \"fixed_small_log\"}", "variance_type = \"fixed_small_log\" is not supported");
    refuse("{\"beta_schedule\": \"laplace\"}", "beta_schedule = \"laplace\"");
    refuse("{\"prediction_type\": \"flow\"}", "supported: epsilon, sample, v_prediction, mu");
    refuse("{\"timestep_spacing\": \"karras\"}", "timestep_spacing");
    refuse("{\"num_train_timesteps\": 0}", "num_train_timesteps");
    refuse("{\"timesteps\": 10000000}", "timesteps");
    refuse("{\"beta_start\": 0}", "beta_start");
    refuse("{\"beta_start\": 0.1, \"beta_end\": 0.05}", "beta_end");
    refuse("{\"beta_end\": 1}", "beta_end");
    refuse("{\"steps_offset\": 1000}", "steps_offset");
    refuse("{\"clip_sample\": 1}", "clip_sample");
    refuse("{\"prediction_type\": \"flow_prediction\"}", "prediction_type = \"flow_prediction\" needs use_flow_sigmas");
    refuse("{\"_class_name\": \"EDMEulerScheduler\", \"sigma_min\": 90}", "sigma_min = 90 is not below sigma_max = 80");
    refuse("{\"_class_name\": \"CMStochasticIterativeScheduler\", \"sigma_max\": 0.002}", "is not below sigma_max");
    refuse("{\"_class_name\": \"EDMDPMSolverMultistepScheduler\", \"prediction_type\": \"sample\"}",
           "prediction_type = \"sample\": EDMDPMSolverMultistepScheduler needs epsilon or v_prediction");
}

/* faults C6: a tree of JSON takes up to 50 times its text, so its values are counted first */
Test(scheduler_config, a_text_of_many_values_is_refused_before_it_is_parsed)
{
    enum { SIZE = 900000 };
    char *text = malloc(SIZE + 16);
    scheduler_config c;
    err e = {0};
    size_t n = (size_t)sprintf(text, "{\"a\":[");
    while (n < SIZE) n += (size_t)sprintf(text + n, "[],");
    n += (size_t)sprintf(text + n, "0]}");
    cr_expect_eq(scheduler_config_parse(text, n, "s.json", &c, NULL, &e), DDPM_EDATA);
    cr_expect_str_eq(e.text, "s.json: more than 16384 values");
    n = (size_t)sprintf(text, "{\"trained_betas\":[");
    for (int i = 0; i < 10000; i++) n += (size_t)sprintf(text + n, "0.01,");
    n += (size_t)sprintf(text + n, "0.01], \"x\": \"[,[,[\\\",[,[\"}");
    cr_expect_eq(scheduler_config_parse(text, n, "s.json", &c, NULL, &e), DDPM_EDATA);
    cr_expect_not_null(strstr(e.text, "trained_betas must be null or a list of num_train_timesteps = 1000 numbers"),
                       "%s", e.text);
    free(text);
}
