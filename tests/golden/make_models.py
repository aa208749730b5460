#!/usr/bin/env python3
"""Golden models, adapters and numbers: writes the folder models/ beside this script.

needs: torch, transformers 5, peft, bitsandbytes, gguf, safetensors, numpy
What is made: tiny random checkpoints as transformers saves them, adapters as PEFT saves them, GGUF
files, and in expected.json what transformers and PEFT compute from them in f32. NF4 weights are
decoded by the rule table[code] * absmax written out here, because decoders of the reference differ
between machines; the nested absmax takes the nearest entry of the 8-bit map for the same reason.
Read by tests/models, tests/peft and tests/train.
"""
import json
import math
import os
import pathlib
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"
import bitsandbytes.functional as F
import gguf
import numpy as np
import peft
import torch
import transformers as T
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent / "models"
VOCAB, LAYERS = 61, 2
SMALL = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
             bos_token_id=1, eos_token_id=2, pad_token_id=None)
expected = {}


def rope(kind, **more):
    return {"rope_type": kind, "rope_theta": 500.0, **more}


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
YARN = dict(factor=4.0, original_max_position_embeddings=16, beta_fast=1.0, beta_slow=0.25)
LONG = dict(short_factor=[1.0, 1.1, 1.25, 1.5], long_factor=[1.0, 2.0, 3.5, 6.0], factor=4.0,
            original_max_position_embeddings=16)

# name: config, type on disk, bytes a shard may have
MODELS = {
    "llama": (T.LlamaConfig(**SMALL, tie_word_embeddings=False, rope_parameters=LLAMA3,
                            rms_norm_eps=1e-5), torch.bfloat16, None),
    "llama-tied": (T.LlamaConfig(**SMALL, tie_word_embeddings=True, attention_bias=True,
                                 mlp_bias=True), torch.float16, None),
    "mistral": (T.MistralConfig(**SMALL, tie_word_embeddings=False, sliding_window=7),
                torch.bfloat16, 20000),
    "qwen2": (T.Qwen2Config(**SMALL, tie_word_embeddings=True, use_sliding_window=True,
                            sliding_window=5, max_window_layers=1), torch.bfloat16, None),
    "qwen3": (T.Qwen3Config(**{**SMALL, "hidden_size": 40, "num_attention_heads": 2,
                               "num_key_value_heads": 1}, head_dim=24, attention_bias=True,
                            tie_word_embeddings=False), torch.bfloat16, None),
}

# Other configs over the weights of "llama", as files say them: new keys, and those of transformers 4.
VARIANTS = {
    "plain": dict(rope_parameters=rope("default")),
    "linear": dict(rope_parameters=rope("linear", factor=4.0)),
    "dynamic": dict(rope_parameters=rope("dynamic", factor=4.0), max_position_embeddings=16),
    "yarn": dict(rope_parameters=rope("yarn", **YARN)),
    "yarn-attention": dict(rope_parameters=rope("yarn", **YARN, attention_factor=0.8)),
    "yarn-mscale": dict(rope_parameters=rope("yarn", **YARN, mscale=0.7, mscale_all_dim=1.3)),
    "yarn-untruncated": dict(rope_parameters=rope("yarn", **YARN, truncate=False)),
    "longrope": dict(rope_parameters=rope("longrope", **LONG)),
    "longrope-attention": dict(rope_parameters=rope("longrope", **LONG, attention_factor=1.1)),
    "partial": dict(rope_parameters=rope("default", partial_rotary_factor=0.5)),
    "old-plain": dict(rope_theta=500.0, rope_scaling=None, torch_dtype="bfloat16"),
    "old-linear": dict(rope_theta=500.0, rope_scaling={"type": "linear", "factor": 4.0}),
    "old-llama3": dict(rope_theta=500.0, rope_scaling={
        k: v for k, v in LLAMA3.items() if k != "rope_theta"}),
    "old-yarn": dict(rope_theta=500.0, rope_scaling={"type": "yarn", **YARN}),
    "gelu": dict(hidden_act="gelu"),
}


