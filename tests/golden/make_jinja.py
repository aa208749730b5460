#!/usr/bin/env python3
"""Makes jinja.json: small templates, what they are rendered with, and what Jinja2 with the settings of
transformers makes of them.

usage: make_jinja.py > jinja.json
An entry: [template, context, text] or [template, context, null] when Jinja2 refuses it; a context is an index
into the contexts at the front. The date is fixed.
"""
import datetime
import json

import jinja2
from transformers.utils import chat_template_utils as utils

CONTEXTS = [
    {},
    {"a": 3, "b": -7, "f": 2.5, "z": 0, "t": True, "n": None, "s": "Hello, World", "e": "", "u": "h\u00e9llo \u4e16\u754c \U0001f600",
     "l": [3, 1, 2], "m": {"x": 1, "y": {"k": "v"}, "items": 5}, "ls": ["b", "A", "c"], "q": "it's \"so\"",
     "rows": [{"n": "x", "v": 2, "g": "q"}, {"n": "Y", "v": 1, "g": "p"}, {"n": "z", "v": 3, "g": "q"}],
     "w": "  pad \n", "h": "<a&'\">", "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": []}]}, {"v": 4, "c": []}],
     "nest": {"a": [1, 2.0, None, True, "x\ny"], "b": {}, "c": []}, "nul": "a\u0000b"},
    {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Bye \u00e9"}]},
]

