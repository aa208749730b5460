/* data/unicode.h - the character classes of Hugging Face tokenizers, and checked UTF-8.
 *
 * The tables in unicode_tables.c are measured, not taken from a Unicode version: the reference's
 * parts know different ones, and so do the libraries on a user's machine. */
#ifndef DATA_UNICODE_H
#define DATA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct unicode_range {
    uint32_t first, last;
};
struct unicode_pair {
    uint32_t from, to;
};
/* Members that a general category has beyond PCRE2 10.42's, as text for a character class; a name
 * that begins with '=' has all its members there. */
struct unicode_class {
    const char *name, *members;
};
extern const struct unicode_range unicode_word[], unicode_numeric[], unicode_punctuation[],
    unicode_unknown_mark[], unicode_keep_compat[];
extern const size_t unicode_word_count, unicode_numeric_count, unicode_punctuation_count,
    unicode_unknown_mark_count, unicode_keep_compat_count;
extern const struct unicode_pair unicode_lower_extra[];
extern const size_t unicode_lower_extra_count;
extern const struct unicode_class unicode_class_extra[];
extern const size_t unicode_class_extra_count;

bool unicode_in(const struct unicode_range *table, size_t count, uint32_t cp);
bool unicode_is_space(uint32_t cp);       /* \s: White_Space, without U+180E */
bool unicode_is_word(uint32_t cp);        /* \w */
bool unicode_is_numeric(uint32_t cp);     /* Nd, Nl, No */
bool unicode_is_punctuation(uint32_t cp); /* ASCII punctuation and category P */
uint32_t unicode_lower(uint32_t cp);      /* simple mapping */

/* The next character of s (len > 0): its bytes, *ok. When it is not valid UTF-8, *ok is false and
 * the result counts the bytes that one U+FFFD stands for (the longest prefix of a character). */
size_t unicode_step(const char *s, size_t len, bool *ok);
/* How many bytes from the start are valid UTF-8. */
size_t unicode_valid(const char *s, size_t len);
/* The character before `at` (at > 0, valid UTF-8): its start. */
size_t unicode_back(const char *s, size_t at);

#endif
