/* Any bytes as an IDX file, plain or gzipped: parsed, or refused in one line. */
#include "data/dataset_idx.h"

#include "base/mem.h"
#include "fuzz/fuzz_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void parse(const uint8_t *bytes, size_t size)
{
    for (int images = 0; images < 2; images++) {
        idx_file f;
        err e = {0};
        const ddpm_status st = idx_parse(bytes, size, images, "fuzz", &f, &e);
        FUZZ_CHECK(fuzz_message_is_fine(st, &e));
        if (st == DDPM_OK) {
            const size_t each = images ? (size_t)f.h * (size_t)f.w : 1;
            FUZZ_CHECK(f.data + (size_t)f.n * each == bytes + size);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t *unpacked;
    size_t unpacked_size;
    err e = {0};
    parse(bytes, size);
    const ddpm_status st = idx_unpack(bytes, size, "fuzz", &unpacked, &unpacked_size, &e);
    FUZZ_CHECK(fuzz_message_is_fine(st, &e));
    if (st == DDPM_OK) parse(unpacked, unpacked_size);
    mem_free(unpacked);
    return 0;
}
