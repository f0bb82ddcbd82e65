#include "diffusion/noising.h"
#include "base/mem.h"
#include "diffusion/objective.h"
#include "noise.h"

#include <math.h>

static uint8_t to_byte(double x)
{
    const double v = x / 2 + 0.5;
    return (uint8_t)rint(255 * (v < 0 ? 0 : v > 1 ? 1 : v));
}

static void noise_image(const image *x0, double signal, double noise, uint64_t seed, uint8_t *to)
{
    const int64_t d = (int64_t)x0->h * x0->w * x0->c;
    for (int64_t i = 0; i < d; i += 4) {
        const normal4 eps = noise_normal4(seed, NOISE_SAMPLE_INIT, 0, 0, (uint32_t)(i / 4));
        for (int k = 0; k < 4 && i + k < d; k++)
            to[i + k] = to_byte(signal * (x0->pixel[i + k] / 127.5 - 1) + noise * (double)eps.v[k]);
    }
}

ddpm_status noising_strip(const image *x0, const scheduler_config *scheduler, const int *t, int n, uint64_t seed,
                          image *out, err *e)
{
    const size_t d = (size_t)x0->h * (size_t)x0->w * (size_t)x0->c;
    const int shape[3] = {x0->h, x0->w, x0->c};
    schedule *s = NULL;
    uint8_t *tiles = NULL;
    ddpm_status st = DDPM_OK;
    int columns = n;
    /* EDM's network sees images divided by sigma_data where there is no noise */
    const double scale = process_of(scheduler) == PROCESS_EDM ? scheduler->sigma_data : 1;
    TRY_GOTO(schedule_create(scheduler, &s, e));
    TRY_GOTO(mem_array(&tiles, (size_t)n * d, 1, "noising", e));
    for (int i = 0; i < n; i++) {
        if (t[i] < 0 || t[i] >= s->timesteps)
            TRY_GOTO(err_set(e, DDPM_EINVAL, "t=%d is not in [0, %d]", t[i], s->timesteps - 1));
        const training_level l = training_level_at(s, (int)((int64_t)t[i] * training_levels(s) / s->timesteps));
        noise_image(x0, l.signal * scale, l.noise * scale, seed, tiles + (size_t)i * d);
    }
    (void)image_grid_tiles(n, shape, &columns);
    TRY_GOTO(image_grid(tiles, n, shape, columns, out, e));
done:
    schedule_destroy(s);
    mem_free(tiles);
    return st;
}
