#include "backend/cuda/tune/tune_race.h"
#include "backend/cuda/tune/tune_check.h"
#include "base/arith.h"
#include "base/clock.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

enum {
    ALIGN = 256,         /* bytes: alignment of every operand */
    SETS = 3,            /* minimum number of sets of operands, memory permitting */
    PATTERN = 1 << 18,   /* bytes of pseudo-random data, repeated over the operands */
    BURST_US = 200,      /* one sample times as many runs as fit into this many microseconds, */
    BURST = 8,           /* but at most this many */
    SCREEN_SAMPLES = 3,  /* samples of every algo that is not pruned */
    RETIME_SAMPLES = 11, /* samples of the algos of the shortlist */
    SHORTLIST = 4,       /* largest number of algos that are timed again */
    REFERENCES = 3,      /* largest number of algos that a winner is compared with */
};
static const float SHORTLIST_RATIO = 1.25f; /* algos within this ratio of the best time are timed again */
static const float TIE_RATIO = 1.02f;       /* within this ratio of the best time the smallest workspace wins */
static const float PRUNE_RATIO = 3.0f; /* algos slower than this ratio of the best time are dropped after one run */

typedef struct race {
    const race_spec *spec;
    primitive *p;
    int algos;
    float *us;    /* [algos] time of one run; negative: failed, or already timed again */
    float *again; /* [algos] time of one run when timed again; negative: not timed again, or dropped */
    bool *runs;   /* [algos] runs without an error */
    uint16_t *pattern;
    void *from, *to;  /* events */
    char *pool;       /* `sets` sets of operands; NULL: no memory for even one */
    size_t set, sets; /* bytes of one set; number of sets */
    size_t turn;      /* counts runs: each uses the next set */
    void *workspace;
    size_t room; /* bytes of workspace */
    err why;     /* why the last failed algo failed */
} race;

/* ---- memory ------------------------------------------------------------------------------- */

/* Allocates the largest workspace, within the cap, that any algo needs and that fits into memory. */
static ddpm_status get_workspace(race *r, err *e)
{
    for (size_t limit = r->spec->workspace_cap;;) {
        r->room = 0;
        for (int i = 0; i < r->algos; i++) {
            const size_t workspace = r->p->fn->workspace(r->p, i);
            if (workspace <= limit && workspace > r->room) r->room = workspace;
        }
        if (r->room == 0) return DDPM_OK;
        const ddpm_status st = rt_alloc(r->room, &r->workspace, e);
        if (st != DDPM_ENOMEM) return st;
        limit = r->room - 1;
    }
}

/* The sets are at different addresses and together twice the size of the L2 cache, so that an algo finds no more of its
 * operands in the cache than in the network. */
static ddpm_status get_pool(race *r, err *e)
{
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++) r->set += round_up_size(r->p->bytes[i], ALIGN);
    if (r->set == 0) r->set = 256;
    r->sets = 2 * r->spec->l2 / r->set + 1;
    if (r->sets < SETS) r->sets = SETS;
    for (;; r->sets = (r->sets + 1) / 2) {
        void *pool = NULL;
        const ddpm_status st = rt_alloc(r->sets * r->set, &pool, e);
        r->pool = pool;
        if (st != DDPM_ENOMEM) return st;
        if (r->sets == 1) return DDPM_OK;
    }
}

/* Values of either sign between 2^-8 and 1, both as bf16 and as f32 (whose upper half is a bf16): zeros would be faster
 * than real data, and with infinities the speed is unknown. */
static void make_pattern(uint16_t *to, size_t n)
{
    uint64_t random = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
        const unsigned bits = (unsigned)(random >> 48);
        const unsigned sign = bits & 0x8000u, exponent = 119u + (bits >> 7 & 7u), mantissa = bits & 0x7fu;
        to[i] = (uint16_t)(sign | exponent << 7 | mantissa);
    }
}

static ddpm_status spread_pattern(race *r, const uint16_t *pattern, err *e)
{
    const size_t total = r->sets * r->set;
    size_t done = total < PATTERN ? total : PATTERN;
    TRY(rt_upload(r->pool, pattern, done, r->spec->stream, e));
    for (size_t n; done < total; done += n) {
        n = done < total - done ? done : total - done;
        TRY(rt_copy(r->pool + done, r->pool, n, r->spec->stream, e));
    }
    return DDPM_OK;
}

static ddpm_status fill_pool(race *r, err *e)
{
    TRY(mem_array(&r->pattern, PATTERN / sizeof *r->pattern, sizeof *r->pattern, "timing", e));
    make_pattern(r->pattern, PATTERN / sizeof *r->pattern);
    const ddpm_status st = spread_pattern(r, r->pattern, e);
    const ddpm_status synced = rt_sync(r->spec->stream, st == DDPM_OK ? e : NULL); /* the pattern was read */
    return st != DDPM_OK ? st : synced;
}

