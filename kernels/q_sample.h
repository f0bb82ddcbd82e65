/* q_sample.h - the forward process in closed form, drawing the noise as it goes.
 *
 *   x_t = signal x_0 + noise eps,   eps ~ N(0, I),   signal and noise from the image's row (draw.h)
 *   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), eq. 4 and algorithm 1, lines 2 to 4
 *
 * x_0 is the image, its bytes u mapped to u / 127.5 - 1; with `flip`, it is mirrored left to right with probability
 * 1/2.  With noise_offset = a, eps is eps + a z, one z ~ N(0, 1) for each channel of an image, also in the target (Guttenberg
 * 2023, "Diffusion with offset noise").  With input_perturbation = g, the noise of x_t alone is eps + g xi, xi ~ N(0, I) (Ning
 * et al. 2023, arXiv:2301.11706, algorithm 1).  All draws depend on the sample's ordinal number in the run (noise.h): eps is never stored, loss.h draws it
 * again. */
#ifndef DDPM_Q_SAMPLE_H
#define DDPM_Q_SAMPLE_H
#include "noise.h"
#include "storage.h"
#include "train_state.h"

typedef struct q_sample_args {
    const uint8_t *images;    /* [n, h, w, c]; with `index`, a whole data set [.., h, w, c] */
    const float *rows;        /* [n, TABLE_COLUMNS] */
    const train_state *state; /* image b is sample number state->sample + b */
    void *xt;                 /* [n, h, w, c]  of xt_type */
    int n, h, w, c;           /* all >= 1; h * w * c < 2^31 */
    int flip;                 /* mirror images at random */
    storage xt_type;
    const int64_t *index;                   /* [n]  position of image b in `images`; NULL: b */
    float noise_offset, input_perturbation; /* >= 0; noise_offset > 0 needs c <= 4 */
    uint32_t stream;                        /* of eps: a noise_stream; 0 is that of training */
} q_sample_args;

/* One image and its draws, used by q_sample and loss. */
typedef struct drawn_image {
    const uint8_t *pixels; /* [h, w, c] */
    const float *row;      /* [TABLE_COLUMNS] */
    uint64_t seed;
    uint32_t ordinal[2];   /* low and high half */
    uint32_t stream;       /* of eps */
    int d, w, c;           /* d = h * w * c */
    int mirrored, shifted; /* shifted: the offset is not 0 */
    float offset[4];       /* of each channel's noise */
} drawn_image;

/* Draws whether image b is mirrored. */
HD int draw_flip(const train_state *state, int b)
{
    const uint64_t ordinal = state->sample + (uint64_t)b;
    const philox4 r = noise_bits(state->seed, NOISE_FLIP, (uint32_t)ordinal, (uint32_t)(ordinal >> 32), 0);
    return (int)(r.v[0] >> 31);
}

HD drawn_image q_sample_image(const q_sample_args *a, int b)
{
    const uint64_t ordinal = a->state->sample + (uint64_t)b;
    drawn_image m;
    m.d = a->h * a->w * a->c;
    m.pixels = a->images + (a->index ? a->index[b] : b) * m.d;
    m.row = a->rows + (int64_t)b * TABLE_COLUMNS;
    m.seed = a->state->seed;
    m.stream = a->stream;
    m.ordinal[0] = (uint32_t)ordinal;
    m.ordinal[1] = (uint32_t)(ordinal >> 32);
    m.w = a->w;
    m.c = a->c;
    m.mirrored = a->flip && draw_flip(a->state, b);
    m.shifted = a->noise_offset > 0.0f;
    for (int k = 0; k < 4; k++) m.offset[k] = 0.0f;
    if (m.shifted) {
        const normal4 z = noise_normal4(m.seed, NOISE_OFFSET, m.ordinal[0], m.ordinal[1], 0);
        for (int k = 0; k < 4; k++) m.offset[k] = a->noise_offset * z.v[k];
    }
    return m;
}

/* Loads quad q of x_0. */
HD void clean_quad(const drawn_image *m, int q, float *x0)
{
    const int count = quad_count(m->d, q);
    uint8_t u[4];
    if (m->mirrored) {
        for (int k = 0; k < 4; k++) {
            const int i = 4 * q + k, column = i / m->c % m->w;
            u[k] = k < count ? m->pixels[i + (m->w - 1 - 2 * column) * m->c] : (uint8_t)0;
        }
    } else {
        quad_load_bytes(u, m->pixels + 4 * (int64_t)q, count);
    }
    for (int k = 0; k < 4; k++) x0[k] = (float)u[k] / 127.5f - 1.0f;
}

/* The offset of a channel: chosen, not indexed, so that the offsets stay in registers. */
HD float channel_offset(const drawn_image *m, int channel)
{
    const float low = channel == 0 ? m->offset[0] : m->offset[1], high = channel == 2 ? m->offset[2] : m->offset[3];
    return channel < 2 ? low : high;
}

/* Shifts quad q of the noise by the offset of each element's channel. */
HD void shift_quad(const drawn_image *m, int q, float *eps)
{
    if (m->shifted)
        for (int k = 0; k < 4; k++) eps[k] += channel_offset(m, (4 * q + k) % m->c);
}

HD normal4 eps_quad(const drawn_image *m, int q)
{
    normal4 eps = noise_normal4(m->seed, m->stream, m->ordinal[0], m->ordinal[1], (uint32_t)q);
    shift_quad(m, q, eps.v);
    return eps;
}

/* The same for quads first .. first + quads - 1, on a CPU: quads * 4 values. */
static inline void eps_block(const drawn_image *m, int first, int quads, float *eps)
{
    noise_normals(m->seed, m->stream, m->ordinal, (uint32_t)first, quads, eps);
    for (int q = 0; q < quads && m->shifted; q++) shift_quad(m, first + q, eps + 4 * q);
}

/* Writes quad q of xt of image b, given its four draws.  `type` is xt_type, a parameter so that compilers can
 * specialize on a constant. */
HD void q_sample_quad(const q_sample_args *a, const drawn_image *m, int b, int q, const float *eps, storage type)
{
    const float signal = m->row[TABLE_SIGNAL], noise = m->row[TABLE_NOISE];
    float x0[4], xt[4];
    clean_quad(m, q, x0);
    if (a->input_perturbation > 0.0f) {
        const normal4 xi = noise_normal4(m->seed, NOISE_PERTURB, m->ordinal[0], m->ordinal[1], (uint32_t)q);
        for (int k = 0; k < 4; k++) xt[k] = signal * x0[k] + noise * (eps[k] + a->input_perturbation * xi.v[k]);
    } else {
        for (int k = 0; k < 4; k++) xt[k] = signal * x0[k] + noise * eps[k];
    }
    quad_store_as(a->xt, type, (int64_t)b * m->d + 4 * (int64_t)q, xt, quad_count(m->d, q));
}

/* Image b on a CPU, where xt is float, with noise drawn in vectorized loops. */
static inline void q_sample_one(const q_sample_args *a, int b)
{
    enum { BLOCK = 64 };
    float eps[4 * BLOCK];
    const drawn_image m = q_sample_image(a, b);
    const int quads = (int)quads_of(m.d);
    for (int first = 0; first < quads; first += BLOCK) {
        const int block = quads - first < BLOCK ? quads - first : BLOCK;
        eps_block(&m, first, block, eps);
        for (int q = 0; q < block; q++) q_sample_quad(a, &m, b, first + q, eps + 4 * q, STORE_F32);
    }
}

C_API ddpm_status k_q_sample(void *stream, const q_sample_args *a); /* asynchronous */

#endif
