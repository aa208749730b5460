"""Writes safetensors/every_type.safetensors beside this script with the reference library.

Values count up from 0 in every tensor.
usage: python make_safetensors.py   (needs torch and safetensors)
"""
import pathlib

import torch
from safetensors.torch import save_file

TYPES = ["bool", "uint8", "int8", "float8_e5m2", "float8_e4m3fn", "int16", "uint16", "float16", "bfloat16",
         "int32", "uint32", "float32", "float64", "int64", "uint64"]

out = pathlib.Path(__file__).parent / "safetensors"
out.mkdir(exist_ok=True)
tensors = {}
for i, name in enumerate(TYPES):
    count = torch.arange(6 + i) % 2 if name == "bool" else torch.arange(6 + i)
    tensors[f"z{i:02d}.{name}"] = count.to(getattr(torch, name))
tensors["b.weight"] = torch.arange(6).to(torch.float32).reshape(2, 3)
tensors["a.weight"] = torch.arange(24).to(torch.float32).reshape(2, 3, 4)
tensors["scalar"] = torch.tensor(7.0)
tensors["empty"] = torch.zeros(0, 5)
tensors["quote\" back\\ tab\t bell\x07 gr\u00fc\u00df \U0001f600"] = torch.arange(3).to(torch.float16)
save_file(tensors, out / "every_type.safetensors", metadata={"format": "pt"})
