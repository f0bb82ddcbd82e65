/* Several averages of the weights beside each other: in memory, in checkpoints, and in a resumed run. */
#include "train/run_rig.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "train/checkpoint_averages.h"
#include "train/recipe.h"

#define FIRST "unet/diffusion_pytorch_model.safetensors"

/* All kinds at once, Adam, and vectors that do not decay. */
static void averaged(ddpm_config *c, const char *name)
{
    static const char *const settings[] = {"ema.more=[0.3]",
                                           "ema.sigma_rel=[0.05,0.1]",
                                           "train.optimizer=adam",
                                           "train.adam_weight_decay=0.1",
                                           "train.adam_decay_norms=false",
                                           "train.lr_scheduler=polynomial",
                                           "train.lr_power=1.5",
                                           NULL};
    tiny(c, name);
    config_put_all(c, settings);
}

static const char *last_of(const ddpm_config *c, char dir[PATH_CAP])
{
    char name[CHECKPOINT_NAME_CAP];
    (void)snprintf(dir, PATH_CAP, "%.3000s/ckpt/%s", c->out, checkpoint_name(name, c->train.steps));
    return dir;
}

Test(averages, a_resumed_run_has_the_same_to_the_bit, .init = make_root, .fini = remove_root)
{
    char a[PATH_CAP], b[PATH_CAP];
    averaged(&whole, "whole");
    averaged(&parts, "parts");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(train(&parts, 4, NULL), DDPM_ESAVED);
    config_put(&parts, "resume=auto");
    OK(train(&parts, 0, NULL));
    expect_same_end(&whole, &parts, 9);
    last_of(&whole, a);
    last_of(&parts, b);
    expect_same_file(a, b, "training/ema_1.safetensors");
    expect_same_file(a, b, "training/ema_2.safetensors");
    expect_same_file(a, b, "training/ema_3.safetensors");
    cr_expect(!same_bytes(in_dir(a, FIRST), in_dir(a, "training/ema_1.safetensors")), "the decays have no effect");
    cr_expect(!same_bytes(in_dir(a, "training/ema_2.safetensors"), in_dir(a, "training/ema_3.safetensors")));
}

/* An average does not depend on its place, nor on the others. */
Test(averages, each_is_what_it_would_be_alone, .init = make_root, .fini = remove_root)
{
    static const char *const alone[][3] = {{"ema.decay=0.3", NULL, NULL},
                                           {"ema.decay=0", "ema.sigma_rel=0.05", NULL},
                                           {"ema.decay=0", "ema.sigma_rel=0.1", NULL}};
    char a[PATH_CAP], b[PATH_CAP], name[40];
    averaged(&whole, "whole");
    OK(train(&whole, 0, NULL));
    last_of(&whole, a);
    for (int k = 0; k < 3; k++) {
        (void)snprintf(name, sizeof name, "alone_%d", k);
        averaged(&parts, name);
        config_put(&parts, "ema.more=0");
        config_put(&parts, "ema.sigma_rel=0");
        config_put_all(&parts, alone[k]);
        OK(train(&parts, 0, NULL));
        last_of(&parts, b);
        (void)snprintf(name, sizeof name, "training/ema_%d.safetensors", k + 1);
        cr_expect(same_bytes(in_dir(a, name), in_dir(b, FIRST)), "average %d", k + 1);
        expect_same_file(a, b, "training/weights.safetensors");
    }
}

/* The options of a checkpoint that an earlier version wrote say warmup: false. */
Test(averages, a_run_from_the_time_of_another_default_goes_on_as_it_began, .init = make_root, .fini = remove_root)
{
    run_record r = {0};
    tiny(&whole, "whole");
    tiny(&parts, "parts");
    config_put(&whole, "ema.warmup=false");
    config_put(&parts, "ema.warmup=false");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(train(&parts, 4, NULL), DDPM_ESAVED);
    tiny(&parts, "parts");
    cr_assert(parts.ema.warmup);
    config_put(&parts, "resume=auto");
    OK(train(&parts, 0, &r));
    cr_expect_null(strstr(r.notes, "ema.warmup differs"), "%s", r.notes);
    expect_same_end(&whole, &parts, 9);
}

