/* bench.h - benchmarks of the training step, the sampling loop and the loader, set up as in a real run.
 *
 * No computation is implemented here: bench_train consists of data set, feed and trainer, bench_sample of a
 * generator, and an iteration of them is a step of training_run.c or a batch of `ddpm sample`. */
#ifndef DDPM_BENCH_H
#define DDPM_BENCH_H
#include "sample/picture_source.h"
#include "train/image_feed.h"
#include "bench/timing.h"

typedef struct bench_limits {
    int warmup;     /* untimed iterations first; at least 1 */
    int rounds;     /* timed iterations */
    double seconds; /* start no further iteration after this time; at least BENCH_LEAST iterations are timed */
} bench_limits;
enum { BENCH_LEAST = 3 };

/* Run n iterations and time them: ms[n] of each, and the wall-clock time of all. */
typedef ddpm_status bench_iterations(void *context, int n, double *ms, double *wall_ms, err *e);

/* Warm up, then time iterations within the limits. */
DDPM_MUST_CHECK ddpm_status bench_measure(backend *be, const bench_limits *limits, bench_iterations *iterations,
                                          void *context, timing *out, err *e);

/* ---- data ---- */

/* The shape of a configuration's images without opening the data set.  DDPM_EINVAL: the shape is not known. */
DDPM_MUST_CHECK ddpm_status bench_shape(const ddpm_config *c, backend *be, image_shape *shape, err *e);
/* bench.data=real: the configuration's set; synthetic: digits of its shape, drawn by the program. */
DDPM_MUST_CHECK ddpm_status bench_data(const ddpm_config *c, backend *be, dataset **out, err *e);

typedef struct bench_loader {
    const dataset *data; /* borrowed */
    loader *loader;
    int batches; /* per iteration: enough for batches that were decoded ahead not to matter */
} bench_loader;
DDPM_MUST_CHECK ddpm_status bench_loader_create(const ddpm_config *c, const dataset *data, bench_loader *out, err *e);
void bench_loader_destroy(bench_loader *b);
bench_iterations bench_loader_iterations; /* ms per batch, averaged over the batches of an iteration */

/* ---- training ---- */

typedef struct bench_train {
    const ddpm_config *config; /* borrowed */
    backend *be;               /* borrowed */
    dataset *data;
    model *m;
    trainer *t;
    feed *f;
    train_state state;    /* after the last iterations */
    double first_step_s;  /* seconds from the start of the process to the end of the first step; negative: unknown */
    size_t device_before; /* bytes free in the GPU's memory before the setup; 0: no GPU */
} bench_train;

/* Set up, and run the first step. */
DDPM_MUST_CHECK ddpm_status bench_train_create(const ddpm_config *c, backend *be, bench_train *out, err *e);
void bench_train_destroy(bench_train *b);
bench_iterations bench_train_iterations; /* ms per step */

/* ---- sampling ---- */

typedef struct bench_sample {
    backend *be; /* borrowed */
    model *m;
    generator *g;
    int64_t *ids;      /* [batch] */
    float *x;          /* [batch, h, w, c] */
    label_list labels; /* of sample.labels */
    int *label;        /* [batch], of the last bench_sample_batch() */
    int batch;
    size_t device_before; /* as in bench_train */
} bench_sample;

/* `run`: the folder of the model; NULL: the configuration's model, or that of model.init_from. */
DDPM_MUST_CHECK ddpm_status bench_sample_create(const ddpm_config *c, const char *run, backend *be, bench_sample *out,
                                                err *e);
void bench_sample_destroy(bench_sample *b);
/* The batch ids[n], n up to `batch`, with the labels that `ddpm sample` gives to these ids; valid until the next call. */
generator_batch bench_sample_batch(bench_sample *b, const int64_t *ids, int n);
bench_iterations bench_sample_iterations; /* iterations are whole loops; ms per network evaluation */
/* Time single network evaluations within a loop, which is aborted once enough are timed.  On a GPU several are
 * launched at a time. */
DDPM_MUST_CHECK ddpm_status bench_sample_evaluations(bench_sample *b, const bench_limits *limits, timing *out, err *e);
/* Pictures a second end to end, PNG files in a temporary folder included, and as a share of what the sampling loops alone
 * give.  In each of BENCH_FILE_ROUNDS rounds, `batches` batches without files and then as many with files (after a first one).
 * n = 0 in both: a model whose output is no picture. */
enum { BENCH_FILE_ROUNDS = 5 };
DDPM_MUST_CHECK ddpm_status bench_sample_files(bench_sample *b, int batches, timing *per_second, timing *share, err *e);

/* Bytes of GPU memory allocated since `before` bytes were free; 0 without a GPU. */
size_t bench_device_bytes(const backend *be, size_t before);

/* ---- the steps of a plan (bench_ops.c) ---- */

typedef enum op_phase { PHASE_FORWARD, PHASE_BACKWARD, PHASE_UPDATE, PHASES } op_phase;

typedef struct step_cost {
    const step *s;
    op_phase phase;
    timing time;
    double flops, bytes; /* operations; bytes of the operands, each read or written once */
    double floor_ms;     /* roofline_ms(flops, bytes) */
} step_cost;

/* Sets the plan's inputs and counters for the start of a pass. */
typedef ddpm_status bench_begin(void *context, err *e);
bench_begin bench_train_begin, bench_sample_begin;

typedef struct bench_ops_spec {
    backend *be;
    const plan *p; /* allocated, bound, and run at least once */
    bench_begin *begin;
    void *context;
    bench_limits limits; /* iterations are passes through the plan */
    machine_peak peak;
} bench_ops_spec;

typedef struct step_costs {
    step_cost *list; /* [n]  in the order of the plan */
    int n;
    timing pass; /* of whole passes: the sum over their steps */
    step **rows; /* the step lists passed to the backend, which identify its recorded graphs */
} step_costs;

/* Time each step of the plan separately, in plan order, so that every step has its real inputs.  On a GPU a step runs
 * several times in a row if that is possible; accumulated outputs are then restored. */
DDPM_MUST_CHECK ddpm_status bench_ops(const bench_ops_spec *spec, step_costs *out, err *e);
void bench_ops_free(step_costs *t); /* call it after destroying the plan; also after a failure */

/* Sum over the steps of one op in one phase. */
typedef struct step_total {
    op_kind op;
    op_phase phase;
    int count;
    double ms, flops, bytes, floor_ms;
} step_total;
/* Write totals[OP_COUNT * PHASES], longest time first; returns their number. */
int bench_ops_total(const step_cost *ops, int n, step_total *totals);
/* Sort by the time beyond the roofline, largest first. */
void bench_ops_sort(step_cost *ops, int n);

/* ---- the machine (bench_peak.c) ---- */

/* Measure the peak by the backend's own ops: a product of square matrices, and a pass over more memory than the caches
 * hold.  Sizes grow until a run takes `enough_ms`. */
DDPM_MUST_CHECK ddpm_status bench_peak(backend *be, double enough_ms, machine_peak *out, err *e);

#endif
