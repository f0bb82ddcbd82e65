#include "backend/cuda/tune/tune_check.h"
#include "backend/cuda/lib/cuda_rt.h"
#include "base/arith.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

/* Of each result so many pieces, evenly distributed, are compared. */
enum { PIECES = 32, PIECE = 4096, FILLS = 2, LARGE_EXPONENT = 12 };

static size_t pieces_of(const primitive *p, int i)
{
    return p->written[i] ? (size_t)min_i64(PIECES, ceil_div((int64_t)p->bytes[i], PIECE)) : 0;
}

/* Byte range of piece k. */
static size_t piece_at(const primitive *p, int i, size_t k, size_t *bytes)
{
    const size_t step = p->bytes[i] / pieces_of(p, i) / 256 * 256, at = k * step;
    *bytes = (size_t)min_i64(PIECE, (int64_t)(p->bytes[i] - at));
    return at;
}

/* Fills a result with the pattern: uploaded once, then copied. */
static ddpm_status fill(const check_spec *s, int i, const uint16_t *pattern, err *e)
{
    char *to = s->operand[i];
    const size_t total = s->p->bytes[i];
    size_t done = (size_t)min_i64((int64_t)total, (int64_t)s->pattern_bytes);
    TRY(rt_upload(to, pattern, done, s->stream, e));
    for (size_t n; done < total; done += n) {
        n = (size_t)min_i64((int64_t)done, (int64_t)(total - done));
        TRY(rt_copy(to + done, to, n, s->stream, e));
    }
    return rt_sync(s->stream, e); /* the pattern was read */
}

static ddpm_status read_pieces(const check_spec *s, char *to, err *e)
{
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++)
        for (size_t k = 0; k < pieces_of(s->p, i); k++, to += PIECE) {
            size_t bytes;
            const size_t at = piece_at(s->p, i, k, &bytes);
            TRY(rt_download(to, (char *)s->operand[i] + at, bytes, s->stream, e));
            TRY(rt_sync(s->stream, e));
        }
    return DDPM_OK;
}

static ddpm_status results_of(const check_spec *s, int algo, const uint16_t *pattern, char *to, err *e)
{
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++)
        if (s->p->written[i]) TRY(fill(s, i, pattern, e));
    TRY(s->p->fn->run(s->p, algo, s->operand, s->workspace, s->stream, e));
    return read_pieces(s, to, e);
}

static float element(dtype type, const char *from, size_t i)
{
    float value;
    uint16_t high;
    if (type != DTYPE_BF16) {
        memcpy(&value, from + i * sizeof value, sizeof value);
        return value;
    }
    memcpy(&high, from + i * sizeof high, sizeof high); /* a bf16 is the upper half of an f32 */
    const uint32_t bits = (uint32_t)high << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Of one piece; *largest grows to the largest |y|. */
static float piece_difference(dtype type, const char *x, const char *y, size_t bytes, float *largest)
{
    float difference = 0;
    for (size_t i = 0; i < bytes / dtype_size(type); i++) {
        const float a = element(type, x, i), b = element(type, y, i);
        if (!isfinite(a) && !isfinite(b)) continue; /* the operands are not those of a network */
        const float off = isfinite(a) && isfinite(b) ? fabsf(a - b) : INFINITY;
        if (off > difference) difference = off;
        if (!isfinite(b)) continue;
        if (fabsf(b) > *largest) *largest = fabsf(b);
    }
    return difference;
}

static float difference_of(const primitive *p, const char *x, const char *y)
{
    float worst = 0;
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++) {
        float largest = 0, off = 0;
        for (size_t k = 0; k < pieces_of(p, i); k++, x += PIECE, y += PIECE) {
            size_t bytes;
            (void)piece_at(p, i, k, &bytes);
            off = fmaxf(off, piece_difference(p->result[i], x, y, bytes, &largest));
        }
        if (off > 0) worst = fmaxf(worst, off / fmaxf(largest, 0x1p-100f));
    }
    return worst;
}

float tune_check_bound(const primitive *p)
{
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++)
        if (p->written[i] && p->result[i] == DTYPE_BF16) return 0x1p-6f;
    return 0x1p-8f;
}

ddpm_status tune_check(const check_spec *s, int algo, int other, float *difference, err *e)
{
    char *x = NULL, *y = NULL;
    uint16_t *large = NULL;
    size_t pieces = 0;
    ddpm_status st = DDPM_OK;
    *difference = 0;
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++) pieces += pieces_of(s->p, i);
    TRY_GOTO(mem_array(&x, pieces + 1, PIECE, "comparison", e));
    TRY_GOTO(mem_array(&y, pieces + 1, PIECE, "comparison", e));
    TRY_GOTO(mem_array(&large, s->pattern_bytes, 1, "comparison", e));
    for (size_t i = 0; i < s->pattern_bytes / sizeof *large; i++)
        large[i] = (uint16_t)(s->pattern[i] + (LARGE_EXPONENT << 7));
    for (int k = 0; k < FILLS; k++) {
        const uint16_t *pattern = k ? large : s->pattern;
        TRY_GOTO(results_of(s, algo, pattern, x, e));
        TRY_GOTO(results_of(s, other, pattern, y, e));
        *difference = fmaxf(*difference, difference_of(s->p, x, y));
    }
done:
    mem_free(x);
    mem_free(y);
    mem_free(large);
    return st;
}
