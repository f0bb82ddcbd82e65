#include "data/folder_labels.h"

#include "data/class_list.h"
#include "data/label_metadata.h"
#include <string.h>

/* The name of image i below the root. */
static const char *name_of(const folder_files *f, int64_t i) { return f->images->path[i] + f->root; }

/* ---- the first-level sub-folder ---------------------------------------------------------------- */

/* Empty if the image is in the root folder. */
static class_slice folder_of(const void *files, int64_t i)
{
    const char *name = name_of(files, i), *slash = strchr(name, '/');
    return (class_slice){name, slash ? (size_t)(slash - name) : 0};
}

static int depth_of(const char *name)
{
    int n = 0;
    for (; *name; name++) n += *name == '/';
    return n;
}

/* An image in the root folder means that folders are no classes. */
static ddpm_status label_by_folder(const folder_files *f, dataset *d, err *e)
{
    for (int64_t i = 0; i < d->count; i++)
        if (folder_of(f, i).size == 0) return DDPM_OK;
    return class_list_label(d, folder_of, f, e);
}

/* The first-level folder is certainly meant only if all images are equally deep. */
static ddpm_status check_folders(const folder_files *f, const dataset *d, err *e)
{
    for (int64_t i = 0; i < d->count; i++) {
        const char *name = name_of(f, i), *first = name_of(f, 0);
        if (folder_of(f, i).size == 0)
            return err_set(e, DDPM_EINVAL,
                           "data.labels=folder: %s is not in a sub-folder, so it has no class; move it into one",
                           f->images->path[i]);
        if (depth_of(name) != depth_of(first))
            return err_set(e, DDPM_EINVAL,
                           "data.labels=folder: %s and %s are not equally deep, so that it is unclear which folder is "
                           "the class; data.labels=auto takes the first",
                           first, name);
    }
    return DDPM_OK;
}

/* ---- the file name ------------------------------------------------------------------------------ */

/* The file name up to the first '_', as guided-diffusion of OpenAI takes it; empty if there is none. */
static class_slice prefix_of(const void *files, int64_t i)
{
    const char *name = name_of(files, i), *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name, *end = strchr(base, '_');
    return (class_slice){base, end ? (size_t)(end - base) : 0};
}

static ddpm_status label_by_name(const folder_files *f, dataset *d, err *e)
{
    for (int64_t i = 0; i < d->count; i++)
        if (prefix_of(f, i).size == 0)
            return err_set(e, DDPM_EINVAL,
                           "data.labels=filename: %s has no class; name it CLASS_something, with a _ behind the class",
                           f->images->path[i]);
    return class_list_label(d, prefix_of, f, e);
}

/* ---- metadata.jsonl, metadata.csv ----------------------------------------------------------------- */

static ddpm_status label_by_metadata(const folder_files *f, dataset *d, err *e)
{
    bool labelled;
    if (f->metadata->n == 0)
        return err_set(e, DDPM_ENOINPUT, "data.labels=metadata: no metadata.jsonl or metadata.csv beside the images");
    TRY(label_metadata_take(f->metadata, f->images, d, &labelled, e));
    if (labelled) return DDPM_OK;
    return err_set(e, DDPM_EDATA, "data.labels=metadata: %s%s no label", f->metadata->path[0],
                   f->metadata->n > 1 ? " and the other metadata files have" : " has");
}

/* Metadata with labels wins over folders.  A defect in it must not end a training that needs no labels; nor are other
 * labels guessed.  dataset_hash() stays that of the folders, as it was when no metadata was read. */
static ddpm_status label_automatically(const folder_files *f, dataset *d, err *e)
{
    bool labelled;
    err why = {0};
    TRY(label_by_folder(f, d, e));
    if (f->metadata->n == 0) return DDPM_OK;
    file_list names = d->class_names;
    d->hashed.label = d->label;
    d->hashed.classes = d->classes;
    d->label = NULL, d->classes = 0, d->class_names = (file_list){0};
    const ddpm_status st = label_metadata_take(f->metadata, f->images, d, &labelled, &why);
    d->hashed.instead = labelled;
    if (!labelled) {
        d->label = d->hashed.label, d->classes = d->hashed.classes, d->class_names = names;
        d->hashed.label = NULL;
        return DDPM_OK;
    }
    file_list_free(&names);
    if (st == DDPM_OK) return DDPM_OK;
    if (st == DDPM_ENOMEM) return err_set(e, st, "%s", why.text);
    class_list_clear(d);
    d->absent = 0; /* nothing of the metadata counts */
    dataset_remark(d, "the images have no labels: %s (data.labels=folder ignores metadata files)", why.text);
    return DDPM_OK;
}

ddpm_status folder_label(dataset_labels from, const folder_files *f, dataset *d, err *e)
{
    switch (from) {
    case DATASET_LABELS_NONE: return DDPM_OK;
    case DATASET_LABELS_FOLDER: TRY(check_folders(f, d, e)); return label_by_folder(f, d, e);
    case DATASET_LABELS_FILENAME: return label_by_name(f, d, e);
    case DATASET_LABELS_METADATA: return label_by_metadata(f, d, e);
    case DATASET_LABELS_AUTO: break;
    }
    return label_automatically(f, d, e);
}
