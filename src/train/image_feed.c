#include "train/image_feed.h"
#include "base/mem.h"

enum {
    RESIDENT_SHARE = 8, /* a resident data set takes at most 1/8 of a GPU's free memory */
    STORE_IMAGES = 256  /* images per upload */
};

struct feed {
    feed_spec spec;
    loader *loader;  /* NULL if the set is resident */
    int64_t *index;  /* [batch]  resident: the images of a micro-batch; else NULL */
    uint64_t sample; /* resident: ordinal of the first image of the next micro-batch */
    double waited;   /* seconds, by loaders that were replaced */
};

static size_t image_bytes(const dataset *d)
{
    return (size_t)dataset_h(d) * (size_t)dataset_w(d) * (size_t)dataset_c(d);
}

bool feed_wants_resident(const backend *be, const ddpm_config *c, const dataset *data)
{
    return !be->fn->host_memory && c->data.resident == DATA_RESIDENT_AUTO &&
           image_bytes(data) * (size_t)dataset_count(data) <= be->fn->memory_free(be) / RESIDENT_SHARE;
}

int feed_ahead(const ddpm_config *c, bool resident) { return resident ? 0 : c->data.prefetch + 1; }

loader_spec feed_loader(const ddpm_config *c, const dataset *data, uint64_t first_sample)
{
    return (loader_spec){.data = data,
                         .batch = c->train.batch,
                         .seed = (uint64_t)c->seed,
                         .first_sample = first_sample,
                         .shuffle = c->data.shuffle,
                         .prefetch = c->data.prefetch};
}

/* Upload every image to the GPU. */
static ddpm_status store_images(feed *f, err *e)
{
    const dataset *data = f->spec.data;
    const size_t size = image_bytes(data);
    const int64_t count = dataset_count(data);
    int64_t labels[STORE_IMAGES];
    uint8_t *some = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(mem_array(&some, STORE_IMAGES, size, "images", e));
    for (int64_t first = 0; first < count; first += STORE_IMAGES) {
        const int64_t n = count - first < STORE_IMAGES ? count - first : STORE_IMAGES;
        for (int64_t i = 0; i < n; i++)
            TRY_GOTO(dataset_read_or_next(data, first + i, some + (size_t)i * size, &labels[i], e));
        TRY_GOTO(trainer_store(f->spec.trainer, first, n, some, dataset_classes(data) > 0 ? labels : NULL, e));
    }
    TRY_GOTO(mem_array(&f->index, (size_t)f->spec.config->train.batch, sizeof *f->index, "image indices", e));
    f->sample = f->spec.first_sample;
done:
    mem_free(some);
    return st;
}

ddpm_status feed_create(const feed_spec *spec, feed **out, err *e)
{
    feed *f = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY_GOTO(mem_array(&f, 1, sizeof *f, "feed", e));
    f->spec = *spec;
    const loader_spec loading = feed_loader(spec->config, spec->data, spec->first_sample);
    TRY_GOTO(trainer_is_resident(spec->trainer) ? store_images(f, e) : loader_create(&loading, &f->loader, e));
    *out = f;
    f = NULL;
done:
    feed_destroy(f);
    return st;
}

void feed_destroy(feed *f)
{
    if (!f) return;
    loader_destroy(f->loader);
    mem_free(f->index);
    mem_free(f);
}

ddpm_status feed_micro_batch(feed *f, err *e)
{
    const ddpm_config *c = f->spec.config;
    const uint8_t *images;
    const int64_t *labels;
    if (!f->index) {
        TRY(loader_next(f->loader, &images, &labels, e));
        return trainer_accumulate(f->spec.trainer, images, labels, e);
    }
    for (int i = 0; i < c->train.batch; i++)
        f->index[i] = loader_image_index((uint64_t)c->seed, dataset_count(f->spec.data), f->sample++, c->data.shuffle);
    return trainer_accumulate_stored(f->spec.trainer, f->index, e);
}

/* Undo the first `given` micro-batches of a step in the state.  Their gradients remain, but no checkpoint contains
 * gradients. */
static ddpm_status take_back(feed *f, int given, err *e)
{
    train_state state;
    TRY(trainer_state(f->spec.trainer, &state, e));
    state.sample -= (uint64_t)given * (uint64_t)f->spec.config->train.batch;
    state.loss_sum = 0;
    for (int k = 0; k < TRAIN_LEVELS; k++) state.step_error[k] = state.step_images[k] = 0;
    return trainer_restore(f->spec.trainer, &state, e);
}

ddpm_status feed_step(feed *f, err *e)
{
    for (int i = 0; i < f->spec.config->train.gradient_accumulation_steps; i++) {
        const ddpm_status st = feed_micro_batch(f, e);
        if (st != DDPM_OK && i > 0) TRY(take_back(f, i, e));
        TRY(st);
    }
    return trainer_update(f->spec.trainer, e);
}

ddpm_status feed_seek(feed *f, uint64_t sample, err *e)
{
    const loader_spec loading = feed_loader(f->spec.config, f->spec.data, sample);
    f->sample = sample;
    if (f->index) return DDPM_OK;
    f->waited = feed_waited_seconds(f);
    loader_destroy(f->loader);
    f->loader = NULL;
    return loader_create(&loading, &f->loader, e);
}

double feed_waited_seconds(const feed *f) { return f->waited + (f->loader ? loader_waited_seconds(f->loader) : 0); }
