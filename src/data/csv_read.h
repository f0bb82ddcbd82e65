/* csv_read.h - records of a CSV file (RFC 4180), one at a time and of limited size. */
#ifndef DDPM_CSV_READ_H
#define DDPM_CSV_READ_H
#include <stddef.h>
#include <stdio.h>

enum { CSV_FIELDS = 256, CSV_BYTES = 1 << 20 }; /* of a record, at most */

typedef struct csv_record {
    char *text;            /* [CSV_BYTES], the caller's; the fields, each with a final 0 */
    size_t at[CSV_FIELDS]; /* where in it a field begins */
    int n;                 /* fields; an empty line has one empty field */
    int line;              /* number of the line on which the record began; set it to 0 before the first */
    int lines;             /* read so far; 0 before the first */
} csv_record;

typedef enum csv_result { CSV_RECORD, CSV_END, CSV_MALFORMED } csv_result;

/* The next record.  CSV_MALFORMED: a quote that is not closed or stands inside a field, a 0 byte, or too large. */
csv_result csv_next(FILE *from, csv_record *r);

#endif
