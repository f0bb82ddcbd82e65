/* Rules between options: what no option can know alone. */
#include "config/config.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct {
    const char *text, *message; /* "" = fine */
} rules[] = {
    {"model.block_out_channels: [32, 64]",
     "model.block_out_channels has 2 levels, model.down_block_types 4, model.up_block_types 4: set all three to the "
     "same number of levels"},
    {"model.up_block_types: [UpBlock2D, UpBlock2D, UpBlock2D]",
     "model.block_out_channels has 4 levels, model.down_block_types 4, model.up_block_types 3: set all three to the "
     "same number of levels"},
    {"model.block_out_channels: [32, 64, 72, 64]",
     "model.block_out_channels: 72 channels are not divisible by model.norm_num_groups=32"},
    {"data.resolution: 28", "data.resolution=28 cannot be halved 3 times, as the 4 levels of the model require: use a "
                            "multiple of 8"},
    {"data.resolution: 24", ""},
    /* faults D: within the range and no side, no kind of picture */
    {"data.resolution: 7", "data.resolution=7: must be 8 to 1024, or 0 (as stored)"},
    {"data.channels: 2", "data.channels=2: must be 1 (grey), 3 (colour) or 0 (as stored)"},
    {"data.channels: 1", ""},
    {"{model: {kind: simple, norm_num_groups: 7}, data.resolution: 27}", ""},
    {"{model: {init_from: x, norm_num_groups: 7}, data.resolution: 27}", ""},
    {"diffusion: {beta_start: 0.5, beta_end: 0.25}", "diffusion.beta_start=0.5 is above diffusion.beta_end=0.25"},
    {"diffusion: {beta_start: 0.25, beta_end: 0.25}", ""},
    {"diffusion: {parameterization: edm, sigma_min: 90}", "diffusion.sigma_min=90 is not below diffusion.sigma_max=80"},
    {"diffusion: {parameterization: edm, predict: v}", ""},
    {"diffusion: {parameterization: edm, predict: x0}",
     "diffusion.predict=x0: with diffusion.parameterization=edm it must be eps or v"},
    {"diffusion: {parameterization: flow, predict: v}",
     "diffusion.predict=v: with diffusion.parameterization=flow it must be eps, which then means eps - x0"},
    {"{diffusion.parameterization: edm, train.loss_weighting: p2}",
     "train.loss_weighting=p2: diffusion.parameterization=edm has a weight of its own"},
    {"diffusion: {parameterization: flow, sigma_min: 90}", ""},
    {"diffusion: {variance_type: learned_range, predict: x0}", ""},
    {"{diffusion.variance_type: learned_range, train: {use_kl: true, rescale_learned_sigmas: false}}", ""},
    {"{diffusion.variance_type: learned_range, train: {loss_type: huber, loss_weighting: p2}}", ""},
    {"diffusion: {variance_type: learned_range, rescale_betas_zero_snr: true, predict: v}", ""},
    {"diffusion: {parameterization: vp, beta_d: 55}", ""}, /* sigma is 9.3e5 at t = 1 */
    {"diffusion: {parameterization: vp, beta_d: 56}", "diffusion.beta_d=56 and diffusion.beta_min=0.1: beta_d / 2 + "
                                                      "beta_min is 28.1, but at most 27.6 keeps the largest "
                                                      "sigma below 1e+06; lower them"},
    {"diffusion: {beta_d: 1000}", ""},
    {"diffusion.variance_type: learned", "diffusion.variance_type=learned: not for training, as diffusers takes the "
                                         "network's second half as the variance and "
                                         "others as its logarithm; set learned_range"},
    {"diffusion: {variance_type: learned_range, parameterization: edm}",
     "diffusion.variance_type=learned_range: a process of diffusion.parameterization=edm has no such variance; set "
     "fixed_small"},
    {"{diffusion.variance_type: learned_range, train.noise_offset: 0.1}",
     "diffusion.variance_type=learned_range: the bound that trains it needs plain noise; set train.noise_offset=0 and "
     "train.input_perturbation=0"},
    {"train.use_kl: true", "train.use_kl=true needs diffusion.variance_type=learned_range, not fixed_small"},
    {"{diffusion.variance_type: learned_range, train: {use_kl: true, loss_type: l1}}",
     "train.use_kl=true: the variational bound is the loss; leave train.loss_type out"},
    {"{diffusion.variance_type: learned_range, train: {use_kl: true, loss_weighting: snr}}",
     "train.use_kl=true: the variational bound is the loss; leave train.loss_weighting out"},
    {"diffusion: {rescale_betas_zero_snr: true, predict: x0}", ""},
    {"diffusion: {rescale_betas_zero_snr: true, parameterization: flow}", ""},
    {"diffusion: {rescale_betas_zero_snr: true}", "diffusion.rescale_betas_zero_snr=true needs diffusion.predict=v or "
                                                  "x0, not eps: the last timestep is noise alone"},
};

