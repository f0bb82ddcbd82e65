#include "io/weights.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAMED = 3 }; /* most tensors of each kind of mismatch that a message names */

void filter_from_torch(float *to, const float *from, const int64_t shape[4])
{
    const int64_t cout = shape[0], cin = shape[1], taps = shape[2] * shape[3];
    for (int64_t o = 0; o < cout; o++)
        for (int64_t k = 0; k < taps; k++)
            for (int64_t i = 0; i < cin; i++) *to++ = from[(o * cin + i) * taps + k];
}

void filter_to_torch(float *to, const float *from, const int64_t shape[4])
{
    const int64_t cout = shape[0], cin = shape[1], taps = shape[2] * shape[3];
    for (int64_t o = 0; o < cout; o++)
        for (int64_t i = 0; i < cin; i++)
            for (int64_t k = 0; k < taps; k++) *to++ = from[(o * taps + k) * cin + i];
}

ddpm_status weights_find(const char *dir, char *out, err *e)
{
    static const char *const names[] = {"diffusion_pytorch_model.safetensors",
                                        "diffusion_pytorch_model.fp16.safetensors"};
    static const char *const pickles[] = {"diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin",
                                          "diffusion_model.pt"};
    for (int i = 0; i < 2; i++) {
        TRY(path_join(out, dir, names[i], e));
        if (path_exists(out)) return DDPM_OK;
    }
    TRY(path_join(out, dir, "diffusion_pytorch_model.safetensors.index.json", e));
    if (path_exists(out))
        return err_set(e, DDPM_EDATA,
                       "%s: sharded weights are not supported; load and save them once in diffusers with "
                       "max_shard_size=\"100GB\"",
                       dir);
    for (int i = 0; i < 3; i++) {
        TRY(path_join(out, dir, pickles[i], e));
        if (path_exists(out))
            return err_set(
                e, DDPM_EDATA,
                "%s: pickled weights are not read, because they can execute code; load them once in diffusers and "
                "save_pretrained(..., safe_serialization=True)",
                out);
    }
    return err_set(e, DDPM_ENOINPUT, "%s: no weights in this folder; expected %s or %s", dir, names[0], names[1]);
}

/* ---- matching ---- */

typedef struct mismatches { /* number of mismatches, and a text with the first few */
    int missing, extra, shape;
    char missing_text[160], extra_text[160], shape_text[400];
} mismatches;

static void add_text(char *text, size_t cap, int count, const char *what)
{
    const size_t used = strlen(text);
    if (count <= NAMED) (void)snprintf(text + used, cap - used, "%s%.120s", used ? ", " : "", what);
}

/* Convert "x.to_out.0.weight" to "x.proj_attn.weight" and so on: the names before diffusers 0.12. */
static bool first_name(char *out, size_t cap, const char *name)
{
    static const char *const renamed[][2] = {
        {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}};
    for (int i = 0; i < 4; i++) {
        const char *at = strstr(name, renamed[i][0]);
        if (!at) continue;
        (void)snprintf(out, cap, "%.*s%s%s", (int)(at - name), name, renamed[i][1], at + strlen(renamed[i][0]));
        return true;
    }
    return false;
}

static const safetensors_tensor *find(const safetensors *st, const char *name)
{
    char first[256];
    const safetensors_tensor *t = safetensors_find(st, name);
    return t || !first_name(first, sizeof first, name) ? t : safetensors_find(st, first);
}

static bool fits(const safetensors_tensor *t, const named_tensor *expected)
{
    int rank = t->rank;
    if (expected->rank == 2 && rank == 4 && t->shape[2] == 1 && t->shape[3] == 1) rank = 2; /* 1x1 filter as matrix */
    if (rank != expected->rank || !safetensors_is_float(t->dtype)) return false;
    for (int i = 0; i < rank; i++)
        if (t->shape[i] != expected->shape[i]) return false;
    return true;
}

