/* Real images: on MNIST the loss falls as PyTorch's does from the same start.  Needs $DDPM_DATA/mnist. */
#include "base/file.h"
#include "base/mem.h"
#include "support/golden.h"
#include "support/ok.h"
#include "train/training_run.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 100 };
static err why;

typedef struct record {
    double loss[STEPS], norm[STEPS];
} record;

static void keep(void *context, const run_status *s)
{
    record *r = context;
    r->loss[s->state->step - 1] = (double)s->state->loss;
    r->norm[s->state->step - 1] = (double)s->state->grad_norm;
}

static void set(ddpm_config *c, const char *key, const char *value)
{
    char setting[PATH_CAP + 64];
    (void)snprintf(setting, sizeof setting, "%s=%s", key, value);
    OK(config_assign(c, NULL, setting, &why));
}

Test(mnist, the_loss_falls_as_pytorchs_does, .timeout = 300)
{
    static const char *const settings[][2] = {
        {"seed", "81985529216486895"},   {"data.kind", "idx"},
        {"data.shuffle", "false"},       {"train.batch", "8"},
        {"train.steps", "100"},          {"train.lr", "1e-3"},
        {"train.lr_warmup_steps", "10"}, {"train.lr_scheduler", "constant_with_warmup"},
        {"train.max_grad_norm", "1"},    {"ema.decay", "0.999"},
        {"ema.warmup", "true"},          {"ckpt.every", "0"}};
    static ddpm_config c;
    static record r;
    char out[] = "/tmp/ddpm-mnist-XXXXXX", path[PATH_CAP];
    const char *data = getenv("DDPM_DATA");
    const run_hooks hooks = {.context = &r, .step = keep};
    backend *be;
    if (!data || path_join(path, data, "mnist", &why) != DDPM_OK || !path_is_dir(path))
        cr_skip_test("DDPM_DATA is not set or holds no mnist");
    config_defaults(&c);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) set(&c, settings[i][0], settings[i][1]);
    set(&c, "data.path", path);
    set(&c, "model.init_from", golden_path(path, "trajectory/initial"));
    set(&c, "out", mkdtemp(out));
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 2}, &be, &why));
    OK(run_train(be, &c, &hooks, &why));
    backend_destroy(be);

    safetensors *io = golden_open("mnist/io.safetensors");
    double *loss = golden_f64(io, "losses", NULL), *norm = golden_f64(io, "grad_norms", NULL);
    double worst_loss = 0, worst_norm = 0;
    for (int i = 0; i < STEPS; i++) {
        worst_loss = fmax(worst_loss, fabs(r.loss[i] / loss[i] - 1));
        worst_norm = fmax(worst_norm, fabs(r.norm[i] / norm[i] - 1));
    }
    cr_log_info("loss %.4f -> %.4f; worst differences: loss %.2e, gradient norm %.2e", r.loss[0], r.loss[STEPS - 1],
                worst_loss, worst_norm);
    cr_assert_lt(r.loss[STEPS - 1], 0.7 * r.loss[0]);
    cr_assert_lt(worst_loss, 1e-4);
    cr_assert_lt(worst_norm, 1e-3);
    mem_free(loss);
    mem_free(norm);
    safetensors_close(io);
    OK(dir_remove(out, &why));
}
