#include "math/philox.h"
#include <criterion/criterion.h>
#if defined(__has_include)
#if __has_include(<Random123/philox.h>)
#include <Random123/philox.h>
#define HAVE_RANDOM123
#endif
#endif

/* Random123's own known answers, tests/kat_vectors: counter, key, result. */
static const struct {
    uint32_t counter[4], key[2], answer[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static philox4 words(const uint32_t *counter, const uint32_t *key)
{
    const philox4 c = {{counter[0], counter[1], counter[2], counter[3]}};
    return philox(c, (uint64_t)key[1] << 32 | key[0]);
}

Test(philox, known_answers)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        cr_assert_arr_eq(words(known[i].counter, known[i].key).v, known[i].answer, 16, "vector %zu", i);
}

Test(philox, agrees_with_random123)
{
#ifdef HAVE_RANDOM123
    uint32_t chain[6] = {1, 2, 3, 4, 5, 6};
    for (int i = 0; i < 10000; i++) {
        const philox4x32_ctr_t counter = {{chain[0], chain[1], chain[2], chain[3]}};
        const philox4x32_key_t key = {{chain[4], chain[5]}};
        const philox4x32_ctr_t expected = philox4x32(counter, key);
        const philox4 got = words(chain, chain + 4);
        cr_assert_arr_eq(got.v, expected.v, 16, "step %d", i);
        for (int k = 0; k < 4; k++) chain[(k + i) % 6] = got.v[k];
    }
#else
    cr_skip_test("the Random123 headers are not installed");
#endif
}
