/* io_support.h - for tests that read and write files: a folder for the test, whole files, the fixture's net.
 *
 * Whatever fails in here fails the running test. */
#ifndef DDPM_IO_SUPPORT_H
#define DDPM_IO_SUPPORT_H
#include "base/file.h"
#include "base/notes.h"
#include "io/weights.h"
#include <stdint.h>

#define FIXTURES DDPM_TESTS "/io/fixtures"

/* A new empty folder, into out[PATH_CAP]; returns out.  scratch_remove() it. */
char *scratch_make(char *out);
void scratch_remove(const char *dir);

/* dir/name into a buffer of the test's own, good until the 8th call after it. */
const char *in_dir(const char *dir, const char *name);

void put_file(const char *path, const char *text);
char *get_text(const char *path);                 /* all of a file that holds no 0 byte; mem_free() it */
int count_of(const char *text, const char *part); /* how often the part stands in the text */
/* Is what the two files hold the same? */
bool same_bytes(const char *a, const char *b);

/* Reads a configuration and writes it to another file. */
typedef ddpm_status config_rewrite(const char *from, const char *to, notes *n, err *e);
/* That leaves the bytes of the file `want`, and no notes. */
void expect_rewritten(config_rewrite *rewrite, const char *from, const char *want);

/* The net of the fixtures (fixtures/tensors.txt): names, PyTorch's shapes, zeroed data; net_free() it. */
typedef struct test_net {
    named_tensor *tensors;
    int n;
} test_net;
test_net net_load(const char *tensors_txt);
void net_free(test_net *net);
int64_t tensor_values(const named_tensor *t);

/* The fixture's value at index i of PyTorch's order in the tensor that is k-th by name. */
float fixture_value(int k, int64_t i);
int name_rank(const test_net *net, int which); /* k of tensors[which] */
/* Index in our layout of PyTorch's index i. */
int64_t our_index(const named_tensor *t, int64_t i);
void net_fill(test_net *net);             /* with fixture_value(), in our layout */
int net_differences(const test_net *net); /* values that are not fixture_value() */

#endif
