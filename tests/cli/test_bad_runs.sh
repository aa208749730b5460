#!/usr/bin/env bash
# Runs that cannot begin or go wrong on the way: outputs that are taken, cannot be written or are
# full, adapters that do not fit, numbers that are none.
. "$(dirname "$0")/tiny.sh"

# an output folder that holds something
want 0 'base_name' train c.yaml
sum=$(sha256sum run/*.safetensors)
want 2 'run holds a run already .*-o DIR.*--force' train c.yaml
check "a refused run changes nothing" test "$sum" = "$(sha256sum run/*.safetensors)"
echo mine >run/notes.txt; echo mine >run/best/notes.txt; mkdir run/checkpoints.old
want 0 . train c.yaml --force -s train.seed=2
check "--force trains anew" test "$sum" != "$(sha256sum run/*.safetensors)"
check "--force removes its own files only" only run adapter_config.json adapter_model.safetensors best \
    checkpoints.old config.yaml graft.json metrics.jsonl notes.txt result.json tokenizer.json tokenizer_config.json
check "--force leaves other files in best/" test -e run/best/notes.txt
check "metrics.jsonl is that of one run" test "$(grep -c '"lr"' run/metrics.jsonl)" = 6
cp -r base copy
want 2 'copy is the base, which is read' train c.yaml -s base=copy -o copy --force
want 2 'no run of graft.*tokenizer.json' train c.yaml -o copy --force
want 2 'run is adapter.init_from' train c.yaml -s adapter.init_from=run --force
check "a base is never cleared" diff -r base copy
mkdir work; cp valid.jsonl train.jsonl work; cp c.yaml work/config.yaml
want 2 'no run of graft.*config.yaml' train work/config.yaml -o work --force
check "a config is never cleared" only work valid.jsonl train.jsonl config.yaml
cp run/config.yaml again.yaml
want 0 . train again.yaml --force
want 2 'train.jsonl is data.train, which is read' train c.yaml -o train.jsonl
want 2 'again.yaml.*not a folder' train c.yaml -o again.yaml
want 2 'train.jsonl' train c.yaml -o train.jsonl/sub
mkdir kept
want 3 . train c.yaml -s data.train=none -o kept
check "an empty folder that was there stays" test -d kept

# a folder that another run is using
want 0 . train c.yaml -o used
(exec 9<>used/.graft.lock; flock 9; want 2 'used is in use by another run' train c.yaml -o used --force; [ $bad = 0 ]) || bad=$((bad + 1))

# a folder that cannot be written; root can write everywhere, so it has to give that up
mkdir locked; chmod 555 locked
if [ "$(id -u)" != 0 ]; then
    want 1 'locked.*Permission denied' train c.yaml -o locked
    want 1 'locked.*Permission denied' train c.yaml -o locked/new
elif [ -d /proc/self ]; then
    want 1 '/proc.*' train c.yaml -o /proc/self/graft
fi

# no room: the size of a file is limited, as on a full disk every write behind it fails
full() { # full KIB CODE PATTERN ARGS...
    local kib=$1 code=$2 pattern=$3
    shift 3
    (ulimit -f "$kib"; exec "$graft" "$@") >out 2>err </dev/null
    rc=$?
    judge "$code" "$pattern" "$@"
}
full 20 1 'adapter_model.safetensors: cannot write' train c.yaml -o full
check "a failed write leaves no part" test -z "$(find full -name '*.tmp*' -o -name 'adapter_model*')"
check "the result says failed" grep -q '"status": "failed"' full/result.json
check "no adapter, nothing that goes with one" only full config.yaml metrics.jsonl result.json
full 20 1 'adapter_model.safetensors: cannot write' train c.yaml -s data.valid=null -o full3
check "the result says failed here, too" grep -q '"status": "failed"' full3/result.json
full 100 1 'cannot write' train c.yaml -s 'adapter={method: full}' -s quant=none -s data.valid=null -o full4
check "no half of a checkpoint" only full4 config.yaml metrics.jsonl result.json
check "and nothing else is left" only full3 config.yaml metrics.jsonl result.json
full 20 1 'the adapter of step [0-9]+ is lost' train c.yaml -o full0
full 2 1 'metrics.jsonl: ' train c.yaml -s train.steps=100 -s data.valid=null -o full1
# room for the adapter but not where the best one goes, which is a file of somebody else by now
timeout 60 "$graft" train c.yaml -s train.steps=100000 -s train.eval_every=1 -s optim.lr=1e-5 -s optim.schedule=constant -o full2 >out 2>err </dev/null &
pid=$!
for _ in $(seq 400); do
    grep -q '"step": 2' full2/metrics.jsonl 2>/dev/null && break
    sleep 0.02
done
for _ in $(seq 100); do # the run may make it anew in between
    rm -rf full2/best && : 2>/dev/null >full2/best && break
done
wait "$pid"
rc=$?
judge 1 'full2/best.*; the adapter of step [0-9]+ is in .*full2/last_good, go on' "train, best is taken"
check "what was learnt is there" test -s full2/last_good/adapter_model.safetensors
check "and the result says failed" grep -q '"status": "failed"' full2/result.json
want 0 '' eval --base base --adapter full2/last_good --data valid.jsonl
full 20 1 'q.h5' quantize base -o q.h5
check "a failed container leaves no part" test -z "$(ls | grep 'q.h5')"
full 20 1 'model.safetensors: cannot write' merge --base base --adapter run -o merged
check "a failed merge leaves no folder" test ! -e merged
mkdir merged
full 100 1 'model.safetensors: cannot write' merge --base base --adapter run -o merged
check "a failed merge leaves its folder empty" only merged
if [ -w /dev/full ]; then
    for args in "eval --base base --data valid.jsonl --json" "eval --base base --data valid.jsonl" \
        "generate --base base -p a -n 3" "inspect base" "train --help-config" "help" "--version"; do
        "$graft" $args >/dev/full 2>err </dev/null
        rc=$?
        judge 1 'cannot be written|No space' $args
    done
fi

# outputs of the other verbs
want 0 . quantize base -o q.h5
sum=$(sha256sum q.h5)
want 2 'q.h5 exists.*--force' quantize base -o q.h5
want 2 "output q.h5 is the base, which is read" quantize q.h5 -o q.h5 --force
want 2 'would replace base .the base.' quantize base -o base/model.safetensors --force
want 0 '' quantize base -o base/q.h5 -q
want 0 '' quantize base -o base/q.h5 --force -q
rm base/q.h5
check "a container over itself stays what it was" test "$sum" = "$(sha256sum q.h5)"
want 1 'nowhere/q.h5|nowhere' quantize base -o nowhere/q.h5
mkdir dir.h5; want '[12]' 'dir.h5' quantize base -o dir.h5 --force
want 0 . merge --base base --adapter run -o m
want 2 'm is not empty.*--force' merge --base base --adapter run -o m
echo mine >m/notes.txt
want 0 . merge --base base --adapter run -o m --force
check "merge --force leaves other files" test -e m/notes.txt
want 2 'copy is the base' merge --base copy --adapter run -o copy --force
want 2 'run is the adapter' merge --base base --adapter run -o run --force
check "a base is never cleared" diff -r base copy
check "an adapter is never cleared" test -e run/adapter_model.safetensors

# what is read lies inside what --force removes, or is a file of a folder that is read
want 0 '' train c.yaml -q -o lp --force -s 'adapter={method: lpft, probe_steps: 1}'
want 0 '' train c.yaml -q -o pissa -s adapter.init_lora_weights=pissa
cp valid.jsonl m/model.safetensors; cp valid.jsonl run/result.json; cp valid.jsonl run/best/result.json
cp -r lp lp.was; cp -r pissa pissa.was; cp -r run run.was; cp -r m m.was
spared() { local out=$1 read=$2; shift 2; want 2 "output .*$out would replace .*$read, which is read; use another output" "$@" -o "$out" --force; }
spared run 'run/best .adapter.init_from.' train c.yaml -s adapter.init_from=run/best
spared run 'run/best/result.json .data.train.' train c.yaml -s data.train=run/best/result.json
spared run 'run/result.json .data.valid.' train c.yaml -s data.valid=run/result.json
spared lp 'lp/probe .adapter.init_from.' train c.yaml -s 'adapter={method: head, init_from: lp/probe}'
spared lp 'lp/best .the base.' train c.yaml -s base=lp/best -s quant=none
spared pissa 'pissa/base.h5 .the base.' train c.yaml -s base=pissa/base.h5 -s quant=none
spared pissa 'pissa/base.h5 .the base.' combine run --base pissa/base.h5
spared run 'run/best .one of the adapters.' combine run/best:0.5
spared run 'run/best .the adapter.' export --adapter run/best --base base --to peft
spared run/adapter_model.safetensors 'run .the adapter.' export --adapter run --base base
spared copy/model.safetensors 'copy .the base.' export --adapter run --base copy
spared m 'm/model.safetensors .--audit.' merge --base base --adapter run --audit m/model.safetensors
want 2 'adapter.mask_save_path: output .*train.jsonl is data.train, which is read' train c.yaml -o x --force \
    -s 'adapter={method: spa, d: 0.1}' -s "adapter.mask_save_path=$PWD/train.jsonl"
ln -s "$PWD/run" alias; ln -s "$PWD/run/best/adapter_model.safetensors" linked
spared run 'alias/best .the adapter.' export --adapter alias/best --base base --to peft
want 2 'would replace run/best' export --adapter run/best --base base -o linked --force
for kept in lp pissa run m; do check "$kept: nothing is removed" diff -r $kept $kept.was; done
check "nor made" test ! -e x
check "a base is never written over" diff -r base copy
want 0 '' export --adapter run/best --base base -o run/best/adapter.gguf -q
want 0 '' export --adapter run/best --base base -o run/best/adapter.gguf -q --force
want 0 '' merge --base base --adapter run/best -o run/merged -q
want 0 '' merge --base base --adapter run/best -o run/merged -q --force

# numbers that are none
want 1 'step [0-9]+: loss .*(gradient of|in the base|numbers only).*last_good' train c.yaml -s optim.lr=1e30 -s optim.max_grad_norm=0 -o nan
check "the last good adapter is there" test -e nan/last_good/adapter_model.safetensors
check "no adapter under the final name" test ! -e nan/adapter_model.safetensors
check "the result says failed" grep -q '"status": "failed"' nan/result.json
check "what is no number is null" grep -q '"loss": null\|"grad_norm": null' nan/metrics.jsonl
want 0 '' eval --base base --adapter nan/last_good --data valid.jsonl --json
want 1 'validation after step 2: .*valid.jsonl:[0-9]+: the loss of this record is nan .*the adapter of step 1, the last good one, is in .*nanv/last_good, the best one, of step 1, in best' \
    train c.yaml -s optim.lr=1e30 -s optim.max_grad_norm=0 -s train.eval_every=1 -o nanv
check "the last good adapter is there, too" test -e nanv/last_good/adapter_model.safetensors
check "no adapter under the final name" test ! -e nanv/adapter_model.safetensors
check "a validation loss that is no number is null" grep -q '"step": 2, "valid_loss": null' nanv/metrics.jsonl
want 0 '' eval --base base --adapter nanv/last_good --data valid.jsonl --json
"$make_base" hot put=model.layers.1.mlp.up_proj.weight:nan
want 3 'hot: model.layers.1.mlp.up_proj.weight: element 0 .*nan' train c.yaml -s base=hot -o new
want 1 'step 1: loss -?nan.*model.layers.1.mlp.up_proj.weight\[[0-9]*\] is -?nan in the base' train c.yaml -s base=hot -s quant=none -o new2
check "no adapter of a failed run" test ! -e new/adapter_model.safetensors -a ! -e new/last_good
want 1 'nan|not numbers' generate --base hot -p a --json
check "generate --json says nothing on stdout" test ! -s out
want 1 'nan' eval --base hot --data valid.jsonl
want 1 'model.layers.1.mlp.up_proj.weight' merge --base hot --adapter run --onto original -o hotm
check "a failed merge leaves no folder" test ! -e hotm
"$make_base" hot put=model.norm.weight:inf
want 1 'step 1: .*model.norm.weight\[0\] is inf in the base' train c.yaml -s base=hot -o new3
"$make_base" big scale=1e20
want 1 'step 1: loss' train c.yaml -s base=big -o new4

# adapters that do not fit
"$make_base" other seed=2
want 0 'note: adapter run was trained over another base .*hash' eval --base other --adapter run --data valid.jsonl
want 0 'note: .*over another base .*hash' train c.yaml -s base=other -s adapter.init_from=run -o from
want 0 'note: adapter run was trained over another base .*hash' merge --base other --adapter run -o othermerged
misfit() { # misfit CODE PATTERN: the adapter in a, by every verb that loads one
    want "$1" "$2" eval --base base --adapter a --data valid.jsonl --json
    want "$1" "$2" generate --base base --adapter a -p x --json
    want "$1" "$2" merge --base base --adapter a -o misfit
    want "$1" "$2" train c.yaml -s 'adapter={init_from: a}' -o misfit
    check "a refused adapter leaves no output" test ! -e misfit
}
take() { rm -rf a; cp -r run a; }
take; LC_ALL=C sed -i 's/layers.1.mlp/layers.7.mlp/g' a/adapter_model.safetensors
misfit 3 'layers.[17].mlp.down_proj.lora_A.weight'
take; sed -i 's/"r": 4/"r": 8/' a/adapter_config.json
want 3 'found \(4, 64\).*wants \(8, 64\)' eval --base base --adapter a --data valid.jsonl
take; sed -i 's/"down_proj",//' a/adapter_config.json
misfit 3 'unexpected.*down_proj'
take; sed -i 's/"down_proj"/"fc9"/' a/adapter_config.json
misfit '[23]' 'down_proj|fc9'
take; sed -i 's/"[a-z]*_proj"/"fc9"/' a/adapter_config.json
want 3 'a/adapter_config.json: adapter.target_modules matches no module' eval --base base --adapter a --data valid.jsonl
want 3 'adapter.init_from .*/a/adapter_config.json: .*matches no module' train c.yaml -s 'adapter={init_from: a}' -o misfit
take; head -c 5000 run/adapter_model.safetensors >a/adapter_model.safetensors
misfit 3 'a/adapter_model.safetensors: '
take; rm a/adapter_model.safetensors; misfit 3 'adapter_model.safetensors'
take; rm a/adapter_model.safetensors; : >a/adapter_model.bin; misfit 3 'adapter_model.bin.*save_pretrained'
take; echo '{' >a/adapter_config.json; misfit 3 'a/adapter_config.json:'
take; rm a/adapter_config.json; misfit 3 'adapter_config.json'
take; sed -i 's/"LORA"/"VERA"/' a/adapter_config.json; misfit 3 'VERA'
take; echo '{"format_version": 99}' >a/graft.json; misfit 3 'a/graft.json.*99'
take; echo '[' >a/graft.json; misfit 3 'a/graft.json:'
"$make_base" small; sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 1/' small/config.json
want 3 'no place' eval --base small --adapter run --data valid.jsonl
finish
