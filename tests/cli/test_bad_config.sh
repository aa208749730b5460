#!/usr/bin/env bash
# Configs with slips: place, what was found, what is wanted; what later versions bring is refused by
# name and accepted at the value that means off. Always exit 2, never a folder.
. "$(dirname "$0")/tiny.sh"

slip() { # slip PATTERN KEY=VALUE...
    local pattern=$1 args=()
    shift
    for s in "$@"; do args+=(-s "$s"); done
    want 2 "$pattern" train c.yaml "${args[@]}" -o new
    check "a refused config leaves no output" test ! -e new
}
fine() { # fine KEY=VALUE...: accepted, and changes nothing
    local args=()
    for s in "$@"; do args+=(-s "$s"); done
    want 0 . train c.yaml "${args[@]}" -o fine --force
    check "$* changes nothing" cmp fine/adapter_model.safetensors run/adapter_model.safetensors
}
want 0 . train c.yaml

# nearest names, and the spellings of other tools
slip '"?optim.lrr"?.*"?lr"?' optim.lrr=1
slip 'train.bach_size.*batch_size' train.bach_size=1
slip 'adpater.*adapter' adpater=1
slip 'adapter.lora_alfa.*lora_alpha' adapter.lora_alfa=1
slip 'optim.lr' learning_rate=1
slip 'train.batch_size' micro_batch_size=1
slip 'train.batch_size' train.per_device_train_batch_size=1
slip 'data.max_length' sequence_len=1
slip 'data.max_length' data.max_seq_length=1
slip 'train.epochs' num_epochs=1
slip 'train.epochs' num_train_epochs=1
slip 'train.steps' max_steps=1
slip 'train.steps' iters=1
slip 'train.gradient_accumulation' gradient_accumulation_steps=1
slip 'data.packing' sample_packing=true
slip 'output' output_dir=x
slip 'base' base_model=x
slip 'optim.warmup' warmup_ratio=0.1
slip 'optim.schedule' lr_scheduler_type=cosine
slip 'quant' load_in_4bit=true

# types and ranges
slip 'optim.lr.*fast' optim.lr=fast
slip 'optim.lr' optim.lr=-1
slip 'optim.lr' optim.lr=.nan
slip 'optim.lr' optim.lr=.inf
slip 'train.steps' train.steps=1.5
slip 'train.steps' train.steps=-1
slip 'train.steps' train.steps=1e400
slip 'train.batch_size' train.batch_size=0
slip 'train.batch_size' train.batch_size=99999999999999999999
slip 'train.seed' train.seed=-1
slip 'data.packing' data.packing=maybe
slip 'optim.schedule.*cosine' optim.schedule=cosin
slip 'optim.betas' 'optim.betas=[0.9]'
slip 'optim.betas' 'optim.betas=[0.9, 1]'
slip 'optim.warmup' optim.warmup=2.5
slip 'optim.min_lr' optim.min_lr=1
slip 'train.memory' train.memory=lots
slip 'base: found "", want the path' 'base=""'
want 2 'output: found "", want the path of a folder' train c.yaml -s 'output=""'
want 2 'train: -o: an empty name' train c.yaml -o ''
slip 'train.memory: .*not enough' train.memory=1KiB
slip 'adapter.r' adapter.r=0
slip 'adapter.lora_dropout' adapter.lora_dropout=1.5
slip 'adapter.target_modules matches no module' 'adapter.target_modules=[fc9]'
want 0 'fc9.*matches no module' train c.yaml -s 'adapter.target_modules=[q_proj, fc9]' -o part
want 0 "rank_pattern: 'fc9' decides for no module" train c.yaml --dry-run -s 'adapter.rank_pattern={fc9: 2}'
want 0 "alpha_pattern: 'fc9' decides for no module" train c.yaml --dry-run -s 'adapter.alpha_pattern={fc9: 2}'
want 0 'layers_to_transform: layer 7 has no module' train c.yaml --dry-run -s 'adapter.layers_to_transform=[1, 7]' -s 'adapter.target_modules=[q_proj]'
slip 'matches no module of the base in the layers' 'adapter.layers_to_transform=[7]'
want 0 "exclude_modules: 'fc9' matches no module" train c.yaml --dry-run -s 'adapter.exclude_modules=[fc9, up_proj]'
want 0 "exclude_modules: '.*fc9.*' matches no module" train c.yaml --dry-run -s 'adapter.exclude_modules=.*fc9.*'
for some in '{method: lora, exclude_modules: .*up_proj}' '{method: lora, target_modules: [q_proj, v_proj], exclude_modules: [q_proj]}' \
    '{method: lora, target_modules: [q_proj], modules_to_save: [lm_head], exclude_modules: [lm_head]}'; do
    want 0 . train c.yaml --dry-run -s "adapter=$some"
    check "$some: no slip" bash -c '! grep "no module" err'
