#include "train/trainer.h"
#include "base/mem.h"
#include "diffusion/objective.h"
#include "loss_history.h"
#include "nn/nn.h"
#include "train/trainer_fit.h"

struct trainer {
    model *m; /* borrowed */
    trainer_spec spec;
    schedule *schedule;
    plan *grad;          /* forward and backward pass of a micro-batch; with a single micro-batch also the optimizer */
    plan *update;        /* the optimizer after several micro-batches, else NULL */
    plan_finding *watch; /* trainer_watch(); NULL: micro-batches are run as usual */
    tensor *images, *table, *state, *history;
    tensor *labels, *index, *cumulative; /* NULL: no classes, not resident, timesteps drawn uniformly */
    tensor *losses, *seen; /* of importance sampling, or NULL: the history, and the losses of the current step */
    tensor *fixed;         /* the weights that do not decay; NULL: none.  An input of the plan with the optimizer */
    network_outputs net;
};

static tensor *history_input(trainer *t, plan *p)
{
    return t->history = plan_input(p, DTYPE_U8, "history", 1, 1, 1, sizeof(train_record) * TRAIN_HISTORY);
}

/* The plan's optimizer. */
static void build_optimizer(trainer *t, plan *p)
{
    const params *store = t->m->store;
    step_attr a = t->spec.update;
    a.update.images = (int64_t)t->spec.batch * t->spec.micro_batches;
    if (t->spec.micro_batches > 1) a.update.zero_grad = true; /* they accumulate */
    if (a.update.no_vector_decay && a.update.weight_decay > 0)
        t->fixed = plan_input(p, DTYPE_U8, "fixed", 1, 1, 1, (int64_t)params_bitmap_bytes(store));
    nn_update(p, t->state, history_input(t, p), t->fixed, (int64_t)store->count, &a);
    nn_remember(p, t->seen, t->state, t->losses);
}

/* Least bytes saved for which gradient_checkpointing=auto recomputes; for configs/quickstart.yaml it would save 18 MiB
 * and cost 4 % of the time. */
enum { RECOMPUTE_LEAST = 32 << 20 };

static ddpm_status finish(const trainer *t, plan *p, err *e)
{
    return t->spec.sketch ? plan_sketch(p, e) : plan_finish(p, e);
}

static void add_inputs(trainer *t, plan *p)
{
    const trainer_spec *s = &t->spec;
    const int64_t images = s->resident > 0 ? s->resident : s->batch;
    t->images = plan_input(p, DTYPE_U8, "images", images, s->h, s->w, t->m->net.unet.in_channels);
    if (s->resident > 0) t->index = plan_input(p, DTYPE_I64, "index", s->batch, 1, 1, 1);
    const int levels = training_levels(t->schedule);
    t->table = plan_input(p, DTYPE_F32, "table", levels, 1, 1, TABLE_COLUMNS);
    t->state = plan_input(p, DTYPE_U8, "state", 1, 1, 1, sizeof(train_state));
    if (t->m->net.unet.num_class_embeds > 0) t->labels = plan_input(p, DTYPE_I64, "labels", images, 1, 1, 1);
    if (s->timesteps.kind == DRAW_LOSS_SECOND_MOMENT) {
        t->losses = plan_input(p, DTYPE_F32, "losses", levels, 1, 1, HISTORY_COLUMNS);
        t->seen = plan_input(p, DTYPE_F32, "seen", (int64_t)s->batch * s->micro_batches, 1, 1, 2);
    } else if (s->timesteps.kind != DRAW_UNIFORM) {
        t->cumulative = plan_input(p, DTYPE_I64, "cumulative", levels + 1, 1, 1, 1);
    }
}

