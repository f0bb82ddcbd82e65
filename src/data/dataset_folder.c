#include "data/dataset_kind.h"

#include "core/file.h"
#include "core/mem.h"
#include "data/file_list.h"
#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <xxhash.h>

enum { DEPTH_MAX = 32 }; /* linked folders can repeat themselves without being a loop */

typedef struct folder_source {
    file_list files; /* sorted */
    size_t root;     /* bytes of the root's name, with the slash: where the relative names begin */
} folder_source;

static bool is_image_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot && (!strcasecmp(dot, ".png") || !strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg"));
}

/* Handle one entry of the walk: take an image, skip what is hidden, refuse what cannot be opened. */
static ddpm_status visit_entry(FTS *walk, FTSENT *entry, file_list *l, int *others, err *e)
{
    switch (entry->fts_info) {
    case FTS_D:
        if (entry->fts_level > DEPTH_MAX)
            return err_set(e, DDPM_EDATA, "%s: more than %d folders deep", entry->fts_path, DEPTH_MAX);
        if (entry->fts_level > 0 && entry->fts_name[0] == '.') (void)fts_set(walk, entry, FTS_SKIP);
        return DDPM_OK;
    case FTS_DNR: return err_errno(e, DDPM_ENOINPUT, entry->fts_errno, "%s: cannot open the folder", entry->fts_path);
    case FTS_DC: /* a link to a folder that it lies in */
    case FTS_DP: return DDPM_OK;
    default:
        if (is_image_name(entry->fts_name)) return file_list_add(l, entry->fts_path, e);
        *others += 1;
        return DDPM_OK;
    }
}

/* All image files below root, links followed, sorted; only the first one found if `first_only`. */
static ddpm_status list_images(const char *root, bool first_only, file_list *l, int *others, err *e)
{
    ddpm_status st = DDPM_OK;
    char *const roots[] = {(char *)root, NULL}; /* fts does not write to it */
    FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    if (!walk) return err_errno(e, DDPM_ENOINPUT, errno, "%s: cannot open the folder", root);
    errno = 0;
    for (FTSENT *entry = fts_read(walk); entry; errno = 0, entry = fts_read(walk)) {
        TRY_GOTO(visit_entry(walk, entry, l, others, e));
        if (first_only && l->n > 0) goto done;
    }
    if (errno) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot list the folder", root));
    file_list_sort(l);
done:
    (void)fts_close(walk);
    return st;
}

static bool folder_recognises(const char *path)
{
    file_list l = {0};
    int others = 0;
    const bool found = path_is_dir(path) && list_images(path, true, &l, &others, NULL) == DDPM_OK && l.n > 0;
    file_list_free(&l);
    return found;
}

/* Length of the first-level folder in a relative name; 0 when the file lies at the root. */
static size_t class_length(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash ? (size_t)(slash - name) : 0;
}

/* The first-level folders, sorted by name.  Files are sorted by path, so those of a folder stand together. */
static ddpm_status list_classes(const folder_source *s, file_list *classes, err *e)
{
    for (int i = 0; i < s->files.n; i++) {
        const char *name = s->files.path[i] + s->root;
        const size_t n = class_length(name);
        if (n == 0) { /* a file that is in no folder: then folders are no classes */
            file_list_free(classes);
            return DDPM_OK;
        }
        const char *last = classes->n ? classes->path[classes->n - 1] : "";
        if (strlen(last) == n && !strncmp(last, name, n)) continue;
        TRY(file_list_add(classes, name, e));
        classes->path[classes->n - 1][n] = '\0';
    }
    file_list_sort(classes);
    return DDPM_OK;
}

static ddpm_status label_files(const folder_source *s, dataset *d, err *e)
{
    ddpm_status st = DDPM_OK;
    file_list classes = {0};
    TRY_GOTO(list_classes(s, &classes, e));
    if (classes.n == 0) goto done;
    TRY_GOTO(mem_array(&d->label, (size_t)s->files.n, sizeof *d->label, "labels", e));
    d->classes = classes.n;
    for (int i = 0, label = -1; i < s->files.n; i++) {
        const char *name = s->files.path[i] + s->root;
        const size_t n = class_length(name);
        if (label < 0 || strlen(classes.path[label]) != n || strncmp(classes.path[label], name, n))
            for (label = 0; strlen(classes.path[label]) != n || strncmp(classes.path[label], name, n);) label++;
        d->label[i] = label;
    }
done:
    file_list_free(&classes);
    return st;
}

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

static ddpm_status folder_open(const dataset_spec *spec, dataset *d, err *e)
{
    folder_source *s;
    int others = 0;
    TRY(mem_array(&s, 1, sizeof *s, "folder of images", e));
    d->source = s;
    if (!path_is_dir(spec->path)) return err_set(e, DDPM_ENOINPUT, "%s: no folder there", spec->path);
    TRY(list_images(spec->path, false, &s->files, &others, e));
    if (s->files.n == 0)
        return err_set(e, DDPM_ENOINPUT, "%s: no .png, .jpg or .jpeg there nor in its sub-folders (%d other files)",
                       spec->path, others);
    s->root = strlen(spec->path);
    s->root += s->files.path[0][s->root] == '/'; /* the path may end in one already */
    d->count = s->files.n;
    d->source_hash = hash_names(s);
    return label_files(s, d, e);
}

static ddpm_status folder_read(const void *source, int64_t i, image *out, err *e)
{
    return image_load(((const folder_source *)source)->files.path[i], out, e);
}

static ddpm_status folder_check(const void *source, int64_t i, err *e)
{
    const char *path = ((const folder_source *)source)->files.path[i];
    uint8_t head[8];
    const size_t n = file_head(path, head, sizeof head);
    if (n == 0) return err_set(e, DDPM_ENOINPUT, "%s: empty, or cannot be read", path);
    if (!image_format(head, n)) return err_set(e, DDPM_EDATA, "%s: neither a PNG nor a JPEG file", path);
    return DDPM_OK;
}

static void folder_close(void *source)
{
    folder_source *s = source;
    if (!s) return;
    file_list_free(&s->files);
    mem_free(s);
}

const dataset_kind dataset_folder = {
    .name = "folder",
    .looks_for = "a folder with .png, .jpg or .jpeg files in it or in its sub-folders",
    .recognises = folder_recognises,
    .open = folder_open,
    .read = folder_read,
    .check = folder_check,
    .close = folder_close,
};
