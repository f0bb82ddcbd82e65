/* model.num_class_embeds, model.class_embed_type and train.label_dropout: the network they make, and what is refused. */
#include "base/file.h"
#include "support/io_support.h"
#include "support/ok.h"
#include "support/small_run.h"
#include "train/option_change.h"
#include "train/recipe.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static err why;
static char root[PATH_CAP], folder[PATH_CAP];
static ddpm_config c;

static void make_root(void)
{
    OK(path_join(folder, scratch_make(root), "folder", &why));
    small_run(&c, root, "run", (const char *const[]){"model.block_out_channels=4,8", "model.norm_num_groups=2", NULL});
}
static void remove_root(void) { scratch_remove(root); }
TestSuite(recipe_classes, .init = make_root, .fini = remove_root);

/* Settings, separated by blanks, on top of c. */
static ddpm_config with(const char *settings)
{
    char text[400], *rest = text;
    ddpm_config to = c;
    (void)snprintf(text, sizeof text, "%s", settings);
    for (char *word; (word = strtok_r(rest, " ", &rest));) config_put(&to, word);
    return to;
}

/* The network that these settings make for images of so many classes, or why there is none. */
static ddpm_status make(const char *settings, int classes, network *net, notes *said)
{
    const ddpm_config config = with(settings);
    backend *be;
    model *m;
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    why.text[0] = '\0';
    const ddpm_status st = recipe_model(&config, be, (image_shape){8, 8, 1, classes}, &m, said, &why);
    if (st == DDPM_OK) *net = m->net;
    model_destroy(m);
    backend_destroy(be);
    return st;
}

