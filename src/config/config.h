/* config.h - the options of a run: their values, their limits, and the origin of each value.
 *
 * Everything here is generated from the list in options.def.  A value is a default, or comes from a
 * YAML file (later files win), or from the command line (which wins over every file, in any order of
 * reading).  A ddpm_config owns no memory: copy it with `=`. */
#ifndef DDPM_CONFIG_H
#define DDPM_CONFIG_H
#include "base/file.h"
#include <stdint.h>

enum {
    CONFIG_BYTES = 192 * 1024, /* largest file read or written */
    CONFIG_FILES = 4,          /* most YAML files of one run */
    CONFIG_INTS = 16,          /* longest list of numbers */
    CONFIG_WORDS = 8,          /* longest list of words */
    CONFIG_DEVICE = 32,        /* bytes of a device's name, with the final 0 */
    CONFIG_KEY = 64,           /* bytes of a key, with the final 0 */
};

typedef char config_device[CONFIG_DEVICE]; /* as device_name_parse() accepts it */
typedef struct config_ints {
    int count; /* 1 .. CONFIG_INTS */
    int item[CONFIG_INTS];
} config_ints;
typedef struct config_reals {
    int count; /* 1 .. CONFIG_INTS */
    double item[CONFIG_INTS];
} config_reals;
typedef struct config_words {
    int count;              /* 1 .. CONFIG_WORDS */
    int item[CONFIG_WORDS]; /* constants of the option's enum */
} config_words;

/* config_diffusion_predict { DIFFUSION_PREDICT_EPS, ... } and so on: an enum of each option's words. */
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
    CONFIG_TYPE_REALS,
    CONFIG_TYPE_WORDS
} config_type;

/* One line of options.def. */
typedef struct config_option {
    const char *key; /* "train.batch" */
    config_type type;
    const char *initial;   /* the default, as text */
    const char *min, *max; /* as text; "" if the type has no limits */
    const char *unit;      /* of a number; for DEVICE the allowed names */
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

/* Where a value was set.  ARGUMENT overrides FILE, which overrides DEFAULT; among equals the last one wins. */
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
#define CONFIG_FIELD_REALS(option, name)  config_reals name;
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
    const char *renamed; /* the first renamed key that was used; NULL: none */
} ddpm_config;

/* "train", "Training". */
typedef struct config_section {
    const char *name, *title;
} config_section;

/* Options and sections, in the order of options.def. */
extern const config_option config_options[CONFIG_OPTIONS];
extern const config_section config_sections[CONFIG_SECTIONS];

int config_find(const char *key); /* a config_id, or -1 */
/* As config_find(), but also accepts another name of an option, and a key of earlier versions, which sets *renamed to
 * it; else to NULL. */
int config_find_renamed(const char *key, const char **renamed);
int config_find_section(const char *name); /* an index into config_sections, or -1 */
int config_section_of(config_id option);   /* index of an option's section; -1 for an option outside of any */

/* The words of an option in the order of its enum's constants, then NULL; NULL for an option without words. */
extern const char *const *const config_option_words[CONFIG_OPTIONS];
int config_word_of(config_id option, const char *text);       /* the constant of the word `text`; -1: unknown word */
const char *config_word_name(config_id option, int constant); /* the word of a constant: "eps" */

/* The options that a command accepts, and the section whose name may be omitted in its arguments:
 * with .command = "sample", "count=4" means sample.count if there is such an option. */
typedef struct config_scope {
    const char *command;
    const char *options; /* "sample -sample.every device": sections and options, later words first */
} config_scope;

bool config_scope_has(const config_scope *scope, config_id option); /* a NULL scope has all */

/* Set every option to its default. */
void config_defaults(ddpm_config *c);

/* Read a YAML file.  Sections are mappings ("train: {batch: 64}") or part of the key ("train.batch: 64");
 * lists are written [1, 2] or with one item per line; null makes a path empty.  On failure *c is unchanged.
 * DDPM_EINVAL: file, line, column and what is wrong (not YAML, unknown or repeated key, wrong type, out
 * of range, tabs as indentation, tags, anchors and aliases, more than one level below a section).
 * DDPM_ENOINPUT, DDPM_EDATA, DDPM_EIO: from file_read(). */
DDPM_MUST_CHECK ddpm_status config_read_file(ddpm_config *c, const char *path, err *e);
/* As config_read_file() from memory; `name` is the file's name in messages. */
DDPM_MUST_CHECK ddpm_status config_read(ddpm_config *c, const char *name, const char *bytes, size_t size, err *e);

/* Apply one "key=value" argument; lists are written [1,2] or 1,2.  A NULL scope accepts full keys of all options.
 * DDPM_EINVAL, *c unchanged: not of this form, unknown key (names the three nearest), wrong type, out of range. */
DDPM_MUST_CHECK ddpm_status config_assign(ddpm_config *c, const config_scope *scope, const char *argument, err *e);

/* Is the text key=value?  The part before the = must be a possible key: "./a=b" is a path. */
bool config_is_assignment(const char *text);

/* Options that are not set, but whose default depends on another: sigma_min and sigma_max with parameterization ve.  To be
 * called before config_check(), when all options are read. */
void config_settle(ddpm_config *c);

/* Check the rules between options: valid sides and channels of images, levels of the U-Net that fit each other and the
 * resolution, groups that divide the channels, beta_start <= beta_end, a guidance_interval that is one.  DDPM_EINVAL names
 * the options. */
DDPM_MUST_CHECK ddpm_status config_check(const ddpm_config *c, err *e);

/* All options as YAML that config_read() turns into the same values; with `origins` each line has a
 * comment with the origin of its value.  Options outside `scope` are omitted (NULL: all are written).
 * *text ends in a 0 that *size does not count; free with mem_free().  DDPM_EINVAL: over CONFIG_BYTES. */
DDPM_MUST_CHECK ddpm_status config_write(const ddpm_config *c, const config_scope *scope, bool origins, char **text,
                                         size_t *size, err *e);

/* Do two configurations have the same value of one option? */
bool config_same(const ddpm_config *a, const ddpm_config *b, config_id option);
/* Was the option set to another value than its default?  (A run's config.yaml sets all options, so the origin alone
 * does not tell.) */
bool config_is_chosen(const ddpm_config *c, config_id option);

/* ---- for the parsers of files and arguments ---------------------------------------------------- */

/* The items of a list, as text. */
typedef struct config_items {
    int count;
    char text[CONFIG_INTS][CONFIG_KEY];
} config_items;

/* Set an option, unless it has a value from a source of higher priority (the new value is checked nevertheless). */
DDPM_MUST_CHECK ddpm_status config_set(ddpm_config *c, config_id option, const config_place *at, const char *text,
                                       err *e);
DDPM_MUST_CHECK ddpm_status config_set_items(ddpm_config *c, config_id option, const config_place *at,
                                             const config_items *items, err *e);

/* DDPM_EINVAL with "file:line:column: " or "command line: " in front of the message. */
__attribute__((format(printf, 4, 5))) ddpm_status config_refuse(const ddpm_config *c, const config_place *at, err *e,
                                                                const char *fmt, ...);
/* As config_refuse() for an unknown key; the message names the three nearest options of the scope. */
ddpm_status config_refuse_key(const ddpm_config *c, const config_place *at, const config_scope *scope, const char *key,
                              err *e);
#endif
