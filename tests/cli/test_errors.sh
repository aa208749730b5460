#!/usr/bin/env bash
# Wrong usage and wrong configs: what is said, and the exit code.
. "$(dirname "$0")/golden.sh"

say
say trian
say zzzzzz
say serve
say help trian
say train
say train a.yaml b.yaml
say train --dryrun a.yaml
say train --dry-run=yes a.yaml
say train a.yaml -s
say train a.yaml --out
say train a.yaml -x
say train a.yaml --resume auto
say train a.yaml --json
say train a.yaml --threads 0
say train a.yaml --threads 1.5
say train a.yaml --device cuda
say train a.yaml --device gpu
say train none.yaml
say preview a.yaml -n 0
say tokenize
say tokenize --base none
say tokenize --base none extra
golden errors

printf 'base: b\nadapter: {method: lora, r: 4}\ndata:\n  train: t.jsonl\n  max_lenght: 4\n' >"$work/a.yaml"
say train a.yaml
printf 'base: b\nadapter: {method: lora, r: 4}\ndata:\n  train: t.jsonl\n' >"$work/a.yaml"
say train a.yaml
say train a.yaml -o out -s learning_rate=3
say train a.yaml -o out -s optim.lr=fast
say train a.yaml -o out -s train.save_every=10
say train a.yaml -o out -s adapter.method=loraa
say train a.yaml --out=out -sadapter.r=0
say preview a.yaml -s data.template=lama3
say preview a.yaml -s data.valid=0
golden config-errors

# nothing that failed leaves anything behind
[ "$(cd "$work" && ls)" = "$(printf 'a.yaml\nsaid')" ] || { ls "$work"; bad=1; }
exit $bad
