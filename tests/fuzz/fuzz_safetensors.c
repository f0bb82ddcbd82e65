/* fuzz_safetensors.c - any bytes as a safetensors file.
 *
 *   tools/fuzz 60 safetensors
 *
 * The seeds are tests/io/bad and tests/io/fixtures/mix.safetensors.  Every byte of an accepted file's
 * data must be within the input, belong to one tensor, and be found again under the tensor's name. */
#include "fuzz/fuzz_check.h"
#include "io/safetensors.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* Mostly, the header's length is put right, so that it is the header that is tried. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    uint64_t end = size;
    while (end > 8 && data[end - 1] != '}') end--;
    if (end <= 8 || seed % 8 == 0) return size;
    end -= 8;
    memcpy(data, &end, sizeof end);
    return size;
}

static void check_tensor(const safetensors *st, const safetensors_tensor *t, const uint8_t *data, size_t size)
{
    const uint8_t *at = t->data;
    size_t values = 1;
    FUZZ_CHECK(at >= data + 8 && t->bytes <= size && at <= data + size - t->bytes);
    FUZZ_CHECK(t->rank >= 0 && t->rank <= SAFETENSORS_MAX_RANK);
    for (int i = 0; i < t->rank; i++) {
        FUZZ_CHECK(t->shape[i] >= 0);
        values *= (size_t)t->shape[i];
    }
    FUZZ_CHECK(values * safetensors_dtype_size(t->dtype) == t->bytes);
    FUZZ_CHECK(safetensors_find(st, t->name) == t);
    err e = {0};
    float *to = malloc(values * sizeof *to + 1);
    FUZZ_CHECK(to && (safetensors_to_f32(t, to, &e) == DDPM_OK) == safetensors_is_float(t->dtype));
    free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    safetensors *st;
    err e = {0};
    const ddpm_status status = safetensors_open_memory(data, size, "fuzz", &st, &e);
    FUZZ_CHECK(fuzz_message_is_fine(status, &e) && (st != NULL) == (status == DDPM_OK));
    if (!st) return 0;
    size_t covered = 0;
    for (int i = 0; i < safetensors_count(st); i++) {
        check_tensor(st, safetensors_entry(st, i), data, size);
        covered += safetensors_entry(st, i)->bytes;
    }
    uint64_t header;
    memcpy(&header, data, sizeof header);
    FUZZ_CHECK(covered == size - 8 - header);
    safetensors_close(st);
    return 0;
}
