#!/usr/bin/env bash
# Prompt methods and bottlenecks as a user has them: train, go on, eval, generate several at once,
# what their files hold, what is refused.
. "$(dirname "$0")/tiny.sh"

adapter() { # adapter FILE MAP: c.yaml with another adapter
    sed "s|^adapter: .*|adapter: {$2}|" c.yaml >"$1"
}
valid() { grep -o '"valid_loss": [0-9.]*' "$1/metrics.jsonl" | tail -1; }
loss() { grep -o '"loss": [^,]*' "$1" | head -1; }
has() { grep -q -- "$2" "$1/adapter_config.json" || { cat "$1/adapter_config.json"; return 1; }; }

# every method: trains, is evaluated as it was while training, goes on, does not merge
method() { # method NAME MAP FILES...
    local name=$1 map=$2
    shift 2
    adapter "$name.yaml" "$map"
    want 0 . train "$name.yaml" -o "$name"
    want 0 '' eval --base base --adapter "$name" --data valid.jsonl --json
    check "$name: eval is valid_loss" test "$(loss out | sed 's/.*: //')" = "$(valid "$name" | sed 's/.*: //')"
    check "$name: its files" only "$name" adapter_config.json adapter_model.safetensors best config.yaml \
        graft.json metrics.jsonl result.json tokenizer.json tokenizer_config.json "$@"
    adapter more.yaml "init_from: $name"
    want 0 . train more.yaml -o more --force -s train.steps=1 -s optim.lr=0
    check "$name: goes on from itself" cmp "$name/adapter_model.safetensors" more/adapter_model.safetensors
    want 2 "a ${name%%_*} adapter cannot be merged: it" merge --base base --adapter "$name" -o merged
    check "$name: nothing is merged" test ! -e merged
    want 0 . train "$name/config.yaml" -o again --force
    check "$name: the resolved config is one" cmp "$name/adapter_model.safetensors" again/adapter_model.safetensors
}
method prompt 'method: prompt, num_virtual_tokens: 4'
method ptuning 'peft_type: P_TUNING, num_virtual_tokens: 4, encoder_hidden_size: 8' graft_state.safetensors
method ptuning_lstm 'method: ptuning, num_virtual_tokens: 3, encoder_hidden_size: 6, encoder_reparameterization_type: LSTM' graft_state.safetensors
method prefix 'method: prefix, num_virtual_tokens: 4'
method prefix_mlp 'method: prefix, num_virtual_tokens: 4, prefix_projection: true, encoder_hidden_size: 8' graft_state.safetensors
method houlsby 'method: houlsby, reduction_factor: 8'
method pfeiffer 'method: pfeiffer, bottleneck_size: 6, dropout: 0.1'
method parallel 'method: parallel, reduction_factor: 8'
want 0 . train parallel.yaml -o half -s adapter.save_dtype=bf16
check "bf16 halves the file" test $((10 * $(stat -c %s half/adapter_model.safetensors))) -lt $((7 * $(stat -c %s parallel/adapter_model.safetensors)))
want 0 '' eval --base base --adapter half --data valid.jsonl --json
check "sizes of the base are filled in" has prefix '"token_dim": 32'
check "and heads of its keys" has prefix '"num_attention_heads": 2'
check "PEFT knows no placeholder" bash -c '! grep placeholder ptuning/adapter_config.json'
want 2 'encoder_hidden_size: 9, but the adapter in .* has 8' train more.yaml -o new -s 'adapter={init_from: ptuning, encoder_hidden_size: 9}'
want 0 . train more.yaml -o new --force -s train.steps=1 -s 'adapter={init_from: ptuning, encoder_hidden_size: null, token_dim: null}'
rm ptuning/graft_state.safetensors
want 3 'there is no graft_state.safetensors in it' train more.yaml -o new2 -s 'adapter={init_from: ptuning}'
want 0 '' eval --base base --adapter ptuning --data valid.jsonl --json

# what is no change of weights: refused by every job on such changes, with the reason
refused() { # refused METHOD REASON
    want 2 "a $1 adapter cannot be merged: $2" merge --base base --adapter "$1" -o no --audit valid.jsonl
    want 2 "a $1 adapter cannot be taken out of a model: $2" unmerge --merged base --adapter "$1" -o no
    want 2 "$1: a $1 adapter cannot be combined: $2" combine "$1" prompt -o no
    want 2 "$1: a $1 adapter cannot be combined: $2" combine "$1" -o no --base base
    want 2 "a GGUF adapter cannot hold a $1 adapter: $2" export --adapter "$1" --base base -o no.gguf
    check "$1: nothing is written" test ! -e no -a ! -e no.gguf
}
refused prompt 'its virtual tokens are input'
refused ptuning 'its virtual tokens are input'
refused prefix 'its keys and values stand beside'
refused parallel 'it is a network of its own'

