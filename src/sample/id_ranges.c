#include "sample/id_ranges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Read a number in [0, ID_END) at *text, and go past it; -1: there is none. */
static int64_t read_id(const char **text)
{
    int64_t id = 0;
    const size_t digits = strspn(*text, "0123456789");
    for (size_t i = 0; i < digits && id < ID_END; i++) id = 10 * id + ((*text)[i] - '0');
    *text += digits;
    return digits ? id : -1;
}

static ddpm_status read_range(const char **text, id_range *r, err *e)
{
    const char *start = *text;
    r->first = r->last = read_id(text);
    if (**text == '-') {
        ++*text;
        r->last = read_id(text);
    }
    const int n = (int)(*text - start);
    if (r->first < 0 || r->last < 0 || (**text && **text != ','))
        return err_set(e, DDPM_EINVAL, "ids: '%.40s' is not a list of ids and ranges such as 0-99,200,300-399", start);
    if (r->first >= ID_END || r->last >= ID_END)
        return err_set(e, DDPM_EINVAL, "ids: '%.*s': ids are less than 4294967296", n, start);
    if (r->last < r->first)
        return err_set(e, DDPM_EINVAL, "ids: '%.*s' runs backwards; write %lld-%lld", n, start, (long long)r->last,
                       (long long)r->first);
    return DDPM_OK;
}

static int by_first(const void *a, const void *b)
{
    const int64_t x = ((const id_range *)a)->first, y = ((const id_range *)b)->first;
    return (x > y) - (x < y);
}

/* Sort, refuse ids that are named twice, join ranges that touch, and count. */
static ddpm_status arrange(id_ranges *r, err *e)
{
    int n = 0;
    qsort(r->range, (size_t)r->n, sizeof *r->range, by_first);
    for (int i = 0; i < r->n; i++) {
        const id_range next = r->range[i];
        id_range *last = n ? &r->range[n - 1] : NULL;
        if (last && next.first <= last->last)
            return err_set(e, DDPM_EINVAL, "ids: %lld is named twice", (long long)next.first);
        if (last && next.first == last->last + 1)
            last->last = next.last;
        else
            r->range[n++] = next;
        r->count += next.last - next.first + 1;
    }
    r->n = n;
    return DDPM_OK;
}

ddpm_status id_ranges_parse(id_ranges *r, const char *text, err *e)
{
    r->n = 0;
    r->count = 0;
    for (;; text++) {
        if (r->n == ID_RANGES) return err_set(e, DDPM_EINVAL, "ids: more than %d ranges", ID_RANGES);
        TRY(read_range(&text, &r->range[r->n++], e));
        if (!*text) return arrange(r, e);
    }
}

void id_ranges_first(id_ranges *r, int64_t count)
{
    r->n = 1;
    r->count = count;
    r->range[0] = (id_range){0, count - 1};
}

int64_t id_ranges_id(const id_ranges *r, int64_t position)
{
    int i = 0;
    for (; position > r->range[i].last - r->range[i].first; i++) position -= r->range[i].last - r->range[i].first + 1;
    return r->range[i].first + position;
}

int64_t id_ranges_position(const id_ranges *r, int64_t id)
{
    int64_t before = 0;
    for (int i = 0; i < r->n; i++) {
        if (id < r->range[i].first) return -1;
        if (id <= r->range[i].last) return before + id - r->range[i].first;
        before += r->range[i].last - r->range[i].first + 1;
    }
    return -1;
}

void id_ranges_text(const id_ranges *r, char out[ID_TEXT])
{
    size_t used = 0;
    for (int i = 0; i < r->n; i++) {
        const long long first = (long long)r->range[i].first, last = (long long)r->range[i].last;
        const char *comma = i ? "," : "";
        used += (size_t)(first == last ? snprintf(out + used, ID_TEXT - used, "%s%lld", comma, first)
                                       : snprintf(out + used, ID_TEXT - used, "%s%lld-%lld", comma, first, last));
    }
}
