#!/usr/bin/env bash
# Tokens that are kept: made once, found again, made anew when anything they depend on differs or
# they are damaged, small enough, whole for whoever looks.
. "$(dirname "$0")/tiny.sh"

caches() { ls "$GRAFT_CACHE" 2>/dev/null | grep -c 'tokens.h5$'; }
run() { # run OUT ARGS...: quiet unless $pattern wants to hear something
    local out=$1 quiet=--quiet
    shift
    [ -z "$pattern" ] || quiet=--verbose
    want 0 "$pattern" train c.yaml "$quiet" -o "$out" --force "$@"
}
same() { check "$1" cmp first/adapter_model.safetensors "$2/adapter_model.safetensors"; }

GRAFT_CACHE=off want 0 '' train c.yaml --quiet -o first
check "off is off" test ! -e off -a "$(caches)" = 0
GRAFT_CACHE= want 0 '' train c.yaml --quiet -o empty
same "so is an empty name" empty

pattern=
run second
same "with a cache a run is the same" second
check "train and valid have one each" test "$(caches)" = 2
stamp=$(ls --full-time -i "$GRAFT_CACHE"/*.tokens.h5 | awk '{ print $1 }')
run third
same "and from the cache" third
check "nothing was made anew" test "$stamp" = "$(ls -i "$GRAFT_CACHE"/*.tokens.h5 | awk '{ print $1 }')"
mkdir elsewhere && cp train.jsonl elsewhere/other.jsonl
run moved -s data.train=elsewhere/other.jsonl
same "content counts, not the name" moved
check "and is kept once" test "$(caches)" = 2

# whatever decides the tokens is in the key
run cut -s data.max_length=24
check "max_length" test "$(caches)" = 4
run unmasked -s data.mask_prompt=false
check "mask_prompt" test "$(caches)" = 6
cp -r base far && sed -i 's/"id": 256/"id": 257/' far/tokenizer.json
run other-words -s base=far
check "the tokenizer" test "$(caches)" = 8
sed 's/number 7/number 8/' train.jsonl >elsewhere/other.jsonl
run edited -s data.train=elsewhere/other.jsonl
check "an edited file" test "$(caches)" = 9
run weighed -s 'data.train=[{path: train.jsonl, weight: 0.5}]' -s train.seed=3 -s data.packing=true
check "weights, seeds and packing are not" test "$(caches)" = 9

# chat: the template and its date
printf '%s\n' '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}' >chat.jsonl
cat >day.jinja <<'END'
{{ strftime_now("%d %b %Y") }}{% for m in messages %}{{ m.role + ":" + m.content }}{% endfor %}
END
day() { want 0 '' train c.yaml --quiet -o chat --force -s data.train=chat.jsonl -s data.valid=null -s data.template=day.jinja -s "data.template_date=$1" -s train.steps=1; }
day 2024-01-02; day 2024-01-02
check "the template's date" test "$(caches)" = 10
day 2024-01-03
check "another date" test "$(caches)" = 11
now=$(date +%Y-%m-%d)
want 0 '' train c.yaml --quiet -o today -s data.train=chat.jsonl -s data.valid=null -s data.template=day.jinja -s train.steps=1 -s data.max_length=250
check "the day of a run stands in its config" grep -q "template_date: .*\($now\|$(date +%Y-%m-%d)\)" today/config.yaml
rm "$(ls -t "$GRAFT_CACHE"/*.tokens.h5 | head -1)"
sed -i 's/:/ says /' day.jinja; day 2024-01-03
check "another template" test "$(caches)" = 12

# damaged, cut, of another kind: told, and made anew
for file in "$GRAFT_CACHE"/*.tokens.h5; do
    size=$(stat -c %s "$file")
    printf 'x' | dd of="$file" bs=1 seek=36866 conv=notrunc 2>/dev/null
done
pattern='damaged: a checksum is not what it should be; the records are tokenised anew'
run damaged
same "a damaged cache is not trusted" damaged
pattern=
run repaired
same "and is whole again" repaired
for file in "$GRAFT_CACHE"/*.tokens.h5; do truncate -s 5000 "$file"; done
pattern='it is cut short; the records are tokenised anew'
run cut-short
same "nor one that is cut short" cut-short
for file in "$GRAFT_CACHE"/*.tokens.h5; do echo nonsense >"$file"; done
pattern='not a token cache of Graft; the records are tokenised anew'
run nonsense
same "nor one that is none" nonsense
for file in "$GRAFT_CACHE"/*.hash.json; do [ -e "$file" ] && echo nonsense >"$file"; done
pattern=
run no-hashes
same "nor a remembered hash" no-hashes

# the times of a file decide whether its hash is known, its content whether the tokens are
touch -d '1 hour ago' train.jsonl valid.jsonl
sleep 2.1
run hashed
check "hashes are remembered" test "$(ls "$GRAFT_CACHE" | grep -c 'hash.json$')" = 2
cp train.jsonl kept.jsonl
sed -i 's/number 9 /number 6 /' train.jsonl
touch -d '1 hour ago' train.jsonl
run changed
check "a change under old times is seen" test "$(cmp -s first/adapter_model.safetensors changed/adapter_model.safetensors; echo $?)" = 1
cp kept.jsonl train.jsonl
run back
same "and taken back" back

# several at once, an end at any moment
rm -rf "$GRAFT_CACHE"
for i in 1 2 3 4; do "$graft" train c.yaml --quiet -o "race$i" >out$i 2>err$i </dev/null & done
wait
for i in 1 2 3 4; do
    same "one of four at once" "race$i"
    check "says nothing" test ! -s err$i
done
check "they leave whole files only" test -z "$(ls "$GRAFT_CACHE" | grep -v 'tokens.h5$\|hash.json$')"
rm -rf "$GRAFT_CACHE"
records 30000 >big.jsonl
"$graft" train c.yaml --quiet -s data.train=big.jsonl -s data.valid=null -o killed >out 2>err </dev/null &
pid=$!
for _ in $(seq 200); do ls "$GRAFT_CACHE"/*.part-* >/dev/null 2>&1 && break; sleep 0.01; done
kill -KILL "$pid"; wait "$pid" 2>/dev/null
run after-kill -s data.train=big.jsonl -s data.valid=null -s train.steps=1
check "after a kill the next run makes it" test "$(caches)" = 1
touch -d '2 days ago' "$GRAFT_CACHE/x.tokens.h5.part-1-2"
rm -f "$GRAFT_CACHE"/*.tokens.h5
run swept
check "parts of dead runs go" test ! -e "$GRAFT_CACHE/x.tokens.h5.part-1-2"

# bounded: the longest unused go first
rm -rf "$GRAFT_CACHE"
for n in 10 11 12 13; do
    records $n >n$n.jsonl
    GRAFT_CACHE_SIZE=100KB want 0 '' train c.yaml --quiet -o bound --force -s data.train=n$n.jsonl -s data.valid=null -s train.steps=1
    sleep 0.05
done
check "at most so many bytes" test "$(du -sb --apparent-size "$GRAFT_CACHE" | cut -f1)" -le 110000 -a "$(caches)" = 2
GRAFT_CACHE_SIZE=1KB want 0 '' train c.yaml --quiet -o bound --force -s data.valid=null -s train.steps=1
check "what is in use stays" test "$(caches)" = 1
GRAFT_CACHE_SIZE=lots want 2 'the environment.s GRAFT_CACHE_SIZE: found "lots", want a size such as 20GiB' train c.yaml -o new
check "and leaves no output" test ! -e new

# no folder to write in
: >file
GRAFT_CACHE=$work/file/x want 0 'note: there is no cache for tokens: ' train c.yaml -o none
same "without a cache all goes on in memory" none
mkdir full
if [ "$(id -u)" != 0 ]; then
    chmod a-w full
    GRAFT_CACHE=$work/full want 0 'note: the tokens cannot be kept for later runs and stay in memory: ' train c.yaml -o none --force
    same "nor where nothing can be written" none
fi
HOME=$work/home XDG_CACHE_HOME=$work/xdg
export HOME XDG_CACHE_HOME
unset GRAFT_CACHE
want 0 '' train c.yaml --quiet -o home --force
before=$(ls xdg/graft/*.tokens.h5)
want 0 '' preview c.yaml --all
check "preview finds what a run left" test "$before" = "$(ls xdg/graft/*.tokens.h5)"
want 0 '' eval --base base --adapter home --data valid.jsonl --json
cp out once
check "eval keeps its tokens too" test "$(ls xdg/graft/*.tokens.h5 | wc -l)" -gt "$(wc -l <<<"$before")"
want 0 '' eval --base base --adapter home --data valid.jsonl --json
check "and finds them" cmp out once
mkfifo pipe
want 3 'pipe: not a regular file' eval --base base --adapter home --data pipe
check "XDG_CACHE_HOME names the place" test -n "$(ls xdg/graft/*.tokens.h5)" -a ! -e home/.cache
unset XDG_CACHE_HOME
want 0 '' train c.yaml --quiet -o home2 --force
check "else it is in the home" test -n "$(ls home/.cache/graft/*.tokens.h5)"
finish