# other programs' folders
want 2 'prefix: a prefix adapter is in PEFT.s own format already' export --adapter prefix --base base --to peft -o no
want 2 'PEFT has no bottleneck adapters' export --adapter houlsby --base base --to peft -o no
want 2 'reads the residual stream' export --adapter parallel --base base --to adapter-hub -o no
want 2 'only that of bottlenecks' export --adapter prompt --base base --to adapter-hub -o no
check "nothing is written" test ! -e no
want 0 '8 tensors' export --adapter pfeiffer --base base --to adapter-hub -o x.hub
check "its files" only x.hub adapter_config.json adapter.safetensors
check "named after the folder, in letters a module may have" \
    grep -q '"model.layers.1.output_adapters.adapters.x_hub.adapter_down.0.weight":{"dtype":"F32","shape":\[6,64\]' x.hub/adapter.safetensors
hub() { grep -q "$1" x.hub/adapter_config.json || { cat x.hub/adapter_config.json; return 1; }; }
check "no peft_type" bash -c '! grep -q peft_type x.hub/adapter_config.json'
check "one place a layer" hub '"mh_adapter": false'
check "a width that none of its roundings misses" hub '"reduction_factor": 9.84'
want 2 'x.hub' export --adapter pfeiffer --base base --to adapter-hub -o x.hub
want 0 '16 tensors' export --adapter houlsby --base base --to adapter-hub -o x.hub --force
check "both places" hub '"mh_adapter": true'
check "the factor as it is" hub '"reduction_factor": 8.0'

# verify: values, where no weight changes
verified() { want 0 '' verify "$1" --base base --json; check "verify $1: $2" grep -q "$2" out; }
verified prompt '"verdict": "trained".*"filled": 1, .*"unchanged": 0.*"changes": "input", "norm": [0-9]'
verified prefix_mlp '"verdict": "trained".*"filled": 2, .*"unchanged": 0.*"changes": "keys and values", "norm": [0-9]'
verified houlsby '"verdict": "trained".*"filled": 4, .*"unchanged": 0.*"changes": "activations", "norm": [0-9]'
want 0 . train parallel.yaml -o idle -s train.steps=1 -s optim.lr=0
want 0 '' verify idle --base base
check "a bottleneck at its start adds nothing" grep -q '^untrained: it changes nothing' out
want 0 . train prefix.yaml -o idle --force -s train.steps=1 -s optim.lr=0 -s adapter.init_weights=zero
want 0 '' verify idle --base base
check "zeros are a prefix's start" grep -q '^untrained: its values are all zero' out

# several at once, over one base, each record with its own; alone or among others
cat >p.jsonl <<'END'
{"prompt": "number 5 is ", "task": "prompt"}
{"prompt": "number 6 is ", "task": null}
{"prompt": "number 7 is ", "task": "prefix"}
{"prompt": "number 8 is ", "task": "houlsby"}
{"prompt": "number 9 is ", "task": "prompt"}
{"prompt": "number 5 is ", "task": "prefix_mlp"}
END
args=()
for a in prompt prefix prefix_mlp houlsby; do args+=(--adapter "$a"); done
want 0 '' generate --base base "${args[@]}" --prompts p.jsonl -n 8 --quant nf4 --json
mv out all
i=0
while read -r line; do
    i=$((i + 1))
    echo "$line" >q.jsonl
    want 0 '' generate --base base "${args[@]}" --prompts q.jsonl -n 8 --quant nf4 --json
    check "answer $i is the same alone" test "$(cat out)" = "$(sed -n ${i}p all)"
done <p.jsonl
want 0 '' eval --base base "${args[@]}" --task prefix --data valid.jsonl --json

