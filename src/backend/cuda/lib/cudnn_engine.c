/* cudnn_engine.c - from an operation graph to its engines, and the primitive that runs them. */
#include "backend/cuda/lib/cudnn_opgraph.h"
#include "base/arith.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef cudnnBackendDescriptor_t descriptor;

/* More kinds of knobs than any cuDNN 9 has: 44 in 9.19.  The library may be newer than these headers. */
enum { KNOB_TYPES = 64 };
_Static_assert(KNOB_TYPES >= (int)CUDNN_KNOB_TYPE_COUNTS, "cuDNN has more kinds of knobs");

/* An engine configuration (engine and knobs) that the heuristics propose, and the execution plan created from it. */
typedef struct cudnn_engine {
    descriptor config, engine; /* engine NULL: not created yet */
    char name[PRIMITIVE_NAME];
    bool compiled; /* at run time */
    size_t workspace;
} cudnn_engine;

typedef struct cudnn_primitive {
    primitive base;
    cudnn_context *context; /* borrowed */
    cudnn_opgraph graph;    /* must outlive its engines */
    descriptor operations;  /* owned by graph */
    cudnn_engine *engine;   /* [n] */
    int n, capacity;
    int n_binding;
    cudnn_binding binding[OPGRAPH_BINDINGS];
    size_t extra;
} cudnn_primitive;

static void drop_engine(cudnn_engine *p)
{
    if (p->engine) (void)cudnnBackendDestroyDescriptor(p->engine);
    if (p->config) (void)cudnnBackendDestroyDescriptor(p->config);
    p->engine = p->config = NULL;
}

static bool get(descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, void *value)
{
    int64_t one = 0;
    return !cudnnBackendGetAttribute(d, name, type, 1, &one, value) && one == 1;
}

/* Writes the knobs, ordered by number, as text: ":k2=1,k5=3"; false: the text does not fit into cap. */
static bool describe_knobs(const int64_t *value, const bool *there, char *text, size_t cap)
{
    size_t at = 0;
    for (int k = 0; k < KNOB_TYPES; k++) {
        if (!there[k]) continue;
        at += (size_t)snprintf(text + at, cap - at, "%ck%d=%lld", at ? ',' : ':', k, (long long)value[k]);
        if (at >= cap) return false; /* a truncated name would not be unique */
    }
    return true;
}

static bool read_knobs(descriptor config, int64_t *value, bool *there)
{
    int64_t got = 0;
    descriptor knob[KNOB_TYPES] = {NULL};
    bool good = true;
    for (int i = 0; good && i < KNOB_TYPES; i++)
        good = !cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knob[i]);
    good = good && !cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                             KNOB_TYPES, &got, knob);
    for (int i = 0; good && i < got; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        int64_t v = 0;
        good = get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, &type) &&
               get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, &v) && (int)type < KNOB_TYPES;
        if (good) there[type] = true, value[type] = v;
    }
    for (int i = 0; i < KNOB_TYPES; i++)
        if (knob[i]) (void)cudnnBackendDestroyDescriptor(knob[i]);
    return good;
}

static bool allowed(const cudnnBackendNumericalNote_t *note, int64_t n, const cudnn_primitive_spec *s)
{
    for (int i = 0; i < n; i++) switch ((int)note[i]) {
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION: return false; /* sums must always be in f32 */
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
            if (s->how->deterministic) return false;
            break;
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
            if (s->strict) return false;
            break;
        default: break;
        }
    return true;
}

/* Fills in p->name and p->compiled; false: the specification excludes the engine. */
static bool describe(cudnn_engine *p, const cudnn_primitive_spec *s)
{
    enum { NOTES = 32 }; /* more than there are kinds of notes */
    cudnnBackendNumericalNote_t note[NOTES];
    cudnnBackendBehaviorNote_t behavior[NOTES];
    int64_t number = -1, notes = 0, behaviors = 0, value[KNOB_TYPES];
    bool there[KNOB_TYPES] = {false};
    descriptor engine = NULL;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine)) return false;
    const bool good = get(p->config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, &engine) &&
                      get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, &number) &&
                      !cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                                NOTES, &notes, note) &&
                      !cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                                NOTES, &behaviors, behavior) &&
                      read_knobs(p->config, value, there);
    (void)cudnnBackendDestroyDescriptor(engine);
    if (!good || !allowed(note, notes, s)) return false;
    for (int i = 0; i < behaviors; i++)
        if (behavior[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) p->compiled = true;
    const int length = snprintf(p->name, sizeof p->name, "eng%lld", (long long)number);
    return describe_knobs(value, there, p->name + length, sizeof p->name - (size_t)length);
}

static int find(const cudnn_primitive *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->engine[i].name, name)) return i;
    return -1;
}

/* ---- the heuristics ----------------------------------------------------------------------------- */

