/* cmd_inspect.c - ddpm inspect: a network layer by layer, and its memory need, without running it. */
#include "cli/cli.h"
#include "base/arith.h"
#include "base/utf8.h"
#include "diffusion/sampler.h"
#include "sample/label_list.h"
#include "train/trainer_fit.h"
#include "train/recipe.h"
#include "train/self_test.h"

#include <math.h>
#include <string.h>

/* The shape of the images and their classes: from the options if they set them, else from the data. */
static ddpm_status image_shape_of(const ddpm_config *c, image_shape *shape, err *e)
{
    dataset *data = NULL;
    if (c->data.resolution && c->data.channels && c->model.num_class_embeds >= 0) {
        *shape = (image_shape){c->data.resolution, c->data.resolution, c->data.channels, -1};
        return DDPM_OK;
    }
    dataset_spec spec = recipe_dataset(c);
    spec.shape_only = true;
    TRY(dataset_open(&spec, &data, e));
    *shape = recipe_shape(data);
    dataset_close(data);
    return DDPM_OK;
}

static void print_remark(backend *be)
{
    const char *remark = backend_take_remark(be);
    if (remark) printf("note: %s\n", remark);
}

static void print_remarks(const notes *remarks)
{
    if (remarks->text[0]) printf("note: %s\n", remarks->text);
}

static ddpm_status open_model(const cli_args *args, backend *be, model **m, err *e)
{
    notes remarks = {.text = ""};
    image_shape shape;
    if (cli_is_config_file(args->argument[0])) {
        TRY(image_shape_of(&args->config, &shape, e));
        TRY(recipe_model(&args->config, be, shape, m, &remarks, e));
    } else {
        TRY(model_load(be, args->argument[0], m, &remarks, e));
    }
    print_remarks(&remarks);
    return DDPM_OK;
}

/* ---- the timesteps alone ------------------------------------------------------------------------- */

static ddpm_status read_scheduler(const cli_args *args, scheduler_config *s, err *e)
{
    return cli_is_config_file(args->argument[0]) ? recipe_process(&args->config, s, e)
                                                 : model_read_process(args->argument[0], s, e);
}

/* Nothing else is printed: the output is for other programs. */
static ddpm_status print_timesteps(const cli_args *args, err *e)
{
    scheduler_config of_model;
    schedule *s = NULL;
    sampler_table *table = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(read_scheduler(args, &of_model, e));
    const scheduler_config sampling = recipe_sampling(&args->config, &of_model);
    TRY_GOTO(schedule_create(&sampling, &s, e));
    const sampler_spec sampler = recipe_sampler(&args->config, &sampling);
    TRY_GOTO(sampler_accepts(sampler.kind, &of_model, e));
    TRY_GOTO(sampler_create(s, &sampler, &table, e));
    double level = table->signal > 0 ? table->noise / table->signal : INFINITY;
    for (int i = 0; i < table->n; i++) {
        const sampler_row *r = &table->rows[i];
        printf("%.9g %.9g %.9g\n", (double)r->t, (double)r->s, level);
        level = (double)r->noise / (double)r->signal;
    }
done:
    sampler_destroy(table);
    schedule_destroy(s);
    return st;
}

/* ---- layers and memory --------------------------------------------------------------------------- */

static int64_t weights_of(const step *s)
{
    int64_t n = 0;
    for (int k = 0; k < STEP_IN; k++)
        if (s->in[k] && s->in[k]->arena == ARENA_PARAM) n += tensor_count(s->in[k]);
    return n;
}

static void print_layer(const step *s)
{
    const tensor *y = s->out[0];
    char shape[48];
    if (tensor_hw(y) == 1)
        (void)snprintf(shape, sizeof shape, "%lld", (long long)y->c);
    else
        (void)snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)y->h, (long long)y->w, (long long)y->c);
    printf("%-44.44s %-11s %14s %11lld %10.3f\n", s->path, op_name[s->op], shape, (long long)weights_of(s),
           op_flops[s->op](s) / 1e6);
}

static ddpm_status print_layers(const model *m, backend *be, err *e)
{
    plan *p = NULL;
    int h, w;
    model_image_size(m, &h, &w);
    TRY(plan_create(be, &p, e));
    const network_inputs in = network_input_tensors(&m->net, p, 1, h, w);
    (void)network_build(&m->net, p, &in);
    if (!plan_ok(p)) {
        const ddpm_status st = err_set(e, p->first.status, "%s", p->first.text);
        plan_destroy(p);
        return st;
    }
    printf("%-44s %-11s %14s %11s %10s\n", "layer", "op", "output", "parameters", "MFLOP");
    for (int i = 0; i < p->n_step; i++) print_layer(p->steps[i]);
    printf("\n%lld parameters in %d tensors, %.3f GFLOP an image of %dx%dx%d\n", (long long)m->store->values,
           m->store->n, plan_flops(p, 0, p->n_step) / 1e9, h, w, m->net.unet.in_channels);
    plan_destroy(p);
    return DDPM_OK;
}

