/* fuzz_labels.c - any bytes as classes.json, metadata.jsonl and metadata.csv.
 *
 *   tools/fuzz 60 labels
 *
 * The first byte chooses the file.  Names that are accepted must be written as a text that reads back to the same
 * names, and labels that are accepted must be classes. */
#include "base/file.h"
#include "base/mem.h"
#include "data/class_list.h"
#include "data/label_metadata.h"
#include "fuzz/fuzz_check.h"
#include "io/class_names.h"

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 4, IMAGES = 3 };

/* A folder of this process's own, and a file in it. */
static const char *own(const char *name)
{
    static char path[8][96];
    static int at;
    char *to = path[at++ % 8];
    (void)snprintf(to, sizeof path[0], "/dev/shm/fuzz-labels-%d%s", (int)getpid(), name);
    FUZZ_CHECK(name[0] || dir_make(to, NULL) == DDPM_OK);
    return to;
}

static void check_names(const char *text, size_t size)
{
    class_names names, back;
    err e = {0};
    const ddpm_status st = class_names_parse(text, size, "fuzz", ROWS, &names, &e);
    FUZZ_CHECK(fuzz_message_is_fine(st, &e));
    if (st != DDPM_OK) return;
    FUZZ_CHECK(names.n <= ROWS && (!names.says_null || names.null_class == ROWS - 1 || names.null_class == -1));
    FUZZ_CHECK(class_names_write(&names, own(""), &e) == DDPM_OK);
    if (names.n || names.says_null) {
        FUZZ_CHECK(class_names_read(own(""), ROWS, &back, &e) == DDPM_OK);
        FUZZ_CHECK(back.n == names.n && back.says_null == names.says_null && back.null_class == names.null_class);
        for (int k = 0; k < names.n; k++) FUZZ_CHECK(!strcmp(back.name[k], names.name[k]));
        class_names_free(&back);
    }
    class_names_free(&names);
}

static void check_metadata(const char *name, const uint8_t *bytes, size_t size)
{
    char *path[IMAGES], *file[] = {(char *)(uintptr_t)own(name)};
    static const char *const images[IMAGES] = {"/a.png", "/b.png", "/c/d.png"};
    const file_list files = {file, 1, 1}, all = {path, IMAGES, IMAGES};
    dataset d = {.count = IMAGES};
    bool labelled;
    err e = {0};
    (void)own("");
    for (int i = 0; i < IMAGES; i++) path[i] = (char *)(uintptr_t)own(images[i]);
    FUZZ_CHECK(file_write(file[0], bytes, size, false, NULL) == DDPM_OK);
    const ddpm_status st = label_metadata_take(&files, &all, &d, &labelled, &e);
    FUZZ_CHECK((st == DDPM_OK) == (e.text[0] == '\0') && !strchr(e.text, '\n'));
    FUZZ_CHECK(st != DDPM_OK || labelled == (d.label != NULL));
    for (int i = 0; d.label && i < IMAGES; i++) FUZZ_CHECK(d.label[i] >= 0 && d.label[i] < d.classes);
    FUZZ_CHECK(d.class_names.n == 0 || d.class_names.n == d.classes);
    class_list_clear(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    if (data[0] == 'j')
        check_metadata("/metadata.jsonl", data + 1, size - 1);
    else if (data[0] == 'v')
        check_metadata("/metadata.csv", data + 1, size - 1);
    else
        check_names((const char *)data + 1, size - 1);
    return 0;
}