static void add_shape(mismatches *m, const safetensors_tensor *t, const named_tensor *expected)
{
    char text[200], file[64], model[64];
    (void)snprintf(text, sizeof text, "%.60s is %s%s in the file, %s in the model", expected->name,
                   safetensors_is_float(t->dtype) ? "" : safetensors_dtype_name(t->dtype),
                   safetensors_shape_text(file, sizeof file, t->rank, t->shape),
                   safetensors_shape_text(model, sizeof model, expected->rank, expected->shape));
    add_text(m->shape_text, sizeof m->shape_text, ++m->shape, text);
}

/* Set found[n] to the file's tensor for each requested one; used[count] marks the file's tensors that were found. */
static void match(const safetensors *st, const named_tensor *tensors, int n, const safetensors_tensor **found,
                  bool *used, mismatches *m)
{
    const safetensors_tensor *first = safetensors_count(st) > 0 ? safetensors_entry(st, 0) : NULL;
    for (int i = 0; i < n; i++) {
        found[i] = find(st, tensors[i].name);
        if (!found[i]) {
            add_text(m->missing_text, sizeof m->missing_text, ++m->missing, tensors[i].name);
            continue;
        }
        used[found[i] - first] = true;
        if (!fits(found[i], &tensors[i])) add_shape(m, found[i], &tensors[i]);
    }
    for (int i = 0; i < safetensors_count(st); i++)
        if (!used[i]) add_text(m->extra_text, sizeof m->extra_text, ++m->extra, safetensors_entry(st, i)->name);
}

static ddpm_status report(const mismatches *m, const char *path, err *e)
{
    if (m->missing + m->extra + m->shape == 0) return DDPM_OK;
    char text[900];
    size_t used = (size_t)snprintf(text, sizeof text, "%d missing, %d extra, %d with a different shape", m->missing,
                                   m->extra, m->shape);
    const char *const kinds[] = {"shape", "missing", "extra"};
    const char *const lists[] = {m->shape_text, m->missing_text, m->extra_text};
    for (int i = 0; i < 3; i++)
        if (lists[i][0]) used += (size_t)snprintf(text + used, sizeof text - used, "; %s: %s", kinds[i], lists[i]);
    return err_set(e, DDPM_EDATA, "%s: the weights do not match the model: %s", path, text);
}

static ddpm_status load(const safetensors *st, const safetensors_tensor *const *found, const named_tensor *tensors,
                        int n, float *scratch, err *e)
{
    for (int i = 0; i < n; i++) {
        const bool filter = tensors[i].rank == 4;
        TRY(safetensors_to_f32(found[i], filter ? scratch : tensors[i].data, e));
        if (filter) filter_from_torch(tensors[i].data, scratch, tensors[i].shape);
        safetensors_let_go(st, found[i]);
    }
    return DDPM_OK;
}

/* Check all values before writing any: a single NaN in the weights makes the network's output NaN, a black image. */
static ddpm_status check_finite(const safetensors *st, const safetensors_tensor *const *found, int n, err *e)
{
    for (int i = 0; i < n; i++) {
        TRY(safetensors_check_finite(st, found[i], e));
        safetensors_let_go(st, found[i]);
    }
    return DDPM_OK;
}

static void note_conversion(const safetensors_tensor *const *found, int n, const char *path, notes *remarks)
{
    int converted = 0;
    for (int i = 0; i < n; i++) converted += found[i]->dtype != SAFETENSORS_F32;
    if (converted) notes_add(remarks, "%s: %d of %d tensors are not F32 and were converted", path, converted, n);
}

