#include "config/nearest.h"

#include <string.h>

enum { LONGEST = 63 };

static int min2(int a, int b) { return a < b ? a : b; }

int text_distance(const char *a, const char *b)
{
    const int na = (int)strnlen(a, LONGEST), nb = (int)strnlen(b, LONGEST);
    int d[3][LONGEST + 1]; /* the last three rows of the table of prefix distances */
    for (int j = 0; j <= nb; j++) d[0][j] = j;
    for (int i = 1; i <= na; i++) {
        int *row = d[i % 3], *above = d[(i + 2) % 3], *two_above = d[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            row[j] = min2(above[j], row[j - 1]) + 1;
            row[j] = min2(row[j], above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = min2(row[j], two_above[j - 2] + 1);
        }
    }
    return d[na % 3][nb];
}
