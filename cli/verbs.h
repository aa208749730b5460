/* cli/verbs.h - one row per verb, each in its own file. */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

#include "cli/options.h"

extern const struct verb train_verb, preview_verb, eval_verb, generate_verb, merge_verb,
    quantize_verb, tokenize_verb, inspect_verb, combine_verb, export_verb, unmerge_verb,
    verify_verb;

#endif
