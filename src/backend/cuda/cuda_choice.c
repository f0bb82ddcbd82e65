#include "backend/cuda/cuda_choice.h"
#include "backend/cuda/plan_race.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* The cache file: this line, then one a problem, `key <tab> problem <tab> plan <tab> microseconds`. */
static const char HEADER[] = "ddpm plans 1";
static const double SAVE_SECONDS = 3.0; /* at most so often, and at the end */
enum { KEY = 17, FIELDS = 4, FILE_CAP = 64 << 20 };

typedef struct kept {
    char *problem, *plan; /* plan: NULL where the maker has none */
    primitive *p;
    float us; /* 0: not timed */
    int tried;
    bool fresh; /* chosen here, so it goes to the file */
} kept;

typedef struct cached {
    const char *problem, *plan; /* within choices.text */
} cached;

struct choices {
    choices_spec spec;
    char *file, *machine; /* file: NULL when there is none, or no use for it any more */
    char key[KEY];        /* of the machine and the search */
    char remark[600];
    kept *kept;
    int n_kept, cap_kept;
    char *text; /* the file as it was read */
    cached *cached;
    int n_cached, cap_cached;
    bool unsaved;
    double saved; /* when, by the monotonic clock */
};

/* ---- the cache file --------------------------------------------------------------------------- */

/* The first remark stays: one line is read, and the first trouble is the cause of the next. */
static void remark(choices *c, const char *text)
{
    if (!c->remark[0]) (void)snprintf(c->remark, sizeof c->remark, "%s", text);
}

static void give_up_file(choices *c, const char *why)
{
    remark(c, why);
    free(c->file);
    c->file = NULL;
}

static bool is_number(const char *text)
{
    char *end;
    const float x = strtof(text, &end);
    return end != text && *end == '\0' && isfinite(x) && x >= 0.0f;
}

/* Cut the line of `size` bytes at its tabs; false where it is no line of ours. */
static bool cut_fields(char *line, size_t size, char *field[FIELDS])
{
    if (memchr(line, '\0', size)) return false;
    for (int i = 0; i < FIELDS; i++) {
        field[i] = line;
        line += strcspn(line, "\t");
        if (line == field[i] || (*line == '\t') != (i < FIELDS - 1)) return false;
        *line++ = '\0';
    }
    return strspn(field[0], "0123456789abcdef") == KEY - 1 && strlen(field[0]) == KEY - 1 && is_number(field[3]);
}

/* The next line of the text that ends at `end`, with a final 0 in place of its newline. */
static bool next_line(char **at, char *end, char **line, size_t *size)
{
    if (*at >= end) return false;
    char *stop = memchr(*at, '\n', (size_t)(end - *at));
    if (!stop) stop = end; /* file_read() put a 0 there */
    *stop = '\0';
    *line = *at;
    *size = (size_t)(stop - *at);
    *at = stop + 1;
    return true;
}

/* The file's text and where its lines begin; *text is NULL where there is nothing to read.  Whatever is
 * wrong ends the use of the file. */
static void read_cache(choices *c, char **text, char **at, char **end)
{
    err why = {0};
    size_t size = 0, n;
    char *line;
    *text = *at = *end = NULL;
    if (!c->file || !path_exists(c->file)) return;
    if (file_read(c->file, FILE_CAP, text, &size, &why) != DDPM_OK) {
        give_up_file(c, why.text);
        return;
    }
    *at = *text;
    *end = *text + size;
    if (next_line(at, *end, &line, &n) && strcmp(line, HEADER) != 0) {
        err_set(&why, DDPM_EDATA, "%s: no cache of plans of this version; it is left as it is", c->file);
        give_up_file(c, why.text);
        mem_free(*text);
        *text = *at = *end = NULL;
    }
}

