#include "sample/picture_source.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/folder_walk.h"
#include "data/image.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

static size_t values_of(const picture_source *s) { return (size_t)s->h * (size_t)s->w * (size_t)s->c; }

/* ---- images -------------------------------------------------------------------------------------- */

/* An image of exactly h x w; grey ones serve colour models. */
static ddpm_status load(const char *path, int h, int w, int c, image *out, err *e)
{
    image read = {0};
    ddpm_status st = DDPM_OK;
    *out = (image){0};
    TRY(image_load(path, &read, e));
    if (read.h != h || read.w != w)
        TRY_GOTO(err_set(e, DDPM_EDATA, "%s: the image has %d x %d pixels, but the model makes pictures of %d x %d",
                         path, read.w, read.h, w, h));
    TRY_GOTO(image_to(&read, c, out, e));
done:
    image_free(&read);
    return st;
}

/* To [-1, 1], as in training; to_u8() inverts it exactly. */
static ddpm_status load_floats(const picture_source *s, const char *path, float *to, err *e)
{
    image img;
    TRY(load(path, s->h, s->w, s->c, &img, e));
    for (size_t i = 0; i < values_of(s); i++) to[i] = (float)img.pixel[i] / 127.5f - 1.0f;
    image_free(&img);
    return DDPM_OK;
}

static ddpm_status list_files(file_list *files, const char *from, err *e)
{
    folder_walk walk = {0};
    ddpm_status st = DDPM_OK;
    if (!path_exists(from)) return err_set(e, DDPM_ENOINPUT, "from=%s: no such file or folder", from);
    if (!path_is_dir(from)) return file_list_add(files, from, e);
    TRY_GOTO(folder_walk_all(from, NULL, &walk, e));
    if (walk.images.n == 0) TRY_GOTO(err_set(e, DDPM_ENOINPUT, "from=%s: no PNG or JPEG image in this folder", from));
    *files = walk.images;
    walk.images = (file_list){0};
done:
    folder_walk_free(&walk);
    return st;
}

ddpm_status picture_source_count(const char *from, int *n, err *e)
{
    file_list files = {0};
    const ddpm_status st = list_files(&files, from, e);
    *n = files.n;
    file_list_free(&files);
    return st;
}

ddpm_status picture_source_hash(const picture_source *s, uint64_t *hash, err *e)
{
    *hash = 0;
    for (int i = 0; i < s->files.n; i++) {
        char *bytes;
        size_t size;
        TRY(file_read(s->files.path[i], IMAGE_MAX_BYTES, &bytes, &size, e));
        *hash = XXH3_64bits_withSeed(bytes, size, *hash);
        mem_free(bytes);
    }
    return DDPM_OK;
}

static ddpm_status load_mask(picture_source *s, const char *path, err *e)
{
    const size_t pixels = (size_t)s->h * (size_t)s->w;
    size_t sampled = 0;
    image img;
    ddpm_status st = DDPM_OK;
    TRY(load(path, s->h, s->w, 1, &img, e));
    TRY_GOTO(mem_array(&s->mask, pixels, 1, "mask", e));
    for (size_t i = 0; i < pixels; i++) sampled += s->mask[i] = img.pixel[i] >= 128;
    if (sampled == 0 || sampled == pixels)
        TRY_GOTO(err_set(e, DDPM_EINVAL, "mask=%s: %s; white pixels are sampled, black ones stay", path,
                         sampled ? "hides everything, so nothing of the image stays" : "hides nothing"));
done:
    image_free(&img);
    return st;
}

