"""Makes written.gguf with the gguf package: keys of every kind and a tensor of each type that Graft
writes, their values (i % 23 - 11) / 8. Needs gguf and numpy; run from this folder."""
import gguf
import numpy as np

w = gguf.GGUFWriter("written.gguf", "llama")
w.add_string("general.name", "a name \u00e9")
w.add_uint32("llama.block_count", 7)
w.add_float32("adapter.lora.alpha", 16.5)
w.add_bool("tokenizer.ggml.add_bos_token", True)
w.add_array("tokenizer.ggml.tokens", ["a", "", "bcd", "\u20ac"])
w.add_array("numbers", [1, -2, 3])
w.add_array("scores", [0.5, -1.5])
w.add_uint64("big", 1 << 40)
types = gguf.GGMLQuantizationType
for name, shape, t in (("f32", (3, 5), types.F32), ("f16", (2, 7), types.F16),
                       ("bf16", (5, 3), types.BF16), ("q8", (3, 64), types.Q8_0),
                       ("vector", (9,), types.F32)):
    x = ((np.arange(np.prod(shape)) % 23 - 11) / 8).astype(np.float32).reshape(shape)
    w.add_tensor(name, gguf.quants.quantize(x, t), raw_dtype=t)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