static ddpm_status load(choices *c, err *e)
{
    char *at, *end, *line, *field[FIELDS];
    size_t size;
    int damaged = 0;
    read_cache(c, &c->text, &at, &end);
    while (next_line(&at, end, &line, &size)) {
        if (line[0] == '#') continue;
        if (!cut_fields(line, size, field)) {
            damaged++;
            continue;
        }
        if (strcmp(field[0], c->key) != 0) continue;
        TRY(mem_grow(&c->cached, &c->cap_cached, c->n_cached + 1, sizeof *c->cached, "plan cache", e));
        c->cached[c->n_cached++] = (cached){field[1], field[2]};
    }
    if (damaged) {
        err why;
        err_set(&why, DDPM_EDATA, "%s: %d damaged line%s left out", c->file, damaged, damaged > 1 ? "s" : "");
        remark(c, why.text);
    }
    return DDPM_OK;
}

static kept *find_kept(const choices *c, const char *problem)
{
    for (int i = 0; i < c->n_kept; i++)
        if (!strcmp(c->kept[i].problem, problem)) return &c->kept[i];
    return NULL;
}

static const char *find_cached(const choices *c, const char *problem)
{
    for (int i = c->n_cached - 1; i >= 0; i--) /* the last line of a problem holds */
        if (!strcmp(c->cached[i].problem, problem)) return c->cached[i].plan;
    return NULL;
}

/* What the file holds by now, others may have written to it, with our choices in place of older ones. */
static void print_cache(choices *c, FILE *to)
{
    char *text, *at, *end, *line, *field[FIELDS];
    size_t size;
    read_cache(c, &text, &at, &end);
    fprintf(to, "%s\n", HEADER);
    while (next_line(&at, end, &line, &size)) {
        if (line[0] == '#' && !memchr(line, '\0', size)) fprintf(to, "%s\n", line);
        if (line[0] == '#' || !cut_fields(line, size, field)) continue;
        const kept *k = strcmp(field[0], c->key) ? NULL : find_kept(c, field[1]);
        if (!k || !k->fresh) fprintf(to, "%s\t%s\t%s\t%s\n", field[0], field[1], field[2], field[3]);
    }
    mem_free(text);
    for (int i = 0; i < c->n_kept; i++)
        if (c->kept[i].fresh)
            fprintf(to, "%s\t%s\t%s\t%.3f\n", c->key, c->kept[i].problem, c->kept[i].plan, (double)c->kept[i].us);
}

static ddpm_status make_folder_of(const char *path, err *e)
{
    char folder[PATH_CAP];
    if (strlen(path) >= sizeof folder - sizeof ".tmp") return err_set(e, DDPM_EIO, "%.80s...: path too long", path);
    strcpy(folder, path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder) return DDPM_OK;
    *slash = '\0';
    return dir_make(folder, e);
}

static void save(choices *c)
{
    err why = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    bool printed = to != NULL;
    if (to) {
        print_cache(c, to);
        printed = !ferror(to);
        if (fclose(to)) printed = false;
    }
    c->unsaved = false;
    c->saved = clock_seconds();
    if (c->file) { /* print_cache() may have found it to be something else by now */
        ddpm_status st = make_folder_of(c->file, &why);
        if (st == DDPM_OK && !printed) st = err_set(&why, DDPM_ENOMEM, "%s: out of memory for its text", c->file);
        if (st == DDPM_OK) st = file_replace(c->file, text, size, &why);
        if (st != DDPM_OK) give_up_file(c, why.text);
    }
    free(text);
}

/* ---- the table -------------------------------------------------------------------------------- */

ddpm_status choices_create(const choices_spec *spec, choices **out, err *e)
{
    ddpm_status st = DDPM_OK;
    choices *c = NULL;
    char search[80];
    *out = NULL;
    TRY(mem_array(&c, 1, sizeof *c, "choices", e));
    c->spec = *spec;
    c->saved = -SAVE_SECONDS;
    if (spec->file && spec->file[0] && !spec->untimed) TRY_GOTO(mem_text(&c->file, spec->file, e));
    const int n = snprintf(search, sizeof search, "deterministic=%d workspace=%zu eager=%d", spec->deterministic,
                           spec->workspace_cap, spec->eager);
    const uint64_t seed = XXH3_64bits(search, (size_t)n);
    (void)snprintf(c->key, sizeof c->key, "%016" PRIx64,
                   (uint64_t)XXH3_64bits_withSeed(spec->machine, strlen(spec->machine), seed));
    c->spec.file = c->spec.machine = NULL; /* borrowed for this call only */
    TRY_GOTO(load(c, e));
    *out = c;
done:
    if (st != DDPM_OK) choices_destroy(c);
    return st;
}

