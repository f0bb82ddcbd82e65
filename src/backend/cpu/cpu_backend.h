/* cpu_backend.h - shared by the files of the cpu backend. */
#ifndef DDPM_CPU_BACKEND_H
#define DDPM_CPU_BACKEND_H
#include "backend/backend.h"
#include "backend/cpu/conv/cpu_conv_autotune.h"
#include "backend/cpu/lib/onednn.h"
#include "base/threads.h"
#include "ir/operands.h"

typedef struct cpu_backend {
    backend base;
    onednn *onednn;
    conv_autotune *autotune;
    int threads;
    char told[THREADS_NOTE + 600]; /* text of base.remark */
} cpu_backend;

/* The functions of one op. prepare and release may be NULL: no state between runs. */
typedef struct cpu_op {
    ddpm_status (*prepare)(cpu_backend *be, step *s, size_t *scratch, err *e);
    ddpm_status (*run)(cpu_backend *be, const step *s, err *e);
    void (*release)(step *s);
} cpu_op;

#define OP(name, vjp, flops, flags) extern const cpu_op cpu_##name;
#include "ir/ops.def"
#undef OP

static inline float *cpu_data(const tensor *t) { return t ? t->data : NULL; }

/* The version of the weights, stored by a primitive that keeps a packed copy of them. */
static inline uint64_t cpu_version(const tensor *w) { return w->version ? *w->version : 0; }

/* sums[c] (=, or += with add) column sums of x [rows, c]; the order of additions is the same for any number of
 * threads. */
void cpu_column_sums(const float *x, int64_t rows, int64_t c, bool add, float *sums);
/* y[rows, c] = bias (NULL: 0) + residual (NULL: none) */
void cpu_fill_rows(float *y, int64_t rows, int64_t c, const float *bias, const float *residual);
void cpu_add_bias(float *y, int64_t rows, int64_t c, const float *bias); /* y[rows, c] += bias */
void cpu_add(float *y, const float *x, int64_t count);                   /* y += x */

#endif
