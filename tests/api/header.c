/* The public header, alone, as C11 and as C++17: it needs nothing before it, and its defaults are
 * valid initialisers in both. */
#include <graft.h>

int main(void)
{
    struct graft_model_opts model = GRAFT_MODEL_DEFAULTS;
    struct graft_generate_opts generate = GRAFT_GENERATE_DEFAULTS;
    struct graft_eval_opts eval = GRAFT_EVAL_DEFAULTS;
    struct graft_train_opts train = GRAFT_TRAIN_DEFAULTS;
    struct graft_merge_opts merge = GRAFT_MERGE_DEFAULTS;
    struct graft_quantize_opts quantize = GRAFT_QUANTIZE_DEFAULTS;
    enum graft_status st = GRAFT_OK;

    return model.threads + generate.stops + (int)eval.whole_records + train.set_count +
           (int)merge.force + (int)quantize.force + (int)st;
}