/* What the labels of a network with classes mean. */
static void print_classes(const model *m)
{
    char name[CLASS_NAME_BYTES + 1];
    const class_names *classes = &m->classes;
    const int rows = unet_config_classes(&m->net.unet);
    if (rows == 0) return;
    printf("\n%d classes", label_classes(rows, classes->says_null, classes->null_class));
    if (classes->says_null && classes->null_class >= 0)
        printf(", and null class %d for guidance", classes->null_class);
    else if (classes->says_null)
        printf(", and no null class: not trained for guidance");
    printf("%s\n", classes->n > 0 ? ":" : "");
    for (int k = 0; k < classes->n; k++) {
        text_printable(name, sizeof name, classes->name[k]);
        printf("%6d  %s\n", k, name);
    }
}

static bool has_room(const model *m, size_t bytes)
{
    const size_t there = m->be->fn->memory_free(m->be);
    return there == 0 || bytes <= there;
}

/* A training that does not fit is not prepared, which could take minutes; its workspaces are then unknown. */
static ddpm_status print_training(const ddpm_config *c, model *m, int batch, err *e)
{
    trainer *t = NULL;
    int h, w;
    model_image_size(m, &h, &w);
    trainer_spec spec = recipe_trainer(c, (image_shape){h, w, m->net.unet.in_channels, -1}, c->train.steps);
    spec.batch = batch;
    spec.sketch = true;
    TRY(trainer_create(m, &spec, &t, e));
    spec.sketch = !has_room(m, trainer_fit_total(trainer_needs(t)));
    if (!spec.sketch) {
        trainer_destroy(t);
        TRY(trainer_create(m, &spec, &t, e));
    }
    const trainer_memory need = trainer_needs(t);
    printf("training, batch %d: %s%.1f MiB = %.1f weights, gradients, moments%s + %.1f activations (%.1f without "
           "memory reuse) + %.1f inputs; %.3f GFLOP an image%s\n",
           batch, spec.sketch ? "at least " : "", bytes_to_mib(need.weights + need.activations + need.inputs),
           bytes_to_mib(need.weights), ema_count(spec.update.update.ema) > 0 ? ", EMA" : "",
           bytes_to_mib(need.activations), bytes_to_mib(need.unpacked), bytes_to_mib(need.inputs), need.flops / 1e9,
           spec.sketch ? "; it does not fit here" : "");
    trainer_destroy(t);
    return DDPM_OK;
}

static ddpm_status print_sampling(const ddpm_config *c, model *m, int batch, err *e)
{
    generator *g = NULL;
    generator_spec spec = recipe_generator(c, m, ARENA_PARAM);
    const size_t weights = m->store->count * sizeof(float) + params_copy_bytes(m->store);
    spec.batch = batch;
    spec.sketch = true;
    TRY(generator_create(m, &spec, &g, e));
    spec.sketch = !has_room(m, generator_bytes_left(g));
    if (!spec.sketch) {
        generator_destroy(g);
        TRY(generator_create(m, &spec, &g, e));
    }
    printf("sampling, batch %d: %s%.1f MiB = %.1f weights + %.1f activations and inputs; %d steps, %.1f GFLOP an "
           "image%s\n",
           batch, spec.sketch ? "at least " : "", bytes_to_mib(weights + generator_bytes(g)), bytes_to_mib(weights),
           bytes_to_mib(generator_bytes(g)), generator_steps(g), generator_flops(g) * generator_steps(g) / 1e9,
           spec.sketch ? "; it does not fit here" : "");
    generator_destroy(g);
    return DDPM_OK;
}

static void print_autotune(const backend *be)
{
    printf("\n");
    if (be->fn->report)
        be->fn->report(be, stdout);
    else
        printf("the %s backend has nothing to autotune\n", be->fn->name);
}

ddpm_status cmd_inspect(const cli_args *args, err *e)
{
    backend *be = NULL;
    model *m = NULL;
    backend_spec device;
    autotune_files files;
    const ddpm_config *c = &args->config;
    const int batch = c->inspect.batch ? c->inspect.batch : c->train.batch;
    ddpm_status st = DDPM_OK;
    if (c->inspect.timesteps) return print_timesteps(args, e);
    TRY_GOTO(recipe_backend(c, NULL, &files, &device, e));
    TRY_GOTO(self_test_open(&device, &be, e));
    print_remark(be);
    TRY_GOTO(open_model(args, be, &m, e));
    TRY_GOTO(print_layers(m, be, e));
    print_classes(m);
    TRY_GOTO(print_training(c, m, batch, e));
    TRY_GOTO(print_sampling(c, m, batch, e));
    print_remark(be); /* of autotuning */
    if (c->inspect.autotune) print_autotune(be);
done:
    model_destroy(m);
    backend_destroy(be);
    return st;
}