def randomise(model, seed):
    """Nothing keeps a start value that hides a mistake; gains are near those of trained models."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            x = torch.randn(p.shape, generator=g)
            if p.dim() == 1:
                p.copy_(x * 0.15 + (0 if name.endswith("bias") else 1))
            else:
                p.copy_(x * 1.6 / math.sqrt(p.shape[-1]))


def load(path, **more):
    return T.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32,
                                                  attn_implementation="eager", **more).eval()


def make_model(name, seed):
    config, dtype, shard = MODELS[name]
    model = T.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    randomise(model, seed)
    model = model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(HERE / name, **({"max_shard_size": shard} if shard else {}))


def make_variant(name):
    """Returns the model of the changed config, in a folder that is thrown away."""
    config = json.loads((HERE / "llama" / "config.json").read_text())
    if "rope_scaling" in VARIANTS[name]:
        del config["rope_parameters"], config["dtype"]
        config["torch_dtype"] = "bfloat16"
    config.update(VARIANTS[name])
    (HERE / "variants").mkdir(exist_ok=True)
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (HERE / "variants" / f"{name}.json").write_text(text)
    work = HERE / "work"
    shutil.copytree(HERE / "llama", work)
    (work / "config.json").write_text(text)
    model = load(work)
    shutil.rmtree(work)
    return model


def make_data(n=12, longest=37):
    g = torch.Generator().manual_seed(7)
    pick = lambda a, b: int(torch.randint(a, b, (1,), generator=g))
    rows = []
    for i in range(n):
        k = 12 if i == 1 else pick(4, longest)  # record 1 is shorter than all original lengths
        ids = [pick(3, VOCAB) for _ in range(k)]
        cut = pick(0, k - 1) if i % 3 else 0
        rows.append({"input_ids": ids, "labels": [-100] * cut + ids[cut:]})
    text = "".join(json.dumps(x) + "\n" for x in rows)
    (HERE / "data.jsonl").write_text(text)
    return rows


def logits(model, ids):
    with torch.no_grad():
        if model.config.rope_parameters["rope_type"] == "dynamic":
            model(input_ids=torch.tensor([[3]]))  # else the base stays grown by longer records
        return model(input_ids=torch.tensor([ids])).logits[0].float()


def nll(model, rows):
    out = []
    for x in rows:
        y = torch.tensor(x["labels"][1:])
        keep = y != -100
        lg = logits(model, x["input_ids"])[:-1]
        out.append(torch.nn.functional.cross_entropy(lg[keep].double(), y[keep],
                                                     reduction="sum").item())
    return out


def facts(model, rows):
    return {"nll": nll(model, rows), "logits": logits(model, rows[0]["input_ids"])[-1].tolist()}


# ---- NF4, double-quantised

def nf4(w):
    """Codes (bitsandbytes), 8-bit absmax, its scale, the offset, and the decoded weight."""
    q, state = F.quantize_4bit(w.contiguous(), blocksize=64, quant_type="nf4")
    absmax = state.absmax.float()
    offset = np.float32(absmax.double().mean().item())
    d = absmax - offset
    table = F.create_dynamic_map()
    pad = torch.nn.functional.pad(d, (0, -len(d) % 256)).reshape(-1, 256)
    absmax2 = pad.abs().amax(1)
    codes8 = torch.bucketize((pad / absmax2[:, None]).reshape(-1), (table[1:] + table[:-1]) / 2)
    codes8 = codes8[:len(d)].to(torch.uint8)
    back = table[codes8.long()] * absmax2.repeat_interleave(256)[:len(d)] + offset
    flat = q.reshape(-1).long()
    codes = torch.stack([flat >> 4, flat & 15], 1).reshape(-1)
    lut = F.get_4bit_type("nf4", device="cpu").float()
    out = (lut[codes] * back.repeat_interleave(64)[:len(codes)]).reshape(w.shape)
    return {"codes": q.reshape(-1), "absmax8": codes8, "absmax2": absmax2,
            "offset": torch.tensor([offset])}, out


def quantise(model):
    parts = {}
    for name, m in model.named_modules():
        if isinstance(m, torch.nn.Linear) and name != "lm_head":
            p, w = nf4(m.weight.data)
            m.weight.data = w
            parts.update({f"{name}.{k}": v for k, v in p.items()})
    return parts


# ---- adapters. PEFT writes the keys of patterns sorted, which makes their order in the file.

LORA = dict(task_type="CAUSAL_LM", bias="none")
SOME = ["q_proj", "v_proj", "down_proj"]
ADAPTERS = {
    "lora": dict(r=3, lora_alpha=20, target_modules=SOME),
    "all": dict(r=2, lora_alpha=4, target_modules="all-linear"),
    "rslora": dict(r=6, lora_alpha=9, use_rslora=True, target_modules=["k_proj", "gate_proj"]),
    "patterns": dict(r=2, lora_alpha=8, target_modules=["q_proj", "o_proj", "up_proj"],
                     rank_pattern={r"layers\.0\..*": 5, "q_proj": 3, "mlp.up_proj": 1},
                     alpha_pattern={r"layers\.1\.self_attn\.[qo]_proj": 2, "q_proj": 21}),
    "regex": dict(r=4, lora_alpha=8, target_modules=r".*\.1\..*(q_proj|up_proj)"),
    "layers": dict(r=2, lora_alpha=6, target_modules=["k_proj", "down_proj"],
                   layers_to_transform=[1], layers_pattern="layers"),
    "exclude": dict(r=2, lora_alpha=6, target_modules="all-linear",
                    exclude_modules=["mlp.up_proj", "model.layers.0.self_attn.q_proj"]),
    "bias": dict(r=2, lora_alpha=5, target_modules=SOME, lora_bias=True),
    "head": dict(r=2, lora_alpha=4, target_modules=["lm_head", "o_proj"]),
    # over llama-tied, which has biases to merge into
    "tied-bias": dict(r=3, lora_alpha=7, target_modules=["k_proj", "o_proj", "up_proj"],
                      lora_bias=True, use_rslora=True),
}


def make_adapter(base, name, seed, noise=0.25):
    torch.manual_seed(seed)
    config = peft.LoraConfig(**ADAPTERS[name], **LORA)
    model = peft.get_peft_model(base, config)
    if isinstance(config.target_modules, set):  # written as a list in an order of its own
        config.target_modules = sorted(config.target_modules)
    if isinstance(config.exclude_modules, set):
        config.exclude_modules = sorted(config.exclude_modules)
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "lora_B" in n:  # its bias too
                p.copy_(torch.randn(p.shape) * noise)
    return model


def save_adapter(model, out):
    model.save_pretrained(out, save_embedding_layers=False)
    (pathlib.Path(out) / "README.md").unlink(missing_ok=True)


def trainables(model):
    strip = lambda n: n.replace(".default", "")
    return {strip(n): p for n, p in model.named_parameters() if p.requires_grad}


def loss_of(model, rows):
    total, count = 0.0, 0
    for x in rows:
        y = torch.tensor(x["labels"][1:])
        keep = y != -100
        lg = model(input_ids=torch.tensor([x["input_ids"]])).logits[0].float()[:-1]
        total = total + torch.nn.functional.cross_entropy(lg[keep], y[keep], reduction="sum")
        count += int(keep.sum())
    return total / count


def llama(name="llama"):
    model = load(HERE / name)
    model.config._name_or_path = model.name_or_path = f"golden/{name}"
    return model


def one_adapter(name, seed, rows):
    base = llama("llama-tied" if name.startswith("tied") else "llama")
    model = make_adapter(base, name, seed)
    out = HERE / "adapters" / name
    save_adapter(model, out)
    e = facts(model.eval(), rows)
    loss = loss_of(model, rows)
    loss.backward()
    e["loss"] = loss.item()
    save_file({n: p.grad.contiguous() for n, p in trainables(model).items()},
              out / "grads.safetensors")
    if name != "bias":
        merged = model.merge_and_unload()
        names = {n[len("base_model.model."):].rsplit(".lora_", 1)[0] + ".weight"
                 for n in load_file(out / "adapter_model.safetensors")}
        weights = {n: p.data.contiguous() for n, p in merged.named_parameters() if n in names}
        if name in ("patterns", "rslora"):
            save_file(weights, out / "merged.safetensors")
        e["merged"] = nll(merged, rows)
        assert max(abs(a / b - 1) for a, b in zip(e["merged"], e["nll"])) < 1e-4
    return e


def training(rows, kind):
    """50 AdamW steps of 4 records in file order, no clipping, constant rate."""
    base = llama()
    if kind == "nf4":
        quantise(base)
    model = make_adapter(base, "lora", 40, noise=0.1).train()
    out = HERE / "training"
    save_adapter(model, out / "start")
    opt = torch.optim.AdamW(trainables(model).values(), lr=3e-3, weight_decay=0.01)
    losses, norms = [], []
    for i in range(50):
        opt.zero_grad()
        loss = loss_of(model, [rows[(4 * i + k) % len(rows)] for k in range(4)])
        loss.backward()
        losses.append(loss.item())
        norms.append(math.sqrt(sum(p.grad.double().pow(2).sum().item()
                                   for p in trainables(model).values())))
        opt.step()
    assert losses[0] - losses[48] > 0.3, "the reference did not learn"
    save_file({n: p.data.contiguous() for n, p in trainables(model).items()},
              out / f"{kind}.safetensors")
    return {"loss": losses, "grad_norm": norms, "nll": nll(model.eval(), rows)}


def generation(rows):
    model = make_adapter(llama(), "lora", 30).eval()  # the adapter "lora" again: the same seed
    prompts = [rows[i]["input_ids"][:k] for i, k in enumerate((1, 5, 12, 2))]
    out = []
    for p in prompts:
        x = torch.tensor([p])
        ask = dict(input_ids=x, attention_mask=torch.ones_like(x), max_new_tokens=24,
                   do_sample=False, pad_token_id=0)
        with torch.no_grad():
            adapted = model.generate(**ask)[0][len(p):].tolist()
            with model.disable_adapter():
                alone = model.generate(**ask)[0][len(p):].tolist()
        assert adapted != alone
        out.append({"prompt": p, "base": alone, "lora": adapted})
    return out


# ---- GGUF

def interleave(w, heads):
    """llama.cpp's row order of q and k: halves of a head become neighbours."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
              "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
