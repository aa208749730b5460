#!/usr/bin/env python3
"""Writes ops.h: what PyTorch and transformers make of small inputs, for tests/autograd/test_op_values.c.

Needs torch and transformers. Inputs come from a formula that the test computes too.
usage: make_ops.py > ops.h
"""
import torch
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama import modeling_llama as llama

torch.manual_seed(0)


def uniform(n, site, size=1.0):
    """Multiples of 1/1001 in [-size, size], the same in the test."""
    i = torch.arange(n, dtype=torch.int64)
    return ((i * 7919 + site * 104729) % 2003 - 1001).double().div(1001).mul(size).float()


def emit(name, *tensors):
    values = torch.cat([t.detach().float().reshape(-1) for t in tensors]).tolist()
    print(f"static const float golden_{name}[{len(values)}] = {{")
    for i in range(0, len(values), 6):
        print("    " + " ".join(f"{v:.9g}f," if "." in f"{v:.9g}" or "e" in f"{v:.9g}" else f"{v:.9g}.0f,"
                                for v in values[i:i + 6]))
    print("};\n")


def with_grads(name, out, inputs):
    proj = uniform(out.numel(), 9).reshape(out.shape)
    grads = torch.autograd.grad((out * proj).sum(), inputs)
    emit(name, out, *grads)


def leaf(shape, site, size=1.0):
    n = 1
    for d in shape:
        n *= d
    return uniform(n, site, size).reshape(shape).requires_grad_()


print("/* Made by make_ops.py with torch and transformers: outputs, then gradients of the inputs in")
print(" * order, of sum(out * proj). */")
print("/* clang-format off */")
x = leaf((3, 5), 1, 4.0)
with_grads("silu", F.silu(x), [x])
with_grads("gelu", F.gelu(x), [x])
with_grads("gelu_tanh", F.gelu(x, approximate="tanh"), [x])
with_grads("quick_gelu", x * torch.sigmoid(1.702 * x), [x])
norm = llama.LlamaRMSNorm(5, eps=1e-5)
norm.weight.data = uniform(5, 2)
with_grads("rmsnorm", norm(x), [x, norm.weight])
norm = GemmaRMSNorm(5, eps=1e-6)
norm.weight.data = uniform(5, 2)
with_grads("rmsnorm_plus_one", norm(x), [x, norm.weight])
w, b = leaf((5,), 2), leaf((5,), 3)
with_grads("layernorm", F.layer_norm(x, (5,), w, b, 1e-5), [x, w, b])
target = torch.tensor([4, -100, 1])
loss = F.cross_entropy(x, target, reduction="sum")
emit("cross_entropy", loss, torch.autograd.grad(loss, x)[0])
capped = 2.0 * torch.tanh(x / 2.0)
loss = F.cross_entropy(capped, target, reduction="sum")
emit("cross_entropy_capped", loss, torch.autograd.grad(loss, x)[0])

# two records of 4 and 3 tokens; 4 heads, 2 key heads of 6
q, k, v = leaf((7, 24), 4, 2.0), leaf((7, 12), 5, 2.0), leaf((7, 12), 6, 2.0)
parts = []
for first, last in ((0, 4), (4, 7)):
    heads = [t[first:last].reshape(last - first, -1, 6).transpose(0, 1) for t in (q, k, v)]
    heads[1], heads[2] = (t.repeat_interleave(2, 0) for t in heads[1:])
    out = F.scaled_dot_product_attention(*(t[None] for t in heads), is_causal=True)[0]
    parts.append(out.transpose(0, 1).reshape(last - first, 24))
with_grads("attention", torch.cat(parts), [q, k, v])

config = LlamaConfig(hidden_size=24, num_attention_heads=4, head_dim=6, max_position_embeddings=64,
                     rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
rotary = llama.LlamaRotaryEmbedding(config)
position = torch.tensor([[0, 1, 2, 3, 17, 18, 63]])
cos, sin = rotary(q, position)
turned, _ = llama.apply_rotary_pos_emb(q.reshape(1, 7, 4, 6).transpose(1, 2), k.reshape(1, 7, 2, 6).transpose(1, 2),
                                       cos, sin)
with_grads("rope", turned.transpose(1, 2).reshape(7, 24), [q])
config = LlamaConfig(hidden_size=24, num_attention_heads=4, head_dim=6, max_position_embeddings=8,
                     rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})
rotary = llama.LlamaRotaryEmbedding(config)
cos, sin = rotary(q, torch.arange(12)[None])
emit("rope_dynamic", torch.cat([cos[0, :, :3], sin[0, :, :3]], 1))

with_grads("tanh", torch.tanh(x), [x])

# the same attention behind 3 keys and values that both records see
pk, pv = leaf((3, 12), 7, 2.0), leaf((3, 12), 8, 2.0)
parts = []
for first, last in ((0, 4), (4, 7)):
    n = last - first
    heads = [q[first:last], torch.cat([pk, k[first:last]]), torch.cat([pv, v[first:last]])]
    heads = [t.reshape(len(t), -1, 6).transpose(0, 1) for t in heads]
    heads[1], heads[2] = (t.repeat_interleave(2, 0) for t in heads[1:])
    seen = torch.ones(n, n + 3).tril(3).bool()
    out = F.scaled_dot_product_attention(*(t[None] for t in heads), attn_mask=seen)[0]
    parts.append(out.transpose(0, 1).reshape(n, 24))
with_grads("attention_prefix", torch.cat(parts), [q, k, v, pk, pv])

# an LSTM of one layer, there and back: outputs and gradients of its input and of all its weights
lstm = torch.nn.LSTM(5, 3, batch_first=True, bidirectional=True)
for i, p in enumerate(lstm.parameters()):
    p.data = uniform(p.numel(), 11 + i).reshape(p.shape)
steps = leaf((4, 5), 10)
with_grads("lstm", lstm(steps[None])[0][0], [steps, *lstm.parameters()])
