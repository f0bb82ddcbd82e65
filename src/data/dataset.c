#include "data/class_list.h"
#include "data/dataset_kind.h"

#include "base/mem.h"
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

enum { RESOLUTION_MIN = 8, RESOLUTION_MAX = 1024, CACHE_MB_DEFAULT = 4096, HASHED_IMAGES = 64 };

/* auto chooses the first kind that recognises the path. */
static const dataset_kind *const KINDS[DATASET_KINDS] = {
    [DATASET_DIGITS] = &dataset_digits,
    [DATASET_IDX] = &dataset_idx,
    [DATASET_CIFAR10] = &dataset_cifar,
    [DATASET_FOLDER] = &dataset_folder,
};
enum { FIRST_KIND = DATASET_AUTO + 1 };

/* ---- one image, in the shape of the set ------------------------------------------------------- */

static const char *name_of(const dataset *d, int64_t i)
{
    return d->kind->file ? d->kind->file(d->source, i) : "an image";
}

/* Image i of the source in its stored size; if no resolution was given, the size must be that of the set. */
static ddpm_status read_raw(const dataset *d, int64_t i, image *raw, err *e)
{
    TRY(d->kind->read(d->source, i, raw, e));
    if (d->any_size || (raw->h == d->h && raw->w == d->w)) return DDPM_OK;
    return err_set(e, DDPM_EINVAL, "%s is %d x %d, %s is %d x %d: set data.resolution", name_of(d, i), raw->w, raw->h,
                   name_of(d, d->model), d->w, d->h);
}

/* Resize and convert an image to the shape of d. */
static ddpm_status shape(const dataset *d, const image *img, uint8_t *pixels, err *e)
{
    ddpm_status st = DDPM_OK;
    image coloured = {0}, sized = {0};
    if (img->c != d->c) {
        TRY_GOTO(image_to(img, d->c, &coloured, e));
        img = &coloured;
    }
    if (img->h != d->h || img->w != d->w) {
        TRY_GOTO(image_resize(img, d->h, d->w, &sized, e));
        img = &sized;
    }
    memcpy(pixels, img->pixel, (size_t)d->h * (size_t)d->w * (size_t)d->c);
done:
    image_free(&coloured);
    image_free(&sized);
    return st;
}

/* Image i of the source in the shape of d. */
static ddpm_status read_shaped(const dataset *d, int64_t i, uint8_t *pixels, err *e)
{
    image raw = {0};
    ddpm_status st = read_raw(d, i, &raw, e);
    if (st == DDPM_OK) st = shape(d, &raw, pixels, e);
    image_free(&raw);
    return st;
}

static size_t image_bytes(const dataset *d) { return (size_t)d->h * (size_t)d->w * (size_t)d->c; }

