#include "cli/sample_set.h"
#include "cli/interrupt.h"
#include "cli/sample_folder.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "io/json_out.h"
#include "sample/picture_format.h"
#include "sample/set_check.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { SUBFOLDERS_FROM = 10000 }; /* pictures */

/* ---- from the options ---- */

static bool is_typed(const ddpm_config *c, config_id option) { return c->origin[option].source == CONFIG_ARGUMENT; }

/* ids= of the command line wins over count= of a file, and the other way round. */
static ddpm_status read_ids(const ddpm_config *c, int images, id_ranges *ids, err *e)
{
    const bool typed = is_typed(c, OPTION_sample_ids), counted = is_typed(c, OPTION_sample_count);
    if (typed && counted && c->sample.ids[0])
        return err_set(e, DDPM_EINVAL, "ids=%.40s and count=%d: give one of them", c->sample.ids, c->sample.count);
    if (c->sample.ids[0] && (typed || !counted)) return id_ranges_parse(ids, c->sample.ids, e);
    const bool chosen = counted || config_is_chosen(c, OPTION_sample_count);
    id_ranges_first(ids, images > 0 && !chosen ? images : c->sample.count);
    return DDPM_OK;
}

ddpm_status sample_set_of(const ddpm_config *c, int images, picture_set *set, err *e)
{
    *set = (picture_set){.format = picture_format_named(config_word_name(OPTION_sample_format, (int)c->sample.format))};
    TRY(read_ids(c, images, &set->ids, e));
    set->shard = set->format->shard ? set->format->shard : c->sample.shard;
    set->subfolders = set->format->files && set->ids.count >= SUBFOLDERS_FROM;
    return DDPM_OK;
}

/* The file system of a folder that may not exist yet. */
static bool examine_disk(const char *folder, struct statvfs *disk)
{
    char at[PATH_CAP];
    (void)snprintf(at, sizeof at, "%s", folder);
    while (statvfs(at, disk)) {
        char *slash = strrchr(at, '/');
        if (errno != ENOENT || !strcmp(at, ".")) return false;
        strcpy(slash == at ? at + 1 : slash ? slash : at, slash ? "" : ".");
    }
    return true;
}

ddpm_status sample_set_fits(const picture_set *set, const char *folder, err *e)
{
    char path[PATH_CAP], need[BYTES_CAP], left[BYTES_CAP];
    struct statvfs disk;
    npz_frame frame;
    if (set->format != &format_npz) return DDPM_OK;
    TRY(path_join(path, folder, SAMPLE_SET, e));
    npz_lay_out(&frame, set->ids.count, (const int[3]){set->h, set->w, set->c}, set->label != NULL);
    if (path_exists(path) || !examine_disk(folder, &disk)) return DDPM_OK;
    const uint64_t there = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (frame.size <= there) return DDPM_OK;
    return err_set(e, DDPM_EIO, "%s: the npz file needs %s, %s are free on this disk", folder,
                   bytes_text(need, (size_t)frame.size), bytes_text(left, (size_t)there));
}

ddpm_status sample_set_describe(const picture_set *set, char **text, size_t *size, err *e)
{
    char ids[ID_TEXT];
    id_ranges_text(&set->ids, ids);
    json_out o = json_out_begin(false, e);
    json_out_open(&o, NULL, '{');
    json_out_text(&o, "format", set->format->name);
    json_out_text(&o, "ids", ids);
    json_out_int(&o, "shard", set->shard);
    json_out_bool(&o, "subfolders", set->subfolders);
    if (set->label) {
        const label_list *labels = set->label_context;
        json_out_text(&o, "labels", labels->text);
        json_out_int(&o, "classes", labels->classes);
    }
    json_out_close(&o, '}');
    return json_out_finish(&o, text, size);
}

/* ---- which part ---- */

/* A number in the environment; -1: not set, or no number. */
static int number_in(const char *variable)
{
    char *end;
    const char *text = getenv(variable);
    if (!text || *text < '0' || *text > '9') return -1;
    const long v = strtol(text, &end, 10);
    return *end || v > 1 << 20 ? -1 : (int)v;
}