TYPE = gguf.GGMLQuantizationType
BLOCKS = {"attn_q": TYPE.Q8_0, "attn_k": TYPE.Q4_0, "attn_v": TYPE.Q5_1, "attn_output": TYPE.Q4_1,
          "ffn_gate": TYPE.Q5_0, "ffn_up": TYPE.Q8_0, "ffn_down": TYPE.F16,
          "token_embd": TYPE.Q8_0, "output": TYPE.BF16}


def gguf_name(name):
    if name.startswith("model.layers."):
        _, _, layer, rest = name.split(".", 3)
        return f"blk.{layer}.{GGUF_NAMES[rest[:-len('.weight')]]}"
    return {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm",
            "lm_head.weight": "output"}[name]


def llama3_divisors(dim, p):
    wave = 2 * math.pi * p["rope_theta"] ** (torch.arange(0, dim, 2).float() / dim)
    low = p["original_max_position_embeddings"] / p["low_freq_factor"]
    high = p["original_max_position_embeddings"] / p["high_freq_factor"]
    s = (p["original_max_position_embeddings"] / wave - p["low_freq_factor"]) / (
        p["high_freq_factor"] - p["low_freq_factor"])
    mid = 1 / ((1 - s) / p["factor"] + s)
    out = torch.where(wave > low, torch.full_like(wave, p["factor"]), mid)
    return torch.where(wave < high, torch.ones_like(wave), out).numpy()


