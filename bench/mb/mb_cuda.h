/* mb_cuda.h - the engines or algos of a library primitive, one by one (mb_plan.c). */
#ifndef DDPM_MB_CUDA_H
#define DDPM_MB_CUDA_H
#include "backend/cuda/cuda_backend.h"
#include "mb.h"

enum { PLAN_SETS = 16 };

typedef struct operand_fill {
    dtype d;
    fill f;
} operand_fill;

typedef struct plan_bench {
    cuda_backend *be;
    primitive *p;
    int sets; /* number of sets of operands, enough to exceed the L2 cache together */
    void *operand[PLAN_SETS][PRIMITIVE_OPERANDS];
    void *first[PRIMITIVE_OPERANDS]; /* the initial values of results */
    void *workspace;                 /* as large as the current engine needs */
    size_t room;
} plan_bench;

typedef struct plan_times {
    timing time;
    bool recorded; /* timed as a graph, else as single launches */
} plan_times;

/* Operand k, if the primitive has it, is filled by fills[k]. */
DDPM_MUST_CHECK ddpm_status plan_bench_create(mb_run *r, primitive *p, const operand_fill fills[PRIMITIVE_OPERANDS],
                                              plan_bench *out, err *e);
void plan_bench_destroy(plan_bench *b);
/* One run of engine i on the first set, with the results reset to their initial values. */
DDPM_MUST_CHECK ddpm_status plan_bench_once(plan_bench *b, int i, err *e);
DDPM_MUST_CHECK ddpm_status plan_bench_time(mb_run *r, plan_bench *b, int i, plan_times *out, err *e);

/* Measures the bandwidth of a copy into r->peak_gb and the JSON. */
DDPM_MUST_CHECK ddpm_status mb_measure_copy(mb_run *r, err *e);

#endif
