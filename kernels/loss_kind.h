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

/* rho(r) of a finite c > 0, which l2 and l1 ignore. */
HD float loss_value(loss_kind kind, float c, float r)
{
    const float size = fabsf(r);
    const float huber = size < c ? 0.5f * r * r : c * (size - 0.5f * c);
    switch (kind) {
    case LOSS_L2: break;
    case LOSS_L1: return size;
    case LOSS_HUBER: return huber;
    case LOSS_SMOOTH_L1: return huber / c;
    case LOSS_PSEUDO_HUBER: return r * r / (sqrtf(r * r + c * c) + c); /* without cancellation */
    }
    return r * r;
}

HD float loss_slope(loss_kind kind, float c, float r)
{
    const float sign = (float)((r > 0.0f) - (r < 0.0f));
    const float clamped = fabsf(r) < c ? r : c * sign;
    switch (kind) {
    case LOSS_L2: break;
    case LOSS_L1: return r == r ? sign : r;
    case LOSS_HUBER: return r == r ? clamped : r;
    case LOSS_SMOOTH_L1: return r == r ? clamped / c : r;
    case LOSS_PSEUDO_HUBER: return r / sqrtf(r * r + c * c);
    }
    return 2.0f * r;
}

#endif
