#include "sample/memory_fit.h"

int memory_fit_batch(const memory_fit_question *q)
{
    const size_t rest = q->there > q->fixed ? q->there - q->fixed : 0;
    size_t need = q->need;
    int batch = q->batch;
    while (batch > 1 && need > q->there) {
        const int guess = (int)((double)batch * (double)rest / (double)(need - q->fixed));
        batch = guess < batch ? guess : batch - 1;
        need = batch < 1 ? 0 : q->needs(q->context, batch);
        if (need == 0) return 0;
    }
    return need <= q->there ? batch : 0;
}

memory_fit_workspaces memory_fit_guess(const model *m, size_t activations, int batch)
{
    return (memory_fit_workspaces){m->store->count * sizeof(float) / MEMORY_FIT_WORKSPACE_PART,
                                   (double)activations / (double)MEMORY_FIT_WORKSPACE_PART / batch};
}

size_t memory_fit_workspace_bytes(memory_fit_workspaces w, int batch)
{
    return w.fixed + (size_t)(w.per_image * batch);
}
