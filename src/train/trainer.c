#include "train/trainer.h"
#include "core/mem.h"
#include "diffusion/objective.h"
#include "ops/nn.h"

struct trainer {
    model *m; /* borrowed */
    trainer_spec spec;
    schedule *schedule;
    plan *grad, *update; /* forward and backward of a micro-batch; the optimizer */
    tensor *images, *table, *grad_state, *update_state;
    network_outputs net;
};

static ddpm_status build_grad(trainer *t, err *e)
{
    const trainer_spec *s = &t->spec;
    TRY(plan_create(t->m->be, &t->grad, e));
    plan *p = t->grad;
    p->training = true;
    p->add_grads = s->micro_batches > 1; /* then adamw leaves zeros behind */
    t->images = plan_input(p, DTYPE_U8, "images", s->batch, s->h, s->w, t->m->net.unet.in_channels);
    t->table = plan_input(p, DTYPE_F32, "table", t->schedule->timesteps, 1, 1, TABLE_COLUMNS);
    t->grad_state = plan_input(p, DTYPE_U8, "state", 1, 1, 1, sizeof(train_state));
    const nn_noised noised = nn_q_sample(p, t->images, t->table, t->grad_state, s->flip);
    t->net = network_build(&t->m->net, p, &(network_inputs){.x = noised.xt, .t = noised.t, .state = t->grad_state});
    tensor *loss = nn_mse(p, &(nn_mse_args){.pred = t->net.y,
                                            .images = t->images,
                                            .t = noised.t,
                                            .table = t->table,
                                            .state = t->grad_state,
                                            .flip = s->flip,
                                            .micro_batches = s->micro_batches});
    plan_differentiate(p, loss, NULL);
    nn_tally(p, loss, noised.t, t->grad_state, s->micro_batches);
    return plan_finish(p, e);
}

static ddpm_status build_update(trainer *t, err *e)
{
    TRY(plan_create(t->m->be, &t->update, e));
    step_attr a = t->spec.update;
    a.update.zero_grad = t->spec.micro_batches > 1;
    t->update_state = plan_input(t->update, DTYPE_U8, "state", 1, 1, 1, sizeof(train_state));
    nn_update(t->update, t->update_state, (int64_t)t->m->store->count, &a);
    return plan_finish(t->update, e);
}

ddpm_status trainer_create(model *m, const trainer_spec *spec, trainer **out, err *e)
{
    trainer *t = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY_GOTO(mem_array(&t, 1, sizeof *t, "trainer", e));
    t->m = m;
    t->spec = *spec;
    TRY_GOTO(schedule_create(&m->scheduler, &t->schedule, e));
    TRY_GOTO(build_grad(t, e));
    TRY_GOTO(build_update(t, e));
    *out = t;
    t = NULL;
done:
    trainer_destroy(t);
    return st;
}

void trainer_destroy(trainer *t)
{
    if (!t) return;
    plan_destroy(t->grad);
    plan_destroy(t->update);
    schedule_destroy(t->schedule);
    mem_free(t);
}

static bool has_ema(const trainer *t) { return t->spec.update.update.ema_decay > 0; }

trainer_memory trainer_needs(const trainer *t)
{
    const size_t arena = t->m->store->count * sizeof(float);
    return (trainer_memory){.weights = arena * (has_ema(t) ? 5 : 4),
                            .activations = t->grad->bytes[ARENA_ACT],
                            .unpacked = t->grad->unpacked_bytes,
                            .inputs = t->grad->bytes[ARENA_IO],
                            .flops = plan_flops(t->grad, 0, t->grad->n_step) / t->spec.batch};
}

void trainer_dump(const trainer *t, FILE *to) { plan_dump(t->grad, to); }

static ddpm_status write_table(trainer *t, err *e)
{
    float *table;
    TRY(mem_array(&table, (size_t)t->schedule->timesteps * TABLE_COLUMNS, sizeof *table, "training table", e));
    objective_fill_table(t->schedule, table);
    const ddpm_status st = plan_write(t->grad, t->table, table, e);
    mem_free(table);
    return st;
}

ddpm_status trainer_allocate(trainer *t, err *e)
{
    TRY(params_allocate(t->m->store, true, has_ema(t), e));
    TRY(plan_allocate(t->grad, e));
    TRY(plan_allocate(t->update, e));
    t->update_state->data = t->grad_state->data; /* one state for both plans */
    TRY(params_bind(t->m->store, t->grad, ARENA_PARAM, e));
    TRY(params_bind(t->m->store, t->update, ARENA_PARAM, e));
    TRY(network_fill(&t->m->net, t->grad, &t->net, e));
    TRY(write_table(t, e));
    return trainer_restore(t, &(train_state){.seed = t->spec.seed, .beta1_pow = 1, .beta2_pow = 1}, e);
}

ddpm_status trainer_accumulate(trainer *t, const uint8_t *images, err *e)
{
    TRY(plan_write(t->grad, t->images, images, e));
    return plan_run(t->grad, e);
}

ddpm_status trainer_update(trainer *t, err *e) { return plan_run(t->update, e); }

ddpm_status trainer_state(trainer *t, train_state *state, err *e)
{
    return plan_read(t->grad, t->grad_state, state, e);
}

ddpm_status trainer_restore(trainer *t, const train_state *state, err *e)
{
    return plan_write(t->grad, t->grad_state, state, e);
}
