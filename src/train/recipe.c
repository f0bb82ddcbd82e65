#include "train/recipe.h"
#include "base/arith.h"
#include "train/adopted_scheduler.h"
#include "train/idle_options.h"
#include "train/init_from.h"
#include "train/recipe_classes.h"
#include "train/recipe_update.h"
#include "train/recipe_variance.h"
#include "train/recipe_words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ddpm_status recipe_cache_file(const char *name, char cache[PATH_CAP], err *e)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char dir[PATH_CAP];
    cache[0] = '\0';
    if (base && base[0] == '/') {
        TRY(path_join(dir, base, "ddpm", e));
    } else {
        if (!home || home[0] != '/') return DDPM_OK;
        TRY(path_join(dir, home, ".cache/ddpm", e));
    }
    return path_join(cache, dir, name, e);
}

ddpm_status recipe_backend(const ddpm_config *c, const char *out, autotune_files *files, backend_spec *spec, err *e)
{
    *spec = (backend_spec){.device = c->device,
                           .threads = c->threads,
                           .precision = recipe_to_precision(c->precision),
                           .nondeterministic = !c->cuda.deterministic,
                           .cuda_libraries = c->cuda.libraries,
                           .conv = recipe_to_conv(c->cpu.conv)};
    for (int i = 0; i < c->cuda.disable.count; i++)
        spec->disabled |= recipe_to_cuda_opt((config_cuda_disable)c->cuda.disable.item[i]);
    *files = (autotune_files){.own = ""};
    if (config_word_of(OPTION_autotune_cache, c->autotune_cache) != ROOT_AUTOTUNE_CACHE_AUTO) {
        spec->autotune_cache = c->autotune_cache;
        return DDPM_OK;
    }
    TRY(recipe_cache_file("autotune.txt", out ? files->shared : files->own, e));
    if (out) TRY(path_join(files->own, out, "autotune.txt", e));
    spec->autotune_cache = files->own;
    spec->shared_autotune_cache = files->shared;
    return DDPM_OK;
}

const char *recipe_precision(const ddpm_config *c, const backend *be)
{
    config_precision in = ROOT_PRECISION_FP32;
    if (!be->fn->host_memory && c->precision == ROOT_PRECISION_TF32) in = ROOT_PRECISION_TF32;
    if (be->act == DTYPE_BF16) in = ROOT_PRECISION_BF16;
    return config_word_name(OPTION_precision, in);
}

dataset_spec recipe_dataset(const ddpm_config *c)
{
    return (dataset_spec){.kind = recipe_to_dataset(c->data.kind),
                          .path = c->data.path,
                          .labels = recipe_to_labels(c->data.labels),
                          .resolution = c->data.resolution,
                          .channels = c->data.channels,
                          .count = c->data.count,
                          .seed = (uint64_t)c->seed,
                          .cache_mb = c->data.cache_mb ? c->data.cache_mb : -1,
                          .max_bad = c->data.max_bad,
                          .run = c->out};
}

image_shape recipe_shape(const dataset *d)
{
    return (image_shape){dataset_h(d), dataset_w(d), dataset_c(d), dataset_classes(d)};
}

network recipe_network(const ddpm_config *c, image_shape shape)
{
    network net = {.kind = recipe_to_network(c->model.kind), .unet = unet_config_default()};
    unet_config *u = &net.unet;
    u->sample_size_h = shape.h, u->sample_size_w = shape.w;
    u->in_channels = shape.c;
    u->out_channels = recipe_learns_variance(c) ? 2 * shape.c : shape.c;
    u->n_block = c->model.block_out_channels.count;
    for (int b = 0; b < u->n_block && b < UNET_MAX_BLOCKS; b++) {
        u->block[b].out_channels = c->model.block_out_channels.item[b];
        u->block[b].down = recipe_to_down_type((config_model_down_block_types)c->model.down_block_types.item[b]);
        u->block[b].up = recipe_to_up_type((config_model_up_block_types)c->model.up_block_types.item[b]);
    }
    u->layers_per_block = c->model.layers_per_block;
    u->attention_head_dim = c->model.attention_head_dim;
    u->norm_num_groups = c->model.norm_num_groups;
    u->norm_eps = c->model.norm_eps;
    u->downsample_padding = c->model.downsample_padding;
    u->flip_sin_to_cos = c->model.flip_sin_to_cos;
    u->freq_shift = c->model.freq_shift;
    u->dropout = c->model.dropout;
    u->add_attention = c->model.add_attention;
    u->time_scale_shift = recipe_to_time_shift(c->model.resnet_time_scale_shift);
    u->center_input_sample = c->model.center_input_sample;
    u->num_train_timesteps = c->diffusion.num_train_timesteps;
    u->num_class_embeds = recipe_class_count(c, shape.classes);
    if (u->num_class_embeds > 0) u->class_embed_type = recipe_to_class_type(c->model.class_embed_type);
    return net;
}

