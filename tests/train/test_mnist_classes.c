/* The digits that a network of configs/mnist_small.yaml is asked for, with and without guidance, as a classifier trained
 * on MNIST reads them.  Needs $DDPM_DATA/mnist; training takes minutes, so it is left out without DDPM_TEST_LONG or a
 * finished run in DDPM_MNIST_CLASSES. */
#include "base/file.h"
#include "noise.h"
#include "support/digit_classifier.h"
#include "support/digit_run.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 28, D = SIDE * SIDE, PICTURES = 200, SETTINGS = 3, EPOCHS = 4 };

static err why;

static bool find_mnist(char *path)
{
    const char *data = getenv("DDPM_DATA");
    return data && path_join(path, data, "mnist", &why) == DDPM_OK && path_is_dir(path);
}

static dataset *open_mnist(const char *folder, const char *file)
{
    char path[PATH_CAP];
    dataset *d;
    OK(path_join(path, folder, file, &why));
    if (!path_exists(path)) strncat(path, ".gz", sizeof path - strlen(path) - 1);
    OK(dataset_open(&(dataset_spec){.kind = DATASET_IDX, .path = path, .channels = 1}, &d, &why));
    cr_assert_eq(dataset_h(d), SIDE);
    return d;
}

static digit_classifier *train_classifier(const char *folder)
{
    dataset *d = open_mnist(folder, "train-images-idx3-ubyte");
    digit_classifier *c = digit_classifier_train(d, EPOCHS);
    dataset_close(d);
    return c;
}

Test(mnist_classes, the_classifier_reads_the_test_set, .timeout = 300)
{
    char path[PATH_CAP];
    int right = 0, by_chance = 0;
    if (!find_mnist(path)) cr_skip_test("DDPM_DATA is not set or holds no mnist");
    digit_classifier *c = train_classifier(path);
    dataset *d = open_mnist(path, "t10k-images-idx3-ubyte");
    const int n = (int)dataset_count(d);
    for (int i = 0; i < n; i++)
        right += digit_classifier_read(c, dataset_pixels(d) + (size_t)i * D) == dataset_label(d, i);
    for (int i = 0; i < 1000; i++) { /* noise is nobody's digit */
        uint8_t noise[D];
        for (int k = 0; k < D; k++) noise[k] = (uint8_t)noise_bits(1, NOISE_DIGITS, (uint32_t)i, 0, (uint32_t)k).v[0];
        by_chance += digit_classifier_read(c, noise) == i % 10;
    }
    cr_log_info("%d of %d test images are read right; %d of 1000 of noise", right, n, by_chance);
    cr_assert_eq(n, 10000);
    cr_assert_geq(right, 9700);
    cr_assert_leq(by_chance, 150);
    dataset_close(d);
    digit_classifier_destroy(c);
}

/* Of PICTURES, how many the classifier reads as their label. */
static int count_right(const digit_classifier *c, const uint8_t *pixels)
{
    int right = 0;
    for (int i = 0; i < PICTURES; i++) right += digit_classifier_read(c, pixels + (size_t)i * D) == i % 10;
    return right;
}

Test(mnist_classes, guidance_draws_what_was_asked_for, .timeout = 14400)
{
    static const double scale[SETTINGS] = {1, 2, 4};
    static ddpm_config c;
    static uint8_t pixels[PICTURES * D];
    char out[] = "/tmp/ddpm-mnist-classes-XXXXXX", path[PATH_CAP];
    int right[SETTINGS], best = 0;
    const char *kept = getenv("DDPM_MNIST_CLASSES"); /* read the pictures of a finished run instead of training one */
    if (!kept && !getenv("DDPM_TEST_LONG")) cr_skip_test("minutes of training: DDPM_TEST_LONG is not set");
    if (!find_mnist(path)) cr_skip_test("DDPM_DATA is not set or holds no mnist");
    config_defaults(&c);
    OK(config_read_file(&c, DDPM_SOURCE "/configs/mnist_small.yaml", &why));
    (void)snprintf(c.data.path, sizeof c.data.path, "%s", path);
    (void)snprintf(c.out, sizeof c.out, "%s", kept ? kept : mkdtemp(out));
    if (!kept) digit_run_train(&c);
    digit_classifier *judge = train_classifier(path);
    for (int i = 0; i < SETTINGS; i++) {
        c.sample.guidance = scale[i];
        cr_assert_eq(digit_run_sample(&c, PICTURES, pixels), scale[i] == 1 ? 20 : 40);
        right[i] = count_right(judge, pixels);
        if (right[i] > right[best]) best = i;
        cr_log_info("guidance %g: %d of %d are read as their label", scale[i], right[i], PICTURES);
    }
    digit_classifier_destroy(judge);
    if (!kept) OK(dir_remove(c.out, &why));
    cr_assert_geq(right[best], PICTURES * 95 / 100, "%d of %d at guidance %g", right[best], PICTURES, scale[best]);
    cr_assert_lt(right[0], right[best], "guidance changes nothing");
}