static nn_drawn add_draw(const trainer *t, plan *p)
{
    const nn_distribution by_loss = nn_importance(p, t->losses);
    return nn_draw(p, &(nn_draw_args){.n = t->spec.batch,
                                      .table = t->table,
                                      .state = t->state,
                                      .index = t->index,
                                      .labels = t->labels,
                                      .cumulative = t->losses ? by_loss.cumulative : t->cumulative,
                                      .factors = by_loss.factors,
                                      .stratified = t->spec.timesteps.stratified,
                                      .label_dropout = t->spec.label_dropout,
                                      .null_label = t->m->net.unet.num_class_embeds - 1});
}

/* Noising, network and loss. */
static nn_losses add_forward(trainer *t, plan *p, const nn_drawn *drawn)
{
    const trainer_spec *s = &t->spec;
    const nn_q_sample_args noising = {.images = t->images,
                                      .index = t->index,
                                      .rows = drawn->rows,
                                      .state = t->state,
                                      .flip = s->flip,
                                      .noise_offset = s->noise_offset,
                                      .input_perturbation = s->input_perturbation};
    const network_inputs in = {
        .x = nn_q_sample(p, &noising), .t = drawn->t, .state = t->state, .labels = drawn->labels};
    t->net = network_build(&t->m->net, p, &in);
    return nn_loss(p, &(nn_loss_args){.pred = t->net.y,
                                      .images = t->images,
                                      .index = t->index,
                                      .rows = drawn->rows,
                                      .factor = drawn->factor,
                                      .state = t->state,
                                      .flip = s->flip,
                                      .noise_offset = s->noise_offset,
                                      .kind = (int)s->objective.loss,
                                      .learned = s->objective.learned,
                                      .kl = s->objective.kl,
                                      .bound = s->objective.bound,
                                      .micro_batches = s->micro_batches});
}

static ddpm_status build_grad(trainer *t, err *e)
{
    const trainer_spec *s = &t->spec;
    TRY(plan_create(t->m->be, &t->grad, e));
    plan *p = t->grad;
    p->training = true;
    p->recompute = s->recompute == RECOMPUTE_AUTO ? p->be->recompute : s->recompute == RECOMPUTE_ON;
    p->recompute_least = s->recompute == RECOMPUTE_AUTO ? RECOMPUTE_LEAST : 0;
    p->add_grads = s->micro_batches > 1; /* adamw then zeroes the gradients */
    add_inputs(t, p);
    const nn_drawn drawn = add_draw(t, p);
    const nn_losses losses = add_forward(t, p, &drawn);
    plan_differentiate(p, losses.loss, NULL);
    nn_tally(p, &losses, &drawn, t->state, t->seen, s->micro_batches);
    if (s->micro_batches == 1) build_optimizer(t, p);
    return finish(t, p, e);
}

static ddpm_status build_update(trainer *t, err *e)
{
    TRY(plan_create(t->m->be, &t->update, e));
    build_optimizer(t, t->update);
    return finish(t, t->update, e);
}

ddpm_status trainer_create(model *m, const trainer_spec *spec, trainer **out, err *e)
{
    trainer *t = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    if (!spec->sketch) TRY(trainer_fit_sketch(m, spec, e));
    TRY_GOTO(mem_array(&t, 1, sizeof *t, "trainer", e));
    t->m = m;
    t->spec = *spec;
    TRY_GOTO(schedule_create(&m->scheduler, &t->schedule, e));
    TRY_GOTO(build_grad(t, e));
    if (spec->micro_batches > 1) TRY_GOTO(build_update(t, e));
    *out = t;
    t = NULL;
done:
    trainer_destroy(t);
    return st;
}

void trainer_destroy(trainer *t)
{
    if (!t) return;
    plan_destroy(t->update);
    plan_destroy(t->grad);
    schedule_destroy(t->schedule);
    mem_free(t);
}

static int averages(const trainer *t) { return ema_count(t->spec.update.update.ema); }

static size_t ahead_bytes(const trainer *t)
{
    const trainer_spec *s = &t->spec;
    return (size_t)s->ahead * (size_t)s->batch * (size_t)s->h * (size_t)s->w * (size_t)t->m->net.unet.in_channels;
}

