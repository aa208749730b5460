/* What it costs to change adapters over one base: swap BASE ADAPTER ADAPTER...
 *
 * All of them are resident. In turn, so that all see the same machine, each makes a token twice:
 * the first time after another adapter, the second time after itself. The difference is what the
 * change cost. Then what loading one and unloading it costs. */
#include "graft.h"
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 60, MOST = 32 };

static struct graft_err err;

struct resident {
    struct graft_adapter *adapter;
    double after_other[ROUNDS], after_itself[ROUNDS]; /* seconds of a token */
    double load;
};

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

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Mean over the faster half, so that a neighbour's burst does not count. */
static double mean_of_fast(double *t, int n)
{
    double sum = 0;

    qsort(t, (size_t)n, sizeof *t, by_size);
    for (int i = 0; i < n / 2; i++)
        sum += t[i];
    return sum / (n / 2);
}

static int load_all(struct graft_model *m, char **path, int n, struct resident *r)
{
    for (int i = 0; i < n; i++) {
        const double start = omp_get_wtime();
        char name[16];

        snprintf(name, sizeof name, "%d", i);
        if (graft_adapter_load(m, name, path[i], &r[i].adapter, &err)) {
            fprintf(stderr, "%s\n", err.msg);
            return -1;
        }
        r[i].load = omp_get_wtime() - start;
    }
    return 0;
}

static void measure(struct graft_model *m, struct resident *r, int n)
{
    for (int i = 0; i < n; i++)
        one_token(m, r[i].adapter);
    for (int k = 0; k < ROUNDS; k++)
        for (int i = 0; i < n; i++) {
            r[i].after_other[k] = one_token(m, r[i].adapter);
            r[i].after_itself[k] = one_token(m, r[i].adapter);
        }
}

static void report(struct resident *r, char **path, int n)
{
    double worst = 0;

    for (int i = 0; i < n; i++) {
        const double itself = mean_of_fast(r[i].after_itself, ROUNDS);
        const double other = mean_of_fast(r[i].after_other, ROUNDS);
        struct graft_adapter_info info;

        graft_adapter_describe(r[i].adapter, &info);
        printf("%-10s %8lld parameters  load %6.1f ms  token %7.3f ms  after a change %7.3f ms: "
               "%+.3f ms  %s\n",
               info.method, (long long)info.parameters, r[i].load * 1e3, itself * 1e3, other * 1e3,
               (other - itself) * 1e3, path[i]);
        worst = other - itself > worst ? other - itself : worst;
    }
    printf("a change costs at most %.3f ms\n", worst * 1e3);
}

int main(int argc, char **argv)
{
    static struct resident r[MOST];
    struct graft_model_opts opts = GRAFT_MODEL_DEFAULTS;
    struct graft_model *m = NULL;
    const int n = argc - 2;
    int bad = 1;

    if (n < 2 || n > MOST) {
        fprintf(stderr, "usage: swap BASE ADAPTER ADAPTER...\n");
        return 2;
    }
    opts.for_adapter = argv[2];
    if (graft_model_open(argv[1], &opts, &m, &err)) {
        fprintf(stderr, "%s\n", err.msg);
    } else if (!load_all(m, argv + 2, n, r)) {
        measure(m, r, n);
        report(r, argv + 2, n);
        bad = 0;
    }
    graft_model_free(m);
    return bad;
}
