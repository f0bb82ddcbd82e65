/* Where the labels of a data set come from, and that each stays with its image. */
#include "data/loader.h"

#include "data/image.h"
#include "data_files.h"
#include "support/ok.h"
#include <sys/stat.h>
#include <unistd.h>

static char dir[PATH_CAP];
static err why;

static void make_dir(void) { new_folder(dir); }
static void drop_dir(void) { drop_folder(dir); }
TestSuite(dataset_labels, .init = make_dir, .fini = drop_dir);

/* A grey 8 x 8 PNG of one value: the value tells which file an image came from. */
static void plain(const char *name, int value)
{
    char path[PATH_CAP];
    image img;
    uint8_t *bytes;
    size_t size;
    OK(image_create(&img, 8, 8, 1, "plain", &why));
    memset(img.pixel, value, 64);
    OK(image_encode_png(&img, &bytes, &size, &why));
    new_file(path, dir, name, bytes, size);
    free(bytes);
    image_free(&img);
}

static void text(const char *name, const char *content)
{
    char path[PATH_CAP];
    new_file(path, dir, name, content, strlen(content));
}

static void lose(const char *name)
{
    char path[PATH_CAP];
    OK(path_join(path, dir, name, &why));
    cr_assert_eq(remove(path), 0, "%s", name);
}

static dataset *opened(dataset_labels from)
{
    dataset *d;
    const dataset_spec spec = {.path = dir, .kind = DATASET_FOLDER, .labels = from};
    OK(dataset_open(&spec, &d, &why));
    return d;
}

static uint64_t hash_of(const dataset *d)
{
    uint64_t h;
    OK(dataset_hash(d, &h, &why));
    return h;
}

/* The labels of all images, in the order of their names, and the names of the classes, NULL if they are numbers. */
static void expect(dataset_labels from, int classes, const int *label, const char *const *names)
{
    dataset *d = opened(from);
    cr_assert_eq(dataset_classes(d), classes, "%d classes; %s", dataset_classes(d), dataset_remarked(d, 0));
    for (int64_t i = 0; i < dataset_count(d); i++)
        cr_expect_eq(dataset_label(d, i), label[i], "image %ld: %d", (long)i, dataset_label(d, i));
    for (int k = 0; k < classes; k++) {
        const char *name = dataset_class_name(d, k);
        cr_expect_eq(name == NULL, names == NULL, "%d is %s", k, name);
        if (name && names) cr_expect_str_eq(name, names[k]);
    }
    cr_expect_null(dataset_class_name(d, classes));
    cr_expect_null(dataset_class_name(d, -1));
    dataset_close(d);
}

static void refuses(dataset_labels from, ddpm_status st, const char *said)
{
    dataset *d;
    const dataset_spec spec = {.path = dir, .kind = DATASET_FOLDER, .labels = from};
    cr_expect_eq(dataset_open(&spec, &d, &why), st, "%s: %s", said, why.text);
    cr_expect_not_null(strstr(why.text, said), "expected '%s': %s", said, why.text);
    cr_expect_null(strchr(why.text, '\n'));
    dataset_close(d);
    why = (err){0};
}

static void three(void)
{
    plain("a.png", 0);
    plain("b.png", 1);
    plain("c.png", 2);
}

/* ---- none, sub-folders, file names ---------------------------------------------------------------- */

Test(dataset_labels, none_means_none)
{
    plain("a/x.png", 1);
    plain("b/x.png", 2);
    expect(DATASET_LABELS_NONE, 0, (const int[]){-1, -1}, NULL);
    dataset *d;
    const dataset_spec digits = {.kind = DATASET_DIGITS, .count = 20, .labels = DATASET_LABELS_NONE};
    OK(dataset_open(&digits, &d, &why));
    cr_expect(dataset_classes(d) == 0 && dataset_label(d, 3) == -1 && !dataset_class_name(d, 0));
    cr_expect_eq(dataset_labels_hash(d), 0);
    dataset_close(d);
}

