/* config.h - the options of a run: their values, their limits, and where each value came from.
 *
 * options.def is the list; everything here is made from it.  A value is a default, or comes from a
 * YAML file (a later file wins), or from the command line (which wins over every file, whichever is
 * read first).  A ddpm_config owns no memory: copy it with `=`. */
#ifndef DDPM_CONFIG_H
#define DDPM_CONFIG_H
#include "base/file.h"
#include <stdint.h>

enum {
    CONFIG_BYTES = 84 * 1024, /* largest file read or written */
    CONFIG_FILES = 4,         /* files one run may be told by */
    CONFIG_INTS = 16,         /* longest list of numbers */
    CONFIG_WORDS = 8,         /* longest list of words */
    CONFIG_DEVICE = 32,       /* bytes of a device's name, with the final 0 */
    CONFIG_KEY = 64,          /* bytes of a key, with the final 0 */
};

typedef char config_device[CONFIG_DEVICE]; /* as device_name_parse() takes it */
typedef struct config_ints {
    int count; /* 1 .. CONFIG_INTS */
    int item[CONFIG_INTS];
} config_ints;
typedef struct config_words {
    int count;              /* 1 .. CONFIG_WORDS */
    int item[CONFIG_WORDS]; /* constants of the option's enum */
} config_words;

/* config_diffusion_predict { DIFFUSION_PREDICT_EPS, ... } and its like: an option's words. */
/* clang-format off */
#define WORDS_OF(option, ...) typedef enum config_##option { __VA_ARGS__ } config_##option;
/* clang-format on */
#define WORD(constant, word) constant,
#include "config/options.def"

typedef enum config_type {
    CONFIG_TYPE_BOOL,
    CONFIG_TYPE_INT,
    CONFIG_TYPE_INT64,
    CONFIG_TYPE_REAL,
    CONFIG_TYPE_PATH,
    CONFIG_TYPE_WORD,
    CONFIG_TYPE_DEVICE,
    CONFIG_TYPE_INTS,
    CONFIG_TYPE_WORDS
} config_type;

/* One line of options.def. */
typedef struct config_option {
    const char *key; /* "train.batch" */
    config_type type;
    const char *initial;   /* the default, as one writes it */
    const char *min, *max; /* as written; "" where the type has none */
    const char *unit;      /* of a number; the names that a device may have */
    const char *help;
    size_t offset; /* of the field in ddpm_config */
} config_option;

/* OPTION_seed, OPTION_train_batch, ...: the options' numbers. */
typedef enum config_id {
#define ROOT(name, ...)         OPTION_##name,
#define OPT(section, name, ...) OPTION_##section##_##name,
#include "config/options.def"
    CONFIG_OPTIONS
} config_id;
typedef enum config_section_id {
#define SECTION(name, title) CONFIG_SECTION_##name,
#include "config/options.def"
    CONFIG_SECTIONS
} config_section_id;

typedef enum config_source { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ARGUMENT } config_source;

/* Where a value was written.  The last one that may write wins: ARGUMENT over FILE over DEFAULT. */
typedef struct config_place {
    config_source source;
    int file;         /* index into ddpm_config.file, for CONFIG_FILE */
    int line, column; /* from 1 */
} config_place;

#define CONFIG_FIELD_BOOL(option, name)   bool name;
#define CONFIG_FIELD_INT(option, name)    int name;
#define CONFIG_FIELD_INT64(option, name)  int64_t name;
#define CONFIG_FIELD_REAL(option, name)   double name;
#define CONFIG_FIELD_PATH(option, name)   char name[PATH_CAP];
#define CONFIG_FIELD_WORD(option, name)   config_##option name;
#define CONFIG_FIELD_DEVICE(option, name) config_device name;
#define CONFIG_FIELD_INTS(option, name)   config_ints name;
#define CONFIG_FIELD_WORDS(option, name)  config_words name;
typedef struct ddpm_config {
/* clang-format off */
#define SECTION(name, title) struct {
#define END(name)            } name;
/* clang-format on */
#define ROOT(name, type, ...)         CONFIG_FIELD_##type(name, name)
#define OPT(section, name, type, ...) CONFIG_FIELD_##type(section##_##name, name)
#include "config/options.def"
    config_place origin[CONFIG_OPTIONS];
    char file[CONFIG_FILES][PATH_CAP]; /* names of the files read */
    int files;
    const char *renamed; /* the first key used that has another name now; NULL: none */
} ddpm_config;

/* "train", "Training". */
typedef struct config_section {
    const char *name, *title;
} config_section;

