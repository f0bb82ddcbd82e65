/* scripted_engines.h - a device whose clock advances by scripted times of algos, whose memory can be short and which
 * can fail any call; and a library whose algos follow such scripts.  Include in one file of a program: it defines the
 * runtime's functions. */
#ifndef DDPM_SCRIPTED_ENGINES_H
#define DDPM_SCRIPTED_ENGINES_H
#include "backend/cuda/tune/cuda_tune.h"
#include "base/mem.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the device ---- */

enum { ADDRESSES = 4096 };

static struct {
    double us;              /* the device's clock in microseconds */
    int calls, fail_at;     /* calls of the runtime; the call that fails, or 0 */
    ddpm_status fail_with;  /* status of the failing call */
    size_t memory, largest; /* bytes of device memory; of the largest allocation so far */
    int live;               /* allocations, events and graphs that exist */
    bool recording;         /* a graph is being captured */
    double recorded;        /* microseconds of the captured graph */
    bool pending;           /* an error of a launch that has not been reported yet */
} device;

struct rt_graph {
    double us;
};

static ddpm_status call(const char *name, err *e)
{
    if (++device.calls == device.fail_at) return err_set(e, device.fail_with, "%s: scripted", name);
    return DDPM_OK;
}

ddpm_status rt_alloc(size_t bytes, void **out, err *e)
{
    *out = NULL;
    TRY(call("rt_alloc", e));
    if (bytes > device.memory) return err_set(e, DDPM_ENOMEM, "rt_alloc: %zu of %zu", bytes, device.memory);
    if (bytes > device.largest) device.largest = bytes;
    if (posix_memalign(out, 256, bytes)) return err_set(e, DDPM_ENOMEM, "no memory for the test");
    device.live++;
    return DDPM_OK;
}

void rt_free(void *memory)
{
    if (memory) device.live--;
    mem_free(memory);
}

ddpm_status rt_event_create(bool timed, void **out, err *e)
{
    *out = NULL;
    cr_expect(timed);
    TRY(call("rt_event_create", e));
    TRY(mem_array(out, 1, sizeof(double), "event", e));
    device.live++;
    return DDPM_OK;
}

void rt_event_destroy(void *event) { rt_free(event); }

ddpm_status rt_event_record(void *event, void *stream, err *e)
{
    TRY(call("rt_event_record", e));
    *(double *)event = device.us;
    return DDPM_OK;
}

ddpm_status rt_event_ms(void *from, void *to, float *ms, err *e)
{
    TRY(call("rt_event_ms", e));
    *ms = (float)((*(double *)to - *(double *)from) / 1000.0);
    return DDPM_OK;
}

ddpm_status rt_upload(void *to, const void *from_host, size_t bytes, void *stream, err *e)
{
    TRY(call("rt_upload", e));
    memcpy(to, from_host, bytes);
    return DDPM_OK;
}

ddpm_status rt_download(void *to_host, const void *from, size_t bytes, void *stream, err *e)
{
    TRY(call("rt_download", e));
    memcpy(to_host, from, bytes);
    return DDPM_OK;
}

ddpm_status rt_copy(void *to, const void *from, size_t bytes, void *stream, err *e)
{
    TRY(call("rt_copy", e));
    memcpy(to, from, bytes);
    return DDPM_OK;
}

ddpm_status rt_sync(void *stream, err *e) { return call("rt_sync", e); }

ddpm_status rt_launched(ddpm_status launch, err *e)
{
    device.pending = false;
    TRY(call("rt_launched", e));
    return launch;
}

ddpm_status rt_graph_begin(void *stream, err *e)
{
    cr_assert_not(device.recording, "recorded already");
    TRY(call("rt_graph_begin", e));
    device.recording = true;
    device.recorded = 0.0;
    return DDPM_OK;
}

ddpm_status rt_graph_end(void *stream, rt_graph **out, err *e)
{
    cr_assert(device.recording, "nothing is recorded");
    device.recording = false;
    if (!out) return DDPM_OK;
    *out = NULL;
    TRY(call("rt_graph_end", e));
    TRY(mem_array(out, 1, sizeof **out, "graph", e));
    (*out)->us = device.recorded;
    device.live++;
    return DDPM_OK;
}

ddpm_status rt_graph_launch(rt_graph *graph, void *stream, err *e)
{
    cr_assert_not(device.recording);
    TRY(call("rt_graph_launch", e));
    device.us += graph->us;
    return DDPM_OK;
}

