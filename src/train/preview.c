#include "train/preview.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/image.h"
#include "sample/film.h"
#include "sample/picture_source.h"
#include "train/recipe_update.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct preview {
    generator *g;
    film film; /* if sample.trajectory is set */
    char folder[PATH_CAP];
    int n, shape[3], columns;
    int64_t *ids;   /* [n] */
    int *labels;    /* [n]; NULL: the network takes none */
    uint8_t *bytes; /* [n, h, w, c] */
};

static ddpm_status prepare_folder(preview *p, const char *folder, err *e)
{
    (void)snprintf(p->folder, sizeof p->folder, "%s", folder);
    TRY(dir_make(folder, e));
    if (access(folder, W_OK | X_OK)) return err_errno(e, DDPM_EIO, errno, "%s: cannot be written to", folder);
    return DDPM_OK;
}

/* A preview starts from noise: the images of sample.from, mask and between are for `ddpm sample`. */
static generator_spec preview_generator(const preview_spec *spec)
{
    ema_rule averages[EMA_MOST];
    const bool raw = recipe_averages(spec->config, averages) == 0 ||
                     config_word_of(OPTION_sample_weights, spec->config->sample.weights) == SAMPLE_WEIGHTS_RAW;
    generator_spec s = recipe_generator(spec->config, spec->m, raw ? ARENA_PARAM : ARENA_EMA);
    s.start = GENERATOR_FROM_NOISE;
    s.sampler.skip = 0;
    s.masked = false;
    if (spec->config->sample.count < s.batch) s.batch = spec->config->sample.count;
    return s;
}

/* The labels that `ddpm sample` would choose. */
static ddpm_status choose_labels(preview *p, const preview_spec *spec, const generator_spec *drawn, err *e)
{
    label_list list = {0};
    if (unet_config_classes(&spec->m->net.unet) == 0) return DDPM_OK;
    TRY(picture_labels(spec->config->sample.labels, spec->m, &drawn->guidance, &list, e));
    const ddpm_status st = mem_array(&p->labels, (size_t)p->n, sizeof *p->labels, "preview", e);
    for (int i = 0; i < p->n && st == DDPM_OK; i++) p->labels[i] = label_of(&list, p->ids[i]);
    label_list_free(&list);
    return st;
}

ddpm_status preview_create(const preview_spec *spec, preview **out, err *e)
{
    const generator_spec drawn = preview_generator(spec);
    preview *p;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY(mem_array(&p, 1, sizeof *p, "preview", e));
    p->shape[0] = drawn.h, p->shape[1] = drawn.w, p->shape[2] = spec->m->net.unet.in_channels;
    p->columns = spec->config->sample.grid;
    p->n = image_grid_tiles(drawn.batch, p->shape, &p->columns);
    if (p->n == 0)
        TRY_GOTO(err_set(e, DDPM_EINVAL, "sample.every: the images are too large for a preview; set sample.every=0"));
    TRY_GOTO(prepare_folder(p, spec->folder, e));
    TRY_GOTO(mem_array(&p->bytes, (size_t)p->n, (size_t)p->shape[0] * (size_t)p->shape[1] * (size_t)p->shape[2],
                       "preview", e));
    TRY_GOTO(mem_array(&p->ids, (size_t)p->n, sizeof *p->ids, "preview", e));
    for (int i = 0; i < p->n; i++) p->ids[i] = i;
    TRY_GOTO(choose_labels(p, spec, &drawn, e));
    TRY_GOTO(generator_create(spec->m, &drawn, &p->g, e));
    generator_watch(p->g, spec->tick, spec->context);
    if (drawn.watched) {
        TRY_GOTO(film_create(&p->film, &drawn, p->shape[2], p->n, spec->config->sample.trajectory, e));
        film_record(&p->film, p->g);
    }
    *out = p;
    p = NULL;
done:
    preview_destroy(p);
    return st;
}

void preview_destroy(preview *p)
{
    if (!p) return;
    generator_destroy(p->g);
    film_free(&p->film);
    mem_free(p->bytes);
    mem_free(p->ids);
    mem_free(p->labels);
    mem_free(p);
}

size_t preview_bytes(const preview *p) { return generator_bytes(p->g); }
ddpm_status preview_allocate(preview *p, err *e) { return generator_allocate(p->g, e); }

static ddpm_status write_film(const preview *p, uint64_t after, err *e)
{
    char name[64], path[PATH_CAP];
    uint8_t *png;
    size_t size;
    (void)snprintf(name, sizeof name, "trajectory_%08llu.png", (unsigned long long)after);
    TRY(path_join(path, p->folder, name, e));
    TRY(film_encode(&p->film, &png, &size, e));
    const ddpm_status st = file_replace_lazily(path, png, size, e);
    free(png);
    return st;
}

ddpm_status preview_draw(preview *p, uint64_t after, err *e)
{
    char name[64], path[PATH_CAP];
    image grid = {0};
    ddpm_status st = DDPM_OK;
    (void)snprintf(name, sizeof name, "step_%08llu.png", (unsigned long long)after);
    TRY_GOTO(path_join(path, p->folder, name, e));
    TRY_GOTO(generator_run_bytes(p->g, &(generator_batch){.n = p->n, .ids = p->ids, .labels = p->labels}, p->bytes, e));
    TRY_GOTO(image_grid(p->bytes, p->n, p->shape, p->columns, &grid, e));
    TRY_GOTO(dir_make(p->folder, e));
    TRY_GOTO(image_write_png(path, &grid, e));
    if (p->film.tiles) TRY_GOTO(write_film(p, after, e));
done:
    image_free(&grid);
    return st;
}
