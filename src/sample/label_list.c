#include "sample/label_list.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int label_classes(int embeds, bool guided, int null_class)
{
    return embeds > 0 && guided && null_class == embeds - 1 ? embeds - 1 : embeds;
}

static ddpm_status bad_form(const char *text, err *e)
{
    return err_set(e, DDPM_EINVAL, "labels=%.60s: must be balanced, or labels and ranges such as 3,7,10-19", text);
}

/* A number of at most nine digits at *at, which moves behind it; -1: there is none. */
static int number(const char **at)
{
    int v = 0, digits = 0;
    while (isdigit((unsigned char)**at) && digits++ < 9) v = 10 * v + (*(*at)++ - '0');
    return digits > 0 && !isdigit((unsigned char)**at) ? v : -1;
}

static void skip_blanks(const char **at)
{
    while (**at == ' ') ++*at;
}

static bool read_range(const char **at, label_range *out)
{
    skip_blanks(at);
    out->first = out->last = number(at);
    if (**at == '-') {
        ++*at;
        out->last = number(at);
    }
    skip_blanks(at);
    return out->first >= 0 && out->last >= out->first;
}

static ddpm_status add_range(label_list *l, int *capacity, label_range r, const char *text, err *e)
{
    if (r.last >= l->classes)
        return err_set(e, DDPM_EINVAL, "labels=%.60s: label %d is not in [0, %d), the classes of the network", text,
                       r.last, l->classes);
    TRY(mem_grow(&l->range, capacity, l->n_range + 1, sizeof *l->range, "labels", e));
    l->range[l->n_range++] = r;
    l->n += r.last - r.first + 1;
    return DDPM_OK;
}

static ddpm_status read_all(const char *text, label_list *l, err *e)
{
    int capacity = 0;
    const size_t size = strlen(text);
    const bool brackets = size >= 2 && text[0] == '[' && text[size - 1] == ']';
    const char *at = text + brackets, *const end = text + size - brackets;
    for (;;) {
        label_range r;
        if (!read_range(&at, &r)) return bad_form(text, e);
        TRY(add_range(l, &capacity, r, text, e));
        if (at == end) return DDPM_OK;
        if (*at++ != ',') return bad_form(text, e);
    }
}

ddpm_status label_list_parse(const char *text, int classes, label_list *out, err *e)
{
    const bool balanced = text[0] == '\0' || !strcmp(text, "balanced");
    ddpm_status st = DDPM_OK;
    *out = (label_list){.classes = classes};
    if (classes == 0 && !balanced)
        return err_set(e, DDPM_EINVAL, "labels=%.60s: the network has no classes (num_class_embeds is null)", text);
    TRY_GOTO(mem_array(&out->text, strlen(text) + 1, 1, "labels", e));
    strcpy(out->text, text);
    if (!balanced) TRY_GOTO(read_all(text, out, e));
done:
    if (st != DDPM_OK) label_list_free(out);
    return st;
}

void label_list_free(label_list *l)
{
    mem_free(l->range);
    mem_free(l->text);
    *l = (label_list){0};
}

int label_of(const label_list *l, int64_t id)
{
    if (l->classes == 0) return -1;
    if (l->n == 0) return (int)(id % l->classes);
    int64_t place = id % l->n;
    for (int i = 0;; i++) {
        const int64_t size = l->range[i].last - l->range[i].first + 1;
        if (place < size) return (int)(l->range[i].first + place);
        place -= size;
    }
}

int64_t label_of_picture(const void *list, int64_t id) { return label_of(list, id); }
