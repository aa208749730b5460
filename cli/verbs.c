#include "cli/verbs.h"

#include <string.h>

const struct verb *const verbs[] = { &train_verb,   &preview_verb,  &eval_verb,     &generate_verb,
                                     &merge_verb,   &quantize_verb, &tokenize_verb, &inspect_verb,
                                     &combine_verb, &export_verb,   &unmerge_verb,  &verify_verb,
                                     NULL };

const char *const later_verbs[] = { "doctor", "estimate", "log", "serve", NULL };

const struct verb *verb_by_name(const char *name)
{
    for (int i = 0; verbs[i]; i++)
        if (!strcmp(verbs[i]->name, name))
            return verbs[i];
    return NULL;
}
