#include "backend/cpu/conv/cpu_conv_autotune.h"
#include "base/arith.h"
#include "backend/autotune_cache.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/process.h"

#include <stdlib.h>
#include <string.h>

/* Timed runs of each algorithm.  If direct wins, it is timed 6 times: one lucky sample must not decide. */
enum { ROUNDS = 2, CONFIRM_ROUNDS = 6 };
enum { TEXT = 80, MACHINE = 240 };

/* Direct is chosen if its time is below this fraction of Winograd's, so that noise does not decide. */
static const double DIRECT_WIN_RATIO = 0.9;
/* Winograd is chosen at once if in the warm-up run its time is below this fraction of the direct time.  That is the
 * case for most large convolutions, whose timing would take longest. */
static const double EARLY_STOP_RATIO = 0.65;

typedef struct choice {
    char problem[TEXT];
    bool winograd;
    float us[2]; /* direct, Winograd; 0: not timed in this run */
} choice;

struct conv_autotune {
    conv_algo how;
    autotune_cache *cache; /* NULL: nothing is timed */
    choice *list;
    int n, cap;
    void *block; /* operands for timing; freed before the first computation */
    size_t room;
};

ddpm_status conv_autotune_create(const backend_spec *spec, int threads, conv_autotune **out, err *e)
{
    char machine[MACHINE], processor[MACHINE / 2], library[80];
    ddpm_status st = DDPM_OK;
    conv_autotune *c = NULL;
    *out = NULL;
    TRY(mem_array(&c, 1, sizeof *c, "autotune", e));
    c->how = spec->conv;
    onednn_describe(library, sizeof library);
    machine_processor(processor, sizeof processor);
    (void)snprintf(machine, sizeof machine, "%s, %s, %d threads", processor, library, threads);
    const autotune_cache_spec files = {.file = spec->autotune_cache,
                                       .shared = spec->shared_autotune_cache,
                                       .machine = machine,
                                       .search = "Winograd or direct 4"};
    if (c->how == CONV_ALGO_AUTO) TRY_GOTO(autotune_cache_create(&files, &c->cache, e));
    *out = c;
    c = NULL;
done:
    conv_autotune_destroy(c);
    return st;
}

static void release_block(conv_autotune *c)
{
    mem_free(c->block);
    c->block = NULL;
    c->room = 0;
}

void conv_autotune_destroy(conv_autotune *c)
{
    if (!c) return;
    autotune_cache_destroy(c->cache);
    release_block(c);
    free(c->list);
    mem_free(c);
}

void conv_autotune_save(conv_autotune *c)
{
    release_block(c);
    if (c->cache) autotune_cache_save(c->cache);
}

const char *conv_autotune_warning(const conv_autotune *c) { return c->cache ? autotune_cache_warning(c->cache) : ""; }

/* ---- timing ---- */

typedef struct timed_pair {
    onednn_conv *direct;
    const winograd_spec *winograd;
    size_t scratch; /* bytes of workspace, enough for both */
    onednn_conv_args direct_args;
    winograd_args winograd_args;
} timed_pair;

static winograd_image image_at(float *data, int64_t hw, int64_t c, bool blocked)
{
    const tensor t = {.h = hw, .w = 1, .c = c, .layout = blocked ? LAYOUT_BLOCKED : LAYOUT_NHWC, .data = data};
    return winograd_image_of(&t);
}

/* Allocates the operands, all zero; the memory is reused for later pairs, so its pages are touched only once.  For
 * upconv the direct convolution maps the large image to the small one (cpu_upconv.c), so its src and dst are
 * exchanged. */
static ddpm_status make_operands(conv_autotune *c, const conv_candidates *ways, timed_pair *k, err *e)
{
    enum { SRC, DST, FILTER, BIAS, SCRATCH, PARTS };
    const conv_shape *s = &ways->direct.shape, *w = &ways->winograd.shape;
    const bool enlarged = ways->winograd.enlarged, blocked = ways->direct.blocked;
    const int64_t floats[PARTS] = {[SRC] = conv_x_count(s),
                                   [DST] = conv_y_count(s),
                                   [FILTER] = conv_w_count(s),
                                   [BIAS] = s->cout + w->cout,
                                   [SCRATCH] = (int64_t)(k->scratch / sizeof(float))};
    float *at[PARTS];
    size_t offset[PARTS], end = 0;
    for (int i = 0; i < PARTS; i++) {
        offset[i] = end;
        end += round_up_size((size_t)floats[i] * sizeof(float), MEM_ALIGN);
    }
    if (end > c->room) {
        release_block(c);
        TRY(mem_pages(&c->block, end, "images to time with", e));
        c->room = end;
    }
    memset(c->block, 0, offset[SCRATCH]);
    for (int i = 0; i < PARTS; i++) at[i] = (float *)(void *)((char *)c->block + offset[i]);
    k->direct_args =
        (onednn_conv_args){.src = at[SRC],
                           .dst = at[DST],
                           .filter = at[FILTER],
                           .bias = at[BIAS],
                           .scratch = at[SCRATCH],
                           .version = 1}; /* a frozen filter is packed in the first run only, as in real use */
    const int64_t pixels = w->h * w->w, less = enlarged ? 4 : 1;
    k->winograd_args = (winograd_args){.src = image_at(at[enlarged ? DST : SRC], pixels / less, w->cin, blocked),
                                       .dst = image_at(at[enlarged ? SRC : DST], pixels, w->cout, blocked),
                                       .filter = at[FILTER],
                                       .bias = w->pass == CONV_PASS_BACKWARD_DATA ? NULL : at[BIAS],
                                       .scratch = at[SCRATCH]};
    return DDPM_OK;
}

