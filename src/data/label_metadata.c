#include "data/label_metadata.h"

#include "base/file.h"
#include "base/mem.h"
#include "data/class_list.h"
#include "data/csv_read.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = 1 << 20 }; /* of a line, at most; jansson's tree of it takes up to 50 times as much */

typedef enum label_kind { LABEL_UNKNOWN, LABEL_NUMBER, LABEL_TEXT } label_kind;

typedef struct table {
    const file_list *images;
    dataset *d; /* which counts the images that are not there */
    int64_t count;
    label_kind kind; /* of all labels */
    int32_t *number; /* [count], -1: none */
    char **text;     /* [count], NULL: none */
    const char *file;
    int line;     /* of `file`, from 1 */
    char *buffer; /* [LINE_BYTES] */
} table;

/* ---- one label ------------------------------------------------------------------------------------ */

static bool leads_out(const char *name)
{
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (!strncmp(part, "..", 2) && (part[2] == '/' || !part[2])) return true;
    }
    return name[0] == '/' || !name[0];
}

static int by_path(const void *path, const void *entry) { return strcmp(path, *(char *const *)entry); }

/* A file that is not there is a bad image, of which data.max_bad allows some. */
static ddpm_status lose(const table *t, const char *name, err *e)
{
    dataset *d = t->d;
    if (d->absent++ == 0)
        (void)err_set(&d->first_absent, DDPM_EDATA, "%s:%d: names %.100s, which does not exist", t->file, t->line,
                      name);
    if (d->absent <= d->max_bad) return DDPM_OK;
    return err_set(e, DDPM_EDATA, "%s (%lld bad images so far; data.max_bad=N skips up to N)", d->first_absent.text,
                   (long long)d->absent);
}

/* The image of a file_name; -1: it is not one of the images. */
static ddpm_status find_image(const table *t, const char *name, int64_t *i, err *e)
{
    char path[PATH_CAP];
    struct stat info;
    const char *slash = strrchr(t->file, '/');
    if (leads_out(name))
        return err_set(e, DDPM_EDATA, "%s:%d: file_name \"%.100s\" must be a path below the folder of this file",
                       t->file, t->line, name);
    while (!strncmp(name, "./", 2)) name += 2;
    if (snprintf(path, sizeof path, "%.*s/%s", (int)(slash - t->file), t->file, name) >= PATH_CAP)
        return err_set(e, DDPM_EDATA, "%s:%d: file_name \"%.100s...\" is too long", t->file, t->line, name);
    char *const *found = bsearch(path, t->images->path, (size_t)t->images->n, sizeof *t->images->path, by_path);
    *i = found ? found - t->images->path : -1;
    if (found || stat(path, &info) == 0) return DDPM_OK;
    return lose(t, name, e);
}

static ddpm_status agree(table *t, label_kind kind, err *e)
{
    static const char *const words[] = {"", "an integer", "a text"};
    if (t->kind == LABEL_UNKNOWN) t->kind = kind;
    if (t->kind == kind) return DDPM_OK;
    return err_set(e, DDPM_EDATA, "%s:%d: the label is %s, but those before are not; use one kind for all images",
                   t->file, t->line, words[kind]);
}

static ddpm_status refuse_second(const table *t, const char *name, err *e)
{
    return err_set(e, DDPM_EDATA, "%s:%d: %.100s has another label than before", t->file, t->line, name);
}

static ddpm_status take_number(table *t, const char *name, json_int_t number, err *e)
{
    int64_t i;
    if (number < 0 || number > LABEL_MAX)
        return err_set(e, DDPM_EDATA, "%s:%d: label %lld is outside 0 to %d", t->file, t->line, (long long)number,
                       LABEL_MAX);
    TRY(agree(t, LABEL_NUMBER, e));
    TRY(find_image(t, name, &i, e));
    if (i >= 0 && t->number[i] >= 0 && t->number[i] != number) return refuse_second(t, name, e);
    if (i >= 0) t->number[i] = (int32_t)number;
    return DDPM_OK;
}