static scheduler_config scheduler_of_betas(const ddpm_config *c)
{
    scheduler_config s = scheduler_config_default();
    s.num_train_timesteps = c->diffusion.num_train_timesteps;
    s.beta_start = c->diffusion.beta_start;
    s.beta_end = c->diffusion.beta_end;
    s.beta_schedule = recipe_to_betas(c->diffusion.beta_schedule);
    s.rescale_betas_zero_snr = c->diffusion.rescale_betas_zero_snr;
    if (s.rescale_betas_zero_snr) s.timestep_spacing = SCHEDULER_TRAILING; /* which has the last timestep */
    s.variance_type = recipe_to_variance(c->diffusion.variance_type);
    s.clip_sample = c->diffusion.clip_sample;
    s.clip_sample_range = c->diffusion.clip_sample_range;
    s.prediction_type = recipe_to_prediction(c->diffusion.predict);
    return s;
}

static scheduler_class class_of_process(config_diffusion_parameterization word)
{
    switch (word) {
    case DIFFUSION_PARAMETERIZATION_DDPM: break;
    case DIFFUSION_PARAMETERIZATION_EDM: return SCHEDULER_CLASS_EDM_EULER;
    case DIFFUSION_PARAMETERIZATION_FLOW: return SCHEDULER_CLASS_FLOW_EULER;
    case DIFFUSION_PARAMETERIZATION_VP: return SCHEDULER_CLASS_SDE_VP;
    case DIFFUSION_PARAMETERIZATION_VE: return SCHEDULER_CLASS_SDE_VE;
    }
    return SCHEDULER_CLASS_DDPM;
}

scheduler_config recipe_scheduler(const ddpm_config *c)
{
    if (c->diffusion.parameterization == DIFFUSION_PARAMETERIZATION_DDPM) return scheduler_of_betas(c);
    scheduler_config s = scheduler_config_of(class_of_process(c->diffusion.parameterization));
    const bool edm = s.type == SCHEDULER_CLASS_EDM_EULER;
    s.num_train_timesteps = c->diffusion.num_train_timesteps;
    if (edm) s.prediction_type = recipe_to_prediction(c->diffusion.predict);
    if (edm) s.sigma_data = c->diffusion.sigma_data, s.rho = c->diffusion.rho;
    if (s.type == SCHEDULER_CLASS_SDE_VP) {
        s.beta_min = c->diffusion.beta_min, s.beta_max = c->diffusion.beta_min + c->diffusion.beta_d;
        s.epsilon_t = c->diffusion.epsilon_t;
    } else {
        s.sigma_min = c->diffusion.sigma_min, s.sigma_max = c->diffusion.sigma_max;
    }
    s.flow_shift = c->diffusion.shift;
    return s;
}

ddpm_status recipe_adopt(ddpm_config *c, notes *remarks, err *e)
{
    network net;
    scheduler_config scheduler;
    return c->model.init_from[0] ? init_from_take(c, &net, &scheduler, remarks, e) : DDPM_OK;
}

ddpm_status recipe_process(const ddpm_config *c, scheduler_config *out, err *e)
{
    ddpm_config adopted = *c;
    network ignored;
    scheduler_config of_folder = scheduler_config_default();
    if (c->model.init_from[0]) TRY(init_from_take(&adopted, &ignored, &of_folder, NULL, e));
    *out = recipe_scheduler(&adopted);
    *out = adopted_scheduler(out, &of_folder);
    return DDPM_OK;
}