ddpm_status dataset_read(const dataset *d, int64_t index, uint8_t *pixels, err *e)
{
    if (index < 0 || index >= d->count)
        return err_set(e, DDPM_EINVAL, "image index %lld is outside the data set of %lld images", (long long)index,
                       (long long)d->count);
    if (!d->pixels) return read_shaped(d, d->kept ? d->kept[index] : index, pixels, e);
    memcpy(pixels, d->pixels + (size_t)index * image_bytes(d), image_bytes(d));
    return DDPM_OK;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static ddpm_status check_spec(const dataset_spec *s, err *e)
{
    if (s->resolution && (s->resolution < RESOLUTION_MIN || s->resolution > RESOLUTION_MAX))
        return err_set(e, DDPM_EINVAL, "data.resolution=%d: must be %d to %d, or 0 (as stored)", s->resolution,
                       RESOLUTION_MIN, RESOLUTION_MAX);
    if (s->channels != 0 && s->channels != 1 && s->channels != 3)
        return err_set(e, DDPM_EINVAL, "data.channels=%d: must be 1, 3 or 0 (as stored)", s->channels);
    if (s->count < 0 || s->max_bad < 0)
        return err_set(e, DDPM_EINVAL, "data.count=%lld, data.max_bad=%lld: must not be negative", (long long)s->count,
                       (long long)s->max_bad);
    return DDPM_OK;
}

/* The list of expected files for each kind, for the message of auto. */
static void list_kinds(char *text, size_t cap)
{
    size_t used = 0;
    for (int k = FIRST_KIND; k < DATASET_KINDS && used < cap; k++) {
        if (!KINDS[k]->recognises) continue;
        const int n =
            snprintf(text + used, cap - used, "%s%s (%s)", used ? "; " : "", KINDS[k]->name, KINDS[k]->looks_for);
        used += n > 0 ? (size_t)n : 0;
    }
}

static ddpm_status check_path(const char *path, err *e)
{
    struct stat info;
    uint8_t head[8];
    if (stat(path, &info) == 0) {
        if (!S_ISREG(info.st_mode) || !image_format(head, file_head(path, head, sizeof head))) return DDPM_OK;
        return err_set(e, DDPM_ENOINPUT,
                       "data.path=%s: is a single image; set data.path to the folder of the training images", path);
    }
    if (path[0] == '~' && errno == ENOENT)
        return err_set(
            e, DDPM_ENOINPUT,
            "data.path=%s: no such file or folder; the shell does not expand ~ after data.path=: write $HOME "
            "instead",
            path);
    if (errno == ENOENT) return err_set(e, DDPM_ENOINPUT, "data.path=%s: no such file or folder", path);
    return err_errno(e, DDPM_ENOINPUT, errno, "data.path=%s", path);
}

static ddpm_status find_kind(const char *path, const dataset_kind **out, err *e)
{
    char list[500] = "";
    if (!path || !*path)
        return err_set(e, DDPM_EINVAL, "data.path is empty; set it to a file or folder, or set data.kind=digits");
    for (int k = FIRST_KIND; k < DATASET_KINDS; k++) {
        if (!KINDS[k]->recognises || !KINDS[k]->recognises(path)) continue;
        *out = KINDS[k];
        return check_path(path, e);
    }
    TRY(check_path(path, e));
    list_kinds(list, sizeof list);
    return err_set(e, DDPM_ENOINPUT, "%s: no data set found; supported are %s", path, list);
}

static ddpm_status choose_kind(const dataset_spec *s, const dataset_kind **out, err *e)
{
    if (s->kind == DATASET_AUTO) return find_kind(s->path, out, e);
    const dataset_kind *kind = *out = KINDS[s->kind];
    if (!kind->recognises) return DDPM_OK;
    if (!s->path || !*s->path)
        return err_set(e, DDPM_EINVAL, "data.kind=%s requires data.path: %s", kind->name, kind->looks_for);
    return check_path(s->path, e);
}

/* 3 if the header of any image says colour, found before decoding any image: the first may be the only grey one. */
static int channels_of_all(const dataset *d, int first)
{
    atomic_int channels = first;
    if (!d->kind->channels) return first;
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < d->count; i++)
        if (atomic_load(&channels) == 1 && d->kind->channels(d->source, i) == 3) atomic_store(&channels, 3);
    return atomic_load(&channels);
}

/* Take the shape from the spec, and what the spec does not set from the first readable image. */
static ddpm_status settle_shape(dataset *d, const dataset_spec *s, err *e)
{
    image first = {0};
    ddpm_status st = DDPM_EDATA;
    for (int64_t i = 0; i < d->count && is_bad_image(st); i++) {
        st = d->kind->read(d->source, i, &first, e);
        d->model = i;
    }
    if (is_bad_image(st)) { /* report the first bad image rather than the last */
        st = d->kind->read(d->source, 0, &first, e);
        image_free(&first);
    }
    TRY(st);
    d->any_size = s->resolution != 0;
    d->h = s->resolution ? s->resolution : first.h;
    d->w = s->resolution ? s->resolution : first.w;
    d->c = s->channels ? s->channels : channels_of_all(d, first.c);
    image_free(&first);
    return DDPM_OK;
}

/* Decode image i, into the cache if there is one, else only to check it.  *channels: its stored channels. */
static ddpm_status visit(const dataset *d, int64_t i, int *channels, err *e)
{
    image raw = {0};
    *channels = d->c;
    if (!d->pixels && !d->kind->can_be_bad) return DDPM_OK;
    ddpm_status st = read_raw(d, i, &raw, e);
    if (st == DDPM_OK) *channels = raw.c;
    if (st == DDPM_OK && d->pixels) st = shape(d, &raw, d->pixels + (size_t)i * image_bytes(d), e);
    image_free(&raw);
    return st;
}

/* Remove bad images from the arrays. */
static void drop_bad(dataset *d, const uint8_t *bad)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->count; i++) {
        if (bad[i]) continue;
        if (d->pixels && n < i)
            memcpy(d->pixels + (size_t)n * image_bytes(d), d->pixels + (size_t)i * image_bytes(d), image_bytes(d));
        if (d->label) d->label[n] = d->label[i];
        if (d->hashed.label) d->hashed.label[n] = d->hashed.label[i];
        if (d->kept) d->kept[n] = i;
        n++;
    }
    d->skipped += d->count - n;
    d->count = n;
}

