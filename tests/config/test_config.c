/* Options: the list itself, YAML and arguments in, YAML out, and what is said about what is wrong. */
#include "config/config.h"
#include "config/config_value.h"
#include "base/mem.h"
#include "config/nearest.h"

#include <criterion/criterion.h>
#include <glob.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof(array)[0]))

static void *field(ddpm_config *c, int option) { return (char *)c + config_options[option].offset; }

static ddpm_config defaults(void)
{
    ddpm_config c;
    config_defaults(&c);
    return c;
}

static ddpm_status read_text(ddpm_config *c, const char *text, err *e)
{
    return config_read(c, "a.yaml", text, strlen(text), e);
}

static void must_read(ddpm_config *c, const char *text)
{
    err e = {0};
    cr_assert_eq(read_text(c, text, &e), DDPM_OK, "%s: %s", text, e.text);
}

static void must_assign(ddpm_config *c, const char *argument)
{
    err e = {0};
    cr_assert_eq(config_assign(c, NULL, argument, &e), DDPM_OK, "%s: %s", argument, e.text);
}

/* Equal values, compared as C sees them, not through their texts. */
static bool equal(ddpm_config *a, ddpm_config *b, int option)
{
    const void *x = field(a, option), *y = field(b, option);
    const config_ints *ints = x, *ints_too = y;
    const config_reals *reals = x, *reals_too = y;
    const config_words *words = x, *words_too = y;
    switch (config_options[option].type) {
    case CONFIG_TYPE_BOOL: return *(const bool *)x == *(const bool *)y;
    case CONFIG_TYPE_INT: return *(const int *)x == *(const int *)y;
    case CONFIG_TYPE_INT64: return *(const int64_t *)x == *(const int64_t *)y;
    case CONFIG_TYPE_REAL: return *(const double *)x == *(const double *)y;
    case CONFIG_TYPE_WORD: return *(const int *)x == *(const int *)y;
    case CONFIG_TYPE_PATH:
    case CONFIG_TYPE_DEVICE: return strcmp(x, y) == 0;
    case CONFIG_TYPE_INTS:
        return ints->count == ints_too->count &&
               memcmp(ints->item, ints_too->item, sizeof(int) * (size_t)ints->count) == 0;
    case CONFIG_TYPE_REALS:
        return reals->count == reals_too->count &&
               memcmp(reals->item, reals_too->item, sizeof(double) * (size_t)reals->count) == 0;
    case CONFIG_TYPE_WORDS:
        return words->count == words_too->count &&
               memcmp(words->item, words_too->item, sizeof(int) * (size_t)words->count) == 0;
    }
    return false;
}

/* ---- the list ------------------------------------------------------------------------------------ */

static bool is_number(const config_option *o)
{
    return o->type == CONFIG_TYPE_INT || o->type == CONFIG_TYPE_INT64 || o->type == CONFIG_TYPE_REAL ||
           o->type == CONFIG_TYPE_INTS || o->type == CONFIG_TYPE_REALS;
}

Test(options, each_line_is_well_formed)
{
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const config_option *o = &config_options[i];
        const bool words = o->type == CONFIG_TYPE_WORD || o->type == CONFIG_TYPE_WORDS;
        cr_assert_lt(strlen(o->key), CONFIG_KEY, "%s", o->key);
        cr_assert_eq(config_find(o->key), i, "%s stands twice", o->key);
        cr_assert_eq(config_find_section(o->key), -1, "%s is a section, too", o->key);
        cr_assert(o->help[0] && strlen(o->help) < 80, "%s", o->key);
        cr_assert_eq(is_number(o), o->min[0] && o->max[0], "%s: limits", o->key);
        cr_assert(!words || config_option_words[i], "%s: no words are allowed", o->key);
        if (o->type == CONFIG_TYPE_INT || o->type == CONFIG_TYPE_INTS)
            cr_assert(atoll(o->min) >= INT_MIN && atoll(o->max) <= INT_MAX, "%s", o->key);
    }
}

Test(options, sections_are_those_of_the_keys)
{
    cr_assert_eq(config_section_of(OPTION_seed), -1);
    cr_assert_str_eq(config_sections[config_section_of(OPTION_train_batch)].name, "train");
    cr_assert_str_eq(config_sections[config_find_section("data")].title, "Training images");
    for (int i = 0; i < CONFIG_OPTIONS; i++) /* config_write() and --help rely on it */
        cr_assert(i == 0 || config_section_of(i) >= config_section_of(i - 1), "%s", config_options[i].key);
}

Test(options, defaults_are_good_values_and_say_so)
{
    ddpm_config c = defaults(), again = defaults();
    err e = {0};
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        char argument[256];
        (void)snprintf(argument, sizeof argument, "%s=%s", config_options[i].key, config_options[i].initial);
        cr_assert_eq(c.origin[i].source, CONFIG_DEFAULT);
        must_assign(&again, argument);
        cr_assert(equal(&c, &again, i), "%s", argument);
    }
    cr_assert_eq(config_check(&c, &e), DDPM_OK, "%s", e.text);
}

