#!/usr/bin/env bash
# Copies of the base's tensors on the command line: every parameter and LP-FT end in checkpoints that
# all verbs read; what jobs make of head, last layers and saved modules, or why they refuse.
. "$(dirname "$0")/tiny.sh"

tool=${GRAFT_GGUF_TOOL:?the program that makes and checks GGUF files}

loss() { "$graft" eval -q "$@" --data valid.jsonl --json | sed 's/.*"loss": *\([0-9.e+-]*\).*/\1/'; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(d < 1e-5 && d > -1e-5 && a > 0) }'; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b - 0.05 && a > 0) }'; }
trained() { sed -n 's/.*"valid_loss": *\([0-9.e+-]*\).*/\1/p' "$1/result.json" | tail -1; }

# every parameter
want 0 '' train c.yaml -q -o full -s 'adapter={method: full}'
check "a checkpoint and a run's files" only full best config.json config.yaml generation_config.json \
    graft.json metrics.jsonl model.safetensors result.json tokenizer.json tokenizer_config.json
check "it is what was trained" near "$(loss --base full --quant none)" "$(trained full)"
check "it learnt" less "$(trained full)" "$(loss --base base --quant none)"
want 0 '' generate --base full -p 'number 3 is ' -n 3
want 0 '' train c.yaml -q -o over -s base=full
want 0 '' quantize full -o full.h5 -q
want 2 'full holds a run already' train c.yaml -o full -s 'adapter={method: full}'
want 2 'full is the base' train c.yaml -o full --force -s base=full
want 0 '' train c.yaml -q -o full --force -s 'adapter={method: full, save_dtype: bf16}' -s data.valid=null
check "nothing of the old run is left" only full config.json config.yaml generation_config.json \
    graft.json metrics.jsonl model.safetensors result.json tokenizer.json tokenizer_config.json
check "in bf16" grep -q '"bfloat16"' full/config.json
want 2 'quant: adapter.method full trains every weight' train c.yaml -o q -s 'adapter={method: full}' -s quant=nf4
want 2 'needs a base of floats; .*full.h5 is nf4' train c.yaml -o q -s 'adapter={method: full}' -s base=full.h5
want 2 'needs a base of floats; .*full.h5 is nf4' train c.yaml -o q -s 'adapter={method: lpft}' -s base=full.h5
check "refused before anything is written" bash -c '! ls -d q 2>/dev/null'
mkdir mine && cp base/config.json mine
want 2 'mine is no run of graft and holds config.json' train c.yaml -o mine --force -s 'adapter={method: full}'

# probing first
want 0 '' train c.yaml -q -o lpft -s 'adapter={method: lpft, probe_steps: 4, probe_lr: 0.05}'
check "two runs" test -f lpft/probe/adapter_model.safetensors -a -f lpft/model.safetensors
check "of so many steps" bash -c '[ $(grep -c lr lpft/probe/metrics.jsonl) = 4 ] && [ $(grep -c lr lpft/metrics.jsonl) = 6 ]'
check "the second is what was trained" near "$(loss --base lpft --quant none)" "$(trained lpft)"
check "the first is an adapter of the base" near "$(loss --base base --adapter lpft/probe)" "$(trained lpft/probe)"
want 0 '' train c.yaml -q -o lpft --force -s 'adapter={method: lora}'
check "nothing of both is left" bash -c '! ls -d lpft/probe lpft/model.safetensors 2>/dev/null'
want 0 '' train c.yaml --dry-run -q -o x -s 'adapter={method: lpft}'
want 2 'train.memory: 1.0 MiB are not enough' train c.yaml -o small -s 'adapter={method: lpft}' -s train.memory=1MiB
check "before the probe" test ! -e small
want 0 '' train c.yaml -q -o hd -s 'adapter={method: head}' -s quant=none
want 0 '' train c.yaml -q -o probed -s 'adapter={method: lpft, probe_steps: 1, init_from: hd}'
check "the probe goes on from a head" awk -v a="$(head -n 1 probed/probe/metrics.jsonl | sed 's/.*"loss": \([0-9.]*\).*/\1/')" \
    -v b="$(head -n 1 hd/metrics.jsonl | sed 's/.*"loss": \([0-9.]*\).*/\1/')" 'BEGIN { exit !(a < b) }'
want 0 '' train c.yaml -q -o plain
want 2 'goes on from a head adapter alone, .*plain is one of lora' train c.yaml -o x -s 'adapter={method: lpft, init_from: plain}'

# jobs; the base is quantised, its copies are decoded
set -- head 'method: head' last 'method: last_layers, modules_to_save: [model.norm]' \
    saved 'method: lora, r: 2, target_modules: [q_proj], modules_to_save: [lm_head]' \
    tokens 'method: lora, r: 2, target_modules: [q_proj], trainable_token_indices: [40, 41]' \
    sparse 'method: rosa, r: 2, d: 0.02, schedule: wl1, target_modules: [q_proj], modules_to_save: [lm_head]'
