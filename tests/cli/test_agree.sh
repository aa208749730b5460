#!/usr/bin/env bash
# What the verbs say about one run agrees: losses, files, merged and quantised bases, paths.
. "$(dirname "$0")/tiny.sh"

value() { grep -o "\"$2\": [^,}]*" "$1" | tail -1 | sed 's/.*: //'; } # value FILE KEY
same() { # same A B: equal numbers, digit for digit
    [ -n "$1" ] && [ "$1" = "$2" ] || { echo "$1 and $2"; return 1; }
}
near() { # near A B BOUND
    awk -v a="$1" -v b="$2" -v e="$3" 'BEGIN { d = a - b; exit !(a != "" && (d < 0 ? -d : d) <= e) }' ||
        { echo "$1 and $2"; return 1; }
}

want 0 . train c.yaml -s train.eval_every=2
for key in step epoch loss lr grad_norm tokens input_tokens seconds tokens_per_second; do
    check "every step has $key" test "$(grep '"lr"' run/metrics.jsonl | grep -c "\"$key\": [0-9]")" = 6
done
check "metrics are lines of JSON" json_lines run/metrics.jsonl
check "three validations" test "$(grep -c '"valid_loss": [0-9.]*, "valid_tokens": [0-9]' run/metrics.jsonl)" = 3
for key in status steps loss valid_loss best step trainable_parameters adapter_bytes planned_bytes \
    peak_bytes seconds tokens_per_second method seed version config_sha256 data_sha256; do
    check "result.json has $key" grep -q "\"$key\": [^n]" run/result.json
done
check "adapter_bytes is the file's size" grep -q "\"adapter_bytes\": $(stat -c %s run/adapter_model.safetensors)" run/result.json
grep -q '__[at]san_init' "$graft" || # a sanitizer holds memory of its own
    check "the plan is the measured peak, up to 5 %" \
        awk -v plan="$(value run/result.json planned_bytes)" -v peak="$(value run/result.json peak_bytes)" \
        'BEGIN { print plan, peak; exit !(plan > 0.95 * peak && plan < 1.05 * peak) }'
valid=$(value run/metrics.jsonl valid_loss)

# eval of the run: the same loss, in whatever way it is asked
want 0 '' eval --base base --adapter run --data valid.jsonl --json
check "eval --json is one line of JSON" json_lines out
check "eval is valid_loss" same "$(value out loss)" "$valid"
for key in loss perplexity tokens examples truncated dropped base adapter quant compute; do
    check "eval has $key" grep -q "\"$key\": " out
done
check "quant is what the adapter was trained over" grep -q '"quant": "nf4"' out
want 0 '' eval --base base --adapter run --data valid.jsonl --json --per-example
check "per_example is in file order" test "$(grep -o '"nll"' out | wc -l)" = 8
want 0 '' eval --base base --adapter "$PWD/run/" --data "$PWD/valid.jsonl" --json --quant '{type: nf4, block: 64, double: true}'
check "eval is valid_loss with the format by name" same "$(value out loss)" "$valid"
want 0 '' eval --base base --data valid.jsonl --json --quant nf4
alone=$(value out loss)
want 0 '' eval --base base --data valid.jsonl --json
check "without an adapter the base is left as it is" grep -q '"quant": "f32"\|"quant": "none"' out
plain=$(value out loss)
check "nf4 changes the loss" test "$alone" != "$plain"
want 0 '' eval --base base --adapter a=run --adapter b=run/best --task b --data valid.jsonl --json
want 3 'valid.jsonl:1: .*say which with --task' eval --base base --adapter a=run --adapter b=run/best --data valid.jsonl
want 2 "task 'c'.*a, b" eval --base base --adapter a=run --adapter b=run/best --task c --data valid.jsonl

# the resolved config is a config: the same losses to the last digit
losses() { grep -o '"loss": [^,]*\|"grad_norm": [^,]*' "$1/metrics.jsonl"; }
want 0 . train run/config.yaml -o again
check "the resolved config gives the same losses" test "$(losses run)" = "$(losses again)"
check "and the same adapter" cmp run/adapter_model.safetensors again/adapter_model.safetensors
mkdir elsewhere
(cd elsewhere && "$graft" train ../run/config.yaml -o ../far >out 2>err) || complain "from elsewhere" "$(cat elsewhere/err)"
check "from another folder, too" cmp run/adapter_model.safetensors far/adapter_model.safetensors
want 0 base_name train c.yaml --dry-run
cp out dry.yaml
want 0 . train dry.yaml -o drier
check "what --dry-run prints is a config" cmp run/adapter_model.safetensors drier/adapter_model.safetensors
want 0 base_name train c.yaml --dry-run --json
check "the plan is one line of JSON" json_lines out
want 0 base_name train c.yaml --dry-run -o never
check "--dry-run writes nothing" test ! -e never

