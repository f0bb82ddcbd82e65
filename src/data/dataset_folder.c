/* dataset_folder.c - the data set of a folder of PNG and JPEG files. */
#include "data/dataset_kind.h"

#include "base/file.h"
#include "base/mem.h"
#include "data/folder_labels.h"
#include "data/folder_walk.h"
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

typedef struct folder_source {
    file_list files; /* sorted */
    size_t root;     /* length of the root's path with the slash: start of the relative names */
} folder_source;

static uint64_t hash_names(const folder_source *s)
{
    uint64_t h = 0;
    for (int i = 0; i < s->files.n; i++) {
        struct stat info;
        const char *name = s->files.path[i] + s->root;
        const int64_t size = stat(s->files.path[i], &info) ? -1 : (int64_t)info.st_size;
        h = XXH3_64bits_withSeed(name, strlen(name), h ^ (uint64_t)size);
    }
    return h;
}

/* Add remarks about files that are not used. */
static void remark_on_walk(dataset *d, const folder_walk *w)
{
    char text[300];
    folder_walk_say_others(w, text, sizeof text);
    if (w->others > 0) dataset_remark(d, "%s skipped", text);
    if (w->own.n > 0)
        dataset_remark(d, "%d file%s or folder%s with the output of a run skipped: %s%s", w->own.n,
                       w->own.n == 1 ? "" : "s", w->own.n == 1 ? "" : "s", w->own.path[0],
                       w->own.n == 1 ? "" : ", ...");
}

/* Move the first dataset_first() image files of the walk to the source. */
static ddpm_status take_files(const dataset_spec *spec, folder_walk *w, dataset *d, err *e)
{
    char text[300];
    folder_source *s = d->source;
    if (w->images.n == 0) {
        folder_walk_say_others(w, text, sizeof text);
        return err_set(e, DDPM_ENOINPUT, "%s: no PNG or JPEG files in this folder and its subfolders (%s)", spec->path,
                       text);
    }
    remark_on_walk(d, w);
    s->files = w->images;
    w->images = (file_list){0};
    s->root = strlen(spec->path);
    s->root += s->files.path[0][s->root] == '/'; /* skip a slash, unless the path ends in one */
    d->count = dataset_first(spec, s->files.n);
    file_list_cut(&s->files, (int)d->count);
    d->source_hash = hash_names(s);
    return folder_label(spec->labels, &(folder_files){&s->files, &w->metadata, s->root}, d, e);
}

static ddpm_status folder_open(const dataset_spec *spec, dataset *d, err *e)
{
    folder_walk w;
    TRY(mem_array(&d->source, 1, sizeof(folder_source), "folder of images", e));
    if (!path_is_dir(spec->path)) return err_set(e, DDPM_ENOINPUT, "%s: is a file; a folder is required", spec->path);
    ddpm_status st = folder_walk_all(spec->path, spec->run, &w, e);
    if (st == DDPM_OK) st = take_files(spec, &w, d, e);
    folder_walk_free(&w);
    return st;
}

static ddpm_status folder_read(const void *source, int64_t i, image *out, err *e)
{
    return image_load(((const folder_source *)source)->files.path[i], out, e);
}

/* From the first bytes if they hold the whole header, else from the whole file. */
static int folder_channels(const void *source, int64_t i)
{
    enum { SOME = 1 << 14 };
    const char *path = ((const folder_source *)source)->files.path[i];
    uint8_t some[SOME];
    char *bytes;
    size_t size = file_head(path, some, sizeof some);
    int channels = image_channels(some, size);
    if (channels || size < sizeof some || file_read(path, IMAGE_MAX_BYTES, &bytes, &size, NULL) != DDPM_OK)
        return channels;
    channels = image_channels(bytes, size);
    mem_free(bytes);
    return channels;
}

static const char *folder_file(const void *source, int64_t i) { return ((const folder_source *)source)->files.path[i]; }

static void folder_close(void *source)
{
    folder_source *s = source;
    if (!s) return;
    file_list_free(&s->files);
    mem_free(s);
}

const dataset_kind dataset_folder = {
    .name = "folder",
    .looks_for = "a folder with PNG or JPEG files in it or in its subfolders",
    .recognises = folder_walk_finds,
    .open = folder_open,
    .read = folder_read,
    .channels = folder_channels,
    .file = folder_file,
    .can_be_bad = true,
    .close = folder_close,
};
