/* plan_dump.c - prints a plan as text, one line per step. */
#include "plan/plan.h"

void plan_dump(const plan *p, FILE *to)
{
    for (int i = 0; i < p->n_step; i++) {
        const step *s = p->steps[i];
        fprintf(to, "%4d %-13s %-44s", i, op_name[s->op], s->path);
        for (int k = 0; k < STEP_OUT; k++) {
            const tensor *t = s->out[k];
            if (!t) continue;
            fprintf(to, " %s[%lld,%lld,%lld,%lld]@%zu%s", t->name, (long long)t->n, (long long)t->h, (long long)t->w,
                    (long long)t->c, t->offset, step_adds(s, k) ? "+=" : "=");
        }
        for (int k = 0; k < STEP_IN; k++)
            if (s->in[k]) fprintf(to, " %s", s->in[k]->name);
        fputc('\n', to);
    }
}