trainer_memory trainer_needs(const trainer *t)
{
    const size_t arena = t->m->store->count * sizeof(float);
    return (trainer_memory){.weights = arena * (size_t)(4 + averages(t)) + params_copy_bytes(t->m->store),
                            .activations = t->grad->bytes[ARENA_ACT],
                            .unpacked = t->grad->unpacked_bytes,
                            .inputs = t->grad->bytes[ARENA_IO],
                            .ahead = t->m->be->fn->host_memory ? ahead_bytes(t) : 0,
                            .flops = plan_flops(t->grad, 0, t->grad->n_step) / t->spec.batch};
}

void trainer_dump(const trainer *t, FILE *to) { plan_dump(t->grad, to); }
const ema_rule *trainer_averages(const trainer *t) { return t->spec.update.update.ema; }
const plan *trainer_plan(const trainer *t) { return t->grad; }

static ddpm_status write_table(trainer *t, err *e)
{
    float *table;
    TRY(mem_array(&table, (size_t)training_levels(t->schedule) * TABLE_COLUMNS, sizeof *table, "training table", e));
    objective_fill_table(t->schedule, &t->spec.objective, table);
    const ddpm_status st = plan_write(t->grad, t->table, table, e);
    mem_free(table);
    return st;
}

static ddpm_status write_fixed(trainer *t, err *e)
{
    uint8_t *bitmap;
    if (!t->fixed) return DDPM_OK;
    TRY(mem_array(&bitmap, params_bitmap_bytes(t->m->store), 1, "bitmap of the weights", e));
    params_mark_vectors(t->m->store, bitmap);
    const ddpm_status st = plan_write(t->update ? t->update : t->grad, t->fixed, bitmap, e);
    mem_free(bitmap);
    return st;
}

static ddpm_status write_cumulative(trainer *t, err *e)
{
    int64_t *cumulative;
    if (!t->cumulative) return DDPM_OK;
    TRY(mem_array(&cumulative, (size_t)training_levels(t->schedule) + 1, sizeof *cumulative, "timestep distribution",
                  e));
    timestep_draw_fill(&t->spec.timesteps, t->schedule, cumulative);
    const ddpm_status st = plan_write(t->grad, t->cumulative, cumulative, e);
    mem_free(cumulative);
    return st;
}

ddpm_status trainer_allocate(trainer *t, err *e)
{
    TRY(params_allocate(t->m->store, true, averages(t), e));
    TRY(plan_allocate(t->grad, e));
    TRY(params_bind(t->m->store, t->grad, ARENA_PARAM, e));
    if (t->update) {
        TRY(plan_allocate(t->update, e));
        TRY(params_bind(t->m->store, t->update, ARENA_PARAM, e));
    }
    TRY(network_fill(&t->m->net, t->grad, &t->net, e));
    TRY(write_table(t, e));
    TRY(write_cumulative(t, e));
    TRY(write_fixed(t, e));
    TRY(trainer_restore_losses(t, NULL, e));
    return trainer_restore(t, &(train_state){.seed = t->spec.seed, .beta1_pow = 1, .beta2_pow = 1}, e);
}

static ddpm_status check_labels(const trainer *t, const int64_t *labels, int64_t n, err *e)
{
    const int classes = t->m->net.unet.num_class_embeds;
    if (!labels) return err_set(e, DDPM_EINVAL, "the network has %d classes, but the images have no labels", classes);
    for (int64_t i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= classes)
            return err_set(e, DDPM_EINVAL, "label %lld of an image is not in [0, %d), the network's classes",
                           (long long)labels[i], classes);
    return DDPM_OK;
}

static ddpm_status run_micro_batch(trainer *t, err *e)
{
    TRY(params_refresh(t->m->store, ARENA_PARAM, e));
    return t->watch ? plan_first_not_finite(t->grad, t->watch, e) : plan_run(t->grad, e);
}

