/* config_value.h - parsing and formatting an option's value.  Used by config.c and config_yaml.c only. */
#ifndef DDPM_CONFIG_VALUE_H
#define DDPM_CONFIG_VALUE_H
#include "config/config.h"

enum {
    VALUE_WHY = 420,           /* bytes of a reason, with the final 0 */
    VALUE_TEXT = PATH_CAP + 64 /* bytes of any value as text, with the final 0 */
};

/* Parse `text` into the field of option o.  false: *field is unchanged and why[VALUE_WHY] holds the reason, phrased to
 * follow "key: ". */
bool value_read(void *field, const config_option *o, const char *text, char *why);
bool value_read_items(void *field, const config_option *o, const config_items *items, char *why);

/* Format the field into out[VALUE_TEXT] so that value_read() returns the same value: the shortest text for a number,
 * [a, b] for a list. */
void value_write(const void *field, const config_option *o, char *out);

/* Are the `size` bytes UTF-8 without control characters, line separators, byte order marks and noncharacters, so that
 * they can stand quoted in one line of YAML? */
bool text_is_plain(const char *text, size_t size);

#endif
