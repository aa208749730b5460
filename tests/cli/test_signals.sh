#!/usr/bin/env bash
# Ctrl-C, SIGTERM and SIGHUP: the step is finished, the adapter saved, the way on told; a second one ends.
. "$(dirname "$0")/tiny.sh"
records 400 >train.jsonl

# start ARGS...: a run in the background that has begun its steps; its number in $pid
start() { start_with -- "$@"; }
# start_with [NAME=VALUE] -- ARGS...: with this in its environment
start_with() {
    local said=()
    while [ "$1" != -- ]; do said+=("$1"); shift; done
    shift
    # a shell without job control makes its children ignore SIGINT: set it back
    env --default-signal=INT "${said[@]}" "$graft" train c.yaml -s train.steps=1000000 "$@" >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 200); do
        grep -q '"step": 3' running/metrics.jsonl 2>/dev/null && return
        sleep 0.05
    done
    complain "the run does not begin" "$(cat err)"
}
ends() { # ends CODE PATTERN
    wait "$pid"
    rc=$?
    judge "$1" "$2" "train, stopped"
}
env --default-signal=INT true 2>/dev/null || { echo "env has no --default-signal"; exit 77; }

for signal in HUP:129 INT:130 TERM:143; do
    rm -rf running
    start -o running
    kill -"${signal%:*}" "$pid"
    ends "${signal#*:}" 'stopped after step [0-9]+ of 1000000; the adapter is in .*running.*init_from'
    check "the way on is told" grep -q 'go on:  graft train .*/running/config.yaml -s adapter.init_from=.*running -s train.epochs=null -s train.steps=99[0-9]* -o .*running-2' err
    sed -n 's/^go on:  \(.*train.steps=\)[0-9]*/\12/p' err >go_on # the line as it stands, for two steps
    check "the result says interrupted" grep -q '"status": "interrupted"' running/result.json
    check "nothing on stdout" test ! -s out
    check "no part of a file is left" test -z "$(find running -name '*.tmp*' -o -name '*.lock')"
    want 0 '' eval --base base --adapter running --data valid.jsonl
    steps=$(grep -c '"lr"' running/metrics.jsonl)
    check "steps agree" grep -q "\"steps\": $steps," running/result.json
done
check "the way on works" env PATH="$(dirname "$graft"):$PATH" sh go_on
check "and trains" grep -q '"steps": 2,' running-2/result.json
want 2 'holds a run already' train c.yaml -o running

# nohup's program goes on without its terminal, and so does one that nobody listens to
rm -rf running
nohup "$graft" train c.yaml -s train.steps=1000000 -o running >out 2>err </dev/null &
pid=$!
for _ in $(seq 200); do
    grep -q '"step": 3' running/metrics.jsonl 2>/dev/null && break
    sleep 0.05
done
kill -HUP "$pid"
sleep 0.5
check "nohup is obeyed" kill -0 "$pid"
kill -TERM "$pid"
ends 143 'stopped after step'
rm -rf running
env --default-signal=PIPE "$graft" train c.yaml -s train.steps=200 -o running 2>&1 >/dev/null </dev/null | head -n 1 >/dev/null
check "a run outlives the reader of its output" grep -q '"status": "finished"' running/result.json

# threads that wait do not keep a busy machine from its work, unless the user says how they wait
waits() { tr '\0' '\n' <"/proc/$pid/environ" | grep -E '^(OMP_WAIT_POLICY|GOMP_SPINCOUNT)='; }
if [ -r /proc/self/environ ]; then
    for said in "" OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=7; do
        rm -rf running
        export -n OMP_WAIT_POLICY
        start_with $said -- -o running
        check "how threads wait: ${said:-by default}" test "$(waits)" = "${said:-GOMP_SPINCOUNT=5000}"
        check "the program has its name" test "$(cat /proc/$pid/comm)" = graft
        kill -TERM "$pid"
        ends 143 'stopped after step'
    done
    export OMP_WAIT_POLICY
fi

