/* config_yaml.c - configurations as YAML: parsing by libyaml's events, writing as plain text. */
#include "config/config.h"
#include "config/config_value.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

/* ---- reading ------------------------------------------------------------------------------------- */

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current event; its texts are valid until the next one */
    config_place at;    /* start of the current event */
    const char *bytes;  /* the file's contents */
    size_t size;
    ddpm_config *config;
    int option_line[CONFIG_OPTIONS]; /* line of this file that set the option; 0 = not set */
    int section_line[CONFIG_SECTIONS];
    err *e;
} reader;

static bool starts_character(char byte) { return (byte & 0xc0) != 0x80; }

static void place_at_offset(reader *r, size_t offset)
{
    r->at.line = r->at.column = 1;
    for (size_t i = 0; i < offset && i < r->size; i++) {
        r->at.column += starts_character(r->bytes[i]);
        if (r->bytes[i] == '\n') r->at.line++, r->at.column = 1;
    }
}

static ddpm_status refuse_event(reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return err_set(r->e, DDPM_ENOMEM, "%s: out of memory", r->config->file[r->at.file]);
    if (p->error == YAML_READER_ERROR) { /* not UTF-8: problem_mark lags behind problem_offset */
        place_at_offset(r, p->problem_offset);
    } else {
        r->at.line = (int)p->problem_mark.line + 1;
        r->at.column = (int)p->problem_mark.column + 1;
    }
    return config_refuse(r->config, &r->at, r->e, "not valid YAML: %s", p->problem);
}

/* Reject YAML features that option files do not use. */
static ddpm_status refuse_extras(reader *r)
{
    const yaml_event_t *ev = &r->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (ev->type == YAML_ALIAS_EVENT) anchor = ev->data.alias.anchor;
    if (ev->type == YAML_SCALAR_EVENT) anchor = ev->data.scalar.anchor, tag = ev->data.scalar.tag;
    if (ev->type == YAML_SEQUENCE_START_EVENT)
        anchor = ev->data.sequence_start.anchor, tag = ev->data.sequence_start.tag;
    if (ev->type == YAML_MAPPING_START_EVENT) anchor = ev->data.mapping_start.anchor, tag = ev->data.mapping_start.tag;
    if (anchor)
        return config_refuse(r->config, &r->at, r->e, "anchors and aliases (&%.40s, *%.40s) are not supported", anchor,
                             anchor);
    if (tag) return config_refuse(r->config, &r->at, r->e, "tags (%.40s) are not supported", tag);
    if (ev->type == YAML_SCALAR_EVENT && strlen((const char *)ev->data.scalar.value) != ev->data.scalar.length)
        return config_refuse(r->config, &r->at, r->e, "a value contains a NUL character");
    return DDPM_OK;
}

static ddpm_status next(reader *r)
{
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event)) return refuse_event(r);
    r->at.line = (int)r->event.start_mark.line + 1;
    r->at.column = (int)r->event.start_mark.column + 1;
    return refuse_extras(r);
}

/* Is the current scalar an unquoted null? */
static bool is_null(const reader *r)
{
    static const char *const nulls[] = {"~", "null", "Null", "NULL"};
    const char *text = (const char *)r->event.data.scalar.value;
    if (r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++)
        if (strcmp(text, nulls[i]) == 0) return true;
    return false;
}

/* The current scalar; null is the empty text. */
static const char *scalar(const reader *r) { return is_null(r) ? "" : (const char *)r->event.data.scalar.value; }

static ddpm_status read_items(reader *r, config_id option)
{
    const char *key = config_options[option].key;
    const config_place at = r->at;
    config_items items = {0};
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) break;
        if (r->event.type != YAML_SCALAR_EVENT)
            return config_refuse(r->config, &r->at, r->e, "%s: nested too deep: list items must be plain values", key);
        const char *text = scalar(r);
        if (items.count == CONFIG_INTS)
            return config_refuse(r->config, &r->at, r->e, "%s: has more than %d items", key, CONFIG_INTS);
        if (strlen(text) >= CONFIG_KEY)
            return config_refuse(r->config, &r->at, r->e, "%s: '%.20s...' is too long", key, text);
        memcpy(items.text[items.count++], text, strlen(text) + 1);
    }
    return config_set_items(r->config, option, &at, &items, r->e);
}