Test(dataset_labels, folders_are_sorted_as_texts)
{
    plain("10/x.png", 0);
    plain("2/x.png", 1);
    plain("a-b/x.png", 2); /* '-' comes before '/' */
    plain("a/x.png", 3);
    static const char *const names[] = {"10", "2", "a", "a-b"};
    expect(DATASET_LABELS_FOLDER, 4, (const int[]){0, 1, 3, 2}, names);
    expect(DATASET_LABELS_AUTO, 4, (const int[]){0, 1, 3, 2}, names);
    plain("a/deep/y.png", 4);
    refuses(DATASET_LABELS_FOLDER, DDPM_EINVAL, "10/x.png and a/deep/y.png are not equally deep");
    expect(DATASET_LABELS_AUTO, 4, (const int[]){0, 1, 3, 2, 2}, names);
    plain("top.png", 5);
    lose("a/deep/y.png");
    refuses(DATASET_LABELS_FOLDER, DDPM_EINVAL, "/top.png is not in a sub-folder");
    expect(DATASET_LABELS_AUTO, 0, (const int[]){-1, -1, -1, -1, -1}, NULL);
}

Test(dataset_labels, file_names_have_their_class_before_the_first_underscore)
{
    plain("dog_1.png", 0);
    plain("s/cat_1_2.png", 1);
    plain("s/dog_2.png", 2);
    plain("t_u/ape_.png", 3);
    static const char *const names[] = {"ape", "cat", "dog"};
    expect(DATASET_LABELS_FILENAME, 3, (const int[]){2, 1, 2, 0}, names);
    plain("x_y/horse.png", 4); /* the folder's underscore is not the file's */
    refuses(DATASET_LABELS_FILENAME, DDPM_EINVAL, "x_y/horse.png has no class");
    lose("x_y/horse.png");
    plain("_1.png", 4);
    refuses(DATASET_LABELS_FILENAME, DDPM_EINVAL, "/_1.png has no class");
}

Test(dataset_labels, names_that_are_not_utf_8_are_not_kept)
{
    plain("a/x.png", 0);
    plain("\xff/x.png", 1);
    expect(DATASET_LABELS_AUTO, 2, (const int[]){0, 1}, NULL);
    dataset *d = opened(DATASET_LABELS_FOLDER);
    cr_expect(strstr(dataset_remarked(d, 0), "the name of class 1 is not UTF-8"), "%s", dataset_remarked(d, 0));
    dataset_close(d);
}

Test(dataset_labels, only_a_folder_has_them)
{
    static const char *const words[] = {"", "", "folder", "filename", "metadata"};
    for (int from = DATASET_LABELS_FOLDER; from <= DATASET_LABELS_METADATA; from++) {
        dataset *d;
        char said[80];
        const dataset_spec spec = {.kind = DATASET_DIGITS, .count = 10, .labels = (dataset_labels)from};
        cr_expect_eq(dataset_open(&spec, &d, &why), DDPM_EINVAL);
        (void)snprintf(said, sizeof said, "data.labels=%s: only a folder of images has such labels", words[from]);
        cr_expect_not_null(strstr(why.text, said), "%s", why.text);
    }
}

/* ---- metadata --------------------------------------------------------------------------------------- */

Test(dataset_labels, integers_of_metadata_are_the_numbers_of_the_classes)
{
    three();
    text("metadata.jsonl", "\xEF\xBB\xBF{\"file_name\": \"c.png\", \"label\": 7, \"caption\": \"x\"}\r\n"
                           "\n  \t\n{\"label\": 0, \"file_name\": \"./a.png\"}\n"
                           "{\"file_name\": \"b.png\", \"label\": 7}\n{\"file_name\": \"b.png\", \"label\": 7}");
    expect(DATASET_LABELS_METADATA, 8, (const int[]){0, 7, 7}, NULL);
    expect(DATASET_LABELS_AUTO, 8, (const int[]){0, 7, 7}, NULL);
    text("metadata.jsonl", "{\"file_name\": \"a.png\", \"label\": 999998}\n"
                           "{\"file_name\": \"b.png\", \"label\": 0}\n{\"file_name\": \"c.png\", \"label\": 0}\n");
    expect(DATASET_LABELS_METADATA, 999999, (const int[]){999998, 0, 0}, NULL);
}

