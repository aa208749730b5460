/* Any bytes as a tokenizer.json; the text behind a NUL is encoded with it, and decoded. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct tokenizer *t, const char *text, size_t len)
{
    struct id_list ids = { 0 }, at = { 0 };
    struct strbuf whole = STRBUF_INIT, part = STRBUF_INIT;
    struct token_stream s = { .t = t };

    if (!tokenizer_encode_offsets(t, text, len, true, &ids, &at, NULL)) {
        if (at.count != ids.count)
            abort();
        for (int64_t i = 0; i < ids.count; i++)
            if (ids.id[i] < 0 || ids.id[i] >= tokenizer_vocab_size(t) || at.id[i] > (int64_t)len)
                abort();
        if (!tokenizer_decode(t, ids.id, ids.count, false, &whole, NULL)) {
            for (int64_t i = 0; i < ids.count; i++)
                token_stream_put(&s, ids.id[i], &part, NULL);
            token_stream_flush(&s, &part, NULL);
            if (part.len != whole.len || memcmp(strbuf_str(&part), strbuf_str(&whole), part.len))
                abort();
        }
    }
    token_stream_release(&s);
    strbuf_release(&whole);
    strbuf_release(&part);
    id_list_release(&ids);
    id_list_release(&at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] = "the cat\xe2\x96\x81 1234 <s> \xff e\xcc\x81\n\n  don't";
    const char *text = (const char *)data, *gap = size ? memchr(text, 0, size) : NULL;
    const size_t len = gap ? (size_t)(gap - text) : size;
    struct tokenizer *t = NULL;

    if (tokenizer_from_json("fuzz", text, len, &t, NULL))
        return 0;
    use(t, gap ? gap + 1 : sample, gap ? size - len - 1 : sizeof sample - 1);
    tokenizer_free(t);
    return 0;
}
