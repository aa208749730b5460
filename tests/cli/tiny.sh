# Sourced by the tests of this folder that need a model: a tiny base from a seed, records, a config,
# and words for what a command has to do.
#
#   want CODE PATTERN ARGS...   run graft; its exit code is CODE (or matches it), its stderr matches
#                               the extended regular expression PATTERN ('': says nothing there)
#   check WHAT COMMAND...       the command succeeds
# SHOW=1 prints every command with what it said. Every failure is told and counted; `finish` at the end makes the exit code of it.
set -u
graft=$(realpath "$1")
make_base=${GRAFT_MAKE_BASE:?the program that writes the tiny base}
work=$(mktemp -d "${TMPDIR:-/tmp}/graft-cli.XXXXXX")
# a child that a signal meets before it became another program runs this, too, but may not clean up
trap 'if [ "$BASHPID" = $$ ]; then chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"; fi' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive GRAFT_CACHE=$work/.cache
unset GRAFT_CACHE_SIZE
bad=0 done_checks=0

complain() {
    bad=$((bad + 1))
    printf 'FAILED: %s\n' "$1"
    [ -n "${2:-}" ] && printf '%s\n' "$2" | head -c 3000 | sed 's/^/    /'
}

# The exit code is told before the words: a crash has none.
judge() {
    local code=$1 pattern=$2
    shift 2
    done_checks=$((done_checks + 1))
    [ -n "${SHOW:-}" ] && { echo "\$ graft $*"; cat err; echo "exit: $rc"; }
    if [[ ! "$rc" =~ ^($code)$ ]]; then
        complain "graft $*: exit code $rc, wanted $code" "$(cat err)"
    elif [ -z "$pattern" ] && [ -s err ]; then
        complain "graft $*: wanted nothing on stderr" "$(cat err)"
    elif [ -n "$pattern" ] && ! grep -Eq -- "$pattern" err; then
        complain "graft $*: wanted on stderr: $pattern" "$(cat err)"
    elif [ "$rc" != 0 ] && [ "$rc" -lt 128 ] && ! grep -q '^graft: [^A-Z]' err; then
        complain "graft $*: no message in the form 'graft: lower case'" "$(cat err)"
    elif grep -q "runtime error\|AddressSanitizer\|LeakSanitizer" err; then
        complain "graft $*: the sanitizer found something" "$(cat err)"
    fi
}

want() {
    local code=$1 pattern=$2
    shift 2
    "$graft" "$@" >out 2>err </dev/null
    rc=$?
    judge "$code" "$pattern" "$@"
}

check() {
    local what=$1
    shift
    done_checks=$((done_checks + 1))
    "$@" >check.out 2>&1 || complain "$what" "$(cat check.out)"
}

# No name in a folder but these (temporary files of a failed write would stand out).
only() {
    local dir=$1
    shift
    [ "$(ls -A "$dir" | sort)" = "$(printf '%s\n' "$@" | sort)" ] ||
        { ls -A "$dir"; return 1; }
}

finish() {
    echo "$done_checks checks, $bad failed"
    [ "$bad" = 0 ]
    exit
}

records() { # records N: to completions of N different numbers
    for i in $(seq 1 "$1"); do
        printf '{"prompt": "number %d is ", "completion": "n%d"}\n' "$i" $((i * i))
    done
}

config() { # config FILE: a run of 6 steps over ./base into ./run
    cat >"$1" <<'END'
base: base
adapter: {method: lora, r: 4, lora_alpha: 8, target_modules: all-linear}
data: {train: train.jsonl, valid: valid.jsonl, max_length: 64}
train: {steps: 6, batch_size: 2, gradient_accumulation: 2}
optim: {lr: 1.0e-2}
output: run
END
}

# le64 N: the 8 bytes of a number
le64() {
    local n=$1 s=
    for _ in 1 2 3 4 5 6 7 8; do
        s+=$(printf '\\x%02x' $((n & 255)))
        n=$((n >> 8))
    done
    printf "$s"
}

# st_file FILE HEADER BYTES: a safetensors file with this header and so many bytes of data
st_file() {
    { le64 ${#2}; printf '%s' "$2"; head -c "$3" /dev/zero; } >"$1"
}

json_lines() { # every line of the file is a JSON object in ASCII
    ! LC_ALL=C grep -n '[^ -~]' "$1" && [ -s "$1" ] && ! grep -vn '^{.*}$' "$1"
}

"$make_base" base || exit 1
records 40 >train.jsonl
records 8 >valid.jsonl
config c.yaml
