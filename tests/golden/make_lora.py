#!/usr/bin/env python3
"""Golden adapters of DoRA, IA3 and LoRA at embeddings: writes the folder lora/ beside this script.

needs: what make_models.py needs, and the models/ it wrote
What is made: adapters as PEFT saves them over the tiny models of models/, and in expected.json what
PEFT computes with them in f32: losses of each record before and after merging, gradients, and fifty
steps of AdamW over the floats and over NF4. In starts.json the same steps from PEFT's own start of
PiSSA and OLoRA over floats; over NF4, and of LoftQ, whose start PEFT makes on a GPU only, from the
formulas written out here.
Read by tests/train.
"""
import json
import math
import pathlib
import shutil

import peft
import torch
from safetensors.torch import load_file, save_file

import make_models as base

HERE = pathlib.Path(__file__).resolve().parent / "lora"
CAUSAL = dict(task_type="CAUSAL_LM")

# name: base, config, steps of training over which weights
ADAPTERS = {
    "dora": ("llama", peft.LoraConfig(r=3, lora_alpha=20, use_dora=True,
                                      target_modules=["q_proj", "v_proj", "down_proj"], **CAUSAL),
             ("f32", "nf4")),
    "dora-patterns": ("llama-tied",
                      peft.LoraConfig(r=2, lora_alpha=8, use_dora=True, use_rslora=True,
                                      target_modules=["k_proj", "o_proj", "up_proj"],
                                      rank_pattern={r"layers\.0\..*": 5, "up_proj": 1},
                                      alpha_pattern={r"self_attn\.k_proj": 21}, **CAUSAL), ()),
    "dora-embed": ("llama-tied", peft.LoraConfig(r=3, lora_alpha=6, use_dora=True,
                                                 target_modules=["embed_tokens", "lm_head",
                                                                 "k_proj"], **CAUSAL), ()),
    "ia3": ("llama", peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"],
                                    feedforward_modules=["down_proj"], **CAUSAL), ("f32", "nf4")),
    "ia3-bias": ("llama-tied", peft.IA3Config(target_modules=r".*(q_proj|up_proj|down_proj)",
                                              feedforward_modules=r".*mlp\.(up|down)_proj",
                                              **CAUSAL), ()),
    "embed": ("llama", peft.LoraConfig(r=4, lora_alpha=6,
                                       target_modules=["embed_tokens", "lm_head", "q_proj"],
                                       **CAUSAL), ("f32",)),
    "embed-tied": ("llama-tied", peft.LoraConfig(r=3, lora_alpha=6, use_rslora=True,
                                                 target_modules=["embed_tokens", "v_proj"],
                                                 **CAUSAL), ()),
    "orthogonal": ("llama", peft.LoraConfig(r=4, lora_alpha=8, init_lora_weights="orthogonal",
                                            target_modules=["q_proj", "up_proj"], **CAUSAL), ()),
}


def as_list(config):
    """Sets are written as lists in an order of their own."""
    for key in ("target_modules", "exclude_modules", "feedforward_modules"):
        if isinstance(getattr(config, key, None), set):
            setattr(config, key, sorted(getattr(config, key)))


def make(name, seed, noise, quantised=False):
    which, config, _ = ADAPTERS[name]
    torch.manual_seed(seed)
    model = base.llama(which)
    if quantised:
        base.quantise(model)
    model = peft.get_peft_model(model, json_copy(config))
    as_list(model.peft_config["default"])
    with torch.no_grad():
        for n, p in model.named_parameters():
            if p.requires_grad:
                size = noise * (0.3 if p.dim() == 1 or "ia3" in n else 1 / math.sqrt(p.shape[-1]))
                p.add_(torch.randn(p.shape) * size)
    return model


def json_copy(config):
    more = {k: v for k, v in config.to_dict().items() if k != "peft_type"}
    return type(config)(**{k: v for k, v in more.items() if k in type(config).__dataclass_fields__})


def save(model, out):
    model.save_pretrained(out)  # with the embedding beside its adapter, as PEFT does by itself
    (pathlib.Path(out) / "README.md").unlink(missing_ok=True)


