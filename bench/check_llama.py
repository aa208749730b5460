"""Does llama.cpp compute with Graft's GGUF files what Graft computes with the adapter?

    python bench/check_llama.py GRAFT BASE.gguf ADAPTER DATA.jsonl WORK [--records 12] [--tokens 24]

Exports the adapter in every type, merges it into a GGUF model, and compares NLLs of DATA's records
and greedy answers to their prompts through llama-cpp-python (pip install llama-cpp-python) with
those of `graft eval` and `graft generate`. llama.cpp rounds activations to 8 bits before each
product with a quantised weight: how far it is from Graft over the base alone is that noise, and the
adapter's rows must stay near it. Also checked: that the adapter changes anything."""
import argparse
import json
import os
import subprocess
import sys

import numpy as np
from llama_cpp import Llama

p = argparse.ArgumentParser()
for name in ("graft", "base", "adapter", "data", "work"):
    p.add_argument(name)
p.add_argument("--records", type=int, default=12)
p.add_argument("--tokens", type=int, default=24)
a = p.parse_args()
os.makedirs(a.work, exist_ok=True)


def graft(*args, stdin=None):
    r = subprocess.run([a.graft, *args], input=stdin, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"graft {' '.join(args)}: {r.stderr}")
    return r.stdout


def at(name):
    return os.path.join(a.work, name)


def tokens(texts):
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    return [json.loads(x)["ids"] for x in
            graft("tokenize", "--base", a.base, stdin=lines).splitlines()]


records = [json.loads(x) for x in open(a.data)][: a.records]
prompts = tokens([r["prompt"] for r in records])
wholes = tokens([r["prompt"] + r["completion"] for r in records])
with open(at("whole.jsonl"), "w") as f:
    f.writelines(json.dumps({"input_ids": w}) + "\n" for w in wholes)
with open(at("prompts.jsonl"), "w") as f:
    f.writelines(json.dumps({"input_ids": w}) + "\n" for w in prompts)


def by_graft(base, *adapter):
    e = json.loads(graft("eval", "--base", base, *adapter, "--data", at("whole.jsonl"),
                         "--per-example", "--json"))
    g = graft("generate", "--base", base, *adapter, "--prompts", at("prompts.jsonl"), "-n",
              str(a.tokens), "--json")
    return (np.array([r["nll"] for r in e["per_example"]]),
            [json.loads(x)["ids"] for x in g.splitlines()])


def log_softmax(z):
    z = z.astype(np.float64)
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def by_llama(base, **adapter):
    m = Llama(model_path=base, n_ctx=512, logits_all=True, verbose=False, **adapter)
    nll, answers = [], []
    for w in wholes:
        m.reset()
        m.eval(w)
        lp = log_softmax(m.scores[: len(w) - 1])
        nll.append(-lp[np.arange(len(w) - 1), w[1:]].sum())
    for w, known in zip(prompts, greedy):
        # teacher-forced along Graft's own answer: one near tie does not spoil all that follows
        m.reset()
        m.eval(w + known[:-1])
        z = m.scores[len(w) - 1: len(w) - 1 + len(known)].astype(np.float64)
        answers.append([(int(k == t), float(x.max() - x[t]))
                        for k, t, x in zip(z.argmax(-1), known, z)])
    return np.array(nll), answers


count = np.array([len(w) - 1 for w in wholes])
base_nll, greedy = by_graft(a.base)
rows, noise = [], None


def row(name, ours, theirs):
    global noise
    off = np.abs(ours - theirs[0]) / count
    flat = [x for ans in theirs[1] for x in ans]
    same = np.mean([s for s, _ in flat])
    gap = max([g for s, g in flat if not s] or [0.0])
    noise = noise or max(off.max(), 1e-4)
    ok = off.max() <= 3 * noise
    rows.append(ok)
    print(f"{name:34s} NLL/token {ours.sum() / count.sum():.5f}  llama.cpp "
          f"{theirs[0].sum() / count.sum():.5f}  worst record apart {off.max():.2e}  "
          f"greedy equal {100 * same:.1f} % (largest gap {gap:.2f})  {'ok' if ok else 'FAILED'}")


row("base", base_nll, by_llama(a.base))
nll, greedy = by_graft(a.base, "--adapter", a.adapter)
print(f"the adapter changes the NLL by {np.abs(nll - base_nll).sum() / count.sum():.3f} a token")
for t in ("f32", "f16", "bf16", "q8_0"):
    f = at(f"lora-{t}.gguf")
    graft("export", "--adapter", a.adapter, "--base", a.base, "-o", f, "--dtype", t, "--force", "-q")
    row(f"base + adapter ({t})", nll, by_llama(a.base, lora_path=f))
for t in ("f16", "f32", "bf16", "q8_0"):
    f = at(f"merged-{t}.gguf")
    graft("merge", "--base", a.base, "--adapter", a.adapter, "-o", f, "--dtype", t, "--force", "-q")
    row(f"merged ({t})", nll, by_llama(f))
    os.unlink(f)
sys.exit(0 if all(rows) else 1)
