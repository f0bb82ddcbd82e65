/* softmax.h - softmax over the rows of a matrix, and its gradient from the log-sum-exp.
 *
 *   p_j = exp(x_j - max x) / sum,   lse = max x + log sum,   sum = sum over j of exp(x_j - max x)
 *   dx_j = p_j (dp_j - sum over k of p_k dp_k),   p_j = exp(x_j - lse)
 *   Dao et al. 2022 (arXiv:2205.14135), section 3.1 and appendix B.2 */
#ifndef DDPM_SOFTMAX_H
#define DDPM_SOFTMAX_H
#include "math/elementary.h"
#include "storage.h"

typedef struct softmax_args {
    const float *scores; /* [rows, s] */
    void *p;             /* [rows, s]  of `type`; may be scores if type is float */
    storage type;
    float *lse;         /* [rows / s, s], matrices lse_stride elements apart; lse_stride 0: [rows] */
    int64_t rows;       /* >= 1 */
    int64_t s;          /* >= 1 */
    int64_t lse_stride; /* not 0: rows is a multiple of s */
} softmax_args;

typedef struct softmax_bwd_args {
    const float *scores, *dp; /* [rows, s] */
    const float *lse;         /* [rows]  from k_softmax() */
    void *p;                  /* [rows, s]  of `type`; may be scores if type is float.  NULL: not needed */
    void *ds;                 /* [rows, s]  of `type`; may be dp if type is float */
    storage type;
    int64_t rows, s; /* >= 1 */
} softmax_bwd_args;

C_API ddpm_status k_softmax(void *stream, const softmax_args *a);         /* asynchronous */
C_API ddpm_status k_softmax_bwd(void *stream, const softmax_bwd_args *a); /* asynchronous */

#endif
