#!/usr/bin/env bash
# What verify says of good, idle, empty and damaged adapters; and unmerge gives the base back.
. "$(dirname "$0")/tiny.sh"
tool=${GRAFT_GGUF_TOOL:?the program that makes and checks GGUF files}

want 0 '' train c.yaml -q -o one -s optim.lr=0.1
want 0 '' verify one --base base
check "every place has a line" bash -c '[ "$(grep -c "|change|" out)" = 14 ]'
check "in all" grep -q 'lora: 7424 parameters at 14 places (the base has 15 linears, used as nf4).*all 7424 values are finite' out
check "no complaint" bash -c '! grep -q unchanged out'
want 0 '' verify one --base base --json
check "as JSON" grep -q '"verdict": "trained".*"filled": 14.*"unchanged": 0.*"name": "model.layers.0.self_attn.q_proj".*"norm": [0-9.]*, "relative": 0[0-9.]*.*"rank": 4, "scale": 2.0' out

# changes nothing: all of it, or some modules
want 0 '' combine one:0 -o zero -q
want 0 '' verify zero --base base
check "untrained" grep -q '^untrained: it changes nothing$' out
want 0 '' train c.yaml -q -o part -s 'adapter={method: lora, r: 4, lora_alpha: 8, target_modules: [q_proj]}'
want 0 '' combine part one:0 -o some -q
want 0 '' verify some --base base
check "partly" grep -q '^12 of 14 places are unchanged$' out
want 0 '' verify zero --base base --json
check "untrained as JSON" grep -q '"verdict": "untrained".*"unchanged": 14' out

# damaged ones
mkdir empty && cp one/adapter_config.json empty
st_file empty/adapter_model.safetensors '{}' 0
want 3 'the adapter is empty' verify empty --base base
sed 's/"r": 4/"r": 5/' one/adapter_config.json >empty/adapter_config.json
cp one/adapter_model.safetensors empty
want 3 'misshapen: found \(4, 64\), the base wants \(5, 64\)' verify empty --base base
cp one/adapter_config.json empty
sed 's/lora_B.weight/lora_C.weight/' one/adapter_model.safetensors >empty/adapter_model.safetensors
want 3 'missing: .*lora_B.weight' verify empty --base base
check "what is there instead" grep -q 'unexpected: .*lora_C.weight' err
cp one/adapter_model.safetensors empty/adapter_model.safetensors
printf '\x00\x00\xc0\x7f' | dd of=empty/adapter_model.safetensors bs=1 seek=$(($(stat -c %s one/adapter_model.safetensors) - 400)) conv=notrunc status=none
want 3 'is nan' verify empty --base base
"$make_base" other seed=9
want 0 'another base' verify one --base other --json
check "another base" grep -q '"other_base": true' out
want 2 '--base is missing' verify one
want 2 'ADAPTER is missing' verify --base base
want 3 'none is not a folder' verify none --base base

# unmerge
loss() { "$graft" eval -q "$@" --data valid.jsonl --json | sed 's/.*"loss": *\([0-9.e+-]*\).*/\1/'; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(d < 1e-5 && d > -1e-5 && a > 0) }'; }
want 0 '' merge --base base --adapter one -o m --onto original -q
want 0 'as before the merge' unmerge --merged m --adapter one -o back
check "the base again" near "$(loss --base back)" "$(loss --base base)"
check "and not the merged model" bash -c "$(declare -f near); ! near $(loss --base m) $(loss --base base)"
want 0 '' unmerge --merged m --adapter one -o half --dtype bf16 --json
check "a report" grep -q '"method": "lora", "dtype": "bf16", "tensors": 20, "changed": 14' out
"$tool" make base base.gguf || exit 1
want 0 '' merge --base base.gguf --adapter one -o m.gguf --onto original --dtype f32 -q
want 0 '' unmerge --merged m.gguf --adapter one -o back.gguf --dtype f32 -q
echo '{"input_ids": [1, 5, 9, 40, 256]}' >valid.jsonl
check "a GGUF again" near "$(loss --base back.gguf)" "$(loss --base base.gguf)"
"$graft" quantize m -o m.h5 -q
want 2 'q_proj is nf4, which rounded what was merged: it cannot be taken back' unmerge --merged m.h5 --adapter one -o x
# what an adapter changes counts, not what it leaves as it is
"$tool" make base base8.gguf q8_0 || exit 1
want 0 '' train c.yaml -q -s base=base8.gguf -s data.train=valid.jsonl -s data.valid=null -s 'adapter={method: ia3}' -o scales
want 0 '' merge --base base8.gguf --adapter scales -o m8.gguf --dtype f32 -q
want 0 '' unmerge --merged m8.gguf --adapter scales -o back8.gguf --dtype f32 -q
check "a change beside blocks is taken back" near "$(loss --base back8.gguf)" "$(loss --base base8.gguf)"
want 0 '' merge --base base.gguf --adapter one -o m0.gguf --onto original --dtype q8_0 -q
want 2 'is q8_0, which rounded what was merged' unmerge --merged m0.gguf --adapter one -o x.gguf
want 2 'm.h5: it holds nf4 and not the original weights' merge --base m.h5 --adapter one -o x --onto original
want 2 '--merged is missing' unmerge --adapter one -o x
want 2 'm is the merged model, which is read' unmerge --merged m --adapter one -o m --force
check "nothing is left of what failed" bash -c '! ls -d x 2>/dev/null'
finish
