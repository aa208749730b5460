/* Slices of real checkpoints with what the reference libraries' own kernels made of them. Found
 * through GRAFT_ASSETS, else beside the source folder; skipped where they are absent. */
#include "golden.h"

#include <stdlib.h>

#include "quant/half.h"

static const char *assets(void)
{
    const char *dir = getenv("GRAFT_ASSETS");

    return dir ? dir : GRAFT_SOURCE_DIR "/../shared/assets";
}

static void open_asset(const char *name, struct mapped_file *m)
{
    struct strbuf path = STRBUF_INIT;
    struct graft_err err = { 0 };

    path_join(&path, assets(), name);
    if (file_map(strbuf_str(&path), m, &err))
        fail_msg("%s", err.msg);
    strbuf_release(&path);
}

static uint32_t word(const struct mapped_file *m, int i)
{
    uint32_t w;

    memcpy(&w, (const uint8_t *)m->data + 4 * i, 4);
    return w;
}

/* Memory of its own for part of a file, aligned as tensors are. */
static void *part(const struct mapped_file *m, size_t *at, uint32_t len)
{
    void *p = mem_alloc(len);

    assert_non_null(p);
    assert_true(*at + len <= m->size);
    memcpy(p, (const uint8_t *)m->data + *at, len);
    *at += len;
    return p;
}

static void check_bf16(const char *name, const float *out, const uint16_t *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint16_t got = bf16_from_f32(out[i]);

        if (got != want[i] && ((got | want[i]) & 0x7fff) != 0) /* fp4 has two zeros */
            fail_msg("%s: element %d is %.9g, wanted %.9g", name, (int)i, (double)bf16_to_f32(got),
                     (double)bf16_to_f32(want[i]));
    }
}

static void check_bnb(const char *name)
{
    struct mapped_file m = { NULL, 0 };
    struct qmat w = { .type = QT_NF4, .rows = 1, .block2 = 256 };
    uint8_t *codes;
    uint16_t *want;
    void *absmax, *absmax2, *map8;
    float *lut, *out;
    size_t at = 40;

    open_asset(name, &m);
    w.cols = word(&m, 1);
    w.block = (int)word(&m, 2);
    w.data = codes = part(&m, &at, word(&m, 3));
    absmax = part(&m, &at, word(&m, 4));
    w.lut = lut = part(&m, &at, word(&m, 5));
    w.absmax2 = absmax2 = part(&m, &at, word(&m, 6));
    w.map8 = map8 = part(&m, &at, word(&m, 7));
    want = part(&m, &at, word(&m, 8));
    memcpy(&w.offset, (const uint8_t *)m.data + 36, 4);
    if (word(&m, 0) == 2)
        w.absmax8 = absmax;
    else
        w.absmax = absmax;
    out = mem_array((size_t)w.cols, sizeof *out);
    assert_non_null(out);
    qmat_decode(&w, 0, w.cols, out);
    check_bf16(name, out, want, w.cols);
    if (word(&m, 0) == 2)
        assert_memory_equal(map8, dynamic_map_signed(), 1024);
    assert_memory_equal(lut, strstr(name, "fp4") ? fp4_lut : nf4_lut, 64);
    mem_free(codes);
    mem_free(absmax);
    mem_free(lut);
    mem_free(absmax2);
    mem_free(map8);
    mem_free(want);
    mem_free(out);
    file_unmap(&m);
}

static void check_gguf(const char *name, enum qtype type)
{
    struct mapped_file m = { NULL, 0 };
    struct qmat w = { .type = type, .rows = 1 };
    uint8_t *data;
    uint16_t *want;
    float *out;
    size_t at = 16;

    open_asset(name, &m);
    w.cols = word(&m, 1);
    assert_int_equal(qmat_bytes(&w), word(&m, 2));
    w.data = data = part(&m, &at, word(&m, 2));
    want = part(&m, &at, word(&m, 3));
    out = mem_array((size_t)w.cols, sizeof *out);
    assert_non_null(out);
    qmat_decode(&w, 0, w.cols, out);
    check_bf16(name, out, want, w.cols);
    mem_free(data);
    mem_free(want);
    mem_free(out);
    file_unmap(&m);
}

static void bnb_at_this_level(void)
{
    check_bnb("quant/bnb_reference/llama_1b_nf4.bin");
    check_bnb("quant/bnb_reference/llama_1b_fp4.bin");
    check_bnb("quant/bnb_reference/llama_1b_nf4_double_quant.bin");
    check_bnb("quant/bnb_reference/phi3_5_mini_nf4_dq.bin");
}

static void real_bitsandbytes_weights_decode_as_its_kernels_do(void **state)
{
    (void)state;
    at_every_level(bnb_at_this_level);
}

static void gguf_at_this_level(void)
{
    check_gguf("quant/gguf_reference/smollm2_q4_0.bin", QT_Q4_0);
    check_gguf("quant/gguf_reference/smollm2_q4_k.bin", QT_Q4_K);
    check_gguf("quant/gguf_reference/smollm2_q6_k.bin", QT_Q6_K);
    check_gguf("quant/gguf_reference/smollm2_q8_0.bin", QT_Q8_0);
    check_gguf("quant/gguf_reference/tinyllama_q5_0.bin", QT_Q5_0);
}

static void real_gguf_weights_decode_as_the_reference_does(void **state)
{
    (void)state;
    at_every_level(gguf_at_this_level);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_bitsandbytes_weights_decode_as_its_kernels_do),
        cmocka_unit_test(real_gguf_weights_decode_as_the_reference_does),
    };

    if (!dir_exists(assets())) {
        printf("skipped: no reference files at %s (set GRAFT_ASSETS)\n", assets());
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
