/* Any bytes as a JSONL file: read, packed and batched, or refused; never a crash. The first byte
 * picks the options. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *small_tokenizer(void)
{
    static const char json[] =
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":0,"
        "\"content\":\"<eos>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
        "\"normalized\":false,\"special\":true}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":"
        "\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
        "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
        "\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
        "\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
        "\"fuse_unk\":false,\"byte_fallback\":false,\"vocab\":{\"<eos>\":0,\"a\":1,\"b\":2,"
        "\"ab\":3},\"merges\":[\"a b\"]}}";
    struct tokenizer *t = NULL;

    return tokenizer_from_json("small", json, sizeof json - 1, &t, NULL) ? NULL : t;
}

/* A template that looks at everything a record can bring. */
static struct chat *small_chat(const struct tokenizer *t)
{
    static const char source[] =
        "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{{ documents }}{{ mode }}"
        "{% for m in messages %}{{ m.role }}{{ m.reasoning_content }}{% if m.content is string %}"
        "{{ m.content | trim }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif "
        "%}"
        "{% for c in m.tool_calls %}{{ c }}{% endfor %}<eos>{% endfor %}";
    json_t *templates = json_pack("{s:s}", "default", source);
    const struct chat_parts p = { "fuzz", templates, NULL, t };
    struct chat *c = NULL;

    if (chat_new(&p, &c, NULL))
        abort();
    json_decref(templates);
    return c;
}

/* All batches of an epoch; what they hold must lie within the vocabulary. */
static void walk(const struct dataset *d, unsigned flags)
{
    const struct loader_opts o = { .batch_size = 1 + (flags >> 3 & 3),
                                   .packing = flags & 4,
                                   .row_length = 16,
                                   .shuffle = flags & 2,
                                   .seed = flags };
    struct loader *l = NULL;
    struct batch b;
    int64_t passes;

    if (loader_new(d, &o, &l, NULL))
        return;
    if (loader_passes(l, 0, &passes, NULL))
        abort();
    for (int64_t pass = 0; pass < passes; pass++) {
        if (loader_batch(l, 0, pass, &b, NULL) || b.n < 2 || b.n > loader_max_tokens(l))
            abort();
        for (int64_t i = 0; i < b.n; i++)
            if (b.id[i] < 0 || b.id[i] >= 64 || b.target[i] < -1 || b.target[i] >= 64)
                abort();
    }
    loader_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *tokenizer;
    static struct chat *chat;
    const unsigned flags = size ? data[0] : 0;

    tokenizer = tokenizer ? tokenizer : small_tokenizer();
    chat = chat ? chat : small_chat(tokenizer);
    const struct dataset_opts o = { .format = (enum record_format)(flags % RECORD_FORMAT_COUNT),
                                    .mask_prompt = flags & 1,
                                    .max_length = 16,
                                    .vocab_rows = 64,
                                    .train_on_last = flags & 2,
                                    .tokenizer = tokenizer,
                                    .chat = chat };
    struct dataset d = { .count = 0 };
    struct graft_err err = { GRAFT_OK, "" };
    const char *file;
    char path[64];
    const int fd = memfd_create("records", MFD_CLOEXEC);

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    file = path;
    if (fd < 0 || !tokenizer || (size > 1 && write(fd, data + 1, size - 1) != (ssize_t)size - 1))
        abort();
    if (dataset_load(&file, 1, &o, &d, &err) == GRAFT_OK) {
        walk(&d, flags);
        dataset_release(&d);
    } else if (!err.msg[0]) {
        abort();
    }
    close(fd);
    return 0;
}