EXPR = r"""
1 + 2 * 3 | 7 // 2 | -7 // 2 | 7 % 3 | -7 % 3 | 7 % -3 | 7 / 2 | 8 / 2 | 2 ** 3 ** 2 | -2 ** 2 | 2 ** -1 | 7.5 // 2 | -7.5 % 2 | 1e3 | 1.5e-7 | 123456789012345678.0 | 1e16 | 1e15 | 0.1 + 0.2
1_000 | 0x1f | 0b101 | 0o17 | .5 | 1. | 5 if true | 5 if false | (5 if false) is defined | true | True | none | None | false and 1 | 0 or 'x' | 1 and 'y' | not 1 | not not 1 | not a in l | a not in l
1 < 2 < 3 | 1 < 3 < 2 | 1 == 1.0 | 1 == true | 'a' == 'a' | 'a' < 'b' | [1,2] < [1,3] | (1,) == [1] | 1 != 2 | none == false | undefinedvar == undefinedvar2 | 'x' in 'xyz' | 'a' in m | 'x' in m | 1 in [1] | 2 in (1,2)
'a' ~ 1 ~ none ~ 2.0 | 'a' + 'b' | 'a' * 3 | 2 * [1] | [1] + [2] | (1,) + (2,) | 'a' 'b' "c" | 'a' + 1 | 1 + 'a' | none + 1 | 1 / 0 | 1 // 0 | 1.0 % 0 | [1] - [2]
s[0] | s[-1] | s[99] | s[1:3] | s[::-1] | s[:-1] | s[7:] | s[::2] | s[5:1:-1] | l[0] | l[-1] | l[9] | l[1:] | l[::-1] | l[-2:] | l[:0] | u[1] | u[7:9] | u[-1] | u|length | l[::0] | l['a':] | m[1:] | nope[1:] | n[0] | n.x | n.x.y | a.b | a[0]
m.x | m['x'] | m.y.k | m.items | m['items'] | m.nope | m.nope.k | m['y']['k'] | m.y.z is defined | nope.x | nope is defined | nope['x'] | m.get('x') | m.get('q') | m.get('q', 4) | m.keys()|list | m.values()|list | m.y.items()|list | m.y.items() | m.keys() | l.0 | l.1
[1, 2.0, 'a', none, true] | (1, 2) | (1,) | () | [] | {} | {'a': 1, "b": [1], 2: none} | {'a': {'b': 'it\'s'}} | q | [q] | [u] | ['\n\t\\'] | ['\x00\x7f'] | nul | [nul] | nul|length | '\u00e9\x41\101' | 'a\qb' | "a\
b" | nest | nest.a | [1e20, 1e-5, 0.0001, 100.0, -0.0]
s.upper() | s.lower() | s.title() | s.capitalize() | s.swapcase() | u.upper() | '\u00df'.upper() | s.replace('l', 'L') | s.replace('l', 'L', 1) | 'aaa'.replace('', '-') | s.split() | s.split(',') | s.split(', ', 1) | 'a b  c'.split(' ') | ' a b  c '.split() | ' a b  c '.split(none, 1) | 'a,b,c'.rsplit(',', 1) | ' a b c '.rsplit(none, 1) | 'a,b'.split('') | 'abc'.split(maxsplit=1, sep='b')
s.startswith('He') | s.startswith(('x', 'H')) | s.endswith('ld') | s.endswith(('a', 'b')) | s.startswith('l', 2) | s.startswith(1) | s.find('o') | s.find('o', 5) | s.find('zz') | s.rfind('o') | s.index('W') | s.index('zz') | s.count('l') | 'aaaa'.count('aa') | 'abc'.count('') | u.find('\u4e16') | w.strip() ~ '|' | w.lstrip() ~ '|' | w.rstrip() ~ '|' | 'xxaxx'.strip('x') | 'abcba'.lstrip('ab') | '\n\na\n'.strip('\n')
'a\nb\r\nc'.splitlines() | 'a\nb\n'.splitlines(true) | ''.splitlines() | ','.join(['a', 'b']) | ','.join([1]) | ''.join(ls) | 'abc'.removeprefix('a') | 'abc'.removesuffix('c') | 'abc'.removeprefix('x') | 'a-b-c'.partition('-') | 'a-b-c'.rpartition('-') | 'abc'.partition('-') | 'ab'.ljust(4, '.') | 'ab'.rjust(4) ~ '|' | 'ab'.center(5, '*') | 'abc'.center(6, '*') | '-5'.zfill(4) | '12'.isdigit() | '1a'.isdigit() | ''.isdigit() | 'ab'.isalpha() | 'a1'.isalnum() | '  '.isspace() | 'AB'.isupper() | 'ab1'.islower() | 'x'.nope | 'x'.nope()
'{} {}'.format(1, 'a') | '{0}{1}{0}'.format('a', 'b') | '{x}'.format(x=3) | '{:>5}|{:<5}|{:^5}'.format(1, 'a', 'b') | '{:.2f}'.format(f) | '{:,}'.format(1234567) | '{:05d}'.format(-42) | '{:x}'.format(255) | '{!r}'.format('a') | '{{}}'.format() | '{}'.format() | '{a[x]}'.format(a=m) | '{:.3}'.format('abcdef') | '{:%}'.format(0.5) | '{:e}'.format(12345.678)
'%s %d' % ('a', 3) | '%s' % 'x' | '%.2f' % f | '%5d|%-5d|%05d' % (1, 2, 3) | '%(x)s' % m | '%%' % () | '%s' % none | '%s' % l | '%r' % 'a' | '%x' % 255 | '%d' % 2.9 | '%d' % 'a' | '%s %s' % 'a' | '%s' % ('a', 'b') | '%+d' % 5 | '%s'|format('a') | '%s-%s'|format('a', 1) | '%(k)s'|format(k=1)
w|trim ~ '|' | 'xax'|trim('x') | s|upper | s|lower | s|title | 'a-b c(d e'|title | s|capitalize | s|length | l|length | m|length | a|length | none|length | nope|length | l|first | l|last | []|first | ''|last | nope|last | (nope|last) is defined | m.nope|last | {'a': 1, 'b': 2}|last | l|map('string')|last | n|last | nope|reverse|list | (nope|reverse) is sequence | nope|reverse|length | l|map('string')|reverse|length | s|first | s|last | l|sum | l|min | l|max | []|max | [1.5, 2]|sum | rows|sum('v') | rows|sum(attribute='v', start=10)
l|join | l|join(',') | l|join(', ')|upper | rows|join('-', 'n') | rows|join('-', attribute='n') | nope|join | 'abc'|join('.') | m|join(',') | 5|join | l|sort | l|sort(reverse=true) | ls|sort | ls|sort(case_sensitive=true) | rows|sort(attribute='v')|map(attribute='n')|list | rows|sort(attribute='g,v')|map(attribute='v')|list | l|reverse|list | s|reverse | (l|reverse) is iterable | l|unique|list | [1,1,2,'a','A']|unique|list | m.y|dictsort | m.y|items|list | {'b': 1, 'A': 2}|dictsort | {'b': 1, 'A': 2}|dictsort(true) | {'b': 1, 'a': 2}|dictsort(by='value') | {'b': 1, 'a': 2}|dictsort(reverse=true) | l|dictsort | l|items | nope|items|list
l|map('string')|list | ls|map('upper')|join | rows|map(attribute='n')|list | rows|map(attribute='zz', default='-')|list | rows|map(attribute='zz')|list | l|map('nope')|list | []|map('nope')|list | l|select('odd')|list | l|reject('odd')|list | l|select('gt', 1)|list | ['', 'a', none]|select|list | rows|selectattr('v', 'ge', 2)|map(attribute='n')|join(',') | rows|selectattr('g', 'equalto', 'q')|list|length | rows|rejectattr('g', '==', 'q')|map(attribute='n')|first | rows|selectattr('zz')|list | rows|selectattr('zz', 'undefined')|list|length | l|map('abs')|sum | rows|map('tojson')|join('|') | (l|map('string'))|length | l|select('nope')|list | l|list | s|list | m|list | 3|list
nope|default('d') | nope|default | e|default('d') | e|default('d', true) | none|default('d') | none|d('d', boolean=true) | nope.x|default('d') | m.nope|d('d') | '5'|int | '5.7'|int | 'x'|int | 'x'|int(3) | '0x1f'|int(0, 16) | 5.9|int | -5.9|int | none|int | true|int | '1e3'|int | '2.5'|float | 'x'|float | 'x'|float(1.5) | 3|float | nope|int | f|round | 3.5|round | 2.567|round(2) | 2.1|round(0, 'ceil') | 2.9|round(method='floor') | 5|round | -3|abs | f|abs | 'a'|abs | 3|string ~ 'x' | none|string | 1.0|string | [1]|string
h|escape | h|e | h|safe | (h|safe) + h | h|safe|length | (h|e)|e | h|forceescape | s|replace('l', 'L') | s|replace('l', 'L', 1) | 1|replace(1, 2) | 'a b c'|wordcount | 'a\nb\n\nc'|indent | 'a\nb'|indent(2, true) | 'a\n\nb'|indent(2, blank=true) | 'a\nb'|indent('> ') | 'a\nb'|indent(width=1, first=true) | 'abc def ghi'|truncate(8, leeway=0) | 'abc def ghi'|truncate(8, true, leeway=0) | l|truncate(8) | m|truncate | (1, 2)|truncate | range(3)|truncate | l|truncate(3, leeway=0) | [1,2,3,4]|truncate(3, leeway=0) | 5|truncate | nope|truncate | 'abc'|center(7) ~ '|' | l|batch(2)|list | l|batch(2, 0)|list | l|slice(2)|list | l|slice(2, 'x')|list | rows|groupby('g')|list|length | rows|groupby('g')|map(attribute='0')|list | rows|groupby('g')|map(attribute='grouper')|list | rows|groupby('g')|map(attribute='list')|map('length')|list | (rows|groupby('g')|first)['list'] | (rows|groupby('g')|first).items is defined | (rows|groupby('g')|first + (1,)).grouper is defined | (rows|groupby('g')|first).count('p') | rows|groupby('g') | rows|groupby('g')|tojson | (1, 2).grouper is defined | m|attr('x') | m|attr('keys') is callable | s|xyz | s|wordwrap | 5 | xyz
m|tojson | nest|tojson | nest|tojson(indent=2) | l|tojson(indent=4) | [] |tojson(indent=2) | {}|tojson(indent=1) | u|tojson | u|tojson(ensure_ascii=true) | q|tojson | h|tojson | nul|tojson | '\x7f\x1f'|tojson | 1.0|tojson | 1e20|tojson | none|tojson | true|tojson | nope|tojson | (1,2)|tojson | {1: 2, none: 3, true: 4, 1.5: 5}|tojson | {'b': 1, 'a': 2}|tojson(sort_keys=true) | {'b': [1,2]}|tojson(separators=(',', ':')) | nest|tojson(separators=(',', ': '), indent=1) | m.keys()|tojson | range(3)|tojson | nest|tojson(indent='\t') | nest|tojson(indent=0) | nest|tojson(true)
a is defined | nope is undefined | n is none | n is not none | a is number | f is float | a is integer | t is integer | t is boolean | t is number | s is string | a is string | m is mapping | l is mapping | l is sequence | s is sequence | m is sequence | a is sequence | l is iterable | s is iterable | a is iterable | n is iterable | nope is iterable | (l|map('string')) is iterable | (l|map('string')) is sequence | t is true | t is false | z is false | a is odd | a is even | b is even | a is divisibleby 3 | a is divisibleby(2) | 'ab' is lower | 'AB' is upper | a is eq 3 | a is equalto(3) | a is ne 3 | a is gt 2 | a is ge(3) | a is lt 2 | a is le 3 | a is in [1,3] | a is not in [1,3] | 'x' is in 'xyz' | n is sameas none | t is sameas true | l is sameas l | [] is sameas [] | raise_exception is callable | s is callable | m.get is callable | 'upper' is filter | 'nope' is filter | 'odd' is test | h is escaped | (h|e) is escaped | a is nope | a is defined and s is string | not a is defined | a is defined == true | a is greaterthan 2 | a is lessthan 2
range(3)|list | range(1, 7, 2)|list | range(5, 0, -2)|list | range(3) | range(0, 9, 3) | range(3)|length | range(9)[2] | range(3)|sum | 2 in range(3) | range(1000000) | range() | range(1.5) | dict(a=1, b=2) | dict([('a', 1)]) | dict({'a': 1}, b=2) | dict.fromkeys(l) | dict.fromkeys('ab', 0) | dict.fromkeys([[]]) | dict.fromkeys() | dict.nope is defined | range.fromkeys is defined | namespace(a=1).a | namespace().x | namespace(a=1) | raise_exception('no way') | strftime_now('%Y-%m-%d') | strftime_now('%d %b %Y') | strftime_now('%A %B %-d %H:%M %j %y %p %I') | joiner(',') is callable | lipsum | cycler('a').next() | nope() | a() | m.x() | 'a'() | l.append(4) | m.update({}) | l.append | m.pop is defined | l.nope | l.count(3) | l.index(2) | l.index(9)
a if t else b | a if z | 'x' if n is none else 'y' | (1 if z else 2 if t else 3) | [a if t else b, 1] | a|default(1) + 1 | a + 1|default(2) | -a|abs | -(a|abs) | (-a)|abs | s|upper ~ s|lower | l|length == 3 | l|length > 2 and t | not n | n or 'x' | l and 'y' | a in l and t | not (a in l) | a == 3 == t | s[1:3]|upper | (a, b) | a, b | (a) | {'a': a}.a | {'a': a}['a'] | [1,2][0] | [[1,2],[3]][0][1] | 'abc'[1] | 'abc'.upper()[1:] | 'a,b'.split(',')[1] | 'a,b'.split(',')|last | m['y'].k.upper() | rows[0].n | rows[0]['n'] ~ rows[-1].v | messages | (l|sort)[0] | (l|map('string'))[0]
1 2 | 1 + | ( | [1 | {'a' 1} | a.| 'abc | a b | a |  | | f( | f(a=1, 2) | f(**{}, *[]) | a is | x = 1 | a & b | a ? b | "\u12" | 9999999999999999999999
""".strip("\n")