/* appendix B of arXiv:2006.11239, and the authors' published code for what the paper leaves open */
Test(options, cifar10_recipe_is_the_papers)
{
    ddpm_config c = defaults();
    err e = {0};
    cr_assert_eq(config_read_file(&c, DDPM_SOURCE "/configs/cifar10.yaml", &e), DDPM_OK, "%s", e.text);
    const int widths[] = {128, 256, 256, 256};
    cr_assert_eq(c.model.block_out_channels.count, 4);
    cr_assert_arr_eq(c.model.block_out_channels.item, widths, sizeof widths);
    cr_assert_eq(c.model.down_block_types.item[1], MODEL_DOWN_BLOCK_TYPES_ATTN_DOWN); /* 16 x 16 of 32 x 32 */
    cr_assert_eq(c.model.up_block_types.item[2], MODEL_UP_BLOCK_TYPES_ATTN_UP);
    cr_assert_eq(c.model.layers_per_block, 2);
    cr_assert_eq(c.model.dropout, 0.1);
    cr_assert_eq(c.diffusion.num_train_timesteps, 1000);
    cr_assert(c.diffusion.beta_start == 1e-4 && c.diffusion.beta_end == 0.02);
    cr_assert(c.data.flip && c.train.batch == 128 && c.train.steps == 800000);
    cr_assert(c.train.lr == 2e-4 && c.train.lr_warmup_steps == 5000 && c.train.max_grad_norm == 1);
    cr_assert(c.train.adam_beta1 == 0.9 && c.train.adam_beta2 == 0.999 && c.train.adam_epsilon == 1e-8);
    cr_assert_eq(c.ema.decay, 0.9999);
}

Test(options, every_shipped_recipe_reads_and_fits)
{
    glob_t found;
    cr_assert_eq(glob(DDPM_SOURCE "/configs/*.yaml", 0, NULL, &found), 0);
    cr_assert_geq(found.gl_pathc, 4);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        ddpm_config c = defaults();
        err e = {0};
        cr_assert_eq(config_read_file(&c, found.gl_pathv[i], &e), DDPM_OK, "%s", e.text);
        cr_assert_eq(config_check(&c, &e), DDPM_OK, "%s: %s", found.gl_pathv[i], e.text);
        cr_assert_str_neq(c.out, "runs/default", "%s: each recipe has its own folder", found.gl_pathv[i]);
    }
    globfree(&found);
}

/* ---- limits -------------------------------------------------------------------------------------- */

static ddpm_status try_text(int option, const char *value, ddpm_config *c)
{
    char argument[256];
    (void)snprintf(argument, sizeof argument, "%s=%s", config_options[option].key, value);
    *c = defaults();
    return config_assign(c, NULL, argument, NULL);
}

static void try_limits_int(int i)
{
    ddpm_config c;
    char past[32];
    const config_option *o = &config_options[i];
    (void)snprintf(past, sizeof past, "%lld", atoll(o->min) - 1);
    cr_assert_eq(try_text(i, past, &c), DDPM_EINVAL, "%s=%s", o->key, past);
    if (atoll(o->max) == INT64_MAX)
        (void)snprintf(past, sizeof past, "9223372036854775808");
    else
        (void)snprintf(past, sizeof past, "%lld", atoll(o->max) + 1);
    cr_assert_eq(try_text(i, past, &c), DDPM_EINVAL, "%s=%s", o->key, past);
    cr_assert_eq(try_text(i, o->min, &c), DDPM_OK, "%s=%s", o->key, o->min);
    cr_assert_eq(try_text(i, o->max, &c), DDPM_OK, "%s=%s", o->key, o->max);
    if (o->type == CONFIG_TYPE_INT) cr_assert_eq(*(int *)field(&c, i), atoll(o->max));
    if (o->type == CONFIG_TYPE_INT64) cr_assert_eq(*(int64_t *)field(&c, i), atoll(o->max));
    if (o->type == CONFIG_TYPE_INTS) cr_assert_eq(((config_ints *)field(&c, i))->item[0], atoll(o->max));
}

static double real_at(ddpm_config *c, int i)
{
    const config_reals *list = field(c, i);
    return config_options[i].type == CONFIG_TYPE_REALS ? list->item[0] : *(double *)field(c, i);
}

static void try_limits_real(int i)
{
    ddpm_config c;
    char past[64];
    const config_option *o = &config_options[i];
    (void)snprintf(past, sizeof past, "%.17g", nextafter(atof(o->min), -INFINITY));
    cr_assert_eq(try_text(i, past, &c), DDPM_EINVAL, "%s=%s", o->key, past);
    (void)snprintf(past, sizeof past, "%.17g", nextafter(atof(o->max), INFINITY));
    cr_assert_eq(try_text(i, past, &c), DDPM_EINVAL, "%s=%s", o->key, past);
    cr_assert_eq(try_text(i, o->min, &c), DDPM_OK);
    cr_assert_eq(real_at(&c, i), atof(o->min));
    cr_assert_eq(try_text(i, o->max, &c), DDPM_OK);
    cr_assert_eq(real_at(&c, i), atof(o->max));
}

Test(limits, both_ends_are_in_and_the_next_number_is_out)
{
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        if (!is_number(&config_options[i])) continue;
        if (config_options[i].type == CONFIG_TYPE_REAL || config_options[i].type == CONFIG_TYPE_REALS)
            try_limits_real(i);
        else
            try_limits_int(i);
    }
}

