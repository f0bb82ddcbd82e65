/* Training with class labels: which rows of the embedding learn, and what a run keeps. */
#include "io/class_names.h"
#include "io/safetensors.h"
#include "io/unet_config.h"
#include "train/run_rig.h"

TestSuite(run_classes, .init = make_root, .fini = remove_root);

enum { MOST = 12 };

static void with_classes(ddpm_config *c, const char *name, const char *dropout)
{
    char setting[64];
    tiny(c, name);
    config_put(c, "model.num_class_embeds=-1");
    (void)snprintf(setting, sizeof setting, "train.label_dropout=%s", dropout);
    config_put(c, setting);
}

/* class_embedding.weight [classes, 32] of a file of weights. */
static int read_rows(const char *path, float rows[MOST][32])
{
    safetensors *st;
    OK(safetensors_open(path, &st, &why));
    const safetensors_tensor *t = safetensors_find(st, "class_embedding.weight");
    cr_assert(t && t->rank == 2 && t->shape[0] <= MOST && t->shape[1] == 32, "%s", path);
    const int classes = (int)t->shape[0];
    OK(safetensors_to_f32(t, rows[0], &why));
    safetensors_close(st);
    return classes;
}

/* Labels of the training images; `last`: also that which stands for no class. */
static void labels_of(const ddpm_config *c, bool own, int last, bool is_there[MOST])
{
    const dataset_spec spec = recipe_dataset(c);
    dataset *d;
    OK(dataset_open(&spec, &d, &why));
    for (int64_t i = 0; i < dataset_count(d) && own; i++) is_there[dataset_label(d, i)] = true;
    if (last >= 0) is_there[last] = true;
    dataset_close(d);
}

/* The rows that differ after one step and after nine: the others never had a gradient. */
static void expect_trained(const char *dropout, bool own, int classes, int last)
{
    static float before[MOST][32], after[MOST][32];
    bool expected[MOST] = {false};
    with_classes(&whole, dropout, dropout);
    config_put(&whole, "data.count=4");
    config_put(&whole, "ckpt.every=1");
    config_put(&whole, "ckpt.keep=9");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(read_rows(in_dir(whole.out, "ckpt/step_00000001/training/weights.safetensors"), before), classes);
    cr_assert_eq(read_rows(in_dir(whole.out, "ckpt/step_00000009/training/weights.safetensors"), after), classes);
    labels_of(&whole, own, last, expected);
    for (int row = 0; row < classes; row++)
        cr_expect_eq(memcmp(before[row], after[row], sizeof before[row]) != 0, expected[row],
                     "label_dropout %s, class %d", dropout, row);
}

Test(run_classes, the_classes_of_the_images_learn) { expect_trained("0", true, 10, -1); }
Test(run_classes, with_dropout_the_last_learns_too) { expect_trained("0.5", true, 11, 10); }
Test(run_classes, with_certain_dropout_it_learns_alone) { expect_trained("1", false, 11, 10); }

static void expect_same_when_resumed(const char *more)
{
    with_classes(&whole, "whole", "0.3");
    with_classes(&parts, "parts", "0.3");
    config_put(&whole, more);
    config_put(&parts, more);
    config_put(&parts, "resume=auto");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(train(&parts, 4, NULL), DDPM_ESAVED, "%s", why.text);
    OK(train(&parts, 0, NULL));
    expect_same_end(&whole, &parts, 9);
}

Test(run_classes, resumed_equals_uninterrupted) { expect_same_when_resumed("model.class_embed_type=null"); }
Test(run_classes, resumed_with_accumulation_equals_uninterrupted)
{
    expect_same_when_resumed("train.gradient_accumulation_steps=2");
}
Test(run_classes, resumed_equals_uninterrupted_with_embedded_labels)
{
    expect_same_when_resumed("model.class_embed_type=timestep");
}

Test(run_classes, a_checkpoint_says_how_many_there_are)
{
    unet_config u;
    with_classes(&whole, "run", "0.1");
    config_put(&whole, "train.steps=1");
    config_put(&whole, "sample.every=1");
    config_put(&whole, "sample.count=3");
    config_put(&whole, "sample.num_inference_steps=2");
    OK(train(&whole, 0, NULL));
    OK(unet_config_read(in_dir(whole.out, "ckpt/step_00000001/unet/config.json"), &u, NULL, &why));
    cr_expect(u.num_class_embeds == 11 && u.class_embed_type == UNET_CLASS_NULL);
    cr_expect(path_exists(in_dir(whole.out, "samples/step_00000001.png")));
}

