#!/usr/bin/env python3
"""Golden prompt methods: writes the folder prompts/ beside this script.

needs: torch, transformers 5, peft, safetensors; models/ (make_models.py)
For each case an adapter over a model of models/, as PEFT saves it, beside it the encoder that PEFT
leaves out (graft_state.safetensors), the gradients of all that trains, and in expected.json losses,
those of twenty AdamW steps and greedy tokens, all in f32. Read by tests/train and tests/peft.
"""
import json
import math
import os
import pathlib
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers as T
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent
MODELS, OUT = ROOT / "models", ROOT / "prompts"
TASK = dict(task_type="CAUSAL_LM")
CASES = {
    "prompt": ("llama", peft.PromptTuningConfig(num_virtual_tokens=3, **TASK)),
    "prompt-window": ("mistral", peft.PromptTuningConfig(num_virtual_tokens=5, **TASK)),
    "ptuning": ("qwen3", peft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=6,
                                                  **TASK)),
    "ptuning-lstm": ("llama", peft.PromptEncoderConfig(
        num_virtual_tokens=4, encoder_hidden_size=5, encoder_num_layers=2,
        encoder_reparameterization_type="LSTM", **TASK)),
    "prefix": ("qwen3", peft.PrefixTuningConfig(num_virtual_tokens=3, **TASK)),
    "prefix-window": ("mistral", peft.PrefixTuningConfig(num_virtual_tokens=4, **TASK)),
    "prefix-long": ("longrope", peft.PrefixTuningConfig(num_virtual_tokens=5, **TASK)),
    "prefix-mlp": ("qwen2", peft.PrefixTuningConfig(num_virtual_tokens=3, prefix_projection=True,
                                                    encoder_hidden_size=6, **TASK)),
}


def load(name):
    """A model, or a variant of llama's config."""
    path = MODELS / name
    work = OUT / "work"
    if not path.exists():
        shutil.copytree(MODELS / "llama", work)
        shutil.copy(MODELS / "variants" / f"{name}.json", work / "config.json")
        path = work
    model = T.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32,
                                                   attn_implementation="eager").eval()
    shutil.rmtree(work, ignore_errors=True)
    model.config._name_or_path = model.name_or_path = f"golden/{name}"
    return model


def logits(model, ids):
    """Of the record alone: virtual tokens stand before it."""
    return model(input_ids=torch.tensor([ids])).logits[0].float()[-len(ids):]


def sums(model, rows):
    out = []
    for x in rows:
        y = torch.tensor(x["labels"][1:])
        keep = y != -100
        lg = logits(model, x["input_ids"])[:-1]
        out.append(torch.nn.functional.cross_entropy(lg[keep], y[keep], reduction="sum"))
    return out


def targets(rows):
    return sum(t != -100 for x in rows for t in x["labels"][1:])


def nll(model, rows):
    with torch.no_grad():
        return [s.item() for s in sums(model.eval(), rows)]


def our_name(name, encoder):
    name = name.replace("prompt_encoder.default.", "prompt_encoder.")
    return name if encoder else "prompt_embeddings"


def one_case(name, seed, rows):
    torch.manual_seed(seed)
    base, config = CASES[name]
    model = peft.get_peft_model(load(base), config)
    trains = {n: p for n, p in model.named_parameters() if p.requires_grad}
    encoder = len(trains) > 1
    with torch.no_grad():
        for p in trains.values():
            p.copy_(torch.randn(p.shape) * (0.3 if p.dim() == 1 else 0.8 / math.sqrt(p.shape[-1]) ** 0.5))
    out = OUT / name
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    if encoder:
        save_file({our_name(n, True): p.detach().contiguous() for n, p in trains.items()},
                  out / "graft_state.safetensors")
    e = {"base": base, "nll": nll(model, rows), "generation": generation(model, rows)}
    model.train()
    loss = sum(sums(model, rows)) / targets(rows)
    loss.backward()
    e["loss"] = loss.item()
    save_file({our_name(n, encoder): p.grad.contiguous() for n, p in trains.items()},
              out / "grads.safetensors")
    opt = torch.optim.AdamW(trains.values(), lr=1e-2, weight_decay=0.01)
    e["steps"] = []
    for i in range(20):
        batch = [rows[(4 * i + k) % len(rows)] for k in range(4)]
        opt.zero_grad()
        loss = sum(sums(model, batch)) / targets(batch)
        loss.backward()
        e["steps"].append(loss.item())
        opt.step()
    e["after"] = nll(model, rows)
    assert sum(e["after"]) < sum(e["nll"]) - 1, "the reference did not learn"
    return e


def generation(model, rows):
    out = []
    for i, k in enumerate((1, 5, 12)):
        p = rows[i]["input_ids"][:k]
        x = torch.tensor([p])
        with torch.no_grad():
            y = model.generate(input_ids=x, attention_mask=torch.ones_like(x), max_new_tokens=16,
                               do_sample=False, pad_token_id=0)[0].tolist()
        out.append({"prompt": p, "ids": y[len(p):] if y[:len(p)] == p else y})
    return out


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    rows = [json.loads(x) for x in (MODELS / "data.jsonl").read_text().splitlines()]
    expected = {n: one_case(n, 60 + i, rows) for i, n in enumerate(CASES)}
    (OUT / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


main()
