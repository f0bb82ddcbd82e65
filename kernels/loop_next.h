/* loop_next.h - the end of a loop's body: one turn less to go.
 *
 * The last node in the body of a WHILE node; the loop goes on while turns are left. */
#ifndef DDPM_LOOP_NEXT_H
#define DDPM_LOOP_NEXT_H
#include "cuda_port.h"

typedef struct loop_next_args {
    int *count; /* turns left, at least 1 */
    graph_condition handle;
} loop_next_args;

C_API ddpm_status k_loop_next(void *stream, const loop_next_args *a); /* asynchronous */

#endif
