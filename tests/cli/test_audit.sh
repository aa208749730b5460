#!/usr/bin/env bash
# A merge's audit: what it measures is what eval measures, on both kinds of weights, and it stands in the metadata.
. "$(dirname "$0")/tiny.sh"
tool=${GRAFT_GGUF_TOOL:?the program that makes and checks GGUF files}

number() { # number FILE KEY [N]: the N-th value of that key
    grep -o "\"$2\": [-0-9.e+]*" "$1" | sed -n "${3:-1}s/.*: //p"
}
loss() { "$graft" eval -q "$@" --data valid.jsonl --json >loss.json; number loss.json loss; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(d < 1e-6 && d > -1e-6 && a > 0) }'; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 < b && a + 0 > -b) }'; }

want 0 '' train c.yaml -q -o nf4 -s optim.lr=0.1
want 0 '' train c.yaml -q -o float -s optim.lr=0.1 -s quant=none

# trained over nf4, merged onto the original: both kinds of weights are at hand
want 0 '' merge --base base --adapter nf4 -o m1 --onto original --audit valid.jsonl --json -q
cp out m1.json
check "two sides" grep -q '"against": \[{"onto": "original", "weights": "f32", "trained_on": false.*{"onto": "quantized", "weights": "nf4", "trained_on": true' m1.json
check "the merged model's loss" near "$(number m1.json loss)" "$(loss --base m1)"
check "over the chosen weights" near "$(number m1.json loss 2)" "$(loss --base base --adapter nf4 --quant none)"
check "over the others" near "$(number m1.json loss 3)" "$(loss --base base --adapter nf4 --quant nf4)"
check "nothing but rounding on the chosen" below "$(number m1.json kl 1)" 1e-10
check "logits too" below "$(number m1.json logit_change 1)" 1e-4
check "the other differs by what nf4 rounds" bash -c '! awk -v a='"$(number m1.json kl 2)"' "BEGIN { exit !(a < 1e-6) }"'
# the other way round
want 0 '' merge --base base --adapter nf4 -o m2 --audit valid.jsonl --json -q
check "the chosen first" grep -q '"against": \[{"onto": "quantized", "weights": "nf4", "trained_on": true' out
check "rounding alone" below "$(number out kl 1)" 1e-10
# 16 bits cost more than 32; text says what JSON says
want 0 '' merge --base base --adapter float -o m3 --audit valid.jsonl --dtype bf16 --json -q
check "bf16 shows" bash -c 'awk -v a='"$(number out kl 1)"' "BEGIN { exit !(a > 1e-8 && a < 1e-3) }"'
want 0 '' merge --base base --adapter float -o m4 --audit valid.jsonl -q
check "in words" grep -q 'over the original weights (f32, as trained): perplexity' out
# a model without another side, and one whose file is a GGUF
"$graft" quantize base -o base.h5 -q
want 0 '' merge --base base.h5 --adapter nf4 -o m5 --audit valid.jsonl -q
check "one side" grep -q 'original weights are not at hand' out
"$tool" make base base.gguf || exit 1
want 0 '' merge --base base.gguf --adapter nf4 -o m6.gguf --audit valid.jsonl --json -q
check "a GGUF's two sides" grep -q '"weights": "nf4".*"weights": "f32"' out

# it stands where the model is, and the model is as before
for m in m1 m6.gguf; do
    check "$m: inspect shows it" grep -q '"merge": {.*"audit": {"data": "valid.jsonl", "records": 8' <("$graft" inspect $m --json)
done
want 0 '' merge --base base --adapter nf4 -o plain --onto original -q
check "the tensors are the same" cmp <(tail -c 100000 m1/model.safetensors) <(tail -c 100000 plain/model.safetensors)
check "no note without an audit" bash -c "! grep -q graft_merge plain/model.safetensors"
check "the model loads" near "$(loss --base m1)" "$(loss --base plain)"

# what cannot be audited is refused before anything is written
echo '{"prompt": 1}' >bad.jsonl
want 3 'bad.jsonl:1' merge --base base --adapter nf4 -o x --audit bad.jsonl
want 3 'none.jsonl' merge --base base --adapter nf4 -o x --audit none.jsonl
want 2 'format' merge --base base --adapter nf4 -o x --audit valid.jsonl --format csv
check "nothing is left" bash -c '[ ! -e x ]'
finish