Test(dataset_labels, texts_of_metadata_are_sorted_and_relative_to_its_folder)
{
    plain("train/cats/1.png", 0);
    plain("train/x.png", 1);
    plain("z.png", 2);
    text("train/metadata.jsonl", "{\"file_name\":\"x.png\",\"label\":\"zebra\"}\n"
                                 "{\"file_name\":\"cats/1.png\",\"label\":\"\\u00e4, \\\"b\\\"\"}\n");
    text("metadata.jsonl", "{\"file_name\":\"z.png\",\"label\":\"10\"}");
    static const char *const names[] = {"10", "zebra", "\xc3\xa4, \"b\""};
    expect(DATASET_LABELS_METADATA, 3, (const int[]){2, 1, 0}, names);
    expect(DATASET_LABELS_AUTO, 3, (const int[]){2, 1, 0}, names);
}

Test(dataset_labels, csv_is_metadata_too)
{
    three();
    text("metadata.csv", "caption,file_name,label\r\n\"a \"\"b\"\", c\",a.png,\"cat, big\"\r\n,b.png,ant\r\n"
                         "\"two\nlines\",\"c.png\",ant");
    static const char *const names[] = {"ant", "cat, big"};
    expect(DATASET_LABELS_METADATA, 2, (const int[]){1, 0, 0}, names);
    expect(DATASET_LABELS_AUTO, 2, (const int[]){1, 0, 0}, names);
    text("metadata.csv", "\xEF\xBB\xBF"
                         "file_name,label\na.png,4\n\nb.png,0\nc.png,10\n");
    expect(DATASET_LABELS_METADATA, 11, (const int[]){4, 0, 10}, NULL);
    text("metadata.csv", "file_name,caption\na.png,4\n");
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, "/metadata.csv has no label");
}

/* Only the first images are used; files that are there without being images of the set are nobody's fault. */
Test(dataset_labels, metadata_of_more_than_is_used_is_fine)
{
    dataset *d;
    three();
    text("x.webp", "");
    text("metadata.jsonl", "{\"file_name\": \"c.png\", \"label\": 9}\n{\"file_name\": \"x.webp\", \"label\": 9}\n"
                           "{\"file_name\": \"a.png\", \"label\": 1}\n{\"file_name\": \"b.png\", \"label\": 2}\n");
    const dataset_spec spec = {.path = dir, .count = 2, .labels = DATASET_LABELS_METADATA};
    OK(dataset_open(&spec, &d, &why));
    cr_expect(dataset_count(d) == 2 && dataset_classes(d) == 3 && dataset_label(d, 1) == 2);
    dataset_close(d);
}

