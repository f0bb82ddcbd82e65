/* emulated.h - what the kernel tests share: every order of the threads, buffers of exact size, bit equality. */
#ifndef DDPM_TEST_EMULATED_H
#define DDPM_TEST_EMULATED_H
#include "cuda_port.h"
#include <cmath>
#include <criterion/criterion.h>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

static const float not_a_number = std::numeric_limits<float>::quiet_NaN();

/* Call test() under the three thread orders of the emulator. */
template <class F> void in_every_order(F test)
{
    for (emu::order o : {emu::order::forward, emu::order::reverse, emu::order::shuffled}) {
        emu::set_order(o, 7);
        test();
    }
}

#define assert_clean(status) cr_assert_eq(status, DDPM_OK, "%s", emu::last_error())

template <class T> void assert_same_bits(const std::vector<T> &a, const std::vector<T> &b)
{
    cr_assert_eq(a.size(), b.size());
    for (size_t i = 0; i < a.size(); i++)
        cr_assert(memcmp(&a[i], &b[i], sizeof(T)) == 0, "element %zu: %.9g and %.9g", i, (double)a[i], (double)b[i]);
}

/* Not random, not regular: the fractional parts of multiples of the golden ratio, in [-scale, scale). */
inline float wobble(size_t i, float scale)
{
    return scale * (2.0f * (float)std::fmod(i * 0.6180339887498949, 1.0) - 1.0f);
}

inline std::vector<float> wobbles(size_t n, float scale)
{
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++) v[i] = wobble(i, scale);
    return v;
}

#endif
