#include "data/class_list.h"

#include "base/mem.h"
#include "base/utf8.h"
#include <stdlib.h>
#include <string.h>

/* Order of a slice and a name as strcmp(); a slice has no 0 bytes. */
static int compare(class_slice s, const char *name)
{
    const int order = strncmp(s.text, name, s.size);
    return order ? order : -(name[s.size] != '\0');
}

static ddpm_status add(file_list *names, class_slice s, err *e)
{
    char name[CLASS_NAME_MAX + 1];
    memcpy(name, s.text, s.size);
    name[s.size] = '\0';
    return file_list_add(names, name, e);
}

/* The different names in order.  Images of one class are mostly neighbours, so few are added twice. */
static ddpm_status list_names(const dataset *d, class_of_image *of, const void *context, file_list *names, err *e)
{
    int n = 0;
    for (int64_t i = 0; i < d->count; i++) {
        const class_slice s = of(context, i);
        if (names->n > 0 && compare(s, names->path[names->n - 1]) == 0) continue;
        TRY(add(names, s, e));
    }
    file_list_sort(names);
    for (int i = 0; i < names->n; i++) {
        if (n > 0 && !strcmp(names->path[n - 1], names->path[i]))
            free(names->path[i]);
        else
            names->path[n++] = names->path[i];
    }
    names->n = n;
    return DDPM_OK;
}

/* The place of a name that is in the list. */
static int find(const file_list *names, class_slice s)
{
    int low = 0, high = names->n - 1;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (compare(s, names->path[middle]) > 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

ddpm_status class_list_label(dataset *d, class_of_image *of, const void *context, err *e)
{
    ddpm_status st = DDPM_OK;
    file_list names = {0};
    TRY_GOTO(list_names(d, of, context, &names, e));
    TRY_GOTO(mem_array(&d->label, (size_t)d->count, sizeof *d->label, "labels", e));
    d->classes = names.n;
    for (int64_t i = 0, last = 0; i < d->count; i++) {
        const class_slice s = of(context, i);
        if (compare(s, names.path[last]) != 0) last = find(&names, s);
        d->label[i] = (int32_t)last;
    }
    TRY_GOTO(class_list_name(d, (const char *const *)names.path, names.n, e));
done:
    file_list_free(&names);
    return st;
}

ddpm_status class_list_name(dataset *d, const char *const *names, int n, err *e)
{
    for (int k = 0; k < n; k++) {
        if (text_is_utf8(names[k])) {
            TRY(file_list_add(&d->class_names, names[k], e));
            continue;
        }
        file_list_free(&d->class_names);
        dataset_remark(d, "the classes have numbers only, because the name of class %d is not UTF-8", k);
        return DDPM_OK;
    }
    return DDPM_OK;
}

void class_list_clear(dataset *d)
{
    mem_free(d->label);
    d->label = NULL;
    d->classes = 0;
    file_list_free(&d->class_names);
}
