#include "train/checkpoint_losses.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "loss_history.h"

#include <math.h>

#define LOSSES_FILE "training/losses.safetensors"

ddpm_status losses_save(const char *dir, trainer *t, err *e)
{
    const int64_t shape[] = {trainer_loss_levels(t), HISTORY_COLUMNS};
    const size_t count = (size_t)shape[0] * HISTORY_COLUMNS;
    char path[PATH_CAP];
    float *losses = NULL;
    ddpm_status st = DDPM_OK;
    if (shape[0] == 0) return DDPM_OK;
    TRY(path_join(path, dir, LOSSES_FILE, e));
    TRY(mem_array(&losses, count, sizeof *losses, "history of losses", e));
    TRY_GOTO(trainer_losses(t, losses, e));
    const safetensors_item item = {
        .name = "losses", .dtype = SAFETENSORS_F32, .rank = 2, .shape = {shape[0], shape[1]}, .data = losses};
    TRY_GOTO(safetensors_write(path, &item, 1, false, e));
done:
    mem_free(losses);
    return st;
}

/* Are the counts and the losses those of a history? */
static bool is_history(const float *losses, int64_t levels)
{
    for (int64_t t = 0; t < levels; t++, losses += HISTORY_COLUMNS) {
        const float count = losses[HISTORY_COUNT];
        if (!(count >= 0 && count < 2 * LOSSES_KEPT && count == floorf(count))) return false;
        for (int k = 0; k < LOSSES_KEPT; k++)
            if (!isfinite(losses[k])) return false;
    }
    return true;
}

static ddpm_status read_losses(const char *path, int64_t levels, float *to, bool *same, err *e)
{
    safetensors *file;
    ddpm_status st = DDPM_OK;
    TRY(safetensors_open(path, &file, e));
    const safetensors_tensor *x = safetensors_find(file, "losses");
    if (!x || x->dtype != SAFETENSORS_F32 || x->rank != 2 || x->shape[1] != HISTORY_COLUMNS)
        TRY_GOTO(err_set(e, DDPM_EDATA, "%s: has no tensor losses F32 [levels, %d]", path, HISTORY_COLUMNS));
    *same = x->shape[0] == levels;
    if (!*same) goto done;
    TRY_GOTO(safetensors_to_f32(x, to, e));
    if (!is_history(to, levels))
        TRY_GOTO(err_set(e, DDPM_EDATA, "%s: a value is not a loss, or the number of losses not in [0, %d)", path,
                         2 * LOSSES_KEPT));
done:
    safetensors_close(file);
    return st;
}

ddpm_status losses_restore(const char *dir, trainer *t, err *e)
{
    const int levels = trainer_loss_levels(t);
    char path[PATH_CAP];
    float *losses = NULL;
    bool same = false;
    ddpm_status st = DDPM_OK;
    if (levels == 0) return DDPM_OK;
    TRY(path_join(path, dir, LOSSES_FILE, e));
    TRY(mem_array(&losses, (size_t)levels * HISTORY_COLUMNS, sizeof *losses, "history of losses", e));
    if (path_exists(path)) TRY_GOTO(read_losses(path, levels, losses, &same, e));
    TRY_GOTO(trainer_restore_losses(t, same ? losses : NULL, e));
done:
    mem_free(losses);
    return st;
}
