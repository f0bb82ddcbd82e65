/* Names of devices: what each means, and what is none. */
#include "base/device_name.h"

#include <criterion/criterion.h>

Test(device_name, names_and_their_numbers)
{
    static const struct {
        const char *text;
        device_kind kind;
        int index;
        bool valid;
    } known[] = {
        {"auto", DEVICE_AUTO, 0, true},
        {"cpu", DEVICE_CPU, 0, true},
        {"cuda", DEVICE_CUDA, DEVICE_ANY, true},
        {"cuda:0", DEVICE_CUDA, 0, true},
        {"cuda:07", DEVICE_CUDA, 7, true},
        {"cuda:999", DEVICE_CUDA, 999, true},
        {"cuda:1000", DEVICE_CUDA, DEVICE_NO_NUMBER, false},
        {"cuda:", DEVICE_CUDA, DEVICE_NO_NUMBER, false},
        {"cuda:-1", DEVICE_CUDA, DEVICE_NO_NUMBER, false},
        {"cuda: 1", DEVICE_CUDA, DEVICE_NO_NUMBER, false},
        {"cuda:1x", DEVICE_CUDA, DEVICE_NO_NUMBER, false},
        {"cuda0", DEVICE_CUDA, DEVICE_NO_NUMBER, false},
        {"", DEVICE_UNKNOWN, 0, false},
        {"gpu", DEVICE_UNKNOWN, 0, false},
        {"CPU", DEVICE_UNKNOWN, 0, false},
        {"auto ", DEVICE_UNKNOWN, 0, false},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const device_name name = device_name_parse(known[i].text);
        cr_expect_eq(name.kind, known[i].kind, "'%s'", known[i].text);
        cr_expect_eq(name.index, known[i].index, "'%s': %d", known[i].text, name.index);
        cr_expect_eq(device_name_is_valid(known[i].text), known[i].valid, "'%s'", known[i].text);
    }
}
