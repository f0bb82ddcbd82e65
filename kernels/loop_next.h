/* loop_next.h - counts down the iterations of a loop in a CUDA graph.
 *
 * It is the last node in the body of a WHILE node; the loop continues while the count is positive. */
#ifndef DDPM_LOOP_NEXT_H
#define DDPM_LOOP_NEXT_H
#include "cuda_port.h"

typedef struct loop_next_args {
    int *count; /* remaining iterations, at least 1 */
    graph_condition handle;
} loop_next_args;

C_API ddpm_status k_loop_next(void *stream, const loop_next_args *a); /* asynchronous */

#endif
