/* config_value.h - one option's value, from text and back.  Used by config.c and config_yaml.c alone. */
#ifndef DDPM_CONFIG_VALUE_H
#define DDPM_CONFIG_VALUE_H
#include "config/config.h"

enum {
    VALUE_WHY = 256,           /* bytes of a reason, with the final 0 */
    VALUE_TEXT = PATH_CAP + 64 /* bytes of any value as text, with the final 0 */
};

/* Read `text` into the field of option o.  false: *field is unchanged and `why`[VALUE_WHY] says what is
 * wrong with the text, to follow "key: ". */
bool value_read(void *field, const config_option *o, const char *text, char *why);
bool value_read_items(void *field, const config_option *o, const config_items *items, char *why);

/* The text that value_read() turns into the same value, in out[VALUE_TEXT]: the shortest one for a
 * number, [a, b] for a list. */
void value_write(const void *field, const config_option *o, char *out);

/* Whether the `size` bytes are UTF-8 without control characters, line separators, byte order marks
 * and noncharacters: what a line of YAML can hold between quotes. */
bool text_is_plain(const char *text, size_t size);

#endif