/* "A,B" or "[A, B]": the comma is the first one with files before and behind it. */
static ddpm_status list_ends(picture_source *s, const char *text, err *e)
{
    char both[PATH_CAP];
    const size_t size = strlen(text);
    const bool brackets = size >= 2 && text[0] == '[' && text[size - 1] == ']';
    (void)snprintf(both, sizeof both, "%.*s", (int)(size - 2 * brackets), text + brackets);
    for (char *comma = strchr(both, ','); comma; comma = strchr(comma + 1, ',')) {
        const char *second = comma + 1 + strspn(comma + 1, " ");
        *comma = '\0';
        if (path_exists(both) && path_exists(second)) {
            TRY(file_list_add(&s->files, both, e));
            return file_list_add(&s->files, second, e);
        }
        *comma = ',';
    }
    return err_set(e, DDPM_ENOINPUT, "between=%.200s: must name two images that exist, as between=A.png,B.png", text);
}

/* ---- opening --------------------------------------------------------------------------------------- */

static ddpm_status check(const picture_source_spec *spec, const generator_spec *to, err *e)
{
    if (spec->between[0] && (to->sampler.kind != SAMPLER_DDIM || to->sampler.eta > 0))
        return err_set(e, DDPM_EINVAL, "between: needs sampler=ddim with eta=0, which can be inverted");
    if (spec->between[0] && (spec->from[0] || spec->mask[0]))
        return err_set(e, DDPM_EINVAL, "between: cannot be combined with from or mask");
    if (spec->mask[0] && !spec->from[0])
        return err_set(e, DDPM_EINVAL, "mask=%s: needs from=IMAGE, the image that it masks", spec->mask);
    if (spec->between[0] && spec->count < 2)
        return err_set(e, DDPM_EINVAL, "between: needs a count of 2 or more, which includes both images");
    return DDPM_OK;
}

static bool is_guided(const generator_guidance *g) { return g->scale != 1 && g->scale != 0; }

/* The null class, if pictures must not have it: labels are balanced, and the model or the guidance says which it is;
 * -1: they may have every class. */
static int excluded(const char *text, const model *m, const generator_guidance *g)
{
    if (!label_list_is_balanced(text)) return -1;
    if (m->classes.says_null && m->classes.null_class >= 0) return m->classes.null_class;
    return is_guided(g) ? g->null_class : -1;
}

ddpm_status picture_labels(const char *text, const model *m, const generator_guidance *g, label_list *out, err *e)
{
    *out = (label_list){0};
    if (is_guided(g) && g->null_class < 0 && m->net.unet.class_embed_type == UNET_CLASS_TIMESTEP)
        return err_set(e, DDPM_EINVAL,
                       "guidance %g: num_class_embeds is null, which leaves open what label stands for no class; set "
                       "null_class",
                       g->scale);
    const int null_class = excluded(text, m, g);
    const int classes = label_classes(unet_config_classes(&m->net.unet), null_class >= 0, null_class);
    return label_list_parse(text, classes, &m->classes, out, e);
}

static ddpm_status open_all(picture_source *s, const picture_source_spec *spec, const model *m,
                            const generator_spec *to, err *e)
{
    TRY(picture_labels(spec->labels, m, &to->guidance, &s->labels, e));
    TRY(mem_array(&s->label, (size_t)s->batch, sizeof *s->label, "labels", e));
    if (spec->from[0]) TRY(list_files(&s->files, spec->from, e));
    if (spec->between[0]) TRY(list_ends(s, spec->between, e));
    if (spec->mask[0]) TRY(load_mask(s, spec->mask, e));
    if (s->files.n > 0) TRY(mem_array(&s->images, (size_t)s->batch * values_of(s), sizeof *s->images, "images", e));
    for (int i = 0; i < s->files.n && i < 2; i++) TRY(load_floats(s, s->files.path[i], s->images, e)); /* or fail now */
    return DDPM_OK;
}

ddpm_status picture_source_open(picture_source *s, const picture_source_spec *spec, const model *m,
                                const generator_spec *to, err *e)
{
    *s = (picture_source){
        .h = to->h, .w = to->w, .c = m->net.unet.in_channels, .batch = to->batch, .count = spec->count};
    TRY(check(spec, to, e));
    const ddpm_status st = open_all(s, spec, m, to, e);
    if (st != DDPM_OK) picture_source_close(s);
    return st;
}

