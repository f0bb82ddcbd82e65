/* svg_plot.h - a loss curve as a small SVG file, for the run folder and the README. */
#ifndef DDPM_SVG_PLOT_H
#define DDPM_SVG_PLOT_H
#include "base/err.h"

typedef struct svg_series {
    int n;                /* number of points, >= 0 */
    const double *step;   /* [n] not decreasing */
    const double *value;  /* [n] drawn in a light colour; NaN and infinity leave a gap */
    const double *smooth; /* [n] drawn in a strong colour, or NULL */
} svg_series;

/* Write the SVG file, replacing `path` atomically.  The value axis is logarithmic if all values are positive and the
 * largest is more than 50 times the smallest.  `title` is any text.  Points that share a pixel column are drawn as
 * their range, so the file stays small for any n.  DDPM_EIO. */
DDPM_MUST_CHECK ddpm_status svg_plot_loss(const char *path, const char *title, const svg_series *s, err *e);

#endif
