#include "train/run_classes.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { TEXT = 1000 };

/* The line for the log, with the first classes and the last. */
static void describe(const dataset *data, char text[TEXT])
{
    enum { FIRST = 12, NAME = 48 }; /* classes that are said, beside the last; bytes of a name */
    const int classes = dataset_classes(data);
    size_t used = (size_t)snprintf(text, TEXT, "%d class%s", classes, classes == 1 ? "" : "es");
    for (int k = 0; dataset_class_name(data, k); k++) {
        char name[NAME];
        const bool skips = k == FIRST && classes > FIRST + 1;
        if (skips) k = classes - 1;
        text_printable(name, sizeof name, dataset_class_name(data, k));
        used += (size_t)snprintf(text + used, TEXT - used, "%s%s%d %s", k ? ", " : ": ", skips ? "..., " : "", k, name);
    }
}

void run_classes_doubt(const dataset *data, notes *remarks)
{
    const int64_t classes = dataset_classes(data), images = dataset_count(data);
    if (classes < 3 || 2 * classes <= images) return;
    notes_add(
        remarks,
        "WARNING: %lld classes for %lld images, hardly one each: data.labels says what is a class; with sub-folders, "
        "data.path must be the folder right above those of the classes",
        (long long)classes, (long long)images);
}

/* ---- the classes of earlier weights -------------------------------------------------------------------- */

ddpm_status earlier_classes_read(const char *folder, earlier_classes *out, err *e)
{
    *out = (earlier_classes){.folder = folder};
    return model_read_classes(folder, &out->rows, &out->names, e);
}

void earlier_classes_free(earlier_classes *c)
{
    class_names_free(&c->names);
    *c = (earlier_classes){.folder = NULL};
}

static bool has_class(const dataset *data, const char *name)
{
    for (int k = 0; dataset_class_name(data, k); k++)
        if (!strcmp(dataset_class_name(data, k), name)) return true;
    return false;
}

/* Up to FEW names of classes that only the data has (`gained`), or only the earlier weights; "": none, or no names. */
static void list_difference(const dataset *data, const class_names *before, bool gained, char text[TEXT])
{
    enum { FEW = 5, NAME = 48 };
    int n = 0;
    size_t used = 0;
    text[0] = '\0';
    for (int k = 0; before->n > 0; k++) {
        char name[NAME];
        const char *of = gained ? dataset_class_name(data, k) : k < before->n ? before->name[k] : NULL;
        if (!of || !dataset_class_name(data, 0)) return;
        if (gained ? class_names_find(before, of) >= 0 : has_class(data, of)) continue;
        if (n++ == FEW) {
            (void)snprintf(text + used, TEXT - used, ", ...");
            return;
        }
        text_printable(name, sizeof name, of);
        used += (size_t)snprintf(text + used, TEXT - used, "%s\"%s\"", n > 1 ? ", " : "", name);
    }
}

ddpm_status run_classes_resume(const ddpm_config *c, const dataset *data, const earlier_classes *before, err *e)
{
    char gained[TEXT], lost[TEXT];
    const int classes = dataset_classes(data), asked = classes + (c->train.label_dropout > 0);
    const bool counted = c->model.num_class_embeds < 0, fits = counted ? asked == before->rows : asked <= before->rows;
    if (before->rows == 0 || classes <= 0 || fits) return DDPM_OK;
    list_difference(data, &before->names, true, gained);
    list_difference(data, &before->names, false, lost);
    return err_set(
        e, DDPM_EINVAL,
        "%s: its network has %d rows of classes, but the %d classes of the data%s ask for %d%s%.300s%s%.300s; "
        "resume with the classes that the run began with, or start a new run with another out=",
        before->folder, before->rows, classes,
        c->train.label_dropout > 0 ? " and the null class of train.label_dropout" : "", asked,
        gained[0] ? ": new: " : "", gained, lost[0] ? (gained[0] ? "; missing: " : ": missing: ") : "", lost);
}

/* ---- the classes in the model --------------------------------------------------------------------------- */

/* Note the classes that had another name before; false: there are none. */
static bool note_renamed(const class_names *now, const earlier_classes *earlier, notes *remarks)
{
    enum { FEW = 4, NAME = 48 };
    char text[TEXT] = "";
    size_t used = 0;
    int n = 0;
    for (int k = 0; k < now->n && k < earlier->names.n; k++) {
        char was[NAME], is[NAME];
        if (!strcmp(now->name[k], earlier->names.name[k]) || n++ >= FEW) continue;
        text_printable(was, sizeof was, earlier->names.name[k]);
        text_printable(is, sizeof is, now->name[k]);
        used += (size_t)snprintf(text + used, TEXT - used, "%s%d was %s and is %s", n > 1 ? ", " : "", k, was, is);
    }
    if (n == 0) return false;
    notes_add(remarks, "WARNING: %d class%s had another meaning in %.200s, whose weights are trained further: %s%s", n,
              n == 1 ? "" : "es", earlier->folder, text, n > FEW ? ", ..." : "");
    return true;
}

/* The names of rows that no image of the data has stay, as their weights do. */
static ddpm_status keep_names(const earlier_classes *earlier, int end, class_names *to, notes *remarks, err *e)
{
    const int first = to->n;
    while (to->n < earlier->names.n && to->n < end) TRY(class_names_add(to, earlier->names.name[to->n], e));
    if (to->n == first) return DDPM_OK;
    if (first == 0)
        notes_add(remarks, "the images have classes without names, which are taken to be those of %.200s: 0 is %.48s",
                  earlier->folder, to->name[0]);
    else
        notes_add(remarks, "%d class%s of %.200s no image of the data has, from %d %.48s on", to->n - first,
                  to->n - first == 1 ? "" : "es", earlier->folder, first, to->name[first]);
    return DDPM_OK;
}

static void take_null_class(const dataset *data, bool dropout, const earlier_classes *earlier, model *m, notes *remarks)
{
    class_names *to = &m->classes;
    const int last = unet_config_classes(&m->net.unet) - 1;
    const bool there = earlier->names.says_null && earlier->names.null_class == last,
               is_class = dataset_classes(data) > last;
    to->says_null = dropout || !earlier->folder || earlier->names.says_null;
    to->null_class = dropout || (there && !is_class) ? last : -1;
    if (there && is_class)
        notes_add(remarks, "WARNING: row %d, which stands for no class in %.200s, is trained as a class", last,
                  earlier->folder);
}

ddpm_status run_classes_take(const dataset *data, const trainer_spec *spec, const earlier_classes *earlier, model *m,
                             notes *remarks, err *e)
{
    char text[TEXT];
    class_names *to = &m->classes;
    const int rows = unet_config_classes(&m->net.unet);
    class_names_free(to);
    if (rows == 0) return DDPM_OK;
    take_null_class(data, spec->label_dropout > 0, earlier, m, remarks);
    for (int k = 0; dataset_class_name(data, k); k++) TRY(class_names_add(to, dataset_class_name(data, k), e));
    if (!note_renamed(to, earlier, remarks))
        TRY(keep_names(earlier, to->null_class >= 0 ? to->null_class : rows, to, remarks, e));
    describe(data, text);
    notes_add(remarks, "%s", text);
    return DDPM_OK;
}

uint64_t run_classes_hash(const dataset *data, const model *m)
{
    return unet_config_classes(&m->net.unet) > 0 ? dataset_labels_hash(data) : 0;
}
