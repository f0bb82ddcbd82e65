/* run_setup.c - the beginning of a training run: its folder, its starting point, data, model and weights. */
#include "base/arith.h"
#include "base/mem.h"
#include "data/image.h"
#include "diffusion/noising.h"
#include "train/advice.h"
#include "train/run_parts.h"
#include "train/trainer_fit.h"

#include <string.h>

/* A stop request aborts the preview. */
static bool preview_tick(void *context, int done, int total) { return run_ask(context) == RUN_STOP; }

static ddpm_status open_data(run *r, err *e)
{
    const dataset_spec spec = recipe_dataset(&r->config);
    notes doubt = {.text = ""};
    TRY(dataset_open(&spec, &r->data, e));
    TRY(dataset_hash(r->data, &r->facts.dataset_hash, e));
    r->steps = recipe_steps(&r->config, dataset_count(r->data));
    run_note(r, "data: %s, %lld images of %dx%dx%d%s", dataset_kind_name(r->data), (long long)dataset_count(r->data),
             dataset_h(r->data), dataset_w(r->data), dataset_c(r->data),
             r->config.data.flip ? ", mirrored at random" : "");
    for (int i = 0; dataset_remarked(r->data, i); i++) run_note(r, "data: %s", dataset_remarked(r->data, i));
    if (r->config.model.num_class_embeds != 0 || r->config.model.init_from[0]) run_classes_doubt(r->data, &doubt);
    if (doubt.text[0]) run_note(r, "data: %s", doubt.text);
    return DDPM_OK;
}

static void give_advice(run *r)
{
    char text[ADVICE_MOST][ADVICE_TEXT];
    const int n = advice_of(&r->config, r->steps, dataset_count(r->data), text);
    for (int i = 0; i < n; i++) run_note(r, "WARNING: %s", text[i]);
}

/* The previews' memory is allocated with the trainer's, so that no preview can run out of memory during the run. */
static ddpm_status plan_preview(run *r, err *e)
{
    char folder[PATH_CAP];
    if (r->config.sample.every == 0 || r->config.sample.every > r->steps) return DDPM_OK;
    TRY(run_folder_file(&r->folder, "samples", folder, e));
    return preview_create(
        &(preview_spec){.config = &r->config, .m = r->m, .folder = folder, .tick = preview_tick, .context = r},
        &r->preview, e);
}

/* A resumed run reads its network from its checkpoint: the folder of model.init_from may be missing or changed. */
static ddpm_config config_of_network(const run *r)
{
    ddpm_config c = r->config;
    if (c.model.init_from[0] && r->from.dir[0]) memcpy(c.model.init_from, r->from.dir, sizeof r->from.dir);
    return c;
}

static ddpm_status adopt(run *r, err *e)
{
    ddpm_config c = config_of_network(r);
    TRY(recipe_adopt(&c, NULL, e)); /* build_model() notes the remarks */
    memcpy(c.model.init_from, r->config.model.init_from, sizeof c.model.init_from);
    r->config = c;
    return DDPM_OK;
}

/* The names of the classes, and the null class, of a model that continues from `earlier` weights or from new ones. */
static ddpm_status take_classes(run *r, const trainer_spec *spec, err *e)
{
    earlier_classes folder = {.folder = NULL};
    notes remarks = {.text = ""};
    const bool resumed = r->from.dir[0];
    ddpm_status st = DDPM_OK;
    if (!resumed && r->config.model.init_from[0]) TRY_GOTO(earlier_classes_read(r->config.model.init_from, &folder, e));
    TRY_GOTO(run_classes_take(r->data, spec, resumed ? &r->from.classes : &folder, r->m, &remarks, e));
    if (remarks.text[0]) run_note(r, "model: %s", remarks.text);
done:
    earlier_classes_free(&folder);
    return st;
}

