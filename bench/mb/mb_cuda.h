/* mb_cuda.h - a library's plans, one by one (mb_plan.c). */
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
    int sets; /* of operands, so many that they exceed the cache together */
    void *operand[PLAN_SETS][PRIMITIVE_OPERANDS];
    void *first[PRIMITIVE_OPERANDS]; /* what a result holds before the first run */
    void *workspace;                 /* as much as the plan at hand wants */
    size_t room;
} plan_bench;

typedef struct plan_times {
    timing time;
    bool recorded; /* as a graph; else launched one by one */
} plan_times;

/* Operand k, where the primitive has it, is filled by fills[k]. */
DDPM_MUST_CHECK ddpm_status plan_bench_create(mb_run *r, primitive *p, const operand_fill fills[PRIMITIVE_OPERANDS],
                                              plan_bench *out, err *e);
void plan_bench_destroy(plan_bench *b);
/* One run of plan i on the first set, its results as they were filled before. */
DDPM_MUST_CHECK ddpm_status plan_bench_once(plan_bench *b, int i, err *e);
DDPM_MUST_CHECK ddpm_status plan_bench_time(mb_run *r, plan_bench *b, int i, plan_times *out, err *e);

/* What a copy moves a second, into r->peak_gb and the JSON. */
DDPM_MUST_CHECK ddpm_status mb_measure_copy(mb_run *r, err *e);

#endif