Test(rules, of_images_network_and_process)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        ddpm_config c;
        err why = {0};
        config_defaults(&c);
        OK(config_read(&c, "a.yaml", rules[i].text, strlen(rules[i].text), &why));
        cr_expect_eq(config_check(&c, &why), rules[i].message[0] ? DDPM_EINVAL : DDPM_OK, "%s", rules[i].text);
        cr_expect_str_eq(why.text, rules[i].message);
    }
}

Test(rules, of_rates_and_averages)
{
    static const struct {
        const char *settings[3], *message; /* NULL: accepted */
    } cases[] = {
        {{"train.lr_scheduler=piecewise_constant", "train.lr_step_rules=1:10,0.1:20,.01:100,5e-3"}, NULL},
        {{"train.lr_scheduler=piecewise_constant", "train.lr_step_rules=0.5"}, NULL},
        {{"train.lr_step_rules=1:1,1:2,1:3,1:4,1:5,1:6,1:7,1:8,1"}, NULL},
        {{"train.lr_step_rules=1:1,1:2,1:3,1:4,1:5,1:6,1:7,1:8,1:9,1"}, "train.lr_step_rules: has more than 9 pieces"},
        {{"train.lr_scheduler=piecewise_constant"}, "train.lr_step_rules is empty"},
        {{"train.lr_step_rules=1:10"}, "'1:10' is not a factor, which the last piece must be"},
        {{"train.lr_step_rules=1:10,"}, "'' is not a factor"},
        {{"train.lr_step_rules=1:10,,1"}, "',1' is not FACTOR:STEP"},
        {{"train.lr_step_rules=1,1"}, "'1,1' is not FACTOR:STEP"},
        {{"train.lr_step_rules=-1:5,1"}, "is not FACTOR:STEP"},
        {{"train.lr_step_rules=1:-5,1"}, "is not FACTOR:STEP"},
        {{"train.lr_step_rules=1:10,0.5:10,1"}, "step 10 does not come after step 10"},
        {{"train.lr_step_rules=1:10 ,1"}, "is not FACTOR:STEP"},
        {{"train.lr_scheduler=polynomial", "train.lr_end=2e-4"}, "train.lr_end=0.0002 is not below train.lr=0.0002"},
        {{"train.lr_scheduler=linear", "train.lr_end=2e-4"}, NULL},
        {{"ema.more=0.9,0.99,0.999"}, NULL},
        {{"ema.more=0.9,0.99,0.999", "ema.sigma_rel=0.05"}, "ask for 5 averages of the weights; at most 4"},
        {{"ema.more=0.9,0.99,0.999", "ema.sigma_rel=0.05", "ema.decay=0"}, NULL},
        {{"ema.more=0.9,0"}, "ema.more: 0 is below 0.001"},
        {{"sample.weights=ema_4"}, "must be ema, raw, ema_1 to ema_3"},
        {{"sample.weights=ema_3"}, NULL},
        {{"sample.weights=sigma_rel=0.05"}, NULL},
    };
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++) {
        ddpm_config c;
        err why = {0};
        config_defaults(&c);
        for (int k = 0; k < 3 && cases[i].settings[k]; k++) OK(config_assign(&c, NULL, cases[i].settings[k], &why));
        const ddpm_status st = config_check(&c, &why);
        cr_expect_eq(st, cases[i].message ? DDPM_EINVAL : DDPM_OK, "%s: %s", cases[i].settings[0], why.text);
        if (cases[i].message) cr_expect_not_null(strstr(why.text, cases[i].message), "%s", why.text);
    }
}
