#include "data/digit.h"

#include "data_files.h"
#include <xxhash.h>

Test(digit, is_a_function_of_seed_and_index)
{
    uint8_t a[28 * 28], b[28 * 28];
    digit_draw(1, 7, 7, 28, a);
    digit_draw(1, 7, 7, 28, b);
    cr_assert_arr_eq(a, b, sizeof a);
    digit_draw(2, 7, 7, 28, b);
    cr_assert_arr_neq(a, b, sizeof a);
    digit_draw(1, 17, 7, 28, b);
    cr_assert_arr_neq(a, b, sizeof a);
    digit_draw(1, 7 + ((uint64_t)1 << 32), 7, 28, b);
    cr_assert_arr_neq(a, b, sizeof a);
}

/* The picture may not depend on compiler, flags or machine: a change here changes everybody's data. */
Test(digit, pixels_are_the_published_ones)
{
    uint8_t pixels[1000][16 * 16];
    for (int i = 0; i < 1000; i++) digit_draw(42, (uint64_t)i, i % 10, 16, pixels[i]);
    cr_assert_eq(XXH3_64bits(pixels, sizeof pixels), UINT64_C(0xd14b64d5e381dd2a), "%016lx",
                 (unsigned long)XXH3_64bits(pixels, sizeof pixels));
}

/* White strokes on black that do not touch the rim, at any size. */
Test(digit, has_ink_and_a_clean_rim)
{
    static const int sides[] = {8, 9, 16, 28, 33, 64, 131};
    static uint8_t pixels[131 * 131];
    for (int k = 0; k < 7; k++) {
        const int side = sides[k];
        for (int i = 0; i < 500; i++) {
            int64_t ink = 0, white = 0;
            digit_draw(3, (uint64_t)i, i % 10, side, pixels);
            for (int p = 0; p < side * side; p++) {
                ink += pixels[p];
                white += pixels[p] > 200;
            }
            const double share = (double)ink / (255.0 * side * side);
            cr_assert(share > 0.02 && share < 0.4, "digit %d of side %d: %.3f ink", i, side, share);
            cr_assert(side < 16 || white > side / 4, "digit %d of side %d is pale", i, side);
            for (int p = 0; p < side; p++)
                cr_assert(!pixels[p] && !pixels[(side - 1) * side + p] && !pixels[p * side] &&
                              !pixels[p * side + side - 1],
                          "digit %d of side %d touches the rim", i, side);
        }
    }
}

/* Learnable: of 1000 new digits, the nearest of 4000 known ones (Euclidean) names the class of 95 % at least. */
Test(digit, classes_are_told_apart_by_the_nearest_neighbour)
{
    enum { KNOWN = 4000, NEW = 1000, SIDE = 16, D = SIDE * SIDE };
    static uint8_t known[KNOWN][D];
    int right = 0;
    for (int i = 0; i < KNOWN; i++) digit_draw(1, (uint64_t)i, i % 10, SIDE, known[i]);
    for (int i = 0; i < NEW; i++) {
        uint8_t x[D];
        int best = 0, best_distance = INT32_MAX;
        digit_draw(2, (uint64_t)i, i % 10, SIDE, x);
        for (int k = 0; k < KNOWN; k++) {
            int distance = 0;
            for (int p = 0; p < D; p++) distance += (x[p] - known[k][p]) * (x[p] - known[k][p]);
            if (distance < best_distance) best = k, best_distance = distance;
        }
        right += best % 10 == i % 10;
    }
    cr_assert_geq(right, 950, "%d of %d", right, NEW);
}
