#include "backend/autotune_cache.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* First line of the file; then one line per problem: `key <tab> problem <tab> algo <tab> microseconds`. */
static const char HEADER[] = "ddpm autotune 1";
static const char NAME[] = "autotune.txt";
/* of earlier versions; the format is otherwise the same */
static const char OLD_NAME[] = "plans.txt", OLD_HEADER[] = "ddpm plans 1";
/* shortest time between two saves, except at the end */
static const double SAVE_SECONDS = 3.0;
enum { KEY = 17, FIELDS = 4, FILE_CAP = 64 << 20 };

typedef struct fresh {
    char *problem, *algo;
    float us;
} fresh;

typedef struct cached {
    const char *problem, *algo; /* within autotune_cache.text */
} cached;

struct autotune_cache {
    char *file;    /* NULL if there is no file or it is no longer used */
    char key[KEY]; /* of the machine and the search */
    char remark[600];
    fresh *fresh; /* choices made since the file was read */
    int n_fresh, cap_fresh;
    char *text; /* text of the file when it was read */
    cached *cached;
    int n_cached, cap_cached;
    bool unsaved;
    double saved;           /* time of the last save, on the monotonic clock */
    autotune_cache *shared; /* the second file; NULL: none */
};

void autotune_cache_warn(autotune_cache *c, const char *text)
{
    if (!c->remark[0]) (void)snprintf(c->remark, sizeof c->remark, "%s", text);
}

static void give_up_file(autotune_cache *c, const char *why)
{
    autotune_cache_warn(c, why);
    free(c->file);
    c->file = NULL;
}

static bool is_number(const char *text)
{
    char *end;
    const float x = strtof(text, &end);
    return end != text && *end == '\0' && isfinite(x) && x >= 0.0f;
}

/* Splits a line of `size` bytes at its tabs; false if the line does not have the format. */
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

/* The next line of the text that ends at `end`; its newline is replaced by 0. */
static bool next_line(char **at, char *end, char **line, size_t *size)
{
    if (*at >= end) return false;
    char *stop = memchr(*at, '\n', (size_t)(end - *at));
    if (!stop) stop = end; /* file_read() puts a 0 there */
    *stop = '\0';
    *line = *at;
    *size = (size_t)(stop - *at);
    *at = stop + 1;
    return true;
}

/* Sets path[PATH_CAP] to the file to read; false if there is none. */
static bool find_file(const autotune_cache *c, char *path)
{
    if (!c->file) return false;
    const size_t n = strlen(c->file), name = strlen(NAME);
    if (n >= PATH_CAP) return false;
    strcpy(path, c->file);
    if (path_exists(path)) return true;
    if (n < name || strcmp(path + n - name, NAME) || (n > name && path[n - name - 1] != '/')) return false;
    strcpy(path + n - name, OLD_NAME);
    return path_exists(path);
}

/* Reads the text of the file and finds its first entry; *text is NULL if there is nothing to read.  After any error
 * the file is no longer used. */
static void read_cache(autotune_cache *c, char **text, char **at, char **end)
{
    err why = {0};
    size_t size = 0, n;
    char *line, path[PATH_CAP];
    *text = *at = *end = NULL;
    if (!find_file(c, path)) return;
    if (file_read(path, FILE_CAP, text, &size, &why) != DDPM_OK) {
        give_up_file(c, why.text);
        return;
    }
    *at = *text;
    *end = *text + size;
    if (next_line(at, *end, &line, &n) && strcmp(line, HEADER) != 0 && strcmp(line, OLD_HEADER) != 0) {
        err_set(&why, DDPM_EDATA, "%s: not an autotune cache of this version; the file is neither used nor changed",
                path);
        give_up_file(c, why.text);
        mem_free(*text);
        *text = *at = *end = NULL;
    }
}

static ddpm_status load(autotune_cache *c, err *e)
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
        TRY(mem_grow(&c->cached, &c->cap_cached, c->n_cached + 1, sizeof *c->cached, "algo cache", e));
        c->cached[c->n_cached++] = (cached){field[1], field[2]};
    }
    if (damaged) {
        err why;
        err_set(&why, DDPM_EDATA, "%s: %d damaged line%s ignored", c->file, damaged, damaged > 1 ? "s" : "");
        autotune_cache_warn(c, why.text);
    }
    return DDPM_OK;
}

static const fresh *find_fresh(const autotune_cache *c, const char *problem)
{
    for (int i = c->n_fresh - 1; i >= 0; i--)
        if (!strcmp(c->fresh[i].problem, problem)) return &c->fresh[i];
    return NULL;
}

static const char *find_alone(const autotune_cache *c, const char *problem)
{
    const fresh *f = find_fresh(c, problem);
    if (f) return f->algo;
    for (int i = c->n_cached - 1; i >= 0; i--) /* the last line of a problem counts */
        if (!strcmp(c->cached[i].problem, problem)) return c->cached[i].algo;
    return NULL;
}

