#include "sample/label_list.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "config/nearest.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool label_list_is_balanced(const char *text) { return text[0] == '\0' || !strcmp(text, "balanced"); }

int label_classes(int embeds, bool without_null, int null_class)
{
    return embeds > 0 && without_null && null_class == embeds - 1 ? embeds - 1 : embeds;
}

/* ---- items of a list --------------------------------------------------------------------------------- */

typedef struct parser {
    const char *text, *at, *end; /* the whole text, and the rest of the items */
    const class_names *names;    /* n = 0: the classes have none */
    label_list *out;
    int capacity; /* of out->range */
    bool named;   /* an item was a name */
} parser;

static ddpm_status bad_form(const parser *p, err *e)
{
    return err_set(e, DDPM_EINVAL, "labels=%.60s: must be balanced, or %s", p->text,
                   p->names->n > 0 ? "classes such as cat,3,10-19, with quotes around names with commas"
                                   : "labels and ranges such as 3,7,10-19");
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

/* An item "3" or "3-7" with what ends it. */
static bool read_range(parser *p, label_range *out)
{
    const char *at = p->at;
    skip_blanks(&at);
    out->first = out->last = number(&at);
    if (*at == '-') {
        ++at;
        out->last = number(&at);
    }
    skip_blanks(&at);
    if (out->first < 0 || out->last < out->first || (at != p->end && *at != ',')) return false;
    p->at = at;
    return true;
}

/* Are the `size` bytes at `text` the name? */
static bool is_name(const char *text, size_t size, const char *name)
{
    return !strncmp(text, name, size) && !name[size];
}

static int find(const class_names *names, const char *text, size_t size)
{
    for (int k = 0; k < names->n; k++)
        if (is_name(text, size, names->name[k])) return k;
    return -1;
}

static ddpm_status refuse_name(const parser *p, const char *name, int size, err *e)
{
    enum { MOST = 3 };
    char copy[64], other[64], list[MOST * 66] = "";
    int said[MOST];
    (void)snprintf(copy, sizeof copy, "%.*s", size, name);
    for (int n = 0; n < MOST && n < p->names->n; n++) {
        int best = -1, distance = INT_MAX;
        for (int k = 0; k < p->names->n; k++) {
            bool is_new = true;
            for (int i = 0; i < n; i++) is_new &= said[i] != k;
            const int d = is_new ? text_distance(copy, p->names->name[k]) : INT_MAX;
            if (d < distance) best = k, distance = d;
        }
        const size_t used = strlen(list);
        said[n] = best;
        text_printable(other, sizeof other, p->names->name[best]);
        (void)snprintf(list + used, sizeof list - used, "%s%s", n ? ", " : "", other);
    }
    return err_set(e, DDPM_EINVAL, "labels: the model has no class \"%s\"; nearest: %s", copy, list);
}

/* A name, in quotes or up to the comma. */
static ddpm_status read_name(parser *p, label_range *out, err *e)
{
    skip_blanks(&p->at);
    const bool quoted = *p->at == '"';
    const char *begin = p->at + quoted, *end = memchr(begin, quoted ? '"' : ',', (size_t)(p->end - begin));
    if (!end) end = p->end;
    if (quoted && end == p->end) return bad_form(p, e);
    p->at = end + quoted;
    skip_blanks(&p->at);
    while (!quoted && end > begin && end[-1] == ' ') end--;
    const size_t size = (size_t)(end - begin);
    if (size == 0 || (p->at != p->end && *p->at != ',')) return bad_form(p, e);
    if (!quoted && strspn(begin, "0123456789-") >= size) return bad_form(p, e);
    out->first = out->last = find(p->names, begin, size);
    p->named = true;
    return out->first >= 0 ? DDPM_OK : refuse_name(p, begin, (int)(size < 60 ? size : 60), e);
}

/* "2" is class 2, or the class whose name is 2 if there is no class 2. */
static ddpm_status check_number(parser *p, const char *item, label_range *r, err *e)
{
    skip_blanks(&item);
    const int size = (int)strspn(item, "0123456789"), k = r->first;
    const int named = item[size] != '-' ? find(p->names, item, (size_t)size) : -1;
    if (named < 0 || named == k) return DDPM_OK;
    if (k < p->out->classes)
        return err_set(
            e, DDPM_EINVAL,
            "labels: %d is a class, and also the name of class %d; write \"%.*s\" for the name, or %d-%d for "
            "the number",
            k, named, size, item, k, k);
    r->first = r->last = named;
    p->named = true;
    return DDPM_OK;
}

static ddpm_status add_range(parser *p, label_range r, err *e)
{
    label_list *l = p->out;
    if (r.last >= l->classes)
        return err_set(e, DDPM_EINVAL, "labels=%.60s: label %d is not in [0, %d), the classes of the network", p->text,
                       r.last, l->classes);
    TRY(mem_grow(&l->range, &p->capacity, l->n_range + 1, sizeof *l->range, "labels", e));
    l->range[l->n_range++] = r;
    l->n += r.last - r.first + 1;
    return DDPM_OK;
}

static ddpm_status read_items(parser *p, err *e)
{
    for (;;) {
        label_range r;
        const char *item = p->at;
        if (read_range(p, &r))
            TRY(check_number(p, item, &r, e));
        else if (p->names->n > 0)
            TRY(read_name(p, &r, e));
        else
            return bad_form(p, e);
        TRY(add_range(p, r, e));
        if (p->at == p->end) return DDPM_OK;
        p->at++;
    }
}

/* ---- lists ----------------------------------------------------------------------------------------------- */

/* The ranges as a text without names. */
static ddpm_status write_numbers(label_list *l, err *e)
{
    enum { ITEM = 24 };
    int used = 0;
    const size_t size = (size_t)l->n_range * ITEM + 1;
    mem_free(l->text);
    TRY(mem_array(&l->text, size, 1, "labels", e));
    for (int i = 0; i < l->n_range; i++) {
        const label_range r = l->range[i];
        char *to = l->text + used;
        used += r.first == r.last ? snprintf(to, size - (size_t)used, "%s%d", i ? "," : "", r.first)
                                  : snprintf(to, size - (size_t)used, "%s%d-%d", i ? "," : "", r.first, r.last);
    }
    return DDPM_OK;
}

static ddpm_status read_list(const char *text, const class_names *names, label_list *l, err *e)
{
    static const class_names none = {0};
    const size_t size = strlen(text);
    const bool brackets = size >= 2 && text[0] == '[' && text[size - 1] == ']';
    parser p = {.text = text, .at = text + brackets, .end = text + size - brackets, .names = names ? names : &none};
    p.out = l;
    TRY(read_items(&p, e));
    return p.named ? write_numbers(l, e) : DDPM_OK;
}

ddpm_status label_list_parse(const char *text, int classes, const class_names *names, label_list *out, err *e)
{
    const bool balanced = label_list_is_balanced(text);
    ddpm_status st = DDPM_OK;
    *out = (label_list){.classes = classes};
    if (classes == 0 && !balanced)
        return err_set(e, DDPM_EINVAL, "labels=%.60s: the network has no classes (num_class_embeds is null)", text);
    TRY_GOTO(mem_array(&out->text, strlen(text) + 1, 1, "labels", e));
    strcpy(out->text, text);
    if (!balanced) TRY_GOTO(read_list(text, names, out, e));
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