Test(dataset_labels, what_is_wrong_with_metadata_is_said_with_its_line)
{
#define A "{\"file_name\": \"a.png\", \"label\": 1}\n"
    static const char *const cases[][2] = {
        {A "{\"file_name\": \"b.png\", \"label\": 1.5}", ":2: the label must be an integer or a text"},
        {A "{\"file_name\": \"b.png\", \"label\": true}", ":2: the label must be an integer or a text"},
        {A "{\"file_name\": \"b.png\", \"label\": null}", ":2: the label must be an integer or a text"},
        {A "{\"file_name\": \"b.png\", \"label\": [1]}", ":2: the label must be an integer or a text"},
        {A "{\"file_name\": \"b.png\", \"label\": \"x\"}", ":2: the label is a text, but those before are not"},
        {A "{\"file_name\": \"b.png\", \"label\": -1}", ":2: label -1 is outside 0 to 999998"},
        {A "{\"file_name\": \"b.png\", \"label\": 999999}", ":2: label 999999 is outside 0 to 999998"},
        {A "{\"file_name\": \"b.png\", \"label\": 99999999999999999999}", ":2: not valid JSON"},
        {A "{\"file_name\": \"d.png\", \"label\": 1}", ":2: names d.png, which does not exist"},
        {A "{\"file_name\": \"/a.png\", \"label\": 1}", ":2: file_name \"/a.png\" must be a path below"},
        {A "{\"file_name\": \"x/../a.png\", \"label\": 1}", ":2: file_name \"x/../a.png\" must be a path below"},
        {A "{\"file_name\": \"..\", \"label\": 1}", ":2: file_name \"..\" must be a path below"},
        {A "{\"file_name\": \"\", \"label\": 1}", ":2: file_name \"\" must be a path below"},
        {A "{\"file_name\": 3, \"label\": 1}", ":2: has a label, but no file_name of type text"},
        {A "{\"label\": 1}", ":2: has a label, but no file_name of type text"},
        {A "{\"file_name\": \"a.png\", \"label\": 2}", ":2: a.png has another label than before"},
        {A "[1]", ":2: must be a JSON object"},
        {A "{\"file_name\": \"b.png\"", ":2: not valid JSON: column "},
        {A "\n" A "nonsense", ":4: not valid JSON: column "},
        {A "{\"file_name\": \"b.png\", \"label\": 1, \"label\": 2}", ":2: not valid JSON: column "},
        {A "{\"file_name\": \"b\\u0000.png\", \"label\": 1}", ":2: not valid JSON: column "},
        {A "{\"file_name\": \"b.png\", \"label\": 1}", "/c.png: has no label in "},
        {"{\"file_name\": \"a.png\", \"label\": \"\"}", ":1: the label is empty"},
        {"{\"file_name\": \"a.png\"}", "/metadata.jsonl has no label"},
        {"", "/metadata.jsonl has no label"},
        {"\xff\xfe", ":1: not valid JSON"},
    };
#undef A
    three();
    refuses(DATASET_LABELS_METADATA, DDPM_ENOINPUT, "data.labels=metadata: no metadata.jsonl or metadata.csv");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text("metadata.jsonl", cases[i][0]);
        refuses(DATASET_LABELS_METADATA, DDPM_EDATA, cases[i][1]);
    }
    text("metadata.csv", "file_name,label\na.png,1\n");
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, "use metadata files of one format");
}

Test(dataset_labels, what_is_wrong_with_csv_is_said_too)
{
    static const char *const cases[][2] = {
        {"file_name,label\na.png\n", ":2: has no file_name or no label"},
        {"name,label\na.png,1\n", ":2: has no file_name or no label"},
        {"file_name,label\na.png,\"x\n\n", ":2: not valid CSV"},
        {"file_name,label\na.png,x\"y\n", ":2: not valid CSV"},
        {"file_name,label\na.png,\"x\"y\n", ":2: not valid CSV"},
        {"file_name,label\n\"a.png\",1\nb.png,2\nno.png,3\n", ":4: names no.png, which does not exist"},
        {"file_name,label\na.png,1\nb.png,-2\nc.png,3\n", "label -2 of "},
        {"file_name,label\na.png,1\nb.png,99999999999999999999999\nc.png,3\n", "label 99999999999999999999999 of "},
        {"file_name,label\na.png,1\nb.png,\nc.png,3\n", ":3: the label is empty"},
        {"file_name,label\na.png,1\nb.png,2\n", "/c.png: has no label in "},
    };
    three();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text("metadata.csv", cases[i][0]);
        refuses(DATASET_LABELS_METADATA, DDPM_EDATA, cases[i][1]);
    }
}

