/* What it costs to change adapters over one base: swap BASE ADAPTER ADAPTER.
 * The same tokens are made with one adapter throughout and with two in turn. */
#include "graft.h"
#include <omp.h>
#include <stdio.h>

enum { ROUNDS = 60 };

static struct graft_err err;

/* Seconds for one new token. */
static double one_token(struct graft_model *m, const struct graft_adapter *a)
{
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_answer *answer = NULL;
    const double start = omp_get_wtime();

    opts.max_new = 1;
    if (graft_generate(m, a, "The", &opts, &answer, &err))
        fprintf(stderr, "%s\n", err.msg);
    graft_answer_free(answer);
    return omp_get_wtime() - start;
}

/* Mean over the rounds of the faster half, so that a neighbour's burst does not count. */
static double mean_of_fast(double *t, int n)
{
    double sum = 0;

    for (int i = 0; i < n / 2; i++) {
        int least = i;

        for (int k = i + 1; k < n; k++)
            least = t[k] < t[least] ? k : least;
        const double x = t[least];

        t[least] = t[i];
        t[i] = x;
        sum += x;
    }
    return sum / (n / 2);
}

int main(int argc, char **argv)
{
    struct graft_model *m = NULL;
    struct graft_adapter *a = NULL, *b = NULL;
    double stay[ROUNDS], turn[ROUNDS], start, load;

    if (argc != 4) {
        fprintf(stderr, "usage: swap BASE ADAPTER ADAPTER\n");
        return 2;
    }
    if (graft_model_open(argv[1], NULL, &m, &err) ||
        graft_adapter_load(m, "a", argv[2], &a, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        graft_model_free(m);
        return 1;
    }
    start = omp_get_wtime();
    if (graft_adapter_load(m, "b", argv[3], &b, &err))
        fprintf(stderr, "%s\n", err.msg);
    load = omp_get_wtime() - start;
    for (int i = 0; b && i < ROUNDS; i++) { /* in turn, so that both see the same machine */
        one_token(m, a);
        stay[i] = one_token(m, a);
        turn[i] = one_token(m, b);
    }
    if (b) {
        const double same = mean_of_fast(stay, ROUNDS), other = mean_of_fast(turn, ROUNDS);

        printf("load %.1f ms, a token %.3f ms, after a change %.3f ms: a change costs %.3f ms\n",
               load * 1e3, same * 1e3, other * 1e3, (other - same) * 1e3);
    }
    graft_model_free(m);
    return b ? 0 : 1;
}
