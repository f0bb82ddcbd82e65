#include "diffusion/reverse_variance.h"

#include <math.h>

reverse_variance reverse_variance_at(const schedule *s, int t, int prev, int above)
{
    const posterior q = schedule_posterior(s, t, prev);
    const double log_beta = log(q.beta);
    reverse_variance r = {.x0_weight = q.x0_weight, .log_variance = log_beta, .decoder = prev < 0};
    if (prev >= 0)
        r.log_variance = log(q.variance);
    else if (above >= 0)
        r.log_variance = log(schedule_posterior(s, above, t).variance);
    r.log_span = log_beta - r.log_variance;
    return r;
}