# a long evaluation does not keep the adapter waiting; all steps are done, so the run is finished
records 12000 >many.jsonl
rm -rf running
env --default-signal=INT "$graft" train c.yaml -s train.steps=2 -s data.valid=many.jsonl -o running >out 2>err </dev/null &
pid=$!
for _ in $(seq 400); do
    grep -q '"step": 2' running/metrics.jsonl 2>/dev/null && break
    sleep 0.02
done
kill -INT "$pid"
ends 0 'note: stopped in the evaluation after step 2'
check "and saves the adapter" test -e running/adapter_model.safetensors
check "without a validation loss" test -z "$(grep valid_loss running/metrics.jsonl)"

# timeout sends one request as two signals
rm -rf running
timeout 1 "$graft" train c.yaml -s train.steps=1000000 -o running >out 2>err </dev/null
check "timeout is one request" grep -q 'stopped after step' err
check "and the adapter is saved" test -e running/adapter_model.safetensors

# twice: at once, and what is there stays usable
rm -rf running
env --default-signal=INT "$graft" train c.yaml -s data.train=many.jsonl -s train.gradient_accumulation=6000 -o running >out 2>err </dev/null &
pid=$!
for _ in $(seq 400); do
    [ -e running/metrics.jsonl ] && break
    sleep 0.02
done
sleep 0.5 # it is in the step
kill -INT "$pid"; sleep 0.5; kill -TERM "$pid"
wait "$pid"
rc=$?
check "a second signal ends the program in its first step ($rc)" test "$rc" = 143 -a ! -s running/metrics.jsonl
check "and saves nothing" test ! -e running/result.json
rm -rf running
start -o running
want 2 'output running is in use by another run' merge --base base --adapter running-2 -o running --force
want 2 'output running is in use by another run' combine running-2:1 -o running --force
kill -KILL "$pid"; wait "$pid" 2>/dev/null
check "a killed run leaves no adapter that is half" test ! -e running/adapter_model.safetensors
want 2 'holds a run already' train c.yaml -o running
want 0 . train c.yaml -o running --force

# what is written as a whole is whole or not there, whenever the signal comes
adapter=running-2
whole() { # whole RC: nothing at all, or all of it (the signal may come behind it)
    test -z "$(find . -name '*.tmp-*')" || return 1
    [ -e m/config.json ] && [ -e m/model.safetensors ] && [[ "$1" =~ ^(0|130)$ ]] && return
    [ "$1" = 130 ] && test ! -e m
}
for delay in 0.010 0.015 0.020 0.022 0.024 0.026 0.028 0.03 0.04 0.06; do
    rm -rf m
    env --default-signal=INT "$graft" merge --base base --adapter $adapter -o m >out 2>err </dev/null &
    pid=$!
    sleep $delay
    kill -INT "$pid" 2>/dev/null
    wait "$pid"
    rc=$?
    check "a merge stopped after $delay s ($rc)" whole "$rc"
done
# what a killed program left is no reason to refuse, and goes; other people's files are
rm -rf m && mkdir m && : >m/model.safetensors.tmp-12 && : >m/config.json.tmp-7
want 0 'merged onto' merge --base base --adapter $adapter -o m
check "left-overs go" test -z "$(find m -name '*.tmp-*')"
: >q.h5.tmp-12
want 0 'tensors' quantize base -o q.h5
check "beside a file too" test ! -e q.h5.tmp-12
rm -rf m && mkdir m && : >m/notes.tmp-12
want 2 'is not empty \(notes.tmp-12\)' merge --base base --adapter $adapter -o m
check "a file of somebody else stays" test -e m/notes.tmp-12
mkdir -p left/best && : >left/best/adapter_model.safetensors.tmp-12
want 2 'is no run of graft and holds best' train c.yaml -o left

# generate has nothing to save
for i in $(seq 20); do printf '{"prompt": "%d"}\n' "$i"; done >prompts.jsonl
env --default-signal=PIPE "$graft" generate --base base --prompts prompts.jsonl -n 20 --json 2>err | head -1 >out
check "a closed pipe ends it without a word" test ! -s err
check "what was read is a line" json_lines out
wait
finish