/* Get the message of image i, for which visit() returned `was`, by calling visit() again. */
static void why_bad(const dataset *d, int64_t i, ddpm_status was, err *why)
{
    int channels;
    if (visit(d, i, &channels, why) == was) return;
    err_set(why, was, "image %lld of the data set could not be read at the first attempt: %s", (long long)i,
            err_meaning(was));
}

static void remark_bad(dataset *d, int64_t n, const err *why)
{
    dataset_remark(d, "%lld unreadable file%s skipped (data.max_bad=%lld): %s", (long long)n, n == 1 ? "" : "s",
                   (long long)d->max_bad, why->text);
}

/* Visit all images; remove the bad ones, or fail with the message of the first.  Absent images count as bad. */
static ddpm_status sweep(dataset *d, err *e)
{
    ddpm_status st = DDPM_OK;
    uint8_t *bad; /* [count] the status of each image; every ddpm_status fits */
    int64_t bad_count = d->absent, first = -1;
    atomic_bool has_colour = false;
    err why = {0};
    TRY(mem_array(&bad, (size_t)d->count, 1, "state of the images", e));
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < d->count; i++) {
        int channels;
        bad[i] = (uint8_t)visit(d, i, &channels, NULL);
        if (!bad[i] && channels == 3) atomic_store(&has_colour, true);
    }
    d->has_colour = atomic_load(&has_colour);
    for (int64_t i = 0; i < d->count; i++) {
        if (!bad[i]) continue;
        bad_count++;
        if (first < 0 || (is_bad_image((ddpm_status)bad[first]) && !is_bad_image((ddpm_status)bad[i]))) first = i;
    }
    if (first < 0) {
        if (d->absent > 0) remark_bad(d, d->absent, &d->first_absent);
        goto done;
    }
    why_bad(d, first, (ddpm_status)bad[first], &why);
    if (!is_bad_image(why.status)) TRY_GOTO(err_set(e, why.status, "%s", why.text));
    if (bad_count > d->max_bad || bad_count == d->count + d->absent)
        TRY_GOTO(err_set(e, why.status, "%s (%lld of %lld files are bad; data.max_bad=N skips up to N)", why.text,
                         (long long)bad_count, (long long)(d->count + d->absent)));
    remark_bad(d, bad_count, &why);
    if (!d->pixels || d->kind->file)
        TRY_GOTO(mem_array(&d->kept, (size_t)d->count, sizeof *d->kept, "list of images", e));
    drop_bad(d, bad);
done:
    mem_free(bad);
    return st;
}

/* All files with colour were bad, and the others are grey: convert the set to one channel. */
static void drop_colour(dataset *d)
{
    d->c = 1;
    if (!d->pixels) return;
    for (size_t i = 0; i < (size_t)d->count * image_bytes(d); i++) d->pixels[i] = d->pixels[3 * i];
}

/* Allocate the cache if all pixels fit into it. */
static ddpm_status make_cache(dataset *d, int64_t cache_mb, err *e)
{
    const int64_t mb = cache_mb ? cache_mb : CACHE_MB_DEFAULT;
    const size_t each = image_bytes(d);
    if (mb < 0 || (size_t)d->count > ((size_t)mb << 20) / each) return DDPM_OK;
    return mem_array(&d->pixels, (size_t)d->count, each, "decoded images (limited by data.cache_mb)", e);
}

static ddpm_status check_labels(const dataset_spec *s, const dataset_kind *kind, err *e)
{
    static const char *const words[] = {"auto", "none", "folder", "filename", "metadata"};
    if (s->labels <= DATASET_LABELS_NONE || kind == &dataset_folder) return DDPM_OK;
    return err_set(e, DDPM_EINVAL, "data.labels=%s: only a folder of images has such labels; the data set is %s",
                   words[s->labels], kind->name);
}

