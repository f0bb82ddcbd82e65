#include "kernels/stored.h"
#include "upsample.h"

struct images {
    int n, h, w, c;
    size_t small() const { return (size_t)n * h * w * c; }
};
/* One pixel, odd sides, channels off the grid of four, a row of several blocks. */
static const images shapes[] = {{1, 1, 1, 1}, {2, 3, 5, 3}, {1, 2, 3, 4}, {2, 4, 4, 30}, {3, 2, 1, 33}, {1, 2, 37, 32}};

/* The element of the small image that element i of the large one shows. */
static size_t source_of(const images &s, size_t i)
{
    const size_t c = i % s.c, column = i / s.c % (2 * s.w), row = i / s.c / (2 * s.w) % (2 * s.h);
    const size_t image = i / s.c / (2 * s.w) / (2 * s.h);
    return ((image * s.h + row / 2) * s.w + column / 2) * s.c + c;
}

/* test(s, type, skip, accumulate) for images of every shape and type, on and off the 16-byte grid, in every order. */
template <class F> static void for_images(F test)
{
    in_every_order([&] {
        for (const images &s : shapes)
            for (storage type : storages)
                for (size_t skip : {0, 1})
                    for (bool accumulate : {false, true}) test(s, type, skip, accumulate);
    });
}

Test(upsample, repeats_every_pixel_four_times_in_every_thread_order)
{
    for_images([](const images &s, storage type, size_t skip, bool accumulate) {
        stored x(wobbles(s.small(), 3.0f), type, skip);
        stored y(std::vector<float>(4 * s.small(), accumulate ? 0.5f : not_a_number), type, skip);
        const upsample_args a = {x.data(), y.data(), type, s.n, s.h, s.w, s.c, accumulate};
        assert_clean(k_upsample(nullptr, &a));
        for (size_t i = 0; i < y.n; i++)
            cr_assert_eq(y[i], kept(x[source_of(s, i)] + (accumulate ? 0.5f : 0.0f), type));
        y.assert_untouched_before();
    });
}

Test(upsample, the_gradient_is_the_sum_of_the_four_in_every_thread_order)
{
    for_images([](const images &s, storage type, size_t skip, bool accumulate) {
        stored dy(wobbles(4 * s.small(), 3.0f), type, skip);
        stored dx(std::vector<float>(s.small(), accumulate ? 0.5f : not_a_number), type, skip);
        const upsample_args a = {dy.data(), dx.data(), type, s.n, s.h, s.w, s.c, accumulate};
        assert_clean(k_upsample_bwd(nullptr, &a));
        std::vector<double> want(s.small(), accumulate ? 0.5 : 0.0);
        for (size_t i = 0; i < dy.n; i++) want[source_of(s, i)] += dy[i];
        for (size_t i = 0; i < dx.n; i++)
            cr_assert_float_eq(dx[i], want[i], slack(want[i], type, 2e-6), "element %zu", i);
        dx.assert_untouched_before();
    });
}
