#!/usr/bin/env bash
# Adapters of every method this version has over one base: records that name their task, mixed, are answered and
# measured as each alone.
. "$(dirname "$0")/tiny.sh"

methods='lora dora rosa spa ia3 prompt ptuning prefix houlsby pfeiffer parallel layernorm'
keys() { # what the method needs beside its name
    case $1 in
    lora | dora) echo ', r: 4, target_modules: all-linear' ;;
    rosa) echo ', r: 2, d: 0.05, schedule: df, target_modules: all-linear' ;;
    spa) echo ', d: 0.05, target_modules: all-linear' ;;
    prompt | prefix) echo ', num_virtual_tokens: 3' ;;
    ptuning) echo ', num_virtual_tokens: 3, encoder_hidden_size: 8' ;;
    houlsby | pfeiffer | parallel) echo ', reduction_factor: 4' ;;
    esac
}

tasks=() resident=()
for m in $methods; do
    "$graft" train c.yaml -q -o probe --dry-run -s "adapter={method: $m}" >/dev/null 2>err
    if grep -q 'not supported in this version' err; then
        echo "left out: $m is not in this version"
        continue
    fi
    want 0 '' train c.yaml -q -o "$m" -s optim.lr=0.1 -s "adapter={method: $m$(keys $m)}"
    tasks+=("$m") resident+=(--adapter "$m")
done
want 0 '' train c.yaml -q -o again -s optim.lr=0.1 -s train.seed=7 -s 'adapter={method: lora, r: 2, target_modules: [q_proj]}'
tasks+=(again) resident+=(--adapter again)

# prompts and records of every task and of the base, each task's also by itself
: >mixed.jsonl
: >measured.jsonl
for i in 1 2 3; do
    for t in "${tasks[@]}" null; do
        name=null
        [ $t = null ] || name="\"$t\""
        echo "{\"prompt\": \"number $((i * 7)) is \", \"task\": $name}" | tee -a mixed.jsonl >>p-$t.jsonl
        echo "{\"prompt\": \"number $i is \", \"completion\": \"n$((i * i))\", \"task\": $name}" | tee -a measured.jsonl >>m-$t.jsonl
    done
done
want 0 '' generate --base base "${resident[@]}" --prompts mixed.jsonl -n 12 --json -q --quant nf4
check "an answer a prompt" [ "$(wc -l <out)" = "$(wc -l <mixed.jsonl)" ]
cp out mixed.out
want 0 '' eval --base base "${resident[@]}" --data measured.jsonl --per-example --json -q --quant nf4
grep -o '{"nll": [^}]*}' out >measured.out
n=0
for t in "${tasks[@]}" null; do
    n=$((n + 1))
    one=()
    [ $t = null ] || one=(--adapter $t)
    want 0 '' generate --base base "${one[@]}" --prompts p-$t.jsonl -n 12 --json -q --quant nf4
    check "$t: the same answers alone" diff out <(awk -v n=$n -v all=$((${#tasks[@]} + 1)) 'NR % all == n % all' mixed.out)
    want 0 '' eval --base base "${one[@]}" --data m-$t.jsonl --per-example --json -q --quant nf4
    check "$t: the same losses alone" diff <(grep -o '{"nll": [0-9.]\{7\}' out) \
        <(awk -v n=$n -v all=$((${#tasks[@]} + 1)) 'NR % all == n % all' measured.out | grep -o '{"nll": [0-9.]\{7\}')
done
check "the tasks differ" bash -c '[ "$(grep -o "\"ids\": [^]]*" mixed.out | sort -u | wc -l)" -gt 3 ]'

want 2 "there is no adapter for task 'other'" generate --base base "${resident[@]}" --task other -p x
want 2 'several adapters are loaded' generate --base base "${resident[@]}" -p x
finish
