#include "kernels/emulated.h"
#include "to_u8.h"

static std::vector<uint8_t> bytes_of(const std::vector<float> &x, size_t skip = 0)
{
    std::vector<uint8_t> y(skip + x.size(), 77);
    const to_u8_args a = {x.data(), y.data() + skip, (int64_t)x.size()};
    assert_clean(k_to_u8(nullptr, &a));
    for (size_t i = 0; i < skip; i++) cr_assert_eq(y[i], 77);
    y.erase(y.begin(), y.begin() + skip);
    return y;
}

Test(to_u8, every_byte_comes_back_in_every_thread_order)
{
    in_every_order([] {
        std::vector<float> x(256);
        for (int u = 0; u < 256; u++) x[u] = (float)u / 127.5f - 1.0f;
        const std::vector<uint8_t> y = bytes_of(x);
        for (int u = 0; u < 256; u++) cr_assert_eq(y[u], u);
    });
}

Test(to_u8, clamps_and_rounds_to_the_nearest)
{
    for (size_t n : {1, 2, 3, 4, 5, 1023, 1030})
        for (size_t skip : {0, 1, 2}) {
            const std::vector<float> x = wobbles(n, 1.3f);
            const std::vector<uint8_t> y = bytes_of(x, skip);
            for (size_t i = 0; i < n; i++) {
                const double v = 255 * std::min(1.0, std::max(0.0, x[i] / 2.0 + 0.5));
                cr_assert_float_eq(y[i], v, 0.5 + 1e-4, "%g became %d", x[i], y[i]);
            }
        }
}

Test(to_u8, ends_and_what_is_no_number)
{
    const std::vector<uint8_t> y =
        bytes_of({-1.0f, 1.0f, 0.0f, -HUGE_VALF, HUGE_VALF, not_a_number, -not_a_number, -1e30f, 1e30f, -0.0f});
    const uint8_t want[] = {0, 255, 128, 0, 255, 0, 0, 0, 255, 128};
    for (size_t i = 0; i < y.size(); i++) cr_assert_eq(y[i], want[i], "element %zu is %d", i, y[i]);
}

/* The inputs that end exactly between two bytes. */
Test(to_u8, ties_go_to_the_even_byte)
{
    int ties = 0;
    for (int u = 0; u < 255; u++) {
        const float x = 2 * (((float)u + 0.5f) / 255 - 0.5f), scaled = 255 * (x / 2 + 0.5f);
        if (scaled != (float)u + 0.5f) continue;
        cr_assert_eq(bytes_of({x})[0], u + u % 2, "%g", scaled);
        ties++;
    }
    cr_assert(ties > 20);
}
