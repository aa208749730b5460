#!/usr/bin/env bash
# Bases that are broken: each is refused with its name, nothing is written, nothing crashes.
. "$(dirname "$0")/tiny.sh"

broken() { rm -rf b; cp -r base b; }
refused() { # refused CODE PATTERN: by every verb that reads weights
    want "$1" "$2" train c.yaml -s base=b -o new
    want "$1" "$2" eval --base b --data valid.jsonl --json
    check "eval --json wrote to stdout" test ! -s out
    want "$1" "$2" quantize b -o q.h5
    check "a refused base leaves no output" test ! -e new -a ! -e q.h5
}

# safetensors: the file itself
for size in 0 7 8 100 2000 300000; do
    broken
    head -c $size base/model.safetensors >b/model.safetensors
    refused 3 'b/model.safetensors: '
    want 3 'b/model.safetensors: ' inspect b
done
broken; printf x >>b/model.safetensors
refused 3 'b/model.safetensors: '
broken; { le64 9223372036854775807; tail -c +9 base/model.safetensors; } >b/model.safetensors
refused 3 'b/model.safetensors: '
broken; { le64 -1; tail -c +9 base/model.safetensors; } >b/model.safetensors
refused 3 'b/model.safetensors: '
while IFS='|' read -r header bytes; do
    broken
    st_file b/model.safetensors "$header" "$bytes"
    refused 3 'b/model.safetensors: '
done <<'END'
{|0
[]|0
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}|12
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}|20
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}|16
{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}|8
{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}|8
{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}|8
{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}}|8
{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}|8
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616]}}|8
{"a":{"dtype":"Q3","shape":[2],"data_offsets":[0,8]}}|8
{"a":{"dtype":"F32","shape":"2","data_offsets":[0,8]}}|8
{"a":[]}|0
END
broken # a header as deep as it is long
st_file b/model.safetensors "$(printf '{"a":%.0s' $(seq 20000))" 0
refused 3 'b/model.safetensors: '

# tensors that do not fit the config
rm -rf b; "$make_base" b drop=model.layers.1.mlp.up_proj.weight
refused 3 'model.layers.1.mlp.up_proj.weight: missing'
rm -rf b; "$make_base" b narrow=model.layers.0.self_attn.k_proj.weight
refused 3 'model.layers.0.self_attn.k_proj.weight.*(32, 63).*(32, 64)'
rm -rf b; "$make_base" b extra=model.layers.0.mlp.gate_proj.bias
refused 3 'model.layers.0.mlp.gate_proj.bias'
rm -rf b; "$make_base" b extra=model.layers.2.mlp.up_proj.weight
refused 3 'model.layers.2.mlp.up_proj.weight'
broken; LC_ALL=C sed -i 's/"dtype":"F32"/"dtype":"I32"/' b/model.safetensors
refused 3 '[iI]32'
broken; LC_ALL=C sed -i 's/"dtype":"F32"/"dtype":"C64"/' b/model.safetensors
refused 3 'C64'

# shards
rm -rf b; "$make_base" b shards=1
want 0 '' eval --base b --data valid.jsonl
rm b/model-00002-of-00002.safetensors
refused 3 'model-00002-of-00002.safetensors'
"$make_base" b shards=1; cp b/model-00001-of-00002.safetensors b/model-00002-of-00002.safetensors
refused 3 'b/model'
"$make_base" b shards=1; sed -i 's/model-00002-of-00002/..\/base\/model/' b/model.safetensors.index.json
refused 3 'b/model.safetensors.index.json'
"$make_base" b shards=1; echo '{"weight_map": [1]}' >b/model.safetensors.index.json
refused 3 'b/model.safetensors.index.json'
"$make_base" b shards=1; echo '{"weight_map": {"a": 5' >b/model.safetensors.index.json
refused 3 'b/model.safetensors.index.json'

