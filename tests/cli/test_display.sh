#!/usr/bin/env bash
# What a person sees: one refreshed line on a terminal, plain lines in a file, colour where it may be.
. "$(dirname "$0")/tiny.sh"
command -v script >/dev/null || { echo "skipped: there is no script(1) to make a terminal with"; exit 77; }
script -qec true /dev/null </dev/null >/dev/null 2>&1 || { echo "skipped: no pseudo-terminal can be made here"; exit 77; }
export TERM=xterm
unset NO_COLOR
esc=$'\033'

# terminal COLUMNS COMMAND: in a terminal of that width; what it showed is in `seen`
terminal() {
    rc=$(script -qefc "stty cols $1; $2; echo rc=\$?" /dev/null </dev/null >seen 2>&1; sed -n 's/^rc=\([0-9]*\).*/\1/p' seen)
    done_checks=$((done_checks + 1))
    [ "$rc" = 0 ] || complain "$2: exit code $rc" "$(cat -v seen)"
}

terminal 60 "'$graft' train c.yaml -s train.steps=400 -s train.eval_every=200"
check "the line is refreshed" grep -q "$esc\[K" seen
check "the last step stays" grep -Eq 'step 400/400  loss [0-9.]+' seen
check "validations stay" test "$(grep -c 'step [24]00: validation loss' seen)" = 2
check "it ends with what to try" grep -q '^try it: graft generate --base .*base --adapter .*run -p TEXT' seen
tr '\r' '\n' <seen | sed "s/$esc\[K//g" | grep '^step [0-9]*/400 ' | grep -v '^step 400/' >lines
check "no refreshed line is wider than the terminal" test -z "$(awk 'length > 59' lines)"
check "there are some" test -s lines
check "nothing is left half wiped" test -z "$(tr '\r' '\n' <seen | grep 'step.*step.*: valid')"
rm -r run
terminal 200 "'$graft' train c.yaml --quiet"
check "--quiet shows no steps" test -z "$(grep 'step' seen)"
terminal 200 "TERM=dumb '$graft' train c.yaml --force"
check "a dumb terminal gets plain lines" test -z "$(grep "$esc" seen)"
terminal 200 "'$graft' preview c.yaml -n 1"
check "colour on a terminal" grep -q "$esc\[1;32m" seen
terminal 200 "NO_COLOR=1 '$graft' preview c.yaml -n 1"
check "none with NO_COLOR" test -z "$(grep "$esc" seen)"
printf '{"text": "\\u001b[31mred"}\n' >evil.jsonl
terminal 200 "'$graft' preview c.yaml -s data.train=evil.jsonl"
check "records do not steer the terminal" grep -q 'x1b.*31mred' seen

want 0 . train c.yaml --force
check "no escape codes in a file" test -z "$(grep "$esc" err)"
check "a line a step" test "$(grep -c '^step [0-9]*/6  loss' err)" = 6
check "nothing on stdout" test ! -s out
want 0 . train c.yaml --force -s train.log_every=4
check "log_every thins the lines" test "$(grep -c '^step [0-9]*/6  loss' err)" = 2
want 0 . train c.yaml --force --verbose
check "--verbose has the gradient's norm" grep -q 'grad norm' err
want 0 '' train c.yaml --force --quiet
# few steps: advice that can be followed
rm -rf few
want 0 'note: only 6 steps, as train.steps says: .* smaller train.gradient_accumulation \(2 now\) or train.batch_size \(2 now\)$' \
    train c.yaml -o few
want 0 'note: only 20 steps: a smaller train.batch_size \(2 now\) or more epochs make more of them; train.gradient_accumulation is 1 already$' \
    train c.yaml -o few --force -s train.steps=null -s train.epochs=1 -s train.gradient_accumulation=1
want 0 'note: only 6 steps, as train.steps says; train.gradient_accumulation is 1 already$' \
    train c.yaml -o few --force -s train.batch_size=1 -s train.gradient_accumulation=1
finish
