/* scheduler_keys.h - the keys of scheduler_config.json: which class has which, of what type, and the limits of its value.
 * Private to scheduler_config.c and scheduler_keys.c. */
#ifndef DDPM_SCHEDULER_KEYS_H
#define DDPM_SCHEDULER_KEYS_H
#include "io/scheduler_config.h"

/* clang-format off */
enum {
#define CLASS(id, name) id = 1 << SCHEDULER_CLASS_##id,
#include "io/scheduler_classes.def"
    K_FAMILY = EULER | EULER_A | HEUN | DPM2 | DPM2_A | LMS, /* those of k-diffusion */
    SOLVERS_OF_DPM = DPM_MULTISTEP | DPM_SINGLESTEP,
    EDM_FAMILY = EDM_EULER | EDM_DPM,
    SDE_FAMILY = SDE_VP | SDE_VE,
    DISTILLED = LCM | TCD,
    DDIM_FAMILY = DDIM | DDIM_INVERSE,
    MULTISTEP = DEIS | DPM_MULTISTEP | UNIPC | SA,
    SOLVER = MULTISTEP | DPM_SINGLESTEP,
    WITH_BETAS = DDPM | DDIM_FAMILY | K_FAMILY | PNDM | SOLVER | DISTILLED,
    WITH_SIGMAS = EULER | HEUN | DPM2 | DPM2_A | LMS | SOLVER | FLOW_EULER,
    ALL = ~0
};

typedef enum key_type {
    KEY_INT, KEY_REAL, KEY_BOOL, KEY_WORD,
    KEY_BETAS,                      /* trained_betas: null or T numbers */
    KEY_SIGMAS,                     /* use_..._sigmas: `value` is the constant of true */
    KEY_INFINITE,                   /* a number, or -Infinity */
    KEY_STEPS,                      /* a list of step numbers, kept as bits */
    KEY_OWN,                        /* a key that diffusers does not know: the word `fixed`, which must be there */
    KEY_NULL, KEY_FALSE, KEY_FIXED, /* nothing else is supported; KEY_FIXED: the word `words`, or the number `value` */
} key_type;

typedef struct scheduler_key {
    const char *name;
    unsigned classes;
    key_type type;
    size_t offset;
    double min, max;
    const char *const *words; /* of KEY_WORD; NULL ends the list */
    const char *fixed;        /* of KEY_FIXED, or NULL: the number `value` */
    double value;
} scheduler_key;
/* clang-format on */

extern const int scheduler_key_count;
extern const scheduler_key scheduler_keys[]; /* in alphabetical order, as diffusers writes them */

/* The names of the classes, which end with NULL; past SCHEDULER_CLASSES, the old name of DDPMScheduler. */
extern const char *const scheduler_class_names[];

/* Is the configuration's class among these bits? */
static inline bool scheduler_is(const scheduler_config *c, unsigned classes) { return classes >> c->type & 1; }

/* The word of a KEY_WORD's value. */
const char *scheduler_key_word(const scheduler_key *k, int value);

#endif