# config.json
edit() { broken; sed -i "$1" b/config.json; cmp -s b/config.json base/config.json && complain "sed $1 changed nothing"; }
edit 's/"llama"/"mamba"/'; refused 3 'mamba'
edit 's/"hidden_size": 64/"hidden_size": "64"/'; refused 3 'b/config.json.*hidden_size'
edit 's/"hidden_size": 64/"hidden_size": 65/'; refused 3 'b/config.json'
edit 's/"hidden_size": 64/"hidden_size": 9223372036854775807/'; refused 3 'b/config.json|model.embed'
edit 's/"num_hidden_layers": 2/"num_hidden_layers": 1000000000/'; refused 3 'b/config.json|num_hidden_layers|missing'
edit 's/"num_hidden_layers": 2/"num_hidden_layers": 0/'; refused 3 'b/config.json.*num_hidden_layers'
edit 's/"num_attention_heads": 4/"num_attention_heads": 0/'; refused 3 'b/config.json.*num_attention_heads'
edit 's/"num_key_value_heads": 2/"num_key_value_heads": 3/'; refused 3 'b/config.json.*num_key_value_heads'
edit 's/"vocab_size": 272/"vocab_size": 4294967296/'; refused 3 'embed_tokens|vocab_size'
edit 's/"silu"/"tanhshrink"/'; refused 3 'tanhshrink'
edit '/hidden_size/d'; refused 3 'b/config.json.*hidden_size'
broken; head -c 100 base/config.json >b/config.json; refused 3 'b/config.json:'
broken; : >b/config.json; refused 3 'b/config.json'
broken; printf '[[[[%.0s' $(seq 5000) >b/config.json; refused 3 'b/config.json'
broken; rm b/config.json; refused 3 'config.json'
broken; rm b/model.safetensors; refused 3 'model.safetensors'
broken; rm b/model.safetensors; printf x >b/pytorch_model.bin; refused 3 'pytorch_model.bin|pickle|safetensors'
broken; rm b/model.safetensors; mkdir b/model.safetensors; refused 3 'model.safetensors'
broken; sed -i 's/<|end|>/<|END|>/' b/tokenizer_config.json; want 0 '.' train c.yaml -s base=b -o ok

# a tokenizer that is not one
broken; head -c 3000 base/tokenizer.json >b/tokenizer.json; refused 3 'b/tokenizer.json:'
broken; sed -i 's/"BPE"/"Unigram"/' b/tokenizer.json; refused 3 'Unigram'
broken; echo '{}' >b/tokenizer.json; refused 3 'b/tokenizer.json'

# other files under the name of a base
want 3 'none' eval --base none --data valid.jsonl
want 3 'train.jsonl' eval --base train.jsonl --data valid.jsonl
: >empty.gguf; want 3 'empty.gguf' eval --base empty.gguf --data valid.jsonl
mkfifo pipe; want 3 'pipe' eval --base pipe --data valid.jsonl
printf 'GGUF\3\0\0\0' >short.gguf; want 3 'short.gguf' eval --base short.gguf --data valid.jsonl
{ printf 'GGUF\3\0\0\0'; le64 -1; le64 -1; } >wild.gguf; want 3 'wild.gguf' inspect wild.gguf
{ printf 'GGUF\3\0\0\0'; le64 0; le64 1; le64 -1; head -c 100 /dev/zero; } >key.gguf
want 3 'key.gguf' eval --base key.gguf --data valid.jsonl
{ printf 'GGUF\3\0\0\0'; le64 4000000000; le64 0; head -c 1000 /dev/zero; } >many.gguf
want 3 'many.gguf' quantize many.gguf -o q.h5
printf 'GGUF\1\0\0\0' >old.gguf; head -c 100 /dev/zero >>old.gguf; want 3 'old.gguf' inspect old.gguf

# containers
want 0 . quantize base -o q.h5
size=$(stat -c %s q.h5)
for cut in 8 1000 $((size / 2)) $((size - 1)); do
    head -c "$cut" q.h5 >cut.h5
    want 3 'cut.h5' eval --base cut.h5 --data valid.jsonl
    want 3 'cut.h5' inspect cut.h5
done
finish
