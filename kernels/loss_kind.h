/* loss_kind.h - how much a prediction's error r costs: rho(r), and its slope.
 *
 *   l2            r^2                                       2 r
 *   l1            |r|                                       sign(r), 0 at 0
 *   huber         r^2 / 2 if |r| < c, else c (|r| - c / 2)  r clamped to [-c, c]        torch.nn.HuberLoss
 *   smooth_l1     huber / c                                 r / c clamped to [-1, 1]    torch.nn.SmoothL1Loss
 *   pseudo_huber  sqrt(r^2 + c^2) - c                       r / sqrt(r^2 + c^2)
 *                 Charbonnier et al. 1997; Song & Dhariwal 2024 (arXiv:2310.14189), eq. 7, for each element by itself */
#ifndef DDPM_LOSS_KIND_H
#define DDPM_LOSS_KIND_H
#include "cuda_port.h"
#include <math.h>

typedef enum loss_kind { LOSS_L2, LOSS_L1, LOSS_HUBER, LOSS_SMOOTH_L1, LOSS_PSEUDO_HUBER } loss_kind;

typedef struct loss_cost {
    float value, slope;
} loss_cost;

/* rho(r) and its slope, of a finite c > 0, which l2 and l1 ignore.  Both of a NaN are NaN. */
HD loss_cost loss_cost_of(loss_kind kind, float c, float r)
{
    const float size = fabsf(r), sign = (float)((r > 0.0f) - (r < 0.0f));
    const float huber = size < c ? 0.5f * r * r : c * (size - 0.5f * c), clamped = size < c ? r : c * sign;
    loss_cost cost = {r * r, 2.0f * r};
    switch (kind) {
    case LOSS_L2: return cost;
    case LOSS_L1: cost.value = size, cost.slope = sign; break;
    case LOSS_HUBER: cost.value = huber, cost.slope = clamped; break;
    case LOSS_SMOOTH_L1: cost.value = huber / c, cost.slope = clamped / c; break;
    case LOSS_PSEUDO_HUBER: {
        const float root = sqrtf(r * r + c * c);
        cost.value = r * r / (root + c), cost.slope = r / root; /* without cancellation */
        break;
    }
    }
    if (r != r) cost.slope = r;
    return cost;
}

#endif