static ddpm_status refuse_twice(reader *r, const config_place *at, const char *what, int first_line)
{
    return config_refuse(r->config, at, r->e, "%s: given twice, first in line %d", what, first_line);
}

/* Read the current event as the value of an option whose key is at `key_at`. */
static ddpm_status read_option(reader *r, config_id option, const config_place *key_at)
{
    const char *key = config_options[option].key;
    if (r->option_line[option]) return refuse_twice(r, key_at, key, r->option_line[option]);
    r->option_line[option] = key_at->line;
    const bool has_null = config_option_words[option] && config_word_of(option, "null") >= 0;
    if (r->event.type == YAML_SCALAR_EVENT && has_null && is_null(r))
        return config_set(r->config, option, &r->at, "null", r->e);
    if (r->event.type == YAML_SCALAR_EVENT) return config_set(r->config, option, &r->at, scalar(r), r->e);
    if (r->event.type == YAML_SEQUENCE_START_EVENT) return read_items(r, option);
    return config_refuse(r->config, &r->at, r->e, "%s: nested too deep: the option takes a value, not a mapping", key);
}

/* Read the current event as a key and build its full name: "train.batch" within the section train. */
static ddpm_status read_key(reader *r, int section, char *key, size_t cap)
{
    if (r->event.type != YAML_SCALAR_EVENT)
        return config_refuse(r->config, &r->at, r->e, "expected the name of an option");
    const char *text = (const char *)r->event.data.scalar.value;
    const char *prefix = section >= 0 ? config_sections[section].name : "";
    (void)snprintf(key, cap, "%s%s%s", prefix, section >= 0 ? "." : "", text); /* truncated keys are unknown */
    return DDPM_OK;
}

/* Read a mapping up to its end, after its start event; `section` is an index, or -1 at the top level. */
static ddpm_status read_mapping(reader *r, int section)
{
    char key[2 * CONFIG_KEY];
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) return DDPM_OK;
        const config_place key_at = r->at;
        TRY(read_key(r, section, key, sizeof key));
        TRY(next(r));
        const char *renamed;
        const int option = config_find_renamed(key, &renamed), below = config_find_section(key);
        if (option >= 0) {
            TRY(read_option(r, (config_id)option, &key_at));
            if (renamed && !r->config->renamed) r->config->renamed = renamed;
            continue;
        }
        if (below < 0) return config_refuse_key(r->config, &key_at, NULL, key, r->e);
        if (r->section_line[below]) return refuse_twice(r, &key_at, key, r->section_line[below]);
        r->section_line[below] = key_at.line;
        if (r->event.type == YAML_SCALAR_EVENT && !scalar(r)[0]) continue; /* an empty section */
        if (r->event.type != YAML_MAPPING_START_EVENT)
            return config_refuse(r->config, &r->at, r->e,
                                 "%s: is a section, not an option: indent its options on the lines below it", key);
        TRY(read_mapping(r, below)); /* recursion depth 1: within a section no key is a section */
    }
}

static ddpm_status read_document(reader *r)
{
    TRY(next(r)); /* the stream's start */
    TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT) return DDPM_OK; /* empty, or only comments */
    TRY(next(r));                                               /* skip the document's start */
    if (r->event.type == YAML_MAPPING_START_EVENT)
        TRY(read_mapping(r, -1));
    else if (r->event.type != YAML_SCALAR_EVENT || scalar(r)[0])
        return config_refuse(r->config, &r->at, r->e, "expected options of the form 'key: value', such as 'seed: 1'");
    TRY(next(r)); /* the document's end */
    TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT)
        return config_refuse(r->config, &r->at, r->e, "more than one YAML document; keep only one per file");
    return DDPM_OK;
}

/* A clearer message for tabs in the indentation than libyaml's "cannot start any token". */
static ddpm_status refuse_tabs(reader *r)
{
    bool indentation = true;
    for (size_t i = 0; i < r->size; i++) {
        if (indentation && r->bytes[i] == '\t') {
            place_at_offset(r, i);
            return config_refuse(r->config, &r->at, r->e, "tab in the indentation: YAML requires spaces");
        }
        indentation = r->bytes[i] == '\n' || (indentation && r->bytes[i] == ' ');
    }
    return DDPM_OK;
}