void rt_graph_destroy(rt_graph *graph) { rt_free(graph); }

/* ---- a library with scripted algos ---- */

enum { MANY = 8, X = 0, Y = 3, LARGE = 5 }; /* largest number of algos; operands */

typedef struct script {
    const char *name;
    double us, host_us; /* microseconds on the device; additional ones of a launch outside a graph */
    double first_us;    /* additional microseconds of the first run */
    double early_us;    /* additional microseconds of each of the first dozen runs */
    int odd_run;        /* this run, counted from 1, takes a second; 0: none */
    size_t workspace;
    enum { WORKS, FAILS, FAILS_RECORDED, OFF_BY_2_PERCENT, NOT_FINITE, IGNORES_ADDEND } how;
} script;

typedef struct library {
    script algo[MANY];
    size_t bytes[PRIMITIVE_OPERANDS];
    bool accumulates;   /* y += 1 instead of y = 1 */
    ddpm_status status; /* result of creating a primitive */
    bool none;          /* the library has no algo */
    const char *reason; /* then: why */
    int made, live;     /* primitives created so far; existing ones */
    int runs[MANY];     /* runs of each algo, by its index in `algo` */
    primitive_search asked;
    char cached_algo[PRIMITIVE_NAME];
    const void *address[ADDRESSES]; /* address of operand X in every run */
    int n_run;
} library;

typedef struct fake {
    primitive base;
    library *of;
    int algo[MANY], n; /* indices of the algos that the search allows */
} fake;

static int fake_count(const primitive *p) { return ((const fake *)p)->n; }
static const script *algo_of(const primitive *p, int i)
{
    const fake *f = (const fake *)p;
    cr_assert(i >= 0 && i < f->n, "algo %d of %d", i, f->n);
    return &f->of->algo[f->algo[i]];
}
static void fake_name(const primitive *p, int i, char text[PRIMITIVE_NAME])
{
    (void)snprintf(text, PRIMITIVE_NAME, "%s", algo_of(p, i)->name);
}
static size_t fake_workspace(const primitive *p, int i) { return algo_of(p, i)->workspace; }

static ddpm_status fake_keep(primitive *p, int i, err *e)
{
    fake *f = (fake *)p;
    (void)algo_of(p, i);
    f->algo[0] = f->algo[i];
    f->n = 1;
    return DDPM_OK;
}

static void check_operand(const char *at, size_t bytes, bool first)
{
    cr_assert_eq((uintptr_t)at % 256, 0);
    if (first)
        for (size_t i = 0; i < bytes / 4; i++) {
            uint32_t bits;
            float whole, half;
            memcpy(&bits, at + 4 * i, 4);
            memcpy(&whole, &bits, 4);
            bits <<= 16; /* the lower half of the f32, read as a bf16 */
            memcpy(&half, &bits, 4);
            cr_assert(fabsf(whole) >= 0x1p-8f && fabsf(whole) < 1.0f, "%g", (double)whole);
            cr_assert(fabsf(half) >= 0x1p-8f && fabsf(half) < 1.0f, "%g", (double)half);
        }
    volatile char last = at[bytes - 1]; /* AddressSanitizer checks the bounds */
    (void)last;
}

/* y = 1, or y += 1, in the way of the algo's script. */
static void write_result(const library *l, const script *s, float *y)
{
    const bool add = l->accumulates && s->how != IGNORES_ADDEND;
    for (size_t i = 0; i < l->bytes[Y] / sizeof *y; i++) {
        y[i] = (add ? y[i] : 0) + 1;
        if (s->how == OFF_BY_2_PERCENT && i % 7 == 0) y[i] *= 1.02f;
        if (s->how == NOT_FINITE && i % 7 == 0) y[i] = NAN;
    }
}