Test(run_classes, a_resumed_run_keeps_their_number)
{
    with_classes(&whole, "run", "0.1");
    cr_assert_eq(train(&whole, 3, NULL), DDPM_ESAVED, "%s", why.text);
    config_put(&whole, "resume=auto");
    config_put(&whole, "train.label_dropout=0");
    cr_expect_eq(train(&whole, 0, NULL), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "train.label_dropout"), "%s", why.text);
    config_put(&whole, "train.label_dropout=0.2"); /* other results, the same network: said in the log */
    OK(train(&whole, 0, NULL));
    char *log = get_text(in_dir(whole.out, "log.txt"));
    cr_expect_not_null(strstr(log, "train.label_dropout"), "%s", log);
    mem_free(log);
}

/* A preview after the last step, with these labels. */
static ddpm_status preview(ddpm_config *c, const char *name, const char *labels)
{
    static const char *const settings[] = {
        "train.lr=1e-2",  "train.lr_warmup_steps=1",      "ema.decay=0", "sample.every=9",
        "sample.count=2", "sample.num_inference_steps=4", NULL};
    with_classes(c, name, "0.1");
    config_put_all(c, settings);
    config_put(c, labels);
    return train(c, 0, NULL);
}

Test(run_classes, previews_have_the_labels_of_the_options)
{
    OK(preview(&whole, "in_turn", "sample.labels=balanced"));
    OK(preview(&parts, "listed", "sample.labels=0,1"));
    expect_same_file(whole.out, parts.out, "samples/step_00000009.png");
    OK(preview(&parts, "others", "sample.labels=8,4"));
    cr_expect_not(
        same_bytes(in_dir(whole.out, "samples/step_00000009.png"), in_dir(parts.out, "samples/step_00000009.png")));
    cr_expect_eq(preview(&parts, "beyond", "sample.labels=11"), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "label 11 is not in [0, 11)"), "%s", why.text);
}

/* Label 10 of ten classes and the null class draws pictures without class, in previews as by `ddpm sample`. */
Test(run_classes, the_null_class_is_drawn_where_it_is_named)
{
    OK(preview(&whole, "null", "sample.labels=10"));
    OK(preview(&parts, "zero", "sample.labels=0"));
    cr_expect_not(
        same_bytes(in_dir(whole.out, "samples/step_00000009.png"), in_dir(parts.out, "samples/step_00000009.png")));
}

/* The names of the data's classes are beside the weights of every checkpoint; the log says them. */
Test(run_classes, a_checkpoint_has_their_names)
{
    class_names names;
    with_classes(&whole, "run", "0.1");
    config_put(&whole, "train.steps=2");
    OK(train(&whole, 0, NULL));
    OK(class_names_read(in_dir(whole.out, "ckpt/step_00000002"), 11, &names, &why));
    cr_assert(names.n == 10 && names.says_null && names.null_class == 10);
    cr_expect_str_eq(names.name[7], "7");
    class_names_free(&names);
    OK(checkpoint_verify(in_dir(whole.out, "ckpt/step_00000002"), &why));
    char *log = get_text(in_dir(whole.out, "log.txt"));
    cr_expect_not_null(strstr(log, "10 classes: 0 0, 1 1, "), "%s", log);
    mem_free(log);
    with_classes(&parts, "without", "0");
    config_put(&parts, "train.steps=1");
    OK(train(&parts, 0, NULL));
    OK(class_names_read(in_dir(parts.out, "ckpt/step_00000001"), 10, &names, &why));
    cr_expect(names.n == 10 && names.says_null && names.null_class == -1);
    class_names_free(&names);
    tiny(&parts, "plain");
    config_put(&parts, "train.steps=1");
    OK(train(&parts, 0, NULL));
    cr_expect_not(path_exists(in_dir(parts.out, "ckpt/step_00000001/classes.json")));
}
