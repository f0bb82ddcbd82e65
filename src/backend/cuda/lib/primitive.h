/* primitive.h - a convolution, matrix product or attention by a library: one problem, several algos.
 *
 * The functions that create primitives (cudnn_problem.h, cublas_gemm.h) find all algos that can run; cuda_tune.c times
 * the algos once and keeps one.  A primitive is run with the addresses of its operands, so all steps with the same
 * problem share one primitive. */
#ifndef DDPM_PRIMITIVE_H
#define DDPM_PRIMITIVE_H
#include "ir/dtype.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum { PRIMITIVE_OPERANDS = 8, PRIMITIVE_KEY = 256, PRIMITIVE_NAME = 256 };

typedef struct primitive primitive;

typedef struct primitive_table {
    int (*count)(const primitive *p); /* number of algos, at least 1 */
    /* The name of algo i, without blanks: the same in all runs of the same library on the same device. */
    void (*name)(const primitive *p, int i, char text[PRIMITIVE_NAME]);
    size_t (*workspace)(const primitive *p, int i); /* bytes that algo i needs */
    /* Drop all algos but i, which becomes algo 0: count() is 1. */
    ddpm_status (*keep)(primitive *p, int i, err *e);
    /* Enqueue algo i on the stream.  workspace: workspace(p, i) bytes, aligned to 256. */
    ddpm_status (*run)(primitive *p, int i, void *const operands[PRIMITIVE_OPERANDS], void *workspace, void *stream,
                       err *e);
    void (*destroy)(primitive *p);
} primitive_table;

struct primitive {
    const primitive_table *fn;
    char key[PRIMITIVE_KEY];          /* the problem as text without blanks; equal keys mean equal problems */
    size_t bytes[PRIMITIVE_OPERANDS]; /* extent of each operand in memory; 0: absent */
    bool written[PRIMITIVE_OPERANDS]; /* is the operand a result? */
    dtype result[PRIMITIVE_OPERANDS]; /* type of a result */
};

/* Restrictions on the algos. */
typedef struct primitive_search {
    bool deterministic;      /* exclude nondeterministic algos */
    size_t workspace_cap;    /* exclude algos that need more workspace, in bytes */
    const char *cached_algo; /* from the autotune cache: the only algo to create; all algos if NULL or not found */
} primitive_search;

static inline void primitive_destroy(primitive *p)
{
    if (p) p->fn->destroy(p);
}

#endif