/* Who starts processes says which is which: torchrun, Slurm's srun, Open MPI, and MPICH and Intel MPI. */
static void ask_environment(sample_part *part)
{
    static const char *const known[][2] = {{"RANK", "WORLD_SIZE"},
                                           {"SLURM_PROCID", "SLURM_NTASKS"},
                                           {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const int rank = number_in(known[i][0]), ranks = number_in(known[i][1]);
        if (rank < 0 || ranks <= rank) continue;
        *part = (sample_part){rank, ranks, known[i][0]};
        return;
    }
}

ddpm_status sample_part_of(const ddpm_config *c, sample_part *part, err *e)
{
    const int rank = c->sample.rank, ranks = c->sample.ranks;
    *part = (sample_part){rank, ranks, NULL};
    if (rank < 0 && ranks == 0) {
        *part = (sample_part){0, 1, NULL};
        ask_environment(part);
        return DDPM_OK;
    }
    if (rank < 0 && ranks == 1) part->rank = 0;
    if (ranks == 0) return err_set(e, DDPM_EINVAL, "rank=%d needs ranks=, the number of parts", rank);
    if (part->rank < 0) return err_set(e, DDPM_EINVAL, "ranks=%d needs rank=, from 0 to %d", ranks, ranks - 1);
    if (rank >= ranks)
        return err_set(e, DDPM_EINVAL, "rank=%d ranks=%d: ranks count from 0 to %d", rank, ranks, ranks - 1);
    return DDPM_OK;
}

/* ---- from a folder ---- */

static ddpm_status read_json(const char *folder, const char *name, json_t **out, err *e)
{
    char path[PATH_CAP], *text;
    size_t size;
    TRY(path_join(path, folder, name, e));
    TRY(file_read(path, 1 << 17, &text, &size, e));
    *out = json_loadb(text, size, 0, NULL);
    mem_free(text);
    return *out ? DDPM_OK : err_set(e, DDPM_EDATA, "%s: was not written by ddpm sample", path);
}

static int integer(const json_t *o, const char *key, int most)
{
    const json_int_t v = json_integer_value(json_object_get(o, key));
    return v < 1 || v > most ? 0 : (int)v;
}

static ddpm_status fill(const json_t *pixels, const json_t *files, picture_set *set, err *e)
{
    enum { SIDE = 1 << 16, SHARD = 1000000 };
    const char *ids = json_string_value(json_object_get(files, "ids"));
    set->format = picture_format_named(json_string_value(json_object_get(files, "format")));
    set->shard = integer(files, "shard", SHARD);
    set->subfolders = json_is_true(json_object_get(files, "subfolders"));
    set->h = integer(pixels, "height", SIDE);
    set->w = integer(pixels, "width", SIDE);
    set->c = integer(pixels, "channels", 3);
    if (!set->format || !set->shard || !ids || !set->h || !set->w || !set->c ||
        id_ranges_parse(&set->ids, ids, NULL) != DDPM_OK)
        return err_set(e, DDPM_EDATA, "%s/" SAMPLE_SET ": was not written by ddpm sample", set->folder);
    return DDPM_OK;
}

/* The labels of a set that has some. */
static ddpm_status read_labels(const json_t *files, picture_set *set, label_list *labels, err *e)
{
    const char *text = json_string_value(json_object_get(files, "labels"));
    *labels = (label_list){.classes = 0};
    if (!text) return DDPM_OK;
    TRY(label_list_parse(text, integer(files, "classes", 1 << 20), NULL, labels, e));
    set->label = label_of_picture, set->label_context = labels;
    return DDPM_OK;
}

ddpm_status sample_set_read(const char *folder, picture_set *set, label_list *labels, err *e)
{
    json_t *pixels = NULL, *files = NULL;
    ddpm_status st = DDPM_OK;
    *set = (picture_set){.shard = 0};
    *labels = (label_list){.classes = 0};
    if (strlen(folder) >= PATH_CAP - PICTURE_NAME) return err_set(e, DDPM_EINVAL, "path too long: %.80s...", folder);
    strcpy(set->folder, folder);
    TRY_GOTO(read_json(folder, SAMPLE_DESCRIPTION, &pixels, e));
    TRY_GOTO(read_json(folder, SAMPLE_SET, &files, e));
    TRY_GOTO(fill(pixels, files, set, e));
    TRY_GOTO(read_labels(files, set, labels, e));
done:
    json_decref(pixels);
    json_decref(files);
    return st;
}

/* ---- verify=true ---- */

static void report(void *context, set_fault fault, const char *name)
{
    enum { MOST = 20 };
    static const char *const words[SET_FAULTS] = {"missing", "damaged", "unknown"};
    int *said = context;
    if (said[fault]++ < MOST)
        printf("%s: %s\n", words[fault], name);
    else if (said[fault] == MOST + 1)
        printf("%s: and more\n", words[fault]);
}

static bool is_stopped(void) { return interrupt_stop() != 0; }

ddpm_status sample_set_verify(const char *folder, err *e)
{
    static picture_set set; /* large */
    label_list labels;
    set_result r;
    int said[SET_FAULTS] = {0};
    TRY(interrupt_install(e));
    TRY(sample_set_read(folder, &set, &labels, e));
    const ddpm_status st = set_check(&set, report, is_stopped, said, &r, e);
    label_list_free(&labels);
    TRY(st);
    if (r.fault[SET_MISSING] + r.fault[SET_DAMAGED] + r.fault[SET_UNKNOWN] > 0)
        return err_set(e, DDPM_EDATA, "%s: of %lld pictures %lld are missing and %lld damaged; %lld unknown files",
                       folder, (long long)r.pictures, (long long)r.fault[SET_MISSING], (long long)r.fault[SET_DAMAGED],
                       (long long)r.fault[SET_UNKNOWN]);
    printf("%s: all %lld pictures are as the manifest says\n", folder, (long long)r.pictures);
    return DDPM_OK;
}