/* Queries one heuristic: *config is an array of *n engine configurations, which the caller frees.  If *n is 0, `why`
 * holds the reason. */
static ddpm_status ask(const cudnn_primitive *p, cudnnBackendHeurMode_t mode, descriptor **config, int64_t *n, err *why,
                       err *e)
{
    const cudnnBackendAttributeName_t results = CUDNN_ATTR_ENGINEHEUR_RESULTS;
    const cudnnBackendAttributeType_t type = CUDNN_TYPE_BACKEND_DESCRIPTOR;
    cudnn_opgraph own = {0};
    int64_t available = 0;
    ddpm_status st = DDPM_OK;
    *config = NULL;
    *n = 0;
    const descriptor h = cudnn_make(&own, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    cudnn_set_operand(&own, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, p->operations);
    cudnn_set(&own, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    cudnn_set_operand(&own, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, p->context->device);
    cudnn_finalize(&own, h, "heuristics");
    if (cudnn_broken(&own) ||
        !cudnn_succeeds(&own, cudnnBackendGetAttribute(h, results, type, 0, &available, NULL), "heuristics"))
        goto done;
    TRY_GOTO(mem_array(config, (size_t)available, sizeof **config, "cuDNN's engines", e));
    while (*n < available &&
           cudnn_succeeds(&own, cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, *config + *n),
                          "an engine"))
        ++*n;
    if (*n > 0)
        (void)cudnn_succeeds(&own, cudnnBackendGetAttribute(h, results, type, *n, &available, *config), "heuristics");
done:
    if (cudnn_broken(&own)) *why = own.first;
    cudnn_opgraph_release(&own);
    return st;
}

/* Appends the configurations of one heuristic that the specification allows and that are not in the list yet. */
static ddpm_status propose(cudnn_primitive *p, cudnnBackendHeurMode_t mode, const cudnn_primitive_spec *s, err *why,
                           err *e)
{
    descriptor *config;
    int64_t n;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(ask(p, mode, &config, &n, why, e));
    TRY_GOTO(mem_grow(&p->engine, &p->capacity, p->n + (int)n, sizeof(cudnn_engine), "cuDNN's engines", e));
    for (int64_t i = 0; i < n; i++) {
        cudnn_engine engine = {.config = config[i]};
        if (!describe(&engine, s) || find(p, engine.name) >= 0) continue;
        p->engine[p->n++] = engine;
        config[i] = NULL;
    }
done:
    for (int64_t i = 0; i < n; i++)
        if (config[i]) (void)cudnnBackendDestroyDescriptor(config[i]);
    mem_free(config);
    return st;
}

/* false: the engine cannot be created or exceeds the workspace cap. */
static bool make_engine(const cudnn_primitive *p, cudnn_engine *engine, const cudnn_primitive_spec *s, err *why)
{
    cudnn_opgraph own = {0};
    int64_t workspace = -1;
    const descriptor d = cudnn_make(&own, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (p->context->handle)
        cudnn_set(&own, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &p->context->handle);
    cudnn_set_operand(&own, d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, p->context->device);
    cudnn_set_operand(&own, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine->config);
    cudnn_finalize(&own, d, engine->name);
    if (!cudnn_broken(&own) && (!get(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, &workspace) ||
                                workspace < 0 || (uint64_t)workspace + s->extra > s->how->workspace_cap))
        (void)err_set(&own.first, DDPM_EBACKEND, "cuDNN: %s requires %lld bytes of workspace, which are not available",
                      engine->name, (long long)workspace);
    if (cudnn_broken(&own)) {
        *why = own.first;
        cudnn_opgraph_release(&own);
        return false;
    }
    engine->engine = d;
    engine->workspace = (size_t)workspace;
    return true;
}

/* Drops all engines but engine i. */
static void keep_only(cudnn_primitive *p, int i)
{
    const cudnn_engine kept = p->engine[i];
    for (int k = 0; k < p->n; k++)
        if (k != i) drop_engine(&p->engine[k]);
    p->engine[0] = kept;
    p->n = 1;
}

/* Creates the execution plans of the proposed engines: the precompiled ones, then runtime-compiled ones.  Engines whose
 * creation fails are dropped. */
static void make_engines(cudnn_primitive *p, const cudnn_primitive_spec *s, err *why)
{
    const int cached = s->how->cached_algo ? find(p, s->how->cached_algo) : -1;
    int made = 0;
    if (cached >= 0 && make_engine(p, &p->engine[cached], s, why)) {
        keep_only(p, cached);
        return;
    }
    for (int compiled = 0; compiled < 2; compiled++)
        for (int i = made; i < p->n; i++) {
            if (p->engine[i].compiled != compiled || (compiled && made >= s->compile_below)) continue;
            if (!make_engine(p, &p->engine[i], s, why)) continue;
            const cudnn_engine engine = p->engine[i];
            memmove(&p->engine[made + 1], &p->engine[made], (size_t)(i - made) * sizeof engine);
            p->engine[made++] = engine;
        }
    while (p->n > made) drop_engine(&p->engine[--p->n]);
}

/* ---- the primitive ------------------------------------------------------------------------------ */

static int count(const primitive *p) { return ((const cudnn_primitive *)p)->n; }

static void name(const primitive *p, int i, char text[PRIMITIVE_NAME])
{
    memcpy(text, ((const cudnn_primitive *)p)->engine[i].name, PRIMITIVE_NAME);
}

/* Offset of the extra memory: behind the engine's workspace, aligned as every piece of workspace is. */
static size_t extra_at(const cudnn_primitive *p, int i) { return round_up_size(p->engine[i].workspace, 256); }

static size_t workspace(const primitive *base, int i)
{
    const cudnn_primitive *p = (const cudnn_primitive *)base;
    return p->extra ? extra_at(p, i) + p->extra : p->engine[i].workspace;
}

static ddpm_status keep(primitive *p, int i, err *e)
{
    keep_only((cudnn_primitive *)p, i);
    return DDPM_OK;
}

static ddpm_status run(primitive *base, int i, void *const operands[PRIMITIVE_OPERANDS], void *work, void *stream,
                       err *e)
{
    cudnn_primitive *p = (cudnn_primitive *)base;
    cudnn_opgraph own = {0};
    int64_t id[OPGRAPH_BINDINGS];
    void *at[OPGRAPH_BINDINGS];
    if (!p->context->handle) return err_set(e, DDPM_EBACKEND, "%s: the cuDNN context has no device", base->key);
    for (int b = 0; b < p->n_binding; b++) {
        cudnn_binding *k = &p->binding[b];
        char *from = k->operand == BIND_EXTRA ? (char *)work + extra_at(p, i)
                     : k->operand >= 0        ? operands[k->operand]
                                              : NULL;
        id[b] = k->uid;
        at[b] = k->operand == BIND_VALUE ? (void *)&k->value : from + k->offset;
    }
    /* A pack cannot be changed once it is finalized, so each run creates one; replaying a CUDA graph needs none. */
    const descriptor pack = cudnn_make(&own, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    cudnn_set(&own, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, p->n_binding, id);
    cudnn_set(&own, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, p->n_binding, at);
    cudnn_set(&own, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &work);
    cudnn_finalize(&own, pack, "operands");
    if (!cudnn_broken(&own) && cudnn_succeeds(&own, cudnnSetStream(p->context->handle, stream), base->key))
        (void)cudnn_succeeds(&own, cudnnBackendExecute(p->context->handle, p->engine[i].engine, pack), base->key);
    cudnn_opgraph_release(&own);
    return cudnn_broken(&own) ? err_set(e, own.first.status, "%s", own.first.text) : DDPM_OK;
}

static void destroy(primitive *base)
{
    cudnn_primitive *p = (cudnn_primitive *)base;
    while (p->n > 0) drop_engine(&p->engine[--p->n]);
    free(p->engine);
    cudnn_opgraph_release(&p->graph);
    mem_free(p);
}

bool cudnn_engine_compiled(const primitive *p, int i) { return ((const cudnn_primitive *)p)->engine[i].compiled; }

static const primitive_table table = {count, name, workspace, keep, run, destroy};

/* Finalizes the operations of g as one operation graph and moves g into p. */
static void take(cudnn_primitive *p, cudnn_opgraph *g)
{
    const descriptor d = cudnn_make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    cudnn_set(g, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_op, g->op);
    if (p->context->handle)
        cudnn_set(g, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &p->context->handle);
    cudnn_finalize(g, d, "operation graph");
    p->operations = d;
    p->graph = *g;
    g->n_owned = g->n_op = 0;
}

ddpm_status cudnn_opgraph_primitive(cudnn_opgraph *g, cudnn_context *c, const cudnn_primitive_spec *s, primitive **out,
                                    err *e)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK};
    cudnn_primitive *p = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY_GOTO(mem_array(&p, 1, sizeof *p, "cuDNN", e));
    p->base.fn = &table;
    p->context = c;
    p->extra = s->extra;
    p->n_binding = s->n_binding;
    memcpy(p->binding, s->binding, sizeof p->binding);
    (void)snprintf(p->base.key, sizeof p->base.key, "%s", s->key);
    take(p, g);
    if (cudnn_broken(g)) {
        st = g->unsupported ? DDPM_OK : err_set(e, g->first.status, "%s: %s", s->key, g->first.text);
        goto done;
    }
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) TRY_GOTO(propose(p, modes[m], s, &g->first, e));
    make_engines(p, s, &g->first);
    if (p->n == 0) goto done;
    *out = &p->base;
    p = NULL;
done:
    if (p) destroy(&p->base);
    return st;
}
