#include "data/virtual.h"

#include "data/dataset.h"

const struct virtual_tokens *virtual_of_task(const struct dataset_opts *o, int task)
{
    static const struct virtual_tokens none = { 0 };

    return o->virt && task >= 0 && task < (o->tasks ? o->tasks->count : 1) ? &o->virt[task] : &none;
}

enum graft_status virtual_check(const struct virtual_tokens *v, const int32_t *id, int64_t n,
                                struct graft_err *err)
{
    int64_t found = 0;

    for (int64_t i = 0; i < n && v->placed; i++)
        found += id[i] == v->placeholder;
    if (found != v->placed)
        return graft_fail(err, GRAFT_EARG,
                          "the placeholder stands in %lld places, the adapter has %lld virtual "
                          "tokens for it",
                          (long long)found, (long long)v->placed);
    return GRAFT_OK;
}

enum graft_status virtual_place(const struct virtual_tokens *v, int32_t *id, int64_t n,
                                struct graft_err *err)
{
    int32_t next = -1;

    GRAFT_TRY(virtual_check(v, id, n, err));
    for (int64_t i = 0; i < n && v->placed; i++)
        if (id[i] == v->placeholder)
            id[i] = next--;
    return GRAFT_OK;
}
