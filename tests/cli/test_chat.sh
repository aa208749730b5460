#!/usr/bin/env bash
# Conversations: trained with a template that ends up beside the adapter, measured, previewed, and held with generate.
. "$(dirname "$0")/tiny.sh"

turns() { printf '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "%s"}]}\n' "$1" "$2"; }
for i in $(seq 1 24); do turns "n$i" "$((i * i))"; done >train.jsonl
for i in $(seq 1 6); do turns "m$i" "$((i + 5))"; done >valid.jsonl
cat >short.jinja <<'END'
{%- for m in messages %}{{ m.role[0] }}:{{ m.content }}{{ eos_token }}
{% endfor %}{% if add_generation_prompt %}a:{% endif %}
END

# without a template: told how to name one; the words of every way to name one
want 2 'train.jsonl:1: the base has no chat template; name one with data.template' train c.yaml -o new
want 3 'none.jinja' train c.yaml -s data.template=none.jinja -o new
printf '{%% for %%}' >bad.jinja
want 3 'bad.jinja: template line 1' train c.yaml -s data.template=bad.jinja -o new
printf '{%% include "x" %%}' >bad.jinja
want 3 'bad.jinja: template line 1: .*include.* not supported' preview c.yaml -s data.template=bad.jinja
check "refused templates leave no output" test ! -e new
want 0 '' preview c.yaml -s data.template=zephyr -n 1
check "the end token is learnt, the rest of the line is not" grep -q '^\[1<|end|>\]$' out

# chatml's end marker is no special token of this tokenizer: nothing would teach the model to stop
want 0 . train c.yaml -s data.template=chatml -s data.max_length=128 --dry-run
check "the plan says that nothing teaches the end" grep -q '24 records.* 24 that do not teach where an answer ends' out
want 0 '' preview c.yaml -s data.template=chatml -n 1
check "preview says it too" grep -q 'the end token is not in the loss' out