Test(dataset_labels, hostile_metadata_is_refused_in_bounded_memory)
{
    enum { LONG = 40 << 20 };
    char path[PATH_CAP];
    char *bytes = malloc(LONG + 1);
    three();
    cr_assert_not_null(bytes);
    memset(bytes, '[', LONG);
    bytes[LONG] = '\0';
    new_file(path, dir, "metadata.jsonl", bytes, LONG);
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, ":1: the line is longer than 1048576 bytes");
    new_file(path, dir, "metadata.jsonl", bytes, 1 << 20); /* too deep for the parser, not for the stack */
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, ":1: not valid JSON");
    memset(bytes, 0, 100);
    new_file(path, dir, "metadata.jsonl", bytes, 100);
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, ":1: not valid JSON");
    lose("metadata.jsonl");
    memset(bytes, ',', LONG);
    new_file(path, dir, "metadata.csv", bytes, LONG);
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, ":1: not valid CSV");
    memset(bytes, 'x', LONG);
    new_file(path, dir, "metadata.csv", bytes, LONG);
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, ":1: not valid CSV");
    lose("metadata.csv");
    (void)snprintf(bytes, LONG, "{\"file_name\": \"a.png\", \"label\": \"%0256d\"}", 1);
    text("metadata.jsonl", bytes);
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, ":1: the label is too long");
    (void)snprintf(bytes, LONG, "{\"file_name\": \"%05000d\", \"label\": 1}", 1);
    text("metadata.jsonl", bytes);
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, " is too long");
    lose("metadata.jsonl");
    cr_assert_eq(mkfifo(path_join(path, dir, "metadata.jsonl", NULL) == DDPM_OK ? path : "", 0600), 0);
    refuses(DATASET_LABELS_METADATA, DDPM_EDATA, "/metadata.jsonl: not a regular file");
    cr_assert_eq(remove(path), 0);
    cr_assert_eq(symlink("nowhere", path), 0);
    refuses(DATASET_LABELS_METADATA, DDPM_ENOINPUT, "/metadata.jsonl: cannot open");
    free(bytes);
}

/* ---- auto: what could be opened before opens still, with the same hash ---------------------------------- */

Test(dataset_labels, metadata_changes_neither_what_opens_nor_its_hash)
{
    static const char *const contents[] = {
        "{\"file_name\": \"1.png\"}", /* no labels: the folders stay */
        "{\"file_name\": \"1.png\", \"label\": 5}\n{\"file_name\": \"2.png\", \"label\": 3}", /* labels */
        "{\"file_name\": \"1.png\", \"label\": 5}",                                           /* one image has none */
        "no JSON",
    };
    plain("a/1.png", 1);
    plain("a/2.png", 2);
    dataset *d = opened(DATASET_LABELS_AUTO);
    const uint64_t before = hash_of(d), labels = dataset_labels_hash(d);
    cr_expect_eq(dataset_classes(d), 1);
    cr_expect_str_eq(dataset_class_name(d, 0), "a");
    cr_expect_null(dataset_remarked(d, 0));
    dataset_close(d);
    for (int i = 0; i < 4; i++) {
        static const int classes[] = {1, 6, 0, 0}, second[] = {0, 3, -1, -1};
        text("a/metadata.jsonl", contents[i]);
        d = opened(DATASET_LABELS_AUTO);
        cr_expect_eq(hash_of(d), before, "%s", contents[i]);
        cr_expect_eq(dataset_classes(d), classes[i], "%s", contents[i]);
        cr_expect_eq(dataset_label(d, 1), second[i], "%s", contents[i]);
        cr_expect_eq(dataset_labels_hash(d) == labels, i == 0);
        cr_expect_eq(dataset_labels_hash(d) == 0, i > 1);
        const char *said = dataset_remarked(d, 0);
        cr_expect_eq(said != NULL, i > 1);
        if (said) cr_expect(strstr(said, "the images have no labels: ") && strstr(said, "metadata.jsonl"), "%s", said);
        dataset_close(d);
        d = opened(DATASET_LABELS_FOLDER); /* asks for no metadata */
        cr_expect_eq(hash_of(d), before);
        cr_expect_eq(dataset_classes(d), 1);
        dataset_close(d);
    }
    text("a/metadata.jsonl", contents[1]);
    d = opened(DATASET_LABELS_METADATA); /* labels that are asked for are part of the set */
    cr_expect_neq(hash_of(d), before);
    dataset_close(d);
}

