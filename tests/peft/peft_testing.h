/* tests/peft/peft_testing.h - what tests of adapters without a model share. */
#ifndef TESTS_PEFT_TESTING_H
#define TESTS_PEFT_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "peft/adapter.h"

static struct arena mem; /* of configs */
static struct graft_err err;

static inline int free_memory(void **state)
{
    (void)state;
    arena_release(&mem);
    return 0;
}

static inline int enter_folder(void **state)
{
    char dir[] = "/tmp/graft-test-XXXXXX";

    *state = mkdtemp(dir) ? strdup(dir) : NULL;
    return *state && chdir(*state) == 0 ? 0 : -1;
}

static inline int leave_folder(void **state)
{
    char cmd[64];

    snprintf(cmd, sizeof cmd, "rm -r '%s'", (char *)*state);
    free(*state);
    return chdir("/") == 0 ? system(cmd) : -1;
}

/* "{before KEYS after}" with ' for ", to be released. */
static inline struct strbuf json_of(const char *before, const char *keys, const char *after)
{
    struct strbuf s = STRBUF_INIT;

    strbuf_printf(&s, "{%s%s%s}", before, keys, after);
    for (size_t i = 0; i < s.len; i++)
        if (s.buf[i] == '\'')
            s.buf[i] = '"';
    return s;
}

/* adapter_config.json with these keys (' for "), read as PEFT would write it; `before` as above. */
static inline struct adapter_config read_peft(const char *before, const char *keys)
{
    struct adapter_config c;
    struct strbuf s = json_of(before, keys, "");
    char dir[] = "/tmp/graft-test-XXXXXX", path[64];

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    assert_int_equal(file_write(path, s.buf, s.len, NULL), GRAFT_OK);
    if (adapter_config_read(dir, &c, &mem, &err))
        fail_msg("%s: %s", keys, err.msg);
    unlink(path);
    rmdir(dir);
    strbuf_release(&s);
    return c;
}

#endif
