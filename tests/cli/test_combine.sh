#!/usr/bin/env bash
# Adapters combined: the change is the weighted sum, its parts come from everywhere, wrong ones are refused.
. "$(dirname "$0")/tiny.sh"

want 0 '' train c.yaml -q -o one
want 0 '' train c.yaml -q -o two -s train.seed=7 -s adapter.r=2 -s 'adapter.target_modules=[q_proj, down_proj]'
loss() { # loss ADAPTER: of the validation records, over the weights it was trained on
    "$graft" eval --base base --adapter "$1" --data valid.jsonl --json | sed 's/.*"loss": *\([0-9.e+-]*\).*/\1/'
}
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(d < 1e-5 && d > -1e-5 && a > 0) }'; }
report() { grep -q "$1" out || { cat out; return 1; }; }

# an adapter by itself, halves that add up, one and its opposite
want 0 'nothing is lost' combine one -o alone
check "one alone is itself" near "$(loss alone)" "$(loss one)"
want 0 '' combine one:0.25 one:0.75 -o halves --how cat -q
check "a quarter and three quarters are one" near "$(loss halves)" "$(loss one)"
want 0 '' combine one:0.25 one:0.75 -o cut --how svd --json
check "the parts fit the rank they had" near "$(loss cut)" "$(loss one)"
check "a report" report '"adapters": 2.*"modules": 14.*"rank": \[4, 4\]'
want 0 '' combine one:2 one:-2 -o nothing -q
check "opposites leave the base" near "$(loss nothing)" \
    "$("$graft" eval --base base --quant nf4 --data valid.jsonl --json | sed 's/.*"loss": *\([0-9.e+-]*\).*/\1/')"

# other modules and ranks: both changes at once, as merging one after the other gives it
want 0 'ranks 4 to 6' combine one two -o both
check "PEFT's keys" grep -q '"model.layers.0.mlp.gate_proj": 4' both/adapter_config.json
check "what was trained on stands there" diff <(grep -v max_length one/graft.json) <(grep -v max_length both/graft.json)
check "the words come along" cmp one/tokenizer.json both/tokenizer.json
want 0 '' merge --base base --adapter one --onto original --dtype f32 -o m1 -q
want 0 '' merge --base m1 --adapter two --onto original --dtype f32 -o m2 -q
want 0 '' merge --base base --adapter both --onto original --dtype f32 -o m3 -q
merged() { "$graft" eval --base "$1" --data valid.jsonl --json | sed 's/.*"loss": *\([0-9.e+-]*\).*/\1/'; }
check "merged together as one by one" near "$(merged m3)" "$(merged m2)"
want 0 'ranks? 4' combine one two -o capped --how linear --rank 4
want 0 '' combine one two -o with_base --base base -q
check "the base changes nothing here" cmp both/adapter_model.safetensors with_base/adapter_model.safetensors

# a start out of the base binds an adapter to the base that it left, in a combination too
want 0 '' train c.yaml -q -o taken -s adapter.init_lora_weights=pissa
want 0 '' train c.yaml -q -o taken2 -s adapter.init_lora_weights=olora
want 2 'taken goes with the base that pissa changed for it .*one with another: no base fits both' combine taken one -o x
want 2 'no base fits both' combine one taken -o x
want 2 'no base fits both' combine taken taken2 -o x
check "nothing is written" test ! -e x
want 0 '' combine taken:0.5 taken:0.5 -o still --how svd -q
want 2 'goes with the base that pissa changed' eval --base base --adapter still --data valid.jsonl
want 0 '' eval --base taken/base.h5 --adapter still --data valid.jsonl
want 2 'goes with the base that pissa changed for it, and with no other' export --adapter taken --base base -o x.gguf
want 2 'taken is in PEFT.s own format already, but goes with the base that pissa changed for it .*/taken/base.h5., which PEFT cannot open: merge' \
    export --adapter taken --base taken/base.h5 --to peft -o x
want 2 'which no GGUF file holds: merge' export --adapter taken --base taken/base.h5 -o x.gguf

