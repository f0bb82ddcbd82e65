#include "io/class_names.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "io/json_members.h"
#include "io/json_out.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char FILE_NAME[] = "classes.json";
enum {
    INDEX_DIGITS = 7, /* of an index, at most */
    LINE_BYTES = 32,  /* of a line of the file, beside the name */
    ESCAPED = 6,      /* bytes of JSON for one byte of a name, at most */
    VALUE_BYTES = (ESCAPED + 6) * CLASS_NAME_BYTES
};

/* ---- names -------------------------------------------------------------------------------------- */

void class_names_free(class_names *names)
{
    for (int k = 0; k < names->n; k++) free(names->name[k]);
    free(names->name);
    *names = (class_names){0};
}

ddpm_status class_names_add(class_names *names, const char *name, err *e)
{
    const size_t size = strlen(name);
    names->bytes += ESCAPED * size + LINE_BYTES;
    if (size == 0 || size > CLASS_NAME_BYTES || !text_is_utf8(name))
        return err_set(e, DDPM_EINVAL, "class %d: its name must be UTF-8 of 1 to %d bytes", names->n, CLASS_NAME_BYTES);
    if (names->n >= CLASS_NAMES_MOST || names->bytes > CLASS_NAMES_BYTES / 2)
        return err_set(e, DDPM_EINVAL, "the names of more than %d classes cannot be stored", names->n);
    TRY(mem_grow(&names->name, &names->capacity, names->n + 1, sizeof *names->name, "classes", e));
    TRY(mem_text(&names->name[names->n], name, e));
    names->n++;
    return DDPM_OK;
}

int class_names_find(const class_names *names, const char *name)
{
    for (int k = 0; k < names->n; k++)
        if (!strcmp(names->name[k], name)) return k;
    return -1;
}

/* ---- reading -------------------------------------------------------------------------------------- */

typedef struct reader {
    const char *where;
    int rows;
    class_names *out;
} reader;

static ddpm_status not_json(const reader *r, const char *what, err *e)
{
    return err_set(e, DDPM_EDATA, "%s: %s is not valid JSON", r->where, what);
}

/* A value other than an object or array; *out = NULL: it is none. */
static ddpm_status parse(const reader *r, json_slice value, json_t **out, err *e)
{
    json_error_t why;
    *out = NULL;
    if (value.size > VALUE_BYTES || value.text[0] == '{' || value.text[0] == '[') return DDPM_OK;
    *out = json_loadb(value.text, value.size, JSON_DECODE_ANY, &why);
    if (*out || json_error_code(&why) != json_error_out_of_memory) return DDPM_OK;
    return err_set(e, DDPM_ENOMEM, "%s: out of memory", r->where);
}

/* The index that a key "12" names, without leading zeros; -1: none. */
static int index_of(json_slice key)
{
    int index = 0;
    const size_t digits = key.size - 2;
    const char *at = key.text + 1;
    if (digits < 1 || digits > INDEX_DIGITS || (digits > 1 && *at == '0')) return -1;
    for (size_t i = 0; i < digits; i++) {
        if (!isdigit((unsigned char)at[i])) return -1;
        index = 10 * index + (at[i] - '0');
    }
    return index;
}

static ddpm_status read_name(const reader *r, json_slice key, json_slice value, err *e)
{
    class_names *out = r->out;
    const int k = index_of(key);
    if (k < 0 || k >= out->n || out->name[k])
        return err_set(e, DDPM_EDATA, "%s: id2label: %.*s must be a class from 0 to %d, each once", r->where,
                       key.size > 40 ? 40 : (int)key.size, key.text, out->n - 1);
    json_t *text;
    TRY(parse(r, value, &text, e));
    const char *name = json_string_value(text);
    const size_t size = name ? strlen(name) : 0;
    ddpm_status st = DDPM_OK;
    if (size == 0 || size > CLASS_NAME_BYTES)
        st = err_set(e, DDPM_EDATA, "%s: id2label: the name of class %d must be a text of 1 to %d bytes", r->where, k,
                     CLASS_NAME_BYTES);
    else
        st = mem_text(&out->name[k], name, e);
    json_decref(text);
    return st;
}