static ddpm_status race_allocate(race *r, err *e)
{
    TRY(mem_array(&r->us, (size_t)r->algos, sizeof *r->us, "timing", e));
    TRY(mem_array(&r->again, (size_t)r->algos, sizeof *r->again, "timing", e));
    TRY(mem_array(&r->runs, (size_t)r->algos, sizeof *r->runs, "timing", e));
    TRY(rt_event_create(true, &r->from, e));
    TRY(rt_event_create(true, &r->to, e));
    TRY(get_workspace(r, e));
    TRY(get_pool(r, e));
    return r->pool ? fill_pool(r, e) : DDPM_OK;
}

static void race_free(race *r)
{
    rt_free(r->pool);
    rt_free(r->workspace);
    rt_event_destroy(r->from);
    rt_event_destroy(r->to);
    mem_free(r->us);
    mem_free(r->again);
    mem_free(r->runs);
    mem_free(r->pattern);
}

/* ---- timing --------------------------------------------------------------------------------- */

static void operands_of_set(const race *r, size_t set, void *operands[PRIMITIVE_OPERANDS])
{
    char *at = r->pool + set * r->set;
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++) {
        operands[i] = r->p->bytes[i] ? at : NULL;
        at += round_up_size(r->p->bytes[i], ALIGN);
    }
}

static ddpm_status run_algo(race *r, int algo, int times, err *e)
{
    for (int n = 0; n < times; n++) {
        void *operands[PRIMITIVE_OPERANDS];
        operands_of_set(r, r->turn++ % r->sets, operands);
        TRY(r->p->fn->run(r->p, algo, operands, r->workspace, r->spec->stream, e));
    }
    return DDPM_OK;
}

static ddpm_status record_algo(race *r, int algo, int times, rt_graph **out, err *e)
{
    TRY(rt_graph_begin(r->spec->stream, e));
    const ddpm_status st = run_algo(r, algo, times, e);
    if (st == DDPM_OK) return rt_graph_end(r->spec->stream, out, e);
    const ddpm_status ended = rt_graph_end(r->spec->stream, NULL, NULL);
    (void)ended;
    return st;
}

