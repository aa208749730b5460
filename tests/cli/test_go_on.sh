#!/usr/bin/env bash
# A stopped run's own words for going on are a command that works, for every method with the keys it has by default
# (bitfit but for: the tiny base has no biases) and for adapters that took their start out of the base.
. "$(dirname "$0")/tiny.sh"
env --default-signal=INT true 2>/dev/null || { echo "env has no --default-signal"; exit 77; }

# goes_on 'ADAPTER MAP' [ARGS...]; $metrics: the file that tells when the run goes, $steps: of the key that says how long
goes_on() {
    local map=$1
    shift
    cat >m.yaml <<END
base: base
adapter: $map
data: {train: train.jsonl, max_length: 64}
train: {steps: 1000000, batch_size: 2, gradient_accumulation: 1}
output: first
END
    rm -rf first first-2
    env --default-signal=INT "$graft" train m.yaml "$@" >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 200); do
        grep -q '"step": 2' "$metrics" 2>/dev/null && break
        sleep 0.05
    done
    kill -INT "$pid"
    wait "$pid"
    rc=$?
    judge 130 'go on:  graft train ' "train $map, stopped"
    # the line as it stands, for two steps
    eval "set -- $(sed -n "s/^go on:  graft \(.*$steps=\)[0-9]*\([^#]*\).*/\12\2/p" err)"
    check "$map: the line is told" test $# -gt 4
    [ $# -le 4 ] || want 0 'finished after 2 steps' "$@"
}
metrics=first/metrics.jsonl steps=train.steps

for method in lora dora spa ia3 houlsby pfeiffer parallel layernorm head last_layers full; do
    goes_on "{method: $method}"
done
for method in prompt prefix ptuning; do
    goes_on "{method: $method, num_virtual_tokens: 3}"
done
goes_on '{method: rosa, schedule: wl1}'
goes_on '{method: lora, use_rslora: true, init_lora_weights: orthogonal, r: 4}'
for init in pissa pissa_niter_2 olora loftq; do
    goes_on "{method: lora, r: 4, lora_alpha: 8, rank_pattern: {q_proj: 2}, init_lora_weights: $init}" -s quant=nf4
    [ $init = loftq ] || goes_on "{method: lora, r: 4, lora_alpha: 8, init_lora_weights: $init}"
done
# a checkpoint holds what it started from; its steps at a rate of zero change nothing
want 0 '' train c.yaml -q -s optim.lr=0.1
goes_on "{method: full, init_from: $work/run}" -s quant=none -s optim.lr=0
check "the adapter is not added twice" awk -v a="$("$graft" eval --base first --quant none --data valid.jsonl --json | sed 's/.*"loss": \([0-9.]*\).*/\1/')" \
    -v b="$("$graft" eval --base first-2 --quant none --data valid.jsonl --json | sed 's/.*"loss": \([0-9.]*\).*/\1/')" 'BEGIN { exit !(a - b < 1e-5 && b - a < 1e-5) }'
# two stages: stopped in the second, and in the first
goes_on '{method: lpft, probe_steps: 2}'
check "the probe is not trained again" test ! -e first-2/probe
metrics=first/probe/metrics.jsonl steps=adapter.probe_steps
goes_on '{method: lpft, probe_steps: 1000000}' -s train.steps=2
check "the probe goes on" test -e first-2/probe/adapter_model.safetensors -a -e first-2/model.safetensors
want 2 'holds a run already' train m.yaml
# a mask that was still to be chosen
rm -rf first first-2
env --default-signal=INT "$graft" train c.yaml -s 'adapter={method: rosa, schedule: wl64}' -s train.steps=1000000 -o first >out 2>err </dev/null &
pid=$!
for _ in $(seq 200); do
    grep -q '"step": 2' first/metrics.jsonl 2>/dev/null && break
    sleep 0.01
done
kill -INT "$pid"
wait "$pid"
done=$(grep -c '"lr"' first/metrics.jsonl)
check "what is left of the warm-up ($done steps done)" \
    bash -c "[ $done -ge 64 ] || grep -q 'go on: .* -s adapter.schedule=wl$((64 - done)) ' err"
finish