/* First the members are counted, which says what indices there may be. */
static ddpm_status read_names(const reader *r, json_slice object, err *e)
{
    json_slice key, value;
    json_walk walk = JSON_END;
    const char *end = object.text + object.size;
    json_members m = {.at = object.text, .end = end};
    int n = 0;
    if (object.size == 0 || object.text[0] != '{' || r->out->name)
        return err_set(e, DDPM_EDATA, "%s: id2label must be one object", r->where);
    while (n <= r->rows && (walk = json_members_next(&m, &key, &value)) == JSON_MEMBER) n++;
    if (n > r->rows)
        return err_set(e, DDPM_EDATA, "%s: id2label has more names than the network's %d classes", r->where, r->rows);
    if (walk == JSON_MALFORMED) return not_json(r, "id2label", e);
    TRY(mem_array(&r->out->name, (size_t)n, sizeof *r->out->name, "classes", e));
    r->out->n = r->out->capacity = n;
    m = (json_members){.at = object.text, .end = end};
    while (json_members_next(&m, &key, &value) == JSON_MEMBER) TRY(read_name(r, key, value, e));
    return DDPM_OK;
}

static ddpm_status read_null_class(const reader *r, json_slice value, err *e)
{
    json_t *number;
    TRY(parse(r, value, &number, e));
    const bool none = json_is_null(number), last = json_is_integer(number) && json_integer_value(number) == r->rows - 1;
    json_decref(number);
    if ((!none && !last) || r->out->says_null)
        return err_set(e, DDPM_EDATA, "%s: null_class must be the last of the network's %d classes, %d, or null",
                       r->where, r->rows, r->rows - 1);
    r->out->says_null = true;
    r->out->null_class = last ? r->rows - 1 : -1;
    return DDPM_OK;
}

static bool is_key(json_slice key, const char *quoted)
{
    return key.size == strlen(quoted) && !memcmp(key.text, quoted, key.size);
}

static ddpm_status read_all(const reader *r, const char *text, size_t size, err *e)
{
    json_slice key, value;
    json_walk walk;
    const char *end = text + size;
    while (text < end && isspace((unsigned char)*text)) text++;
    if (text == end || *text != '{') return not_json(r, "the file, which must be an object {...},", e);
    json_members m = {.at = text, .end = end};
    while ((walk = json_members_next(&m, &key, &value)) == JSON_MEMBER) {
        if (is_key(key, "\"id2label\"")) TRY(read_names(r, value, e));
        if (is_key(key, "\"null_class\"")) TRY(read_null_class(r, value, e));
    }
    if (walk != JSON_END) return not_json(r, "the file", e);
    if (r->out->says_null && r->out->null_class >= 0 && r->out->n > r->out->null_class)
        return err_set(e, DDPM_EDATA, "%s: null_class %d is also a class of id2label, which has %d names", r->where,
                       r->out->null_class, r->out->n);
    return DDPM_OK;
}

ddpm_status class_names_parse(const char *text, size_t size, const char *where, int rows, class_names *out, err *e)
{
    *out = (class_names){0};
    const reader r = {.where = where, .rows = rows, .out = out};
    const ddpm_status st = read_all(&r, text, size, e);
    if (st != DDPM_OK) class_names_free(out);
    return st;
}

ddpm_status class_names_read(const char *dir, int rows, class_names *out, err *e)
{
    char path[PATH_CAP], *text;
    size_t size;
    *out = (class_names){0};
    TRY(path_join(path, dir, FILE_NAME, e));
    if (!path_exists(path)) return DDPM_OK;
    TRY(file_read(path, CLASS_NAMES_BYTES, &text, &size, e));
    const ddpm_status st = class_names_parse(text, size, path, rows, out, e);
    mem_free(text);
    return st;
}

/* ---- writing ---------------------------------------------------------------------------------------- */

ddpm_status class_names_write(const class_names *names, const char *dir, err *e)
{
    char path[PATH_CAP], key[16];
    if (names->n == 0 && !names->says_null) return DDPM_OK;
    TRY(path_join(path, dir, FILE_NAME, e));
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    if (names->n > 0) json_out_open(&j, "id2label", '{');
    for (int k = 0; k < names->n; k++) {
        (void)snprintf(key, sizeof key, "%d", k);
        json_out_text(&j, key, names->name[k]);
    }
    if (names->n > 0) json_out_close(&j, '}');
    if (names->says_null && names->null_class >= 0) json_out_int(&j, "null_class", names->null_class);
    if (names->says_null && names->null_class < 0) json_out_text(&j, "null_class", NULL);
    json_out_close(&j, '}');
    return json_out_finish_file(&j, path);
}
