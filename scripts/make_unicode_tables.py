#!/usr/bin/env python3
"""Write data/unicode_tables.c: the character classes that Hugging Face tokenizers uses.

The tables are read off the behaviour of the `tokenizers` package (its regex engine knows Unicode 16,
its Rust core Unicode 17, its normaliser an old one), so that ids agree whatever the versions of PCRE2
and utf8proc on the machine. Users never run this.

    python scripts/make_unicode_tables.py utf8proc.txt pcre2.txt > data/unicode_tables.c

The two inputs tell what the C libraries say: run with `--probe` for the C source that prints them.
"""
import sys
from tokenizers import Regex, normalizers as N, pre_tokenizers as P

PROBE = r"""
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <utf8proc.h>
static const char *const pattern[] = { "L", "Lu", "Ll", "Lm", "Lo", "M", "N", "Nd", "P", "S", NULL };
int main(int argc, char **argv)
{
    (void)argv;
    for (int cp = 1; argc == 1 && cp < 0x110000; cp++) {
        const utf8proc_property_t *p = utf8proc_get_property(cp);
        utf8proc_int32_t out[32];
        int cls = 0, n = cp >= 0xd800 && cp < 0xe000 ? 0 :
            (int)utf8proc_decompose_char(cp, out, 32, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &cls);
        if (n > 1 || (n == 1 && out[0] != cp) || p->combining_class || utf8proc_tolower(cp) != cp) {
            printf("%d %d %d", cp, p->combining_class, utf8proc_tolower(cp));
            for (int i = 0; i < n; i++)
                printf(" %d", out[i]);
            printf("\n");
        }
    }
    for (int i = 0; argc > 1 && pattern[i]; i++) {
        char text[32];
        int e;
        size_t at;
        snprintf(text, sizeof text, "^\\p{%s}", pattern[i]);
        pcre2_code *re = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &e, &at, NULL);
        pcre2_match_data *m = pcre2_match_data_create(1, NULL);
        printf("%s", pattern[i]);
        for (int cp = 0; cp < 0x110000; cp++) {
            unsigned char b[4];
            if (cp >= 0xd800 && cp < 0xe000)
                continue;
            if (pcre2_match(re, b, (size_t)utf8proc_encode_char(cp, b), 0, 0, m, NULL) >= 0)
                printf(" %d", cp);
        }
        printf("\n");
    }
}
"""

POINTS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def by_regex(pattern):
    pre, members = P.Split(Regex(pattern), "removed"), set()
    for i in range(0, len(POINTS), 4096):
        block = POINTS[i:i + 4096]
        kept = {ord(c) for piece, _ in pre.pre_tokenize_str("".join(map(chr, block))) for c in piece}
        members |= set(block) - kept
    return members


def isolated(pre):
    return {c for c in POINTS
            if [p for p, _ in pre.pre_tokenize_str("\1" + chr(c) + "\1")] == ["\1", chr(c), "\1"]}


def word():
    pre = P.Whitespace()
    return {c for c in POINTS if len(pre.pre_tokenize_str("a" + chr(c) + "a")) == 1}


def table(name, points):
    r = ranges(points)
    print(f"\nconst struct unicode_range {name}[] = {{")
    cells = [f"{{ 0x{a:x}, 0x{b:x} }}," for a, b in r]
    for i in range(0, len(cells), 4):
        print("    " + " ".join(cells[i:i + 4]))
    print(f"}};\nconst size_t {name}_count = sizeof {name} / sizeof *{name};")


def main():
    lib = {}
    for line in open(sys.argv[1]):
        cp, ccc, low, *dec = map(int, line.split())
        lib[cp] = (ccc, low, "".join(map(chr, dec)))
    print("/* Made by scripts/make_unicode_tables.py from the behaviour of Hugging Face tokenizers. */")
    print('#include "data/unicode.h"')
    print("\n/* clang-format off */")
    table("unicode_word", word())
    table("unicode_numeric", isolated(P.Digits(True)))
    table("unicode_punctuation", isolated(P.Punctuation()))
    # Marks that the reference does not know: class 0 to it.
    nfd, bad = N.NFD(), []
    for c in POINTS:
        if c in lib and lib[c][0] and nfd.normalize_str(chr(c)) == chr(c):
            a, b = chr(c) + "\u0334", "\u0345" + chr(c)
            if nfd.normalize_str(a) == a and nfd.normalize_str(b) == b and lib[c][0] not in (1, 240):
                bad.append(c)
    table("unicode_unknown_mark", bad)
    nfkd, nfkc = N.NFKD(), N.NFKC()
    table("unicode_keep_compat", [c for c in POINTS if c in lib and lib[c][2] != chr(c)
                                  and nfkd.normalize_str(chr(c)) == chr(c)])
    lower = N.Lowercase()
    print("\nconst struct unicode_pair unicode_lower_extra[] = {")
    for c in POINTS:
        want = lower.normalize_str(chr(c))
        if len(want) == 1 and ord(want) != (lib[c][1] if c in lib else c):
            print(f"    {{ 0x{c:x}, 0x{ord(want):x} }},")
    print("};\nconst size_t unicode_lower_extra_count = sizeof unicode_lower_extra / sizeof *unicode_lower_extra;")
    # What the regex engine has beyond the library's class.
    print("\nconst struct unicode_class unicode_class_extra[] = {")
    for line in open(sys.argv[2]):
        name, *have = line.split()
        extra = by_regex(r"\p{%s}" % name) - set(map(int, have))
        text = "".join(f"\\\\x{{{a:X}}}" + (f"-\\\\x{{{b:X}}}" if b > a else "") for a, b in ranges(extra))
        print(f'    {{ "{name}", "{text}" }},')
    for name in ("Han", "Hiragana", "Katakana", "Hangul"):
        text = "".join(f"\\\\x{{{a:X}}}" + (f"-\\\\x{{{b:X}}}" if b > a else "") for a, b in ranges(by_regex(r"\p{%s}" % name)))
        print(f'    {{ "={name}", "{text}" }},')
    print("};\nconst size_t unicode_class_extra_count = sizeof unicode_class_extra / sizeof *unicode_class_extra;")
    print("/* clang-format on */")


if "--probe" in sys.argv:
    print(PROBE)
else:
    main()