def make_gguf(path, model, types):
    """Writes `model` and leaves in it the values that the file's blocks decode to."""
    c = model.config
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("golden llama")
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_rope_dimension_count(c.head_dim)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_rope_freq_base(c.rope_parameters["rope_theta"])
    w.add_tokenizer_model("llama")
    w.add_token_list(["<unk>", "<s>", "</s>", "\u2581"]
                     + [chr(97 + i % 26) * (1 + i // 26) for i in range(VOCAB - 4)])
    w.add_token_scores([float(-i) for i in range(VOCAB)])
    w.add_token_types([2, 3, 3] + [1] * (VOCAB - 3))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_tensor("rope_freqs.weight", llama3_divisors(c.head_dim, c.rope_parameters))
    for name, p in model.named_parameters():
        to = gguf_name(name)
        kind = to.rsplit(".", 1)[-1]
        heads = {"attn_q": c.num_attention_heads, "attn_k": c.num_key_value_heads}.get(kind)
        x = p.data.numpy()
        stored = np.ascontiguousarray(interleave(x, heads) if heads else x)
        t = types.get(kind, TYPE.F32)
        raw = gguf.quants.quantize(stored, t)
        back = gguf.quants.dequantize(raw, t).reshape(stored.shape)
        if heads:  # interleaving with halves and pairs swapped undoes it
            n = x.shape[0] // heads
            back = back.reshape(heads, n // 2, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
        p.data = torch.from_numpy(np.array(back, np.float32))
        w.add_tensor(to + ".weight", raw, raw_dtype=t)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    rows = make_data()
    models = expected["models"] = {}
    for i, name in enumerate(MODELS):
        make_model(name, 100 + i)
        models[name] = facts(load(HERE / name), rows)
    expected["variants"] = {n: facts(make_variant(n), rows) for n in VARIANTS}
    model = llama()
    save_file(quantise(model), HERE / "nf4.safetensors")
    expected["nf4"] = facts(model, rows)
    expected["adapters"] = {n: one_adapter(n, 30 + i, rows) for i, n in enumerate(ADAPTERS)}
    expected["training"] = {k: training(rows, k) for k in ("f32", "nf4")}
    expected["generation"] = generation(rows)
    expected["gguf"] = {}
    for name, types in (("floats", {k: TYPE.BF16 for k in BLOCKS}), ("blocks", BLOCKS)):
        model = llama()
        make_gguf(HERE / f"{name}.gguf", model, types)
        expected["gguf"][name] = facts(model, rows)
    text = json.dumps(expected, indent=None, separators=(",", ":"))
    text = text.replace("},\"", "},\n\"")
    (HERE / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