# a text to start from: its tokens' rows of the base
adapter text.yaml 'method: prompt, num_virtual_tokens: 5, prompt_tuning_init: TEXT, prompt_tuning_init_text: ab'
want 0 . train text.yaml -o text -s train.steps=1 -s optim.lr=0
check "the text is kept" has text '"prompt_tuning_init_text": "ab"'
check "and the base named, as PEFT wants" has text '"tokenizer_name_or_path": "[^"]'
adapter text2.yaml 'method: prompt, num_virtual_tokens: 5, prompt_tuning_init: TEXT, prompt_tuning_init_text: ababa, tokenizer_name_or_path: base'
want 0 . train text2.yaml -o text2 -s train.steps=1 -s optim.lr=0
check "a short text is repeated" cmp text/adapter_model.safetensors text2/adapter_model.safetensors
adapter text3.yaml 'method: prompt, num_virtual_tokens: 5, prompt_tuning_init: TEXT, prompt_tuning_init_text: ab, tokenizer_name_or_path: some/name'
want 0 'note: .*some/name.* is no folder' train text3.yaml -o text3 -s train.steps=1 -s optim.lr=0
adapter vocab.yaml 'method: prompt, num_virtual_tokens: 5, prompt_tuning_init: SAMPLE_VOCAB'
want 0 . train vocab.yaml -o vocab -s train.steps=1 -s optim.lr=0
check "seeds differ" test "$("$graft" train vocab.yaml -o v2 -s train.steps=1 -s optim.lr=0 -s train.seed=7 2>/dev/null; cmp -s vocab/adapter_model.safetensors v2/adapter_model.safetensors && echo same)" = ""

# virtual tokens at a placeholder's places
placed() { for i in $(seq 1 "$1"); do printf '{"prompt": "n ^ %d ^ is^", "completion": "n%d"}\n' "$i" $((i * i)); done; }
placed 24 >train.jsonl
placed 6 >valid.jsonl
adapter placed.yaml 'method: ptuning, num_virtual_tokens: 3, encoder_hidden_size: 8, placeholder: ^'
want 0 . train placed.yaml -o placed
check "PEFT would put them in front, so the type is another" has placed '"peft_type": "PLACED_P_TUNING"'
check "the placeholder is kept" has placed '"placeholder": "^"'
want 0 '' eval --base base --adapter placed --data valid.jsonl --json
check "placed: eval is valid_loss" test "$(loss out | sed 's/.*: //')" = "$(valid placed | sed 's/.*: //')"
want 0 . train placed.yaml -o packed -s data.packing=true
adapter more.yaml 'init_from: placed'
want 0 . train more.yaml -o more --force -s train.steps=1 -s optim.lr=0
check "placed: goes on from itself" cmp placed/adapter_model.safetensors more/adapter_model.safetensors
want 0 '' preview placed.yaml -n 1
check "preview shows them" grep -q 'n <virtual 1> 1 <virtual 2> is<virtual 3>' out
want 0 '' generate --base base --adapter placed -p 'n ^ 3 ^ is^' -n 4
want 2 'PEFT puts virtual tokens in front of a record, not at the places of "."' export --adapter placed --base base --to peft -o no
want 0 '' train placed.yaml -q -o cached -s data.packing=false
check "from the cache as without" cmp placed/adapter_model.safetensors cached/adapter_model.safetensors
want 2 'the placeholder stands in 2 places, the adapter has 3' generate --base base --adapter placed -p 'n ^ 3 is^' -n 4
printf '{"prompt": "a ^ b", "completion": "c"}\n' >>valid.jsonl
want 3 'valid.jsonl:7: the placeholder stands in 1 places' eval --base base --adapter placed --data valid.jsonl
want 3 'valid.jsonl:7: the placeholder' train placed.yaml -o new3
want 2 'placeholder: "two words" is no token' train placed.yaml -o new3 -s 'adapter.placeholder=two words'

# positions: the tiny base has 256
yes 'x' | head -250 | tr -d '\n' | sed 's/.*/{"text": "&"}/' >long.jsonl
adapter long.yaml 'method: prefix, num_virtual_tokens: 10'
want 3 'long.jsonl:1: the record has 251 tokens and 10 positions before them, the model 256' \
    train long.yaml -o new4 -s data.train=long.jsonl -s data.valid=null -s data.max_length=400
for a in prompt prefix; do
    want 2 'the adapter puts 4 positions before them, the model.s context is 256' \
        generate --base base --adapter "$a" -p "$(printf '%0253d' 0)"
    want 0 '' generate --base base --adapter "$a" -p "$(printf '%0252d' 0)" --json
    check "$a: as long as the context gives one token" \
        grep -q '"ids": \[[0-9]*\],.*"stop": "\(length\|eos\)"' out
done
finish
