/* stored.h - activations of either type in buffers of exact size, on any alignment, for the kernel tests. */
#ifndef DDPM_TEST_STORED_H
#define DDPM_TEST_STORED_H
#include "kernels/emulated.h"
#include "storage.h"

static const storage storages[] = {STORE_F32, STORE_BF16};

/* v to the nearest of the numbers with 8 bits, ties to even: bf16 by its definition. */
inline float nearest_bf16(double v)
{
    if (v == 0 || !std::isfinite(v)) return (float)v;
    const double unit = std::ldexp(1.0, std::max(std::ilogb(v), -126) - 7);
    return (float)(std::nearbyint(v / unit) * unit);
}

/* What is left of v in memory. */
inline float kept(float v, storage type) { return type == STORE_BF16 ? nearest_bf16(v) : v; }

/* Half a unit in the last place of v in memory, and what float arithmetic may lose on the way. */
inline double slack(double v, storage type, double arithmetic)
{
    return arithmetic + (type == STORE_BF16 ? std::fabs(v) / 256 : 0);
}

struct stored {
    enum { CANARY = 0x5A };
    storage type;
    size_t n, before;
    std::vector<unsigned char> bytes;

    /* `skip` elements off the 16-byte grid */
    stored(const std::vector<float> &v, storage type_, size_t skip = 0)
        : type(type_), n(v.size()), before(skip * size()), bytes(before + n * size(), CANARY)
    {
        for (size_t i = 0; i < n; i++) {
            const float f = kept(v[i], type);
            uint32_t word;
            memcpy(&word, &f, sizeof word);
            const uint16_t high = (uint16_t)(word >> 16);
            if (type == STORE_BF16)
                memcpy(at(i), &high, sizeof high);
            else
                memcpy(at(i), &word, sizeof word);
        }
    }
    stored(size_t n_, storage type_, size_t skip = 0) : stored(std::vector<float>(n_, not_a_number), type_, skip) {}

    size_t size() const { return type == STORE_BF16 ? 2 : 4; }
    unsigned char *at(size_t i) { return bytes.data() + before + i * size(); }
    const unsigned char *at(size_t i) const { return bytes.data() + before + i * size(); }
    void *data() { return at(0); }
    float operator[](size_t i) const
    {
        uint32_t word = 0;
        if (type == STORE_BF16) {
            uint16_t high;
            memcpy(&high, at(i), sizeof high);
            word = (uint32_t)high << 16;
        } else
            memcpy(&word, at(i), sizeof word);
        float f;
        memcpy(&f, &word, sizeof f);
        return f;
    }
    std::vector<float> floats() const
    {
        std::vector<float> v(n);
        for (size_t i = 0; i < n; i++) v[i] = (*this)[i];
        return v;
    }
    void assert_untouched_before() const
    {
        for (size_t i = 0; i < before; i++) cr_assert_eq(bytes[i], CANARY, "byte %zu before the array was written", i);
    }
};

#endif
