/* cpu_winograd_tile.h - the transforms of F(4x4, 3x3), for LANES channels at once.
 *
 * At points p = 0, a, -a, b, -b and infinity, with N_p the product of (p - q) over the other finite points q:
 *   row p of A is 1, p, p^2, p^3;  of G (1, p, p^2) / N_p;  of B^T the coefficients of the product of (x - q), q != p.
 * The row of infinity has only the coefficient of the highest power.  The points +-p share their even and odd parts. */
#ifndef DDPM_CPU_WINOGRAD_TILE_H
#define DDPM_CPU_WINOGRAD_TILE_H
#include "backend/cpu/lib/cpu_lanes.h"
#include <stdint.h>

enum { TILE = 4, SIDE = 3, POINTS = TILE + SIDE - 1 };

#define A1 0.625f
#define B1 1.5f
#define A2 (A1 * A1)
#define B2 (B1 * B1)
/* 1 / N_p of 0, +-a, +-b */
#define OVER_N0 (1 / (A2 * B2))
#define OVER_NA (1 / (2 * A2 * (A2 - B2)))
#define OVER_NB (1 / (2 * B2 * (B2 - A2)))

/* B^T d */
static ALWAYS_INLINE void points_of_input(const lanes d[POINTS], lanes v[POINTS])
{
    const lanes even_a = d[4] - B2 * d[2], odd_a = A1 * d[3] - A1 * B2 * d[1];
    const lanes even_b = d[4] - A2 * d[2], odd_b = B1 * d[3] - B1 * A2 * d[1];
    v[0] = A2 * B2 * d[0] - (A2 + B2) * d[2] + d[4];
    v[1] = even_a + odd_a, v[2] = even_a - odd_a;
    v[3] = even_b + odd_b, v[4] = even_b - odd_b;
    v[5] = A2 * B2 * d[1] - (A2 + B2) * d[3] + d[5];
}

/* G g */
static ALWAYS_INLINE void points_of_filter(const lanes g[SIDE], lanes u[POINTS])
{
    const lanes even_a = OVER_NA * g[0] + OVER_NA * A2 * g[2], odd_a = OVER_NA * A1 * g[1];
    const lanes even_b = OVER_NB * g[0] + OVER_NB * B2 * g[2], odd_b = OVER_NB * B1 * g[1];
    u[0] = OVER_N0 * g[0];
    u[1] = even_a + odd_a, u[2] = even_a - odd_a;
    u[3] = even_b + odd_b, u[4] = even_b - odd_b;
    u[5] = g[2];
}

/* A y */
static ALWAYS_INLINE void points_of_output(const lanes y[TILE], lanes w[POINTS])
{
    const lanes even_a = y[0] + A2 * y[2], odd_a = A1 * y[1] + A1 * A2 * y[3];
    const lanes even_b = y[0] + B2 * y[2], odd_b = B1 * y[1] + B1 * B2 * y[3];
    w[0] = y[0];
    w[1] = even_a + odd_a, w[2] = even_a - odd_a;
    w[3] = even_b + odd_b, w[4] = even_b - odd_b;
    w[5] = y[3];
}

/* A^T m */
static ALWAYS_INLINE void output_of_points(const lanes m[POINTS], lanes y[TILE])
{
    const lanes even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    y[1] = A1 * odd_a + B1 * odd_b;
    y[2] = A2 * even_a + B2 * even_b;
    y[3] = A1 * A2 * odd_a + B1 * B2 * odd_b + m[5];
}

/* G^T u */
static ALWAYS_INLINE void filter_of_points(const lanes u[POINTS], lanes g[SIDE])
{
    const lanes even_a = OVER_NA * (u[1] + u[2]), odd_a = OVER_NA * A1 * (u[1] - u[2]);
    const lanes even_b = OVER_NB * (u[3] + u[4]), odd_b = OVER_NB * B1 * (u[3] - u[4]);
    g[0] = OVER_N0 * u[0] + even_a + even_b;
    g[1] = odd_a + odd_b;
    g[2] = A2 * even_a + B2 * even_b + u[5];
}

/* Applies `transform`, which maps `from` values to `to`, to the columns of x [from][from] and then to the rows:
 * y [to][to]. */
#define BOTH_WAYS(transform, from, to, x, y)                                                                           \
    do {                                                                                                               \
        lanes half_[to][from];                                                                                         \
        EACH (j_, from) {                                                                                              \
            lanes in_[from], out_[to];                                                                                 \
            EACH (i_, from) in_[i_] = (x)[i_][j_];                                                                     \
            transform(in_, out_);                                                                                      \
            EACH (i_, to) half_[i_][j_] = out_[i_];                                                                    \
        }                                                                                                              \
        EACH (i_, to) transform(half_[i_], (y)[i_]);                                                                   \
    } while (0)

/* Stores the values of a tile at all points, `apart` floats from one point to the next. */
static ALWAYS_INLINE void store_points(float *to, int64_t apart, lanes v[POINTS][POINTS])
{
    EACH (i, POINTS)
        EACH (j, POINTS) lanes_store(to + (i * POINTS + j) * apart, v[i][j]);
}
static ALWAYS_INLINE void load_points(const float *from, int64_t apart, lanes v[POINTS][POINTS])
{
    EACH (i, POINTS)
        EACH (j, POINTS) v[i][j] = lanes_load(from + (i * POINTS + j) * apart);
}

#endif
