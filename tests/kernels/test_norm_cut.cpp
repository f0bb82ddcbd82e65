#include "kernels/emulated.h"
#include "kernels/norm_cut.h"
#include <algorithm>

Test(norm_act_cut, holds_together_for_every_shape)
{
    for (int hw : {1, 16, 35, 64, 256, 1024, 4096, 16384, 65536})
        for (int c1 : {1, 3, 30, 32, 64, 96, 128, 200, 256, 384, 512, 1024})
            for (int c2 : {0, 32, 64, 7})
                for (int groups : {1, 2, 8, 32})
                    for (storage type : types)
                        for (bool backward : {false, true})
                            for (size_t shared :
                                 {(size_t)48 * 1024, (size_t)99 * 1024, (size_t)163 * 1024, all_there_is}) {
                                const shape s = {2, hw, c1, c2, groups};
                                if (s.c() % groups || s.c() / groups > NORM_ACT_GROUP_MAX) continue;
                                bool fits;
                                const norm_cut u = cut_of(s, type, backward, shared, &fits);
                                const int columns = u.range / u.vector;
                                cr_assert(fits && u.shared <= shared, "%d %d %d %d", hw, c1, c2, groups);
                                cr_assert(u.range % (s.c() / groups) == 0 && u.range % u.vector == 0);
                                cr_assert(u.ranges * u.range >= s.c() && (u.ranges - 1) * u.range < s.c());
                                cr_assert(u.threads >= columns && u.threads % NORM_WARP == 0);
                                cr_assert_leq(u.threads, u.vector == 1 ? 1024 : 512);
                                cr_assert((int64_t)u.chunks * u.pixels >= hw &&
                                          (int64_t)(u.chunks - 1) * u.pixels < hw);
                                cr_assert(!(u.slab && backward) || u.chunks == 1);
                            }
}

/* The shapes of the published models on an H200. */
Test(norm_act_cut, reads_once_what_can_be_read_once)
{
    bool fits;
    norm_cut u = cut_of({128, 1024, 128, 0, 32}, STORE_BF16, false, all_there_is, &fits);
    cr_assert(u.chunks == 1 && u.vector == 8 && u.range == 32 && u.shared * 2 <= all_there_is);
    u = cut_of({128, 1024, 128, 0, 32}, STORE_BF16, true, all_there_is, &fits);
    cr_assert(u.chunks == 1 && u.vector == 8 && u.range == 16 && u.slab && u.shared * 2 <= all_there_is);
    u = cut_of({128, 1024, 128, 0, 32}, STORE_F32, true, all_there_is, &fits);
    cr_assert(u.chunks == 1 && u.vector == 4 && u.slab && u.shared * 2 <= all_there_is);
    u = cut_of({128, 1024, 256, 128, 32}, STORE_BF16, false, all_there_is, &fits);
    cr_assert(u.chunks == 1 && u.vector == 8 && u.range == 48);
    u = cut_of({32, 4096, 64, 0, 32}, STORE_BF16, false, all_there_is, &fits);
    cr_assert(u.chunks == 8 && u.vector == 8 && u.range == 32);
    for (bool backward : {false, true}) {
        u = cut_of({16, 65536, 128, 0, 32}, STORE_BF16, backward, all_there_is, &fits);
        cr_assert(u.pixels == (backward ? 2048 : 1024) && u.chunks * u.pixels == 65536 && u.vector == 8 &&
                  u.range == 32);
    }
}

/* What a multiprocessor of an H200 holds: 228 KB of shared memory, of which a block takes 1 KB more than it asks for, and
 * 65536 registers; of the kernels in bf16 the forward ones take at most 80 a thread, the backward ones 128. */
static int blocks_resident(const norm_cut &u, bool backward)
{
    const int registers = (backward ? 128 : 80) * u.threads;
    return std::min((int)(228 * 1024 / (u.shared + NORM_BLOCK_RESERVE)), 65536 / registers);
}

/* The norms of configs/cifar10.yaml at 32x32, 16x16, 8x8 and 4x4, and of 64x64, 128x128 and 256x256 images. */
Test(norm_act_cut, two_blocks_share_a_multiprocessor)
{
    const shape of_models[] = {{128, 1024, 128, 0, 32}, {128, 1024, 128, 128, 32}, {128, 1024, 256, 128, 32},
                               {128, 256, 256, 0, 32},  {128, 256, 256, 256, 32},  {128, 64, 256, 256, 32},
                               {128, 16, 256, 0, 32},   {32, 4096, 64, 0, 32},     {32, 4096, 128, 64, 32},
                               {16, 16384, 256, 0, 32}, {16, 65536, 128, 0, 32},   {16, 65536, 128, 128, 32}};
    for (const shape &s : of_models)
        for (bool backward : {false, true}) {
            bool fits;
            const norm_cut u = cut_of(s, STORE_BF16, backward, all_there_is, &fits);
            const int resident = blocks_resident(u, backward);
            const double vectors = (double)u.range / u.vector * u.pixels / u.threads;
            cr_log_info(
                "%d x %d + %d, %s: %d blocks of %d channels, %d pixels, %d threads, %zu bytes: %d resident, %.1f "
                "vectors a thread",
                s.hw, s.c1, s.c2, backward ? "backward" : "forward", s.n * u.chunks * u.ranges, u.range, u.pixels,
                u.threads, u.shared, resident, vectors);
            cr_expect(fits && resident >= 2, "%d x %d + %d, %s: %d", s.hw, s.c1, s.c2,
                      backward ? "backward" : "forward", resident);
            if (backward && u.chunks > 1) cr_expect_geq(vectors, 32, "%d: %.1f vectors a thread", s.hw, vectors);
        }
}

/* Multiprocessors take the next block when one ends: the busiest of an H200's 132 has little more to do than the mean. */
Test(norm_act_cut, multiprocessors_end_together)
{
    for (const shape &s : {shape{128, 1024, 128, 0, 32}, shape{128, 1024, 256, 128, 32}, shape{128, 256, 256, 0, 32}})
        for (bool backward : {false, true}) {
            bool fits;
            const norm_cut u = cut_of(s, STORE_BF16, backward, all_there_is, &fits);
            const double mean = s.n * u.chunks * u.ranges / 132.0, tail = ceil(mean) / mean - 1;
            cr_expect_leq(tail, 0.15, "%d x %d + %d: %.2f blocks each, %.0f %% more", s.hw, s.c1, s.c2, mean,
                          100 * tail);
        }
}

Test(norm_act_cut, a_few_images_fill_the_device)
{
    for (int hw : {16, 64})
        for (int n : {1, 2, 8, 16, 128}) {
            bool fits;
            const norm_cut u = cut_of({n, hw, 256, 0, 32}, STORE_BF16, false, all_there_is, &fits);
            const int blocks = n * u.ranges;
            cr_expect(blocks >= NORM_BLOCKS || u.threads == NORM_WARP || u.groups == 1,
                      "%d images of %d pixels: %d blocks", n, hw, blocks);
        }
}

Test(norm_act_cut, a_grid_has_an_end)
{
    norm_act_args a = {};
    a.n = 1 << 20;
    norm_cut u = {};
    u.chunks = 256, u.ranges = 4;
    cr_assert_eq(norm_blocks(&a, &u), 1u << 30);
    u.ranges = 8;
    cr_assert_eq(norm_blocks(&a, &u), 0);
}
