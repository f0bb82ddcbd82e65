/* The images' way to the training steps, where some of them cannot be read. */
#include "train/image_feed.h"
#include "base/mem.h"
#include "data/data_files.h"
#include "data/image.h"
#include "support/device.h"
#include "support/ok.h"
#include "support/small_run.h"

static err why;

/* A training of a small network on a folder of images. */
typedef struct rig {
    char dir[PATH_CAP];
    ddpm_config config;
    backend *be;
    dataset *data;
    model *m;
    trainer *t;
    feed *f;
} rig;

static void picture(const rig *r, const char *name, int value)
{
    char path[PATH_CAP];
    image img;
    OK(image_create(&img, 8, 8, 1, "picture", &why));
    for (int i = 0; i < 64; i++) img.pixel[i] = (uint8_t)(i * value);
    OK(path_join(path, r->dir, name, &why));
    OK(image_write_png(path, &img, &why));
    image_free(&img);
}

static void loses(const rig *r, const char *name)
{
    char path[PATH_CAP];
    OK(path_join(path, r->dir, name, &why));
    cr_assert_eq(remove(path), 0);
}

static void configure(rig *r, const char *setting) { config_put(&r->config, setting); }

/* 4 pictures and a damaged one. */
static void make(rig *r)
{
    static const char *const settings[] = {"data.kind=folder",
                                           "data.shuffle=false",
                                           "model.block_out_channels=8,8",
                                           "model.down_block_types=DownBlock2D,DownBlock2D",
                                           "model.up_block_types=UpBlock2D,UpBlock2D",
                                           "model.layers_per_block=1",
                                           "model.norm_num_groups=4",
                                           "train.batch=2",
                                           "train.lr_warmup_steps=0",
                                           "ema.decay=0",
                                           NULL};
    config_defaults(&r->config);
    config_put_all(&r->config, settings);
    (void)snprintf(r->config.data.path, sizeof r->config.data.path, "%s", new_folder(r->dir));
    for (int i = 0; i < 4; i++) picture(r, (const char[]){'a' + (char)i, '.', 'p', 'n', 'g', 0}, i + 1);
    copy_file(FIXTURE("bad_truncated.png"), r->dir, "bad.png");
    r->be = test_backend(1);
}

static void open_data(rig *r)
{
    const dataset_spec spec = recipe_dataset(&r->config);
    OK(dataset_open(&spec, &r->data, &why));
}

static void start_as(rig *r, bool resident)
{
    const image_shape shape = recipe_shape(r->data);
    trainer_spec spec = recipe_trainer(&r->config, shape, 10);
    char file[PATH_CAP];
    if (resident) spec.resident = dataset_count(r->data);
    OK(recipe_model(&r->config, r->be, shape, &r->m, NULL, &why));
    OK(trainer_create(r->m, &spec, &r->t, &why));
    OK(trainer_allocate(r->t, &why));
    OK(recipe_weights(&r->config, r->m, file, NULL, &why));
    OK(feed_create(&(feed_spec){.config = &r->config, .data = r->data, .trainer = r->t}, &r->f, &why));
}

static void start(rig *r) { start_as(r, false); }

static void stop(rig *r)
{
    feed_destroy(r->f);
    trainer_destroy(r->t);
    model_destroy(r->m);
    dataset_close(r->data);
}

static void drop(rig *r)
{
    backend_destroy(r->be);
    drop_folder(r->dir);
}

static rig r;

/* faults A7, F5: one file of five is damaged; whether the pixels are kept or not, the weights become the same. */
Test(feed, a_bad_file_means_the_same_with_and_without_a_cache)
{
    static const char *const caches[] = {"data.cache_mb=2048", "data.cache_mb=0"};
    float *weights[2];
    size_t n = 0;
    make(&r);
    configure(&r, "data.max_bad=1");
    configure(&r, "data.shuffle=true");
    for (int k = 0; k < 2; k++) {
        configure(&r, caches[k]);
        open_data(&r);
        cr_assert_eq(dataset_count(r.data), 4);
        cr_assert_eq(dataset_pixels(r.data) != NULL, k == 0);
        start(&r);
        for (int i = 0; i < 5; i++) OK(feed_step(r.f, &why));
        n = r.m->store->count;
        weights[k] = test_params(r.m->store, ARENA_PARAM);
        stop(&r);
    }
    cr_assert_arr_eq(weights[0], weights[1], n * sizeof **weights);
    mem_free(weights[0]);
    mem_free(weights[1]);
    drop(&r);
}