ddpm_status config_read(ddpm_config *c, const char *name, const char *bytes, size_t size, err *e)
{
    ddpm_status st = DDPM_OK;
    ddpm_config changed = *c;
    reader r = {
        .bytes = bytes, .size = size, .config = &changed, .e = e, .at = {.source = CONFIG_FILE, .file = c->files}};
    if (size > CONFIG_BYTES)
        return err_set(e, DDPM_EINVAL, "%s: %zu bytes; at most %d are allowed", name, size, CONFIG_BYTES);
    if (c->files == CONFIG_FILES)
        return err_set(e, DDPM_EINVAL, "%s: more than %d configuration files", name, CONFIG_FILES);
    (void)snprintf(changed.file[changed.files++], PATH_CAP, "%s", name);
    if (!yaml_parser_initialize(&r.parser)) return err_set(e, DDPM_ENOMEM, "%s: out of memory", name);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)bytes, size);
    TRY_GOTO(refuse_tabs(&r));
    TRY_GOTO(read_document(&r));
    *c = changed;
done:
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return st;
}

ddpm_status config_read_file(ddpm_config *c, const char *path, err *e)
{
    char *bytes = NULL;
    size_t size;
    ddpm_status st;
    TRY_GOTO(file_read(path, CONFIG_BYTES, &bytes, &size, e));
    TRY_GOTO(config_read(c, path, bytes, size, e));
done:
    mem_free(bytes);
    return st;
}

/* ---- writing ------------------------------------------------------------------------------------- */

typedef struct writer {
    char *text; /* [CONFIG_BYTES + 1] */
    size_t used;
    bool full;
} writer;

__attribute__((format(printf, 2, 3))) static void put(writer *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(w->text + w->used, CONFIG_BYTES + 1 - w->used, fmt, ap);
    va_end(ap);
    w->full = w->full || n < 0 || (size_t)n > CONFIG_BYTES - w->used;
    if (!w->full) w->used += (size_t)n;
}

/* Double-quoted; only these two characters need escaping, since text_is_plain() rejects all others that would. */
static void put_quoted(writer *w, const char *text)
{
    put(w, "\"");
    for (; *text; text++) put(w, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    put(w, "\"");
}

static void put_origin(writer *w, const ddpm_config *c, config_id option)
{
    const config_place *at = &c->origin[option];
    const char *file = c->file[at->file];
    if (at->source == CONFIG_DEFAULT) put(w, "  # default");
    if (at->source == CONFIG_ARGUMENT) put(w, "  # command line");
    if (at->source == CONFIG_FILE)
        put(w, "  # %s:%d",
            text_is_plain(file, strlen(file)) ? file : "(a file with unprintable characters in its name)", at->line);
}

static void put_option(writer *w, const ddpm_config *c, config_id option, bool origins)
{
    const config_option *o = &config_options[option];
    char text[VALUE_TEXT];
    const char *dot = strchr(o->key, '.');
    value_write((const char *)c + o->offset, o, text);
    put(w, "%s%s: ", dot ? "  " : "", dot ? dot + 1 : o->key);
    if (o->type == CONFIG_TYPE_PATH)
        put_quoted(w, text);
    else
        put(w, "%s", text);
    if (origins) put_origin(w, c, option);
    put(w, "\n");
}

ddpm_status config_write(const ddpm_config *c, const config_scope *scope, bool origins, char **text, size_t *size,
                         err *e)
{
    writer w = {0};
    int section = -1;
    TRY(mem_array(&w.text, CONFIG_BYTES + 1, 1, "a configuration's text", e));
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        if (!config_scope_has(scope, (config_id)i)) continue;
        const int its = config_section_of((config_id)i);
        if (its != section) put(&w, "%s:\n", config_sections[section = its].name);
        put_option(&w, c, (config_id)i, origins);
    }
    if (w.full) {
        mem_free(w.text);
        return err_set(e, DDPM_EINVAL, "the configuration is longer than %d bytes: shorten its paths", CONFIG_BYTES);
    }
    *text = w.text;
    *size = w.used;
    return DDPM_OK;
}
