#include "backend/cpu/cpu_choice.h"
#include "backend/plan_cache.h"
#include "core/clock.h"
#include "core/mem.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Timed runs of each; and where the direct kernel won, of which one may be too lucky. */
enum { ROUNDS = 3, SURE_ROUNDS = 9 };
enum { TEXT = 80, MACHINE = 240 };

/* Operations of one timed run: of a large batch only some images are timed. */
static const double MOST_FLOPS = 4e8;
/* The direct kernel is taken where it needs less than this part of Winograd's time, so that noise decides nothing. */
static const double CLEARLY = 0.9;

typedef struct choice {
    char problem[TEXT];
    bool winograd;
    float us[2]; /* direct, Winograd; 0: not timed here */
} choice;

struct cpu_choices {
    conv_kind how;
    plan_cache *own, *shared; /* the run's, and the user's; NULL: none */
    choice *list;
    int n, cap;
};

/* "AMD EPYC 9R14" */
static void processor_name(char name[MACHINE / 2])
{
    char line[MACHINE];
    FILE *from = fopen("/proc/cpuinfo", "re");
    (void)snprintf(name, MACHINE / 2, "unknown");
    while (from && fgets(line, sizeof line, from)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        (void)snprintf(name, MACHINE / 2, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (from) (void)fclose(from);
}

ddpm_status cpu_choices_create(const backend_spec *spec, int threads, cpu_choices **out, err *e)
{
    char machine[MACHINE], processor[MACHINE / 2], library[80];
    ddpm_status st = DDPM_OK;
    cpu_choices *c = NULL;
    *out = NULL;
    TRY(mem_array(&c, 1, sizeof *c, "choices", e));
    c->how = dnn_has_blocked_kernels() ? spec->conv : CONV_DIRECT;
    dnn_describe(library, sizeof library);
    processor_name(processor);
    (void)snprintf(machine, sizeof machine, "%s, %s, %d threads", processor, library, threads);
    plan_cache_spec files = {.file = spec->plan_cache, .machine = machine, .search = "Winograd or direct 1"};
    if (c->how == CONV_AUTO) {
        TRY_GOTO(plan_cache_create(&files, &c->own, e));
        files.file = spec->shared_plan_cache;
        TRY_GOTO(plan_cache_create(&files, &c->shared, e));
    }
    *out = c;
    c = NULL;
done:
    cpu_choices_destroy(c);
    return st;
}

void cpu_choices_destroy(cpu_choices *c)
{
    if (!c) return;
    plan_cache_destroy(c->own);
    plan_cache_destroy(c->shared);
    free(c->list);
    mem_free(c);
}

void cpu_choices_save(cpu_choices *c)
{
    if (!c->own) return;
    plan_cache_save(c->own);
    plan_cache_save(c->shared);
}

const char *cpu_choices_remark(const cpu_choices *c)
{
    if (!c->own) return "";
    return plan_cache_trouble(c->own)[0] ? plan_cache_trouble(c->own) : plan_cache_trouble(c->shared);
}

/* ---- timing ---- */

/* The convolution alone, of fewer images. */
static dnn_conv_spec timed_spec(const dnn_conv_spec *spec, bool winograd)
{
    dnn_conv_spec s = *spec;
    const double image = 2.0 * 9 * (double)(s.oh * s.ow) * (double)s.cin * (double)s.cout;
    const int64_t most = image < MOST_FLOPS ? (int64_t)(MOST_FLOPS / image) : 1;
    if (s.n > most) s.n = most;
    s.winograd = winograd;
    s.sum = s.add = s.add_bias = false;
    return s;
}

typedef struct contest {
    dnn_conv *conv[2];
    float *src, *dst, *filter, *bias, *scratch;
} contest;

static void contest_destroy(contest *k)
{
    for (int i = 0; i < 2; i++) dnn_conv_destroy(k->conv[i]);
    mem_free(k->src);
    mem_free(k->dst);
    mem_free(k->filter);
    mem_free(k->bias);
    mem_free(k->scratch);
    (void)malloc_trim(0); /* or the allocator keeps tens of MiB, beside the memory of the plan */
}

static ddpm_status contest_create(dnn *d, const dnn_conv_spec *spec, contest *k, err *e)
{
    size_t scratch = 0;
    *k = (contest){.src = NULL};
    for (int i = 0; i < 2; i++) {
        const dnn_conv_spec s = timed_spec(spec, i == 1);
        size_t bytes = 0;
        err why = {0};
        const ddpm_status st = dnn_conv_create(d, &s, &k->conv[i], &bytes, &why);
        if (st != DDPM_OK && (i == 0 || st != DDPM_EBACKEND)) return err_set(e, st, "%s", why.text);
        if (bytes > scratch) scratch = bytes;
    }
    const dnn_conv_spec s = timed_spec(spec, false);
    const int64_t ld = s.filter_ld ? s.filter_ld : s.cin;
    TRY(mem_array(&k->src, (size_t)(s.n * s.h * s.w * s.cin), sizeof(float), "images to time with", e));
    TRY(mem_array(&k->dst, (size_t)(s.n * s.oh * s.ow * s.cout), sizeof(float), "images to time with", e));
    TRY(mem_array(&k->filter, (size_t)(s.cout * 9 * ld), sizeof(float), "filter to time with", e));
    TRY(mem_array(&k->bias, (size_t)s.cout, sizeof(float), "bias to time with", e));
    return mem_array(&k->scratch, scratch, 1, "scratch to time with", e);
}

static bool direct_wins(const float us[2]) { return (double)us[0] < CLEARLY * (double)us[1]; }

/* The fastest of a few runs by turns, the first of each uncounted.  Other work on the machine can only slow one down,
 * and a wrong choice would stay. */
static ddpm_status contest_run(const contest *k, float us[2], err *e)
{
    const dnn_conv_args a = {.src = k->src, .dst = k->dst, .filter = k->filter, .bias = k->bias, .scratch = k->scratch};
    us[0] = us[1] = 0;
    for (int round = 0; round <= (direct_wins(us) ? SURE_ROUNDS : ROUNDS); round++)
        for (int i = 0; i < 2; i++) {
            if (!k->conv[i]) continue;
            const double from = clock_seconds();
            TRY(dnn_conv_run(k->conv[i], &a, e));
            const float took = (float)(1e6 * (clock_seconds() - from));
            if (round > 0 && (us[i] == 0 || took < us[i])) us[i] = took;
        }
    return DDPM_OK;
}

static ddpm_status time_both(dnn *d, const dnn_conv_spec *spec, choice *to, err *e)
{
    contest k;
    ddpm_status st = contest_create(d, spec, &k, e);
    const bool both = st == DDPM_OK && k.conv[1];
    if (both) st = contest_run(&k, to->us, e);
    contest_destroy(&k);
    to->winograd = both && !direct_wins(to->us);
    return st;
}

/* ---- the table ---- */

/* Sampling decides without looking at the batch: a picture shall not depend on it. */
static void problem_text(const dnn_conv_spec *s, char text[TEXT])
{
    static const char *const passes[] = {"forward", "backward data", "backward weights"};
    char images[24] = "n";
    if (!s->frozen) (void)snprintf(images, sizeof images, "%lld", (long long)s->n);
    (void)snprintf(text, TEXT, "%s %sx%lldx%lld, %lld > %lld", passes[s->pass], images, (long long)s->h,
                   (long long)s->w, (long long)s->cin, (long long)s->cout);
}

static ddpm_status decide(cpu_choices *c, dnn *d, const dnn_conv_spec *spec, choice *to, err *e)
{
    const char *known = plan_cache_find(c->own, to->problem);
    if (known) {
        to->winograd = strcmp(known, "direct") != 0;
        return DDPM_OK;
    }
    const char *shared = plan_cache_find(c->shared, to->problem);
    if (shared)
        to->winograd = strcmp(shared, "direct") != 0;
    else
        TRY(time_both(d, spec, to, e));
    const char *name = to->winograd ? "winograd" : "direct";
    if (!shared) TRY(plan_cache_put(c->shared, to->problem, name, to->us[to->winograd], e));
    return plan_cache_put(c->own, to->problem, name, to->us[to->winograd], e);
}

ddpm_status cpu_choose(cpu_choices *c, dnn *d, const dnn_conv_spec *spec, bool *winograd, err *e)
{
    choice new = {.winograd = c->how == CONV_WINOGRAD};
    *winograd = new.winograd;
    if (c->how != CONV_AUTO) return DDPM_OK;
    problem_text(spec, new.problem);
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->list[i].problem, new.problem)) {
            *winograd = c->list[i].winograd;
            return DDPM_OK;
        }
    TRY(mem_grow(&c->list, &c->cap, c->n + 1, sizeof *c->list, "choices", e));
    TRY(decide(c, d, spec, &new, e));
    c->list[c->n++] = new;
    *winograd = new.winograd;
    return DDPM_OK;
}

void cpu_choices_report(const cpu_choices *c, FILE *to)
{
    if (c->n > 0) fprintf(to, "3x3 convolution\tchosen\tus Winograd\tus direct\n");
    for (int i = 0; i < c->n; i++)
        fprintf(to, "%s\t%s\t%.1f\t%.1f\n", c->list[i].problem, c->list[i].winograd ? "winograd" : "direct",
                (double)c->list[i].us[1], (double)c->list[i].us[0]);
}
