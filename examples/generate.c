/* Answer a prompt with the base and with each adapter over it, streaming.
 *
 *     cc generate.c $(pkg-config --cflags --libs graft) -o generate
 *     ./generate models/smollm2 "Once upon a time" runs/sql runs/chat */
#include <graft.h>
#include <stdio.h>

static void print_piece(void *user, int64_t index, const char *text, size_t len)
{
    (void)user;
    (void)index;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
}

static void print_note(void *user, const char *msg)
{
    (void)user;
    fprintf(stderr, "note: %s\n", msg);
}

/* `adapter` NULL is the base alone. */
static enum graft_status answer(struct graft_model *model, const struct graft_adapter *adapter,
                                const char *prompt, struct graft_err *err)
{
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_adapter_info info = { "base", NULL, NULL, 0, 0 };
    struct graft_answer *a = NULL;
    enum graft_status st;

    opts.max_new = 32;
    opts.piece = print_piece;
    if (adapter)
        graft_adapter_describe(adapter, &info);
    printf("%s: ", info.name);
    st = graft_generate(model, adapter, prompt, &opts, &a, err);
    if (!st)
        printf("\n  (%lld tokens)\n", (long long)a->count);
    graft_answer_free(a);
    return st;
}

int main(int argc, char **argv)
{
    struct graft_model_opts opts = GRAFT_MODEL_DEFAULTS;
    struct graft_model *model = NULL;
    struct graft_adapter *adapter = NULL;
    struct graft_err err;
    enum graft_status st;

    if (argc < 3) {
        fprintf(stderr, "usage: generate BASE PROMPT [ADAPTER]...\n");
        return 2;
    }
    graft_note_sink(print_note, NULL);
    if (argc > 3)
        opts.for_adapter = argv[3]; /* the base in the number format it was trained over */
    st = graft_model_open(argv[1], &opts, &model, &err);
    if (!st)
        st = answer(model, NULL, argv[2], &err);
    for (int i = 3; i < argc && !st; i++) {
        st = graft_adapter_load(model, NULL, argv[i], &adapter, &err);
        if (!st)
            st = answer(model, adapter, argv[2], &err);
    }
    if (st)
        fprintf(stderr, "generate: %s\n", err.msg);
    graft_model_free(model); /* its adapters too */
    return st ? 1 : 0;
}
