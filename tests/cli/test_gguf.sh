#!/usr/bin/env bash
# Adapters for llama.cpp and merged GGUF models, against a GGUF that no code of Graft's names and orders made.
. "$(dirname "$0")/tiny.sh"
tool=${GRAFT_GGUF_TOOL:?the program that makes and checks GGUF files}

"$tool" make base base.gguf || exit 1
"$tool" make base small.gguf q8_0 || exit 1
for i in 1 2 3 4 5 6; do echo "{\"input_ids\": [$i, 17, $((i * 9)), 40, 256]}"; done >ids.jsonl
loss() { "$graft" eval -q "$@" --data ids.jsonl --json | sed 's/.*"loss": *\([0-9.e+-]*\).*/\1/'; }
near() { awk -v a="$1" -v b="$2" -v t="${3:-1e-5}" 'BEGIN { d = a - b; exit !(d < t && d > -t && a > 0) }'; }
check "the made GGUF is the folder's model" near "$(loss --base base)" "$(loss --base base.gguf)"

want 0 '' train c.yaml -q -o one -s quant=none
want 0 '' train c.yaml -q -o two -s 'adapter={method: lora, r: 2, lora_alpha: 3, target_modules: [q_proj, v_proj], rank_pattern: {v_proj: 4}}'
want 0 '' train c.yaml -q -o rs -s 'adapter={method: lora, r: 4, use_rslora: true, target_modules: [k_proj]}'

# the same file whatever the base's own format; row order, ranks and scales as the merged model has them
for a in one two rs; do
    want 0 'tensors, ' export --adapter $a --base base.gguf -o $a.gguf
    want 0 '' export --adapter $a --base base -o again.gguf -q
    check "$a: the same from a folder" cmp $a.gguf again.gguf
    rm again.gguf
    want 0 'f32 in 1 file' merge --base base.gguf --adapter $a -o m-$a.gguf --onto original --dtype f32
    check "$a: merged as its factors say" "$tool" check base.gguf m-$a.gguf $a.gguf
    check "$a: merged as it runs" near "$(loss --base base.gguf --adapter $a --quant none)" "$(loss --base m-$a.gguf)"
done
for t in f16 bf16 q8_0; do
    want 0 '' export --adapter one --base base.gguf -o one-$t.gguf --dtype $t -q
    want 0 "of $t in 1 file" merge --base small.gguf --adapter one -o m-$t.gguf --onto original --dtype $t
    check "$t: close" "$tool" check small.gguf m-$t.gguf one-$t.gguf 0.02
done
check "q8_0 falls back to f16 for short rows" grep -q "tensors are f16" <(
    "$graft" export --adapter one --base base.gguf -o short.gguf --dtype q8_0 2>&1)
want 0 '^merged onto the original.*f16 in 1 file' merge --base small.gguf --adapter one -o default.gguf --onto original
want 0 '' merge --base base.gguf --adapter two -o nf4.gguf --dtype f32 -q
check "onto nf4: what was trained over" near "$(loss --base base.gguf --adapter two)" "$(loss --base nf4.gguf)"

# nothing changed: the file itself
want 0 '' combine one:0 -o nothing -q
want 0 '' merge --base base.gguf --adapter nothing -o same.gguf --onto original --dtype f32 -q
check "no change, the same bytes" cmp base.gguf same.gguf

# a tied head that changed is written out beside the embedding
want 0 '' train c.yaml -q -o head -s 'adapter={method: lora, r: 2, target_modules: [lm_head, v_proj]}' -s quant=none
want 0 '' merge --base base.gguf --adapter head -o untied.gguf --onto original --dtype f32 -q
check "untied" near "$(loss --base base.gguf --adapter head --quant none)" "$(loss --base untied.gguf)"
check "a head of its own" grep -q '"output.weight"' <("$graft" inspect untied.gguf --json)

# what does not go
want 2 'lm_head \(lora\): the head is the embedding.*graft merge' export --adapter head --base base.gguf -o x.gguf
want 0 '' train c.yaml -q -o biased -s 'adapter={method: lora, r: 2, lora_bias: true, target_modules: [q_proj]}'
want 2 'changes a bias.*graft merge' export --adapter biased --base base -o x.gguf
want 2 'PEFT.s own format' export --adapter one --base base --to peft -o x
want 2 'not one of lora adapters' export --adapter one --base base --to adapter-hub -o x
want 2 'wanted gguf, peft or adapter-hub' export --adapter one --base base --to onnx -o x
want 2 'wanted f32, f16, bf16 or q8_0' export --adapter one --base base -o x.gguf --dtype q4_0
want 2 'dtype is for gguf' export --adapter one --base base --to peft -o x --dtype f16
want 2 'exists; use another name' export --adapter one --base base -o one.gguf
want 0 '' export --adapter one --base base -o one.gguf --force --json
check "what it is" grep -q '"kind": "adapter".*"method": "lora".*"alpha": 8.0.*blk.0.attn_q.weight.lora_b' <(
    "$graft" inspect one.gguf --json)
check "a report" grep -q '"format": "gguf".*"tensors": 28.*"lost": null' out
want 2 '--base is missing' export --adapter one -o x.gguf
want 3 'none' export --adapter none --base base -o x.gguf
want 2 'made of a GGUF base' merge --base base --adapter one -o x.gguf
want 2 'exists; use another name' merge --base base.gguf --adapter one -o same.gguf
want 2 'is the base, which is read' merge --base base.gguf --adapter one -o base.gguf --force
want 2 'wanted f32, bf16, f16 or q8_0' merge --base base.gguf --adapter one -o x.gguf --dtype q4_0
want 2 'wanted f32, bf16 or f16' merge --base base.gguf --adapter one -o x --dtype q8_0
check "nothing is left of what failed" bash -c '! ls x* *.tmp-* 2>/dev/null'
finish
