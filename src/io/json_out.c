#include "io/json_out.h"
#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_out json_out_begin(bool compact, err *e) { return (json_out){.compact = compact, .empty = true, .e = e}; }

static void put_bytes(json_out *j, const char *s, size_t n)
{
    if (j->st != DDPM_OK) return;
    if (n > (size_t)(INT32_MAX - 1 - j->size)) {
        j->st = err_set(j->e, DDPM_ENOMEM, "JSON text: more than 2 GB");
        return;
    }
    j->st = mem_grow(&j->text, &j->capacity, j->size + (int)n + 1, 1, "JSON text", j->e);
    if (j->st != DDPM_OK) return;
    memcpy(j->text + j->size, s, n);
    j->size += (int)n;
    j->text[j->size] = '\0';
}

static void put(json_out *j, const char *s) { put_bytes(j, s, strlen(s)); }

static void put_newline(json_out *j)
{
    if (j->compact) return;
    put(j, "\n");
    for (int i = 0; i < j->depth; i++) put(j, "  ");
}

/* The escapes that Python's json and serde_json both use; other characters are copied. */
static void escape(char out[8], char c)
{
    switch (c) {
    case '"': memcpy(out, "\\\"", 3); return;
    case '\\': memcpy(out, "\\\\", 3); return;
    case '\b': memcpy(out, "\\b", 3); return;
    case '\f': memcpy(out, "\\f", 3); return;
    case '\n': memcpy(out, "\\n", 3); return;
    case '\r': memcpy(out, "\\r", 3); return;
    case '\t': memcpy(out, "\\t", 3); return;
    default: break;
    }
    if ((unsigned char)c < 0x20)
        (void)snprintf(out, 8, "\\u%04x", (unsigned char)c);
    else
        (void)snprintf(out, 8, "%c", c);
}

static void put_quoted(json_out *j, const char *s)
{
    put(j, "\"");
    for (; *s; s++) {
        char escaped[8];
        escape(escaped, *s);
        put(j, escaped);
    }
    put(j, "\"");
}

static void put_place(json_out *j, const char *key)
{
    if (!j->empty) put(j, ",");
    if (j->depth > 0) put_newline(j);
    j->empty = false;
    if (!key) return;
    put_quoted(j, key);
    put(j, j->compact ? ":" : ": ");
}

void json_out_open(json_out *j, const char *key, char bracket)
{
    put_place(j, key);
    put_bytes(j, &bracket, 1);
    j->depth++;
    j->empty = true;
}

void json_out_close(json_out *j, char bracket)
{
    j->depth--;
    if (!j->empty) put_newline(j);
    put_bytes(j, &bracket, 1);
    j->empty = false;
}

void json_out_int(json_out *j, const char *key, int64_t v)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%lld", (long long)v);
    put_place(j, key);
    put(j, text);
}

void json_out_bool(json_out *j, const char *key, bool v)
{
    put_place(j, key);
    put(j, v ? "true" : "false");
}

void json_out_text(json_out *j, const char *key, const char *v)
{
    put_place(j, key);
    if (v)
        put_quoted(j, v);
    else
        put(j, "null");
}

/* Python's repr(float): the fewest digits that read back as v; with an exponent from 1e16 up and below 1e-4. */
static void real_text(char out[40], double v)
{
    char sci[40], digits[20] = "";
    int n = 0;
    for (int precision = 0; precision < 17; precision++) {
        (void)snprintf(sci, sizeof sci, "%.*e", precision, fabs(v));
        if (strtod(sci, NULL) == fabs(v)) break;
    }
    const char *c = sci;
    for (; *c != 'e'; c++) /* skips the decimal separator of any locale */
        if (*c >= '0' && *c <= '9') digits[n++] = *c;
    const int exponent = atoi(c + 1);
    char *to = out;
    if (signbit(v)) *to++ = '-';
    if (exponent < -4 || exponent >= 16) {
        (void)snprintf(to, 38, "%c%s%se%c%02d", digits[0], n > 1 ? "." : "", digits + 1, exponent < 0 ? '-' : '+',
                       abs(exponent));
    } else if (exponent < 0) {
        (void)snprintf(to, 38, "0.%.*s%s", -exponent - 1, "000", digits);
    } else {
        while (n < exponent + 2) digits[n++] = '0';
        (void)snprintf(to, 38, "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
    }
}

void json_out_real(json_out *j, const char *key, double v)
{
    char text[40];
    put_place(j, key);
    if (!isfinite(v)) {
        if (j->st == DDPM_OK)
            j->st = err_set(j->e, DDPM_EINVAL, "%s: JSON has no infinity and no NaN", key ? key : "value");
        return;
    }
    real_text(text, v);
    put(j, text);
}

void json_out_real_or_infinity(json_out *j, const char *key, double v)
{
    if (!isinf(v)) {
        json_out_real(j, key, v);
        return;
    }
    put_place(j, key);
    put(j, v < 0 ? "-Infinity" : "Infinity");
}

ddpm_status json_out_finish(json_out *j, char **text, size_t *size)
{
    *text = j->text;
    *size = (size_t)j->size;
    j->text = NULL;
    if (j->st != DDPM_OK) {
        free(*text);
        *text = NULL;
        *size = 0;
    }
    return j->st;
}

ddpm_status json_out_finish_file(json_out *j, const char *path)
{
    char *text;
    size_t size;
    put(j, "\n");
    TRY(json_out_finish(j, &text, &size));
    const ddpm_status st = file_write(path, text, size, false, j->e);
    free(text);
    return st;
}
