#include "support/comma_locale.h"

#include "base/file.h"

#include <locale.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __GLIBC__
/* The file that localedef compiles LC_NUMERIC to (glibc, locale/localeinfo.h): a magic number, the number of elements,
 * the offset of each element, and then the elements. */
typedef struct numeric_file {
    uint32_t magic, elements, at[6];
    char decimal_point[4], thousands_sep[4], grouping[4];
    uint32_t decimal_point_wc, thousands_sep_wc;
    char codeset[8];
} numeric_file;

#define AT(element) offsetof(numeric_file, element)
static const numeric_file comma = {
    .magic = 0x20031115u ^ LC_NUMERIC,
    .elements = 6,
    .at = {AT(decimal_point), AT(thousands_sep), AT(grouping), AT(decimal_point_wc), AT(thousands_sep_wc), AT(codeset)},
    .decimal_point = ",",
    .decimal_point_wc = ',',
    .codeset = "UTF-8"};

bool comma_locale(void)
{
    char root[] = "/tmp/ddpm-locale-XXXXXX", folder[64], file[128], text[16];
    if (!mkdtemp(root)) return false;
    (void)snprintf(folder, sizeof folder, "%s/comma", root);
    (void)snprintf(file, sizeof file, "%s/LC_NUMERIC", folder);
    const bool written =
        dir_make(folder, NULL) == DDPM_OK && file_write(file, &comma, sizeof comma, false, NULL) == DDPM_OK;
    const bool set = written && setenv("LOCPATH", root, 1) == 0 && setlocale(LC_NUMERIC, "comma");
    (void)unsetenv("LOCPATH");
    if (dir_remove(root, NULL) != DDPM_OK || !set) return false;
    (void)snprintf(text, sizeof text, "%.1f", 1.5);
    return text[1] == ',';
}
#else
bool comma_locale(void) { return false; }
#endif
