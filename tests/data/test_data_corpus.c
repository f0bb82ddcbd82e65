/* The fuzz targets of src/data, and of what src/io has of labels, on their seeds, in every build: a file that once broke a parser is kept there. */
#define LLVMFuzzerTestOneInput fuzz_idx
#include "fuzz/fuzz_idx.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_cifar
#include "fuzz/fuzz_cifar.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_image
#include "fuzz/fuzz_image.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_labels
#include "fuzz/fuzz_labels.c"

#include "data_files.h"
#include <glob.h>

/* Each file whole, and in `cuts` places cut short; memory is exact, so that a sanitizer sees every step too far. */
static void replay(const char *pattern, size_t least, size_t cuts, int (*target)(const uint8_t *, size_t))
{
    glob_t g;
    cr_assert_eq(glob(pattern, 0, NULL, &g), 0, "%s", pattern);
    cr_assert_geq(g.gl_pathc, least);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        char *bytes;
        size_t size;
        cr_assert_eq(file_read(g.gl_pathv[i], 1 << 20, &bytes, &size, NULL), DDPM_OK);
        for (size_t k = 0; k <= cuts; k++) {
            const size_t n = size - size * k / (cuts + 1);
            uint8_t *exact = malloc(n ? n : 1);
            memcpy(exact, bytes, n);
            cr_assert_eq(target(exact, n), 0);
            free(exact);
        }
        mem_free(bytes);
    }
    globfree(&g);
}

Test(data_corpus, idx) { replay(DDPM_TESTS "/fuzz/corpus/idx/*", 9, 50, fuzz_idx); }
Test(data_corpus, cifar) { replay(DDPM_TESTS "/fuzz/corpus/cifar/*", 4, 50, fuzz_cifar); }
Test(data_corpus, labels)
{
    replay(DDPM_TESTS "/fuzz/corpus/labels/*", 9, 50, fuzz_labels);
    cr_assert_eq(dir_remove(own(""), NULL), DDPM_OK);
}
Test(data_corpus, image) { replay(DDPM_TESTS "/data/fixtures/*.[pj][np]g", 70, 20, fuzz_image); }
