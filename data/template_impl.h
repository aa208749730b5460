/* data/template_impl.h - what the searches for answers and for text parts share: renderings of a
 * conversation that differ in one place, told apart by a marker. */
#ifndef DATA_TEMPLATE_IMPL_H
#define DATA_TEMPLATE_IMPL_H

#include "data/template.h"

/* Append a word between two characters for private use that are not in `text`. EFORMAT: it has them
 * all. */
enum graft_status chat_marker(const struct strbuf *text, struct strbuf *out, struct graft_err *err);
bool chat_contains(const struct strbuf *text, const char *what);

/* A copy of the list with `v` in the place of message `i`; takes `v`, which may be NULL. The caller
 * owns what is returned; NULL: no memory. */
json_t *chat_with_message(const json_t *messages, size_t i, json_t *v);
/* A copy of the message with another content; takes `content`, the same. */
json_t *chat_with_content(const json_t *message, json_t *content);
bool chat_has_role(const json_t *message, const char *role);

#endif