/* Options and sections, in the order of options.def. */
extern const config_option config_options[CONFIG_OPTIONS];
extern const config_section config_sections[CONFIG_SECTIONS];

int config_find(const char *key); /* a config_id, or -1 */
/* Also by the key of earlier versions, which is then *renamed; else NULL. */
int config_find_renamed(const char *key, const char **renamed);
int config_find_section(const char *name); /* an index into config_sections, or -1 */
int config_section_of(config_id option);   /* the same; -1 for one without */

/* The words of an option in the order of its enum's constants, then NULL; NULL for an option without. */
extern const char *const *const config_option_words[CONFIG_OPTIONS];
int config_word_of(config_id option, const char *text);       /* the constant of the word `text`; -1: it is none */
const char *config_word_name(config_id option, int constant); /* and back: "eps" */

/* Which options a command takes, and which section's name may be left out in its arguments:
 * with .command = "sample", "count=4" means sample.count if there is such an option. */
typedef struct config_scope {
    const char *command;
    const char *options; /* "sample -sample.every device": sections and options, later words first */
} config_scope;

bool config_scope_has(const config_scope *scope, config_id option); /* a NULL scope has all */

/* Every option to its default. */
void config_defaults(ddpm_config *c);

/* Read a YAML file.  Sections are mappings ("train: {batch: 64}") or part of the key ("train.batch: 64");
 * lists are written [1, 2] or one item a line; null empties a path.  All or nothing: on failure *c is
 * unchanged.
 * DDPM_EINVAL: file, line, column and what is wrong (not YAML, unknown or repeated key, wrong type, out
 * of range, tabs as indentation, tags, anchors and aliases, more than one level below a section).
 * DDPM_ENOINPUT, DDPM_EDATA, DDPM_EIO: from file_read(). */
DDPM_MUST_CHECK ddpm_status config_read_file(ddpm_config *c, const char *path, err *e);
/* The same from memory; `name` stands for the file in messages. */
DDPM_MUST_CHECK ddpm_status config_read(ddpm_config *c, const char *name, const char *bytes, size_t size, err *e);

/* One "key=value" argument; lists are written [1,2] or 1,2.  A NULL scope takes full keys of all options.
 * DDPM_EINVAL, *c unchanged: not of this form, unknown (names the three nearest), wrong type, out of range. */
DDPM_MUST_CHECK ddpm_status config_assign(ddpm_config *c, const config_scope *scope, const char *argument, err *e);

/* key=value, where the text in front of the = could be a key: "./a=b" is a path. */
bool config_is_assignment(const char *text);

/* What no option's range says: sides and channels that images can have, the levels of the U-Net fit each other and the
 * resolution, groups divide the channels, beta_start <= beta_end.  DDPM_EINVAL names the options. */
DDPM_MUST_CHECK ddpm_status config_check(const ddpm_config *c, err *e);

/* All options as YAML that config_read() turns into the same values; with `origins` each line says in a
 * comment where its value came from.  Options outside `scope` (NULL: none) are left out.
 * *text ends in a 0 that *size does not count; free with mem_free().  DDPM_EINVAL: over CONFIG_BYTES. */
DDPM_MUST_CHECK ddpm_status config_write(const ddpm_config *c, const config_scope *scope, bool origins, char **text,
                                         size_t *size, err *e);

/* Whether two configurations say the same, about one option. */
bool config_same(const ddpm_config *a, const ddpm_config *b, config_id option);
/* Whether somebody set the option, and to another value than its default: a kept configuration names all of them. */
bool config_is_chosen(const ddpm_config *c, config_id option);

/* ---- for the readers of files and arguments ---------------------------------------------------- */

/* One value as it was written: a text, or the items of a list. */
typedef struct config_items {
    int count;
    char text[CONFIG_INTS][CONFIG_KEY];
} config_items;

/* Give an option a value, unless it has one from a stronger source (the value is checked all the same). */
DDPM_MUST_CHECK ddpm_status config_set(ddpm_config *c, config_id option, const config_place *at, const char *text,
                                       err *e);
DDPM_MUST_CHECK ddpm_status config_set_items(ddpm_config *c, config_id option, const config_place *at,
                                             const config_items *items, err *e);

/* DDPM_EINVAL with "file:line:column: " or "command line: " in front of the message. */
__attribute__((format(printf, 4, 5))) ddpm_status config_refuse(const ddpm_config *c, const config_place *at, err *e,
                                                                const char *fmt, ...);
/* The same for a key that is no option; names the three nearest options of the scope. */
ddpm_status config_refuse_key(const ddpm_config *c, const config_place *at, const config_scope *scope, const char *key,
                              err *e);
#endif