ddpm_status dataset_open(const dataset_spec *spec, dataset **out, err *e)
{
    ddpm_status st = DDPM_OK;
    dataset *d;
    const dataset_kind *kind;
    *out = NULL;
    TRY(check_spec(spec, e));
    TRY(choose_kind(spec, &kind, e));
    TRY(mem_array(&d, 1, sizeof *d, "dataset", e));
    d->kind = kind;
    d->max_bad = spec->max_bad;
    TRY_GOTO(check_labels(spec, kind, e));
    TRY_GOTO(kind->open(spec, d, e));
    d->skipped = d->absent;
    if (spec->labels == DATASET_LABELS_NONE) class_list_clear(d);
    if (spec->count > d->count)
        dataset_remark(d, "data.count=%lld, but the data set has only %lld images", (long long)spec->count,
                       (long long)d->count);
    TRY_GOTO(settle_shape(d, spec, e));
    if (!spec->shape_only) {
        TRY_GOTO(make_cache(d, spec->cache_mb, e));
        TRY_GOTO(sweep(d, e));
        if (!spec->channels && d->c == 3 && !d->has_colour) drop_colour(d);
    }
    if (d->pixels && !kind->file) {
        kind->close(d->source);
        d->source = NULL;
    }
    if (!d->pixels && kind->can_be_bad) {
        TRY_GOTO(dataset_losses_create(d->count, d->skipped, spec->max_bad, &d->losses, e));
    }
    *out = d;
    d = NULL;
done:
    dataset_close(d);
    return st;
}

void dataset_close(dataset *d)
{
    if (!d) return;
    d->kind->close(d->source);
    dataset_losses_destroy(d->losses);
    mem_free(d->kept);
    class_list_clear(d);
    mem_free(d->hashed.label);
    mem_free(d->pixels);
    mem_free(d);
}

/* ---- access ----------------------------------------------------------------------------------- */

const char *dataset_kind_name(const dataset *d) { return d->kind->name; }
int64_t dataset_count(const dataset *d) { return d->count; }
int64_t dataset_skipped(const dataset *d) { return d->skipped; }
int dataset_h(const dataset *d) { return d->h; }
int dataset_w(const dataset *d) { return d->w; }
int dataset_c(const dataset *d) { return d->c; }
int dataset_classes(const dataset *d) { return d->classes; }
const uint8_t *dataset_pixels(const dataset *d) { return d->pixels; }

const char *dataset_remarked(const dataset *d, int i) { return i >= 0 && i < d->remarks ? d->remark[i] : NULL; }

void dataset_remark(dataset *d, const char *fmt, ...)
{
    va_list ap;
    if (d->remarks == REMARKS_MAX) return;
    va_start(ap, fmt);
    err_line(d->remark[d->remarks++], REMARK_BYTES, fmt, ap);
    va_end(ap);
}

int dataset_label(const dataset *d, int64_t index)
{
    return d->label && index >= 0 && index < d->count ? d->label[index] : -1;
}

const char *dataset_class_name(const dataset *d, int k)
{
    return k >= 0 && k < d->class_names.n ? d->class_names.path[k] : NULL;
}

uint64_t dataset_labels_hash(const dataset *d)
{
    if (!d->label) return 0;
    XXH64_hash_t h = XXH3_64bits_withSeed(d->label, (size_t)d->count * sizeof *d->label, (XXH64_hash_t)d->classes);
    for (int k = 0; k < d->class_names.n; k++)
        h = XXH3_64bits_withSeed(d->class_names.path[k], strlen(d->class_names.path[k]), h);
    return h;
}

const char *dataset_file(const dataset *d, int64_t index)
{
    if (!d->kind->file || index < 0 || index >= d->count) return NULL;
    return d->kind->file(d->source, d->kept ? d->kept[index] : index);
}

ddpm_status dataset_hash(const dataset *d, uint64_t *out, err *e)
{
    ddpm_status st = DDPM_OK;
    uint8_t *pixels;
    const int32_t *label = d->hashed.instead ? d->hashed.label : d->label;
    const int64_t shape[] = {d->count, d->h, d->w, d->c, d->hashed.instead ? d->hashed.classes : d->classes};
    XXH64_hash_t h = XXH3_64bits_withSeed(shape, sizeof shape, d->source_hash);
    TRY(mem_array(&pixels, 1, image_bytes(d), "one image", e));
    if (label) h = XXH3_64bits_withSeed(label, (size_t)d->count * sizeof *label, h);
    const int64_t n = d->count < HASHED_IMAGES ? d->count : HASHED_IMAGES;
    for (int64_t k = 0; k < n; k++) {
        TRY_GOTO(dataset_read_or_next(d, k * d->count / n, pixels, NULL, e));
        h = XXH3_64bits_withSeed(pixels, image_bytes(d), h);
    }
    *out = h;
done:
    mem_free(pixels);
    return st;
}