/* faults A7: a step that cannot have all its images has not been; what is saved then goes on at the right image. */
Test(feed, a_step_without_its_images_leaves_the_state_of_before)
{
    train_state before, after;
    make(&r);
    loses(&r, "bad.png");
    configure(&r, "data.cache_mb=0");
    configure(&r, "data.prefetch=1");
    configure(&r, "train.gradient_accumulation_steps=3");
    open_data(&r);
    start(&r);
    OK(feed_step(r.f, &why)); /* a b, c d, a b */
    feed_destroy(r.f);
    r.f = NULL;
    loses(&r, "b.png");
    OK(trainer_state(r.t, &before, &why));
    cr_assert(before.step == 1 && before.sample == 6);
    OK(feed_create(&(feed_spec){.config = &r.config, .data = r.data, .trainer = r.t, .first_sample = before.sample},
                   &r.f, &why));
    for (int again = 0; again < 2; again++) { /* c d, and a without b */
        cr_assert_eq(feed_step(r.f, &why), DDPM_ENOINPUT);
        cr_assert_not_null(strstr(why.text, "/b.png: cannot open: No such file"), "%s", why.text);
        OK(trainer_state(r.t, &after, &why));
        cr_assert_eq(memcmp(&after, &before, sizeof after), 0, "sample %ld, loss so far %g", (long)after.sample,
                     after.loss_sum);
        if (again == 0) {
            feed_destroy(r.f);
            OK(feed_create(
                &(feed_spec){.config = &r.config, .data = r.data, .trainer = r.t, .first_sample = after.sample}, &r.f,
                &why));
        }
    }
    stop(&r);
    drop(&r);
}

/* Pictures in folders, one class each; the weights after some steps, of which one picture is lost before the first. */
static float *trained_with_loss(bool resident, const char *labels, bool loss, size_t *n)
{
    make(&r);
    loses(&r, "bad.png");
    for (int i = 0; i < 4; i++) loses(&r, (const char[]){'a' + (char)i, '.', 'p', 'n', 'g', 0});
    for (int i = 0; i < 4; i++) {
        char dir[PATH_CAP];
        OK(path_join(dir, r.dir, (const char[]){'a' + (char)i, 0}, &why));
        OK(dir_make(dir, &why));
        picture(&r, (const char[]){'a' + (char)i, '/', i == 2 && loss ? 'y' : 'x', '.', 'p', 'n', 'g', 0}, i + 1);
    }
    configure(&r, "data.cache_mb=0");
    configure(&r, "data.max_bad=1");
    configure(&r, "data.shuffle=true");
    configure(&r, "model.num_class_embeds=4");
    configure(&r, labels);
    open_data(&r);
    if (loss) loses(&r, "c/y.png");
    start_as(&r, resident);
    cr_assert_eq(trainer_is_resident(r.t), resident);
    for (int i = 0; i < 6; i++) OK(feed_step(r.f, &why));
    *n = r.m->store->count;
    float *weights = test_params(r.m->store, ARENA_PARAM);
    stop(&r);
    drop(&r);
    return weights;
}

Test(feed, labels_are_the_same_in_a_resident_set_also_where_files_were_lost)
{
    for (int loss = 0; loss < 2; loss++) {
        size_t n;
        float *streamed = trained_with_loss(false, "data.labels=folder", loss, &n);
        float *resident = trained_with_loss(true, "data.labels=auto", loss, &n);
        cr_expect_arr_eq(streamed, resident, n * sizeof *streamed, "with %d lost files", loss);
        mem_free(streamed);
        mem_free(resident);
    }
}
