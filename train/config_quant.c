/* `quant`, `--quant` and `--compute`: words and the map form. */
#include <string.h>

#include "train/config_raw.h"
#include "train/yaml.h"

static const char *const quant_types[] = { "nf4", "fp4", "int8", NULL };

struct raw_quant {
    int type;
    int64_t block;
    bool nested;
};

#define AT(field) .offset = offsetof(struct raw_quant, field)
static const struct key_def quant_keys[] = {
    { .name = "type",
      .type = KEY_ENUM,
      AT(type),
      .choices = quant_types,
      .later = "int8",
      .help = "number format",
      .others = "bnb_4bit_quant_type" },
    { .name = "block",
      .type = KEY_INT,
      AT(block),
      .dflt = "64",
      .min = 32,
      .max = 4096,
      .help = "weights that share one scale, a power of two",
      .others = "blocksize, block_size" },
    { .name = "double",
      .type = KEY_BOOL,
      AT(nested),
      .dflt = "true",
      .help = "quantise the scales too",
      .others = "bnb_4bit_use_double_quant, double_quant, double_quantization" },
};
static const struct key_table quant_table = { "quant", quant_keys,
                                              sizeof quant_keys / sizeof *quant_keys, NULL, false };

static enum qtype type_of(const char *name)
{
    return strcmp(name, "fp4") == 0 ? QT_FP4 : QT_NF4;
}

static enum graft_status read_map(const json_t *v, const struct schema_source *src,
                                  struct quant_config *out, struct graft_err *err)
{
    struct raw_quant raw = { 0 };
    struct arena mem = ARENA_INIT; /* no row of the table holds a text */
    const enum graft_status st = schema_fill(&quant_table, v, src, &raw, &mem, err);

    arena_release(&mem);
    GRAFT_TRY(st);
    if (raw.block & (raw.block - 1))
        return schema_fail(src, "quant.block", err,
                           "found %lld, want a power of two from 32 to 4096", (long long)raw.block);
    *out = (struct quant_config){ QUANT_TYPE,
                                  { type_of(quant_types[raw.type]), (int)raw.block, raw.nested } };
    return GRAFT_OK;
}

enum graft_status quant_config_read(const json_t *v, const struct schema_source *src,
                                    struct quant_config *out, struct graft_err *err)
{
    static const struct quant_spec usual = { QT_NF4, 64, true };
    const char *s = json_string_value(v);

    if (!v || json_is_null(v) || (s && !strcmp(s, "auto"))) {
        *out = (struct quant_config){ QUANT_AUTO, usual };
        return GRAFT_OK;
    }
    if (json_is_object(v))
        return read_map(v, src, out, err);
    if (s && !strcmp(s, "int8"))
        return schema_fail(src, "quant", err,
                           "\"int8\" is not supported in this version, " QUANT_FORM " is");
    if (s && !strcmp(s, "none"))
        *out = (struct quant_config){ QUANT_NONE, usual };
    else if (s && (!strcmp(s, "nf4") || !strcmp(s, "fp4")))
        *out = (struct quant_config){ QUANT_TYPE, { type_of(s), usual.block, usual.nested } };
    else
        return schema_found(src, "quant", v, QUANT_FORM, err);
    return GRAFT_OK;
}

json_t *quant_config_json(const struct quant_config *q)
{
    const char *type = q->spec.type == QT_FP4 ? "fp4" : "nf4";

    if (q->mode == QUANT_AUTO)
        return json_string("auto");
    if (q->mode == QUANT_NONE)
        return json_string("none");
    if (q->spec.block == 64 && q->spec.nested)
        return json_string(type);
    return json_pack("{s:s, s:i, s:b}", "type", type, "block", q->spec.block, "double",
                     q->spec.nested);
}

static void where_option(const struct schema_source *src, const char *path, struct strbuf *out)
{
    (void)path;
    strbuf_puts(out, src->data);
}

enum graft_status quant_config_parse(const char *text, struct quant_config *out,
                                     struct graft_err *err)
{
    static char option[] = "--quant";
    const struct schema_source src = { where_option, option };
    json_t *v = NULL;
    enum graft_status st;

    GRAFT_TRY(yaml_parse_value(option, text, &v, err));
    st = quant_config_read(v, &src, out, err);
    json_decref(v);
    return st;
}

enum graft_status compute_parse(const char *text, enum compute_type *out, struct graft_err *err)
{
    for (int i = 0; compute_names[i]; i++)
        if (!strcmp(compute_names[i], text)) {
            *out = (enum compute_type)i;
            return GRAFT_OK;
        }
    return graft_fail(err, GRAFT_EARG, "--compute: found \"%s\", want auto, f32 or bf16", text);
}