# a container instead of the folder
want 0 'linears in nf4 at 4\.[1-5][0-9]* bits a weight' quantize base -o q.h5
want 0 '' eval --base q.h5 --data valid.jsonl --json
check "a container evaluates as nf4 of the folder" same "$(value out loss)" "$alone"
want 0 '' eval --base q.h5 --adapter run --data valid.jsonl --json
check "and with the adapter as the run did" same "$(value out loss)" "$valid"
want 0 . train c.yaml -s base=q.h5 -o fromq
check "training over it is training over the folder" test "$(losses run)" = "$(losses fromq)"

# merged
want 0 'quantized weights' merge --base base --adapter run -o m --dtype f32
want 0 '' eval --base m --data valid.jsonl --json
check "merged evaluates as base and adapter" near "$(value out loss)" "$valid" 2e-5
want 0 'trained over nf4 weights' merge --base base --adapter run -o mo --onto original --dtype f32 --json
check "merge --json is one line of JSON" json_lines out
want 0 '' eval --base mo --data valid.jsonl --json
merged=$(value out loss)
want 0 'trained over nf4 weights' eval --base base --adapter run --data valid.jsonl --json --quant none
check "onto the original weights, too" near "$(value out loss)" "$merged" 2e-5
want 0 . merge --base q.h5 --adapter run -o mq --dtype bf16
want 0 '' eval --base mq --data valid.jsonl --json
check "from a container, in bf16" near "$(value out loss)" "$valid" 0.05

# what bf16 operands lose is small: of ten first words (near ties go either way) most stay
for i in $(seq 10); do printf '{"prompt": "number %d is "}\n' $((i * 7)); done >first.jsonl
want 0 '' generate --base base --adapter run --prompts first.jsonl -n 1 --json
cp out f32
want 0 '' generate --base base --adapter run --prompts first.jsonl -n 1 --json --compute bf16
check "bf16 generates what f32 does" test "$(paste -d '|' out f32 | awk -F '|' '$1 == $2' | wc -l)" -ge 8

# auto is what the adapter was trained with
want 0 . train c.yaml -s compute=bf16 -o half
want 0 '' eval --base base --adapter half --data valid.jsonl --json
check "a bf16 run's validation, digit for digit" same "$(value out loss)" "$(value half/metrics.jsonl valid_loss)"
check "eval says so" grep -q '"compute": "bf16"' out
want 0 '' eval --base base --adapter half --adapter run --task half --data valid.jsonl --json
check "adapters that differ: f32" grep -q '"compute": "f32"' out

# inspect, each kind
for what in base:checkpoint run:run run/best:adapter q.h5:container m:checkpoint; do
    want 0 '' inspect "${what%:*}" --json
    check "inspect --json is one line of JSON" json_lines out
    check "${what%:*} is a ${what#*:}" grep -q "\"kind\": \"${what#*:}\"" out
    want 0 '' inspect "${what%:*}"
done
want 3 'nothing' inspect nothing
want 3 'train.jsonl: nothing that graft knows: wanted a folder' inspect train.jsonl
mkdir pickled && cp run/adapter_config.json pickled && : >pickled/adapter_model.bin
want 3 'adapter_model.bin: a pickled adapter .* convert it once' inspect pickled
want 3 'pickled: an adapter, not a base' eval --base pickled --data valid.jsonl
mkdir empty
want 3 'empty: nothing that graft knows' inspect empty
want 3 'empty: no adapter in PEFT.s format' eval --base base --adapter empty --data valid.jsonl

# paths with spaces and other letters
mkdir 'ein Ordner – é'
cp -r base 'ein Ordner – é/die Basis'
cp train.jsonl valid.jsonl 'ein Ordner – é'
d='ein Ordner – é'
want 0 . train c.yaml -s "base=$d/die Basis" -s "data.train=$d/train.jsonl" -s "data.valid=$d/valid.jsonl" -o "$d/der Lauf"
check "the same adapter" cmp run/adapter_model.safetensors "$d/der Lauf/adapter_model.safetensors"
try=$(sed -n 's/^try it: graft //p' err | sed 's/ -p TEXT/ -p x -n 2/')
check "the command of the summary works" eval "\"$graft\" $try"
want 0 . train "$d/der Lauf/config.yaml" -o "$d/noch einer"
check "and again from its config" cmp run/adapter_model.safetensors "$d/noch einer/adapter_model.safetensors"
want 0 '' eval --base "$d/die Basis" --adapter "x=$d/der Lauf" --data "$d/valid.jsonl" --json
check "a line of JSON in ASCII" json_lines out
want 0 . merge --base "$d/die Basis" --adapter "x=$d/der Lauf" -o "$d/m"
want 0 . quantize "$d/die Basis" -o "$d/q.h5"
want 0 '' inspect "$d/q.h5" --json
check "a line of JSON in ASCII" json_lines out
finish