def one(name, seed, rows):
    model = make(name, seed, 1.0)
    out = HERE / name
    save(model, out)
    e = {"base": ADAPTERS[name][0], **base.facts(model.eval(), rows)}
    loss = base.loss_of(model, rows)
    loss.backward()
    e["loss"] = loss.item()
    save_file({n.replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector"):
               p.grad.contiguous() for n, p in base.trainables(model).items()},
              out / "grads.safetensors")
    merged = model.merge_and_unload()
    if "embed" not in name:  # PEFT changes a tied head along with the embedding
        e["merged"] = base.nll(merged, rows)
        assert max(abs(a / b - 1) for a, b in zip(e["merged"], e["nll"])) < 1e-4
    return e


def training(name, seed, rows, kind):
    """50 AdamW steps of 4 records in file order, no clipping, constant rate."""
    model = make(name, seed, 0.3, kind == "nf4").train()
    out = HERE / name / f"start-{kind}"
    save(model, out)
    params = base.trainables(model)
    opt = torch.optim.AdamW(params.values(), lr=3e-3, weight_decay=0.01)
    losses, norms = [], []
    for i in range(50):
        opt.zero_grad()
        loss = base.loss_of(model, [rows[(4 * i + k) % len(rows)] for k in range(4)])
        loss.backward()
        losses.append(loss.item())
        norms.append(math.sqrt(sum(p.grad.double().pow(2).sum().item() for p in params.values())))
        opt.step()
    assert losses[48] < losses[0] - 0.02, "the reference did not learn"
    return {"loss": losses, "grad_norm": norms, "nll": base.nll(model.eval(), rows)}


# ---- starts taken out of the base

START = dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], **CAUSAL)


def steps(model, rows):
    opt = torch.optim.AdamW(base.trainables(model).values(), lr=3e-3, weight_decay=0.01)
    losses = []
    for i in range(50):
        opt.zero_grad()
        loss = base.loss_of(model, [rows[(4 * i + k) % len(rows)] for k in range(4)])
        loss.backward()
        losses.append(loss.item())
        opt.step()
    return {"loss": losses, "nll": base.nll(model.eval(), rows)}


def triples(w, r, scale):
    u, s, vt = torch.linalg.svd(w, full_matrices=False)
    root = torch.sqrt(s[:r] / scale)
    return u[:, :r] * root, root[:, None] * vt[:r]


def start_over_nf4(kind, rows, rounds=1):
    """The residual is quantised; the linears that have no adapter are too."""
    model = peft.get_peft_model(base.llama(), peft.LoraConfig(**START))
    for name, m in model.named_modules():
        if name.endswith("lm_head"):
            continue
        if hasattr(m, "lora_A"):
            w, scale = m.base_layer.weight.data.clone(), m.scaling["default"]
            if kind == "pissa":
                b, a = triples(w, 4, scale)
                m.base_layer.weight.data = base.nf4(w - scale * b @ a)[1]
            else:
                left = w
                for _ in range(rounds):
                    q = base.nf4(left)[1]
                    b, a = triples(w - q, 4, scale)
                    left = w - scale * b @ a
                m.base_layer.weight.data = q
            m.lora_A["default"].weight.data = a.contiguous()
            m.lora_B["default"].weight.data = b.contiguous()
        elif isinstance(m, torch.nn.Linear) and ".lora_" not in name and "base_layer" not in name:
            m.weight.data = base.nf4(m.weight.data)[1]
    return steps(model.train(), rows)


def starts(rows):
    out = {}
    for kind in ("pissa", "olora"):
        config = peft.LoraConfig(init_lora_weights=kind, **START)
        out[kind] = steps(peft.get_peft_model(base.llama(), config).train(), rows)
    out["pissa nf4"] = start_over_nf4("pissa", rows)
    out["loftq nf4"] = start_over_nf4("loftq", rows, 3)
    return out


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    rows = [json.loads(x) for x in (base.HERE / "data.jsonl").read_text().splitlines()]
    expected = {}
    for i, name in enumerate(ADAPTERS):
        expected[name] = one(name, 70 + i, rows)
        expected[name]["training"] = {k: training(name, 90 + i, rows, k)
                                      for k in ADAPTERS[name][2]}
    text = json.dumps(expected, indent=None, separators=(",", ":")).replace("},\"", "},\n\"")
    (HERE / "expected.json").write_text(text + "\n")
    text = json.dumps(starts(rows), indent=None, separators=(",", ":")).replace("},\"", "},\n\"")
    (HERE / "starts.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
