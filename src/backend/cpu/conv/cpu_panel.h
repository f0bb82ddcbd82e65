/* cpu_panel.h - matrix products on panels of LANES columns, accumulated in registers.
 *
 * A panel stores LANES neighbouring columns of a matrix, row by row: [rows][LANES].  The order of additions in a sum
 * depends only on its length. */
#ifndef DDPM_CPU_PANEL_H
#define DDPM_CPU_PANEL_H
#include "backend/cpu/lib/cpu_lanes.h"
#include <stdbool.h>
#include <stdint.h>

/* Rows and panels of the result held in registers at once, leaving room for a row of b and an element of a. */
enum { PANEL_ROWS = REGISTERS / 4, PANELS = 3 };

typedef struct panel_args {
    const float *a; /* left factor in panels, a_panel floats apart */
    const float *b; /* right factor */
    float *c;       /* product */
    int64_t a_panel, b_panel, c_panel;
} panel_args;

/* Products per partial sum.  Long sums are split into partial sums, which reduces rounding error. */
enum { PANEL_SUM = 64 };

static ALWAYS_INLINE void panel_store(const panel_args *p, lanes sum[PANEL_ROWS][PANELS], bool add, int panels)
{
    EACH (r, PANEL_ROWS)
        EACH (j, panels) {
            float *to = p->c + j * p->c_panel + r * LANES;
            lanes_store(to, add ? lanes_load(to) + sum[r][j] : sum[r][j]);
        }
}

/* Computes PANEL_ROWS rows of c = a b, for `panels` panels of c.  `inner`, the columns of a and rows of b, is a
 * multiple of LANES. */
static ALWAYS_INLINE void panel_times(const panel_args *p, int64_t inner, int panels)
{
    for (int64_t from = 0; from < inner; from += PANEL_SUM) {
        const int64_t end = inner < from + PANEL_SUM ? inner : from + PANEL_SUM;
        lanes sum[PANEL_ROWS][PANELS];
        EACH (r, PANEL_ROWS)
            EACH (j, panels) sum[r][j] = (lanes){0};
        for (int64_t k = from; k < end; k += LANES) {
            const float *a = p->a + k / LANES * p->a_panel, *b = p->b + k * LANES;
            for (int i = 0; i < LANES; i++) {
                lanes row[PANELS];
                EACH (j, panels) row[j] = lanes_load(b + j * p->b_panel + i * LANES);
                EACH (r, PANEL_ROWS)
                    EACH (j, panels) sum[r][j] += row[j] * a[r * LANES + i];
            }
        }
        panel_store(p, sum, from > 0, panels);
    }
}

/* Computes PANEL_ROWS rows of c (=, or += with add) a^T b, summed over the `inner` rows of both; a points at the
 * first of PANEL_ROWS columns of one panel. */
static ALWAYS_INLINE void panel_transposed_times(const panel_args *p, int64_t inner, bool add, int panels)
{
    for (int64_t from = 0; from < inner; from += PANEL_SUM) {
        const int64_t end = inner < from + PANEL_SUM ? inner : from + PANEL_SUM;
        lanes sum[PANEL_ROWS][PANELS];
        EACH (r, PANEL_ROWS)
            EACH (j, panels) sum[r][j] = (lanes){0};
        for (int64_t k = from; k < end; k++) {
            lanes row[PANELS];
            EACH (j, panels) row[j] = lanes_load(p->b + j * p->b_panel + k * LANES);
            EACH (r, PANEL_ROWS)
                EACH (j, panels) sum[r][j] += row[j] * p->a[k * LANES + r];
        }
        panel_store(p, sum, add || from > 0, panels);
    }
}

/* Number of panels to process at once if `left` remain: two or three; one only if it is the only one. */
static inline int panels_next(int64_t left) { return left == 1 ? 1 : left == 2 || left == 4 ? 2 : PANELS; }

/* `call`, in which N is the number of panels as a compile-time constant. */
#define WITH_CONST_PANELS(N, count, call)                                                                              \
    do {                                                                                                               \
        if ((count) == 1) {                                                                                            \
            enum { N = 1 };                                                                                            \
            call;                                                                                                      \
        } else if ((count) == 2) {                                                                                     \
            enum { N = 2 };                                                                                            \
            call;                                                                                                      \
        } else {                                                                                                       \
            enum { N = 3 };                                                                                            \
            call;                                                                                                      \
        }                                                                                                              \
    } while (0)

#endif
