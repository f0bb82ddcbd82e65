/* io_support.h - for tests that read and write files: a temporary folder, whole files, the fixture's network.
 *
 * Any failure in these functions fails the running test. */
#ifndef DDPM_IO_SUPPORT_H
#define DDPM_IO_SUPPORT_H
#include "base/file.h"
#include "base/notes.h"
#include "io/weights.h"
#include <stdint.h>

#define FIXTURES DDPM_TESTS "/io/fixtures"

/* Creates an empty folder and writes its path to out[PATH_CAP]; returns out.  Remove with scratch_remove(). */
char *scratch_make(char *out);
void scratch_remove(const char *dir);

/* The path dir/name, in a static buffer that is valid until the 8th call after this one. */
const char *in_dir(const char *dir, const char *name);

void put_file(const char *path, const char *text);
char *get_text(const char *path);                 /* content of a file without 0 bytes; mem_free() it */
int count_of(const char *text, const char *part); /* how often the part occurs in the text */
/* Do the two files have the same content? */
bool same_bytes(const char *a, const char *b);

/* Reads a configuration file and writes it to another file. */
typedef ddpm_status config_rewrite(const char *from, const char *to, notes *n, err *e);
/* Expects `rewrite` to write the bytes of the file `want`, and no notes. */
void expect_rewritten(config_rewrite *rewrite, const char *from, const char *want);

/* The network of the fixtures (fixtures/tensors.txt): names, PyTorch's shapes, zeroed data; net_free() it. */
typedef struct test_net {
    named_tensor *tensors;
    int n;
} test_net;
test_net net_load(const char *tensors_txt);
void net_free(test_net *net);
int64_t tensor_values(const named_tensor *t);

/* The fixture's value at index i of PyTorch's order in the k-th tensor by name. */
float fixture_value(int k, int64_t i);
int name_rank(const test_net *net, int which); /* the k of tensors[which] */
/* The index in our layout for index i of PyTorch's layout. */
int64_t our_index(const named_tensor *t, int64_t i);
void net_fill(test_net *net);             /* fills all tensors with fixture_value(), in our layout */
int net_differences(const test_net *net); /* number of values that differ from fixture_value() */

#endif
