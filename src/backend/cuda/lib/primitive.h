/* primitive.h - a convolution, product or attention as a library does it: one problem, several algos.
 *
 * The makers (cudnn_problem.h, cublas_gemm.h) find all algos that can run; cuda_tune.c times them once and
 * selects one.  A primitive is run with the addresses of its operands, so one serves every step that
 * has the same problem. */
#ifndef DDPM_PRIMITIVE_H
#define DDPM_PRIMITIVE_H
#include "ir/dtype.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum { PRIMITIVE_OPERANDS = 8, PRIMITIVE_KEY = 256, PRIMITIVE_NAME = 256 };

typedef struct primitive primitive;

typedef struct primitive_table {
    int (*count)(const primitive *p); /* of its algos, at least 1 */
    /* Plan i as text without blanks: stable over runs of the same library on the same device. */
    void (*name)(const primitive *p, int i, char text[PRIMITIVE_NAME]);
    size_t (*workspace)(const primitive *p, int i); /* bytes that algo i wants */
    /* Drop all algos but i, which is number 0 from then on: count() is 1. */
    ddpm_status (*keep)(primitive *p, int i, err *e);
    /* Enqueue algo i on the stream.  workspace: workspace(p, i) bytes, aligned to 256. */
    ddpm_status (*run)(primitive *p, int i, void *const operands[PRIMITIVE_OPERANDS], void *workspace, void *stream,
                       err *e);
    void (*destroy)(primitive *p);
} primitive_table;

struct primitive {
    const primitive_table *fn;
    char key[PRIMITIVE_KEY];          /* the problem as text without blanks, the same for the same problem */
    size_t bytes[PRIMITIVE_OPERANDS]; /* extent of each operand in memory; 0: absent */
    bool written[PRIMITIVE_OPERANDS]; /* is it a result? */
};

/* How algos are searched for. */
typedef struct primitive_search {
    bool deterministic;   /* leave out algos that may differ from run to run */
    size_t workspace_cap; /* leave out algos that want more bytes */
    const char *wanted;   /* name of the only algo wanted (from a cache), NULL: all.  When it is not found: all */
} primitive_search;

static inline void primitive_destroy(primitive *p)
{
    if (p) p->fn->destroy(p);
}

#endif
