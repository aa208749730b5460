#include "train/yaml.h"

#include <string.h>
#include <strings.h>

static void put(const json_t *v, int indent, struct strbuf *out);

/* Letters, digits and path characters; no word that a reader would take for something else. */
static bool is_plain(const char *s, size_t len)
{
    static const char *const taken[] = {
        "true", "false", "null", "yes", "no", "on", "off", "y", "n"
    };

    if (!len ||
        strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") != len)
        return false;
    if (strchr("0123456789.-", s[0]))
        return false;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (!strcasecmp(s, taken[i]))
            return false;
    return true;
}

/* Double-quoted. What YAML calls not printable is escaped, whole characters at a time. */
static void put_quoted(const char *s, size_t len, struct strbuf *out)
{
    strbuf_putc(out, '"');
    while (len) {
        uint32_t cp = 0xfffd;
        const int n = utf8_next(s, len, &cp);

        if (cp == '"' || cp == '\\')
            strbuf_printf(out, "\\%c", (int)cp);
        else if (cp == '\n')
            strbuf_puts(out, "\\n");
        else if (cp >= 0x20 && cp < 0x7f)
            strbuf_putc(out, (char)cp);
        else if (cp < 0x100)
            strbuf_printf(out, "\\x%02x", (unsigned)cp);
        else if (cp > 0xffff || (cp & 0xff00) == 0x2000 || cp >= 0xfe00)
            strbuf_printf(out, "\\U%08x", (unsigned)cp);
        else
            strbuf_add(out, s, (size_t)n);
        s += n ? n : 1;
        len -= (size_t)(n ? n : 1);
    }
    strbuf_putc(out, '"');
}

static void put_text(const char *s, size_t len, struct strbuf *out)
{
    if (is_plain(s, len))
        strbuf_add(out, s, len);
    else
        put_quoted(s, len, out);
}

static void put_list(const json_t *v, struct strbuf *out)
{
    json_t *item;
    size_t i;

    strbuf_putc(out, '[');
    json_array_foreach(v, i, item)
    {
        strbuf_puts(out, i ? ", " : "");
        put(item, -1, out);
    }
    strbuf_putc(out, ']');
}

/* indent -1: on one line, in braces. */
static void put_map(json_t *v, int indent, struct strbuf *out)
{
    const bool flow = indent < 0 || json_object_size(v) == 0;
    const char *key;
    json_t *item;
    bool first = true;

    strbuf_puts(out, flow ? "{" : "");
    json_object_foreach(v, key, item)
    {
        const bool block = !flow && json_is_object(item) && json_object_size(item) > 0;

        if (flow)
            strbuf_puts(out, first ? "" : ", ");
        else
            strbuf_printf(out, "%*s", indent, "");
        put_text(key, strlen(key), out);
        strbuf_puts(out, block ? ":\n" : ": ");
        put(item, flow ? -1 : indent + 2, out);
        strbuf_puts(out, flow || block ? "" : "\n");
        first = false;
    }
    strbuf_puts(out, flow ? "}" : "");
}

static void put(const json_t *v, int indent, struct strbuf *out)
{
    if (json_is_object(v))
        put_map((json_t *)v, indent, out); /* jansson's iterators take no const */
    else if (json_is_array(v))
        put_list(v, out);
    else if (json_is_string(v))
        put_text(json_string_value(v), json_string_length(v), out);
    else
        json_write(out, v);
}

void yaml_write(const json_t *v, struct strbuf *out)
{
    put(v, 0, out);
}