done
slip 'adapter.exclude_modules leaves out every module that target_modules matches .q_proj, v_proj.' 'adapter={method: lora, exclude_modules: [q_proj, v_proj]}'
slip 'adapter.exclude_modules leaves out every module that target_modules matches .all-linear.' 'adapter={method: lora, target_modules: all-linear, exclude_modules: ".*"}'
slip 'adapter.modules_to_save leaves out every module that target_modules matches .lm_head.' 'adapter={method: lora, target_modules: [lm_head], modules_to_save: [lm_head]}'
slip 'alpha_pattern: "q_proj" has no number from 0' 'adapter.alpha_pattern={q_proj: -1}'
slip 'adapter.target_modules' 'adapter.target_modules=[]'
slip 'adapter' adapter=lora
slip 'data.train' data.train=null
slip 'data.train' data.train=5
slip 'epochs' train.epochs=1
slip 'eval_every' train.eval_every=2 data.valid=null
slip 'quant' quant=nf5
slip 'block' 'quant={type: nf4, block: 63}'
slip 'device' device=gpu
slip 'KEY=VALUE' optim.lr
slip '-s optim' 'optim=[1'
slip 'adapter.base_model_name_or_path' base_name=a adapter.base_model_name_or_path=b

# keys of another method, and of prompt methods and bottlenecks
slip 'adapter.r: prompt has no use for it, it belongs to lora' adapter.method=prompt
slip 'adapter.lora_dropout' adapter.dropout=0.1
other() { # other PATTERN ADAPTER-MAP
    sed "s/^adapter: .*/adapter: {$2}/" c.yaml >other.yaml
    want 2 "$1" train other.yaml -o new
    check "a refused config leaves no output" test ! -e new
}
other 'num_virtual_tokens: missing, want a whole number' 'method: prompt'
other 'num_virtual_tokens: found 0' 'method: prefix, num_virtual_tokens: 0'
other 'prompt_tuning_init: found "TEXTT", want RANDOM, SAMPLE_VOCAB or TEXT' \
    'method: prompt, num_virtual_tokens: 3, prompt_tuning_init: TEXTT'
other 'prompt_tuning_init_text: missing' 'method: prompt, num_virtual_tokens: 3, prompt_tuning_init: TEXT'
other 'prompt_tuning_init_text: only .*TEXT' 'method: prompt, num_virtual_tokens: 3, prompt_tuning_init_text: hi'
other 'tokenizer_kwargs.*not supported' 'method: prompt, num_virtual_tokens: 3, tokenizer_kwargs: {a: 1}'
other 'encoder_hidden_size: prompt has no use' 'method: prompt, num_virtual_tokens: 3, encoder_hidden_size: 8'
other 'encoder_num_layers: an MLP' 'method: ptuning, num_virtual_tokens: 3, encoder_num_layers: 3'
other 'encoder_dropout: an MLP' 'method: ptuning, num_virtual_tokens: 3, encoder_dropout: 0.1'
other 'encoder_reparameterization_type: found "GRU", want MLP or LSTM' \
    'method: ptuning, num_virtual_tokens: 3, encoder_reparameterization_type: GRU'
other 'placeholder: "<nope>" is no token' 'method: ptuning, num_virtual_tokens: 3, placeholder: <nope>'
other 'init_weights: "bert" is not for prefix' 'method: prefix, num_virtual_tokens: 3, init_weights: bert'
other 'token_dim: found 77, the base has' 'method: prefix, num_virtual_tokens: 3, token_dim: 77'
other 'num_transformer_submodules: found 2' 'method: prompt, num_virtual_tokens: 3, num_transformer_submodules: 2'
other 'init_weights: "zero" is for prefix' 'method: houlsby, init_weights: zero'
other 'bottleneck_size: reduction_factor says the same' 'method: parallel, bottleneck_size: 4, reduction_factor: 2'
other 'non_linearity: found "sine", want relu' 'method: pfeiffer, non_linearity: sine'
other 'dropout: found 1, want' 'method: houlsby, dropout: 1'

