#include "data/csv_read.h"

#include <stdbool.h>

/* Read a field that begins with `c`, up to what ends it, which is returned: ',', '\n' or EOF; 0: malformed. */
static int read_field(FILE *from, csv_record *r, int c, size_t *used)
{
    const bool quoted = c == '"';
    if (quoted) c = getc_unlocked(from);
    for (;; c = getc_unlocked(from)) {
        if (quoted && c == '"') {
            c = getc_unlocked(from);
            if (c == '\r') c = getc_unlocked(from);
            if (c != '"') return c == ',' || c == '\n' || c == EOF ? c : 0;
        } else if (c == EOF || (!quoted && (c == ',' || c == '\n'))) {
            if (c == '\n' && *used > r->at[r->n - 1] && r->text[*used - 1] == '\r') --*used;
            return quoted ? 0 : c;
        } else if (c == '"' && !quoted) {
            return 0;
        }
        if (c == 0 || *used + 2 > CSV_BYTES) return 0;
        r->lines += c == '\n';
        r->text[(*used)++] = (char)c;
    }
}

csv_result csv_next(FILE *from, csv_record *r)
{
    size_t used = 0;
    int end = ',';
    r->n = 0;
    r->line = r->lines + 1;
    while (end == ',') {
        const int c = getc_unlocked(from);
        if (c == EOF && r->n == 0) return CSV_END;
        if (r->n == CSV_FIELDS || used + 1 > CSV_BYTES) return CSV_MALFORMED;
        r->at[r->n++] = used;
        end = read_field(from, r, c, &used);
        if (end == 0) return CSV_MALFORMED;
        r->text[used++] = '\0';
    }
    r->lines++;
    return CSV_RECORD;
}