STATEMENTS = [
    "{% if a %}A{% endif %}", "{% if z %}A{% else %}B{% endif %}", "{% if z %}1{% elif a %}2{% elif b %}3{% else %}4{% endif %}",
    "{% if nope %}x{% endif %}.", "{% if nope is defined %}x{% else %}y{% endif %}", "{% if a > 1 and b < 0 or n %}x{% endif %}",
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }};{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}", "{% for x in nope %}x{% else %}none{% endfor %}", "{% for x in n %}x{% endfor %}", "{% for x in a %}x{% endfor %}",
    "{% for k, v in m.y.items() %}{{ k }}={{ v }}{% endfor %}", "{% for k in m %}{{ k }} {% endfor %}", "{% for k, v in m|items %}{{ k }}={{ v }};{% endfor %}", "{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }} {% endfor %}",
    "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for (a, (b, c)) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% else %}no{% endfor %}", "{% for x in l if x > 9 %}{{ x }}{% else %}no{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}", "{% for x in l %}{% for y in l %}{{ loop.index }}{{ loop.depth }}{% endfor %}{{ loop.index }}|{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% break %}", "{% for x in l %}{% for y in l %}{% break %}{% endfor %}{{ x }}{% endfor %}",
    "{% for x in tree recursive %}{{ x.v }}{% if x.c %}({{ loop(x.c) }}){% endif %}{{ loop.depth }}{% endfor %}", "{% for x in l %}{{ loop(l) }}{% endfor %}", "{% for x in 'h\u00e9' %}{{ x }}.{% endfor %}", "{% for x in l|reverse %}{{ x }}{{ loop.last }}{% endfor %}",
    "{% for x in l|map('string') %}{{ loop.length }}{% endfor %}", "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in l %}{{ loop }}{% endfor %}", "{{ loop is defined }}{% for x in l %}{% endfor %}{{ x is defined }}",
    "{% set x = 1 %}{{ x }}", "{% set x, y = 1, 2 %}{{ x }}{{ y }}", "{% set x = 1, 2 %}{{ x }}", "{% set x %}a{{ a }}b{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}", "{% set x | replace('a', 'b') | upper %}abc{% endset %}{{ x }}",
    "{% set x = 1 %}{% for i in l %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% for i in l %}{% set y = y|default(0) + 1 %}{{ y }}{% endfor %}", "{% set ns = namespace(c=0) %}{% for i in l %}{% set ns.c = ns.c + i %}{% endfor %}{{ ns.c }}",
    "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y is defined }}", "{% set m.x = 2 %}", "{% set ns = namespace(a=1) %}{% set ns['a'] = 2 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{% set nope.x = 1 %}", "{% set 1 = 2 %}", "{% set a.b.c = 1 %}", "{% set true = 1 %}",
    "{% if t %}{% set x = 5 %}{% endif %}{{ x }}", "{% if z %}{% set x = 5 %}{% endif %}{{ x is defined }}", "{% set a = a + 1 %}{{ a }}", "{% set ns = namespace(l=[]) %}{% for x in l %}{% set ns.l = ns.l + [x * 2] %}{% endfor %}{{ ns.l }}",
    "{% macro f(x, y=2) %}{{ x }}-{{ y }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(y=4, x=5) }} {{ f() }}", "{% macro f(x) %}{{ x is defined }}{% endmacro %}{{ f() }}{{ f(none) }}", "{% macro f(x) %}{% endmacro %}{{ f(1, 2) }}", "{% macro f(x) %}{% endmacro %}{{ f(z=2) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, k=3) }}", "{% macro f(x) %}{{ varargs|length }}{{ kwargs.k }}{% endmacro %}{{ f(1, 2, k=3) }}", "{% macro f(x=a) %}{{ x }}{% endmacro %}{{ f() }}", "{% macro f(x, y=x) %}{{ x }}{{ y }}{% endmacro %}{{ f(7) }}",
    "{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}G{% endmacro %}{{ f() }}", "{% macro f() %} x {% endmacro %}[{{ f()|trim }}]{{ f() is string }}", "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}body{% endcall %}",
    "{% macro f() %}[{{ caller(1, y=2) }}]{% endmacro %}{% call(x, y) f() %}{{ x }}{{ y }}{% endcall %}", "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}", "{% macro f() %}a{% endmacro %}{% call f() %}b{% endcall %}", "{% macro f() %}{% set q9 = 1 %}{{ q9 }}{% endmacro %}{{ f() }}{{ q9 is defined }}",
    "{% macro f(a, b=1, c) %}{% endmacro %}", "{% set x = 1 %}{% macro f() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ f() }}", "{% for x in l %}{% macro f() %}{{ x }}{% endmacro %}{{ f() }}{% endfor %}", "{% macro f() %}{{ loop is defined }}{% endmacro %}{% for x in l %}{{ f() }}{% endfor %}", "{% macro f(x) %}{% endmacro %}{{ f }}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aba{% endfilter %}", "{% filter trim %}  x  {% endfilter %}|", "{% with x = 1, y = 2 %}{{ x }}{{ y }}{% endwith %}{{ x is defined }}", "{% with %}{% set q = 1 %}{% endwith %}{{ q is defined }}", "{% set x = 5 %}{% with x = 1, y = x %}{{ y }}{% endwith %}",
    "{% print a, b %}", "{% raw %}{{ x }}{% y %}{% endraw %}", "a {%- raw -%} x {{ }} {%- endraw -%} b", "{% raw %}\n x\n{% endraw %}\ny", "  {% raw %}z{% endraw %}", "{# c #}x", "a {#- c -#} b", "a\n  {# c #}\nb", "{# a\n b #}{{ 1 }}", "{#- -#}", "{##}x", "{#-#}x", "{# x",
    "{% generation %}abc{% endgeneration %}", "x{% generation %}a{% set q = 1 %}{{ q }}{% endgeneration %}{{ q is defined }}", "{% for x in l %}{% generation %}{{ x }}{{ loop.last }}{% endgeneration %}{% endfor %}", "{% for x in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% if a %}\n  x\n{% endif %}\ny", "  {% if a %}\n  x\n  {% endif %}\n  y", "a\n  {%- if a -%}\n  x\n  {%- endif -%}\n  y", "{{ a }}\n", "{{ a }}\n\n", "\n{{ a }}", "  {{ a }}  ", "a  {{- a -}}  b", "a\n{{- a }}\nb", "a {%+ if a %} x {%+ endif %} b", "  {%+ if a %}x{% endif %}", "{% if a +%}\nx{% endif %}", "x {% if a %}\n\ny{% endif %}",
    "{%- for x in l %}\n    {{- x }}\n{%- endfor %}", "{% for x in l %}\n{{ x }}\n{% endfor %}\n", "\t{% if a %}x{% endif %}\t\n", "a\r\nb\r{% if a %}\r\nc{% endif %}\r\n", "{% if a %}x{% endif %}   \n   {% if a %}y{% endif %}", " \u00a0{%- if a %}x{% endif %}", "\u2003{% if a %}x{% endif %}", "{{ '{{' }}", "{{ '%}' }}", "{{ \"}}\" }}", "{{ {'a': {'b': 1}} }}", "{{{'a': 1}.a}}", "{%if a%}x{%endif%}", "{%-if a-%} x {%-endif-%}", "{{a}}{{-b-}} c",
    "{{ 1 }", "{% if a %}", "{% endif %}", "{% nope %}", "{% if %}x{% endif %}", "{% for x l %}{% endfor %}", "{% for x in l %}{% endif %}", "{{ }}", "{% %}", "{% else %}", "{% macro %}{% endmacro %}", "{% call f %}{% endcall %}", "a { b } c % d", "{ {a} }", "}} %} #}", "{% if a: %}x{% endif %}", "{% for x in l: %}{{ x }}{% endfor %}", "{% do l.append(1) %}", "{% set x = l.append(1) %}", "{{ l.append(1) }}",
    "{{ nope.x }}", "{{ nope }}", "{{ nope + 1 }}", "{{ nope ~ 'x' }}", "{{ -nope }}", "{{ nope < 1 }}", "{{ nope() }}", "{{ nope|upper }}x", "{{ nope|length }}", "{{ m.nope|trim }}x", "{{ 'x' in nope }}", "{{ nope in 'x' }}", "{{ nope in l }}", "{{ n|upper }}", "{{ n|trim }}", "{{ 5|trim }}", "{{ l|upper }}", "{{ [nope] }}", "{{ n.upper() }}", "{{ '%s' % nope }}x", "{{ '{}'.format(nope) }}x", "{{ {}[[]] }}", "{{ {[]: 1} }}", "{{ [] in {} }}",
    "{% if z %}{{ s|nofilter }}{% endif %}ok", "{% if t %}{{ s|nofilter }}{% endif %}", "{% for x in [] %}{{ s|nofilter }}{% endfor %}ok", "{{ s|nofilter if z else 'ok' }}", "{{ s is notest if z else 'ok' }}", "{% if z %}{% for x in l %}{{ s|nofilter }}{% endfor %}{% endif %}ok",
    "{% set j = joiner(', ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.reset() }}{{ c.next() }}", "{% set x = [] %}{{ x.append(1) or x }}", "{{ raise_exception('Stop ' ~ a) }}", "{% if z %}{{ raise_exception('x') }}{% endif %}ok",
    "{% set x = s.split(', ') %}{{ x[0] }}/{{ x[1] }}", "{{ rows|selectattr('v', 'gt', 1)|map(attribute='n')|join(',') }}", "{% set r = rows|selectattr('g', '==', 'q')|list %}{{ r|length }}{{ r[0].n }}", "{% if rows|selectattr('v', '==', 99) %}always{% endif %}", "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}", "{% for g in rows|groupby('g') %}{{ g[0] }}:{% for r in g[1] %}{{ r.n }}{% endfor %};{% endfor %}",
    "{% for g in rows|groupby('g') %}{{ g.grouper }}:{{ g.list|length }};{% endfor %}",
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}", "{{ 'a' if messages else 'b' }}", "{{ m is mapping and m.y is mapping }}", "{{ loop }}", "{{ self }}", "{{ varargs }}", "{{ caller }}", "{% set caller = 1 %}{{ caller }}", "{{ '\u00c9\u0130\u03a3 A\u03a3'.lower() }}", "{{ 'stra\u00dfe \ufb01x'.upper() }}", "{{ '\u01c6'.title() }}", "{{ '\u00df\u00df'.capitalize() }}", "{{ ['\u00ad\u200b\ue000\u3000\u00a0'] }}", "{{ '\u00b2'.isdigit() }}",
    "{{ [1.0, 2.50, 1e100, 1e-7, 123456.789, 5e-324, 1.7976931348623157e308] }}", "{{ 9007199254740993 / 1 }}", "{{ 2 ** 0.5 }}", "{{ 10 ** 15 }} {{ 7 // 2.0 }} {{ 1e308 * 10 }}", "{{ (0.1).hex }}", "{{ 1 if a else }}", "{{ a if }}", "{{ foo.bar.baz }}", "{{ none.foo }}", "{{ (none).foo.bar }}", "{{ true + true }} {{ true * 3 }} {{ -true }}", "{{ 'a' * -1 }}|", "{{ 'ab' * true }}", "{{ [] * 3 }}", "{{ 3 * 'ab' }}", "{{ 'a' < 1 }}", "{{ [1] < ['a'] }}", "{{ {} < {} }}", "{{ none < 1 }}", "{{ (1, 'a') == (1, 'a') }}", "{{ {'a': 1} == {'a': 1.0} }}", "{{ 1 in {1: 2} }} {{ 1.0 in {1: 2} }} {{ true in {1: 2} }}",
    "{% set x = {'a': 1, 'a': 2} %}{{ x }}", "{{ {1: 'a', true: 'b', 1.0: 'c'} }}", "{{ dict(a=1, **{'b': 2}) }}", "{{ dict(**m.y) }}", "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(**{'a': 3, 'b': 4}) }}{{ f(*[5], b=6) }}", "{{ 'abc'|map('upper')|list }}", "{{ 'x'|default|upper }}", "{{ ['a', 'b']|map('replace', 'a', 'c')|list }}", "{{ [[1, 2], [3]]|map('first')|list }}", "{{ [[1, 2], [3]]|map('join', '-')|list }}", "{{ [{'a': {'b': 1}}]|map(attribute='a.b')|list }}", "{{ [[5, 6]]|map(attribute=1)|list }}", "{{ [[5, 6]]|map(attribute='1')|list }}", "{{ l|sort|first }}{{ l|sort|last }}", "{{ ['b', 1]|sort }}", "{{ [none, 1]|max }}", "{{ ['b', 'A']|min }}", "{{ rows|max(attribute='v') }}", "{{ 'cab'|sort|join }}",
    "{{ s[:5] ~ '...' if s|length > 5 else s }}", "{{ (m.items() if m is mapping else []) }}", "{{ m['items'] + 1 }}", "{{ not l }}{{ not [] }}{{ not {} }}{{ not '' }}{{ not 0.0 }}", "{{ u|upper|length }}", "{{ u[::-1] }}", "{{ u.split() }}", "{{ '\u00a0a\u2003'.strip() }}|", "{{ 'a\x1cb\u2028c\x85d'.splitlines() }}", "{{ 'a\x1cb'.split() }}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% block x %}a{% endblock %}", "{% autoescape true %}{% endautoescape %}", "{% from 'x' import y %}",
]


def main():
    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 7, 6)

    utils.datetime = Fixed
    cases = [["{{ %s }}" % e.strip(" "), 1] for line in EXPR.replace("\\\nb", "\\\x01b").split("\n") for e in line.split(" | ")]
    cases = [[c.replace("\x01", "\n"), k] for c, k in cases] + [[s, 2 if "messages" in s else 1] for s in STATEMENTS]
    out, seen = [], set()
    for source, k in cases:
        if source in seen:
            continue
        seen.add(source)
        try:
            text = utils._compile_jinja_template(source).render(**CONTEXTS[k])
        except (Exception, SyntaxError):
            text = None
        if text is not None and (" at 0x" in text or "<function" in text or "built-in method" in text or "<bound method" in text):
            continue
        out.append([source, k, text])
    print("[" + json.dumps(CONTEXTS) + ",\n" + ",\n".join(json.dumps(x) for x in out) + "]")


main()