/* Of builds before there was data.labels. */
Test(dataset_labels, the_hash_of_digits_is_that_of_earlier_builds)
{
    dataset *d;
    const dataset_spec spec = {.kind = DATASET_DIGITS, .count = 1234, .seed = 5};
    OK(dataset_open(&spec, &d, &why));
    cr_expect_eq(hash_of(d), UINT64_C(0x4838305a7c8a5cd5));
    dataset_close(d);
}

Test(dataset_labels, the_hash_of_skipped_images_is_the_same_too)
{
    dataset *d;
    uint64_t h[2];
    plain("a/1.png", 1);
    copy_file(FIXTURE("bad_text.jpg"), dir, "a/2.png");
    plain("b/3.png", 2);
    for (int i = 0; i < 2; i++) {
        const dataset_spec spec = {.path = dir, .max_bad = 1};
        OK(dataset_open(&spec, &d, &why));
        h[i] = hash_of(d);
        cr_expect_eq(dataset_label(d, 1), i == 0 ? 1 : 8);
        dataset_close(d);
        text("metadata.jsonl",
             "{\"file_name\": \"a/1.png\", \"label\": 9}\n{\"file_name\": \"a/2.png\", \"label\": 7}\n"
             "{\"file_name\": \"b/3.png\", \"label\": 8}\n");
    }
    cr_expect_eq(h[0], h[1]);
}

/* ---- names of the other kinds ------------------------------------------------------------------------- */

static void expect_cifar(const char *path, const char *third, bool remarked)
{
    dataset *d;
    const dataset_spec spec = {.path = path, .kind = DATASET_CIFAR10, .count = 1};
    OK(dataset_open(&spec, &d, &why));
    cr_assert_not_null(dataset_class_name(d, 2));
    cr_expect_str_eq(dataset_class_name(d, 2), third);
    cr_expect_eq(dataset_remarked(d, 0) != NULL, remarked, "%s", dataset_remarked(d, 0));
    cr_expect_null(dataset_class_name(d, 10));
    dataset_close(d);
}

Test(dataset_labels, cifar_and_digits_have_names)
{
    char path[PATH_CAP];
    dataset *d;
    static uint8_t record[3073] = {9};
    new_file(path, dir, "data_batch_1.bin", record, sizeof record);
    expect_cifar(dir, "bird", false);
    text("batches.meta.txt", "n0\r\nn1\nthe third\nn3\nn4\nn5\nn6\nn7\nn8\nn9\n\n");
    expect_cifar(dir, "the third", false);
    expect_cifar(path, "the third", false);
    text("batches.meta.txt", "n0\nn1\nn2\n");
    expect_cifar(dir, "bird", true);
    text("batches.meta.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n");
    expect_cifar(dir, "bird", true);
    const dataset_spec digits = {.kind = DATASET_DIGITS, .count = 3};
    OK(dataset_open(&digits, &d, &why));
    cr_expect_str_eq(dataset_class_name(d, 7), "7");
    dataset_close(d);
}

/* ---- lost files ------------------------------------------------------------------------------------------ */

