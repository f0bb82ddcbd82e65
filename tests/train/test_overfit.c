/* A training learns: 8 images are learned by heart. */
#include "train/run_rig.h"

TestSuite(overfit, .init = make_root, .fini = remove_root);

Test(overfit, eight_images_are_learned, .timeout = 900)
{
    static double loss[400];
    tiny(&whole, "overfit");
    OK(config_assign(&whole, NULL, "data.count=8", &why));
    OK(config_assign(&whole, NULL, "data.flip=false", &why));
    OK(config_assign(&whole, NULL, "model.dropout=0", &why));
    OK(config_assign(&whole, NULL, "model.block_out_channels=16,32", &why));
    OK(config_assign(&whole, NULL, "train.batch=64", &why));
    OK(config_assign(&whole, NULL, "train.lr=4e-3", &why));
    OK(config_assign(&whole, NULL, "train.steps=400", &why));
    OK(train(&whole, 0, NULL));
    cr_assert_eq(read_losses(whole.out, loss, 400), 400);
    double last = 0;
    for (int i = 350; i < 400; i++) last += loss[i] / 50;
    cr_log_info("loss %.4f -> %.4f", loss[0], last);
    cr_assert_gt(loss[0], 0.8, "an untrained network knows nothing of the noise");
    cr_assert_lt(last, 0.08);
}