ddpm_status weights_read(const char *path, const named_tensor *tensors, int n, notes *remarks, err *e)
{
    safetensors *st_file = NULL;
    const safetensors_tensor **found = NULL;
    bool *used = NULL;
    float *scratch = NULL;
    mismatches m = {0};
    size_t largest = 0;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(safetensors_open(path, &st_file, e));
    TRY_GOTO(mem_array(&found, (size_t)n, sizeof(void *), path, e));
    TRY_GOTO(mem_array(&used, (size_t)safetensors_count(st_file), sizeof *used, path, e));
    match(st_file, tensors, n, found, used, &m);
    TRY_GOTO(report(&m, path, e));
    TRY_GOTO(check_finite(st_file, found, n, e));
    for (int i = 0; i < n; i++) {
        const size_t values = found[i]->bytes / safetensors_dtype_size(found[i]->dtype);
        if (tensors[i].rank == 4 && values > largest) largest = values;
    }
    TRY_GOTO(mem_array(&scratch, largest, sizeof *scratch, path, e));
    TRY_GOTO(load(st_file, found, tensors, n, scratch, e));
    note_conversion(found, n, path, remarks);
done:
    mem_free(scratch);
    mem_free(used);
    mem_free(found);
    safetensors_close(st_file);
    return st;
}

/* ---- writing ---- */

static void pack_filter(const safetensors_item *item, void *to) { filter_to_torch(to, item->data, item->shape); }

/* |x| < 65520 as IEEE 754 binary16, rounded to nearest, ties to even. */
static uint16_t half_of(float x)
{
    const float scale = 0x1p24f, rounding = 0x1p23f; /* adding 2^23 rounds to an integer */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    if (magnitude < 0x38800000u) { /* below 2^-14: a multiple of 2^-24 */
        const float sum = fabsf(x) * scale + rounding;
        memcpy(&bits, &sum, sizeof bits);
        return (uint16_t)(sign | (bits & 0x7FFu));
    }
    const uint32_t rounded = magnitude + 0xFFFu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

static void pack_half(const safetensors_item *item, void *to)
{
    const int64_t *n = item->shape;
    const int64_t inner = item->rank == 4 ? n[1] : 1, taps = item->rank == 4 ? n[2] * n[3] : 1;
    const float *from = item->data;
    uint16_t *half = to;
    int64_t outer = 1;
    for (int k = 0; k < (item->rank == 4 ? 1 : item->rank); k++) outer *= n[k];
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++)
            for (int64_t k = 0; k < taps; k++) *half++ = half_of(from[(o * taps + k) * inner + i]);
}

/* Values of `limit` or more, and non-finite ones, could not be read again, and must not replace a good file. */
static ddpm_status refuse_too_large(const char *path, const named_tensor *t, float limit, err *e)
{
    int64_t count = 1;
    for (int k = 0; k < t->rank; k++) count *= t->shape[k];
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(t->data[i]) < limit))
            return err_set(e, DDPM_EDIVERGED, "%s: not written: value %lld of %s is %g", path, (long long)i, t->name,
                           (double)t->data[i]);
    return DDPM_OK;
}

static ddpm_status write_as(const char *path, const named_tensor *tensors, int n, bool half, bool durable, err *e)
{
    safetensors_item *items;
    for (int i = 0; i < n; i++) TRY(refuse_too_large(path, &tensors[i], half ? 65520.0f : INFINITY, e));
    TRY(mem_array(&items, (size_t)n, sizeof *items, path, e));
    for (int i = 0; i < n; i++) {
        items[i] = (safetensors_item){.name = tensors[i].name,
                                      .dtype = half ? SAFETENSORS_F16 : SAFETENSORS_F32,
                                      .rank = tensors[i].rank,
                                      .data = tensors[i].data,
                                      .pack = half                   ? pack_half
                                              : tensors[i].rank == 4 ? pack_filter
                                                                     : NULL};
        for (int k = 0; k < tensors[i].rank && k < 4; k++) items[i].shape[k] = tensors[i].shape[k];
    }
    const ddpm_status st = safetensors_write(path, items, n, durable, e);
    mem_free(items);
    return st;
}

ddpm_status weights_write(const char *path, const named_tensor *tensors, int n, bool durable, err *e)
{
    return write_as(path, tensors, n, false, durable, e);
}

ddpm_status weights_write_half(const char *path, const named_tensor *tensors, int n, bool durable, err *e)
{
    return write_as(path, tensors, n, true, durable, e);
}
