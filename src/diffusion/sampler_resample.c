#include "base/mem.h"
#include "diffusion/sampler.h"

#include <math.h>
#include <string.h>

enum { MOST_ROWS = 10000000 };

static bool is_jump(int t, int n, int jump_length) { return t % jump_length == 0 && t < n - jump_length; }

/* The rows in the order of RePaintScheduler.set_timesteps(), into order[] unless it is NULL; t counts them from the
 * last.  jumps[t]: those still to make from there.  Returns their number, or -1 if there are more than MOST_ROWS. */
static int64_t visit(int n, int jump_length, int jump_n_sample, int *jumps, int *order)
{
    int64_t rows = 0;
    for (int t = 0; t < n; t++) jumps[t] = is_jump(t, n, jump_length) ? jump_n_sample - 1 : 0;
    for (int t = n; t > 0;) {
        t--;
        if (order) order[rows] = n - 1 - t;
        if (++rows > MOST_ROWS) return -1;
        if (jumps[t] > 0) {
            jumps[t]--;
            t += jump_length;
        }
    }
    return rows;
}

/* The noise from the level after the row to an earlier one: x <- A x + S xi, in the row itself. */
static ddpm_status jump(sampler_row *r, double signal, double noise, err *e)
{
    const double scale = signal / (double)r->signal, s = scale * (double)r->s;
    const double more = noise * noise - scale * scale * (double)r->noise * (double)r->noise;
    if (!(more >= -1e-6)) return err_set(e, DDPM_EINVAL, "resampling: the sampler's steps do not take noise away");
    r->a = (float)(scale * (double)r->a);
    r->b = (float)(scale * (double)r->b);
    r->e = (float)(scale * (double)r->e);
    r->s = (float)sqrt(s * s + fmax(more, 0));
    r->signal = (float)signal, r->noise = (float)noise;
    return DDPM_OK;
}

static ddpm_status check(const sampler_table *t, int jump_length, int jump_n_sample, err *e)
{
    if (jump_length < 1 || jump_n_sample < 1)
        return err_set(e, DDPM_EINVAL, "resampling: jump_length %d and jump_n_sample %d must be 1 or more", jump_length,
                       jump_n_sample);
    if (t->slots > 0)
        return err_set(e, DDPM_EINVAL,
                       "resampling needs a sampler without memory of earlier steps (ddpm, ddim, euler, euler_a); "
                       "jump_n_sample=1 leaves it out");
    for (int i = 0; i < t->n; i++)
        if (t->rows[i].v != 0)
            return err_set(e, DDPM_EINVAL, "resampling needs a fixed variance, not a learned one; use ddim or euler_a");
    return DDPM_OK;
}

ddpm_status sampler_resample(sampler_table **t, int jump_length, int jump_n_sample, err *e)
{
    const sampler_table *from = *t;
    sampler_table *table = NULL;
    int *jumps = NULL, *order = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(check(from, jump_length, jump_n_sample, e));
    TRY_GOTO(mem_array(&jumps, (size_t)from->n, sizeof *jumps, "sampler", e));
    const int64_t rows = visit(from->n, jump_length, jump_n_sample, jumps, NULL);
    if (rows < 0) {
        st = err_set(e, DDPM_EINVAL, "resampling: more than %d network evaluations; lower jump_n_sample", MOST_ROWS);
        goto done;
    }
    TRY_GOTO(mem_array(&order, (size_t)rows, sizeof *order, "sampler", e));
    TRY_GOTO(mem_array(&table, 1, sizeof *table, "sampler", e));
    *table = *from;
    table->rows = NULL;
    TRY_GOTO(mem_array(&table->rows, (size_t)rows, sizeof *table->rows, "sampler", e));
    table->n = (int)visit(from->n, jump_length, jump_n_sample, jumps, order);
    for (int i = 0; i < table->n; i++) {
        table->rows[i] = from->rows[order[i]];
        if (i + 1 == table->n || order[i + 1] == order[i] + 1) continue;
        const sampler_row *before = order[i + 1] > 0 ? &from->rows[order[i + 1] - 1] : NULL;
        TRY_GOTO(jump(&table->rows[i], before ? (double)before->signal : from->signal,
                      before ? (double)before->noise : from->noise, e));
    }
    sampler_destroy(*t);
    *t = table;
    table = NULL;
done:
    mem_free(jumps);
    mem_free(order);
    sampler_destroy(table);
    return st;
}
