/* The classes of a data set in a model and its folder. */
#include "train/run_classes.h"
#include "base/mem.h"
#include "data/data_files.h"
#include "support/device.h"
#include "support/io_support.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <string.h>

static err why;
static char root[PATH_CAP];
static backend *be;

static void begin(void)
{
    scratch_make(root);
    be = test_backend(1);
}

static void end(void)
{
    backend_destroy(be);
    scratch_remove(root);
}

TestSuite(saved_classes, .init = begin, .fini = end);

static model *loaded(const char *path)
{
    model *m;
    OK(model_load(be, path, &m, NULL, &why));
    return m;
}

/* Folders of one image each. */
static dataset *folders(const char *const *names)
{
    dataset *d;
    const dataset_spec spec = {.path = root, .kind = DATASET_FOLDER};
    for (int k = 0; names[k]; k++) copy_file(FIXTURE("resize_tall_8x8.png"), in_dir(root, names[k]), "x.png");
    OK(dataset_open(&spec, &d, &why));
    return d;
}

static void take(const dataset *d, double dropout, bool is_new, model *m, notes *said)
{
    const trainer_spec spec = {.label_dropout = dropout};
    const earlier_classes earlier = {.folder = is_new ? NULL : "earlier", .rows = is_new ? 0 : 5};
    said->text[0] = '\0';
    OK(run_classes_take(d, &spec, &earlier, m, said, &why));
}

static model *through_a_folder(const model *m)
{
    OK(dir_remove(in_dir(root, "out"), &why));
    OK(model_save(m, ARENA_PARAM, in_dir(root, "out"), &why));
    return loaded(in_dir(root, "out"));
}

Test(saved_classes, names_travel_with_the_weights)
{
    static const char *const names[] = {"dog", "ape", "cat", "\"x\"", NULL};
    static const struct {
        double dropout;
        bool is_new, says;
        int null;
    } cases[] = {{0.1, true, true, 4}, {0, true, true, -1}, {0, false, false, 0}, {1, false, true, 4}};
    notes said;
    dataset *d = folders(names);
    model *m = loaded(DDPM_TESTS "/sample/loops/classes");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        take(d, cases[i].dropout, cases[i].is_new, m, &said);
        cr_expect_str_eq(said.text, "4 classes: 0 \"x\", 1 ape, 2 cat, 3 dog");
        model *back = through_a_folder(m);
        cr_assert_eq(back->classes.n, 4);
        for (int k = 0; k < 4; k++) cr_expect_str_eq(back->classes.name[k], dataset_class_name(d, k));
        cr_expect_eq(back->classes.says_null, cases[i].says);
        if (cases[i].says) cr_expect_eq(back->classes.null_class, cases[i].null);
        model_destroy(back);
    }
    cr_expect_eq(run_classes_hash(d, m), dataset_labels_hash(d));
    model_destroy(m);
    dataset_close(d);
}

/* A folder a picture, as where data.path is too high or names a set that is not sorted by class. */
Test(saved_classes, hardly_an_image_of_each_class_is_said)
{
    static const char *const names[] = {"a", "b", "c", NULL};
    notes said = {""};
    dataset *d = folders(names);
    run_classes_doubt(d, &said);
    cr_expect(!strncmp(said.text, "WARNING: 3 classes for 3 images, hardly one each: data.labels says", 66), "%s",
              said.text);
    dataset_close(d);
    for (int k = 0; names[k]; k++) copy_file(FIXTURE("resize_tall_8x8.png"), in_dir(root, names[k]), "y.png");
    said.text[0] = '\0';
    d = folders(names);
    run_classes_doubt(d, &said);
    cr_expect_str_eq(said.text, "");
    dataset_close(d);
}

Test(saved_classes, a_network_without_classes_has_no_file)
{
    static const char *const names[] = {"a", "b", NULL};
    notes said;
    dataset *d = folders(names);
    model *m = loaded(DDPM_TESTS "/golden/pipeline/current");
    take(d, 0, true, m, &said);
    cr_expect_str_eq(said.text, "");
    cr_expect_eq(run_classes_hash(d, m), 0);
    model *back = through_a_folder(m);
    model_destroy(back);
    cr_expect(path_exists(in_dir(root, "out/unet/config.json")) && !path_exists(in_dir(root, "out/classes.json")));
    put_file(in_dir(root, "out/classes.json"), "nonsense"); /* is nobody's then */
    back = loaded(in_dir(root, "out"));
    model_destroy(back);
    model_destroy(m);
    dataset_close(d);
}

Test(saved_classes, the_log_names_the_first_and_the_last_of_many)
{
    notes said;
    static const char *const two[] = {"b", "a", NULL};
    model *m = loaded(DDPM_TESTS "/sample/loops/classes");
    for (int k = 0; k < 30; k++) {
        char name[200];
        memset(name, 'x', sizeof name);
        (void)snprintf(name + sizeof name - 4, 4, "%03d", k);
        copy_file(FIXTURE("resize_tall_8x8.png"), in_dir(root, name), "x.png");
    }
    dataset *d = folders(two);
    take(d, 0, true, m, &said);
    cr_expect(!strncmp(said.text, "32 classes: 0 a, 1 b, 2 xxxxx", 29), "%s", said.text);
    cr_expect(strstr(said.text, ", ..., 31 xxxx") && !strstr(said.text, " 12 "), "%s", said.text);
    dataset_close(d);
    const dataset_spec numbers = {.kind = DATASET_DIGITS, .count = 10, .labels = DATASET_LABELS_NONE};
    OK(dataset_open(&numbers, &d, &why));
    take(d, 0, true, m, &said);
    cr_expect_str_eq(said.text, "0 classes");
    cr_expect_eq(m->classes.n, 0);
    dataset_close(d);
    model_destroy(m);
}
