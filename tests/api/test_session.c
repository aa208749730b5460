/* Loading an adapter over an open base with every allocation failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train/generate.h"

static char dir[256], base[300], two[300];
static struct session s;
static struct generator *g;
static struct graft_err err;

static int open_base(void **state)
{
    const struct quant_config quant = { .mode = QUANT_NONE };
    const struct generate_opts how = { .max_new = 8, .top_p = 1 };
    const char *tmp = getenv("TMPDIR");
    char line[1024];

    (void)state;
    snprintf(dir, sizeof dir, "%s/graft-session-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return -1;
    snprintf(line, sizeof line, "%s '%s'", GRAFT_TINY, dir);
    snprintf(base, sizeof base, "%s/base", dir);
    snprintf(two, sizeof two, "%s/two", dir);
    return system(line) || session_open(base, NULL, 0, &quant, &s, &err) ||
                   generator_new(&s.base, &s.base.text, &s.tasks, &how, &g, &err)
               ? -1
               : 0;
}

static int close_base(void **state)
{
    char line[1024];

    (void)state;
    generator_free(g);
    session_release(&s);
    snprintf(line, sizeof line, "rm -r '%s'", dir);
    return system(line);
}

static enum graft_status load(int *task)
{
    enum graft_status st = session_add(&s, NULL, two, task, &err);

    if (!st) {
        st = generator_prepare(g, *task, &err);
        if (st) {
            generator_forget(g, *task);
            session_remove(&s, *task);
            *task = TASK_BASE;
        }
    }
    return st;
}

static enum graft_status answer(int task, struct generate_answer *out)
{
    static const int32_t prompt[] = { 5, 6, 7 };
    const struct generate_request q = { prompt, 3, task, 0 };

    return generator_run(g, &q, 1, out, NULL, NULL, &err);
}

static void a_load_without_memory_leaves_the_session_as_it_was(void **state)
{
    struct generate_answer before = { 0 }, after = { 0 }, own = { 0 };
    enum graft_status st = GRAFT_ENOMEM;
    int task = TASK_BASE, k;

    (void)state;
    assert_int_equal(answer(TASK_BASE, &before), GRAFT_OK);
    for (k = 1; task == TASK_BASE; k++) {
        int64_t made;

        mem_fail_at(k);
        st = load(&task);
        made = mem_count();
        mem_fail_at(0);
        if (!st && made >= k) { /* what failed was not needed */
            generator_forget(g, task);
            session_remove(&s, task);
            task = TASK_BASE;
        } else if (st && st != GRAFT_ENOMEM) {
            fail_msg("allocation %d: %s", k, err.msg);
        }
        if (task == TASK_BASE) {
            assert_int_equal(s.tasks.count, 0);
            assert_null(s.words);
            assert_ptr_equal(s.text, &s.base.text);
        }
    }
    print_message("%d allocations\n", k - 2);
    assert_true(k > 50);
    assert_int_equal(answer(TASK_BASE, &after), GRAFT_OK);
    assert_int_equal(after.id.count, before.id.count);
    assert_memory_equal(after.id.id, before.id.id, (size_t)before.id.count * sizeof(int32_t));
    assert_int_equal(answer(task, &own), GRAFT_OK);
    generate_answer_release(&before);
    generate_answer_release(&after);
    generate_answer_release(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_load_without_memory_leaves_the_session_as_it_was),
    };

    return cmocka_run_group_tests_name("session", tests, open_base, close_base);
}