static ddpm_status take_text(table *t, const char *name, const char *text, err *e)
{
    int64_t i;
    const size_t size = strlen(text);
    if (size == 0 || size > CLASS_NAME_MAX)
        return err_set(e, DDPM_EDATA, "%s:%d: the label is %s; the name of a class has 1 to %d bytes", t->file, t->line,
                       size ? "too long" : "empty", CLASS_NAME_MAX);
    TRY(agree(t, LABEL_TEXT, e));
    TRY(find_image(t, name, &i, e));
    if (i >= 0 && t->text[i] && strcmp(t->text[i], text) != 0) return refuse_second(t, name, e);
    return i >= 0 && !t->text[i] ? mem_text(&t->text[i], text, e) : DDPM_OK;
}

/* ---- metadata.jsonl --------------------------------------------------------------------------------- */

static ddpm_status take_object(table *t, const json_t *line, err *e)
{
    const json_t *label = json_object_get(line, "label");
    const char *name = json_string_value(json_object_get(line, "file_name"));
    if (!json_is_object(line)) return err_set(e, DDPM_EDATA, "%s:%d: must be a JSON object {...}", t->file, t->line);
    if (!label) return DDPM_OK;
    if (!name) return err_set(e, DDPM_EDATA, "%s:%d: has a label, but no file_name of type text", t->file, t->line);
    if (json_is_integer(label)) return take_number(t, name, json_integer_value(label), e);
    if (json_is_string(label)) return take_text(t, name, json_string_value(label), e);
    return err_set(e, DDPM_EDATA, "%s:%d: the label must be an integer or a text", t->file, t->line);
}

static ddpm_status take_line(table *t, size_t size, err *e)
{
    json_error_t why;
    size_t blanks = 0;
    while (blanks < size && memchr(" \t\r", t->buffer[blanks], 3)) blanks++;
    if (blanks == size) return DDPM_OK;
    json_t *line = json_loadb(t->buffer, size, JSON_REJECT_DUPLICATES, &why);
    if (!line && json_error_code(&why) == json_error_out_of_memory)
        return err_set(e, DDPM_ENOMEM, "%s: out of memory", t->file);
    if (!line)
        return err_set(e, DDPM_EDATA, "%s:%d: not valid JSON: column %d: %s", t->file, t->line, why.column, why.text);
    const ddpm_status st = take_object(t, line, e);
    json_decref(line);
    return st;
}

static ddpm_status read_jsonl(table *t, FILE *from, err *e)
{
    for (int c = 0; c != EOF;) {
        size_t size = 0;
        t->line++;
        for (c = getc_unlocked(from); c != EOF && c != '\n'; c = getc_unlocked(from)) {
            if (size == LINE_BYTES)
                return err_set(e, DDPM_EDATA, "%s:%d: the line is longer than %d bytes", t->file, t->line, LINE_BYTES);
            t->buffer[size++] = (char)c;
        }
        TRY(take_line(t, size, e));
    }
    return DDPM_OK;
}

/* ---- metadata.csv ------------------------------------------------------------------------------------- */

static int column(const csv_record *r, const char *name)
{
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->text + r->at[i], name)) return i;
    return -1;
}

/* The labels are texts until all are read. */
static ddpm_status read_csv(table *t, FILE *from, err *e)
{
    csv_record r = {.text = t->buffer};
    csv_result got = csv_next(from, &r);
    const int name = got == CSV_RECORD ? column(&r, "file_name") : -1;
    const int label = got == CSV_RECORD ? column(&r, "label") : -1;
    if (got == CSV_RECORD && label < 0) return DDPM_OK;
    for (; got == CSV_RECORD; got = csv_next(from, &r)) {
        t->line = r.line;
        if (r.line == 1 || (r.n == 1 && !r.text[0])) continue;
        if (name < 0 || r.n <= name || r.n <= label)
            return err_set(e, DDPM_EDATA, "%s:%d: has no file_name or no label", t->file, t->line);
        TRY(take_text(t, r.text + r.at[name], r.text + r.at[label], e));
    }
    if (got == CSV_END) return DDPM_OK;
    return err_set(e, DDPM_EDATA, "%s:%d: not valid CSV", t->file, r.line);
}

static bool is_integer(const char *text)
{
    text += *text == '-';
    return *text && strspn(text, "0123456789") == strlen(text);
}