static ddpm_status build_model(run *r, err *e)
{
    const image_shape shape = recipe_shape(r->data);
    const ddpm_config of_network = config_of_network(r);
    notes remarks = {.text = ""};
    if (r->from.dir[0]) TRY(run_classes_resume(&r->config, r->data, &r->from.classes, e));
    TRY(recipe_model(&of_network, r->be, shape, &r->m, &remarks, e));
    if (remarks.text[0]) run_note(r, "model: %s", remarks.text);
    trainer_spec spec = recipe_trainer(&r->config, shape, r->steps);
    TRY(take_classes(r, &spec, e));
    r->facts.dataset_hash ^= run_classes_hash(r->data, r->m);
    if (feed_wants_resident(r->be, &r->config, r->data)) spec.resident = dataset_count(r->data);
    spec.ahead = feed_ahead(&r->config, spec.resident > 0);
    TRY(trainer_create(r->m, &spec, &r->trainer, e));
    TRY(plan_preview(r, e));
    trainer_memory need = trainer_needs(r->trainer);
    run_note(r, "model: %s, %.3f M parameters, %.3f GFLOP an image and step",
             r->m->net.kind == NETWORK_SIMPLE ? "simple" : "unet", (double)r->m->store->values / 1e6, need.flops / 1e9);
    run_note(
        r,
        "memory: %.1f MiB of weights, moments and gradients, %.1f MiB of activations (%.1f MiB without memory reuse)",
        bytes_to_mib(need.weights), bytes_to_mib(need.activations), bytes_to_mib(need.unpacked));
    if (r->preview) {
        run_note(r, "memory: %.1f MiB for previews", bytes_to_mib(preview_bytes(r->preview)));
        need.activations += preview_bytes(r->preview);
    }
    r->memory = trainer_fit_total(need);
    run_note(r, "memory: %.1f MiB of inputs%s; %.1f MiB in all, %.1f MiB free", bytes_to_mib(need.inputs + need.ahead),
             spec.resident ? " with the whole data set" : " and batches loaded ahead", bytes_to_mib(r->memory),
             bytes_to_mib(r->be->fn->memory_free(r->be)));
    TRY(trainer_fit_check(r->m, &spec, need, e));
    TRY(trainer_allocate(r->trainer, e));
    return r->preview ? preview_allocate(r->preview, e) : DDPM_OK;
}

static ddpm_status initial_weights(run *r, err *e)
{
    char path[PATH_CAP];
    notes remarks = {.text = ""};
    TRY(recipe_weights(&r->config, r->m, path, &remarks, e));
    if (path[0]) run_note(r, "model: weights from %s", path);
    if (remarks.text[0]) run_note(r, "model: %s", remarks.text);
    return DDPM_OK;
}

static void say(void *context, const char *text) { run_note(context, "%s", text); }

/* Choose the starting point; a resumed run keeps its original seed. */
static ddpm_status choose_start(run *r, err *e)
{
    const resume_question q = {.folder = &r->folder, .config = &r->config, .say = say, .context = r};
    TRY(resume_choose(&q, &r->from, e));
    TRY(adopt(r, e));
    TRY(resume_compare(&q, &r->from, e));
    if (!r->from.dir[0] || r->from.state.seed == (uint64_t)r->config.seed) return DDPM_OK;
    run_note(r, "resume: seed=%lld has no effect: the run continues with its original seed %llu",
             (long long)r->config.seed, (unsigned long long)r->from.state.seed);
    r->config.seed = (int64_t)r->from.state.seed;
    return DDPM_OK;
}

static ddpm_status restore(run *r, err *e)
{
    const checkpoint_facts *before = &r->from.facts;
    err why = {0};
    const ddpm_status st = checkpoint_restore(r->from.dir, &r->from.state, r->m, r->trainer, &why);
    if (st != DDPM_OK)
        return err_set(e, st, "%s; resume=FOLDER rewind=true continues from an older checkpoint", why.text);
    r->facts.rollbacks = before->rollbacks, r->facts.rollback_end = before->rollback_end;
    run_note(r, "resume: %s, step %llu", r->from.dir, (unsigned long long)r->from.state.step);
    if (before->dataset_hash != r->facts.dataset_hash)
        run_note(r,
                 "resume: the data set differs from that of the checkpoint: the run continues with the new data set");
    if (strcmp(before->machine, r->facts.machine))
        run_note(r, "resume: the device was '%s' and is now '%s': the last bits of the results may differ",
                 before->machine, r->facts.machine);
    if (!r->from.own) return DDPM_OK;
    r->saved_step = r->from.state.step;
    return checkpoint_known_add(&r->whole, (int64_t)r->saved_step, e);
}