static ddpm_status fake_run(primitive *p, int i, void *const operands[PRIMITIVE_OPERANDS], void *workspace,
                            void *stream, err *e)
{
    fake *f = (fake *)p;
    const script *s = algo_of(p, i);
    library *l = f->of;
    const int run = ++l->runs[f->algo[i]];
    bool first = true;
    for (int k = 0; k < l->n_run; k++) first = first && l->address[k] != operands[X];
    if (l->n_run < ADDRESSES) l->address[l->n_run++] = operands[X];
    for (int k = 0; k < PRIMITIVE_OPERANDS; k++) {
        cr_assert_eq(operands[k] != NULL, l->bytes[k] > 0, "operand %d", k);
        if (operands[k]) check_operand(operands[k], l->bytes[k], first);
    }
    if (operands[Y]) write_result(l, s, operands[Y]);
    if (s->workspace) memset(workspace, 1, s->workspace);
    cr_assert_not(device.pending, "an error of another algo is met");
    if (s->how == FAILS || (s->how == FAILS_RECORDED && device.recording)) {
        device.pending = true;
        return err_set(e, DDPM_EBACKEND, "%s cannot", s->name);
    }
    const double us =
        s->us + (run == 1 ? s->first_us : 0.0) + (run <= 12 ? s->early_us : 0.0) + (run == s->odd_run ? 1e6 : 0.0);
    if (device.recording)
        device.recorded += us;
    else
        device.us += us + s->host_us;
    return DDPM_OK;
}

static void fake_destroy(primitive *p)
{
    ((fake *)p)->of->live--;
    mem_free(p);
}

static const primitive_table fake_table = {fake_count, fake_name, fake_workspace, fake_keep, fake_run, fake_destroy};

static ddpm_status make(void *context, const void *q, const primitive_search *how, primitive **out, err *e)
{
    library *l = context;
    fake *f = NULL;
    cr_assert_eq(q, context);
    *out = NULL;
    l->made++;
    l->asked = *how;
    (void)snprintf(l->cached_algo, sizeof l->cached_algo, "%s", how->cached_algo ? how->cached_algo : "");
    if (l->status != DDPM_OK) return err_set(e, l->status, "nothing does it");
    if (l->none) return err_set(e, DDPM_OK, "%s", l->reason ? l->reason : "");
    TRY(mem_array(&f, 1, sizeof *f, "primitive", e));
    f->base.fn = &fake_table;
    f->of = l;
    memcpy(f->base.bytes, l->bytes, sizeof l->bytes);
    f->base.written[Y] = l->bytes[Y] > 0;
    for (int all = 0; all < 2 && f->n == 0; all++) /* the cached algo; all algos if it is not found */
        for (int i = 0; i < MANY; i++)
            if (l->algo[i].name && (all || (how->cached_algo && !strcmp(l->algo[i].name, how->cached_algo))))
                f->algo[f->n++] = i;
    l->live++;
    *out = &f->base;
    return DDPM_OK;
}

/* ---- shared by the tests ---- */

enum { L2 = 1 << 16 };

static const tuner_spec usual = {.machine = "a device", .l2 = L2, .deterministic = true, .workspace_cap = 1 << 20};

static inline void set_up(void)
{
    memset(&device, 0, sizeof device);
    device.memory = SIZE_MAX;
    device.fail_with = DDPM_EBACKEND;
}

static inline void nothing_left(void) { cr_expect_eq(device.live, 0, "%d things of the device are held", device.live); }

static inline library three(double a, double b, double c)
{
    return (library){.algo = {{.name = "a", .us = a}, {.name = "b", .us = b}, {.name = "c", .us = c}},
                     .bytes = {[X] = 1000, [Y] = 600}};
}

static inline tuner *begin(const tuner_spec *spec)
{
    err why = {0};
    tuner *c = NULL;
    OK(tuner_create(spec, &c, &why));
    return c;
}

static inline tuner *begin_with(const char *file, const char *machine)
{
    tuner_spec spec = usual;
    spec.file = file;
    spec.machine = machine;
    return begin(&spec);
}

static inline primitive *get(tuner *c, const char *problem, library *l)
{
    err why = {0};
    primitive *p = NULL;
    OK(tuner_get(c, problem, make, l, l, &p, &why));
    return p;
}

/* The algo that a tuner with this spec keeps for the problem. */
static inline const char *kept_with(const tuner_spec *spec, library *l)
{
    static char name[PRIMITIVE_NAME];
    tuner *c = begin(spec);
    primitive *p = get(c, "p", l);
    cr_assert_eq(p->fn->count(p), 1, "the others are not dropped");
    p->fn->name(p, 0, name);
    tuner_destroy(c);
    cr_expect_eq(l->live, 0);
    return name;
}

static inline int all_runs(const library *l)
{
    int n = 0;
    for (int i = 0; i < MANY; i++) n += l->runs[i];
    return n;
}

#endif
