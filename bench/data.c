/* What records cost before they are trained on, on one core: data TOKENIZER.json TEMPLATE.jinja
 * RECORDS.jsonl, each record {"messages": [...]}. Conversations to text by the chat template, text
 * to tokens, tokens to packed rows. bench/data-against runs the same work through HF tokenizers and
 * jinja2 and prints both. Best of the rounds; the hashes tell whether others made the same. */
#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/pack.h"
#include "data/template.h"

enum { ROUNDS = 7, ROW = 2048 };

struct work {
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    json_t *special, *records; /* an array of conversations */
    struct strbuf text;        /* all of them, one behind the other */
    size_t *end;               /* of each in `text` */
    struct id_list id;
    int64_t *id_end;
    int64_t count;
    struct graft_err err;
};

static bool read_records(struct work *w, const char *path)
{
    struct strbuf all = STRBUF_INIT;
    int64_t line = 0;
    bool good = !file_read(path, SIZE_MAX, &all, &w->err);

    w->records = json_array();
    for (const char *p = strbuf_str(&all); good && *p;) {
        const char *lf = strchr(p, '\n');
        const size_t len = lf ? (size_t)(lf - p) : strlen(p);
        json_t *rec = NULL;

        good = !json_read_line(path, ++line, p, len, &rec, &w->err) &&
               !json_array_append(w->records, json_object_get(rec, "messages"));
        json_decref(rec);
        p += len + (lf != NULL);
    }
    strbuf_release(&all);
    w->count = (int64_t)json_array_size(w->records);
    w->end = mem_array((size_t)w->count, sizeof *w->end);
    w->id_end = mem_array((size_t)w->count, sizeof *w->id_end);
    return good && w->count && w->end && w->id_end;
}

static bool open_words(struct work *w, const char *tokenizer, const char *source)
{
    struct strbuf text = STRBUF_INIT;
    bool good = !tokenizer_open(tokenizer, &w->tokenizer, &w->err) &&
                !file_read(source, 1 << 20, &text, &w->err) &&
                !chat_template_new(source, text.buf, text.len, &w->chat, &w->err);

    w->special = json_pack("{s:s, s:s}", "bos_token", "<s>", "eos_token", "</s>");
    strbuf_release(&text);
    return good;
}

static bool render(struct work *w)
{
    const struct chat_opts o = { .special = w->special, .date = "2024-07-26" };
    struct strbuf one = STRBUF_INIT;
    bool good = true;

    strbuf_clear(&w->text);
    for (int64_t i = 0; i < w->count && good; i++) {
        strbuf_clear(&one);
        good = !chat_template_render(w->chat, json_array_get(w->records, (size_t)i), &o, &one, NULL,
                                     &w->err);
        strbuf_add(&w->text, one.buf, one.len);
        w->end[i] = w->text.len;
    }
    strbuf_release(&one);
    return good;
}

static bool tokenise(struct work *w)
{
    bool good = true;

    w->id.count = 0;
    for (int64_t i = 0; i < w->count && good; i++) {
        const size_t from = i ? w->end[i - 1] : 0;

        good = !tokenizer_encode(w->tokenizer, w->text.buf + from, w->end[i] - from, false, &w->id,
                                 &w->err);
        w->id_end[i] = w->id.count;
    }
    return good;
}

static int64_t rows;

static bool pack(struct work *w)
{
    uint32_t *length = mem_array((size_t)w->count * 3, sizeof *length);
    struct packer *p = NULL;

    if (!length || packer_new(w->count, ROW, &p, &w->err))
        return false;
    for (int64_t i = 0; i < w->count; i++) {
        const int64_t n = w->id_end[i] - (i ? w->id_end[i - 1] : 0);

        length[i] = n < 1 ? 1 : n > ROW ? ROW : (uint32_t)n;
        length[w->count + i] = (uint32_t)i;
    }
    rows = pack_best_fit(p, length, w->count, length + w->count, length + 2 * w->count);
    packer_free(p);
    mem_free(length);
    return true;
}

/* Seconds of the fastest round. */
static double best(struct work *w, bool (*fn)(struct work *))
{
    double least = 1e9;

    for (int k = 0; k < ROUNDS; k++) {
        const double start = omp_get_wtime();
        double t;

        if (!fn(w))
            return -1;
        t = omp_get_wtime() - start;
        least = t < least ? t : least;
    }
    return least;
}

static void print_hash(const char *name, const void *bytes, size_t len)
{
    char hex[65];

    sha256_hex(bytes, len, hex);
    printf("%s %.16s\n", name, hex);
}

int main(int argc, char **argv)
{
    struct work w = { 0 };
    double t[3];

    if (argc != 4) {
        fprintf(stderr, "usage: data TOKENIZER.json TEMPLATE.jinja RECORDS.jsonl\n");
        return 2;
    }
    if (!open_words(&w, argv[1], argv[2]) || !read_records(&w, argv[3]) ||
        (t[0] = best(&w, render)) < 0 || (t[1] = best(&w, tokenise)) < 0 ||
        (t[2] = best(&w, pack)) < 0) {
        fprintf(stderr, "%s\n", w.err.msg);
        return 1;
    }
    printf("records %" PRId64 "\nbytes %zu\ntokens %" PRId64 "\nrows %" PRId64 "\n", w.count,
           w.text.len, w.id.count, rows);
    print_hash("text", w.text.buf, w.text.len);
    print_hash("ids", w.id.id, (size_t)w.id.count * sizeof *w.id.id);
    printf("render %.6f\ntokenise %.6f\npack %.6f\n", t[0], t[1], t[2]);
    tokenizer_free(w.tokenizer);
    chat_template_free(w.chat);
    json_decref(w.special);
    json_decref(w.records);
    strbuf_release(&w.text);
    id_list_release(&w.id);
    mem_free(w.end);
    mem_free(w.id_end);
    return 0;
}
