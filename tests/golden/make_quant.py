#!/usr/bin/env python3
"""Golden values of quant/: writes quant.bin beside this script.

needs: numpy, torch, bitsandbytes (0.50.2 was used), gguf
The file is a row of sections: name (16 bytes, zero-padded), u32 length, the bytes. All little-endian.

4-bit codes follow bitsandbytes' CUDA rule, written here in numpy: x * (1 / absmax) in float32, the
code is the number of midpoints strictly below it. What bitsandbytes' CPU functions give is checked
against it wherever the two rules agree (all but blocks of zeros and an unfinished last block).
"""
import pathlib
import struct

import bitsandbytes.functional as F
import gguf
import numpy as np
import torch

BLOCKS = [32, 64, 128, 256, 512, 1024, 2048, 4096]
N = 2401  # odd, and a partial block for every block size
sections = []


def put(name, array):
    raw = np.ascontiguousarray(array).tobytes()
    sections.append(name.encode().ljust(16, b"\0") + struct.pack("<I", len(raw)) + raw)


def luts():
    nf4 = F.get_4bit_type("nf4", device="cpu").numpy().astype(np.float32)
    fp4 = F.get_4bit_type("fp4", device="cpu").numpy().astype(np.float32)
    return nf4, fp4


def codes_of(v, kind, nf4):
    """v: float32, maybe NaN; comparisons with NaN are false."""
    if kind == "nf4":
        mid = ((nf4[:-1] + nf4[1:]) / np.float32(2)).astype(np.float32)
        return (v[:, None] > mid[None, :]).sum(1).astype(np.uint8)
    mid = np.array([0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333],
                   np.float32)
    rank = (np.abs(v)[:, None] > mid[None, :]).sum(1)
    code = np.array([0, 1, 6, 7, 4, 5, 2, 3], np.uint8)[rank]
    return code | np.where(v < 0, 8, 0).astype(np.uint8)


def quantize(x, block, kind, nf4):
    nb = -(-len(x) // block)
    absmax = np.zeros(nb, np.float32)
    codes = np.zeros(len(x), np.uint8)
    for b in range(nb):
        part = x[b * block:(b + 1) * block]
        absmax[b] = np.abs(part).max()
        with np.errstate(all="ignore"):
            inv = np.float32(1) / absmax[b]
            codes[b * block:(b + 1) * block] = codes_of((part * inv).astype(np.float32), kind, nf4)
    if len(codes) % 2:
        codes = np.append(codes, np.uint8(7 if kind == "nf4" else 0))
    return (codes[::2] << 4 | codes[1::2]).astype(np.uint8), absmax


def weights(nf4):
    """Like weights, with blocks that are hard: zeros, exact midpoints, one value, tiny numbers."""
    x = (np.random.default_rng(11).standard_normal(N) * 0.02).astype(np.float32)
    x[64:128] = 0
    mid = ((nf4[:-1] + nf4[1:]) / np.float32(2)).astype(np.float32)
    x[128:143] = mid
    x[143] = -1
    x[144:160] = nf4
    x[192:256] = 0
    x[200] = -3.5
    x[256:320] *= np.float32(1e-36)
    x[320:384] *= np.float32(1e30)
    x[384:448] = -0.0
    x[448:455] = np.array([0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333],
                          np.float32)
    x[455:462] = -x[448:455]
    x[462] = 1
    return x


def check_bitsandbytes(x, block, kind, packed):
    theirs, _ = F.quantize_4bit(torch.from_numpy(x), blocksize=block, quant_type=kind)
    theirs = theirs.numpy().reshape(-1)
    for b in range(len(x) // block):
        if np.abs(x[b * block:(b + 1) * block]).max() >= 1e-37:
            part = slice(b * block // 2, (b + 1) * block // 2)
            a, o = packed[part], theirs[part]
            if kind == "fp4":  # the two zeros of fp4: the CPU function writes 0 for both
                z = lambda c: np.where(c == 8, 0, c)
                a, o = (z(v >> 4) << 4 | z(v & 15) for v in (a, o))
            same = a == o
            if kind == "fp4":  # values at the kernel's own thresholds, which the CPU function rounds anew
                at = np.arange(part.start, part.stop) * 2
                same |= (at >= 448) & (at < 464)
            assert same.all(), (kind, block, b, np.argwhere(~same)[:4].ravel(), a[~same][:4], o[~same][:4])


def put_codes():
    nf4, fp4 = luts()
    x = weights(nf4)
    put("lut.nf4", nf4)
    put("lut.fp4", fp4)
    put("x", x)
    for kind in ("nf4", "fp4"):
        for block in BLOCKS:
            packed, absmax = quantize(x, block, kind, nf4)
            check_bitsandbytes(x, block, kind, packed)
            put(f"{kind}.{block}.codes", packed)
            put(f"{kind}.{block}.absmax", absmax)


def put_nested():
    signed = F.create_dynamic_map(signed=True).numpy().astype(np.float32)
    put("map.signed", signed)
    put("map.unsigned", F.create_dynamic_map(signed=False).numpy().astype(np.float32))
    absmax = np.abs(np.random.default_rng(12).standard_normal(700) * 0.03 + 0.05).astype(np.float32)
    offset = np.float32(absmax.astype(np.float64).mean())
    d = absmax - offset
    mid = ((signed[:-1] + signed[1:]) * np.float32(0.5)).astype(np.float32)
    code, absmax2 = [], []
    for b in range(0, len(d), 256):
        part = d[b:b + 256]
        absmax2.append(np.abs(part).max())
        v = (part * (np.float32(1) / absmax2[-1])).astype(np.float32)
        assert not np.isin(v, mid).any()  # no ties: both of bitsandbytes' rules give this
        code.append((v[:, None] > mid[None, :]).sum(1).astype(np.uint8))
    put("nested.absmax", absmax)
    put("nested.offset", np.array([offset], np.float32))
    put("nested.absmax8", np.concatenate(code))
    put("nested.absmax2", np.array(absmax2, np.float32))


def put_gguf(x):
    rng = np.random.default_rng(13)
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"):
        kind = gguf.GGMLQuantizationType[name]
        elems, size = gguf.GGML_QUANT_SIZES[kind]
        count = 5 if elems == 32 else 2
        data = rng.integers(0, 256, (count, size), dtype=np.uint8)
        places = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
        for at in places.get(name, [0]):  # scales like those of weights, some negative
            scale = (rng.standard_normal(count) * 0.01).astype(np.float16)
            data[:, at:at + 2] = scale.view(np.uint8).reshape(count, 2)
        put(name.lower(), data)
        put(name.lower() + ".f32", gguf.dequantize(data, kind).astype(np.float32))
    put("q8_0.encoded", gguf.quantize(x[:256].reshape(1, -1), gguf.GGMLQuantizationType.Q8_0))


if __name__ == "__main__":
    put_codes()
    put_nested()
    put_gguf(weights(luts()[0]))
    out = pathlib.Path(__file__).with_name("quant.bin")
    out.write_bytes(b"".join(sections))
    print(out, out.stat().st_size, "bytes")