# conversations: the template's facts come along
printf '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' >chat.jsonl
want 0 '' train c.yaml -q -o talk -s data.train=chat.jsonl -s data.valid=null -s data.template=chatml
want 0 '' combine talk talk:2 -o talks -q
check "the template stands there" grep -q '"sha256"' talks/graft.json
check "the same one: no word" bash -c '! "$0" combine talk talk:2 -o t0 2>&1 | grep chat' "$graft"
want 0 '' train c.yaml -q -o talk2 -s data.train=chat.jsonl -s data.valid=null -s data.template=llama2
want 0 'different chat templates \(talk: chatml, talk2: llama2\): the combination has that of talk$' combine talk talk2 -o t1
check "the first one's" cmp t1/chat_template.jinja talk/chat_template.jinja
want 0 'different chat templates \(one: none, talk: chatml\): the combination has that of one$' combine one talk -o t2
check "none" grep -q '"template": null' t2/graft.json
cp -r talk wordless; rm wordless/tokenizer.json
want 0 'different chat templates \(talk2: llama2, wordless: chatml\)' combine wordless talk2 -o t3
check "what graft.json says is what is there" grep -q '"name": "llama2"' t3/graft.json

for how in ties dare_linear dare_ties magnitude_prune; do
    want 0 'combined by' combine one:0.6 two:0.4 -o "$how" --how $how --density 0.5
    want 0 '' eval --base base --adapter "$how" --data valid.jsonl -q
done
want 0 '' combine one two -o again --how dare_ties --density 0.5 -q
want 0 '' combine one two -o again --how dare_ties --density 0.5 -q --force
want 0 '' combine one two -o other --how dare_ties --density 0.5 --seed 1 -q
check "the seed decides" bash -c '! cmp -s again/adapter_model.safetensors other/adapter_model.safetensors'

# what scales a bias is a bias on B, over bases that have biases; the result merges
"$make_base" biased biases=1
want 0 '' train c.yaml -q -o scales -s base=biased -s quant=none -s 'adapter={method: ia3}'
want 0 '' combine scales --base biased -o scaled --how svd --rank 64 -q
of_biased() { "$graft" eval -q --base "$@" --data valid.jsonl --json | sed 's/.*"loss": *\([0-9.e+-]*\).*/\1/'; }
check "biases too" near "$(of_biased biased --adapter scaled)" "$(of_biased biased --adapter scales)"
want 0 '' merge --base biased --adapter scaled -o m4 --dtype f32 -q
check "merged" near "$(of_biased m4)" "$(of_biased biased --adapter scales)"

want 0 '' train c.yaml -q -o floats -s quant=none
want 0 'trained over different formats of their base \(one, floats\)' combine one floats -o formats
check "so none is named" bash -c '! ls formats/graft.json 2>/dev/null'

# wrong ones
want 2 'A1.*is missing' combine -o x
want 2 '-o is missing' combine one two
want 2 'did you mean "ties"' combine one two -o x --how tie
want 2 'needs a density' combine one two -o x --how ties
want 2 'no use for a density' combine one two -o x --density 0.5
want 2 'cat keeps every rank' combine one two -o x --how cat --rank 3
want 2 'wanted total or frequency' combine one two -o x --how ties --density 0.5 --sign most
want 2 'found "half" for a weight' combine one:half -o x
want 3 'none is not a folder' combine none:0.5 -o x
want 2 'holds a run already' combine one -o two
want 2 'is one of the adapters' combine one two -o one --force
"$make_base" wide seed=2
cp -r one other_base
sed -i 's/"hash": "[0-9a-f]*"/"hash": "0123456789abcdef"/' other_base/graft.json
want 0 'different bases' combine one other_base -o mixed
want 0 'note: adapter other_base was trained over another base' combine one other_base --base base -o mixed2
check "no base is claimed" bash -c '[ ! -e mixed/graft.json ]'
check "nothing is left of what failed" bash -c '[ ! -e x ]'
finish
