#include "io/safetensors.h"
#include "base/mem.h"
#include "io/json_members.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors files are little-endian");

struct safetensors {
    char *where;
    const char *bytes; /* the whole file */
    size_t size;
    bool mapped;
    char *names; /* concatenated, each with a final 0 */
    int names_used, names_cap;
    safetensors_tensor *tensors; /* sorted by name */
    int n, cap;
};

const char *safetensors_dtype_name(safetensors_dtype dtype)
{
    switch (dtype) {
#define NAME(name, size)                                                                                               \
    case SAFETENSORS_##name: return #name;
        SAFETENSORS_DTYPE_LIST(NAME)
#undef NAME
    }
    return "unknown";
}

size_t safetensors_dtype_size(safetensors_dtype dtype)
{
    switch (dtype) {
#define SIZE(name, size)                                                                                               \
    case SAFETENSORS_##name: return size;
        SAFETENSORS_DTYPE_LIST(SIZE)
#undef SIZE
    }
    return 0;
}

static bool dtype_of(const char *text, safetensors_dtype *dtype)
{
#define MATCH(name, size)                                                                                              \
    if (!strcmp(text, #name)) return *dtype = SAFETENSORS_##name, true;
    SAFETENSORS_DTYPE_LIST(MATCH)
#undef MATCH
    return false;
}

const char *safetensors_shape_text(char *out, size_t cap, int rank, const int64_t *shape)
{
    size_t used = (size_t)snprintf(out, cap, "[");
    for (int i = 0; i < rank && used < cap; i++)
        used += (size_t)snprintf(out + used, cap - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (used < cap) (void)snprintf(out + used, cap - used, "]");
    return out;
}

/* A non-negative integer; jansson has rejected integers that exceed 64 bits. */
static bool natural(const json_t *v, int64_t *out)
{
    *out = json_integer_value(v);
    return json_is_integer(v) && *out >= 0;
}

static ddpm_status read_shape(const safetensors *st, const json_t *info, safetensors_tensor *t, err *e)
{
    const json_t *shape = json_object_get(info, "shape");
    if (!json_is_array(shape)) return err_set(e, DDPM_EDATA, "%s: %.80s: shape must be an array", st->where, t->name);
    if (json_array_size(shape) > SAFETENSORS_MAX_RANK)
        return err_set(e, DDPM_EDATA, "%s: %.80s: %zu dimensions, at most %d are supported", st->where, t->name,
                       json_array_size(shape), SAFETENSORS_MAX_RANK);
    t->rank = (int)json_array_size(shape);
    t->bytes = 1;
    for (int i = 0; i < t->rank; i++) {
        if (!natural(json_array_get(shape, (size_t)i), &t->shape[i]))
            return err_set(e, DDPM_EDATA, "%s: %.80s: dimension %d is not a non-negative integer", st->where, t->name,
                           i);
        if (__builtin_mul_overflow(t->bytes, (uint64_t)t->shape[i], &t->bytes))
            return err_set(e, DDPM_EDATA, "%s: %.80s: the product of the shape overflows", st->where, t->name);
    }
    if (__builtin_mul_overflow(t->bytes, safetensors_dtype_size(t->dtype), &t->bytes))
        return err_set(e, DDPM_EDATA, "%s: %.80s: the product of the shape overflows", st->where, t->name);
    return DDPM_OK;
}

/* Read the tensor's byte range; data_size is the file's size after the header. */
static ddpm_status read_range(const safetensors *st, const json_t *info, size_t data_size, safetensors_tensor *t,
                              err *e)
{
    const json_t *range = json_object_get(info, "data_offsets");
    int64_t begin, end;
    if (!json_is_array(range) || json_array_size(range) != 2 || !natural(json_array_get(range, 0), &begin) ||
        !natural(json_array_get(range, 1), &end))
        return err_set(e, DDPM_EDATA, "%s: %.80s: data_offsets must be two non-negative integers", st->where, t->name);
    if (begin > end)
        return err_set(e, DDPM_EDATA, "%s: %.80s: data_offsets [%lld, %lld] end before they begin", st->where, t->name,
                       (long long)begin, (long long)end);
    if ((uint64_t)end > data_size)
        return err_set(e, DDPM_EDATA, "%s: %.80s: data_offsets [%lld, %lld] end beyond the %zu data bytes of the file",
                       st->where, t->name, (long long)begin, (long long)end, data_size);
    if ((uint64_t)(end - begin) != t->bytes)
        return err_set(e, DDPM_EDATA, "%s: %.80s: shape and dtype require %zu bytes, data_offsets span %lld", st->where,
                       t->name, t->bytes, (long long)(end - begin));
    t->data = st->bytes + (st->size - data_size) + begin;
    return DDPM_OK;
}

static ddpm_status read_tensor(const safetensors *st, const json_t *info, size_t data_size, safetensors_tensor *t,
                               err *e)
{
    if (!json_is_object(info)) return err_set(e, DDPM_EDATA, "%s: %.80s: not a JSON object", st->where, t->name);
    const char *dtype = json_string_value(json_object_get(info, "dtype"));
    if (!dtype) return err_set(e, DDPM_EDATA, "%s: %.80s: dtype must be a string", st->where, t->name);
    if (!dtype_of(dtype, &t->dtype))
        return err_set(e, DDPM_EDATA,
                       "%s: %.80s: dtype '%.20s' is not supported (BOOL, U8, F16, BF16, I32, F32, F64, I64 are)",
                       st->where, t->name, dtype);
    TRY(read_shape(st, info, t, e));
    return read_range(st, info, data_size, t, e);
}

static int by_place(const void *a, const void *b)
{
    const safetensors_tensor *x = a, *y = b;
    const char *xd = x->data, *yd = y->data;
    if (xd != yd) return xd < yd ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* an empty tensor before another at the same offset */
}

static int by_name(const void *a, const void *b)
{
    const safetensors_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Check that every data byte belongs to exactly one tensor; the tensors are sorted by offset. */
static ddpm_status check_cover(safetensors *st, size_t data_size, err *e)
{
    const char *at = st->bytes + (st->size - data_size);
    for (int i = 0; i < st->n; i++) {
        const safetensors_tensor *t = &st->tensors[i];
        const char *begin = t->data;
        if (begin != at)
            return err_set(e, DDPM_EDATA, "%s: %.80s: %s before its data", st->where, t->name,
                           begin < at ? "overlaps the tensor" : "a gap of unused bytes");
        at = begin + t->bytes;
    }
    if (at != st->bytes + st->size)
        return err_set(e, DDPM_EDATA, "%s: %td unused bytes after the last tensor", st->where,
                       st->bytes + st->size - at);
    return DDPM_OK;
}

/* ---- the header: jansson parses one member at a time, so that a file cannot make it use much memory ---- */

enum { PIECE = 8192, MAX_METADATA = 65536 }; /* bytes of a name or a tensor's object; entries */

static ddpm_status not_json(const safetensors *st, const char *why, err *e)
{
    return err_set(e, DDPM_EDATA, "%s: the header is not valid JSON: %s", st->where, why);
}

static ddpm_status parse(const safetensors *st, json_slice piece, size_t most, json_t **out, err *e)
{
    json_error_t why;
    if (piece.size > most)
        return err_set(e, DDPM_EDATA,
                       "%s: the header has a name or tensor entry of %zu bytes; at most %zu are supported", st->where,
                       piece.size, most);
    *out = json_loadb(piece.text, piece.size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (*out) return DDPM_OK;
    if (json_error_code(&why) == json_error_out_of_memory)
        return err_set(e, DDPM_ENOMEM, "%s: out of memory for %zu bytes of the header", st->where, piece.size);
    return not_json(st, why.text, e);
}

/* Decode a member's key and append it to st->names. */
static ddpm_status read_name(safetensors *st, json_slice key, const char **name, err *e)
{
    json_t *text;
    TRY(parse(st, key, PIECE, &text, e));
    const int size = (int)json_string_length(text) + 1; /* not longer than the key, so it fits */
    char *to = st->names + st->names_used;
    memcpy(to, json_string_value(text), (size_t)size);
    json_decref(text);
    st->names_used += size;
    *name = to;
    return DDPM_OK;
}

/* Check that the object maps strings to strings; duplicates are allowed, and nothing is stored. */
static ddpm_status check_metadata(safetensors *st, json_slice object, err *e)
{
    json_members m = {.at = object.text, .end = object.text + object.size};
    json_slice key, value;
    const char *name;
    json_walk walk;
    if (object.text[0] != '{') return err_set(e, DDPM_EDATA, "%s: __metadata__ must be an object", st->where);
    const int used = st->names_used;
    for (int n = 0; (walk = json_members_next(&m, &key, &value)) == JSON_MEMBER; n++) {
        json_t *text = NULL;
        if (n == MAX_METADATA)
            return err_set(e, DDPM_EDATA, "%s: __metadata__ has more than %d entries", st->where, MAX_METADATA);
        TRY(read_name(st, key, &name, e));
        st->names_used = used;
        TRY(parse(st, value, value.text[0] == '"' ? SAFETENSORS_MAX_HEADER : PIECE, &text, e));
        const bool is_text = json_is_string(text);
        json_decref(text);
        if (!is_text) return err_set(e, DDPM_EDATA, "%s: __metadata__: %.80s must be a string", st->where, name);
    }
    return walk == JSON_END ? DDPM_OK : not_json(st, "in __metadata__", e);
}

static ddpm_status read_member(safetensors *st, json_slice key, json_slice value, size_t data_size, err *e)
{
    const char *name;
    json_t *info;
    TRY(read_name(st, key, &name, e));
    if (!strcmp(name, "__metadata__")) return check_metadata(st, value, e);
    TRY(parse(st, value, PIECE, &info, e));
    ddpm_status status = mem_grow(&st->tensors, &st->cap, st->n + 1, sizeof *st->tensors, st->where, e);
    if (status == DDPM_OK) {
        safetensors_tensor *t = &st->tensors[st->n++];
        *t = (safetensors_tensor){.name = name};
        status = read_tensor(st, info, data_size, t, e);
    }
    json_decref(info);
    return status;
}

static void sort(safetensors *st, int (*order)(const void *, const void *))
{
    if (st->n > 0) qsort(st->tensors, (size_t)st->n, sizeof *st->tensors, order);
}

static ddpm_status read_header(safetensors *st, const char *text, size_t size, err *e)
{
    const size_t data_size = st->size - 8 - size;
    json_members m = {.at = text, .end = text + size};
    json_slice key, value;
    json_walk walk;
    if (text[0] != '{') return err_set(e, DDPM_EDATA, "%s: the header does not begin with '{'", st->where);
    TRY(mem_grow(&st->names, &st->names_cap, (int)size, 1, st->where, e)); /* never moves: tensors point into it */
    while ((walk = json_members_next(&m, &key, &value)) == JSON_MEMBER) TRY(read_member(st, key, value, data_size, e));
    if (walk == JSON_MALFORMED) return not_json(st, "not an object of tensors", e);
    sort(st, by_name);
    for (int i = 1; i < st->n; i++)
        if (!strcmp(st->tensors[i - 1].name, st->tensors[i].name))
            return err_set(e, DDPM_EDATA, "%s: %.80s: duplicate name", st->where, st->tensors[i].name);
    sort(st, by_place);
    TRY(check_cover(st, data_size, e));
    sort(st, by_name);
    return DDPM_OK;
}

static ddpm_status check_file(safetensors *st, err *e)
{
    uint64_t header;
    if (st->size < sizeof header + 2)
        return err_set(e, DDPM_EDATA, "%s: %zu bytes, too short for a safetensors file", st->where, st->size);
    memcpy(&header, st->bytes, sizeof header);
    if (header < 2 || header > SAFETENSORS_MAX_HEADER)
        return err_set(e, DDPM_EDATA, "%s: header length %llu is outside 2 to %d; not a safetensors file?", st->where,
                       (unsigned long long)header, SAFETENSORS_MAX_HEADER);
    if (header > st->size - sizeof header)
        return err_set(e, DDPM_EDATA, "%s: header length %llu is more than the file of %zu bytes contains; truncated?",
                       st->where, (unsigned long long)header, st->size);
    return read_header(st, st->bytes + sizeof header, (size_t)header, e);
}

static ddpm_status map_file(safetensors *st, const char *path, err *e)
{
    struct stat info;
    ddpm_status status = DDPM_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* never blocks on a FIFO */
    if (fd < 0) return err_errno(e, DDPM_ENOINPUT, errno, "%s: cannot open", path);
    if (fstat(fd, &info)) {
        status = err_errno(e, DDPM_EIO, errno, "%s: cannot stat", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = err_set(e, DDPM_EDATA, "%s: not a regular file", path);
    } else if (info.st_size > 0) {
        void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            status = err_errno(e, DDPM_EIO, errno, "%s: cannot map", path);
        } else {
            st->bytes = map;
            st->size = (size_t)info.st_size;
            st->mapped = true;
        }
    }
    close(fd);
    return status;
}

/* Exactly one of path and bytes is not NULL. */
static ddpm_status open_either(const char *path, const void *bytes, size_t size, const char *where, safetensors **out,
                               err *e)
{
    safetensors *st = NULL;
    *out = NULL;
    ddpm_status status = mem_array(&st, 1, sizeof *st, where, e);
    if (status == DDPM_OK) status = mem_text(&st->where, where, e);
    if (status == DDPM_OK && path) status = map_file(st, path, e);
    if (status == DDPM_OK && bytes) {
        st->bytes = bytes;
        st->size = size;
    }
    if (status == DDPM_OK) status = check_file(st, e);
    if (status == DDPM_OK)
        *out = st;
    else
        safetensors_close(st);
    return status;
}

ddpm_status safetensors_open(const char *path, safetensors **out, err *e)
{
    return open_either(path, NULL, 0, path, out, e);
}

ddpm_status safetensors_open_memory(const void *bytes, size_t size, const char *where, safetensors **out, err *e)
{
    return open_either(NULL, bytes, size, where, out, e);
}

void safetensors_close(safetensors *st)
{
    if (!st) return;
    if (st->mapped) munmap((void *)(uintptr_t)st->bytes, st->size);
    free(st->names);
    free(st->tensors);
    free(st->where);
    mem_free(st);
}

void safetensors_let_go(const safetensors *st, const safetensors_tensor *t)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)t->data + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)t->data + t->bytes) / page * page; /* whole pages within the tensor */
    if (st->mapped && end > from) (void)madvise((void *)from, end - from, MADV_DONTNEED);
}

int safetensors_count(const safetensors *st) { return st->n; }

const safetensors_tensor *safetensors_entry(const safetensors *st, int i) { return &st->tensors[i]; }

const safetensors_tensor *safetensors_find(const safetensors *st, const char *name)
{
    const safetensors_tensor key = {.name = name};
    return st->n > 0 ? bsearch(&key, st->tensors, (size_t)st->n, sizeof key, by_name) : NULL;
}

bool safetensors_is_float(safetensors_dtype dtype)
{
    return dtype == SAFETENSORS_F32 || dtype == SAFETENSORS_F16 || dtype == SAFETENSORS_BF16 ||
           dtype == SAFETENSORS_F64;
}

static float of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* IEEE 754 binary16 to float, exact, including subnormals and NaN payloads. */
static float of_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
    if (exponent == 31) return of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent > 0) return of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    const float value = (float)fraction * 0x1p-24f;
    return sign ? -value : value;
}

