#include "data/dataset_cifar.h"

#include "base/file.h"
#include "base/mem.h"
#include "data/class_list.h"
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { FILES_MAX = 64, FILE_BYTES_MAX = 1 << 30, PUBLISHED_FILES = 5, PUBLISHED_IMAGES = 50000 };
static const char PATTERN[] = "data_batch_*.bin";

typedef struct cifar_source {
    int files;
    char *bytes[FILES_MAX];
    int64_t end[FILES_MAX]; /* number of images up to and including this file */
} cifar_source;

ddpm_status cifar_parse(const uint8_t *bytes, size_t size, const char *name, int64_t *count, err *e)
{
    if (size == 0 || size % CIFAR_RECORD)
        return err_set(e, DDPM_EDATA, "%s: %zu bytes is not a multiple of the %d bytes of a CIFAR-10 record", name,
                       size, CIFAR_RECORD);
    for (size_t at = 0; at < size; at += CIFAR_RECORD)
        if (bytes[at] >= CIFAR_CLASSES)
            return err_set(e, DDPM_EDATA, "%s: record %zu has label %d; labels are 0 to 9", name, at / CIFAR_RECORD,
                           bytes[at]);
    *count = (int64_t)(size / CIFAR_RECORD);
    return DDPM_OK;
}

ddpm_status cifar_image(const uint8_t *record, image *out, err *e)
{
    TRY(image_create(out, CIFAR_SIDE, CIFAR_SIDE, 3, "CIFAR-10 image", e));
    for (int i = 0; i < CIFAR_PLANE; i++)
        for (int c = 0; c < 3; c++) out->pixel[3 * i + c] = record[1 + c * CIFAR_PLANE + i];
    return DDPM_OK;
}

static bool cifar_recognises(const char *path)
{
    file_list l = {0};
    if (!path_is_dir(path)) {
        const char *slash = strrchr(path, '/');
        return !fnmatch("*_batch*.bin", slash ? slash + 1 : path, 0) && path_exists(path);
    }
    const bool found = file_list_match(&l, path, PATTERN, NULL) == DDPM_OK && l.n > 0;
    file_list_free(&l);
    return found;
}

static ddpm_status list_files(const char *path, file_list *l, err *e)
{
    if (!path_is_dir(path)) return file_list_add(l, path, e);
    TRY(file_list_match(l, path, PATTERN, e));
    if (l->n == 0)
        return err_set(e, DDPM_ENOINPUT, "%s: no %s in this folder (unpack the binary version of CIFAR-10)", path,
                       PATTERN);
    if (l->n > FILES_MAX)
        return err_set(e, DDPM_EDATA, "%s: %d files; at most %d are supported", path, l->n, FILES_MAX);
    return DDPM_OK;
}

/* Add a file, at most `most` of its images. */
static ddpm_status add_file(const char *path, int64_t most, dataset *d, err *e)
{
    size_t size;
    int64_t count = 0;
    cifar_source *s = d->source;
    char **bytes = &s->bytes[s->files];
    TRY(file_read(path, FILE_BYTES_MAX, bytes, &size, e));
    s->files++;
    TRY(cifar_parse((const uint8_t *)*bytes, size, path, &count, e));
    if (count > most) count = most;
    d->source_hash = XXH3_64bits_withSeed(*bytes, (size_t)count * CIFAR_RECORD, d->source_hash);
    d->count += count;
    s->end[s->files - 1] = d->count;
    return DDPM_OK;
}

/* The record of image i. */
static const uint8_t *find_record(const cifar_source *s, int64_t i)
{
    int f = 0;
    while (i >= s->end[f]) f++;
    const int64_t before = f ? s->end[f - 1] : 0;
    return (const uint8_t *)s->bytes[f] + (i - before) * CIFAR_RECORD;
}

/* Split the text of batches.meta.txt, a name on each line, in place.  False: it does not name exactly ten classes. */
static bool split_names(char *text, const char *names[CIFAR_CLASSES])
{
    int n = 0;
    for (char *rest = text; *rest;) {
        char *line = rest, *end = rest + strcspn(rest, "\r\n");
        rest = end + (*end != '\0');
        *end = '\0';
        if (end == line) continue;
        if (n == CIFAR_CLASSES || end - line > CLASS_NAME_MAX) return false;
        names[n++] = line;
    }
    return n == CIFAR_CLASSES;
}

/* The names are those of batches.meta.txt in the same folder, or the published ones. */
static ddpm_status name_classes(const char *path, dataset *d, err *e)
{
    enum { BYTES_MAX = 1 << 14 };
    static const char *const published[CIFAR_CLASSES] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                                         "dog",      "frog",       "horse", "ship", "truck"};
    char meta[PATH_CAP], *text = NULL;
    const char *names[CIFAR_CLASSES], *slash = strrchr(path, '/');
    const bool folder = path_is_dir(path);
    const int length = folder ? (int)strlen(path) : slash ? (int)(slash - path) : 1;
    size_t size;
    if (snprintf(meta, sizeof meta, "%.*s/batches.meta.txt", length, folder || slash ? path : ".") >= PATH_CAP ||
        !path_exists(meta))
        return class_list_name(d, published, CIFAR_CLASSES, e);
    const bool is_read = file_read(meta, BYTES_MAX, &text, &size, NULL) == DDPM_OK && split_names(text, names);
    if (!is_read) dataset_remark(d, "%s: does not name %d classes; the published names are used", meta, CIFAR_CLASSES);
    const ddpm_status st = class_list_name(d, is_read ? names : published, CIFAR_CLASSES, e);
    mem_free(text);
    return st;
}

static ddpm_status cifar_open(const dataset_spec *spec, dataset *d, err *e)
{
    ddpm_status st = DDPM_OK;
    file_list l = {0};
    const int64_t most = dataset_first(spec, INT64_MAX);
    TRY_GOTO(mem_array(&d->source, 1, sizeof(cifar_source), "CIFAR-10", e));
    TRY_GOTO(list_files(spec->path, &l, e));
    for (int f = 0; f < l.n && d->count < most; f++) TRY_GOTO(add_file(l.path[f], most - d->count, d, e));
    TRY_GOTO(mem_array(&d->label, (size_t)d->count, sizeof *d->label, "labels", e));
    for (int64_t i = 0; i < d->count; i++) d->label[i] = *find_record(d->source, i);
    d->classes = CIFAR_CLASSES;
    TRY_GOTO(name_classes(spec->path, d, e));
    if (!spec->count && path_is_dir(spec->path) && d->count != PUBLISHED_IMAGES)
        dataset_remark(d, "%lld images in %d files data_batch_*.bin; the training set of CIFAR-10 has %d in %d",
                       (long long)d->count, l.n, PUBLISHED_IMAGES, PUBLISHED_FILES);
done:
    file_list_free(&l);
    return st;
}

static ddpm_status cifar_read(const void *source, int64_t i, image *out, err *e)
{
    return cifar_image(find_record(source, i), out, e);
}

static void cifar_close(void *source)
{
    cifar_source *s = source;
    if (!s) return;
    for (int f = 0; f < s->files; f++) mem_free(s->bytes[f]);
    mem_free(s);
}

const dataset_kind dataset_cifar = {
    .name = "cifar10",
    .looks_for = "data_batch_*.bin or the folder that contains them",
    .recognises = cifar_recognises,
    .open = cifar_open,
    .read = cifar_read,
    .close = cifar_close,
};