/* Set weights and state, and remove everything later than the starting point from the folder. */
static ddpm_status start(run *r, err *e)
{
    const resume_question q = {.folder = &r->folder, .config = &r->config, .say = say, .context = r};
    if (!r->from.dir[0]) run_note(r, "start: seed %lld", (long long)r->config.seed);
    TRY(r->from.dir[0] ? restore(r, e) : initial_weights(r, e));
    TRY(resume_rewind(&q, &r->from, e));
    TRY(trainer_state(r->trainer, &r->state, e));
    r->since = r->state;
    r->since_what = "resume";
    return DDPM_OK;
}

static ddpm_status write_run_config(run *r, err *e)
{
    char path[PATH_CAP], *text;
    size_t size;
    TRY(run_folder_file(&r->folder, "config.yaml", path, e));
    if (run_folder_is_input(&r->folder, &r->config, "config.yaml")) {
        run_note(
            r,
            "%s: not overwritten, because it is an input: ckpt/*/training/config.yaml contains all options of this run",
            path);
        return DDPM_OK;
    }
    TRY(config_write(&r->config, NULL, false, &text, &size, e));
    const ddpm_status st = file_replace(path, text, size, e);
    mem_free(text);
    return st;
}

static ddpm_status write_noising(run *r, err *e)
{
    static const int share[] = {0, 200, 400, 600, 800, 999}; /* thousandths of T */
    enum { N = sizeof share / sizeof *share };
    int t[N];
    image first = {0}, strip = {0};
    char path[PATH_CAP];
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < N; i++) t[i] = (int)((int64_t)share[i] * r->m->scheduler.num_train_timesteps / 1000);
    TRY_GOTO(image_create(&first, dataset_h(r->data), dataset_w(r->data), dataset_c(r->data), "noising.png", e));
    TRY_GOTO(dataset_read_or_next(r->data, 0, first.pixel, NULL, e));
    TRY_GOTO(noising_strip(&first, &r->m->scheduler, t, N, (uint64_t)r->config.seed, &strip, e));
    TRY_GOTO(run_folder_file(&r->folder, "noising.png", path, e));
    TRY_GOTO(image_write_png(path, &strip, e));
done:
    image_free(&first);
    image_free(&strip);
    return st;
}

/* Write noising.png, which shows the network's inputs: the first image at several noise levels.  A failure is only a
 * warning. */
static void draw_noising(run *r)
{
    err why = {0};
    if (write_noising(r, &why) != DDPM_OK) run_note(r, "WARNING: noising.png was not written: %s", why.text);
}

static ddpm_status start_feed(run *r, err *e)
{
    r->given = r->state.step;
    const ddpm_status st = feed_create(
        &(feed_spec){.config = &r->config, .data = r->data, .trainer = r->trainer, .first_sample = r->state.sample},
        &r->feed, e);
    run_note_losses(r);
    return st;
}

static void note_remark(run *r)
{
    const char *remark = backend_take_remark(r->be);
    if (remark) run_note(r, "device: %s", remark);
}

ddpm_status run_set_up(run *r, err *e)
{
    TRY(run_folder_open(&r->folder, &r->config, e));
    r->be->fn->describe(r->be, r->facts.machine, sizeof r->facts.machine);
    run_note(r, "device: %s", r->facts.machine);
    note_remark(r);
    TRY(choose_start(r, e));
    TRY(open_data(r, e));
    give_advice(r);
    TRY(build_model(r, e));
    TRY(start(r, e));
    note_remark(r); /* of autotuning */
    TRY(write_run_config(r, e));
    draw_noising(r);
    return start_feed(r, e);
}