/* Read network and scheduler of the folder; the network must match the images. */
static ddpm_status take_folder(ddpm_config *c, image_shape shape, network *net, scheduler_config *of_folder,
                               notes *remarks, err *e)
{
    TRY(init_from_take(c, net, of_folder, remarks, e));
    if (net->unet.in_channels != shape.c)
        return err_set(e, DDPM_EINVAL,
                       "%s: the network has %d input channels, but the images have %d; set data.channels",
                       c->model.init_from, net->unet.in_channels, shape.c);
    recipe_name_classes(c, shape.classes, net);
    net->unet.sample_size_h = shape.h, net->unet.sample_size_w = shape.w;
    net->unet.dropout = c->model.dropout;
    return DDPM_OK;
}

/* The way between two images is found by DDIM, unless another sampler is named, which picture_source_open() refuses. */
static sampler_kind chosen_sampler(const ddpm_config *c, sampler_kind of_model)
{
    const bool between = c->sample.between[0] && c->sample.sampler == SAMPLE_SAMPLER_AUTO;
    return between ? SAMPLER_DDIM : recipe_to_sampler(c->sample.sampler, of_model);
}

/* Does DDPMPipeline of diffusers sample with this class?  It neither scales the input nor runs steps without a generator. */
static bool has_pipeline(scheduler_class type)
{
    return type == SCHEDULER_CLASS_DDPM || type == SCHEDULER_CLASS_DDIM || type == SCHEDULER_CLASS_DPM_MULTISTEP ||
           type == SCHEDULER_CLASS_DPM_SINGLESTEP || type == SCHEDULER_CLASS_SA;
}

/* Can a class say that the predicted x0 is clipped?  Either by the key, or by a threshold held in [1, 1]; diffusers'
 * singlestep and SA solvers fail with thresholds. */
static bool says_clip(scheduler_config *s)
{
    if (!s->clip_sample || scheduler_config_has(s, "clip_sample")) return true;
    if (s->clip_sample_range != 1 || s->thresholding || !scheduler_config_has(s, "thresholding")) return false;
    if (s->type == SCHEDULER_CLASS_DPM_SINGLESTEP || s->type == SCHEDULER_CLASS_SA) return false;
    s->thresholding = true;
    s->sample_max_value = 1;
    return true;
}

/* The scheduler to save, such that diffusers samples from the folder as the run's options say; the process itself where a
 * class cannot say all of it. */
static scheduler_config saved_scheduler(const ddpm_config *c, const scheduler_config *process, notes *remarks)
{
    if (c->sample.sampler == SAMPLE_SAMPLER_AUTO) return *process;
    scheduler_config s = recipe_sampling(c, process);
    const char *class = scheduler_class_name(s.type);
    const bool spacing = s.timestep_spacing < SCHEDULER_QUADRATIC, sde = process->precond != SCHEDULER_PRECOND_EDM;
    if (sde || !spacing || !says_clip(&s) ||
        (process->variance_type != SCHEDULER_FIXED_SMALL && s.type != process->type)) {
        notes_add(remarks, "the checkpoints name %s, because %s of diffusers cannot say %s",
                  scheduler_class_name(process->type), class,
                  sde                                               ? "the preconditioning"
                  : !spacing                                        ? "timestep_spacing"
                  : process->variance_type != SCHEDULER_FIXED_SMALL ? "variance_type"
                                                                    : "clip_sample");
        return *process;
    }
    return s;
}

/* Note properties of the model that diffusers cannot load: the README promises that it can load our models. */
static void note_incompatible(const network *net, const scheduler_config *s, notes *remarks)
{
    if (s->prediction_type == SCHEDULER_MU)
        notes_add(remarks,
                  "diffusers has no prediction_type mu: this program can sample from the run, diffusers cannot");
    if (net->kind == NETWORK_SIMPLE)
        notes_add(remarks,
                  "diffusers has no network of kind simple: this program can sample from the run, diffusers cannot");
}

/* What the rows of the folder's class embedding mean; a training compares it with its data (run_classes.h). */
static ddpm_status take_class_names(const char *folder, model **m, err *e)
{
    int rows;
    const ddpm_status st = model_read_classes(folder, &rows, &(*m)->classes, e);
    if (st == DDPM_OK) return DDPM_OK;
    model_destroy(*m);
    *m = NULL;
    return st;
}