/* A set option wins; an average that is new starts from the weights, and one that stays is found by its name. */
Test(averages, may_change_when_a_run_goes_on, .init = make_root, .fini = remove_root)
{
    static const char *const changed[] = {"ema.more=[0.75,0.3]", "ema.sigma_rel=0", "resume=auto", NULL};
    average_names names;
    char dir[PATH_CAP], file[PATH_CAP];
    run_record r = {0};
    averaged(&parts, "parts");
    cr_assert_eq(train(&parts, 4, NULL), DDPM_ESAVED);
    config_put_all(&parts, changed);
    config_put(&parts, "train.steps=5");
    OK(train(&parts, 0, &r));
    cr_expect_not_null(strstr(r.notes, "ema.more differs from the checkpoint"), "%s", r.notes);
    json_in j = json_in_file(in_dir(last_of(&parts, dir), "training/state.json"), &why);
    averages_get(&j, &names);
    OK(json_in_close(&j, NULL));
    cr_assert_eq(names.n, 3);
    cr_expect_str_eq(names.name[0], "decay=0.9");
    cr_expect_str_eq(names.name[1], "decay=0.75");
    cr_expect_str_eq(names.name[2], "decay=0.3");
    OK(averages_find(dir, "decay=0.3", file, &why));
    cr_expect_not_null(strstr(file, "training/ema_2.safetensors"));
    OK(averages_find(dir, "ema_1", file, &why));
    cr_expect_not_null(strstr(file, "training/ema_1.safetensors"));
    OK(averages_find(dir, "decay=0.9", file, &why));
    cr_expect_str_eq(file, "");
    OK(averages_find(dir, "raw", file, &why));
    cr_expect_not_null(strstr(file, "training/weights.safetensors"));
    cr_expect_eq(averages_find(dir, "ema_3", file, &why), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "there are ema (decay=0.9) and raw, ema_1 (decay=0.75), ema_2 (decay=0.3)"),
                       "%s", why.text);
}

/* Weights of rank 1 differ between the two, and no other: gradients see no decay in the first step. */
Test(averages, vectors_decay_unless_they_are_spared, .init = make_root, .fini = remove_root)
{
    static const char *const optimizers[] = {"train.optimizer=adamw", "train.optimizer=adam"};
    static const char *const settings[] = {"train.steps=1", "train.adam_weight_decay=0.5",
                                           "train.lr_scheduler=constant", "ema.decay=0", NULL};
    for (int kind = 0; kind < 2; kind++) {
        safetensors *file[2];
        int spared = 0;
        for (int k = 0; k < 2; k++) {
            ddpm_config *c = k ? &parts : &whole;
            char name[40], path[PATH_CAP];
            (void)snprintf(name, sizeof name, "vectors_%d_%d", kind, k);
            tiny(c, name);
            config_put_all(c, settings);
            config_put(c, optimizers[kind]);
            config_put(c, k ? "train.adam_decay_norms=false" : "train.adam_decay_norms=true");
            OK(train(c, 0, NULL));
            OK(path_join(path, c->out, "ckpt/step_00000001/" FIRST, &why));
            OK(safetensors_open(path, &file[k], &why));
        }
        for (int i = 0; i < safetensors_count(file[0]); i++) {
            const safetensors_tensor *a = safetensors_entry(file[0], i), *b = safetensors_entry(file[1], i);
            const bool differs = memcmp(a->data, b->data, a->bytes) != 0, norm = strstr(a->name, "norm") != NULL;
            cr_expect(a->rank == 1 || !differs, "%s", a->name);
            cr_expect(differs || !norm || !strstr(a->name, "weight"), "%s is not spared", a->name);
            spared += differs;
        }
        cr_expect(spared > 0);
        safetensors_close(file[0]);
        safetensors_close(file[1]);
    }
}

Test(averages, take_an_arena_each)
{
    backend *be;
    model *m;
    trainer *t;
    size_t bytes[2];
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    for (int k = 0; k < 2; k++) {
        averaged(&whole, "unused");
        if (k == 0) config_put(&whole, "ema.more=0"), config_put(&whole, "ema.sigma_rel=0");
        OK(recipe_model(&whole, be, (image_shape){.h = 8, .w = 8, .c = 1}, &m, NULL, &why));
        trainer_spec spec = recipe_trainer(&whole, (image_shape){.h = 8, .w = 8, .c = 1}, 9);
        OK(trainer_create(m, &spec, &t, &why));
        bytes[k] = trainer_needs(t).weights;
        if (k == 1) cr_expect_eq(bytes[1] - bytes[0], 3 * m->store->count * sizeof(float));
        trainer_destroy(t);
        model_destroy(m);
    }
    backend_destroy(be);
}