/* The floating-point value at `from` as a float. */
static float value_at(safetensors_dtype dtype, const char *from)
{
    uint32_t word;
    uint16_t half;
    double wide;
    switch (dtype) {
    case SAFETENSORS_F32: memcpy(&word, from, sizeof word); return of_bits(word);
    case SAFETENSORS_F64: memcpy(&wide, from, sizeof wide); return (float)wide;
    default: memcpy(&half, from, sizeof half); break;
    }
    return dtype == SAFETENSORS_F16 ? of_f16(half) : of_bits((uint32_t)half << 16);
}

ddpm_status safetensors_check_finite(const safetensors *st, const safetensors_tensor *t, err *e)
{
    const size_t size = safetensors_dtype_size(t->dtype), n = t->bytes / size;
    const char *from = t->data;
    if (!safetensors_is_float(t->dtype)) return DDPM_OK;
    for (size_t i = 0; i < n; i++) {
        const float value = value_at(t->dtype, from + i * size);
        if (!isfinite(value))
            return err_set(e, DDPM_EDATA,
                           "%s: %.80s: value %zu of %zu is %g: the file is damaged, or the training diverged",
                           st->where, t->name, i, n, (double)value);
    }
    return DDPM_OK;
}

ddpm_status safetensors_to_f32(const safetensors_tensor *t, float *to, err *e)
{
    const char *from = t->data;
    const size_t size = safetensors_dtype_size(t->dtype), n = t->bytes / size;
    if (!safetensors_is_float(t->dtype))
        return err_set(e, DDPM_EDATA, "%.80s: dtype %s is not a floating-point one", t->name,
                       safetensors_dtype_name(t->dtype));
    if (t->dtype == SAFETENSORS_F32) {
        memcpy(to, from, t->bytes);
        return DDPM_OK;
    }
    for (size_t i = 0; i < n; i++) to[i] = value_at(t->dtype, from + i * size);
    return DDPM_OK;
}