static int by_size(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The median time of a run in microseconds; r->us[algo] holds a first estimate.  Timed in a graph, as the algo will be
 * run: algos differ in launch cost on the host, which must not count.  The launch before the timed one keeps the device
 * busy until the timed one is queued. */
static ddpm_status measure(race *r, int algo, int samples, float *us, err *e)
{
    ddpm_status st = DDPM_OK;
    void *const stream = r->spec->stream;
    rt_graph *graph = NULL;
    float ms[RETIME_SAMPLES];
    const float fit = r->us[algo] > 0.0f ? (float)BURST_US / r->us[algo] : (float)BURST;
    const int times = fit < 1.0f ? 1 : fit > (float)BURST ? BURST : (int)fit;
    if (!r->spec->eager) TRY(record_algo(r, algo, times, &graph, e));
    for (int i = 0; i < samples; i++) {
        TRY_GOTO(graph ? rt_graph_launch(graph, stream, e) : run_algo(r, algo, times, e));
        TRY_GOTO(rt_event_record(r->from, stream, e));
        TRY_GOTO(graph ? rt_graph_launch(graph, stream, e) : run_algo(r, algo, times, e));
        TRY_GOTO(rt_event_record(r->to, stream, e));
        TRY_GOTO(rt_event_ms(r->from, r->to, &ms[i], e));
    }
    qsort(ms, (size_t)samples, sizeof *ms, by_size);
    *us = 1000.0f * ms[samples / 2] / (float)times;
done:
    rt_graph_destroy(graph);
    return st;
}

/* After a warm-up run (code is loaded, clocks rise): a first estimate, then a better one unless the algo is pruned. */
static ddpm_status race_screen(race *r, int algo, float best, err *e)
{
    const float host_us = 50.0f; /* the most that launch overhead may add to the first estimate */
    float ms;
    TRY(run_algo(r, algo, 1, e));
    TRY(rt_event_record(r->from, r->spec->stream, e));
    TRY(run_algo(r, algo, 1, e));
    TRY(rt_event_record(r->to, r->spec->stream, e));
    TRY(rt_event_ms(r->from, r->to, &ms, e));
    r->us[algo] = 1000.0f * ms;
    if (r->us[algo] > PRUNE_RATIO * best + host_us) return DDPM_OK;
    return measure(r, algo, SCREEN_SAMPLES, &r->us[algo], e);
}

/* Excludes an algo that failed.  After a device failure all later algos fail too, so r->why is its error. */
static void race_drop(race *r, int algo)
{
    r->us[algo] = r->again[algo] = -1.0f;
    r->runs[algo] = false;
    const ddpm_status cleared = rt_launched(DDPM_OK, NULL); /* the next algo must not see this algo's launch error */
    (void)cleared;
}

static void race_screen_all(race *r)
{
    float best = INFINITY;
    for (int i = 0; i < r->algos; i++) {
        const size_t workspace = r->p->fn->workspace(r->p, i);
        r->us[i] = r->again[i] = -1.0f;
        if (workspace > r->room)
            err_set(&r->why, DDPM_ENOMEM, "the workspace of %zu bytes exceeds the %zu bytes available", workspace,
                    r->room);
        else if (race_screen(r, i, best, &r->why) != DDPM_OK)
            race_drop(r, i);
        else {
            r->runs[i] = true;
            if (r->us[i] < best) best = r->us[i];
        }
    }
}

static int fastest(const float *us, int n)
{
    int best = -1;
    for (int i = 0; i < n; i++)
        if (us[i] >= 0.0f && (best < 0 || us[i] < us[best])) best = i;
    return best;
}

/* Times the shortlist again: the fastest algos, and others until one can run. */
static void race_retime_best(race *r)
{
    int i = fastest(r->us, r->algos);
    bool any = false;
    const float limit = i < 0 ? 0.0f : SHORTLIST_RATIO * r->us[i];
    for (int seen = 0; i >= 0 && (!any || (seen < SHORTLIST && r->us[i] <= limit)); seen++) {
        float t;
        if (measure(r, i, RETIME_SAMPLES, &t, &r->why) != DDPM_OK) {
            race_drop(r, i);
        } else {
            r->again[i] = t;
            any = true;
        }
        r->us[i] = -1.0f; /* already timed again */
        i = fastest(r->us, r->algos);
    }
}

/* The algo with the smallest workspace of those that are as fast as the fastest; -1: none is left. */
static int race_best(const race *r)
{
    int best = fastest(r->again, r->algos);
    const float limit = best < 0 ? 0.0f : TIE_RATIO * r->again[best];
    for (int i = 0; i < r->algos; i++)
        if (r->again[i] >= 0.0f && r->again[i] <= limit &&
            r->p->fn->workspace(r->p, i) < r->p->fn->workspace(r->p, best))
            best = i;
    return best;
}

/* ---- results ---------------------------------------------------------------------------------- */

typedef enum verdict { SAME, DIFFERENT, UNKNOWN } verdict;

/* Compares the results of two algos.  UNKNOWN: one of them cannot run now, or memory is short. */
static verdict compare(race *r, int algo, int other, float *difference)
{
    check_spec s = {.p = r->p,
                    .stream = r->spec->stream,
                    .workspace = r->workspace,
                    .pattern = r->pattern,
                    .pattern_bytes = PATTERN};
    operands_of_set(r, 0, s.operand);
    if (tune_check(&s, algo, other, difference, &r->why) == DDPM_OK)
        return *difference <= tune_check_bound(r->p) ? SAME : DIFFERENT;
    const ddpm_status cleared = rt_launched(DDPM_OK, NULL);
    (void)cleared;
    return UNKNOWN;
}

/* True if the algo's results differ from those of others that agree among themselves.  Of two algos that differ, the
 * library's first choice counts as right. */
static bool is_wrong(race *r, int algo, float *difference)
{
    int others[REFERENCES], n = 0;
    for (int i = 0; i < r->algos && n < REFERENCES; i++) {
        float unused;
        if (i == algo || !r->runs[i]) continue;
        const verdict here = compare(r, algo, i, difference);
        if (here == SAME) return false;
        if (here == UNKNOWN) continue;
        for (int k = 0; k < n; k++)
            if (compare(r, others[k], i, &unused) == SAME) return true;
        others[n++] = i;
    }
    return n > 0 && others[0] < algo;
}

static int race_winner(race *r, float *us, err *wrong)
{
    char name[PRIMITIVE_NAME];
    float difference = 0;
    for (;;) {
        const int best = race_best(r);
        if (best < 0 || !is_wrong(r, best, &difference)) {
            if (best >= 0) *us = r->again[best];
            return best;
        }
        r->p->fn->name(r->p, best, name);
        err before = *wrong;
        err_set(wrong, DDPM_EBACKEND,
                "%s%salgo %s is not used: its results differ from the other algos' by %.2g of the "
                "largest value",
                before.text, before.text[0] ? "; " : "", name, (double)difference);
        race_drop(r, best);
        if (race_best(r) < 0) race_retime_best(r);
    }
}

/* Keeps the device busy: on an idle device clocks are low, and the first algos would seem slow. */
static ddpm_status warm_up(race *r, err *e)
{
    const double begin = clock_seconds();
    while (clock_seconds() - begin < r->spec->warm_seconds) {
        if (r->sets > 1) TRY(rt_copy(r->pool + r->set, r->pool, r->set, r->spec->stream, e));
        TRY(rt_sync(r->spec->stream, e));
    }
    return DDPM_OK;
}

ddpm_status tune_race(const race_spec *spec, primitive *p, int *algo, float *us, err *wrong, err *e)
{
    race r = {.spec = spec, .p = p, .algos = p->fn->count(p)};
    *algo = 0;
    *us = -1.0f;
    wrong->text[0] = '\0';
    ddpm_status st = race_allocate(&r, e);
    if (st == DDPM_OK && r.pool) st = warm_up(&r, e);
    if (st == DDPM_OK && r.pool) {
        race_screen_all(&r);
        race_retime_best(&r);
        *algo = race_winner(&r, us, wrong);
        if (*algo < 0)
            st = err_set(e, DDPM_EBACKEND, "none of %d algo%s can run: %s", r.algos, r.algos == 1 ? "" : "s",
                         r.why.text);
    }
    race_free(&r);
    return st;
}
