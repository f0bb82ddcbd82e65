/* cpu_backend.h - what the files of the cpu backend share. */
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
    char told[THREADS_NOTE + 600]; /* base.remark */
} cpu_backend;

/* How one op runs here.  prepare and release may be NULL: nothing to keep between runs. */
typedef struct cpu_op {
    ddpm_status (*prepare)(cpu_backend *be, step *s, size_t *scratch, err *e);
    ddpm_status (*run)(cpu_backend *be, const step *s, err *e);
    void (*release)(step *s);
} cpu_op;

#define OP(name, vjp, flops, flags) extern const cpu_op cpu_##name;
#include "ir/ops.def"
#undef OP

static inline float *cpu_data(const tensor *t) { return t ? t->data : NULL; }

/* What a primitive whose weights are laid out anew remembers: the version it packed. */
static inline uint64_t cpu_version(const tensor *w) { return w->version ? *w->version : 0; }

/* sums[c] (=, or += with add) the column sums of x [rows, c]; the order of additions does not depend on the threads. */
void cpu_column_sums(const float *x, int64_t rows, int64_t c, bool add, float *sums);
/* y[rows, c] = bias (NULL: 0) + residual (NULL: none) */
void cpu_fill_rows(float *y, int64_t rows, int64_t c, const float *bias, const float *residual);
void cpu_add_bias(float *y, int64_t rows, int64_t c, const float *bias); /* y[rows, c] += bias */
void cpu_add(float *y, const float *x, int64_t count);                   /* y += x */

#endif