Test(limits, of_lists_and_paths)
{
    static char path[PATH_CAP + 16] = "out=";
    ddpm_config c = defaults();
    memset(path + 4, 'x', PATH_CAP - 1);
    must_assign(&c, path);
    cr_assert_eq(strlen(c.out), PATH_CAP - 1);
    path[PATH_CAP + 3] = 'x';
    cr_assert_eq(config_assign(&c, NULL, path, NULL), DDPM_EINVAL);
    static const char digits[] = "000000000000000000000000000000000000000000000000000000000000064";
    cr_assert_eq(strlen(digits), CONFIG_KEY - 1); /* the longest item; one more is refused below */
    char text[2 * CONFIG_KEY];
    (void)snprintf(text, sizeof text, "noise.t=1,%s", digits);
    must_assign(&c, text);
    cr_assert_eq(c.noise.t.item[1], 64);
    (void)snprintf(text, sizeof text, "model.block_out_channels: [1, %s]", digits);
    must_read(&c, text);
    cr_assert_eq(c.model.block_out_channels.item[1], 64);
    must_assign(&c, "noise.t=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16");
    cr_assert(c.noise.t.count == 16 && c.noise.t.item[15] == 16);
}

Test(limits, of_files)
{
    static char text[CONFIG_BYTES + 2] = "seed: 7\n#";
    ddpm_config c = defaults();
    err e = {0};
    memset(text + 9, 'x', sizeof text - 9);
    cr_assert_eq(config_read(&c, "big.yaml", text, CONFIG_BYTES, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(c.seed, 7);
    cr_assert_eq(config_read(&c, "big.yaml", text, CONFIG_BYTES + 1, &e), DDPM_EINVAL);
    cr_assert_str_eq(e.text, "big.yaml: 196609 bytes; at most 196608 are allowed");
    for (int i = 1; i < CONFIG_FILES; i++) must_read(&c, "");
    cr_assert_eq(read_text(&c, "", &e), DDPM_EINVAL);
    cr_assert_str_eq(e.text, "a.yaml: more than 4 configuration files");
    cr_assert_eq(config_read_file(&c, "no/such.yaml", &e), DDPM_ENOINPUT);
}

/* ---- what is wrong, and where -------------------------------------------------------------------- */

static const struct {
    const char *text, *message;
} wrong_files[] = {
    {"sed: 1\n", "a.yaml:1:1: sed: no such option; nearest: seed, sample.seed, noise.seed"},
    {"train:\n  batch: 64\n  lrr: 1\n",
     "a.yaml:3:3: train.lrr: no such option; nearest: train.lr, train.lr_end, train.p2_k"},
    {"trian:\n  batch: 64\n", "a.yaml:1:1: trian: no such option; nearest: train, sample.grid, bench.plan"},
    {"train:\n  train.lr: 1\n", "a.yaml:2:3: train.train.lr: no such option; nearest: train.lr, ema.at, noise.t"},
    {"train: {batch: many}\n", "a.yaml:1:16: train.batch: 'many' is not an integer (1 to 65536)"},
    {"train: {batch: 1.5}\n", "a.yaml:1:16: train.batch: '1.5' is not an integer (1 to 65536)"},
    {"train: {batch: 0x10}\n", "a.yaml:1:16: train.batch: '0x10' is not an integer (1 to 65536)"},
    {"train: {batch: }\n", "a.yaml:1:16: train.batch: the value is empty; expected an integer"},
    {"train: {batch: 0}\n", "a.yaml:1:16: train.batch: 0 is out of range (1 to 65536)"},
    {"seed: 99999999999999999999\n",
     "a.yaml:1:7: seed: 99999999999999999999 is out of range (0 to 9223372036854775807)"},
    {"train: {lr: fast}\n", "a.yaml:1:13: train.lr: 'fast' is not a number (0 to 1)"},
    {"train: {lr: .nan}\n", "a.yaml:1:13: train.lr: '.nan' is not a number (0 to 1)"},
    {"train: {lr: nan}\n", "a.yaml:1:13: train.lr: 'nan' is not a number (0 to 1)"},
    {"train: {lr: 0x1p-3}\n", "a.yaml:1:13: train.lr: '0x1p-3' is not a number (0 to 1)"},
    {"train: {lr: 1e}\n", "a.yaml:1:13: train.lr: '1e' is not a number (0 to 1)"},
    {"train: {lr: -1e-9}\n", "a.yaml:1:13: train.lr: -1e-9 is out of range (0 to 1)"},
    {"train: {lr: 1e999}\n", "a.yaml:1:13: train.lr: 1e999 is out of range (0 to 1)"},
    {"data: {flip: yes}\n", "a.yaml:1:14: data.flip: 'yes' is not true or false"},
    {"data: {flip: }\n", "a.yaml:1:14: data.flip: the value is empty; expected true or false"},
    {"device: gpu\n", "a.yaml:1:9: device: 'gpu' is not one of auto, cpu, cuda, cuda:N"},
    {"device: \"auto|cpu\"\n", "a.yaml:1:9: device: 'auto|cpu' is not one of auto, cpu, cuda, cuda:N"},
    {"device: cuda:1234\n", "a.yaml:1:9: device: 'cuda:1234' is not one of auto, cpu, cuda, cuda:N"},
    {"device: 'cuda:'\n", "a.yaml:1:9: device: 'cuda:' is not one of auto, cpu, cuda, cuda:N"},
    {"cuda: {without: [graph, sid]}\n",
     "a.yaml:1:17: cuda.disable: 'sid' is not one of none, graph, side, upconv, sdpa, epilogue, tuning, loop, "
     "bias_sums, time_mlp, concat, projections, beta, grad_sums"},
    {"diffusion: {predict: x}\n", "a.yaml:1:22: diffusion.predict: 'x' is not one of eps, x0, mu, v"},
    {"diffusion: {predict: }\n", "a.yaml:1:22: diffusion.predict: the value is empty; expected one of eps, x0, mu, v"},
    {"device: ''\n", "a.yaml:1:9: device: the value is empty; expected one of auto, cpu, cuda, cuda:N"},
    {"out: \"a\\nb\"\n", "a.yaml:1:6: out: 'a?b' is not valid UTF-8, or contains a control character"},
    {"out: \"a\\u2028b\"\n", "a.yaml:1:6: out: 'a\u2028b' is not valid UTF-8, or contains a control character"},
    {"out: \"a\\0b\"\n", "a.yaml:1:6: a value contains a NUL character"},
    {"\"se\\0ed\": 1\n", "a.yaml:1:1: a value contains a NUL character"},
    {"model:\n  block_out_channels: [32, wide]\n",
     "a.yaml:2:23: model.block_out_channels: 'wide' is not an integer (1 to 4096)"},
    {"model:\n  block_out_channels: []\n", "a.yaml:2:23: model.block_out_channels: the list is empty"},
    {"model:\n  block_out_channels: [[32]]\n",
     "a.yaml:2:24: model.block_out_channels: nested too deep: list items must be plain values"},
    {"model:\n  block_out_channels: [{a: 1}]\n",
     "a.yaml:2:24: model.block_out_channels: nested too deep: list items must be plain values"},
    {"model:\n  block_out_channels: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n",
     "a.yaml:2:56: model.block_out_channels: has more than 16 items"},
    {"model:\n  block_out_channels: [0000000000000000000000000000000000000000000000000000000000000032]\n",
     "a.yaml:2:24: model.block_out_channels: '00000000000000000000...' is too long"},
    {"model:\n  down_block_types: [DownBlock2D, ResBlock]\n",
     "a.yaml:2:21: model.down_block_types: 'ResBlock' is not one of DownBlock2D, AttnDownBlock2D"},
    {"model:\n  up_block_types: [UpBlock2D, UpBlock2D, UpBlock2D, UpBlock2D, UpBlock2D, UpBlock2D, UpBlock2D, "
     "UpBlock2D, UpBlock2D]\n",
     "a.yaml:2:19: model.up_block_types: has more than 8 items"},
    {"seed: [1, 2]\n", "a.yaml:1:7: seed: takes one value, not a list"},
    {"seed: {a: 1}\n", "a.yaml:1:7: seed: nested too deep: the option takes a value, not a mapping"},
    {"train:\n  batch:\n    size: 3\n",
     "a.yaml:3:5: train.batch: nested too deep: the option takes a value, not a mapping"},
    {"train: 5\n", "a.yaml:1:8: train: is a section, not an option: indent its options on the lines below it"},
    {"train: [batch]\n", "a.yaml:1:8: train: is a section, not an option: indent its options on the lines below it"},
    {"seed: 1\nout: x\nseed: 1\n", "a.yaml:3:1: seed: given twice, first in line 1"},
    {"train.lr: 0.1\n\ntrain:\n  lr: 0.1\n", "a.yaml:4:3: train.lr: given twice, first in line 1"},
    {"train: {lr: 0}\ntrain: {batch: 1}\n", "a.yaml:2:1: train: given twice, first in line 1"},
    {"train:\n\tlr: 0.1\n", "a.yaml:2:1: tab in the indentation: YAML requires spaces"},
    {"train:\n  \tlr: 0.1\n", "a.yaml:2:3: tab in the indentation: YAML requires spaces"},
    {"seed: &s 1\n", "a.yaml:1:7: anchors and aliases (&s, *s) are not supported"},
    {"train: &t {lr: 0}\n", "a.yaml:1:8: anchors and aliases (&t, *t) are not supported"},
    {"noise.t: &l [1]\n", "a.yaml:1:10: anchors and aliases (&l, *l) are not supported"},
    {"seed: *s\n", "a.yaml:1:7: anchors and aliases (&s, *s) are not supported"},
    {"<<: *base\n", "a.yaml:1:5: anchors and aliases (&base, *base) are not supported"},
    {"seed: !!int 1\n", "a.yaml:1:7: tags (tag:yaml.org,2002:int) are not supported"},
    {"train: !x {lr: 0}\n", "a.yaml:1:8: tags (!x) are not supported"},
    {"noise.t: !x [1]\n", "a.yaml:1:10: tags (!x) are not supported"},
    {"- seed\n", "a.yaml:1:1: expected options of the form 'key: value', such as 'seed: 1'"},
    {"seed\n", "a.yaml:1:1: expected options of the form 'key: value', such as 'seed: 1'"},
    {"? [seed]\n: 1\n", "a.yaml:1:3: expected the name of an option"},
    {"seed: 1\n---\nseed: 2\n", "a.yaml:2:1: more than one YAML document; keep only one per file"},
    {"seed: [1\n", "a.yaml:2:1: not valid YAML: did not find expected ',' or ']'"},
    {"out: ok\nseed: \"1\nx", "a.yaml:3:2: not valid YAML: found unexpected end of stream"},
    {"seed: 1\nout: a\x01z\n", "a.yaml:2:7: not valid YAML: control characters are not allowed"},
    {"seed: 1\nout: \xc3\xa4\xff\n", "a.yaml:2:7: not valid YAML: invalid leading UTF-8 octet"},
};

Test(wrong, files_are_refused_in_one_line_that_says_where)
{
    for (int i = 0; i < LENGTH(wrong_files); i++) {
        ddpm_config c = defaults();
        const ddpm_config before = c;
        err e = {0};
        cr_expect_eq(read_text(&c, wrong_files[i].text, &e), DDPM_EINVAL, "%s", wrong_files[i].text);
        cr_expect_str_eq(e.text, wrong_files[i].message, "%s\n     not %s", e.text, wrong_files[i].message);
        cr_expect_eq(memcmp(&c, &before, sizeof c), 0, "changed by %s", wrong_files[i].text);
    }
}

static const config_scope sample_scope = {"sample", "sample device threads"};
static const config_scope train_scope = {"train", "seed device threads train sample"};

static const struct {
    const config_scope *scope;
    const char *text, *message;
} wrong_arguments[] = {
    {NULL, "seed", "command line: 'seed' is not of the form key=value"},
    {NULL, "=1", "command line: '=1' is not of the form key=value"},
    {NULL, "sed=1", "command line: sed: no such option; nearest: seed, sample.seed, noise.seed"},
    {NULL, "batch=1", "command line: batch: no such option; nearest: train.batch, sample.batch, inspect.batch"},
    {NULL, "trian.batch=1",
     "command line: trian.batch: no such option; nearest: train.batch, sample.batch, inspect.batch"},
    {NULL, "mode.dropout=1", "command line: mode.dropout: no such option; nearest: model.dropout, out, ema.out"},
    {NULL, "seed=", "command line: seed: the value is empty; expected an integer"},
    {NULL, "seed= 1", "command line: seed: ' 1' is not an integer (0 to 9223372036854775807)"},
    {NULL, "seed=+", "command line: seed: '+' is not an integer (0 to 9223372036854775807)"},
    {NULL, "train.batch=-1", "command line: train.batch: -1 is out of range (1 to 65536)"},
    {NULL, "model.block_out_channels=32,,64",
     "command line: model.block_out_channels: the value is empty; expected an integer"},
    {NULL, "model.block_out_channels=[32,64",
     "command line: model.block_out_channels: '[32' is not an integer (1 to 4096)"},
    {NULL, "noise.t=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "command line: noise.t: has more than 16 items"},
    {NULL, "noise.t=0000000000000000000000000000000000000000000000000000000000000001",
     "command line: noise.t: '00000000000000000000...' is too long"},
    {&sample_scope, "train.lr=0",
     "command line: train.lr: not an option of 'ddpm sample'; 'ddpm sample --help' lists those"},
    {&sample_scope, "resume=auto",
     "command line: resume: not an option of 'ddpm sample'; 'ddpm sample --help' lists those"},
    {&sample_scope, "cuont=4", "command line: cuont: no such option; nearest: sample.count, sample.out, sample.churn"},
    {&sample_scope, "device=cuda:", "command line: device: 'cuda:' is not one of auto, cpu, cuda, cuda:N"},
    {&sample_scope, "device=cuda:N", "command line: device: 'cuda:N' is not one of auto, cpu, cuda, cuda:N"},
    {&sample_scope, "device=cuda:1000", "command line: device: 'cuda:1000' is not one of auto, cpu, cuda, cuda:N"},
    {&sample_scope, "device=gpu", "command line: device: 'gpu' is not one of auto, cpu, cuda, cuda:N"},
    {&sample_scope, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=4",
     "command line: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: no such option; nearest: "
     "sample.churn_max, sample.sample_max_value, device"},
};

Test(wrong, arguments_are_refused_in_one_line)
{
    for (int i = 0; i < LENGTH(wrong_arguments); i++) {
        ddpm_config c = defaults();
        const ddpm_config before = c;
        err e = {0};
        cr_expect_eq(config_assign(&c, wrong_arguments[i].scope, wrong_arguments[i].text, &e), DDPM_EINVAL, "%s",
                     wrong_arguments[i].text);
        cr_expect_str_eq(e.text, wrong_arguments[i].message, "%s\n     not %s", e.text, wrong_arguments[i].message);
        cr_expect_eq(memcmp(&c, &before, sizeof c), 0, "changed by %s", wrong_arguments[i].text);
    }
}

/* The examples of RFC 3629 and of the Unicode standard's table 3-7, at the edges of each range. */
Test(wrong, texts_are_utf8)
{
    static const char *const good[] = {"a",
                                       " ~",
                                       "\xc2\xa0",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbd",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbd"};
    static const char *const bad[] = {
        "\x1f",         "\x7f",         "\xc2\x80",         "\xc2\x9f",         "\xc1\xbf",
        "\xc3",         "\xe0\x9f\xbf", "\xed\xa0\x80",     "\xed\xbf\xbf",     "\xef\xbb\xbf",
        "\xef\xbf\xbe", "\xe2\x80\xa9", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
        "\xe4\xb8",     "\x80",         "\xe4\x28\xb8",     "\xf4\x8f\xbf\xbf"};
    char argument[32];
    for (int i = 0; i < LENGTH(good); i++) {
        ddpm_config c = defaults();
        (void)snprintf(argument, sizeof argument, "out=%s", good[i]);
        must_assign(&c, argument);
        cr_assert_str_eq(c.out, good[i]);
    }
    for (int i = 0; i < LENGTH(bad); i++) {
        ddpm_config c = defaults();
        (void)snprintf(argument, sizeof argument, "out=%s", bad[i]);
        cr_expect_eq(config_assign(&c, NULL, argument, NULL), DDPM_EINVAL, "text %d", i);
    }
    cr_assert(text_is_plain("\xc3\xa4", 2) && !text_is_plain("\xc3\xa4", 1), "the end of the text is its end");
}

/* ---- what is right ------------------------------------------------------------------------------- */

Test(right, yaml_may_be_written_in_several_ways)
{
    static const char *const same[] = {
        "train:\n  batch: 64\nmodel:\n  block_out_channels: [32, 64]\nout: a b\n",
        "train.batch: 64\nmodel.block_out_channels: [32, 64]\nout: 'a b'\n",
        "{train: {batch: 64}, model: {block_out_channels: [32, 64]}, out: \"a b\"}",
        "# a comment\n---\ntrain: {batch: \"64\"}\nmodel.block_out_channels:\n- 32\n- 64\nout: \"a\\x20b\"\n...\n",
        "train:\r\n  batch: +64\r\nmodel:\r\n  block_out_channels: 32, 64\r\nout: a b # no comment\r\ndata:\r\n",
    };
    for (int i = 0; i < LENGTH(same); i++) {
        ddpm_config c = defaults();
        must_read(&c, same[i]);
        cr_expect(c.train.batch == 64 && c.model.block_out_channels.count == 2 &&
                      c.model.block_out_channels.item[0] == 32 && c.model.block_out_channels.item[1] == 64,
                  "%s", same[i]);
        cr_expect_str_eq(c.out, "a b", "%s", same[i]);
    }
}

Test(right, null_empties_a_path_but_its_letters_do_not)
{
    ddpm_config c = defaults();
    must_read(&c, "out: null\nmodel.init_from: ~\ndata: {path: }\nresume: \"null\"\ntrain: null\n");
    cr_assert_str_eq(c.out, "");
    cr_assert_str_eq(c.model.init_from, "");
    cr_assert_str_eq(c.data.path, "");
    cr_assert_str_eq(c.resume, "null");
}

Test(right, empty_files_change_nothing)
{
    static const char *const nothing[] = {"", "\n", "# only this\n", "---\n", "null", "{}", "train:\n"};
    for (int i = 0; i < LENGTH(nothing); i++) {
        ddpm_config c = defaults(), before = c;
        if (i < CONFIG_FILES) must_read(&c, nothing[i]);
        for (int k = 0; k < CONFIG_OPTIONS; k++) cr_assert(equal(&c, &before, k) && !c.origin[k].source);
    }
}

Test(right, later_files_win_and_arguments_always)
{
    ddpm_config c = defaults();
    must_read(&c, "train: {batch: 1, lr: 0.1}\nseed: 1\n");
    must_assign(&c, "train.lr=0.3");
    must_read(&c, "\ntrain: {batch: 2, lr: 0.2}\n");
    cr_assert(c.train.batch == 2 && c.train.lr == 0.3 && c.seed == 1);
    must_assign(&c, "train.lr=0.4");
    cr_assert_eq(c.train.lr, 0.4);

    const config_place *batch = &c.origin[OPTION_train_batch], *lr = &c.origin[OPTION_train_lr];
    cr_assert(batch->source == CONFIG_FILE && batch->file == 1 && batch->line == 2 && batch->column == 16);
    cr_assert_eq(lr->source, CONFIG_ARGUMENT);
    cr_assert(c.origin[OPTION_seed].file == 0 && c.origin[OPTION_seed].line == 2);
    cr_assert_eq(c.origin[OPTION_threads].source, CONFIG_DEFAULT);
}

Test(right, a_file_is_checked_even_where_an_argument_wins)
{
    ddpm_config c = defaults();
    err e = {0};
    must_assign(&c, "train.lr=0.3");
    cr_assert_eq(read_text(&c, "train: {lr: quick}", &e), DDPM_EINVAL);
    cr_assert_str_eq(e.text, "a.yaml:1:13: train.lr: 'quick' is not a number (0 to 1)");
}

Test(right, a_command_need_not_name_its_own_section)
{
    ddpm_config c = defaults();
    cr_assert_eq(config_assign(&c, &sample_scope, "count=1000", NULL), DDPM_OK);
    cr_assert_eq(config_assign(&c, &sample_scope, "seed=5", NULL), DDPM_OK);
    cr_assert_eq(config_assign(&c, &sample_scope, "sample.batch=7", NULL), DDPM_OK);
    cr_assert_eq(config_assign(&c, &sample_scope, "threads=2", NULL), DDPM_OK);
    cr_assert(c.sample.count == 1000 && c.sample.seed == 5 && c.seed == 0 && c.sample.batch == 7 && c.threads == 2);
    cr_assert_eq(config_assign(&c, &train_scope, "seed=6", NULL), DDPM_OK);
    cr_assert_eq(config_assign(&c, &train_scope, "batch=8", NULL), DDPM_OK);
    cr_assert(c.seed == 6 && c.sample.seed == 5 && c.train.batch == 8 && c.sample.batch == 7);
}

/* The keys of earlier versions, in a file, its section, and an argument. */
Test(right, old_keys_are_read_and_said)
{
    static const char yaml[] = "plan_cache: /tmp/old\ncuda:\n  without: [graph]\n";
    const config_scope inspect = {"inspect", "inspect autotune_cache"};
    ddpm_config c;
    err e = {0};
    config_defaults(&c);
    cr_assert_null(c.renamed);
    cr_assert_eq(config_assign(&c, &inspect, "autotune=true", &e), DDPM_OK, "%s", e.text);
    cr_assert_null(c.renamed);
    cr_assert_eq(config_read(&c, "a.yaml", yaml, strlen(yaml), &e), DDPM_OK, "%s", e.text);
    cr_expect_str_eq(c.autotune_cache, "/tmp/old");
    cr_expect(c.cuda.disable.count == 1 && c.cuda.disable.item[0] == CUDA_DISABLE_GRAPH);
    cr_expect_str_eq(c.renamed, "plan_cache", "the first");
    config_defaults(&c);
    cr_assert_neq(config_assign(&c, &inspect, "plans=maybe", &e), DDPM_OK);
    cr_expect_null(c.renamed, "what is refused changes nothing");
    cr_assert_eq(config_assign(&c, &inspect, "plans=true", &e), DDPM_OK, "%s", e.text);
    cr_expect(c.inspect.autotune);
    cr_expect_str_eq(c.renamed, "inspect.plans");
}

Test(right, lists_on_the_command_line)
{
    ddpm_config c = defaults();
    must_assign(&c, "model.block_out_channels=[32,64]");
    cr_assert(c.model.block_out_channels.count == 2 && c.model.block_out_channels.item[1] == 64);
    must_assign(&c, "model.block_out_channels=16, 32 ,64");
    cr_assert(c.model.block_out_channels.count == 3 && c.model.block_out_channels.item[1] == 32);
    must_assign(&c, "model.up_block_types=UpBlock2D");
    cr_assert(c.model.up_block_types.count == 1);
    cr_assert_eq(c.model.up_block_types.item[0], MODEL_UP_BLOCK_TYPES_UP);
    must_assign(&c, "out=a=b,[c]"); /* and what is no list stays as it is */
    cr_assert_str_eq(c.out, "a=b,[c]");
}

/* ---- writing ------------------------------------------------------------------------------------- */

static uint64_t random_state = 1;
static uint64_t random_bits(void) /* Marsaglia's xorshift64 */
{
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return random_state;
}
static double random_unit(void) { return (double)(random_bits() >> 11) * 0x1p-53; }
static int random_below(int n) { return (int)(random_bits() % (uint64_t)n); }

static const char *random_word(config_id option)
{
    int count = 0;
    while (config_option_words[option][count]) count++;
    return config_option_words[option][random_below(count)];
}

static void random_device(char *out)
{
    static const char *const names[] = {"auto", "cpu", "cuda"};
    const int k = random_below(LENGTH(names) + 1);
    if (k < LENGTH(names))
        strcpy(out, names[k]);
    else
        (void)sprintf(out, "cuda:%d", random_below(1000));
}

static void random_path(char *out)
{
    static const char *const pieces[] = {"a",   "/",    " ",          "#",    ": ", "'",      "\"",     "\\",
                                         "\\n", "null", "~",          "[",    "]",  "{",      "}",      ",",
                                         "&x",  "*x",   "!",          "true", "-",  "\u00e4", "\u65e5", "|",
                                         ">",   "%s",   "\U0001f600", "- ",   "=",  "0x1",    "?"};
    out[0] = 0;
    for (int n = random_below(12); n > 0; n--) strcat(out, pieces[random_below(LENGTH(pieces))]);
}

static void random_int(const config_option *o, char *out)
{
    const uint64_t span = (uint64_t)strtoll(o->max, NULL, 10) - (uint64_t)strtoll(o->min, NULL, 10);
    const uint64_t step = span == UINT64_MAX ? random_bits() : random_bits() % (span + 1);
    (void)sprintf(out, "%lld", (long long)(strtoll(o->min, NULL, 10) + (long long)step));
}

static void random_value(const config_option *o, char *out)
{
    const bool words = o->type == CONFIG_TYPE_WORDS;
    const bool list = words || o->type == CONFIG_TYPE_INTS || o->type == CONFIG_TYPE_REALS;
    const int items = list ? 1 + random_below(words ? CONFIG_WORDS : CONFIG_INTS) : 1;
    const double lo = atof(o->min), hi = atof(o->max), u = random_unit();
    for (int i = 0; i < items; i++) {
        if (i) strcat(out, ",");
        out += strlen(out);
        switch (o->type) {
        case CONFIG_TYPE_BOOL: strcpy(out, random_below(2) ? "true" : "false"); break;
        case CONFIG_TYPE_INT:
        case CONFIG_TYPE_INT64:
        case CONFIG_TYPE_INTS: random_int(o, out); break;
        case CONFIG_TYPE_REALS:
        case CONFIG_TYPE_REAL: /* now evenly, now over all magnitudes */
            (void)sprintf(out, "%.17g", random_below(2) || lo <= 0 ? lo + (hi - lo) * u : lo * pow(hi / lo, u));
            break;
        case CONFIG_TYPE_PATH: random_path(out); break;
        case CONFIG_TYPE_WORD:
        case CONFIG_TYPE_WORDS: strcpy(out, random_word((config_id)(o - config_options))); break;
        case CONFIG_TYPE_DEVICE: random_device(out); break;
        }
    }
}

Test(writing, what_is_written_reads_back_the_same)
{
    for (int trial = 0; trial < 2000; trial++) {
        ddpm_config c = defaults(), back = defaults();
        char *text = NULL;
        size_t size;
        err e = {0};
        for (int i = 0; i < CONFIG_OPTIONS; i++) {
            char argument[2048];
            (void)sprintf(argument, "%s=", config_options[i].key);
            random_value(&config_options[i], argument + strlen(argument));
            if (random_below(4)) must_assign(&c, argument);
        }
        cr_assert_eq(config_write(&c, NULL, trial % 2, &text, &size, &e), DDPM_OK, "%s", e.text);
        cr_assert_eq(config_read(&back, "back", text, size, &e), DDPM_OK, "%s\n%s", e.text, text);
        for (int i = 0; i < CONFIG_OPTIONS; i++) {
            cr_assert(equal(&c, &back, i) && config_same(&c, &back, i), "%s\n%s", config_options[i].key, text);
            cr_assert_eq(back.origin[i].source, CONFIG_FILE, "%s was not written", config_options[i].key);
        }
        mem_free(text);
    }
}

Test(writing, numbers_are_short_and_numbers_to_every_reader)
{
    ddpm_config c = defaults();
    char *text = NULL;
    size_t size;
    must_assign(&c, "train.lr=0.1");
    must_assign(&c, "ema.decay=0.9999");
    cr_assert_eq(config_write(&c, NULL, false, &text, &size, NULL), DDPM_OK);
    cr_assert_eq(strlen(text), size);
    cr_assert(strstr(text, "\n  lr: 0.1\n") && strstr(text, "\n  decay: 0.9999\n"), "%s", text);
    cr_assert(strstr(text, "\n  norm_eps: 1.0e-06\n"), "%s", text); /* YAML 1.1 wants the point */
    mem_free(text);
}

Test(writing, origins_say_where_each_value_came_from)
{
    ddpm_config c = defaults();
    char *text = NULL;
    size_t size;
    const config_scope scope = {"train", "seed ema.decay ema.warmup"};
    must_read(&c, "seed: 3\nout: x\n");
    must_assign(&c, "ema.warmup=true");
    cr_assert_eq(config_write(&c, &scope, true, &text, &size, NULL), DDPM_OK);
    cr_assert_str_eq(text, "seed: 3  # a.yaml:1\nema:\n  decay: 0.9999  # default\n  warmup: true  # command line\n");
    mem_free(text);
}

Test(writing, an_odd_file_name_does_not_spoil_the_comment)
{
    ddpm_config c = defaults(), back = defaults();
    char *text = NULL;
    size_t size;
    err e = {0};
    cr_assert_eq(config_read(&c, "a\nseed: 4", "seed: 3", 7, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(config_write(&c, NULL, true, &text, &size, NULL), DDPM_OK);
    must_read(&back, text);
    cr_assert_eq(back.seed, 3);
    mem_free(text);
}

Test(writing, differences_are_found_per_option)
{
    ddpm_config a = defaults(), b = defaults();
    must_assign(&b, "train.lr=0.00020000000000000004"); /* the double after 2e-4 */
    must_assign(&b, "noise.t=0");
    for (int i = 0; i < CONFIG_OPTIONS; i++)
        cr_assert_eq(config_same(&a, &b, i), i != OPTION_train_lr && i != OPTION_noise_t, "%s", config_options[i].key);
}

/* All paths as long as can be, and each character written as two. */
static void longest_paths(ddpm_config *c)
{
    static char argument[PATH_CAP + CONFIG_KEY];
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        if (config_options[i].type != CONFIG_TYPE_PATH) continue;
        const int n = sprintf(argument, "%s=", config_options[i].key);
        memset(argument + n, '"', PATH_CAP - 1);
        argument[n + PATH_CAP - 1] = 0;
        must_assign(c, argument);
    }
}

Test(writing, the_longest_paths_fit)
{
    ddpm_config c = defaults(), back = defaults();
    char *text = NULL;
    size_t size;
    err e = {0};
    longest_paths(&c);
    cr_assert_eq(config_write(&c, NULL, false, &text, &size, &e), DDPM_OK, "%s", e.text);
    must_read(&back, text);
    for (int i = 0; i < CONFIG_OPTIONS; i++) cr_assert(equal(&c, &back, i), "%s", config_options[i].key);
    mem_free(text);
}

Test(writing, what_could_not_be_read_again_is_refused)
{
    static char name[PATH_CAP], all[CONFIG_BYTES];
    ddpm_config c = defaults();
    err e = {0};
    char *text = NULL;
    size_t size;
    memset(name, 'x', PATH_CAP - 1); /* in a comment on each line */
    cr_assert_eq(config_write(&c, NULL, false, &text, &size, &e), DDPM_OK);
    memcpy(all, text, size);
    mem_free(text);
    cr_assert_eq(config_read(&c, name, all, size, &e), DDPM_OK, "%s", e.text);
    text = NULL;
    cr_assert_eq(config_write(&c, NULL, true, &text, &size, &e), DDPM_EINVAL);
    cr_assert_str_eq(e.text, "the configuration is longer than 196608 bytes: shorten its paths");
    cr_assert_null(text);
}

/* ---- nearest names ------------------------------------------------------------------------------- */

/* Textbook examples (Levenshtein; Damerau; Boytsov 2011 for the restricted "ca" -> "abc" = 3). */
Test(nearest, distances_are_those_of_the_textbooks)
{
    static const struct {
        const char *a, *b;
        int distance;
    } known[] = {{"", "", 0},
                 {"", "abc", 3},
                 {"kitten", "sitting", 3},
                 {"saturday", "sunday", 3},
                 {"flaw", "lawn", 2},
                 {"gumbo", "gambol", 2},
                 {"ab", "ba", 1},
                 {"ca", "abc", 3},
                 {"batch", "batch", 0},
                 {"intention", "execution", 5}};
    for (int i = 0; i < LENGTH(known); i++) {
        cr_expect_eq(text_distance(known[i].a, known[i].b), known[i].distance, "%s %s", known[i].a, known[i].b);
        cr_expect_eq(text_distance(known[i].b, known[i].a), known[i].distance, "%s %s", known[i].b, known[i].a);
    }
}
