/* svg_plot.h - a loss curve as a small SVG picture, for a run's folder and for the README. */
#ifndef DDPM_SVG_PLOT_H
#define DDPM_SVG_PLOT_H
#include "base/err.h"

typedef struct svg_series {
    int n;                /* points, from 0 up */
    const double *step;   /* [n] not decreasing */
    const double *value;  /* [n] drawn light; NaN and infinity leave a gap */
    const double *smooth; /* [n] drawn strong, or NULL */
} svg_series;

/* Write the picture to path, replacing it in one step.  The value axis is logarithmic where all values
 * are positive and the largest is more than 50 times the smallest.  `title` is any text.  Points that
 * share a pixel column are drawn as their range, so the file stays small whatever n is.  DDPM_EIO. */
DDPM_MUST_CHECK ddpm_status svg_plot_loss(const char *path, const char *title, const svg_series *s, err *e);

#endif
