#!/usr/bin/env bash
# Where records come from: several files with weights, a part held out, compressed files. The plan,
# the resolved config, the steps and what is written agree.
. "$(dirname "$0")/tiny.sh"

number() { sed -n "s/.*\"$2\": *\([-+.0-9eE]*\).*/\1/p" "$1" | tail -n 1; } # number FILE KEY

# compressed files are the files
gzip -c train.jsonl >train.jsonl.gz
gzip -c valid.jsonl >valid.gz
want 0 . train c.yaml -o plain
want 0 . train c.yaml -s data.train=train.jsonl.gz -s data.valid=valid.gz -o packed
check "a run over gzip is the run over the plain file" \
    cmp plain/adapter_model.safetensors packed/adapter_model.safetensors
want 0 '' eval --base base --adapter plain --data valid.jsonl --json --per-example
mv out plain.eval
want 0 '' eval --base base --adapter packed --data valid.gz --json --per-example
check "so is an evaluation" test "$(number out loss)" = "$(number plain.eval loss)"
head -3 valid.jsonl | sed 's/, "completion.*/}/' >prompts.jsonl
gzip -c prompts.jsonl >prompts.gz
want 0 '' generate --base base --prompts prompts.jsonl -n 4 --json
mv out plain.answers
want 0 '' generate --base base --prompts prompts.gz -n 4 --json
check "and answers" cmp out plain.answers
"$graft" generate --base base --prompts - -n 4 --json <prompts.gz >out 2>err
check "on standard input too" cmp out plain.answers
sed 's/{"prompt": \(.*\)}/{"text": \1}/' prompts.jsonl | gzip >texts.gz
want 0 '' tokenize --base base --data texts.gz
check "and tokens" test "$(wc -l <out)" = 3
want 0 '' preview c.yaml -s data.train=train.jsonl.gz --line 33 --json
check "preview finds a line" grep -q 'number 33 is n1089' out
if command -v zstd >/dev/null; then
    zstd -q train.jsonl -o train.jsonl.zst
    want 0 . train c.yaml -s data.train=train.jsonl.zst -o zstd
    check "a run over zstd too" cmp plain/adapter_model.safetensors zstd/adapter_model.safetensors
fi

# weights: 40 records twice, 10 records once, 25 of 50
records 10 | sed 's/number/digit/' >b.jsonl
records 50 | sed 's/number/numeral/' >c.jsonl
cat >w.yaml <<'END'
base: base
adapter: {method: lora, r: 4}
data:
  train: [{path: train.jsonl, weight: 2}, b.jsonl, {path: c.jsonl, weight: 0.5, format: completion}]
  max_length: 64
train: {epochs: 2, batch_size: 3, gradient_accumulation: 2}
output: weighted
END
want 0 . train w.yaml --dry-run --json
check "the plan counts draws" test "$(number out draws)" = 115
check "and steps" test "$(number out steps_per_epoch)/$(number out steps)" = 20/40
check "and names each file's" grep -q '"weight": 0.5, "records": 50, "draws": 25' out
want 0 'c.jsonl: 50 records, weight 0.5: 25 an epoch' train w.yaml
check "the run has the steps of the plan" test "$(number weighted/result.json steps)" = 40
check "both epochs end with a step" \
    test "$(grep -c '"epoch": [12].0,' weighted/metrics.jsonl)" = 2
check "the resolved config has the weights" grep -Eq 'weight: 0.5' weighted/config.yaml
want 0 . train weighted/config.yaml -o again
want 0 '' preview w.yaml -n 41
check "preview tells the weight" grep -q 'train.jsonl:40: weight 2, ' out
check "where it is not 1" grep -Eq 'b.jsonl:1: [0-9]+ tokens' out
check "and gives the same run" cmp weighted/adapter_model.safetensors again/adapter_model.safetensors
want 0 . train w.yaml -s data.packing=true -o packed-rows
want 0 . train w.yaml -s data.packing=true --dry-run --json
check "packed epochs may differ in steps; the plan knows all of them" \
    test "$(number out steps)" = "$(number packed-rows/result.json steps)"

# held out
want 0 '' train c.yaml --quiet -s data.valid=0.2 -o share
check "a fifth is held out" test "$(wc -l <share/valid.jsonl)" = 8
check "its lines are those of the file" test "$(sort share/valid.jsonl train.jsonl | uniq -d | wc -l)" = 8
want 0 '' eval --base base --adapter share --data share/valid.jsonl --json
check "eval of it is the validation loss" test "$(number out loss)" = "$(number share/metrics.jsonl valid_loss)"
want 0 '' train share/config.yaml -o share2 --quiet
check "the resolved config holds the same out" cmp share/valid.jsonl share2/valid.jsonl
want 0 '' train c.yaml --quiet -s data.valid=8 -s train.seed=7 -o seven
check "so many are held out" test "$(wc -l <seven/valid.jsonl)" = 8
check "another seed, another part" test "$(cmp -s seven/valid.jsonl share/valid.jsonl; echo $?)" = 1
want 0 . train c.yaml -s data.valid=8 --dry-run
check "a dry run counts what it would hold out" grep -Eq 'held out +8 records' out
check "a dry run writes nothing" test ! -e run
want 2 'would replace .*valid.jsonl .data.train., which is read' train c.yaml -s data.valid=5 -s data.train=share/valid.jsonl -o share --force
want 0 . train c.yaml --force -o share
check "--force removes what was held out" test ! -e share/valid.jsonl
finish
