/* class_embed.h - the class embedding, added to the time embedding before its last SiLU.
 *
 *   y = silu(x + E[label]),   silu(z) = z / (1 + e^-z);   label -1: y = silu(x)
 *   UNet2DModel of diffusers with num_class_embeds; Dhariwal & Nichol 2021 (arXiv:2105.05233), section 3.1 */
#ifndef DDPM_CLASS_EMBED_H
#define DDPM_CLASS_EMBED_H
#include "pointwise.h"

typedef struct class_embed_args {
    const void *x;         /* [n, width]  of `type` */
    const float *table;    /* [classes, width] */
    const int64_t *labels; /* [n]  in [0, classes), or -1 */
    void *y;               /* [n, width]  of `type` */
    int n, width;
    storage type;
} class_embed_args;

HD void class_embed_quad(const class_embed_args *a, int b, int q, storage type)
{
    const int count = quad_count(a->width, q);
    const int64_t at = (int64_t)b * a->width + 4 * (int64_t)q, label = a->labels[b];
    float x[4], e[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    quad_load_as(x, a->x, type, at, count);
    if (label >= 0) quad_load(e, a->table + label * a->width + 4 * (int64_t)q, count);
    for (int k = 0; k < 4; k++) x[k] = silu(x[k] + e[k]);
    quad_store_as(a->y, type, at, x, count);
}

C_API ddpm_status k_class_embed(void *stream, const class_embed_args *a); /* asynchronous */

#endif