void picture_source_close(picture_source *s)
{
    label_list_free(&s->labels);
    file_list_free(&s->files);
    mem_free(s->mask);
    mem_free(s->ends);
    mem_free(s->label);
    mem_free(s->images);
    *s = (picture_source){0};
}

/* ---- between two images ------------------------------------------------------------------------------ */

/* Without guidance: at a scale other than 1 the inverse does not lead back. */
static generator_spec inversion(const generator_spec *to)
{
    generator_spec spec = *to;
    spec.batch = 2;
    spec.scheduler = sampler_config(SAMPLER_DDIM_INVERSE, &to->scheduler);
    spec.scheduler.timestep_spacing = to->scheduler.timestep_spacing;
    spec.scheduler.steps_offset = to->scheduler.steps_offset;
    spec.scheduler.set_alpha_to_one = to->scheduler.set_alpha_to_one;
    spec.scheduler.clip_sample = false;
    spec.scheduler.thresholding = false;
    spec.sampler = (sampler_spec){
        .kind = SAMPLER_DDIM_INVERSE, .steps = to->sampler.steps, .as_diffusers = to->sampler.as_diffusers};
    spec.guidance = (generator_guidance){.null_class = -1};
    spec.start = GENERATOR_FROM_X;
    spec.masked = spec.watched = false;
    return spec;
}

ddpm_status picture_source_invert(picture_source *s, model *m, const generator_spec *to, err *e)
{
    const generator_spec spec = inversion(to);
    const int64_t ids[] = {0, 1};
    const int labels[] = {label_of(&s->labels, 0), label_of(&s->labels, s->count - 1)};
    float *ends = NULL;
    generator *g = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(mem_array(&ends, 2 * values_of(s), sizeof *ends, "images", e));
    for (int i = 0; i < 2; i++) TRY_GOTO(load_floats(s, s->files.path[i], ends + (size_t)i * values_of(s), e));
    TRY_GOTO(generator_create(m, &spec, &g, e));
    TRY_GOTO(generator_allocate(g, e));
    TRY_GOTO(generator_run(g, &(generator_batch){.n = 2, .ids = ids, .labels = labels, .images = ends}, ends, e));
    s->ends = ends;
    ends = NULL;
done:
    generator_destroy(g);
    mem_free(ends);
    return st;
}

/* Spherical interpolation (Shoemake 1985): noise keeps its norm on the way. */
static void between(const picture_source *s, double place, float *to)
{
    const size_t d = values_of(s);
    const float *a = s->ends, *b = s->ends + d;
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < d; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
    }
    const double cosine = aa > 0 && bb > 0 ? fmax(-1, fmin(1, ab / sqrt(aa * bb))) : 1, angle = acos(cosine);
    const bool parallel = sin(angle) < 1e-6;
    const double of_a = parallel ? 1 - place : sin((1 - place) * angle) / sin(angle);
    const double of_b = parallel ? place : sin(place * angle) / sin(angle);
    for (size_t i = 0; i < d; i++) to[i] = (float)(of_a * (double)a[i] + of_b * (double)b[i]);
}

/* ---- batches -------------------------------------------------------------------------------------- */

static ddpm_status fill_image(picture_source *s, int64_t id, float *to, err *e)
{
    if (s->ends) {
        between(s, (double)(id % s->count) / (double)(s->count - 1), to);
        return DDPM_OK;
    }
    return load_floats(s, s->files.path[id % s->files.n], to, e);
}

ddpm_status picture_source_batch(picture_source *s, const int64_t *ids, int n, generator_batch *out, err *e)
{
    for (int i = 0; i < n; i++) s->label[i] = label_of(&s->labels, ids[i]);
    for (int i = 0; i < n && s->images; i++) TRY(fill_image(s, ids[i], s->images + (size_t)i * values_of(s), e));
    *out = (generator_batch){.n = n, .ids = ids, .labels = s->labels.classes ? s->label : NULL, .images = s->images};
    return DDPM_OK;
}