/* Note how diffusers samples with the saved scheduler where none of its pipelines does. */
static void note_pipeline(const scheduler_config *s, notes *remarks)
{
    if (s->precond == SCHEDULER_PRECOND_VP)
        notes_add(remarks,
                  "no pipeline of diffusers samples with ScoreSdeVpScheduler; a loop can, by "
                  "step_pred(unet(x, %d * t).sample, x, t)",
                  s->num_train_timesteps - 1);
    else if (s->precond == SCHEDULER_PRECOND_VE)
        notes_add(
            remarks,
            "no pipeline of diffusers samples this: ScoreSdeVePipeline tells the network sigma, not ln(sigma / 2); a "
            "loop can, with the score unet(x, log(sigma / 2)).sample / sigma");
    else if (!has_pipeline(s->type))
        notes_add(remarks, "DDPMPipeline of diffusers cannot sample with %s; a loop over the scheduler's steps can",
                  scheduler_class_name(s->type));
}

ddpm_status recipe_model(const ddpm_config *c, backend *be, image_shape shape, model **out, notes *remarks, err *e)
{
    ddpm_config adopted = *c;
    network net = recipe_network(c, shape);
    scheduler_config of_folder;
    *out = NULL;
    if (c->model.init_from[0]) TRY(take_folder(&adopted, shape, &net, &of_folder, remarks, e));
    scheduler_config scheduler = recipe_scheduler(&adopted);
    if (c->model.init_from[0]) scheduler = adopted_scheduler(&scheduler, &of_folder);
    TRY(recipe_check_classes(c, &net, shape, e));
    TRY(recipe_check_variance(&net, &scheduler, remarks, e));
    note_idle_options(c, &net, remarks);
    note_incompatible(&net, &scheduler, remarks);
    TRY(sampler_accepts(chosen_sampler(c, sampler_of_class(&scheduler)), &scheduler, e));
    scheduler = saved_scheduler(c, &scheduler, remarks);
    if (c->model.init_from[0]) adopted_scheduler_note(&scheduler, &of_folder, remarks);
    note_pipeline(&scheduler, remarks);
    TRY(model_create(be, &net, &scheduler, out, e));
    return c->model.init_from[0] ? take_class_names(c->model.init_from, out, e) : DDPM_OK;
}

ddpm_status recipe_weights(const ddpm_config *c, model *m, char file[PATH_CAP], notes *remarks, err *e)
{
    pipeline p;
    file[0] = '\0';
    if (!c->model.init_from[0]) return params_init(m->store, (uint64_t)c->seed, e);
    TRY(pipeline_find(c->model.init_from, &p, NULL, e));
    TRY(weights_find(p.unet, file, e));
    TRY(params_load(m->store, ARENA_PARAM, file, remarks, e));
    for (int k = 0; k < params_averages(m->store); k++) TRY(params_load(m->store, params_average(k), file, NULL, e));
    return DDPM_OK;
}

static objective recipe_objective(const ddpm_config *c)
{
    objective o = {.weighting = recipe_to_weighting(c->train.loss_weighting),
                   .snr_gamma = c->train.snr_gamma,
                   .p2_k = c->train.p2_k,
                   .p2_gamma = c->train.p2_gamma,
                   .loss = recipe_to_loss(c->train.loss_type),
                   .huber_schedule = recipe_to_huber_schedule(c->train.huber_schedule),
                   .huber_c = c->train.huber_c};
    recipe_set_variance(c, &o);
    return o;
}

static timestep_draw recipe_timesteps(const ddpm_config *c)
{
    const bool edm = c->diffusion.parameterization == DIFFUSION_PARAMETERIZATION_EDM;
    const timestep_draw_kind own = edm ? DRAW_LOG_NORMAL : DRAW_UNIFORM;
    return (timestep_draw){.kind = recipe_to_timestep_draw(c->train.timestep_sampling, own),
                           .stratified = c->train.stratified,
                           .logit_mean = c->train.logit_mean,
                           .logit_std = c->train.logit_std,
                           .mode_scale = c->train.mode_scale,
                           .P_mean = c->train.P_mean,
                           .P_std = c->train.P_std};
}

