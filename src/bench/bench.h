/* bench.h - the training step, the sampling loop and the loader as a run uses them, set up to be timed.
 *
 * Nothing here computes by itself: bench_train is data set, feed and trainer, bench_sample a generator,
 * and turns of them are what training_run.c and `ddpm sample` do. */
#ifndef DDPM_BENCH_H
#define DDPM_BENCH_H
#include "train/image_feed.h"
#include "bench/timing.h"

typedef struct bench_limits {
    int warmup;     /* turns before any is timed; at least 1 */
    int rounds;     /* turns to time */
    double seconds; /* begin nothing new after so many; BENCH_LEAST turns are always timed */
} bench_limits;
enum { BENCH_LEAST = 3 };

/* Time n turns: ms[n] of each, and all by the clock. */
typedef ddpm_status bench_turns(void *context, int n, double *ms, double *wall_ms, err *e);

/* Warm up, then time turns; slow ones are fewer. */
DDPM_MUST_CHECK ddpm_status bench_measure(backend *be, const bench_limits *limits, bench_turns *turns, void *context,
                                          timing *out, err *e);

/* ---- data ---- */

/* What a configuration's images look like where no data set is asked: DDPM_EINVAL where that cannot be known. */
DDPM_MUST_CHECK ddpm_status bench_shape(const ddpm_config *c, backend *be, image_shape *shape, err *e);
/* bench.data=real: the configuration's set; synthetic: digits of its shape, drawn by the program. */
DDPM_MUST_CHECK ddpm_status bench_data(const ddpm_config *c, backend *be, dataset **out, err *e);

typedef struct bench_loader {
    const dataset *data; /* borrowed */
    loader *loader;
    int batches; /* of a turn: so many that what was decoded ahead does not tell */
} bench_loader;
DDPM_MUST_CHECK ddpm_status bench_loader_create(const ddpm_config *c, const dataset *data, bench_loader *out, err *e);
void bench_loader_destroy(bench_loader *b);
bench_turns bench_loader_turns; /* ms of a batch, over each turn's batches */

/* ---- training ---- */

typedef struct bench_train {
    const ddpm_config *config; /* borrowed */
    backend *be;               /* borrowed */
    dataset *data;
    model *m;
    trainer *t;
    feed *f;
    train_state state;    /* after the last turns */
    double first_step_s;  /* from the start of the process to the end of the first step; negative: not known */
    size_t device_before; /* bytes free in a device's memory before all this; 0: there is none */
} bench_train;

/* Set up, and do the first step. */
DDPM_MUST_CHECK ddpm_status bench_train_create(const ddpm_config *c, backend *be, bench_train *out, err *e);
void bench_train_destroy(bench_train *b);
bench_turns bench_train_turns; /* ms of a step */

/* ---- sampling ---- */

typedef struct bench_sample {
    backend *be; /* borrowed */
    model *m;
    generator *g;
    int64_t *ids; /* [batch] */
    float *x;     /* [batch, h, w, c] */
    int batch;
    size_t device_before; /* as in bench_train */
} bench_sample;

/* `run`: the folder whose model samples; NULL: the configuration's, or that of model.init_from. */
DDPM_MUST_CHECK ddpm_status bench_sample_create(const ddpm_config *c, const char *run, backend *be, bench_sample *out,
                                                err *e);
void bench_sample_destroy(bench_sample *b);
bench_turns bench_sample_turns; /* whole loops; ms of an evaluation of the network in each */
/* Evaluations alone, within one loop that ends when enough were timed.  A device is asked for some at a time. */
DDPM_MUST_CHECK ddpm_status bench_sample_evaluations(bench_sample *b, const bench_limits *limits, timing *out, err *e);

/* Bytes that a device gave away since `before` bytes of its memory were free; 0 where there is none. */
size_t bench_device_bytes(const backend *be, size_t before);

/* ---- the parts of a plan (bench_ops.c) ---- */

typedef enum op_phase { PHASE_FORWARD, PHASE_BACKWARD, PHASE_UPDATE, PHASES } op_phase;

typedef struct step_cost {
    const step *s;
    op_phase phase;
    timing time;
    double flops, bytes; /* operations; bytes of its operands, each read or written once */
    double floor_ms;     /* roofline_ms() of them */
} step_cost;

/* Brings the plan's inputs and counters to where a pass may begin. */
typedef ddpm_status bench_begin(void *context, err *e);
bench_begin bench_train_begin, bench_sample_begin;

typedef struct bench_ops_spec {
    backend *be;
    const plan *p; /* allocated, bound, run before */
    bench_begin *begin;
    void *context;
    bench_limits limits; /* turns are passes through the plan */
    machine_peak peak;
} bench_ops_spec;

typedef struct step_costs {
    step_cost *list; /* [n]  in the order of the plan */
    int n;
    timing pass; /* sums of all steps, pass by pass */
    step **rows; /* the lists by which a device knows what it recorded */
} step_costs;

/* Each step of the plan by itself, in their order, so that every one sees what it would see.  On a device a
 * step runs several times in a row where that changes nothing, what it adds to being put back. */
DDPM_MUST_CHECK ddpm_status bench_ops(const bench_ops_spec *spec, step_costs *out, err *e);
void bench_ops_free(step_costs *t); /* after the plan is gone; also after a failure */

/* Sum over the steps of one op in one phase. */
typedef struct step_total {
    op_kind op;
    op_phase phase;
    int count;
    double ms, flops, bytes, floor_ms;
} step_total;
/* Into totals[OP_COUNT * PHASES], longest first; returns how many there are. */
int bench_ops_total(const step_cost *ops, int n, step_total *totals);
/* Most time lost (beyond the roofline) first. */
void bench_ops_sort(step_cost *ops, int n);

/* ---- the machine (bench_peak.c) ---- */

/* A product of square matrices and a pass over more memory than the caches hold, through the backend's own
 * ops; sizes grow until `enough_ms` tell. */
DDPM_MUST_CHECK ddpm_status bench_peak(backend *be, double enough_ms, machine_peak *out, err *e);

#endif