while [ $# -gt 0 ]; do
    want 0 '' train c.yaml -q -o "$1" -s quant=nf4 -s "adapter={$2}"
    check "$1: losses" near "$(loss --base base --adapter "$1")" "$(trained "$1")"
    want 0 '' merge --base base --adapter "$1" -o "$1-merged" --dtype f32 -q
    check "$1: merged" near "$(loss --base "$1-merged" --quant none)" "$(trained "$1")"
    want 0 '' verify "$1" --base base
    check "$1: verified" grep -q 'names and shapes fit' out
    want 2 'put their own values in place of' unmerge --merged "$1-merged" --adapter "$1" -o x
    want 2 'give it with --base B' combine "$1" -o x
    want 2 'no product of two factors' export --adapter "$1" --base base -o x.gguf
    shift 2
done
want 0 '' combine head --base base -o low --how svd --rank 8 -q
for m in saved tokens sparse; do
    want 0 '' combine $m --base base -o whole --how svd --rank 64 -q --force
    check "$m: all of its change in a LoRA" near "$(loss --base base --adapter whole)" "$(trained $m)"
done
want 2 'no place for a change of model.layers' combine last --base base -o x --how svd --rank 8
for m in head last; do
    want 0 'PEFT takes it for LoRA of rank 1 that changes nothing' export --adapter $m --base base --to peft -o $m-peft
    check "$m: the same to PEFT" near "$(loss --base base --adapter $m-peft)" "$(trained $m)"
done
want 0 'the sparse part' export --adapter sparse --base base --to peft -o sparse-peft
check "its copy goes along" grep -q '"lm_head"' sparse-peft/adapter_config.json
want 0 '' eval --base base --adapter sparse-peft --data valid.jsonl -q
want 0 '' train c.yaml -q -o spa -s 'adapter={method: spa, d: 0.02, target_modules: [q_proj], modules_to_save: [norm]}'
check "as saved modules" grep -q '"lm_head"' head-peft/adapter_config.json
want 2 "is in PEFT's own format already" export --adapter saved --base base --to peft -o x
want 0 '' train c.yaml -q -o on -s 'adapter={init_from: head}' -s quant=nf4
check "goes on from it" less "$(trained on)" "$(trained head)"
want 2 'bitfit trains the biases of the base, and this llama has none' train c.yaml -o x -s 'adapter={method: bitfit}'
want 2 'token 99999, but model.embed_tokens has rows' train c.yaml -o x -s 'adapter={method: lora, trainable_token_indices: [99999]}'
want 2 'is among target_modules, too' train c.yaml -o x -s 'adapter={method: lora, target_modules: [embed_tokens], trainable_token_indices: [4]}'
want 2 'last_layers: found 99, the base has 2' train c.yaml -o x -s 'adapter={method: last_layers, last_layers: 99}'
check "nothing is left of what failed" bash -c '! ls -d x x.gguf 2>/dev/null'

# biases of the base
"$make_base" biased biases=1
for m in bitfit 'lora, r: 2, target_modules: [q_proj], bias: all' \
    'dora, r: 2, target_modules: [q_proj, v_proj], bias: lora_only, modules_to_save: [norm]'; do
    want 0 '' train c.yaml -q -o biases --force -s base=biased -s "adapter={method: $m}"
    check "$m: losses" near "$(loss --base biased --adapter biases)" "$(trained biases)"
    want 0 '' merge --base biased --adapter biases -o biases-merged --dtype f32 -q --force
    check "$m: merged" near "$(loss --base biases-merged --quant none)" "$(trained biases)"
done

# over a GGUF base, and merged into one
"$tool" make base base.gguf || exit 1
for i in $(seq 3 14); do echo "{\"input_ids\": [1, $i, 40, $((2 * i)), 41, $((3 * i)), 9]}"; done >valid.jsonl
for m in 'head' 'last_layers, modules_to_save: [embed_tokens]' layernorm \
    'lora, r: 2, target_modules: [q_proj], trainable_token_indices: [40, 41]'; do
    want 0 '' train c.yaml -q -o g --force -s base=base.gguf -s data.train=valid.jsonl -s "adapter={method: $m}"
    want 0 '' merge --base base.gguf --adapter g -o g.gguf --force --dtype f32 -q
    check "$m: a merged GGUF" near "$(loss --base g.gguf)" "$(trained g)"
done

# one base, a task for each record
printf '{"task": "%s", "input_ids": [1, 40, 41, 9]}\n' head last tokens >tasks.jsonl
want 0 '' eval --base base --adapter head=head --adapter last=last --adapter tokens=tokens --data tasks.jsonl --json -q
finish