Test(recipe_classes, options_make_the_embedding)
{
    static const struct {
        const char *settings;
        int classes, embeds;
        unet_class_type type;
    } cases[] = {{"", 10, 0, UNET_CLASS_NULL},
                 {"model.num_class_embeds=-1", 10, 10, UNET_CLASS_NULL},
                 {"model.num_class_embeds=-1 train.label_dropout=0.1", 10, 11, UNET_CLASS_NULL},
                 {"model.num_class_embeds=10", 10, 10, UNET_CLASS_NULL},
                 {"model.num_class_embeds=12 train.label_dropout=1", 10, 12, UNET_CLASS_NULL},
                 {"model.num_class_embeds=3", -1, 3, UNET_CLASS_NULL}, /* without the data */
                 {"model.num_class_embeds=3 train.label_dropout=0.5", -1, 3, UNET_CLASS_NULL},
                 {"model.num_class_embeds=-1 model.class_embed_type=timestep", 4, 4, UNET_CLASS_TIMESTEP},
                 {"model.num_class_embeds=-1 model.class_embed_type=null", 4, 4, UNET_CLASS_NULL},
                 {"model.class_embed_type=timestep", 4, 0, UNET_CLASS_NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        network net = {0};
        OK(make(cases[i].settings, cases[i].classes, &net, NULL));
        cr_expect_eq(net.unet.num_class_embeds, cases[i].embeds, "%s: %d", cases[i].settings,
                     net.unet.num_class_embeds);
        cr_expect_eq(net.unet.class_embed_type, cases[i].type, "%s", cases[i].settings);
    }
}

static void refused(const char *settings, int classes, const char *words)
{
    network net;
    cr_expect_eq(make(settings, classes, &net, NULL), DDPM_EINVAL, "%s", settings);
    cr_expect(strstr(why.text, words) && !strchr(why.text, '\n'), "%s: '%s'", settings, why.text);
}

Test(recipe_classes, what_cannot_be_trained_is_refused_in_one_line)
{
    refused("model.num_class_embeds=9", 10, "num_class_embeds is 9, but the images have 10 classes");
    refused("model.num_class_embeds=9 model.class_embed_type=timestep", 10, "is 9, but the images have 10 classes");
    refused("model.num_class_embeds=-1", 0, "the images have no labels");
    refused("model.num_class_embeds=5", 0, "set model.num_class_embeds=0");
    refused("model.num_class_embeds=-1", -1, "how many classes the images have is not known here");
    refused("train.label_dropout=0.1", 10, "train.label_dropout=0.1: the network has no classes");
    refused("model.num_class_embeds=10 train.label_dropout=0.1", 10, "set model.num_class_embeds=11");
    refused("model.kind=simple model.num_class_embeds=-1", 10, "model.kind=simple has no class embedding");
    refused("model.kind=simple model.num_class_embeds=4", 4, "set model.kind=unet");
    refused("model.num_class_embeds=-1 model.class_embed_type=identity", 10, "reads a vector for each image");
}

Test(recipe_classes, a_type_without_classes_is_said_to_have_no_effect)
{
    network net;
    notes said = {""};
    OK(make("model.class_embed_type=timestep", 10, &net, &said));
    cr_expect_not_null(strstr(said.text, "model.num_class_embeds=0: model.class_embed_type"), "%s", said.text);
    said = (notes){""};
    OK(make("model.class_embed_type=timestep model.num_class_embeds=-1", 10, &net, &said));
    cr_expect_null(strstr(said.text, "no effect"), "%s", said.text);
}

/* ---- model.init_from ---- */

static void make_folder(const char *settings, unet_class_type type)
{
    const ddpm_config config = with(settings);
    backend *be;
    model *m;
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    network net = recipe_network(&config, (image_shape){8, 8, 1, 10});
    if (type != UNET_CLASS_NULL) net.unet.class_embed_type = type;
    const scheduler_config s = recipe_scheduler(&config);
    OK(model_create(be, &net, &s, &m, &why));
    OK(params_allocate(m->store, false, false, &why));
    OK(params_init(m->store, 1, &why));
    OK(model_save(m, ARENA_PARAM, folder, &why));
    model_destroy(m);
    backend_destroy(be);
    OK(path_join(c.model.init_from, root, "folder", &why));
}

Test(recipe_classes, the_number_of_classes_is_that_of_the_folder)
{
    network net;
    notes said = {""};
    make_folder("model.num_class_embeds=11", UNET_CLASS_NULL);
    OK(make("", 10, &net, NULL));
    cr_expect_eq(net.unet.num_class_embeds, 11);
    OK(make("train.label_dropout=0.1 model.num_class_embeds=-1", 10, &net, NULL));
    OK(make("train.label_dropout=0.1", 10, &net, NULL));
    OK(make("model.class_embed_type=timestep", 10, &net, &said));
    cr_expect_not_null(strstr(said.text, "the network is that of"), "%s", said.text);
    cr_expect_not_null(strstr(said.text, ": model.class_embed_type"), "%s", said.text);
    refused("model.num_class_embeds=10", 10, "the network has 11 classes, but model.num_class_embeds=10 asks for 10");
    refused("model.num_class_embeds=0", 10, "the network has 11 classes, but model.num_class_embeds=0 asks for 0");
    refused("model.num_class_embeds=-1", 10, "asks for 10");
    refused("", 12, "num_class_embeds is 11, but the images have 12 classes");
    refused("", 0, "the images have no labels");
    refused("train.label_dropout=0.1", 11, "no row that stands for no class beside the classes of the images in");
}

/* For what needs no data, as `ddpm bench sample CONFIG` and `ddpm bench weights`. */
Test(recipe_classes, a_model_of_the_folder_knows_its_classes)
{
    backend *be;
    model *m;
    make_folder("model.num_class_embeds=3", UNET_CLASS_NULL);
    put_file(in_dir(folder, "classes.json"), "{\"id2label\": {\"0\": \"ant\", \"1\": \"bat\"}, \"null_class\": 2}");
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    OK(recipe_model(&c, be, (image_shape){8, 8, 1, 2}, &m, NULL, &why));
    cr_expect(m->classes.n == 2 && m->classes.says_null && m->classes.null_class == 2);
    model_destroy(m);
    put_file(in_dir(folder, "classes.json"), "{\"null_class\": 0}");
    cr_expect_eq(recipe_model(&c, be, (image_shape){8, 8, 1, 2}, &m, NULL, &why), DDPM_EDATA);
    cr_expect_null(m);
    backend_destroy(be);
}

Test(recipe_classes, a_folder_without_classes_stays_without)
{
    network net;
    make_folder("", UNET_CLASS_NULL);
    OK(make("", 10, &net, NULL));
    cr_expect_eq(net.unet.num_class_embeds, 0);
    refused("model.num_class_embeds=-1", 10, "the network has 0 classes, but model.num_class_embeds=-1 asks for 10");
    refused("train.label_dropout=0.1", 10, "the network has no classes");
}

/* diffusers ignores num_class_embeds there. */
Test(recipe_classes, a_network_of_timesteps_gets_the_classes_of_the_data)
{
    network net;
    make_folder("", UNET_CLASS_TIMESTEP);
    OK(make("", 10, &net, NULL));
    cr_expect_eq(net.unet.num_class_embeds, 10);
    OK(make("train.label_dropout=0.1", 10, &net, NULL));
    cr_expect_eq(net.unet.num_class_embeds, 11);
    OK(make("model.num_class_embeds=20", 10, &net, NULL));
    cr_expect_eq(net.unet.num_class_embeds, 20);
    refused("model.num_class_embeds=9", 10, "num_class_embeds is 9, but the images have 10 classes");
    refused("", 0, "the images have no labels");
}

Test(recipe_classes, a_network_that_reads_vectors_is_refused)
{
    make_folder("", UNET_CLASS_IDENTITY);
    refused("", 10, "class_embed_type identity");
}

/* ---- resumed runs ---- */

Test(recipe_classes, a_resumed_run_keeps_its_classes)
{
    static const struct {
        const char *before, *now;
        config_id option;
        option_change change;
    } cases[] = {
        {"", "model.num_class_embeds=-1", OPTION_model_num_class_embeds, CHANGE_OF_NETWORK},
        {"", "model.class_embed_type=timestep", OPTION_model_class_embed_type, CHANGE_OF_NETWORK},
        {"", "train.label_dropout=0.1", OPTION_train_label_dropout, CHANGE_OF_RESULTS},
        {"model.num_class_embeds=-1", "model.num_class_embeds=-1 train.label_dropout=0.1", OPTION_train_label_dropout,
         CHANGE_OF_NETWORK},
        {"model.num_class_embeds=-1 train.label_dropout=0.2", "model.num_class_embeds=-1 train.label_dropout=0.1",
         OPTION_train_label_dropout, CHANGE_OF_RESULTS},
        {"model.num_class_embeds=9 train.label_dropout=0.2", "model.num_class_embeds=9", OPTION_train_label_dropout,
         CHANGE_OF_RESULTS},
        {"", "diffusion.variance_type=learned_range", OPTION_diffusion_variance_type, CHANGE_OF_NETWORK},
        {"", "diffusion.variance_type=fixed_large", OPTION_diffusion_variance_type, CHANGE_OF_RESULTS},
        {"diffusion.parameterization=vp", "", OPTION_diffusion_parameterization, CHANGE_OF_NETWORK},
        {"diffusion.predict=v", "", OPTION_diffusion_predict, CHANGE_OF_NETWORK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const ddpm_config before = with(cases[i].before), now = with(cases[i].now);
        cr_expect_eq(option_changed(&before, &now, cases[i].option), cases[i].change, "%s, %s", cases[i].before,
                     cases[i].now);
    }
}

/* null is the word also where YAML reads it as nothing. */
Test(recipe_classes, null_is_a_word)
{
    static const char *const texts[] = {"model: {class_embed_type: null}\n", "model: {class_embed_type: ~}\n",
                                        "model: {class_embed_type: 'null'}\n", "model: {class_embed_type: timestep}\n"};
    for (int i = 0; i < 4; i++) {
        ddpm_config to;
        const char *path = in_dir(root, "config.yaml");
        config_defaults(&to);
        to.model.class_embed_type = MODEL_CLASS_EMBED_TYPE_IDENTITY;
        put_file(path, texts[i]);
        OK(config_read_file(&to, path, &why));
        cr_expect_eq(to.model.class_embed_type, i < 3 ? MODEL_CLASS_EMBED_TYPE_NULL : MODEL_CLASS_EMBED_TYPE_TIMESTEP,
                     "%s", texts[i]);
    }
}
