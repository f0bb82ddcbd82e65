/* Rules between the options of the optimizer and the averages. */
#include "config/config.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <string.h>

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