static bool direct_wins(const float us[2]) { return (double)us[0] < DIRECT_WIN_RATIO * (double)us[1]; }

/* The minimum of a few alternating runs, after one warm-up run each.  Other work on the machine can only make a run
 * slower, and a wrong choice would stay in the cache. */
static ddpm_status contest_run(const timed_pair *k, float us[2], err *e)
{
    for (int round = 0; round <= (direct_wins(us) ? CONFIRM_ROUNDS : ROUNDS); round++) {
        for (int i = 1; i >= 0; i--) { /* Winograd first, with cold caches */
            const double from = clock_seconds();
            if (i == 1)
                winograd_run(k->winograd, &k->winograd_args);
            else
                TRY(onednn_conv_run(k->direct, &k->direct_args, e));
            const float took = (float)(1e6 * (clock_seconds() - from));
            if (round <= 1 || took < us[i]) us[i] = took;
        }
        if (round == 0 && (double)us[1] < EARLY_STOP_RATIO * (double)us[0]) break;
    }
    return DDPM_OK;
}

/* Tiles beyond which the time per image no longer depends on the size of the batch. */
enum { ENOUGH_TILES = 512 };

static conv_candidates with_fewer_images(const conv_candidates *ways)
{
    conv_candidates some = *ways;
    const conv_shape *s = &ways->winograd.shape;
    const int64_t tiles = (s->h + 3) / 4 * ((s->w + 3) / 4), enough = ceil_div(ENOUGH_TILES, tiles);
    if (enough < s->n) some.direct.shape.n = some.winograd.shape.n = enough;
    return some;
}

static ddpm_status time_both(conv_autotune *c, onednn *d, const conv_candidates *ways, choice *to, err *e)
{
    const conv_candidates some = with_fewer_images(ways);
    timed_pair k = {.winograd = &some.winograd};
    ddpm_status st = onednn_conv_create(d, &some.direct, &k.direct, &k.scratch, e);
    if (k.scratch < winograd_scratch(k.winograd)) k.scratch = winograd_scratch(k.winograd);
    if (st == DDPM_OK) st = make_operands(c, &some, &k, e);
    if (st == DDPM_OK) st = contest_run(&k, to->us, e);
    onednn_conv_destroy(k.direct);
    to->winograd = !direct_wins(to->us);
    return st;
}

/* ---- table of choices ---- */

/* In sampling (frozen filters) the text has no batch size: an image must not depend on the size of its batch. */
static void problem_text(const conv_candidates *ways, char text[TEXT])
{
    static const char *const passes[] = {"forward", "backward data", "backward weights"};
    const conv_shape *s = &ways->winograd.shape;
    char images[24] = "n";
    if (!ways->direct.frozen) (void)snprintf(images, sizeof images, "%lld", (long long)s->n);
    (void)snprintf(text, TEXT, "%s%s %sx%lldx%lld, %lld > %lld%s", ways->winograd.enlarged ? "enlarged " : "",
                   passes[s->pass], images, (long long)s->h, (long long)s->w, (long long)s->cin, (long long)s->cout,
                   ways->direct.blocked ? "" : " NHWC");
}

static ddpm_status decide(conv_autotune *c, onednn *d, const conv_candidates *ways, choice *to, err *e)
{
    const char *known = autotune_cache_find(c->cache, to->problem);
    if (known) {
        to->winograd = strcmp(known, "direct") != 0;
        return DDPM_OK;
    }
    TRY(time_both(c, d, ways, to, e));
    const char *name = to->winograd ? "winograd" : "direct";
    return autotune_cache_put(c->cache, to->problem, name, to->us[to->winograd], e);
}

ddpm_status conv_autotune_choose(conv_autotune *c, onednn *d, const conv_candidates *ways, bool *winograd, err *e)
{
    choice new = {.winograd = c->how == CONV_ALGO_WINOGRAD};
    *winograd = new.winograd;
    if (c->how != CONV_ALGO_AUTO) return DDPM_OK;
    problem_text(ways, new.problem);
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->list[i].problem, new.problem)) {
            *winograd = c->list[i].winograd;
            return DDPM_OK;
        }
    TRY(mem_grow(&c->list, &c->cap, c->n + 1, sizeof *c->list, "autotune", e));
    TRY(decide(c, d, ways, &new, e));
    c->list[c->n++] = new;
    *winograd = new.winograd;
    return DDPM_OK;
}

void conv_autotune_report(const conv_autotune *c, FILE *to)
{
    if (c->n > 0) fprintf(to, "3x3 convolution\tchosen\tus Winograd\tus direct\n");
    for (int i = 0; i < c->n; i++)
        fprintf(to, "%s\t%s\t%.1f\t%.1f\n", c->list[i].problem, c->list[i].winograd ? "winograd" : "direct",
                (double)c->list[i].us[1], (double)c->list[i].us[0]);
}
