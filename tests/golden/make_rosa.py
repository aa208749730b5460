#!/usr/bin/env python3
"""Golden runs of RoSA: writes the folder rosa/ beside this script, over models/llama and data.jsonl.

needs: what make_models.py needs, after it has run
PEFT has no RoSA, so what the paper and its authors' fork of PEFT compute is written out here: the
sum y = W x + s B A x + S x, the gradient dY^T X of each weight from hooks, gathered over passes (its
square, or itself), the int(d * out * in) largest of each matrix as the places of S, and two groups
of AdamW, of which the values' begins with the mask. Read by tests/peft and tests/train.
"""
import json
import math
import pathlib
import re
import shutil

import torch
from safetensors.torch import save_file

from make_models import HERE as MODELS, llama, loss_of, nll, quantise

HERE = pathlib.Path(__file__).resolve().parent / "rosa"
TARGETS = ["down_proj", "k_proj", "q_proj", "up_proj"]
LR, RATIO, DECAY, STEPS, PASS = 2e-3, 1.5, 0.01, 50, 2  # PASS: records of one pass, two a step
PREFIX = "base_model.model."

RUNS = {
    "f32": dict(method="rosa", r=3, lora_alpha=20, d=0.05, schedule="wl5", spa_num_grads=3),
    "nf4": dict(method="rosa", r=3, lora_alpha=20, d=0.05, schedule="wl5", spa_num_grads=3),
    "mean": dict(method="rosa", r=2, lora_alpha=4, d=0.02, schedule="df", spa_num_grads=2,
                 grad_acc_mode="mean", use_rslora=True),
    "spa": dict(method="spa", d=0.04, density_pattern={r"layers\.1\..*down_proj": 0, "q_proj": 0.1}),
    "spa_only": dict(method="rosa", r=2, lora_alpha=4, d=0.03, schedule="spa_only"),
}


class Rosa(torch.nn.Module):
    """One linear with its low-rank and its sparse change; S is dense here, zero outside the mask."""

    def __init__(self, base, c, d, noise):
        super().__init__()
        out, inp = base.weight.shape
        self.base, self.r = base, c.get("r", 0)
        self.nnz = int(d * out * inp)
        if self.r:
            root = math.sqrt(self.r) if c.get("use_rslora") else self.r
            self.scale = c["lora_alpha"] / root
            self.A = torch.nn.Parameter((torch.rand(self.r, inp) * 2 - 1) / math.sqrt(inp))
            self.B = torch.nn.Parameter(torch.randn(out, self.r) * noise)
        self.values = torch.nn.Parameter(torch.zeros(self.nnz))
        self.mask = self.gathered = None

    def forward(self, x):
        y = self.base(x)
        if self.r:
            y = y + self.scale * ((x @ self.A.T) @ self.B.T)
        if self.mask is not None:
            s = torch.zeros_like(self.base.weight).masked_scatter(self.mask, self.values)
            y = y + x @ s.T
        if self.gathered is not None:
            y.register_hook(lambda dy: self.see(dy, x.detach()))
        return y

    def see(self, dy, x):
        """A pass takes its records one by one: their gradients are one gradient."""
        self.one_pass += dy.reshape(-1, dy.shape[-1]).T @ x.reshape(-1, x.shape[-1])

    def gather(self, squared):
        self.gathered += self.one_pass**2 if squared else self.one_pass

    def choose(self):
        flat = self.gathered.abs().flatten()
        if self.nnz:
            top = flat.sort(descending=True).values
            assert top[self.nnz - 1] > top[self.nnz] * (1 + 2e-5), "the choice hangs on rounding"
        self.mask = torch.zeros_like(flat, dtype=torch.bool)
        self.mask[flat.topk(self.nnz).indices] = True
        self.mask = self.mask.reshape(self.gathered.shape)
        self.gathered = None

    def tensors(self):
        out = {}
        if self.r:
            out.update({"rosa_A.weight": self.A.data, "rosa_B.weight": self.B.data})
        if self.nnz:
            rows = torch.zeros(self.base.weight.shape[0], dtype=torch.int64)
            cols = torch.zeros(self.nnz, dtype=torch.int64)
            if self.mask is not None:
                rows, cols = self.mask.sum(1), self.mask.nonzero()[:, 1]
            offs = torch.cat([torch.zeros(1, dtype=torch.int64), rows.cumsum(0)])
            out.update({"rosa_spa.values": self.values.data, "rosa_spa.row_offs": offs.int(),
                        "rosa_spa.col_idx": cols.int()})
        return {k: v.contiguous() for k, v in out.items()}


def density(c, name):
    for pattern, d in c.get("density_pattern", {}).items():
        if re.fullmatch(r"(?:.*\.)?(?:" + pattern + ")", name):
            return d
    return c["d"]


