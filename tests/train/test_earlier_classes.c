/* Classes of weights that are trained further: by model.init_from, and by a resumed run whose data changed. */
#include "data/data_files.h"
#include "io/class_names.h"
#include "train/run_rig.h"

TestSuite(earlier_classes, .init = make_root, .fini = remove_root);

/* Two images in each folder DATA/NAME; names end with NULL. */
static void put_classes(const char *data, const char *const *names)
{
    char folder[PATH_CAP];
    for (int k = 0; names[k]; k++) {
        OK(path_join(folder, in_dir(root, data), names[k], &why));
        OK(dir_make(in_dir(root, data), &why));
        OK(dir_make(folder, &why));
        copy_file(FIXTURE("resize_tall_8x8.png"), folder, "x.png");
        copy_file(FIXTURE("resize_tall_8x8.png"), folder, "y.png");
    }
}

/* One step on the folders of `data`, from the weights of root/from if it is not "". */
static void with(ddpm_config *c, const char *name, const char *data, const char *from)
{
    char setting[2 * PATH_CAP];
    tiny(c, name);
    (void)snprintf(setting, sizeof setting, "data.path=%s", in_dir(root, data));
    config_put(c, "data.kind=folder");
    config_put(c, "data.count=0");
    config_put(c, setting);
    config_put(c, "train.batch=2");
    config_put(c, "train.steps=1");
    if (!from[0]) return;
    (void)snprintf(setting, sizeof setting, "model.init_from=%s", in_dir(root, from));
    config_put(c, setting);
}

static const char *const ANIMALS[] = {"bird", "cat", "dog", NULL};

/* The run root/from: three animals, and with "train.label_dropout=0.1" the null class. */
static void make_first(const char *dropout)
{
    put_classes("animals", ANIMALS);
    with(&whole, "from", "animals", "");
    config_put(&whole, "model.num_class_embeds=-1");
    config_put(&whole, dropout);
    OK(train(&whole, 0, NULL));
}

static class_names classes_of(const ddpm_config *c, const char *folder, int rows)
{
    class_names names;
    OK(class_names_read(in_dir(c->out, folder), rows, &names, &why));
    return names;
}

static void expect_refused(const ddpm_config *c, const char *words)
{
    cr_expect_eq(train(c, 0, NULL), DDPM_EINVAL, "'%s' was not refused", words);
    cr_expect(strstr(why.text, words) && !strchr(why.text, '\n'), "no '%s' in: %s", words, why.text);
}

static const char LAST[] = "ckpt/step_00000001";

Test(earlier_classes, the_null_class_stays_without_label_dropout)
{
    run_record said = {0};
    make_first("train.label_dropout=0.1");
    with(&parts, "to", "animals", "from");
    config_put(&parts, "sample.guidance=2"); /* which needs the null class */
    config_put(&parts, "sample.every=1");
    config_put(&parts, "sample.num_inference_steps=2");
    OK(train(&parts, 0, &said));
    class_names names = classes_of(&parts, LAST, 4);
    cr_expect(names.n == 3 && names.says_null && names.null_class == 3, "%d %d", names.n, names.null_class);
    cr_expect_null(strstr(said.notes, "WARNING: 1 class"), "%s", said.notes);
    class_names_free(&names);
}

Test(earlier_classes, weights_without_null_class_get_none)
{
    make_first("train.label_dropout=0");
    with(&parts, "to", "animals", "from");
    OK(train(&parts, 0, NULL));
    class_names names = classes_of(&parts, LAST, 3);
    cr_expect(names.n == 3 && names.says_null && names.null_class == -1);
    class_names_free(&names);
}

