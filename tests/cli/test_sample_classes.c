/* ddpm sample and inspect on a network whose classes have names. */
#include "base/file.h"
#include "base/mem.h"
#include "support/program_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char root[PATH_CAP];

static void expect_in(const char *file, const char *words)
{
    char *text = get_text(in_dir(root, file));
    cr_expect(strstr(text, words), "%s: '%s' is not in: %s", file, words, text);
    mem_free(text);
}

static void name_classes(const char *json) { put_file(in_dir(root, "net/classes.json"), json); }

#define NAMES "\"id2label\": {\"0\": \"ant\", \"1\": \"bat\", \"2\": \"cat, big\", \"3\": \"dog\"}"

/* `draw` samples from the network with 5 rows of classes in `net`. */
static void make_root(void)
{
    shell_begin(root,
                "draw() { ddpm sample net threads=1 cpu.conv=direct sampler=ddim num_inference_steps=2 \"$@\"; }; ");
    works("cp -r '" DDPM_TESTS "/sample/loops/classes' net");
    name_classes("{" NAMES ", \"null_class\": 4}");
}
TestSuite(sample_classes, .init = make_root, .fini = shell_end, .timeout = 300);

Test(sample_classes, names_are_the_same_set_as_numbers)
{
    works("draw count=5 'labels=dog,bat,2' out=s && cp s/sampling.json s/set.json .");
    works("draw count=5 labels=3,1,2 out=s && grep -q '(0 new)' stdout && cmp s/sampling.json sampling.json &&"
          " cmp s/set.json set.json");
    works("draw count=1 'labels=\"cat, big\"' out=t && draw count=1 labels=2 out=u && cmp t/000000.png u/000000.png");
    works("draw count=6 labels=dog,ant format=npz out=n && draw out=n verify=true");
    expect_in("s/sampling.json", "\"labels\": \"3,1,2\"");
    fails("draw count=1 labels=bta out=v", DDPM_EINVAL, "labels: the model has no class \"bta\"; nearest: bat, ant");
    works("test ! -e v");
}

Test(sample_classes, balanced_leaves_out_the_null_class)
{
    works("draw count=6 out=b && draw count=6 labels=0-3 out=l && cmp b/000005.png l/000005.png");
    works("draw count=6 guidance=2 out=g && draw count=6 guidance=2 null_class=4 labels=0-3 out=h &&"
          " cmp g/000005.png h/000005.png && ! cmp -s g/000005.png b/000005.png");
    works(
        "draw count=1 labels=4 out=n"); /* pictures without class, where they are asked for; no guidance changes them */
    works("draw count=1 labels=4 guidance=2 out=m && cmp n/000000.png m/000000.png");
    works("draw count=6 format=npz out=z && draw out=z verify=true");
    works("rm net/classes.json && draw count=6 out=all && ! cmp -s all/000004.png b/000004.png &&"
          " cmp all/000003.png b/000003.png");
}

Test(sample_classes, a_network_without_null_class_has_no_guidance)
{
    name_classes("{\"null_class\": null}");
    fails("draw count=1 guidance=2 out=s", DDPM_EINVAL, "guidance 2: this network was only trained with classes");
    works("draw count=5 out=s && draw count=5 labels=0-4 out=t && cmp s/000004.png t/000004.png");
    works("draw count=1 guidance=2 null_class=3 out=u");
}

Test(sample_classes, a_damaged_file_is_refused)
{
    name_classes("{\"id2label\": {\"0\": 3}}");
    fails("draw count=1 out=s", DDPM_EDATA, "net/classes.json: id2label: the name of class 0 must be a text");
    name_classes("{\"null_class\": 3}");
    fails("draw count=1 out=s", DDPM_EDATA,
          "net/classes.json: null_class must be the last of the network's 5 classes, 4");
}
