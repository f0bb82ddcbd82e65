/* training_batch.h - a small batch for the kernels of the training step, with everything drawn for it
 * worked out anew in double from the draws of noise.h. */
#ifndef DDPM_TEST_TRAINING_BATCH_H
#define DDPM_TEST_TRAINING_BATCH_H
#include "kernels/emulated.h"
#include "noise.h"
#include "train_state.h"

struct shape {
    int n, h, w, c;
    int d() const { return h * w * c; }
    size_t size() const { return (size_t)n * d(); }
};

/* Ragged: one element, odd sides, one and three channels, tails of 1 to 3, several blocks and chunks. */
static const shape shapes[] = {{1, 1, 1, 1}, {2, 3, 5, 3}, {3, 5, 7, 1}, {2, 4, 4, 3}, {2, 1, 6, 1}, {2, 37, 41, 3}};

struct training_batch {
    enum { T = 10 };
    shape s;
    train_state state = {};
    std::vector<uint8_t> images;
    std::vector<float> table;
    std::vector<float> rows; /* [n, TABLE_COLUMNS] of the table */
    bool flip;

    training_batch(shape s_, bool flip_) : s(s_), images(s_.size()), table(T * TABLE_COLUMNS), flip(flip_)
    {
        state.seed = 0xDEADBEEF12345678u;
        state.sample = 0xFFFFFFFFu; /* image 1 needs the ordinal's high word */
        for (size_t i = 0; i < images.size(); i++) images[i] = (uint8_t)(37 * i + 11);
        images[0] = 255;
        for (size_t i = 0; i < table.size(); i++) table[i] = 0.1f + 0.017f * (float)i;
        for (int b = 0; b < s.n; b++)
            rows.insert(rows.end(), table.begin() + t(b) * TABLE_COLUMNS, table.begin() + (t(b) + 1) * TABLE_COLUMNS);
    }

    /* The batch that consists of these images of a data set. */
    training_batch picked(const std::vector<int64_t> &index) const
    {
        training_batch batch({(int)index.size(), s.h, s.w, s.c}, flip);
        for (size_t b = 0; b < index.size(); b++)
            std::copy_n(images.begin() + index[b] * s.d(), s.d(), batch.images.begin() + b * s.d());
        return batch;
    }

    philox4 bits(uint32_t stream, int b, uint32_t quad) const
    {
        const uint64_t ordinal = state.sample + (uint64_t)b;
        return noise_bits(state.seed, stream, (uint32_t)ordinal, (uint32_t)(ordinal >> 32), quad);
    }
    int t(int b) const { return (int)((uint64_t)bits(NOISE_TRAIN_T, b, 0).v[0] * T / 4294967296u); }
    bool mirrored(int b) const { return flip && bits(NOISE_FLIP, b, 0).v[0] >= 0x80000000u; }
    double column(int b, int which) const { return table[t(b) * TABLE_COLUMNS + which]; }

    double x0(int b, int i) const
    {
        const int channel = i % s.c, x = i / s.c % s.w, y = i / s.c / s.w;
        const int from = (y * s.w + (mirrored(b) ? s.w - 1 - x : x)) * s.c + channel;
        return images[(size_t)b * s.d() + from] / 127.5 - 1.0;
    }
    double normal(uint32_t stream, int b, int i) const
    {
        const uint64_t ordinal = state.sample + (uint64_t)b;
        return noise_normal4(state.seed, stream, (uint32_t)ordinal, (uint32_t)(ordinal >> 32), i / 4).v[i % 4];
    }
    double offset(int b, int channel) const { return normal(NOISE_OFFSET, b, channel); }
    double eps(int b, int i) const { return normal(NOISE_TRAIN_EPS, b, i); }
};

#endif