# what later versions bring
slip 'adapter.peft_type.*VERA' adapter.peft_type=VERA
slip 'adapter.use_qalora' adapter.use_qalora=true
slip 'adapter.method.*loraa.*did you mean' adapter.method=loraa
slip 'int8' quant=int8
slip 'cuda.*not supported' device=cuda
slip 'cuda.*not supported' device=cuda:1
slip 'optim.state.*8bit' optim.state=8bit
slip 'optim.paged' 'optim.paged={budget: 256MiB}'
slip 'train.save_every' train.save_every=10
slip 'train.save_every' train.save_every=auto
slip 'train.keep_last' train.keep_last=5
slip 'data.template.*chatm.*did you mean "chatml"' data.template=chatm
slip 'data.template_date.*date' data.template_date=2024-13-01
slip 'data.train_on.*mask_prompt' data.train_on=last data.mask_prompt=false
slip 'data.train_on.*all or last' data.train_on=first
slip 'data.valid.*found 1.0' data.valid=1.0
slip 'data.valid.*found 0' data.valid=0
slip 'data.valid: 200 of 40 usable records' data.valid=200
slip 'weight above 0' 'data.train=[{path: train.jsonl, weight: -2}]'
slip 'a weight of 0.01 draws none of its 40 records' 'data.train=[{path: train.jsonl, weight: 0.01}]'
slip 'adapter.init_lora_weights' adapter.init_lora_weights=corda
slip 'adapter.bias' adapter.bias=some
slip 'adapter.use_qalora' adapter.use_qalora=true
slip 'adapter.modules_to_save' 'adapter.modules_to_save=[nothing]'
want 2 'device.*cuda.*not supported' train c.yaml --device cuda -o new
want 2 'cuda.*not supported' eval --base base --data valid.jsonl --device cuda:0
want 2 'resume' train c.yaml --resume -o new
want 2 'resume' train c.yaml --resume auto -o new
want 2 'allow-changed' train c.yaml --allow-changed optim.lr -o new
for verb in doctor estimate log serve; do
    want 2 "$verb is not in this version" $verb
done
fine optim.state=f32 optim.paged=off train.save_every=0 train.keep_last=2 data.template=auto \
    data.train_on=all data.format=completion adapter.use_dora=false adapter.bias=none \
    adapter.modules_to_save=null adapter.init_lora_weights=true device=cpu \
    'data.train=[{path: train.jsonl, weight: 1}]'
fine 'adapter.megatron_core=megatron.core' adapter.loftq_config={} 'adapter.runtime_config=null' quant=nf4
sed 's/r: 4/r: 4, new_key: null/' c.yaml >new.yaml
want 0 'note.*new_key' train new.yaml -o noted
slip 'new_key' adapter.new_key=1

# PEFT's own file, pasted
{ echo 'base: base'; printf 'adapter: '; cat run/adapter_config.json; sed -n '3,$p' c.yaml; } >pasted.yaml
want 0 . train pasted.yaml -o pasted
check "adapter_config.json as adapter: changes nothing" cmp pasted/adapter_model.safetensors run/adapter_model.safetensors

# the file itself
file() { # file CODE PATTERN TEXT
    printf '%b' "$3" >bad.yaml
    want "$1" "$2" train bad.yaml -o new
}
file 2 'bad.yaml' ''
file 2 'bad.yaml' '[1, 2]'
file '[23]' 'bad.yaml:2' 'base: b\n  adapter: {'
file '[23]' 'bad.yaml:2.*base' 'base: b\nbase: c\n'
file '[23]' 'bad.yaml' '\xff\xfe'
file '[23]' 'bad.yaml' 'a: &x [*x]'
file '[23]' 'bad.yaml' "a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\ne: &e [*d,*d]\n"
file '[23]' 'bad.yaml' "$(printf '[%.0s' $(seq 3000))"
file 2 'bad.yaml:4: .*data.max_lenght.*max_length' 'base: b\nadapter: {method: lora, r: 4}\ndata:\n  max_lenght: 5\n'
want 3 'none.yaml' train none.yaml
want 3 'base' train base
finish