Test(earlier_classes, a_null_class_that_becomes_a_class_is_none_any_more)
{
    static const char *const four[] = {"ant", NULL};
    run_record said = {0};
    make_first("train.label_dropout=0.1");
    put_classes("more", ANIMALS);
    put_classes("more", four);
    with(&parts, "to", "more", "from");
    OK(train(&parts, 0, &said));
    class_names names = classes_of(&parts, LAST, 4);
    cr_expect(names.n == 4 && names.says_null && names.null_class == -1);
    class_names_free(&names);
    cr_expect_not_null(strstr(said.notes, "row 3, which stands for no class in"), "%s", said.notes);
    cr_expect_not_null(strstr(said.notes, "WARNING: 3 classes had another meaning in"), "%s", said.notes);
    cr_expect_not_null(strstr(said.notes, ": 0 was bird and is ant, 1 was cat and is bird, 2 was dog and is cat"), "%s",
                       said.notes);
}

Test(earlier_classes, names_of_rows_without_images_stay)
{
    static const char *const two[] = {"bird", "cat", NULL};
    run_record said = {0};
    make_first("train.label_dropout=0.1");
    put_classes("fewer", two);
    with(&parts, "to", "fewer", "from");
    OK(train(&parts, 0, &said));
    class_names names = classes_of(&parts, LAST, 4);
    cr_expect(names.n == 3 && names.null_class == 3 && !strcmp(names.name[2], "dog"));
    class_names_free(&names);
    cr_expect_not_null(strstr(said.notes, "no image of the data has, from 2 dog on"), "%s", said.notes);
}

/* No message may recommend what another one refuses. */
Test(earlier_classes, a_folder_that_does_not_fit_is_refused_without_a_circle)
{
    static const char *const more[] = {"ant", "bee", NULL};
    make_first("train.label_dropout=0");
    put_classes("more", ANIMALS);
    put_classes("more", more);
    with(&parts, "to", "more", "from");
    expect_refused(&parts, "use data of at most 3 classes, or train a new network, without model.init_from");
    with(&parts, "to", "animals", "from");
    config_put(&parts, "train.label_dropout=0.1");
    expect_refused(&parts, "set train.label_dropout=0, or train a new network, without model.init_from");
    with(&parts, "to", "animals", "from");
    config_put(&parts, "data.labels=none");
    expect_refused(&parts, "use data with labels, or begin with a network without classes");
}

/* ---- resumed runs ---- */

static void resume(const char *data, const char *settings)
{
    with(&whole, "from", data, "");
    config_put(&whole, "resume=auto");
    config_put(&whole, "train.steps=2");
    config_put(&whole, settings);
}

Test(earlier_classes, the_number_of_classes_may_be_spelled_out)
{
    make_first("train.label_dropout=0");
    resume("animals", "model.num_class_embeds=4");
    expect_refused(&whole, "model.num_class_embeds differs from the value at the start");
    resume("animals", "model.num_class_embeds=0");
    expect_refused(&whole, "model.num_class_embeds differs from the value at the start");
    resume("animals", "model.num_class_embeds=3");
    OK(train(&whole, 0, NULL));
    resume("animals", "model.num_class_embeds=-1"); /* and back */
    config_put(&whole, "train.steps=3");
    OK(train(&whole, 0, NULL));
}

Test(earlier_classes, a_class_that_the_data_gained_or_lost_is_named)
{
    static const char *const fox[] = {"fox", NULL};
    make_first("train.label_dropout=0");
    put_classes("more", ANIMALS);
    put_classes("more", fox);
    put_classes("fewer", ANIMALS + 1);
    resume("more", "model.num_class_embeds=-1");
    expect_refused(&whole, "its network has 3 rows of classes, but the 4 classes of the data ask for 4: new: \"fox\";");
    resume("fewer", "model.num_class_embeds=-1");
    expect_refused(&whole, "but the 2 classes of the data ask for 2: missing: \"bird\";");
    resume("more", "model.num_class_embeds=3");
    expect_refused(&whole, "new: \"fox\"");
}

Test(earlier_classes, a_null_class_survives_the_end_of_label_dropout)
{
    make_first("train.label_dropout=0.1");
    resume("animals", "model.num_class_embeds=4");
    config_put(&whole, "train.label_dropout=0");
    OK(train(&whole, 0, NULL));
    class_names names = classes_of(&whole, "ckpt/step_00000002", 4);
    cr_expect(names.n == 3 && names.says_null && names.null_class == 3);
    class_names_free(&names);
}