def adapt(model, c, seed, noise):
    torch.manual_seed(seed)
    sites = {}
    for p in model.parameters():
        p.requires_grad = False
    # the input of the first layer must carry a gradient, or backward hooks do not see it
    model.get_input_embeddings().register_forward_hook(lambda m, i, o: o.requires_grad_())
    for name, m in list(model.named_modules()):
        if isinstance(m, torch.nn.Linear) and name.rsplit(".", 1)[-1] in TARGETS:
            parent, child = name.rsplit(".", 1)
            sites[name] = Rosa(m, c, density(c, name), noise)
            setattr(model.get_submodule(parent), child, sites[name])
    return sites


def save(sites, c, out):
    out.mkdir(parents=True)
    save_file({f"{PREFIX}{n}.{k}": v for n, s in sites.items() for k, v in s.tensors().items()},
              out / "adapter_model.safetensors")
    config = {k: v for k, v in c.items() if k != "method"}
    config.update(peft_type=c["method"].upper(), task_type="CAUSAL_LM", target_modules=TARGETS)
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_as_the_fork(sites, c, out):
    """Its layout: bf16 values, 16-bit columns, an order of the rows, and the transpose."""
    save(sites, c, out)
    tensors = {}
    for n, s in sites.items():
        for k, v in s.tensors().items():
            kind = {"col_idx": torch.int16, "row_offs": torch.int32}.get(k.rsplit(".", 1)[-1],
                                                                       torch.bfloat16)
            tensors[f"{PREFIX}{n}.{k}"] = v.to(kind)
        counts = torch.diff(s.tensors()["rosa_spa.row_offs"])
        tensors[f"{PREFIX}{n}.rosa_spa.row_idx"] = torch.argsort(-counts).to(torch.int16)
        tensors[f"{PREFIX}{n}.rosa_spa.tr_perm"] = torch.arange(s.nnz, dtype=torch.int32)
    save_file(tensors, out / "adapter_model.safetensors")


def schedule(c):
    """Steps of the low rank alone; None: the low rank never trains."""
    word = c.get("schedule", "spa_only")
    return None if word == "spa_only" else 0 if word == "df" else int(word[2:])


def gather(model, sites, c, rows, first):
    for s in sites.values():
        s.gathered = torch.zeros_like(s.base.weight)
    for k in range(c.get("spa_num_grads", 1)):
        for s in sites.values():
            s.one_pass = torch.zeros_like(s.base.weight)
        at = [rows[(first + PASS * k + i) % len(rows)] for i in range(PASS)]
        loss_of(model, at).backward()
        for s in sites.values():
            s.gather(c.get("grad_acc_mode", "mean_squared") == "mean_squared")
    for s in sites.values():
        s.choose()


def grads(model, sites, rows, out):
    """In double: what is compared with them is then off by its own rounding alone."""
    model.double().zero_grad(set_to_none=True)
    loss = loss_of(model, rows)
    loss.backward()
    found = {}
    for n, s in sites.items():
        for k, p in (("rosa_A.weight", "A"), ("rosa_B.weight", "B"), ("rosa_spa.values", "values")):
            p = getattr(s, p, None)
            if p is not None and p.numel():
                found[f"{PREFIX}{n}.{k}"] = p.grad.float().contiguous()
    save_file(found, out / "grads.safetensors")
    return loss.item()


def run(name, rows):
    c = RUNS[name]
    model = llama()
    if name == "nf4":
        quantise(model)
    sites = adapt(model, c, 7, 0.1)
    save(sites, c, HERE / "start" / name)
    warm = schedule(c)
    low = [p for s in sites.values() if s.r for p in (s.A, s.B)]
    values = [s.values for s in sites.values() if s.nnz]
    opt = torch.optim.AdamW([{"params": low, "lr": LR * RATIO}] if low and warm is not None else
                            [{"params": values}], lr=LR, weight_decay=DECAY)
    losses, norms = [], []
    for i in range(STEPS):
        first = 2 * PASS * i
        if i == (warm or 0):
            gather(model, sites, c, rows, first)
            if low and warm is not None:
                opt.add_param_group({"params": values})
        model.zero_grad(set_to_none=True)
        loss = loss_of(model, [rows[(first + k) % len(rows)] for k in range(2 * PASS)])
        loss.backward()
        losses.append(loss.item())
        trained = [p for g in opt.param_groups for p in g["params"]]
        norms.append(math.sqrt(sum(p.grad.double().pow(2).sum().item() for p in trained)))
        opt.step()
    assert losses[0] - losses[48] > 0.3, "the reference did not learn"
    save(sites, c, HERE / name)
    if name == "f32":
        save_as_the_fork(sites, c, HERE / "fork")
    found = {"loss": losses, "grad_norm": norms, "nll": nll(model, rows)}
    return {**found, "mean_loss": grads(model, sites, rows, HERE / name)}


def main():
    rows = [json.loads(x) for x in (MODELS / "data.jsonl").read_text().splitlines()]
    shutil.rmtree(HERE, ignore_errors=True)
    expected = {n: run(n, rows) for n in RUNS}
    text = json.dumps(expected, indent=None, separators=(",", ":")).replace("},\"", "},\n\"")
    (HERE / "expected.json").write_text(text + "\n")


main()
