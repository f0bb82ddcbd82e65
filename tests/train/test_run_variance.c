/* Training of the reverse steps' variance: what a run keeps, resumes and samples from, and what is refused. */
#include "io/scheduler_config.h"
#include "io/unet_config.h"
#include "train/run_rig.h"

TestSuite(run_variance, .init = make_root, .fini = remove_root);

static void with_variance(ddpm_config *c, const char *name)
{
    tiny(c, name);
    config_put(c, "diffusion.variance_type=learned_range");
}

static void expect_same_when_resumed(const char *const *more)
{
    with_variance(&whole, "whole");
    with_variance(&parts, "parts");
    config_put_all(&whole, more);
    config_put_all(&parts, more);
    config_put(&parts, "resume=auto");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(train(&parts, 4, NULL), DDPM_ESAVED, "%s", why.text);
    OK(train(&parts, 0, NULL));
    expect_same_end(&whole, &parts, 9);
}

/* The log's line spans steps before and after the stop: the sums of the bounds are resumed, too. */
Test(run_variance, resumed_equals_uninterrupted)
{
    expect_same_when_resumed((const char *const[]){"log.every=3", NULL});
    double unused[9];
    cr_expect_eq(read_losses(whole.out, unused, 9), 3);
    char *one = get_text(in_dir(whole.out, "metrics.jsonl")), *other = get_text(in_dir(parts.out, "metrics.jsonl"));
    const char *a = strstr(one, "\"vb\":"), *b = strstr(other, "\"vb\":");
    for (int k = 0; k < 3; k++) {
        cr_assert(a && b && strncmp(a, b, strcspn(a, ",")) == 0, "line %d", k);
        a = strstr(a + 1, "\"vb\":"), b = strstr(b + 1, "\"vb\":");
    }
    mem_free(one);
    mem_free(other);
}
Test(run_variance, resumed_with_the_bound_alone_equals_uninterrupted)
{
    expect_same_when_resumed((const char *const[]){"train.use_kl=true", "train.gradient_accumulation_steps=2", NULL});
}
Test(run_variance, resumed_with_classes_equals_uninterrupted)
{
    expect_same_when_resumed((const char *const[]){"model.num_class_embeds=-1", "train.label_dropout=0.3",
                                                   "sample.guidance=2", "sample.every=9",
                                                   "sample.num_inference_steps=3", NULL});
}

/* The folder says what the network is, and another run begins from it. */
Test(run_variance, a_checkpoint_has_the_second_half_of_channels)
{
    network net;
    scheduler_config s;
    char setting[PATH_CAP + 32];
    run_record record = {0};
    with_variance(&whole, "whole");
    config_put(&whole, "train.rescale_learned_sigmas=false");
    OK(train(&whole, 0, &record));
    cr_expect(strstr(record.notes, "DDIM, Euler and UniPC do not split its output"), "%s", record.notes);
    OK(model_read_configs(whole.out, &net, &s, NULL, &why));
    cr_expect(net.unet.in_channels == 1 && net.unet.out_channels == 2);
    cr_expect_eq(s.variance_type, SCHEDULER_LEARNED_RANGE);
    tiny(&parts, "next");
    (void)snprintf(setting, sizeof setting, "model.init_from=%s", whole.out);
    config_put(&parts, setting);
    OK(train(&parts, 0, NULL));
    OK(model_read_configs(parts.out, &net, &s, NULL, &why));
    cr_expect(net.unet.out_channels == 2 && s.variance_type == SCHEDULER_LEARNED_RANGE);
    config_put(&parts, "diffusion.variance_type=fixed_large");
    (void)snprintf(parts.out, sizeof parts.out, "%.3000s/other", root);
    cr_assert_eq(train(&parts, 0, NULL), DDPM_EINVAL);
    cr_expect(strstr(why.text, "set diffusion.variance_type=learned_range"), "%s", why.text);
}

Test(run_variance, a_network_without_it_cannot_learn_one)
{
    char setting[PATH_CAP + 32];
    tiny(&whole, "whole");
    config_put(&whole, "train.steps=1");
    OK(train(&whole, 0, NULL));
    with_variance(&parts, "next");
    (void)snprintf(setting, sizeof setting, "model.init_from=%s", whole.out);
    config_put(&parts, setting);
    cr_assert_eq(train(&parts, 0, NULL), DDPM_EINVAL);
    cr_expect(strstr(why.text, "needs a network with 2 output channels, but this one has 1"), "%s", why.text);
}

/* Two other runs draw and noise the same: a run without the option is what it was. */
Test(run_variance, other_runs_say_nothing_of_it)
{
    tiny(&whole, "whole");
    OK(train(&whole, 0, NULL));
    char *metrics = get_text(in_dir(whole.out, "metrics.jsonl"));
    cr_expect(strstr(metrics, "\"mse\":") && !strstr(metrics, "\"vb\":"));
    mem_free(metrics);
}
