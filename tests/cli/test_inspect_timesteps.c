/* ddpm inspect timesteps=true: what another program reads, a line a step and nothing else (faults F15). */
#include "diffusion/sampler.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static err why;

/* What the program prints, standard error included, has exactly these rows. */
static void expect_rows(const char *words, const scheduler_config *c, int steps)
{
    char command[2 * PATH_CAP], line[256];
    schedule *s;
    sampler_table *table;
    (void)snprintf(command, sizeof command, "'%s' inspect %s 2>&1", DDPM_PROGRAM, words);
    cr_assert_eq(schedule_create(c, &s, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(sampler_create(s, &(sampler_spec){.steps = steps}, &table, &why), DDPM_OK, "%s", why.text);
    FILE *out = popen(command, "r");
    cr_assert_not_null(out);
    int n = 0;
    for (; fgets(line, sizeof line, out); n++) {
        char *rest;
        const float t = strtof(line, &rest), added = strtof(rest, &rest);
        const double level = strtod(rest, &rest), abar = s->abar[(int)t];
        cr_assert_str_eq(rest, "\n", "%s: '%s'", words, line);
        cr_assert_lt(n, table->n);
        cr_expect(t == table->rows[n].t && added == table->rows[n].s, "%s: %d: '%s'", words, n, line);
        cr_expect_float_eq(level / sqrt((1 - abar) / abar), 1, 1e-5, "%s: %d: '%s'", words, n, line);
    }
    cr_expect_eq(pclose(out), 0);
    cr_expect_eq(n, table->n, "%s: %d lines", words, n);
    sampler_destroy(table);
    schedule_destroy(s);
}

Test(inspect_timesteps, of_options_with_spacing_and_variance)
{
    scheduler_config c = scheduler_config_default();
    expect_rows("'" DDPM_SOURCE "/configs/mnist.yaml' timesteps=true", &c, 0);
    c.timestep_spacing = SCHEDULER_LINSPACE;
    c.variance_type = SCHEDULER_FIXED_LARGE;
    expect_rows("'" DDPM_SOURCE "/configs/mnist.yaml' inspect.timesteps=true sample.num_inference_steps=53 "
                "sample.timestep_spacing=linspace sample.variance_type=fixed_large",
                &c, 53);
}

/* The model's own spacing holds until another is asked for, also where a run's config.yaml lies beside it. */
Test(inspect_timesteps, of_a_folder)
{
    char dir[PATH_CAP], words[PATH_CAP + 200];
    scheduler_config c = scheduler_config_default();
    put_file(in_dir(scratch_make(dir), "config.json"), "{}");
    c.timestep_spacing = SCHEDULER_TRAILING;
    c.num_train_timesteps = 200;
    cr_assert_eq(scheduler_config_write(&c, in_dir(dir, "scheduler_config.json"), &why), DDPM_OK, "%s", why.text);
    put_file(in_dir(dir, "config.yaml"), "sample: {num_inference_steps: 48}\n");
    (void)snprintf(words, sizeof words, "%s inspect.timesteps=true", dir);
    expect_rows(words, &c, 48);
    c.timestep_spacing = SCHEDULER_LEADING;
    (void)snprintf(words, sizeof words,
                   "%s timesteps=true sample.timestep_spacing=leading sample.num_inference_steps=7", dir);
    expect_rows(words, &c, 7);
    scratch_remove(dir);
}

/* What a command says of a pipeline folder whose betas make no process: the code of damaged files, with file and key. */
static void expect_damaged(const char *words, const char *file)
{
    char command[2 * PATH_CAP], line[1024] = "";
    (void)snprintf(command, sizeof command, "'%s' %s 2>&1 >/dev/null", DDPM_PROGRAM, words);
    FILE *out = popen(command, "r");
    cr_assert_not_null(out);
    cr_expect_not_null(fgets(line, sizeof line, out));
    const int status = pclose(out);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == DDPM_EDATA, "%s: %s", words, line);
    cr_expect(strstr(line, file) && strstr(line, "beta_start 1e-30"), "%s: %s", words, line);
}

Test(inspect_timesteps, betas_that_make_no_process_are_a_damaged_file)
{
    static const char *const commands[] = {"inspect %s timesteps=true", "inspect %s", "sample %s count=1",
                                           "bench sample %s"};
    char dir[PATH_CAP], words[PATH_CAP + 200], file[PATH_CAP];
    (void)snprintf(file, sizeof file, "%s", in_dir(scratch_make(dir), "net"));
    (void)snprintf(words, sizeof words, "cp -r '" DDPM_TESTS "/golden/pipeline/current' '%s'", file);
    cr_assert_eq(system(words), 0);
    (void)snprintf(file, sizeof file, "%s", in_dir(dir, "net/scheduler/scheduler_config.json"));
    put_file(file, "{\"_class_name\": \"DDPMScheduler\", \"beta_start\": 1e-30}");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char folder[PATH_CAP];
        (void)snprintf(folder, sizeof folder, "%s", in_dir(dir, "net"));
        char *at = strstr(commands[i], "%s");
        (void)snprintf(words, sizeof words, "%.*s%s%s", (int)(at - commands[i]), commands[i], folder, at + 2);
        expect_damaged(words, file);
    }
    scratch_remove(dir);
}
