#include "data/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "core/strbuf.h"

bool unicode_in(const struct unicode_range *table, size_t count, uint32_t cp)
{
    size_t lo = 0, hi = count;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;

        if (cp > table[mid].last)
            lo = mid + 1;
        else if (cp < table[mid].first)
            hi = mid;
        else
            return true;
    }
    return false;
}

bool unicode_is_space(uint32_t cp)
{
    if (cp < 0x85)
        return (cp >= 9 && cp <= 13) || cp == ' ';
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool unicode_is_word(uint32_t cp)
{
    return unicode_in(unicode_word, unicode_word_count, cp);
}

bool unicode_is_numeric(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= '0' && cp <= '9';
    return unicode_in(unicode_numeric, unicode_numeric_count, cp);
}

bool unicode_is_punctuation(uint32_t cp)
{
    return unicode_in(unicode_punctuation, unicode_punctuation_count, cp);
}

uint32_t unicode_lower(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    for (size_t i = 0; i < unicode_lower_extra_count; i++)
        if (unicode_lower_extra[i].from == cp)
            return unicode_lower_extra[i].to;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

/* Table 3-7 of the Unicode standard: the range of the second byte, and the length, by the first. */
size_t unicode_step(const char *s, size_t len, bool *ok)
{
    const unsigned char *u = (const unsigned char *)s;
    unsigned char lo = 0x80, hi = 0xbf;
    size_t want;

    *ok = true;
    if (u[0] < 0x80)
        return 1;
    *ok = false;
    if (u[0] < 0xc2 || u[0] > 0xf4)
        return 1;
    want = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    if (u[0] == 0xe0)
        lo = 0xa0;
    else if (u[0] == 0xed)
        hi = 0x9f;
    else if (u[0] == 0xf0)
        lo = 0x90;
    else if (u[0] == 0xf4)
        hi = 0x8f;
    for (size_t i = 1; i < want; i++) {
        if (i >= len || u[i] < lo || u[i] > hi)
            return i;
        lo = 0x80;
        hi = 0xbf;
    }
    *ok = true;
    return want;
}

size_t unicode_valid(const char *s, size_t len)
{
    size_t i = 0;

    while (i < len) {
        uint64_t w;
        bool ok;
        size_t n;

        if (len - i >= sizeof w) {
            memcpy(&w, s + i, sizeof w);
            if (!(w & UINT64_C(0x8080808080808080))) {
                i += sizeof w;
                continue;
            }
        }
        n = unicode_step(s + i, len - i, &ok);
        if (!ok)
            return i;
        i += n;
    }
    return len;
}

size_t unicode_back(const char *s, size_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)s[at] & 0xc0) == 0x80);
    return at;
}
