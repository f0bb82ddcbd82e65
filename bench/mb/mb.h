/* mb.h - shared by the microbenchmarks.
 *
 * A benchmark first checks the code it is about to time against a reference in double, then times the code on buffers
 * that together exceed the L2 cache, and reports the result beside the predicted one (predictions.h).  Everything here
 * also runs on the cpu backend, so that it is tested without a GPU; only code inside MB_CUDA needs the cuda backend. */
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
    const char *json;    /* output file; "": none */
    const char *only;    /* run only rows whose name contains this text; "": all */
    const char *weights; /* predict: pipeline folder; "": random weights from the seed */
    const char *images;  /* predict: input file */
    const char *out;     /* folder to write to */
    const char *batches; /* "1,16,64": batch sizes of `sampling` */
    int repeats, warmup; /* of each measurement */
    double seconds;      /* time budget: no new measurement begins after it */
} mb_options;

typedef struct mb_run {
    const mb_options *o;
    backend *be;
    image_shape image;
    json_out json;  /* open inside the object of this benchmark */
    double begin;   /* clock_seconds() at the start */
    double peak_gb; /* bandwidth of a copy, reads plus writes, in 1e9 bytes/s; 0: not measured */
    int wrong;      /* number of failed checks */
} mb_run;

typedef ddpm_status mb_function(mb_run *r, err *e);
mb_function mb_norm, mb_up, mb_attention, mb_overlap, mb_sampling, mb_predict;
mb_function mb_device, mb_ceilings, mb_conv, mb_graph; /* cuda only */

static inline bool mb_late(const mb_run *r, double now) { return now - r->begin > r->o->seconds; }
bool mb_wanted(const mb_run *r, const char *row); /* is the row selected by --only, and is there time left? */
static inline bool mb_on_cuda(const backend *be) { return be->fn->name[1] == 'u'; }

/* ---- time (mb_time.c); bench/timing.h has the rest ---- */

/* Times runs of the list of steps; the list must stay at its address until the steps are destroyed. */
DDPM_MUST_CHECK ddpm_status time_steps(const mb_run *r, backend *be, step *const *steps, int n, timing *out, err *e);

/* ---- values (mb_data.c) ---- */

/* Element i of random stream k: N(0, 1), the same on every machine, rounded to type d. */
double mb_value(int k, int64_t i, dtype d);
/* Fills memory of `count` elements of type d with scale * value + shift. */
typedef struct fill {
    int stream;
    double scale, shift;
} fill;
DDPM_MUST_CHECK ddpm_status mb_fill(backend *be, void *to, dtype d, int64_t count, fill f, err *e);
double mb_filled(fill f, int64_t i, dtype d);
DDPM_MUST_CHECK ddpm_status mb_read(backend *be, const void *data, dtype d, int64_t i, double *v, err *e);
static inline int64_t mb_pick(int sample, int64_t n) /* in [0, n); samples 0 and 1: both ends */
{
    return sample == 0 ? 0 : sample == 1 ? n - 1 : (int64_t)((uint64_t)sample * 0x9E3779B97F4A7C15u % (uint64_t)n);
}

/* How far results are from the reference: |got - want| / |want| over all added elements; a NaN counts as far. */
typedef struct agreement {
    double difference, norm;
    int n;
} agreement;
void agree(agreement *a, double got, double want);
double agreement_error(const agreement *a);
/* The relative error allowed for products of factors of type d. */
double mb_tolerance(dtype d, bool tf32);
/* Writes the error to the row; false, and counted in r->wrong, if it exceeds the tolerance. */
bool mb_check(mb_run *r, const char *key, const agreement *a, double tolerance);

/* ---- one op in several copies (mb_op.c) ---- */

enum { OP_COPIES = 32, OP_INPUTS = 3 };

typedef tensor *op_builder(plan *p, const void *shape, tensor *in[OP_INPUTS]); /* creates the inputs and the op */

typedef struct op_bench {
    backend *be;
    int copies; /* enough to exceed the L2 cache together */
    plan *p[OP_COPIES];
    params *store[OP_COPIES];
    tensor *in[OP_INPUTS], *y, *dy; /* of the first copy */
    step **forward, **backward;     /* of all copies, one after the other */
    int n_forward, n_backward;
} op_bench;

/* Random streams: k fills input k, STREAM_DY fills dy, the parameters use STREAM_PARAM, ... in order of creation. */
enum { STREAM_DY = OP_INPUTS, STREAM_PARAM };
fill op_param_fill(const tensor *t, int index);
const tensor *op_param(const op_bench *b, int index); /* of the first copy */
DDPM_MUST_CHECK ddpm_status op_create(backend *be, op_builder *build, const void *shape, op_bench *out, err *e);
void op_destroy(op_bench *b);
DDPM_MUST_CHECK ddpm_status op_run_first(op_bench *b, err *e); /* forward and backward, once */

typedef struct op_times {
    timing forward, backward; /* time of one copy */
} op_times;
DDPM_MUST_CHECK ddpm_status op_time(const mb_run *r, op_bench *b, op_times *out, err *e);

/* One of several implementations of an op that are compared. */
typedef ddpm_status op_checker(mb_run *r, const void *shape, op_bench *b, bool *good, err *e);
typedef struct op_variant {
    backend *be;
    const char *name; /* in the output and as key of the JSON object */
    op_builder *build;
    op_checker *check; /* runs the op once and compares it with the reference */
} op_variant;
/* Checks and times the variant, and writes both results to the JSON object and to standard output. */
DDPM_MUST_CHECK ddpm_status op_measure(mb_run *r, const op_variant *v, const void *shape, op_times *times, err *e);

/* ---- networks (mb_net.c) ---- */

/* The steps of the network, forward and backward, at the configuration's batch size: neither prepared nor run.
 * Destroy plan and model, also after a failure. */
DDPM_MUST_CHECK ddpm_status net_list(const mb_run *r, plan **out, model **m, err *e);
DDPM_MUST_CHECK ddpm_status mb_model(const mb_run *r, backend *be, model **out, err *e); /* no memory yet */
/* Loads the weights of a model with allocated parameters: from --weights, or random from the seed. */
DDPM_MUST_CHECK ddpm_status mb_load(const mb_run *r, model *m, err *e);

/* The prediction for the run's configuration; NULL: none. */
const struct predicted_step *mb_prediction(const mb_run *r);

/* Are the two steps equal in op, shapes and attributes?  Addresses do not count. */
bool same_step(const step *a, const step *b);

/* ---- training steps (mb_overlap.c) ---- */

typedef struct step_bench {
    backend *own; /* NULL: the run's backend is used */
    bench_train rig;
} step_bench;
/* Creates the step and runs a warm-up; on its own backend if `disabled` differs from the run's. */
DDPM_MUST_CHECK ddpm_status step_create(const mb_run *r, unsigned disabled, step_bench *b, err *e);
void step_destroy(step_bench *b);

#endif
