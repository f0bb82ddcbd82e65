/* reduce.h - sums that depend bit for bit on the data only, not on the number of threads or blocks.
 *
 * An array is split into chunks of REDUCE_QUADS quads.  In a chunk, lane l adds the quads l, l + REDUCE_LANES,
 * l + 2 REDUCE_LANES, ...; a fixed binary tree adds the lanes; the chunks are added in order.  All sums are in double.
 * A CUDA block has one thread per lane (reduce.cuh); a CPU keeps the lanes in an array. */
#ifndef DDPM_REDUCE_H
#define DDPM_REDUCE_H
#include "quad.h"

enum {
    REDUCE_LANES = 256,
    REDUCE_TURNS = 4, /* quads per lane and chunk */
    REDUCE_QUADS = REDUCE_LANES * REDUCE_TURNS
};

/* Number of chunks of an array of `elements` elements. */
HD int64_t reduce_chunks(int64_t elements) { return (quads_of(elements) + REDUCE_QUADS - 1) / REDUCE_QUADS; }

/* Sums the lanes by the tree, overwriting them. */
static inline double reduce_lanes(double *lane)
{
    for (int half = REDUCE_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

/* The sum of v[0 .. count): lane l takes v[l], v[l + REDUCE_LANES], ... */
static inline double reduce_array(const double *v, int64_t count)
{
    double lane[REDUCE_LANES] = {0.0};
    for (int64_t i = 0; i < count; i++) lane[i % REDUCE_LANES] += v[i];
    return reduce_lanes(lane);
}

#endif