trainer_spec recipe_trainer(const ddpm_config *c, image_shape shape, int64_t steps)
{
    trainer_spec s = {.batch = c->train.batch,
                      .h = shape.h,
                      .w = shape.w,
                      .micro_batches = c->train.gradient_accumulation_steps,
                      .recompute = recipe_to_recompute(c->train.gradient_checkpointing),
                      .flip = c->data.flip,
                      .objective = recipe_objective(c),
                      .timesteps = recipe_timesteps(c),
                      .noise_offset = (float)c->train.noise_offset,
                      .input_perturbation = (float)c->train.input_perturbation,
                      .label_dropout = (float)c->train.label_dropout,
                      .seed = (uint64_t)c->seed};
    recipe_update(c, steps, &s);
    return s;
}

scheduler_config recipe_sampling(const ddpm_config *c, const scheduler_config *of_model)
{
    const sampler_kind own = sampler_of_class(of_model), chosen = chosen_sampler(c, own);
    scheduler_config s = sampler_config(chosen, of_model);
    s.variance_type = recipe_to_sample_variance(c->sample.variance_type, s.variance_type);
    s.clip_sample = recipe_to_sample_clip(c->sample.clip, s.clip_sample && !c->sample.between[0]);
    s.timestep_spacing = recipe_to_sample_spacing(c->sample.timestep_spacing, s.timestep_spacing);
    s.sigmas = recipe_to_sample_sigmas(c->sample.sigmas, s.sigmas);
    s.final_sigmas_type = recipe_to_sample_final(c->sample.final, s.final_sigmas_type);
    s.thresholding = recipe_to_sample_thresholding(c->sample.thresholding, s.thresholding && !c->sample.between[0]);
    if (c->sample.dynamic_thresholding_ratio > 0) s.dynamic_thresholding_ratio = c->sample.dynamic_thresholding_ratio;
    if (c->sample.sample_max_value > 0) s.sample_max_value = c->sample.sample_max_value;
    if (c->sample.order > 0) sampler_set_order(chosen, &s, c->sample.order);
    return s;
}

sampler_spec recipe_sampler(const ddpm_config *c, const scheduler_config *s)
{
    const sampler_kind own = sampler_of_class(s), chosen = chosen_sampler(c, own);
    const int usual = chosen == SAMPLER_DDPM ? 0 : sampler_usual_steps(chosen, s->num_train_timesteps);
    const int steps = c->sample.num_inference_steps ? c->sample.num_inference_steps : usual;
    const bool by_name = c->sample.sampler != SAMPLE_SAMPLER_AUTO || chosen != own;
    sampler_spec spec = by_name ? sampler_spec_default(chosen, steps) : sampler_spec_of(s, steps);
    if (c->sample.eta >= 0) spec.eta = c->sample.eta;
    spec.churn = c->sample.churn;
    spec.churn_min = c->sample.churn_min;
    spec.churn_max = c->sample.churn_max;
    spec.churn_noise = c->sample.churn_noise;
    return spec;
}

/* The null class is the last one, unless another is named or the model says that it has none. */
static generator_guidance guidance(const ddpm_config *c, const model *m)
{
    const config_reals *interval = &c->sample.guidance_interval;
    const bool has_none = m->classes.says_null && m->classes.null_class < 0;
    const int last = has_none ? -1 : m->net.unet.num_class_embeds - 1;
    const double no_limit = strtod(config_options[OPTION_sample_guidance_interval].max, NULL);
    return (generator_guidance){.scale = c->sample.guidance,
                                .low = interval->item[0],
                                .high = interval->count > 1 && interval->item[1] < no_limit ? interval->item[1] : 0,
                                .rescale = c->sample.guidance_rescale,
                                .null_class = c->sample.null_class >= 0 ? c->sample.null_class : last};
}

/* Also if it is the default that was typed. */
static bool is_strength_given(const ddpm_config *c)
{
    return c->origin[OPTION_sample_strength].source == CONFIG_ARGUMENT || config_is_chosen(c, OPTION_sample_strength);
}

