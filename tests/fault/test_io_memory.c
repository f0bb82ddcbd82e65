/* Every reader and writer of src/io, and of labels, while the n-th allocation fails: a status each time, nothing leaked. */
#include "data/data_files.h"
#include "data/dataset.h"
#include "io/checkpoint_dir.h"
#include "io/class_names.h"
#include "io/pipeline.h"
#include "io/safetensors.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static long countdown; /* the allocation that brings it to 0 fails; 0: none does */
static bool ours;      /* it was one of this library's own, not of jansson's */
static int held;       /* blocks of jansson's that are not freed yet */

static bool fails(bool own)
{
    if (countdown == 0 || --countdown > 0) return false;
    ours = own;
    return true;
}

/* clang's sanitizer sits in the program itself, where these cannot be put in front of it. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ONLY_JANSSON
#endif
#endif
#ifndef ONLY_JANSSON
void *aligned_alloc(size_t alignment, size_t size)
{
    void *p = NULL;
    return fails(true) || posix_memalign(&p, alignment, size) ? NULL : p;
}

void *realloc(void *p, size_t size)
{
    static void *(*next)(void *, size_t);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "realloc");
    return fails(true) ? (errno = ENOMEM, NULL) : next(p, size);
}
#endif

static void *json_get(size_t size)
{
    void *p = fails(false) ? NULL : malloc(size);
    held += p != NULL;
    return p;
}

static void json_put(void *p)
{
    held -= p != NULL;
    free(p);
}

typedef ddpm_status (*attempt)(const char *scratch, err *e);

/* Run f while allocation 1, 2, 3, ... fails, until none is left to fail. */
static void sweep(attempt f)
{
    char dir[PATH_CAP];
    err e = {0};
    scratch_make(dir);
    json_set_alloc_funcs(json_get, json_put);
    cr_assert_eq(f(dir, &e), DDPM_OK, "%s", e.text);
    for (long n = 1;; n++) {
        e = (err){0};
        countdown = n;
        const ddpm_status st = f(dir, &e);
        const bool fired = countdown == 0;
        countdown = 0;
        cr_assert_eq(held, 0, "allocation %ld: %d blocks are lost", n, held);
        if (!fired) {
            cr_assert_eq(st, DDPM_OK);
            cr_assert_gt(n, 1, "no allocation was seen");
            break;
        }
        /* jansson 2.14 does not see that a token's buffer could not grow, and goes on with a shorter one */
        cr_assert(st != DDPM_OK || !ours, "allocation %ld failed and nobody noticed", n);
        cr_assert(st == DDPM_OK || strlen(e.text) > 8);
    }
    scratch_remove(dir);
}

static ddpm_status open_safetensors(const char *scratch, err *e)
{
    safetensors *st;
    TRY(safetensors_open(FIXTURES "/mix.safetensors", &st, e));
    safetensors_close(st);
    return DDPM_OK;
}

static ddpm_status write_safetensors(const char *scratch, err *e)
{
    static const float v[4];
    const safetensors_item items[] = {{.name = "a", .rank = 1, .shape = {4}, .data = v, .dtype = SAFETENSORS_F32},
                                      {.name = "b", .rank = 1, .shape = {4}, .data = v, .dtype = SAFETENSORS_F32}};
    return safetensors_write(in_dir(scratch, "x"), items, 2, false, e);
}

static ddpm_status read_configs(const char *scratch, err *e)
{
    pipeline p;
    unet_config net;
    scheduler_config scheduler;
    TRY(pipeline_find(FIXTURES "/pipeline", &p, NULL, e));
    return pipeline_read_configs(&p, &net, &scheduler, NULL, e);
}

static ddpm_status write_pipeline(const char *scratch, err *e)
{
    static float v[36];
    const unet_config net = unet_config_default();
    const scheduler_config scheduler = scheduler_config_default();
    const named_tensor tensor = {"w", 4, {2, 2, 3, 3}, v};
    return pipeline_write(scratch, &net, &scheduler, &tensor, 1, e);
}

