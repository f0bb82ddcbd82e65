/* Runs whose timesteps are drawn by their losses: resumed, and with accumulation, to the bit. */
#include "io/safetensors.h"
#include "loss_history.h"
#include "train/run_rig.h"

TestSuite(importance, .init = make_root, .fini = remove_root);

/* Of three timesteps each has ten losses after some six steps of the nine. */
static void by_loss(ddpm_config *c, const char *name, int micro_batches)
{
    char setting[64];
    tiny(c, name);
    config_put(c, "train.timestep_sampling=loss_second_moment");
    config_put(c, "diffusion.num_train_timesteps=3");
    (void)snprintf(setting, sizeof setting, "train.gradient_accumulation_steps=%d", micro_batches);
    config_put(c, setting);
    c->train.batch /= micro_batches;
}

static void expect_same_histories(const ddpm_config *a, const ddpm_config *b)
{
    static const char *const file = "ckpt/step_00000009/training/losses.safetensors";
    expect_same_end(a, b, 9);
    expect_same_file(a->out, b->out, file);
}

static void resume_at(const int *stops, int n, int micro_batches)
{
    by_loss(&whole, "whole", micro_batches);
    by_loss(&parts, "parts", micro_batches);
    config_put(&parts, "resume=auto");
    OK(train(&whole, 0, NULL));
    for (int i = 0; i < n; i++) cr_assert_eq(train(&parts, (uint64_t)stops[i], NULL), DDPM_ESAVED, "%s", why.text);
    OK(train(&parts, 0, NULL));
    expect_same_histories(&whole, &parts);
}

Test(importance, resumed_equals_uninterrupted_to_the_bit) { resume_at((const int[]){2, 7, 8}, 3, 1); }
Test(importance, resumed_with_accumulation_equals_uninterrupted) { resume_at((const int[]){4, 8}, 2, 3); }

static float *read_history(const ddpm_config *c, int T)
{
    safetensors *file;
    float *losses;
    OK(safetensors_open(in_dir(c->out, "ckpt/step_00000009/training/losses.safetensors"), &file, &why));
    const safetensors_tensor *t = safetensors_find(file, "losses");
    cr_assert(t && t->shape[0] == T && t->shape[1] == HISTORY_COLUMNS);
    OK(mem_array(&losses, (size_t)T * HISTORY_COLUMNS, sizeof *losses, "test", &why));
    OK(safetensors_to_f32(t, losses, &why));
    safetensors_close(file);
    return losses;
}

/* The draws are no longer uniform at the end, and the losses in the history are those of the paper's prediction. */
Test(importance, draws_by_the_losses_when_every_timestep_has_ten)
{
    by_loss(&whole, "whole", 1);
    by_loss(&parts, "parts", 1);
    config_put(&parts, "train.timestep_sampling=uniform");
    OK(train(&whole, 0, NULL));
    OK(train(&parts, 0, NULL));
    float *history = read_history(&whole, 3);
    for (int t = 0; t < 3; t++) cr_expect_geq(history[t * HISTORY_COLUMNS + HISTORY_COUNT], LOSSES_KEPT);
    double by_history[9], uniform[9];
    cr_assert_eq(read_losses(whole.out, by_history, 9), 9);
    cr_assert_eq(read_losses(parts.out, uniform, 9), 9);
    for (int k = 0; k < 5; k++) cr_expect_eq(by_history[k], uniform[k], "step %d is of the warm-up", k + 1);
    cr_expect_neq(by_history[8], uniform[8]);
    mem_free(history);
}

/* The history of another number of timesteps is none. */
Test(importance, begins_anew_with_other_timesteps)
{
    by_loss(&whole, "whole", 1);
    cr_assert_eq(train(&whole, 5, NULL), DDPM_ESAVED, "%s", why.text);
    config_put(&whole, "resume=auto");
    config_put(&whole, "diffusion.num_train_timesteps=1000");
    OK(train(&whole, 0, NULL));
    float *history = read_history(&whole, 1000), count = 0;
    for (int t = 0; t < 1000; t++) count += history[t * HISTORY_COLUMNS + HISTORY_COUNT];
    cr_expect_eq(count, 4 * 6);
    mem_free(history);
}

/* EDM's levels are too many for nine steps, and uniform until then. */
Test(importance, takes_the_levels_of_every_process)
{
    by_loss(&whole, "whole", 1);
    config_put(&whole, "diffusion.parameterization=edm");
    OK(train(&whole, 0, NULL));
    float *history = read_history(&whole, 10000), count = 0;
    for (int t = 0; t < 10000; t++) count += history[t * HISTORY_COLUMNS + HISTORY_COUNT];
    cr_expect_eq(count, 9 * 6);
    mem_free(history);
}
