#!/usr/bin/env bash
# RoSA and SpA through every job on adapters: merged, taken back, combined, verified, exported; masks handed on.
. "$(dirname "$0")/tiny.sh"
tool=${GRAFT_GGUF_TOOL:?the program that makes and checks GGUF files}

loss() { "$graft" eval -q "$@" --data valid.jsonl --json | sed 's/.*"loss": *\([0-9.e+-]*\).*/\1/'; }
near() { awk -v a="$1" -v b="$2" -v e="${3:-1e-5}" 'BEGIN { d = a - b; exit !(d < e && d > -e && a > 0) }'; }
far() { ! near "$1" "$2" 1e-3; }
rosa='adapter={method: rosa, r: 2, d: 0.05, schedule: wl2, target_modules: all-linear}'
want 0 '' train c.yaml -q -o one -s optim.lr=0.1 -s "$rosa"
want 0 '' train c.yaml -q -o spa -s optim.lr=0.1 -s 'adapter={method: spa, d: 0.1, target_modules: [q_proj, down_proj]}'
check "types of its own" grep -q '"peft_type": "ROSA"' one/adapter_config.json
check "types of its own" grep -q '"peft_type": "SPA"' spa/adapter_config.json
check "no scratch file is left" bash -c '! ls -A one spa | grep -q scratch'

# the plan tells of the file
want 0 'carries no name' train c.yaml -o x --dry-run -s "$rosa"
check "the plan tells of the disk" grep -q 'disk  *a temporary file of .* in the output folder' out
want 0 'carries no name' train c.yaml -o x --dry-run --json -s "$rosa"
check "as JSON" grep -q '"disk": [1-9]' out

# blocks recomputed under a budget: not a bit of it changes
number() { grep -o "\"$1\": [0-9]*" out | tail -1 | sed 's/.* //'; }
wide=(-s train.batch_size=40 -s train.gradient_accumulation=1 -s train.steps=4 -s "$rosa")
want 0 '' train c.yaml -q -o roomy "${wide[@]}"
want 0 . train c.yaml -o x --dry-run --json "${wide[@]}"
total=$(number total) part=$(($(number activations) / 8)) less=0
while [ "$less" -lt 8 ] && [ "$(number recomputed)" = 0 ]; do
    less=$((less + 1))
    want '0|2' . train c.yaml -o x --dry-run --json "${wide[@]}" -s "train.memory=$((total - less * part))"
done
check "some budget takes it" test "$(number recomputed)" -gt 0
want 0 '' train c.yaml -q -o tight "${wide[@]}" -s "train.memory=$((total - less * part))"
check "the same adapter" cmp roomy/adapter_model.safetensors tight/adapter_model.safetensors

# merged and taken back
bare=$(loss --base base)
for a in one spa; do
    want 0 '' merge --base base --adapter $a -o m-$a --onto original -q
    check "$a: merged is base and adapter" near "$(loss --base m-$a)" "$(loss --base base --adapter $a --quant none)"
    check "$a: another model" far "$(loss --base m-$a)" "$bare"
    want 0 'as before the merge' unmerge --merged m-$a --adapter $a -o back-$a
    check "$a: the base again" near "$(loss --base back-$a)" "$bare"
    want 0 '' verify $a --base base --json
    check "$a: trained" grep -q '"verdict": "trained".*"unchanged": 0' out
done
want 0 '' merge --base base --adapter one -o audited --audit valid.jsonl -q --json
check "audited: what was merged is what was trained" grep -q '"kl"\|kl' out

# combined: both parts, cut to a rank that holds them all
want 2 'give it with --base|--base' combine one -o x
want 0 '' combine one:0.5 one:0.5 -o whole --base base --how svd --rank 64 -q
check "the whole change" near "$(loss --base base --adapter whole --quant none)" "$(loss --base m-one)" 1e-4
want 2 'rank' combine one spa -o x --base base

# exported
"$tool" make base base.gguf || exit 1
want 2 'q_proj \(rosa\): its change is no product of two factors.*graft merge' export --adapter one --base base -o x.gguf
want 2 'q_proj \(spa\): its change is no product.*graft merge' export --adapter spa --base base -o x.gguf
want 0 '' merge --base base.gguf --adapter one -o m.gguf --onto original --dtype f32 -q
echo '{"input_ids": [1, 5, 9, 40, 256]}' >words.jsonl
cp valid.jsonl kept.jsonl && cp words.jsonl valid.jsonl
check "a GGUF model holds it" near "$(loss --base m.gguf)" "$(loss --base base.gguf --adapter one --quant none)"
mv kept.jsonl valid.jsonl
want 0 'left out: the sparse part' export --adapter one --base base --to peft -o low
check "as LoRA" grep -q '"peft_type": "LORA"' low/adapter_config.json
check "words and facts come along" bash -c 'cmp one/tokenizer.json low/tokenizer.json && cmp one/graft.json low/graft.json'
check "the sparse part makes a difference" far "$(loss --base base --adapter low)" "$(loss --base base --adapter one)"
want 0 '' train c.yaml -q -o lora -s optim.lr=0.1 -s 'adapter={method: rosa, r: 2, d: 0, schedule: lora_only, target_modules: all-linear}'
want 0 '' export --adapter lora --base base --to peft -o same --json
check "nothing is lost of a low rank alone" grep -q '"tensors": 28.*"lost": null' out
check "the same adapter" near "$(loss --base base --adapter same)" "$(loss --base base --adapter lora)" 1e-9
want 2 'PEFT has no adapters with sparse values' export --adapter spa --base base --to peft -o x
want 0 '' train c.yaml -q -o values -s 'adapter={method: rosa, r: 2, d: 0.05, schedule: spa_only}'
want 2 'no low-rank part was trained' export --adapter values --base base --to peft -o x
want 2 'not one of rosa adapters' export --adapter one --base base --to adapter-hub -o x

# masks
want 0 '' train c.yaml -q -o mask -s "$rosa" -s adapter.mask_save_path=m.safetensors -s adapter.terminate_after_mask_generation=true
check "the run ended there" grep -q '"status": "finished".*"steps": 2\|"steps": 2.*"status": "finished"' <(tr -d '\n' <mask/result.json)
want 2 'm.safetensors is there already' train c.yaml -q -o x -s "$rosa" -s adapter.mask_save_path=m.safetensors
want 0 '' train c.yaml -q -o anew -s "$rosa" -s adapter.mask_load_path=m.safetensors -s adapter.schedule=df
want 0 '' train c.yaml -q -o more -s 'adapter={init_from: anew}'
want 3 'no such file|m2.safetensors' train c.yaml -q -o x -s "$rosa" -s adapter.mask_load_path=m2.safetensors
want 2 'the run has 4 steps' train c.yaml -q -o x -s 'adapter={method: rosa}' -s train.steps=4
check "nothing is left of what failed" bash -c '! ls -d x x.gguf 2>/dev/null'
finish
