/* class_embed.h - the class embedding, added to the time embedding before its last SiLU, and its gradients.
 *
 *   y = silu(x + E[row]),   silu(z) = z / (1 + e^-z);   row = label, or the image's own row without labels;
 *                                                       label -1: y = silu(x)
 *   dx = dy silu'(x + E[row]),   dE[row] += dx
 *   UNet2DModel of diffusers with num_class_embeds; Dhariwal & Nichol 2021 (arXiv:2105.05233), section 3.1 */
#ifndef DDPM_CLASS_EMBED_H
#define DDPM_CLASS_EMBED_H
#include "pointwise.h"

typedef struct class_embed_args {
    const void *x;         /* [n, width]  of `type` */
    const void *table;     /* [rows, width]  of `table_type` */
    const int64_t *labels; /* [n]  in [0, rows), or -1; NULL: row b belongs to image b */
    void *y;               /* [n, width]  of `type` */
    int n, width;
    storage type, table_type;
} class_embed_args;

typedef struct class_embed_bwd_args {
    const void *dy, *x;    /* [n, width]  of `type` */
    const void *table;     /* [rows, width]  of `table_type`; with labels float, as its gradient is a sum */
    const int64_t *labels; /* as in the forward pass */
    void *dx;              /* [n, width]  of `type`; may be dy; NULL: not needed */
    void *dtable;          /* [rows, width]  of `table_type`; NULL: not needed */
    int n, rows, width;
    int add_x, add_table; /* += instead of = */
    storage type, table_type;
} class_embed_bwd_args;

HD void class_embed_quad(const class_embed_args *a, int b, int q, storage type)
{
    const int count = quad_count(a->width, q);
    const int64_t at = (int64_t)b * a->width + 4 * (int64_t)q, row = a->labels ? a->labels[b] : b;
    float x[4], e[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    quad_load_as(x, a->x, type, at, count);
    if (row >= 0) quad_load_as(e, a->table, a->table_type, row * a->width + 4 * (int64_t)q, count);
    for (int k = 0; k < 4; k++) x[k] = silu(x[k] + e[k]);
    quad_store_as(a->y, type, at, x, count);
}

/* Sets one column of dE to 0, unless it is added to. */
HD void class_embed_clear(const class_embed_bwd_args *a, int column)
{
    if (!a->dtable || a->add_table) return;
    for (int r = 0; r < a->rows; r++) store_at(a->dtable, a->table_type, (int64_t)r * a->width + column, 0.0f);
}

/* One column of image b.  The images of a column come in order, so that equal labels always add up alike. */
HD void class_embed_bwd_one(const class_embed_bwd_args *a, int b, int column)
{
    const int64_t at = (int64_t)b * a->width + column, row = a->labels ? a->labels[b] : b;
    const int64_t entry = row * a->width + column;
    const float e = row >= 0 ? load_at(a->table, a->table_type, entry) : 0.0f;
    const float d = load_at(a->dy, a->type, at) * silu_slope(load_at(a->x, a->type, at) + e);
    if (a->dx) store_at(a->dx, a->type, at, a->add_x ? load_at(a->dx, a->type, at) + d : d);
    if (a->dtable && row >= 0) store_at(a->dtable, a->table_type, entry, load_at(a->dtable, a->table_type, entry) + d);
}

C_API ddpm_status k_class_embed(void *stream, const class_embed_args *a);         /* asynchronous */
C_API ddpm_status k_class_embed_bwd(void *stream, const class_embed_bwd_args *a); /* asynchronous */

#endif
