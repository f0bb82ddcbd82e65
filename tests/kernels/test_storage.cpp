#include "kernels/stored.h"

Test(storage, bf16_and_float_hold_the_same_elements)
{
    const std::vector<float> v = wobbles(9, 3.0f);
    for (storage type : storages)
        for (size_t skip : {0, 1, 2, 3}) {
            stored from(v, type, skip), to(9, type, skip);
            for (int64_t i = 0; i < 9; i++) {
                cr_assert_eq(load_at(from.data(), type, i), kept(v[i], type));
                store_at(to.data(), type, i, v[i]);
            }
            for (size_t i = 0; i < 9; i++) cr_assert_eq(to[i], kept(v[i], type));
            to.assert_untouched_before();
        }
}

/* Every count, on and off the grid of the wide accesses; the buffers end with the quad. */
Test(storage, quads_move_their_elements_and_no_others)
{
    const std::vector<float> v = wobbles(12, 3.0f);
    for (storage type : storages)
        for (size_t skip : {0, 1, 2, 3})
            for (int64_t at : {0, 1, 4, 8})
                for (int count : {0, 1, 2, 3, 4}) {
                    const std::vector<float> some(v.begin(), v.begin() + at + count);
                    stored from(some, type, skip), to(some.size(), type, skip);
                    float quad[4];
                    quad_load_as(quad, from.data(), type, at, count);
                    for (int k = 0; k < 4; k++) cr_assert_eq(quad[k], k < count ? kept(v[at + k], type) : 0.0f);
                    for (int k = 0; k < 4; k++) quad[k] = v[k];
                    quad_store_as(to.data(), type, at, quad, count);
                    for (int64_t i = 0; i < at; i++) cr_assert(std::isnan(to[i]), "element %d", (int)i);
                    for (int k = 0; k < count; k++) cr_assert_eq(to[at + k], kept(v[k], type));
                    to.assert_untouched_before();
                }
}

Test(storage, quads_of_bytes_too)
{
    const std::vector<uint8_t> v = {9, 8, 7, 6, 5, 4, 3, 2};
    for (int at : {0, 1, 4})
        for (int count : {1, 2, 3, 4}) {
            const std::vector<uint8_t> from(v.begin(), v.begin() + at + count);
            std::vector<uint8_t> to(at + count, 77);
            uint8_t quad[4];
            quad_load_bytes(quad, from.data() + at, count);
            for (int k = 0; k < 4; k++) cr_assert_eq(quad[k], k < count ? v[at + k] : 0);
            quad_store_bytes(to.data() + at, quad, count);
            for (int i = 0; i < at; i++) cr_assert_eq(to[i], 77);
            for (int k = 0; k < count; k++) cr_assert_eq(to[at + k], v[at + k]);
        }
}