/* RePaint starts from noise alone unless a strength is given. */
static void set_editing(const ddpm_config *c, generator_spec *s)
{
    s->masked = c->sample.mask[0] != '\0';
    s->jump_length = c->sample.jump_length;
    s->jump_n_sample = c->sample.jump_n_sample;
    if (c->sample.between[0] || (c->sample.from[0] && sampler_info_of(s->sampler.kind)->from_images))
        s->start = GENERATOR_FROM_X;
    else if (c->sample.from[0] && (!s->masked || is_strength_given(c)))
        generator_spec_start(s, c->sample.strength);
}

generator_spec recipe_generator(const ddpm_config *c, const model *m, arena_kind weights)
{
    generator_spec s = {.batch = c->sample.batch,
                        .seed = (uint64_t)c->sample.seed,
                        .weights = weights,
                        .scheduler = recipe_sampling(c, &m->scheduler)};
    s.sampler = recipe_sampler(c, &s.scheduler);
    s.guidance = guidance(c, m);
    s.watched = c->sample.trajectory > 0;
    set_editing(c, &s);
    model_image_size(m, &s.h, &s.w);
    return s;
}

/* Does an option of sampling have an effect? */
static bool acts(config_id option, const ddpm_config *c, const model *m, const generator_spec *s)
{
    const bool classes = unet_config_classes(&m->net.unet) > 0, guided = classes && c->sample.guidance != 1;
    const struct {
        config_id option;
        bool acts;
    } needs[] = {{OPTION_sample_labels, classes},
                 {OPTION_sample_null_class, guided},
                 {OPTION_sample_guidance_interval, guided},
                 {OPTION_sample_guidance_rescale, guided},
                 {OPTION_sample_strength, s->start == GENERATOR_FROM_IMAGE},
                 {OPTION_sample_jump_length, s->masked && s->jump_n_sample > 1},
                 {OPTION_sample_jump_n_sample, s->masked},
                 {OPTION_sample_timestep_spacing, !s->scheduler.use_flow_sigmas},
                 {OPTION_sample_clip, !s->scheduler.thresholding},
                 {OPTION_sample_dynamic_thresholding_ratio, s->scheduler.thresholding},
                 {OPTION_sample_sample_max_value, s->scheduler.thresholding},
                 {OPTION_sample_churn_min, c->sample.churn > 0},
                 {OPTION_sample_churn_max, c->sample.churn > 0},
                 {OPTION_sample_churn_noise, c->sample.churn > 0}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (needs[i].option == option && !needs[i].acts) return false;
    return true;
}

/* What the sampler's table must read for an option to have an effect; 0: it always has. */
static unsigned read_of(config_id option)
{
    switch (option) {
    case OPTION_sample_eta: return SAMPLER_READS_ETA;
    case OPTION_sample_order: return SAMPLER_READS_ORDER;
    case OPTION_sample_sigmas: return SAMPLER_READS_SIGMAS;
    case OPTION_sample_final: return SAMPLER_READS_FINAL;
    case OPTION_sample_timestep_spacing: return SAMPLER_READS_SPACING;
    case OPTION_sample_variance_type: return SAMPLER_READS_VARIANCE;
    case OPTION_sample_churn:
    case OPTION_sample_churn_min:
    case OPTION_sample_churn_max:
    case OPTION_sample_churn_noise: return SAMPLER_READS_CHURN;
    default: return 0;
    }
}

void recipe_note_sampling(const ddpm_config *c, const model *m, const generator_spec *s, notes *remarks)
{
    const unsigned reads = sampler_info_of(s->sampler.kind)->reads;
    char list[400] = "";
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const config_id option = (config_id)i;
        const size_t used = strlen(list);
        const unsigned needed = read_of(option);
        if (!config_is_chosen(c, option) || (acts(option, c, m, s) && (!needed || reads & needed))) continue;
        (void)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", config_options[i].key);
    }
    if (list[0])
        notes_add(remarks, "options that have no effect with sampler=%s on this model: %s",
                  sampler_name(s->sampler.kind), list);
}

int64_t recipe_steps(const ddpm_config *c, int64_t images)
{
    const int64_t per_step = (int64_t)c->train.batch * c->train.gradient_accumulation_steps;
    if (c->train.epochs == 0) return c->train.steps;
    return ceil_div(c->train.epochs * images, per_step);
}