void choices_destroy(choices *c)
{
    if (!c) return;
    if (c->file && c->unsaved) save(c);
    for (int i = 0; i < c->n_kept; i++) {
        free(c->kept[i].problem);
        free(c->kept[i].plan);
        primitive_destroy(c->kept[i].p);
    }
    free(c->kept);
    free(c->cached);
    free(c->file);
    mem_free(c->text);
    mem_free(c);
}

const char *choices_remark(const choices *c) { return c->remark; }

static int plan_of_name(const primitive *p, const char *wanted)
{
    char name[PRIMITIVE_NAME];
    for (int i = 0; wanted && i < p->fn->count(p); i++) {
        p->fn->name(p, i, name);
        if (!strcmp(name, wanted)) return i;
    }
    return -1;
}

/* Time the plans; *plan is the one to keep. */
static ddpm_status time_plans(choices *c, kept *k, int *plan, err *e)
{
    const race_spec how = {c->spec.stream, c->spec.l2, c->spec.workspace_cap, c->spec.eager};
    TRY(plan_race(&how, k->p, plan, &k->us, e));
    if (k->us >= 0.0f) {
        k->tried = k->p->fn->count(k->p);
        k->fresh = true;
        return DDPM_OK;
    }
    err why;
    k->us = 0.0f;
    err_set(&why, DDPM_ENOMEM, "%s: no memory to time its plans, the first is taken", k->problem);
    remark(c, why.text);
    return DDPM_OK;
}

/* Make the primitive and settle its plan.  k owns what is made, whatever happens. */
static ddpm_status settle(choices *c, kept *k, choice_maker *make, void *context, const void *q, err *e)
{
    char name[PRIMITIVE_NAME];
    const primitive_search how = {c->spec.deterministic, c->spec.workspace_cap, find_cached(c, k->problem)};
    TRY(make(context, q, &how, &k->p, e));
    if (!k->p) return DDPM_OK;
    int plan = c->spec.untimed ? 0 : plan_of_name(k->p, how.wanted);
    if (plan < 0) TRY(time_plans(c, k, &plan, e));
    k->p->fn->name(k->p, plan, name);
    TRY(mem_text(&k->plan, name, e));
    return k->p->fn->keep(k->p, plan, e);
}

ddpm_status choices_get(choices *c, const char *problem, choice_maker *make, void *context, const void *q,
                        primitive **out, err *e)
{
    ddpm_status st = DDPM_OK;
    kept new = {0};
    err why = {0};
    assert(problem[0] && !strpbrk(problem, "\t\n"));
    const kept *known = find_kept(c, problem);
    *out = known ? known->p : NULL;
    if (known) return DDPM_OK;
    TRY_GOTO(mem_grow(&c->kept, &c->cap_kept, c->n_kept + 1, sizeof *c->kept, "choices", &why));
    TRY_GOTO(mem_text(&new.problem, problem, &why));
    TRY_GOTO(settle(c, &new, make, context, q, &why));
    c->kept[c->n_kept++] = new;
    *out = new.p;
    if (new.fresh) c->unsaved = true;
    if (c->file && c->unsaved && clock_seconds() - c->saved >= SAVE_SECONDS) save(c);
done:
    if (st != DDPM_OK) {
        free(new.problem);
        free(new.plan);
        primitive_destroy(new.p);
        err_set(e, st, "%s: %s", problem, why.text);
    }
    return st;
}

size_t choices_workspace(const primitive *p) { return p->fn->workspace(p, 0); }

void choices_dump(const choices *c, FILE *to)
{
    for (int i = 0; i < c->n_kept; i++) {
        const kept *k = &c->kept[i];
        fprintf(to, "%s\t%s\t%.2f\t%d\n", k->problem, k->plan ? k->plan : "none", (double)k->us, k->tried);
    }
}
