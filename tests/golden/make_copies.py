#!/usr/bin/env python3
"""Golden copies of the base's own tensors: writes the folder copies/ beside this script.

needs: what make_models.py needs, and the models/ it wrote
What is made: adapters with modules_to_save, biases and trainable tokens, and LayerNorm tuning, as
PEFT saves them over the tiny models of models/; BitFit, the head and the last layers, which PEFT
lacks, as parameters of transformers' model set free to train, in files of Graft's form. In
expected.json what PyTorch computes with them in f32: losses of each record, before merging and
after, gradients, and fifty steps of AdamW over the floats and over NF4; and the same of every
parameter and of LP-FT, which start from the base.
Read by tests/train.
"""
import json
import math
import pathlib
import shutil

import peft
import torch
from safetensors.torch import load_file, save_file

import make_lora as lora
import make_models as base

HERE = pathlib.Path(__file__).resolve().parent / "copies"
CAUSAL = dict(task_type="CAUSAL_LM")
SOME = dict(r=3, lora_alpha=6, target_modules=["q_proj", "down_proj"], **CAUSAL)
ATTENTION = dict(r=2, lora_alpha=6, target_modules=["v_proj", "o_proj"], **CAUSAL)

# name: base, config, steps of training over which weights
ADAPTERS = {
    "save": ("llama", peft.LoraConfig(modules_to_save=["lm_head", "model.norm"], **SOME),
             ("f32", "nf4")),
    "save-tied": ("qwen2", peft.LoraConfig(modules_to_save=["lm_head"], **SOME), ("f32",)),
    "save-ensure": ("llama-tied", peft.LoraConfig(modules_to_save=["embed_tokens"],
                                                  ensure_weight_tying=True, **ATTENTION),
                    ("f32",)),
    "save-linear": ("llama-tied", peft.LoraConfig(modules_to_save=["0.self_attn.q_proj"],
                                                  **ATTENTION), ("nf4",)),
    "save-ia3": ("llama", peft.IA3Config(target_modules=["k_proj", "down_proj"],
                                         feedforward_modules=["down_proj"],
                                         modules_to_save=["embed_tokens"], **CAUSAL), ()),
    "bias-all": ("llama-tied", peft.LoraConfig(bias="all", **ATTENTION), ("f32", "nf4")),
    "bias-only": ("llama-tied", peft.LoraConfig(bias="lora_only", lora_bias=True, **ATTENTION),
                  ("nf4",)),
    "bias-dora": ("llama-tied", peft.LoraConfig(bias="lora_only", use_dora=True, **ATTENTION),
                  ("f32",)),
    "tokens": ("llama", peft.LoraConfig(trainable_token_indices={"embed_tokens": [7, 3, 60],
                                                                 "lm_head": [5, 9]}, **SOME),
               ("f32", "nf4")),
    "tokens-tied": ("llama-tied", peft.LoraConfig(trainable_token_indices=[40, 4], **ATTENTION),
                    ("f32", "nf4")),
    "layernorm": ("llama", peft.LNTuningConfig(
        target_modules=["input_layernorm", "post_attention_layernorm", "norm"], **CAUSAL),
        ("f32", "nf4")),
    "layernorm-save": ("qwen2", peft.LNTuningConfig(target_modules=["post_attention_layernorm"],
                                                    modules_to_save=["lm_head"], **CAUSAL), ()),
}

# name: base, keys of the file, which parameters
OWN = {
    "bitfit": ("qwen2", {"peft_type": "BITFIT"}, lambda n: n.endswith(".bias"), ("f32", "nf4")),
    "head": ("llama-tied", {"peft_type": "HEAD"}, lambda n: n.startswith("lm_head"),
             ("f32", "nf4")),
    "last": ("llama-tied", {"peft_type": "LAST_LAYERS", "last_layers": 1,
                            "modules_to_save": ["model.norm"]},
             lambda n: ".layers.1." in n or n == "model.norm.weight", ("f32", "nf4")),
}


def shake(model, noise):
    with torch.no_grad():
        for n, p in model.named_parameters():
            if p.requires_grad:
                size = noise * (0.3 if p.dim() == 1 else 1 / math.sqrt(p.shape[-1]))
                p.add_(torch.randn(p.shape) * size)


def make(name, seed, noise, quantised=False):
    which, config, _ = ADAPTERS[name]
    torch.manual_seed(seed)
    model = base.llama(which)
    if quantised:
        base.quantise(model)
    model = peft.get_peft_model(model, lora.json_copy(config))
    lora.as_list(model.peft_config["default"])
    shake(model, noise)
    return model


