/* bench_peak.c - the machine's peak rates, measured by the backend's own ops. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/process.h"
#include "math/bf16.h"
#include "model/params.h"
#include "nn/nn.h"
#include "bench/bench.h"

enum {
    SIDE_LEAST = 128,
    SIDE_HOST = 2048, /* larger matrices are not faster on a CPU */
    SIDE_DEVICE = 8192,
    REPEATS = 5,
    REPEATS_MOST = 200,
    IN_A_ROW = 4 /* runs between two timestamps on a GPU */
};

/* A plan with one op, and random values as its input. */
typedef struct peak_plan {
    plan *p;
    params *store;
    tensor *x;
} peak_plan;

static void destroy(peak_plan *k)
{
    plan_destroy(k->p);
    params_destroy(k->store);
    *k = (peak_plan){.p = NULL};
}

/* Values in [-1/2, 1/2): zeros would be faster on some machines. */
static ddpm_status fill(const plan *p, const tensor *x, err *e)
{
    enum { BLOCK = 1 << 18 };
    backend *be = p->be;
    const int64_t count = tensor_count(x), size = (int64_t)dtype_size(x->dtype);
    void *block;
    ddpm_status st = DDPM_OK;
    TRY(mem_array(&block, BLOCK, (size_t)size, "values", e));
    for (uint32_t i = 0; i < BLOCK; i++) {
        const float v = (float)(i * 2654435761u >> 8) * 0x1p-24f - 0.5f; /* Knuth's multiplicative hashing */
        if (x->dtype == DTYPE_BF16)
            ((bf16 *)block)[i] = bf16_of(v);
        else
            ((float *)block)[i] = v;
    }
    for (int64_t at = 0; at < count && st == DDPM_OK; at += BLOCK) {
        const int64_t part = count - at < BLOCK ? count - at : BLOCK;
        st = be->fn->upload(be, (char *)x->data + at * size, block, (size_t)(part * size), e);
    }
    mem_free(block);
    return st;
}

static ddpm_status prepare(backend *be, peak_plan *k, tensor *y, err *e)
{
    if (!y) return err_set(e, k->p->first.status, "%s", k->p->first.text);
    plan_keep(k->p, y);
    TRY(plan_finish(k->p, e));
    TRY(plan_allocate(k->p, e));
    TRY(params_create(be, &k->store, e));
    TRY(params_declare(k->store, k->p, e));
    TRY(params_allocate(k->store, false, false, e));
    TRY(params_bind(k->store, k->p, ARENA_PARAM, e));
    TRY(params_init(k->store, 1, e));
    TRY(params_refresh(k->store, ARENA_PARAM, e));
    return fill(k->p, k->x, e);
}

static ddpm_status one_run(peak_plan *k, stamp stamps[2], double *ms, err *e)
{
    backend *be = k->p->be;
    const int times = be->fn->host_memory ? 1 : IN_A_ROW;
    TRY(backend_wait(be, e));
    TRY(stamp_set(be, &stamps[0], e));
    TRY(be->fn->run(be, k->p->steps, k->p->n_step, times, e));
    TRY(stamp_set(be, &stamps[1], e));
    TRY(backend_wait(be, e));
    TRY(stamp_ms(be, &stamps[0], &stamps[1], ms, e));
    *ms /= times;
    return DDPM_OK;
}

/* The fastest of several runs, of more runs if they are short: other programs may use the machine meanwhile. */
static ddpm_status fastest(peak_plan *k, double enough_ms, double *ms, err *e)
{
    stamp stamps[2] = {{0}, {0}};
    double one, sum = 0;
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < 2; i++) TRY_GOTO(one_run(k, stamps, ms, e)); /* warm-up, and graph capture on a GPU */
    for (int i = 0; i < REPEATS || (i < REPEATS_MOST && sum < 4 * enough_ms); i++) {
        TRY_GOTO(one_run(k, stamps, &one, e));
        sum += one;
        if (one < *ms) *ms = one;
    }
done:
    for (int i = 0; i < 2 && k->p->be->fn->event_free; i++) k->p->be->fn->event_free(k->p->be, stamps[i].event);
    return st;
}

static ddpm_status multiply(backend *be, int side, double enough_ms, double *ms, double *flops, err *e)
{
    peak_plan k = {.p = NULL};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(plan_create(be, &k.p, e));
    k.x = plan_input(k.p, be->act, "x", side, 1, 1, side);
    tensor *y = nn_linear(k.p, &(nn_linear_args){.x = k.x, .cout = side, .init = INIT_FAN_IN, .name = "product"});
    TRY_GOTO(prepare(be, &k, y, e));
    TRY_GOTO(fastest(&k, enough_ms, ms, e));
    *flops = plan_flops(k.p, 0, k.p->n_step);
done:
    destroy(&k);
    return st;
}

static ddpm_status copy(backend *be, int64_t values, double enough_ms, double *ms, double *bytes, err *e)
{
    peak_plan k = {.p = NULL};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(plan_create(be, &k.p, e));
    k.x = plan_input(k.p, be->act, "x", values / 64, 1, 1, 64);
    TRY_GOTO(prepare(be, &k, nn_affine(k.p, k.x, 0.5f, 0.25f), e));
    TRY_GOTO(fastest(&k, enough_ms, ms, e));
    *bytes = plan_bytes(k.p, 0, k.p->n_step);
done:
    destroy(&k);
    return st;
}

/* Bytes of one operand: larger than every cache, and a small part of the memory. */
static int64_t copy_bytes_most(const backend *be)
{
    const int64_t cache = machine_cache_bytes();
    const int64_t least = be->fn->host_memory ? 64 << 20 : 512 << 20, room = (int64_t)be->fn->memory_free(be) / 16;
    const int64_t target = be->fn->host_memory && 4 * cache > least ? 4 * cache : least;
    return room > 0 && room < target ? room : target;
}

ddpm_status bench_peak(backend *be, double enough_ms, machine_peak *out, err *e)
{
    const int most = be->fn->host_memory ? SIDE_HOST : SIDE_DEVICE;
    const int64_t size = (int64_t)dtype_size(be->act), bytes_most = copy_bytes_most(be);
    double ms = 0, work = 0;
    *out = (machine_peak){0};
    for (int side = SIDE_LEAST; side <= most && ms < enough_ms; side *= 2) {
        TRY(multiply(be, side, enough_ms, &ms, &work, e));
        const double rate = ms > 0 ? 1e-9 * work / ms : 0;
        if (rate > out->tflop_per_s) out->tflop_per_s = rate, out->product_side = side;
    }
    ms = 0;
    for (int64_t bytes = 1 << 20; ms < enough_ms; bytes = bytes * 4 < bytes_most ? bytes * 4 : bytes_most) {
        TRY(copy(be, bytes / size, enough_ms, &ms, &work, e)); /* only the largest counts: the others may fit a cache */
        out->gb_per_s = ms > 0 ? 1e-6 * work / ms : 0;
        out->copy_bytes = work;
        if (bytes == bytes_most) break;
    }
    return DDPM_OK;
}
