#include "support/digit_judge.h"
#include "base/mem.h"
#include "data/dataset.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { KNOWN = 8000, HELD_OUT = 1000, NEAREST = 5, AGREE = 3 };

struct digit_judge {
    dataset *digits; /* the first KNOWN are the reference set, the others determine the limit */
    int d;
    double limit; /* squared distance */
};

typedef struct neighbour {
    double distance;
    int label;
} neighbour;

static double distance(const uint8_t *a, const uint8_t *b, int d)
{
    int sum = 0;
    for (int i = 0; i < d; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/* The NEAREST nearest neighbours in the reference set, nearest first. */
static void find(const digit_judge *j, const uint8_t *pixels, neighbour *best)
{
    const uint8_t *bank = dataset_pixels(j->digits);
    for (int k = 0; k < NEAREST; k++) best[k] = (neighbour){INFINITY, -1};
    for (int i = 0; i < KNOWN; i++) {
        neighbour n = {distance(bank + (size_t)i * (size_t)j->d, pixels, j->d), dataset_label(j->digits, i)};
        for (int k = 0; k < NEAREST; k++)
            if (n.distance < best[k].distance) {
                const neighbour pushed = best[k];
                best[k] = n, n = pushed;
            }
    }
}

digit_judge *digit_judge_create(int side)
{
    err why = {0};
    digit_judge *j = calloc(1, sizeof *j);
    cr_assert_not_null(j);
    const dataset_spec spec = {
        .kind = DATASET_DIGITS, .resolution = side, .channels = 1, .count = KNOWN + HELD_OUT, .seed = 20261123};
    cr_assert_eq(dataset_open(&spec, &j->digits, &why), DDPM_OK, "%s", why.text);
    j->d = side * side;
    for (int i = 0; i < HELD_OUT; i++) {
        neighbour best[NEAREST];
        find(j, dataset_pixels(j->digits) + (size_t)(KNOWN + i) * (size_t)j->d, best);
        j->limit = fmax(j->limit, best[0].distance);
    }
    return j;
}

void digit_judge_destroy(digit_judge *j)
{
    if (!j) return;
    dataset_close(j->digits);
    free(j);
}

int digit_judge_read(const digit_judge *j, const uint8_t *pixels)
{
    neighbour best[NEAREST];
    int votes[10] = {0};
    find(j, pixels, best);
    if (best[0].distance > j->limit) return -1;
    for (int k = 0; k < NEAREST; k++) votes[best[k].label]++;
    for (int digit = 0; digit < 10; digit++)
        if (votes[digit] >= AGREE) return digit;
    return -1;
}