/* An image that metadata lists and that is not there is a bad one among others, decoded beforehand or not. */
static void expect_absent_counts(const char *file, const char *listed, dataset_labels from, int64_t cache_mb)
{
    dataset *d;
    uint8_t pixels[64];
    dataset_spec spec = {.path = dir, .labels = from, .cache_mb = cache_mb, .max_bad = 1};
    text(file, listed);
    OK(dataset_open(&spec, &d, &why));
    cr_expect(dataset_count(d) == 3 && dataset_skipped(d) == 1, "%s: %ld", file, (long)dataset_count(d));
    for (int i = 0; i < 3; i++) cr_expect_eq(dataset_label(d, i), 2 - i);
    const char *remark = dataset_remarked(d, 0);
    cr_expect(remark && strstr(remark, "1 unreadable file skipped (data.max_bad=1): ") &&
                  strstr(remark, ":2: names gone.png, which does not exist"),
              "%s", remark);
    if (cache_mb < 0) { /* it counts also when another is lost later */
        lose("c.png");
        cr_expect_eq(dataset_read_or_next(d, 2, pixels, NULL, &why), DDPM_ENOINPUT);
        cr_expect_not_null(strstr(why.text, "(2 bad images in total;"), "%s", why.text);
        plain("c.png", 2);
    }
    dataset_close(d);
    copy_file(FIXTURE("bad_text.jpg"), dir, "c.png"); /* one bad image more */
    cr_expect_eq(dataset_open(&spec, &d, &why), DDPM_EDATA);
    cr_expect_not_null(strstr(why.text, "(2 of 4 files are bad; data.max_bad=N skips up to N)"), "%s", why.text);
    plain("c.png", 2);
    spec.max_bad = 0, spec.labels = DATASET_LABELS_METADATA;
    cr_expect_eq(dataset_open(&spec, &d, &why), DDPM_EDATA);
    cr_expect_not_null(strstr(why.text, "(1 bad images so far; data.max_bad=N skips up to N)"), "%s", why.text);
    lose(file);
}

Test(dataset_labels, an_absent_image_of_the_metadata_is_a_bad_image)
{
    static const char jsonl[] =
        "{\"file_name\": \"a.png\", \"label\": 2}\n{\"file_name\": \"gone.png\", \"label\": 2}\n"
        "{\"file_name\": \"b.png\", \"label\": 1}\n{\"file_name\": \"c.png\", \"label\": 0}\n";
    static const char csv[] = "file_name,label\ngone.png,2\na.png,2\nb.png,1\nc.png,0\n";
    plain("a.png", 0);
    plain("b.png", 1);
    plain("c.png", 2);
    for (int cache = -1; cache <= 0; cache++) {
        expect_absent_counts("metadata.jsonl", jsonl, DATASET_LABELS_METADATA, cache);
        expect_absent_counts("metadata.csv", csv, DATASET_LABELS_AUTO, cache);
    }
}

Test(dataset_labels, the_label_is_that_of_the_image_that_was_read)
{
    dataset *d;
    uint8_t pixels[64];
    int64_t label;
    const uint8_t *images;
    const int64_t *labels;
    loader *l;
    plain("a/0.png", 0);
    plain("b/1.png", 1);
    plain("c/2.png", 2);
    plain("d/3.png", 3);
    const dataset_spec spec = {.path = dir, .cache_mb = -1, .max_bad = 2};
    OK(dataset_open(&spec, &d, &why));
    lose("b/1.png");
    lose("d/3.png");
    for (int i = 0; i < 4; i++) {
        static const int instead[] = {0, 2, 2, 0};
        OK(dataset_read_or_next(d, i, pixels, &label, &why));
        cr_expect(label == instead[i] && pixels[0] == label, "%d: %ld", i, (long)label);
    }
    const loader_spec loading = {.data = d, .batch = 3, .threads = 3, .shuffle = true, .seed = 5};
    OK(loader_create(&loading, &l, &why));
    for (int k = 0; k < 40; k++) {
        OK(loader_next(l, &images, &labels, &why));
        cr_assert_not_null(labels);
        for (int i = 0; i < 3; i++) cr_expect_eq(labels[i], images[64 * i], "batch %d image %d", k, i);
    }
    loader_destroy(l);
    dataset_close(d);
    const dataset_spec without = {.path = dir, .labels = DATASET_LABELS_NONE};
    OK(dataset_open(&without, &d, &why));
    const loader_spec plain_loading = {.data = d, .batch = 3};
    OK(loader_create(&plain_loading, &l, &why));
    OK(loader_next(l, &images, &labels, &why));
    cr_expect_null(labels);
    loader_destroy(l);
    dataset_close(d);
}
