/* mb.h - what the microbenchmarks share.
 *
 * A benchmark first holds what it is about to time against a reference in double, then times it on
 * buffers that together exceed the second-level cache, and puts its figure beside the one that was
 * predicted (predictions.h).  Everything here also runs on the cpu backend, which keeps it honest
 * where there is no GPU; only what has MB_CUDA around it needs the cuda backend. */
#ifndef DDPM_MB_H
#define DDPM_MB_H
#include "config/config.h"
#include "io/json_out.h"
#include "model/model.h"
#include "nn/nn.h"
#include "bench/bench.h"

typedef struct mb_options {
    ddpm_config config; /* of the files and key=value arguments: network, batch, optimizer */
    backend_spec backend;
    const char *json;    /* file; "": none */
    const char *only;    /* rows whose name has this in it; "": all */
    const char *weights; /* predict: pipeline folder; "": drawn from the seed */
    const char *images;  /* predict: file of its inputs */
    const char *out;     /* folder to write to */
    const char *batches; /* "1,16,64": those that `sampling` takes */
    int repeats, warmup; /* of each figure */
    double seconds;      /* begin nothing new after so many */
} mb_options;

typedef struct mb_run {
    const mb_options *o;
    backend *be;
    image_shape image;
    json_out json;  /* inside the object of this benchmark */
    double begin;   /* clock_seconds() */
    double peak_gb; /* 1e9 bytes a second that a copy moves, read and written; 0: not measured */
    int wrong;      /* checks that did not hold */
} mb_run;

typedef ddpm_status mb_function(mb_run *r, err *e);
mb_function mb_norm, mb_up, mb_attention, mb_overlap, mb_sampling, mb_predict;
mb_function mb_device, mb_ceilings, mb_conv, mb_graph; /* cuda only */

static inline bool mb_late(const mb_run *r, double now) { return now - r->begin > r->o->seconds; }
bool mb_wanted(const mb_run *r, const char *row); /* by name and time */
static inline bool mb_on_cuda(const backend *be) { return be->fn->name[1] == 'u'; }

/* ---- time (mb_time.c); bench/timing.h has the rest ---- */

/* The list of steps, each run of it; the list stays where it is until the steps are gone. */
DDPM_MUST_CHECK ddpm_status time_steps(const mb_run *r, backend *be, step *const *steps, int n, timing *out, err *e);

/* ---- values (mb_data.c) ---- */

/* Element i of stream k: N(0, 1), the same everywhere; as type d holds it. */
double mb_value(int k, int64_t i, dtype d);
/* scale * value + shift into memory of `count` elements of type d. */
typedef struct fill {
    int stream;
    double scale, shift;
} fill;
DDPM_MUST_CHECK ddpm_status mb_fill(backend *be, void *to, dtype d, int64_t count, fill f, err *e);
double mb_filled(fill f, int64_t i, dtype d);
DDPM_MUST_CHECK ddpm_status mb_read(backend *be, const void *data, dtype d, int64_t i, double *v, err *e);
static inline int64_t mb_pick(int sample, int64_t n) /* in [0, n), spread out; the ends among them */
{
    return sample == 0 ? 0 : sample == 1 ? n - 1 : (int64_t)((uint64_t)sample * 0x9E3779B97F4A7C15u % (uint64_t)n);
}

/* How far results are from the reference: |got - want| / |want| over what was added, NaN counted as far. */
typedef struct agreement {
    double difference, norm;
    int n;
} agreement;
void agree(agreement *a, double got, double want);
double agreement_error(const agreement *a);
/* What products of that type may be off by. */
double mb_tolerance(dtype d, bool tf32);
/* Note the error in the row; false, and counted, where it is too large. */
bool mb_check(mb_run *r, const char *key, const agreement *a, double tolerance);

/* ---- one op, several times (mb_op.c) ---- */

enum { OP_COPIES = 32, OP_INPUTS = 3 };

typedef tensor *op_builder(plan *p, const void *shape, tensor *in[OP_INPUTS]); /* makes the inputs and the op */

typedef struct op_bench {
    backend *be;
    int copies; /* so many that they exceed the cache together */
    plan *p[OP_COPIES];
    params *store[OP_COPIES];
    tensor *in[OP_INPUTS], *y, *dy; /* of the first copy */
    step **forward, **backward;     /* of all copies, one after the other */
    int n_forward, n_backward;
} op_bench;

/* Input k is filled from stream k, dy from stream DY, parameters from PARAM on in order of creation. */
enum { STREAM_DY = OP_INPUTS, STREAM_PARAM };
fill op_param_fill(const tensor *t, int index);
const tensor *op_param(const op_bench *b, int index); /* of the first copy */
DDPM_MUST_CHECK ddpm_status op_create(backend *be, op_builder *build, const void *shape, op_bench *out, err *e);
void op_destroy(op_bench *b);
DDPM_MUST_CHECK ddpm_status op_run_first(op_bench *b, err *e); /* forward and backward, once */

typedef struct op_times {
    timing forward, backward; /* of one copy */
} op_times;
DDPM_MUST_CHECK ddpm_status op_time(const mb_run *r, op_bench *b, op_times *out, err *e);

/* One op in one implementation of several that are compared. */
typedef ddpm_status op_checker(mb_run *r, const void *shape, op_bench *b, bool *good, err *e);
typedef struct op_variant {
    backend *be;
    const char *name; /* in the output and as key of the JSON object */
    op_builder *build;
    op_checker *check; /* runs the op once and holds it against the reference */
} op_variant;
/* Check it, time it, and write both to the JSON object and to standard output. */
DDPM_MUST_CHECK ddpm_status op_measure(mb_run *r, const op_variant *v, const void *shape, op_times *times, err *e);

/* ---- networks (mb_net.c) ---- */

/* The steps of the network, forward and backward, at the batch of the configuration: not prepared, not run.
 * Destroy both, also after a failure. */
DDPM_MUST_CHECK ddpm_status net_list(const mb_run *r, plan **out, model **m, err *e);
DDPM_MUST_CHECK ddpm_status mb_model(const mb_run *r, backend *be, model **out, err *e); /* without memory */
/* Weights of a model whose memory is there: --weights, or from the seed. */
DDPM_MUST_CHECK ddpm_status mb_load(const mb_run *r, model *m, err *e);

/* Of the configuration that was read; NULL: none. */
const struct predicted_step *mb_prediction(const mb_run *r);

/* Is this step like one that was seen?  Shapes and attributes, not places. */
bool same_step(const step *a, const step *b);

/* ---- training steps (mb_overlap.c) ---- */

typedef struct step_bench {
    backend *own; /* NULL: the run's */
    bench_train rig;
} step_bench;
/* Warm; on a backend of its own where `disabled` differs from the run's. */
DDPM_MUST_CHECK ddpm_status step_create(const mb_run *r, unsigned disabled, step_bench *b, err *e);
void step_destroy(step_bench *b);

#endif