/* Prints the current contents of the file, which others may have changed, with our choices replacing older ones. */
static void print_cache(autotune_cache *c, FILE *to)
{
    char *text, *at, *end, *line, *field[FIELDS];
    size_t size;
    read_cache(c, &text, &at, &end);
    fprintf(to, "%s\n", HEADER);
    while (next_line(&at, end, &line, &size)) {
        if (line[0] == '#' && !memchr(line, '\0', size)) fprintf(to, "%s\n", line);
        if (line[0] == '#' || !cut_fields(line, size, field)) continue;
        if (strcmp(field[0], c->key) != 0 || !find_fresh(c, field[1]))
            fprintf(to, "%s\t%s\t%s\t%s\n", field[0], field[1], field[2], field[3]);
    }
    mem_free(text);
    for (int i = 0; i < c->n_fresh; i++)
        fprintf(to, "%s\t%s\t%s\t%.3f\n", c->key, c->fresh[i].problem, c->fresh[i].algo, (double)c->fresh[i].us);
}

static ddpm_status make_folder_of(const char *path, err *e)
{
    char folder[PATH_CAP];
    if (strlen(path) >= sizeof folder - sizeof ".tmp") return err_set(e, DDPM_EIO, "path too long: %.80s...", path);
    strcpy(folder, path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder) return DDPM_OK;
    *slash = '\0';
    return dir_make(folder, e);
}

static void save(autotune_cache *c)
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
    if (c->file) { /* print_cache() may have found that the file is no cache */
        ddpm_status st = make_folder_of(c->file, &why);
        if (st == DDPM_OK && !printed) st = err_set(&why, DDPM_ENOMEM, "%s: out of memory", c->file);
        if (st == DDPM_OK) st = file_replace(c->file, text, size, &why);
        if (st != DDPM_OK) give_up_file(c, why.text);
    }
    free(text);
}

void autotune_cache_save(autotune_cache *c)
{
    if (c->file && c->unsaved) save(c);
    if (c->shared) autotune_cache_save(c->shared);
}

/* ---- public functions ---- */

ddpm_status autotune_cache_create(const autotune_cache_spec *spec, autotune_cache **out, err *e)
{
    ddpm_status st = DDPM_OK;
    autotune_cache *c = NULL;
    *out = NULL;
    TRY(mem_array(&c, 1, sizeof *c, "algo cache", e));
    c->saved = -SAVE_SECONDS;
    if (spec->file && spec->file[0]) TRY_GOTO(mem_text(&c->file, spec->file, e));
    const uint64_t seed = XXH3_64bits(spec->search, strlen(spec->search));
    (void)snprintf(c->key, sizeof c->key, "%016" PRIx64,
                   (uint64_t)XXH3_64bits_withSeed(spec->machine, strlen(spec->machine), seed));
    TRY_GOTO(load(c, e));
    if (spec->shared && spec->shared[0])
        TRY_GOTO(autotune_cache_create(
            &(autotune_cache_spec){.file = spec->shared, .machine = spec->machine, .search = spec->search}, &c->shared,
            e));
    *out = c;
done:
    if (st != DDPM_OK) autotune_cache_destroy(c);
    return st;
}

void autotune_cache_destroy(autotune_cache *c)
{
    if (!c) return;
    autotune_cache_save(c);
    autotune_cache_destroy(c->shared);
    for (int i = 0; i < c->n_fresh; i++) {
        free(c->fresh[i].problem);
        free(c->fresh[i].algo);
    }
    free(c->fresh);
    free(c->cached);
    free(c->file);
    mem_free(c->text);
    mem_free(c);
}

const char *autotune_cache_warning(const autotune_cache *c)
{
    return c->remark[0] || !c->shared ? c->remark : autotune_cache_warning(c->shared);
}

static ddpm_status put_alone(autotune_cache *c, const char *problem, const char *algo, float us, err *e)
{
    ddpm_status st = DDPM_OK;
    fresh new = {.us = us};
    TRY(mem_grow(&c->fresh, &c->cap_fresh, c->n_fresh + 1, sizeof *c->fresh, "algo cache", e));
    TRY_GOTO(mem_text(&new.problem, problem, e));
    TRY_GOTO(mem_text(&new.algo, algo, e));
    c->fresh[c->n_fresh++] = new;
    c->unsaved = true;
    if (c->file && clock_seconds() - c->saved >= SAVE_SECONDS) save(c);
done:
    if (st != DDPM_OK) free(new.problem);
    return st;
}

ddpm_status autotune_cache_put(autotune_cache *c, const char *problem, const char *algo, float us, err *e)
{
    if (c->shared) TRY(put_alone(c->shared, problem, algo, us, e));
    return put_alone(c, problem, algo, us, e);
}

const char *autotune_cache_find(autotune_cache *c, const char *problem)
{
    const char *own = find_alone(c, problem), *shared = own || !c->shared ? NULL : find_alone(c->shared, problem);
    if (!shared) return own;
    const ddpm_status kept = put_alone(c, problem, shared, 0, NULL);
    return kept == DDPM_OK ? find_alone(c, problem) : shared;
}
