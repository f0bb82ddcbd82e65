/* dataset_digits.c - the data set of synthetic digits (digit.h). */
#include "data/dataset_kind.h"

#include "base/mem.h"
#include "data/class_list.h"
#include "data/digit.h"

enum { COUNT_DEFAULT = 60000, COUNT_MAX = 100000000, SIDE_DEFAULT = 28 };

typedef struct digits_source {
    uint64_t seed;
    int side;
} digits_source;

static ddpm_status digits_open(const dataset_spec *spec, dataset *d, err *e)
{
    static const char *const names[DIGIT_CLASSES] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    digits_source *s;
    TRY(mem_array(&s, 1, sizeof *s, "digits", e));
    d->source = s;
    s->seed = spec->seed;
    s->side = spec->resolution ? spec->resolution : SIDE_DEFAULT;
    d->count = spec->count ? spec->count : COUNT_DEFAULT;
    if (d->count > COUNT_MAX)
        return err_set(e, DDPM_EINVAL, "data.count=%lld: at most %d digits are supported", (long long)d->count,
                       COUNT_MAX);
    d->source_hash = spec->seed;
    if (spec->path && *spec->path)
        dataset_remark(d, "data.path=%s has no effect: data.kind=digits generates its images", spec->path);
    TRY(mem_array(&d->label, (size_t)d->count, sizeof *d->label, "labels", e));
    for (int64_t i = 0; i < d->count; i++) d->label[i] = (int32_t)(i % DIGIT_CLASSES);
    d->classes = DIGIT_CLASSES;
    return class_list_name(d, names, DIGIT_CLASSES, e);
}

static ddpm_status digits_read(const void *source, int64_t i, image *out, err *e)
{
    const digits_source *s = source;
    TRY(image_create(out, s->side, s->side, 1, "digit", e));
    digit_draw(s->seed, (uint64_t)i, (int)(i % DIGIT_CLASSES), s->side, out->pixel);
    return DDPM_OK;
}

static void digits_close(void *source) { mem_free(source); }

const dataset_kind dataset_digits = {
    .name = "digits",
    .looks_for = "nothing: the program draws them",
    .open = digits_open,
    .read = digits_read,
    .close = digits_close,
};
