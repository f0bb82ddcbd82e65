/* to_u8.h - converts images from [-1, 1] to bytes.
 *
 *   y = round(255 clamp(x / 2 + 1 / 2, 0, 1)), to the nearest, ties to even; NaN becomes 0 */
#ifndef DDPM_TO_U8_H
#define DDPM_TO_U8_H
#include "quad.h"
#include <math.h>

typedef struct to_u8_args {
    const float *x; /* [count] */
    uint8_t *y;     /* [count] */
    int64_t count;  /* >= 1 */
} to_u8_args;

HD uint8_t to_u8(float x)
{
    const float v = x / 2 + 0.5f;
    return (uint8_t)rintf(255 * (v > 0 ? v < 1 ? v : 1 : 0));
}

C_API ddpm_status k_to_u8(void *stream, const to_u8_args *a); /* asynchronous */

#endif