static ddpm_status seal_and_verify(const char *scratch, err *e)
{
    TRY(file_write(in_dir(scratch, "f"), "abc", 3, false, e));
    TRY(checkpoint_seal(scratch, e));
    return checkpoint_verify(scratch, e);
}

static ddpm_status keep_class_names(const char *scratch, err *e)
{
    class_names names = {.says_null = true, .null_class = 2}, back = {0};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(class_names_add(&names, "cat", e));
    TRY_GOTO(class_names_add(&names, "dog", e));
    TRY_GOTO(class_names_write(&names, scratch, e));
    TRY_GOTO(class_names_read(scratch, 3, &back, e));
done:
    class_names_free(&names);
    class_names_free(&back);
    return st;
}

/* The labels of two images. */
static ddpm_status open_labelled(const char *scratch, dataset_labels from, const char *metadata, err *e)
{
    static const char *const images[] = {"a_1.png", "b_2.png"};
    dataset *d;
    const long left = countdown;
    countdown = 0;
    for (int i = 0; i < 2; i++) copy_file(FIXTURE("resize_tall_8x8.png"), scratch, images[i]);
    put_file(in_dir(scratch, "metadata.jsonl"), metadata);
    countdown = left;
    const dataset_spec spec = {.kind = DATASET_FOLDER, .path = scratch, .labels = from, .shape_only = true};
    TRY(dataset_open(&spec, &d, e));
    const int classes = dataset_classes(d), names = dataset_class_name(d, 1) != NULL;
    dataset_close(d);
    cr_assert(classes == 2 && names == (strstr(metadata, "\"y\"") != NULL || from == DATASET_LABELS_FILENAME));
    return DDPM_OK;
}

#define LABELS(a, b) "{\"file_name\": \"a_1.png\", \"label\": " a "}\n{\"file_name\": \"b_2.png\", \"label\": " b "}\n"

static ddpm_status open_numbers(const char *scratch, err *e)
{
    return open_labelled(scratch, DATASET_LABELS_METADATA, LABELS("0", "1"), e);
}

static ddpm_status open_texts(const char *scratch, err *e)
{
    return open_labelled(scratch, DATASET_LABELS_METADATA, LABELS("\"x\"", "\"y\""), e);
}

static ddpm_status open_names(const char *scratch, err *e)
{
    return open_labelled(scratch, DATASET_LABELS_FILENAME, "", e);
}

Test(io_memory, class_names) { sweep(keep_class_names); }
Test(io_memory, labels_of_numbers) { sweep(open_numbers); }
Test(io_memory, labels_of_texts) { sweep(open_texts); }
Test(io_memory, labels_of_names) { sweep(open_names); }
Test(io_memory, safetensors_open) { sweep(open_safetensors); }
Test(io_memory, safetensors_write) { sweep(write_safetensors); }
Test(io_memory, pipeline_read_configs) { sweep(read_configs); }
Test(io_memory, pipeline_write) { sweep(write_pipeline); }
Test(io_memory, checkpoint_seal_and_verify) { sweep(seal_and_verify); }

Test(io_memory, weights_read)
{
#ifdef ONLY_JANSSON
    cr_skip_test("its allocations cannot be made to fail under this sanitizer");
#endif
    err e = {0};
    test_net net = net_load(FIXTURES "/tensors.txt");
    for (long n = 1;; n++) {
        countdown = n;
        const ddpm_status st =
            weights_read(FIXTURES "/pipeline/unet/diffusion_pytorch_model.safetensors", net.tensors, net.n, NULL, &e);
        const bool fired = countdown == 0;
        countdown = 0;
        if (!fired) break;
        cr_assert_eq(st, DDPM_ENOMEM, "allocation %ld: %s", n, e.text);
        cr_assert_eq(net.tensors[0].data[0], 0.0f, "written in spite of the error");
    }
    cr_assert_eq(net_differences(&net), 0);
    net_free(&net);
}