# trained, the template is kept and used before any other
want 0 'data .*24 records' train c.yaml -s data.template=short.jinja
check "the end is taught" test -z "$(grep 'where an answer ends' err)"
check "the template as used" cmp short.jinja run/chat_template.jinja
check "graft.json names it" grep -q "\"name\": \"$work/short.jinja\"" run/graft.json
check "the config has its path" grep -q "template: .*$work/short.jinja" run/config.yaml
valid=$(sed -n 's/.*"valid_loss": \([0-9.e-]*\).*/\1/p' run/metrics.jsonl | tail -1)
want 0 '' eval --base base --adapter run --data valid.jsonl --json
check "eval measures what training measured" grep -q "\"loss\": $valid," out
want 2 'no chat template.*--template' eval --base base --data valid.jsonl
want 0 '' eval --base base --adapter run --data valid.jsonl --template short.jinja --json
check "the same template by name" grep -q "\"loss\": $valid," out
want 0 '' eval --base base --data valid.jsonl --template short.jinja --json
want 3 'none.jinja' eval --base base --data valid.jsonl --template none.jinja
want 2 'no use for a template' generate --base base -p hello --template short.jinja
two() { printf '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "%s"}, {"role": "user", "content": "%s"}, {"role": "assistant", "content": "%s"}]}\n' "$@"; }
for i in $(seq 1 6); do two "a$i" "$i" "b$i" "$((i + 9))"; done >talk.jsonl
want 0 . train c.yaml -s data.template=short.jinja -s data.train_on=last -s data.train=talk.jsonl -s data.valid=talk.jsonl -o last
valid=$(sed -n 's/.*"valid_loss": \([0-9.e-]*\).*/\1/p' last/metrics.jsonl | tail -1)
want 0 '' eval --base base --adapter last --data talk.jsonl --json
check "eval looks at what the adapter learnt" grep -q "\"loss\": $valid," out
want 0 'different parts of a record' eval --base base --adapter run --adapter last --task last --data talk.jsonl
want 0 '' generate --base base --adapter run --chat -p hello -n 5 --json
cp out once
cp short.jinja other.jinja && sed -i 's/a:{% endif/b:{% endif/' other.jinja
want 0 '' generate --base base --adapter run --chat -p hello -n 5 --json --template short.jinja
check "the same template" cmp out once
want 0 '' generate --base base --adapter run --chat -p hello -n 5 --json --template other.jinja
check "another" test "$(cat out)" != "$(cat once)"
turns() { printf '{"messages": [{"role": "user", "content": "hello"}]}\n'; }
turns >ask.jsonl
want 0 '' generate --base base --adapter run --prompts ask.jsonl -n 5 --json
check "one turn is the same as a record of messages" cmp out once
echo '{"input_ids": [117, 58, 104, 101, 108, 108, 111, 256, 10, 97, 58]}' >ask.jsonl
want 0 '' generate --base base --adapter run --prompts ask.jsonl -n 5 --json
check "and as its tokens" cmp out once
mkdir only && cp run/adapter* run/graft.json run/chat_template.jinja only
want 0 '' generate --base base --adapter run=only --chat -p hello -n 5 --json
check "a template without a tokenizer beside it" cmp out once
mkdir with && cp base/* run/chat_template.jinja with
want 0 . quantize with -o with.h5 --quant none
want 0 '' preview c.yaml -s base=with.h5 -n 1
check "a container keeps the template" grep -q '^u:n1<|end|>$' out

# a conversation on standard input
talk() { printf '%b' "$1" >lines; shift; "$graft" generate --base with --adapter run --adapter b=only "$@" --chat -n 4 <lines >out 2>err; rc=$?; }
talk 'hello\n' --task run --json
judge 0 '' generate --chat
check "one line, one answer" test "$(wc -l <out)" = 1
talk 'hello\n/reset\nhello\n/task b\n/reset\nhello\n/task\n/reset\nhello\n/quit\nnever\n' --task run --json
judge 0 '' generate --chat
check "four answers" test "$(grep -c '"stop"' out)" = 4
check "whose they are" test "$(grep -o '"task": [a-z"]*' out | tr '\n' ' ')" = '"task": "run" "task": "run" "task": "b" "task": null '
check "starting over gives the same answer" test "$(sed -n 1p out)" = "$(sed -n 2p out)"
talk '/sytem x\n/task z\n/reset all\n\n//slash\n/help\n' --task run
judge 0 'no command /sytem, did you mean /system.*' generate --chat
check "a command that takes no words" grep -q '/reset stands alone, found "all" behind it' err
check "no such task" grep -q "no adapter for task 'z'" err
check "help" grep -q '/quit .*end' err
check "only the text is answered" test "$(wc -l <out)" -ge 1
talk "$(printf '%0100d\\n%0100d\\n%0100d\\n' 1 2 3)" --task run --json
judge 0 'longer than the context of 256 tokens; its 2 oldest messages are left out' generate --chat
check "three answers" test "$(grep -c '"stop"' out)" = 3
talk "$(printf '%0300d\\nx\\n' 1)" --task run --json
judge 0 'the prompt has [0-9]* tokens, the model.s context is 256' generate --chat
check "the next question is answered" test "$(grep -c '"stop"' out)" = 1
talk 'a\nb\nc\n' --task run --json
cp out unbroken
talk "$(printf 'a\nb\n%0300d\nc\n' 1)" --task run --json
judge 0 'the prompt has [0-9]* tokens' generate --chat
check "a question that cannot be asked leaves the conversation as it was" cmp unbroken out
check "nothing is left out" test -z "$(grep 'left out' err)"
want 2 'several adapters' generate --base base --adapter run --adapter b=only --chat -p x

# to and from a prompt method, whose virtual tokens stand before the conversation and take of its context
want 0 '' train c.yaml -q -o soft -s data.template=short.jinja -s optim.lr=0.1 -s 'adapter={method: prompt, num_virtual_tokens: 100}'
talk 'hello\n/reset\n/task soft\nhello\n/reset\n/task run\nhello\n' --adapter soft --task run --json
judge 0 '' generate --chat
check "there and back" test "$(sed -n 1p out)" = "$(sed -n 3p out)"
check "another answer between" test "$(sed -n 1p out | grep -o '"ids": [^]]*')" != "$(sed -n 2p out | grep -o '"ids": [^]]*')"
talk "$(printf '%0100d\\n%0100d\\n' 1 2)" --adapter soft --task soft --json
judge 0 'longer than the context of 156 tokens; its 2 oldest messages are left out' generate --chat
check "two answers" test "$(grep -c '"stop"' out)" = 2

# merged: the template and the token that closes an answer
printf '{%% for m in messages %%}{{ m.content }}<|stop|>{%% endfor %%}' >stop.jinja
sed -i 's/"id": 256/"id": 256/; s/"added_tokens": \[/"added_tokens": [{"id": 260, "content": "<|stop|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},/' run/tokenizer.json
cp stop.jinja run/chat_template.jinja
want 0 . merge --base base --adapter run -o merged
check "the template goes along" cmp stop.jinja merged/chat_template.jinja
check "both end tokens" test "$(tr -d ' \n' <merged/generation_config.json | grep -o '"eos_token_id":\[[0-9,]*\]')" = '"eos_token_id":[256,260]'

# preview --all
{ cat train.jsonl; head -2 train.jsonl; printf '{"messages": [{"role": "user", "content": "%0200d"}, {"role": "assistant", "content": "x"}]}\n' 0; } >all.jsonl
want 0 '' preview c.yaml -s data.template=short.jinja -s data.train=all.jsonl --all
check "the summary" grep -q '^duplicates   2 (7.7 %)' out
check "what is dropped" grep -q '^dropped      1 of 27,' out
check "what is cut, of all" grep -q '^truncated    1 of 27 (3.7 %) at max_length' out
want 0 '' preview c.yaml -s data.template=short.jinja -s data.train=all.jsonl -s data.packing=true --all --json
check "as JSON" grep -q '"records": 26, "dropped": 1, "held_out": 0, .*"without_end": 0, .*"duplicates": 2, "rows": [0-9]*, "fill": 0\.' out
want 0 '' preview c.yaml -s data.template=short.jinja -s data.train=all.jsonl --line 27
check "why a record is dropped" grep -q 'all.jsonl:27: dropped, its first 64 tokens hold none to learn from' out
check "and its text" grep -q 'a:x<|end|>' out
want 0 '' preview c.yaml -s data.template=short.jinja -s data.train=all.jsonl --line 27 --json
check "as JSON" grep -q '"dropped": true, "input_ids": \[\], "labels": \[\], "text": "u:0.*a:x<|end|>' out
echo '{"messages": [{"role": "user", "content": "x"}]}' >none.jsonl
want 0 '' preview c.yaml -s data.template=short.jinja -s data.train=none.jsonl
check "a question alone" grep -q 'none.jsonl:1: dropped, it holds no token to learn from' out
want 2 '--all reads every record' preview c.yaml --all -n 2
epoch=(c.yaml -s data.template=short.jinja -s data.packing=true -s data.valid=5 -s 'data.train=[{path: train.jsonl, weight: 1.5}, {path: valid.jsonl, weight: 2}]')
want 0 '' preview "${epoch[@]}" --all
rows=$(sed -n 's/^packed *\([0-9]* rows of [0-9]* tokens, [0-9.]* % full\), without what is held out$/\1/p' out)
check "the held out ones are told" grep -q '^held out     5 of 30 for validation$' out
want 0 . train "${epoch[@]}" -o other --dry-run
check "the rows of a run's epoch: by weight, without what is held out" grep -q "packed *${rows:-none}" out err
finish