def untie(model):
    if model.config.tie_word_embeddings:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def make_own(name, seed, noise, quantised=False):
    which, _, trains, _ = OWN[name]
    torch.manual_seed(seed)
    model = base.llama(which)
    if quantised:
        base.quantise(model)
    if name == "head":
        untie(model)
    for n, p in model.named_parameters():
        p.requires_grad_(trains(n))
    shake(model, noise)
    return model


def on_disk(name, model):
    """Gradients and values of what trains, under the names of the files."""
    out = {}
    for n, p in base.trainables(model).items():
        if name in OWN:
            n = "base_model.model." + n
        elif ".token_adapter." in n and ".lm_head." in n and name == "tokens-tied":
            continue
        n = n.replace(".modules_to_save.", ".").replace(".lora_magnitude_vector.weight",
                                                        ".lora_magnitude_vector")
        out[n] = p
    return out


def save(name, model, out):
    if name in OWN:
        out.mkdir(parents=True)
        text = json.dumps(dict(OWN[name][1], task_type="CAUSAL_LM"), indent=2, sort_keys=True)
        (out / "adapter_config.json").write_text(text + "\n")
        save_file({n: p.detach().contiguous() for n, p in on_disk(name, model).items()},
                  out / "adapter_model.safetensors")
    else:
        base.save_adapter(model, out)


def build(name, *more):
    return make_own(name, *more) if name in OWN else make(name, *more)


def one(name, seed, rows):
    model = build(name, seed, 1.0)
    out = HERE / name
    save(name, model, out)
    e = {"base": (OWN if name in OWN else ADAPTERS)[name][0], **base.facts(model.eval(), rows)}
    loss = base.loss_of(model, rows)
    loss.backward()
    e["loss"] = loss.item()
    save_file({n: p.grad.contiguous() for n, p in on_disk(name, model).items()},
              out / "grads.safetensors")
    return e


def steps(model, rows, count, lr):
    """AdamW over 4 records a step in file order, no clipping, constant rate."""
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=lr, weight_decay=0.01)
    losses, norms = [], []
    for i in range(count):
        opt.zero_grad()
        loss = base.loss_of(model, [rows[(4 * i + k) % len(rows)] for k in range(4)])
        loss.backward()
        losses.append(loss.item())
        norms.append(math.sqrt(sum(p.grad.double().pow(2).sum().item() for p in params)))
        opt.step()
    assert losses[-1] < losses[0] - 0.01, "the reference did not learn"
    return {"loss": losses, "grad_norm": norms, "nll": base.nll(model.eval(), rows)}


def training(name, seed, rows, kind):
    model = build(name, seed, 0.3, kind == "nf4").train()
    save(name, model, HERE / name / f"start-{kind}")
    return steps(model, rows, 50, 3e-3)


def whole(which, rows):
    """Every parameter; a tied pair is one."""
    model = base.llama(which).train()
    return {"base": which, **steps(model, rows, 50, 1e-3)}


def probed(which, rows):
    """LP-FT: the head first."""
    model = base.llama(which).train()
    untie(model)
    for n, p in model.named_parameters():
        p.requires_grad_(n.startswith("lm_head"))
    first = steps(model, rows, 10, 4e-3)
    for p in model.parameters():
        p.requires_grad_(True)
    return {"base": which, "probe": first, **steps(model.train(), rows, 40, 1e-3)}


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    rows = [json.loads(x) for x in (base.HERE / "data.jsonl").read_text().splitlines()]
    expected = {}
    for i, name in enumerate([*ADAPTERS, *OWN]):
        expected[name] = one(name, 130 + i, rows)
        kinds = (OWN if name in OWN else ADAPTERS)[name][-1]
        expected[name]["training"] = {k: training(name, 160 + i, rows, k) for k in kinds}
    text = json.dumps(expected, indent=None, separators=(",", ":")).replace("},\"", "},\n\"")
    (HERE / "expected.json").write_text(text + "\n")
    out = {f"full {x}": whole(x, rows) for x in ("llama", "llama-tied")}
    out.update({f"lpft {x}": probed(x, rows) for x in ("llama", "qwen2")})
    text = json.dumps(out, indent=None, separators=(",", ":")).replace("},\"", "},\n\"")
    (HERE / "whole.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
