#include "train/resume.h"
#include "base/mem.h"
#include "io/atomic_dir.h"
#include "io/checkpoint_dir.h"
#include "train/option_change.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static void say(const resume_question *q, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    err_line(text, sizeof text, fmt, ap);
    va_end(ap);
    q->say(q->context, text);
}

/* ema.warmup was false by default: a run from that time keeps its value unless another one is set. */
static void keep_earlier_default(const resume_question *q, const resume_point *p)
{
    if (q->config->origin[OPTION_ema_warmup].source == CONFIG_DEFAULT) q->config->ema.warmup = p->before.ema.warmup;
}

/* Read the options of the checkpoint; a resumed run keeps its model.init_from. */
static ddpm_status read_options(const resume_question *q, resume_point *p, err *e)
{
    char path[PATH_CAP];
    err why = {0};
    char *from = q->config->model.init_from;
    config_defaults(&p->before);
    TRY(path_join(path, p->dir, "training/config.yaml", e));
    p->compares = config_read_file(&p->before, path, &why) == DDPM_OK;
    if (!p->compares) {
        say(q, "resume: the options cannot be compared with those of the checkpoint: %s", why.text);
        return DDPM_OK;
    }
    if (from[0] && strcmp(from, p->before.model.init_from) != 0)
        say(q, "resume: model.init_from=%s has no effect: the weights are those of the checkpoint", from);
    memcpy(from, p->before.model.init_from, sizeof q->config->model.init_from);
    keep_earlier_default(q, p);
    return DDPM_OK;
}

/* A number of classes may be spelled out, or left to the data: whether that is as many is known when the data is open. */
static bool same_classes(const ddpm_config *now, const resume_point *p)
{
    const int asked = now->model.num_class_embeds, there = p->classes.rows;
    return there > 0 && (asked < 0 || asked == there);
}

ddpm_status resume_compare(const resume_question *q, const resume_point *p, err *e)
{
    for (int i = 0; i < CONFIG_OPTIONS && p->compares; i++) {
        if (i == OPTION_seed) continue; /* a resumed run keeps its seed */
        if (i == OPTION_model_num_class_embeds && same_classes(q->config, p)) continue;
        const option_change change = option_changed(&p->before, q->config, (config_id)i);
        if (change == CHANGE_OF_NETWORK)
            return err_set(e, DDPM_EINVAL,
                           "%s: %s differs from the value at the start of the run; resume with the previous value, or "
                           "start a new run "
                           "with another out=",
                           p->dir, config_options[i].key);
        if (change == CHANGE_OF_RESULTS)
            say(q, "resume: %s differs from the checkpoint: the results will not be bit-identical to an unchanged run",
                config_options[i].key);
    }
    return DDPM_OK;
}

/* The config_resume constant, or -1 for a folder. */
static int word_of(const char *resume) { return config_word_of(OPTION_resume, resume); }

/* Is the checkpoint in the folder `ckpt`, by its path or, if the path is a link, by the link's target? */
static bool lies_in(const char *checkpoint, const char *ckpt)
{
    char name[PATH_CAP], parent[PATH_CAP];
    size_t n = strlen(checkpoint);
    while (n > 1 && checkpoint[n - 1] == '/') n--;
    (void)snprintf(name, sizeof name, "%.*s", (int)n, checkpoint);
    char *slash = strrchr(name, '/');
    if (slash) slash[slash == name] = '\0';
    return path_same(slash ? name : ".", ckpt) ||
           (path_join(parent, checkpoint, "..", NULL) == DDPM_OK && path_same(parent, ckpt));
}

static ddpm_status find_checkpoint(const resume_question *q, int there, resume_point *p, err *e)
{
    const char *resume = q->config->resume;
    const int word = word_of(resume);
    notes remarks = {.text = ""};
    ddpm_status st = DDPM_OK;
    if (!resume[0])
        return err_set(e, DDPM_EINVAL, "resume: empty; give never, auto, or the folder of a checkpoint or run");
    if (word == ROOT_RESUME_AUTO && there > 0) st = checkpoint_newest_good(q->folder->ckpt, p->dir, &remarks, e);
    if (word == ROOT_RESUME_NEVER && there > 0)
        st = err_set(e, DDPM_EINVAL,
                     "%s: already contains a run; continue it with resume=auto, or start a new run with another out=",
                     q->folder->path);
    if (word < 0) st = checkpoint_find(resume, p->dir, &remarks, e);
    if (remarks.text[0]) say(q, "resume: %s", remarks.text);
    return st;
}

/* p->later[0 .. there) holds every checkpoint of the folder; reduce it to those that do not precede this one. */
static ddpm_status choose_later(const resume_question *q, int there, resume_point *p, err *e)
{
    for (int i = 0; i < there; i++)
        if (!p->own || p->later[i] > (int64_t)p->state.step) p->later[p->n_later++] = p->later[i];
    if (p->n_later == 0 || word_of(q->config->resume) >= 0 || q->config->rewind) return DDPM_OK;
    return err_set(
        e, DDPM_EINVAL,
        "%s: contains step %lld of %s, which is not before step %llu of resume=; set rewind=true to move it to "
        "ckpt/superseded_NNN, or give another out=",
        q->folder->path, (long long)p->later[0], p->own ? "this run" : "another run",
        (unsigned long long)p->state.step);
}

ddpm_status resume_choose(const resume_question *q, resume_point *p, err *e)
{
    int there = 0;
    notes left = {.text = ""};
    memset(p, 0, sizeof *p);
    atomic_dir_sweep(q->folder->ckpt, &left);
    if (left.text[0]) say(q, "WARNING: the files of an interrupted save cannot be removed: %s", left.text);
    TRY(checkpoint_list(q->folder->ckpt, &p->later, &there, e));
    TRY(find_checkpoint(q, there, p, e));
    if (!p->dir[0]) return DDPM_OK;
    TRY(checkpoint_read_state(p->dir, &p->state, &p->facts, e));
    TRY(read_options(q, p, e));
    TRY(earlier_classes_read(p->dir, &p->classes, e));
    p->own = lies_in(p->dir, q->folder->ckpt);
    return choose_later(q, there, p, e);
}

void resume_free(resume_point *p)
{
    mem_free(p->later);
    earlier_classes_free(&p->classes);
    *p = (resume_point){.later = NULL};
}

static ddpm_status supersede_later(const resume_question *q, const resume_point *p, err *e)
{
    for (int i = 0; i < p->n_later; i++) TRY(run_folder_supersede(q->folder, p->later[i], e));
    if (p->n_later > 0) say(q, "resume: checkpoints of later steps moved to %s: %d", q->folder->superseded, p->n_later);
    return DDPM_OK;
}

/* The metrics are copied first, so that nothing is lost if the process is killed at any point. */
ddpm_status resume_rewind(const resume_question *q, const resume_point *p, err *e)
{
    notes remarks = {.text = ""};
    run_metrics_past past = {.kept = NULL};
    ddpm_status st = DDPM_OK;
    const bool again = p->own && p->n_later == 0;
    TRY_GOTO(run_folder_past(q->folder, p->own ? p->state.step : 0, again, &past, &remarks, e));
    if (remarks.text[0]) say(q, "resume: %s", remarks.text);
    TRY_GOTO(supersede_later(q, p, e));
    TRY_GOTO(run_folder_rewind(q->folder, &past, e));
done:
    mem_free(past.kept);
    return st;
}