ddpm_status trainer_accumulate(trainer *t, const uint8_t *images, const int64_t *labels, err *e)
{
    TRY(plan_write(t->grad, t->images, images, e));
    if (t->labels) {
        TRY(check_labels(t, labels, t->labels->n, e));
        TRY(plan_write(t->grad, t->labels, labels, e));
    }
    return run_micro_batch(t, e);
}

bool trainer_is_resident(const trainer *t) { return t->index != NULL; }

ddpm_status trainer_store(trainer *t, int64_t first, int64_t count, const uint8_t *images, const int64_t *labels,
                          err *e)
{
    backend *be = t->m->be;
    const size_t one = (size_t)(tensor_hw(t->images) * t->images->c);
    if (first < 0 || count < 0 || first > t->images->n - count)
        return err_set(e, DDPM_EINVAL, "images [%lld, %lld) are outside the data set of %lld images", (long long)first,
                       (long long)(first + count), (long long)t->images->n);
    TRY(be->fn->upload(be, (char *)t->images->data + (size_t)first * one, images, (size_t)count * one, e));
    if (!t->labels) return DDPM_OK;
    TRY(check_labels(t, labels, count, e));
    return be->fn->upload(be, (int64_t *)t->labels->data + first, labels, (size_t)count * sizeof *labels, e);
}

ddpm_status trainer_accumulate_stored(trainer *t, const int64_t *index, err *e)
{
    TRY(plan_write(t->grad, t->index, index, e));
    return run_micro_batch(t, e);
}

ddpm_status trainer_history(trainer *t, train_record history[TRAIN_HISTORY], err *e)
{
    return plan_read(t->update ? t->update : t->grad, t->history, history, e);
}

ddpm_status trainer_update(trainer *t, err *e) { return t->update ? plan_run(t->update, e) : DDPM_OK; }

ddpm_status trainer_state(trainer *t, train_state *state, err *e) { return plan_read(t->grad, t->state, state, e); }

ddpm_status trainer_restore(trainer *t, const train_state *state, err *e)
{
    return plan_write(t->grad, t->state, state, e);
}

int trainer_loss_levels(const trainer *t) { return t->losses ? (int)t->losses->n : 0; }

ddpm_status trainer_losses(trainer *t, float *losses, err *e) { return plan_read(t->grad, t->losses, losses, e); }

ddpm_status trainer_restore_losses(trainer *t, const float *losses, err *e)
{
    float *none = NULL;
    if (!t->losses) return DDPM_OK;
    if (!losses) TRY(mem_array(&none, (size_t)tensor_count(t->losses), sizeof *none, "history of losses", e));
    const ddpm_status st = plan_write(t->grad, t->losses, losses ? losses : none, e);
    mem_free(none);
    return st;
}

void trainer_watch(trainer *t, plan_finding *into) { t->watch = into; }

/* Accumulating micro-batches expect gradients of zero at the first one of a step. */
static ddpm_status zero_gradients(trainer *t, err *e)
{
    enum { PIECE = 1 << 16 };
    const params *store = t->m->store;
    float *zeros = NULL;
    ddpm_status st = DDPM_OK;
    if (!t->grad->add_grads) return DDPM_OK;
    TRY(mem_array(&zeros, PIECE, sizeof *zeros, "gradients", e));
    for (size_t at = 0; at < store->count; at += PIECE) {
        const size_t n = store->count - at < PIECE ? store->count - at : PIECE;
        float *to = (float *)store->arena[ARENA_GRAD] + at;
        TRY_GOTO(t->m->be->fn->upload(t->m->be, to, zeros, n * sizeof *zeros, e));
    }
done:
    mem_free(zeros);
    return st;
}

ddpm_status trainer_unwatch(trainer *t, const train_state *state, err *e)
{
    t->watch = NULL;
    TRY(zero_gradients(t, e));
    return trainer_restore(t, state, e);
}
