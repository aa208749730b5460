#!/usr/bin/env python3
"""Makes template_real.json: hashes of what transformers renders with real chat templates, and of where the answers
lie by Graft's rule, written here a second time.

usage: make_template.py ASSETS > template_real.json
A hash covers the text, then for each answer a NUL, its text, "@" and the byte where it begins; null: the template
refuses the conversation.
"""
import datetime
import glob
import hashlib
import json
import os
import random
import re
import sys

from transformers.utils import chat_template_utils as utils

SPECIAL = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": "<|im_end|>"}
SAY = ["Hi", "  What is 2 + 2? ", "It is 4.", "caf\u00e9 \u4e16\u754c \U0001f600", "line one\nline two\n", "<|im_end|>", "{{ x }}", "", "it's \"so\"", "4"]
MARK = "\ue000answer\ue001"


def conversations():
    r = random.Random(1)
    out = []
    for _ in range(24):
        ms = [{"role": "system", "content": r.choice(SAY)}] if r.random() < .4 else []
        for _ in range(r.randint(1, 3)):
            ms += [{"role": "user", "content": r.choice(SAY)}, {"role": "assistant", "content": r.choice(SAY)}]
        out.append(ms)
    out.append([{"role": "assistant", "content": "first"}, {"role": "user", "content": "then"}])
    out.append([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}])
    return out


def answers(render, ms, text, specials):
    end = 0
    for i, m in enumerate(ms):
        if m["role"] != "assistant":
            continue
        other = render(ms[:i] + [{"role": "assistant", "content": MARK}] + ms[i + 1:])
        a = len(os.path.commonprefix([text, other]))
        b = len(text) - len(os.path.commonprefix([text[a:][::-1], other[a:][::-1]]))
        try:
            before, asked = render(ms[:i]), render(ms[:i], True)
        except Exception:
            before = asked = ""
        head = asked[len(before):] if asked.startswith(before) else ""
        k = text.rfind(head, end, a) if head else -1
        if k >= 0:
            a = k + len(head)
        rest = text[b:]
        blank = len(rest) - len(rest.lstrip())
        stop = max((t for t in specials if rest.startswith(t, blank)), key=len, default=None)
        end = b + blank + len(stop) if stop else b
        yield a, end


def main():
    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 7, 6)

    utils.datetime = Fixed
    all_ms = conversations()
    result = {"special": SPECIAL, "conversations": all_ms, "templates": {}}
    for path in sorted(glob.glob(sys.argv[1] + "/tokenizers/chat_templates/*.jinja")):
        src = open(path, newline="").read()
        specials = sorted(set(re.findall(r"<[|\uff5c/]?[A-Za-z_0-9\u2581:]+[|\uff5c]?>|\[/?[A-Z_]+\]", src)) | set(SPECIAL.values()))

        def render(ms, gen=False):
            return utils.render_jinja_template([ms], chat_template=src, add_generation_prompt=gen, **SPECIAL)[0][0]

        hashes = []
        for ms in all_ms:
            try:
                text = render(ms)
            except Exception:
                hashes.append(None)
                continue
            h = hashlib.sha256(text.encode())
            for a, b in answers(render, ms, text, specials):
                h.update(b"\0" + text[a:b].encode() + f"@{len(text[:a].encode())}".encode())
            hashes.append(h.hexdigest()[:16])
        result["templates"][os.path.basename(path)[:-6]] = {"specials": specials, "sha256": hashes}
    print(json.dumps(result))


main()
