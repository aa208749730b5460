"""The work of bench/data.c through HF tokenizers and jinja2, on one core, printed in the same form.

data_peer.py make OUT.jsonl FILE...                   conversations from records of question and answer
data_peer.py run TOKENIZER.json TEMPLATE.jinja RECORDS.jsonl
"""
import bisect
import hashlib
import json
import os
import struct
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROUNDS, ROW = 7, 2048
ASK = ("question", "prompt", "instruction", "text")
REPLY = ("answer", "completion", "output", "response")


def make(out, files):
    with open(out, "w", encoding="utf-8") as f:
        for path in files:
            for line in open(path, encoding="utf-8"):
                rec = json.loads(line)
                ask = next((rec[k] for k in ASK if isinstance(rec.get(k), str)), None)
                reply = next((rec[k] for k in REPLY if isinstance(rec.get(k), str)), None)
                if ask and reply:
                    turns = [{"role": "user", "content": ask}, {"role": "assistant", "content": reply}]
                    f.write(json.dumps({"messages": turns}) + "\n")


def environment():
    """As transformers sets it up (utils/chat_template_utils.py)."""
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def fail(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = fail
    env.globals["strftime_now"] = lambda form: time.strftime(form, (2024, 7, 26, 0, 0, 0, 4, 208, -1))
    return env


def pack(lengths):
    """Best fit decreasing: rows by the room left in them."""
    left, rows = [], 0
    for n in sorted((min(max(n, 1), ROW) for n in lengths), reverse=True):
        i = bisect.bisect_left(left, n)
        if i == len(left):
            rows += 1
            rest = ROW - n
        else:
            rest = left.pop(i) - n
        bisect.insort(left, rest)
    return rows


def best(work):
    least = 1e9
    for _ in range(ROUNDS):
        start = time.perf_counter()
        made = work()
        least = min(least, time.perf_counter() - start)
    return least, made


def run(tokenizer, template, records):
    from tokenizers import Tokenizer

    tok = Tokenizer.from_file(tokenizer)
    tok.no_truncation()
    tok.no_padding()
    chat = environment().from_string(open(template, encoding="utf-8").read())
    talks = [json.loads(line)["messages"] for line in open(records, encoding="utf-8")]
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    render_s, texts = best(lambda: [chat.render(messages=m, add_generation_prompt=False, **special) for m in talks])
    # one text a call as in map(), and all at once: the faster counts
    one_s, ids = best(lambda: [tok.encode(t, add_special_tokens=False).ids for t in texts])
    fast = getattr(tok, "encode_batch_fast", tok.encode_batch)
    all_s, _ = best(lambda: [e.ids for e in fast(texts, add_special_tokens=False)])
    pack_s, rows = best(lambda: pack([len(x) for x in ids]))
    whole = "".join(texts).encode()
    flat = [i for x in ids for i in x]
    print(f"records {len(talks)}\nbytes {len(whole)}\ntokens {len(flat)}\nrows {rows}")
    print("text", hashlib.sha256(whole).hexdigest()[:16])
    print("ids", hashlib.sha256(struct.pack(f"<{len(flat)}i", *flat)).hexdigest()[:16])
    print(f"render {render_s:.6f}\ntokenise {min(one_s, all_s):.6f}\npack {pack_s:.6f}")


if sys.argv[1:2] == ["make"] and len(sys.argv) > 3:
    make(sys.argv[2], sys.argv[3:])
elif sys.argv[1:2] == ["run"] and len(sys.argv) == 5:
    run(*sys.argv[2:])
else:
    sys.exit(__doc__)
