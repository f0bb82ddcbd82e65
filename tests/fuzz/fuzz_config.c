/* fuzz_config.c - any bytes as a configuration file, and as arguments.
 *
 *   tools/fuzz 60 config
 *
 * What is accepted must be written as a text that reads back to the same values; what is refused must
 * have changed nothing and be explained on one line. */
#include "config/config.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

static void must_explain(const err *e, const ddpm_config *now, const ddpm_config *before)
{
    require(e->text[0] && e->text[strcspn(e->text, "\n")] == 0);
    require(memcmp(now, before, sizeof *now) == 0);
}

static void must_read_back(const ddpm_config *c, bool origins)
{
    ddpm_config back;
    char *text = NULL;
    size_t size;
    err e = {0};
    config_defaults(&back);
    if (config_write(c, NULL, origins, &text, &size, &e) != DDPM_OK) return; /* longer than a file may be */
    require(config_read(&back, "back", text, size, &e) == DDPM_OK);
    for (int i = 0; i < CONFIG_OPTIONS; i++) require(config_same(c, &back, (config_id)i));
    mem_free(text);
}

static void read_arguments(ddpm_config *c, const uint8_t *data, size_t size)
{
    static const config_scope scope = {"sample", "sample device threads"};
    char argument[512];
    for (size_t i = 0; i < size;) {
        size_t n = 0;
        while (i < size && data[i] != '\n' && n < sizeof argument - 1) argument[n++] = (char)data[i++];
        argument[n] = 0;
        i += i < size && data[i] == '\n';
        const ddpm_config before = *c;
        err e = {0};
        if (config_assign(c, n % 2 ? &scope : NULL, argument, &e) != DDPM_OK) must_explain(&e, c, &before);
    }
}

/* The first byte chooses: arguments, one a line, or a file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ddpm_config c;
    config_defaults(&c);
    if (size == 0) return 0;
    if (data[0] == '=') {
        read_arguments(&c, data + 1, size - 1);
    } else {
        const ddpm_config before = c;
        err e = {0};
        if (config_read(&c, "fuzz.yaml", (const char *)data, size, &e) != DDPM_OK) {
            must_explain(&e, &c, &before);
            return 0;
        }
    }
    must_read_back(&c, size % 2);
    err e = {0};
    if (config_check(&c, &e) != DDPM_OK) require(e.text[0]);
    return 0;
}
