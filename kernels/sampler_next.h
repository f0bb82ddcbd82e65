/* sampler_next.h - advances to the next row of the sampler's table and sets the timestep for the network. */
#ifndef DDPM_SAMPLER_NEXT_H
#define DDPM_SAMPLER_NEXT_H
#include "sampler_row.h"

typedef struct sampler_next_args {
    const sampler_row *rows;
    sampler_state *state; /* row += 1: the first call sets it to 0 */
    float *t;             /* [n]  rows[row].t */
    int n;
} sampler_next_args;

static inline void sampler_next_one(const sampler_next_args *a) /* on a CPU */
{
    const sampler_row *r = a->rows + ++a->state->row;
    for (int b = 0; b < a->n; b++) a->t[b] = r->t;
}

C_API ddpm_status k_sampler_next(void *stream, const sampler_next_args *a); /* asynchronous */

#endif
