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

ddpm_status run_classes_take(const dataset *data, const trainer_spec *spec, bool is_new, model *m, notes *remarks,
                             err *e)
{
    char text[TEXT];
    class_names *to = &m->classes;
    const int rows = unet_config_classes(&m->net.unet);
    class_names_free(to);
    if (rows == 0) return DDPM_OK;
    describe(data, text);
    notes_add(remarks, "%s", text);
    to->says_null = is_new || spec->label_dropout > 0;
    to->null_class = spec->label_dropout > 0 ? rows - 1 : -1;
    for (int k = 0; dataset_class_name(data, k); k++) TRY(class_names_add(to, dataset_class_name(data, k), e));
    return DDPM_OK;
}

uint64_t run_classes_hash(const dataset *data, const model *m)
{
    return unet_config_classes(&m->net.unet) > 0 ? dataset_labels_hash(data) : 0;
}