/* If the texts of a CSV file all are integers, they are numbers. */
static ddpm_status numbers_of_texts(table *t, err *e)
{
    for (int64_t i = 0; i < t->count; i++)
        if (t->text[i] && !is_integer(t->text[i])) return DDPM_OK;
    for (int64_t i = 0; i < t->count; i++) {
        if (!t->text[i]) continue;
        const long long number = strtoll(t->text[i], NULL, 10);
        if (number < 0 || number > LABEL_MAX)
            return err_set(e, DDPM_EDATA, "%s: label %.30s of %s is outside 0 to %d", t->file, t->text[i],
                           t->images->path[i], LABEL_MAX);
        t->number[i] = (int32_t)number;
    }
    t->kind = LABEL_NUMBER;
    return DDPM_OK;
}

/* ---- all files ------------------------------------------------------------------------------------------ */

static void skip_byte_order_mark(FILE *from)
{
    char mark[3];
    if (fread(mark, 1, 3, from) != 3 || memcmp(mark, "\xEF\xBB\xBF", 3) != 0) rewind(from);
}

static bool is_csv(const char *path) { return !strcmp(strrchr(path, '.'), ".csv"); }

static ddpm_status read_file(table *t, const char *path, err *e)
{
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *from = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!from) {
        const int why = errno;
        if (fd >= 0) close(fd);
        return err_errno(e, DDPM_ENOINPUT, why, "%s: cannot open", path);
    }
    t->file = path;
    t->line = 0;
    ddpm_status st = DDPM_OK;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) TRY_GOTO(err_set(e, DDPM_EDATA, "%s: not a regular file", path));
    skip_byte_order_mark(from);
    TRY_GOTO(is_csv(path) ? read_csv(t, from, e) : read_jsonl(t, from, e));
    if (ferror(from)) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot read", path));
done:
    (void)fclose(from);
    return st;
}

static class_slice text_of(const void *context, int64_t i)
{
    const table *t = context;
    return (class_slice){t->text[i], strlen(t->text[i])};
}

static ddpm_status label_images(table *t, dataset *d, err *e)
{
    if (t->kind == LABEL_TEXT && is_csv(t->file)) TRY(numbers_of_texts(t, e));
    for (int64_t i = 0; i < t->count; i++)
        if (t->number[i] < 0 && !t->text[i])
            return err_set(e, DDPM_EDATA, "%s: has no label in %s", t->images->path[i], t->file);
    if (t->kind == LABEL_TEXT) return class_list_label(d, text_of, t, e);
    d->label = t->number;
    t->number = NULL;
    for (int64_t i = 0; i < t->count; i++)
        if (d->classes <= d->label[i]) d->classes = d->label[i] + 1;
    return DDPM_OK;
}

static ddpm_status read_all(table *t, const file_list *files, err *e)
{
    const size_t count = (size_t)t->count;
    for (int i = 1; i < files->n; i++)
        if (is_csv(files->path[i]) != is_csv(files->path[0]))
            return err_set(e, DDPM_EDATA, "%s and %s: use metadata files of one format", files->path[0],
                           files->path[i]);
    TRY(mem_array(&t->number, count, sizeof *t->number, "labels", e));
    TRY(mem_array(&t->text, count, sizeof *t->text, "labels", e));
    TRY(mem_array(&t->buffer, LINE_BYTES, 1, "a line of metadata", e));
    for (size_t i = 0; i < count; i++) t->number[i] = -1;
    for (int i = 0; i < files->n; i++) TRY(read_file(t, files->path[i], e));
    return DDPM_OK;
}

ddpm_status label_metadata_take(const file_list *files, const file_list *images, dataset *d, bool *labelled, err *e)
{
    ddpm_status st = DDPM_OK;
    table t = {.images = images, .d = d, .count = d->count};
    *labelled = true;
    TRY_GOTO(read_all(&t, files, e));
    *labelled = t.kind != LABEL_UNKNOWN;
    if (*labelled) TRY_GOTO(label_images(&t, d, e));
done:
    for (int64_t i = 0; t.text && i < t.count; i++) free(t.text[i]);
    mem_free(t.text);
    mem_free(t.number);
    mem_free(t.buffer);
    return st;
}
