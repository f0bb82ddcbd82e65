/* Any bytes as a CIFAR-10 file: parsed to the last record, or refused in one line. */
#include "data/dataset_cifar.h"

#include "fuzz/fuzz_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    int64_t count = 0;
    image img;
    err e = {0};
    const ddpm_status st = cifar_parse(bytes, size, "fuzz", &count, &e);
    FUZZ_CHECK(fuzz_message_is_fine(st, &e));
    if (st != DDPM_OK) return 0;
    FUZZ_CHECK(count > 0 && (size_t)count * CIFAR_RECORD == size);
    FUZZ_CHECK(cifar_image(bytes + (count - 1) * CIFAR_RECORD, &img, &e) == DDPM_OK);
    FUZZ_CHECK(img.pixel[3 * CIFAR_PLANE - 1] == bytes[size - 1]);
    image_free(&img);
    return 0;
}
