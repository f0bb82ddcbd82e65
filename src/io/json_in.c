#include "io/json_in.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/json_members.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

json_in json_in_text(const char *text, size_t size, const char *where, err *e)
{
    json_in j = {.where = where, .e = e};
    json_error_t why;
    if (json_count_values(text, size) > JSON_IN_MAX_VALUES) {
        json_in_fail(&j, "more than %d values", JSON_IN_MAX_VALUES);
        return j;
    }
    j.root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    if (!j.root && json_error_code(&why) == json_error_out_of_memory)
        j.st = err_set(e, DDPM_ENOMEM, "%s: out of memory", where);
    else if (!j.root)
        j.st =
            err_set(e, DDPM_EDATA, "%s: not valid JSON: line %d, column %d: %s", where, why.line, why.column, why.text);
    else if (!json_is_object(j.root))
        json_in_fail(&j, "the top-level value must be a JSON object {...}");
    return j;
}

json_in json_in_file(const char *path, err *e)
{
    char *text;
    size_t size;
    json_in j = {.where = path, .e = e};
    j.st = file_read(path, JSON_IN_MAX_BYTES, &text, &size, e);
    if (j.st == DDPM_OK) j = json_in_text(text, size, path, e);
    mem_free(text);
    return j;
}

void json_in_fail(json_in *j, const char *fmt, ...)
{
    char text[400];
    if (j->st != DDPM_OK) return;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    j->st = err_set(j->e, DDPM_EDATA, "%s: %s", j->where, text);
}

const json_t *json_in_get(json_in *j, const char *key)
{
    if (j->st != DDPM_OK) return NULL;
    if (j->n_requested < JSON_IN_MAX_KEYS) j->requested[j->n_requested++] = key;
    return json_object_get(j->root, key);
}

bool json_in_null(json_in *j, const char *key)
{
    const json_t *v = json_in_get(j, key);
    return !v || json_is_null(v);
}

static int int_of(json_in *j, const char *key, const json_t *v, int fallback, int min, int max)
{
    if (!json_is_integer(v)) {
        json_in_fail(j, "%s must be an integer", key);
        return fallback;
    }
    const json_int_t i = json_integer_value(v);
    if (i < min || i > max) {
        json_in_fail(j, "%s = %" JSON_INTEGER_FORMAT " is outside %d to %d", key, i, min, max);
        return fallback;
    }
    return (int)i;
}

int json_in_int(json_in *j, const char *key, int fallback, int min, int max)
{
    const json_t *v = json_in_get(j, key);
    return v ? int_of(j, key, v, fallback, min, max) : fallback;
}

double json_in_real(json_in *j, const char *key, double fallback, double min, double max)
{
    const json_t *v = json_in_get(j, key);
    if (!v) return fallback;
    if (!json_is_number(v)) {
        json_in_fail(j, "%s must be a number", key);
        return fallback;
    }
    const double x = json_number_value(v);
    if (!(x >= min && x <= max)) {
        json_in_fail(j, "%s = %g is outside %g to %g", key, x, min, max);
        return fallback;
    }
    return x;
}

bool json_in_bool(json_in *j, const char *key, bool fallback)
{
    const json_t *v = json_in_get(j, key);
    if (!v) return fallback;
    if (!json_is_boolean(v)) json_in_fail(j, "%s must be true or false", key);
    return json_is_true(v);
}

int json_in_choice(json_in *j, const char *key, int fallback, const char *const *names, int n)
{
    const json_t *v = json_in_get(j, key);
    if (!v) return fallback;
    const char *text = json_string_value(v);
    for (int i = 0; text && i < n; i++)
        if (!strcmp(text, names[i])) return i;
    char list[240] = "";
    for (int i = 0; i < n; i++) {
        const size_t used = strlen(list);
        (void)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    }
    if (text)
        json_in_fail(j, "%s = \"%.60s\" is not supported; supported: %s", key, text, list);
    else
        json_in_fail(j, "%s must be one of the strings %s", key, list);
    return fallback;
}

int json_in_ints(json_in *j, const char *key, int *to, int cap, int min, int max)
{
    const json_t *v = json_in_get(j, key);
    if (!v) return 0;
    const size_t n = json_array_size(v);
    if (!json_is_array(v) || n == 0 || n > (size_t)cap) {
        json_in_fail(j, "%s must be an array of 1 to %d integers", key, cap);
        return 0;
    }
    for (size_t i = 0; i < n; i++) to[i] = int_of(j, key, json_array_get(v, i), min, min, max);
    return (int)n;
}

static bool was_asked(const json_in *j, const char *key)
{
    for (int i = 0; i < j->n_requested; i++)
        if (!strcmp(j->requested[i], key)) return true;
    return false;
}

ddpm_status json_in_close(json_in *j, notes *n)
{
    char list[400] = "";
    const char *key;
    json_t *value;
    json_object_foreach(j->root, key, value)
    {
        if (j->st != DDPM_OK || !n || key[0] == '_' || was_asked(j, key)) continue;
        const size_t used = strlen(list);
        (void)snprintf(list + used, sizeof list - used, "%s%.60s", used ? ", " : "", key);
    }
    if (list[0]) notes_add(n, "%s: ignored unknown keys: %s", j->where, list);
    json_decref(j->root);
    j->root = NULL;
    return j->st;
}
