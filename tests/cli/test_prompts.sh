#!/usr/bin/env bash
# generate and tokenize: prompts that are wrong or unusual, tasks, what stands on stdout.
. "$(dirname "$0")/tiny.sh"
want 0 . train c.yaml
cp -r run other

gen() { # gen CODE PATTERN RECORDS ARGS...: prompts from a file
    local code=$1 pattern=$2
    printf '%b\n' "$3" >p.jsonl
    shift 3
    want "$code" "$pattern" generate --base base -n 4 --prompts p.jsonl "$@"
}
lines() { test "$(wc -l <out)" = "$1" && json_lines out; }

gen 0 '' '{"prompt": "a"}\n{"prompt": "b", "seed": 7, "id": [1, {"x": "\\u00e9"}]}\n{"input_ids": [1, 2, 271]}' --json
check "three lines of JSON" lines 3
check "with the keys" test "$(grep -c '^{"task": null, "ids": \[[0-9, ]*\], "text": ".*", "stop": "\(eos\|length\|text\)"' out)" = 3
check "id is echoed" grep -q '"id": \[1, {"x": "\\u00[eE]9"}\]' out
gen 0 '' '{"prompt": "a"}\n{"prompt": "a", "task": null}\n{"prompt": "a", "task": "run"}' --adapter run --json
check "a task a record" test "$(grep -o '"task": [a-z"]*' out | tr '\n' ' ')" = '"task": "run" "task": null "task": "run" '
check "the same prompt, the same answer" test "$(sed -n 1p out)" = "$(sed -n 3p out)"
want 0 '' generate --base base -n 4 -p a --quant nf4 --json
cp out alone
gen 0 '' '{"prompt": "a", "task": null}' --adapter run --json
check "null is the base alone" cmp out alone
gen 2 'p.jsonl:1: .*several adapters.*run, other' '{"prompt": "a"}' --adapter run --adapter other --json
gen 0 '' '{"prompt": "a"}\n{"prompt": "a", "task": "x"}' --adapter run --adapter x=other --task run --json
gen 2 "p.jsonl:2: .*no adapter.*'z'.*run" '{"prompt": "a"}\n{"prompt": "a", "task": "z"}' --adapter run --json
want 2 "no adapter for task 'z'" generate --base base --adapter run --task z -p a
want 2 "two adapters are named 'run'" generate --base base --adapter run --adapter run -p a
want 3 'nowhere is not a folder' generate --base base --adapter nowhere -p a
want 2 'not a task name' generate --base base --adapter 'a b=run' -p a

gen 3 'p.jsonl:2: empty|p.jsonl:2: ' '{"prompt": "a"}\n' --json
gen 3 'p.jsonl:1: ' '{"prompt": "a"'
gen 3 'p.jsonl:1: .*object' '[]'
gen 3 'p.jsonl:1: .*one of .*found none' '{}'
gen 3 'p.jsonl:1: .*one of .*found several' '{"prompt": "a", "input_ids": [1]}'
gen 3 'p.jsonl:1: .*string' '{"prompt": 1}'
gen 3 'p.jsonl:1: .*seed' '{"prompt": "a", "seed": -1}'
gen 3 'p.jsonl:1: .*input_ids' '{"input_ids": "a"}'
gen 3 'p.jsonl:1: .*item 1' '{"input_ids": [1, -2]}'
gen 3 'p.jsonl:1: .*item 1' '{"input_ids": [1, 4294967297]}'
gen '[23]' 'p.jsonl:2: token id 272 at position 1.*271' '{"prompt": "a"}\n{"input_ids": [1, 272]}\n{"prompt": "a"}' --json
check "nothing is answered before it is read" test ! -s out
gen '[23]' 'p.jsonl:1: the prompt has no tokens' '{"prompt": ""}'
gen '[23]' 'p.jsonl:1: the prompt has 300 tokens.*256' "{\"prompt\": \"$(printf '%0300d' 0)\"}"
gen 3 'p.jsonl:1: .*no messages' '{"messages": []}'
gen 2 'p.jsonl:1: the base has no chat template' '{"messages": [{"role": "user", "content": "a"}]}'
gen 3 'p.jsonl:1: .*tools.*needs .*messages' '{"prompt": "a", "tools": []}'
gen 0 'note: .*"extra" is ignored' '{"prompt": "a", "extra": 1}' --json
gen 0 '' '{"prompt": "a\\u0000b"}\n{"prompt": "\\u00e9\\ud83d\\ude00"}' --json
check "two lines of JSON" lines 2
want 2 'the prompt has no tokens' generate --base base -p ''
want 2 'the prompt has 300 tokens.*256' generate --base base -p "$(printf '%0300d' 0)"
want 0 '' generate --base base -p "$(printf '%0256d' 0)" --json
check "a prompt as long as the context gives one token" grep -q '"ids": \[[0-9]*\],.*"stop": "\(length\|eos\)"' out
want 0 '' generate --base base -p a -n 300 --json
want 2 '--stop' generate --base base -p a --stop ''
want 2 'give -p, --prompts or --chat' generate --base base
want 2 'not both' generate --base base -p a --prompts p.jsonl
want 2 '--chat: the base has no chat template' generate --base base -p a --chat
want 2 '--system belongs to --chat' generate --base base -p a --system x
want 2 '--chat or --prompts, not both' generate --base base --chat --prompts p.jsonl
want 2 '--top-p' generate --base base -p a --top-p 2
want 2 '--temperature' generate --base base -p a --temperature nan
want 2 '-n|--max|--count' generate --base base -p a -n 0
want 3 'none.jsonl' generate --base base --prompts none.jsonl
want 0 '' generate --base base --prompts /dev/null --json
check "no prompts, no answers" test ! -s out

# where a line is wrong is said once
printf '{"prompt": "a"}\nno json\n' >broken.jsonl
want 3 '^graft: broken.jsonl:2: column' generate --base base --prompts broken.jsonl -n 1
"$graft" generate --base base --prompts - -n 1 --json <broken.jsonl >out 2>err
check "and so on standard input" grep -q '^{"error": "line 2: column' out
want 2 'from 1 to 1048576$' generate --base base -p a -n 0

# a loop on standard input goes on after bad lines, and answers each line before the next is read
{
    printf '{"prompt": "a"}\n{"prompt"\n\n\xff\xfe\n{"prompt": ""}\n{"input_ids": [5000]}\n'
    printf '{"prompt": "a", "task": "none"}\n{"prompt": "\xc3"}\n[1]\n{"messages": []}\n{"prompt": "a"}'
} >loop.jsonl
"$graft" generate --base base --prompts - -n 4 --json <loop.jsonl >out 2>err
rc=$?
judge 0 '' generate --prompts -
check "a line for each" lines 11
check "nine errors" test "$(grep -c '^{"error": "line [0-9]*: ' out)" = 9
check "first and last are answers" test "$(sed -n 1p out)" = "$(sed -n 11p out)"
mkfifo ask
"$graft" generate --base base --prompts - -n 4 <ask >out 2>err &
pid=$!
exec 8>ask
echo '{"prompt": "a"}' >&8
for _ in $(seq 100); do [ -s out ] && break; sleep 0.05; done
check "the answer is there while the pipe is open" test -s out
exec 8>&-
wait $pid

# the same alone, in a batch, in any order
for i in $(seq 1 40); do echo "{\"prompt\": \"$((i % 7)) and $i\", \"id\": $i}"; done >p.jsonl
want 0 '' generate --base base --adapter run -n 8 --prompts p.jsonl --json
sort out >batch
tac p.jsonl >r.jsonl
want 0 '' generate --base base --adapter run -n 8 --prompts r.jsonl --json
check "the order of prompts does not matter" cmp batch <(sort out)
want 0 '' generate --base base --adapter run -n 8 --prompts p.jsonl --json --temperature 1 --seed 3
cp out first
want 0 '' generate --base base --adapter run -n 8 --prompts p.jsonl --json --temperature 1 --seed 3
check "a seed gives the same answers" cmp out first

# tokenize: there and back
printf '{"text": "a\\u0000\\u00e9 <|end|>"}\n{"text": ""}\n' >t.jsonl
want 0 '' tokenize --base base --data t.jsonl
check "ids" test "$(cat out)" = '{"ids": [97, 0, 195, 169, 32, 256]}
{"ids": []}'
cp out ids.jsonl
want 0 '' tokenize --base base --decode --data ids.jsonl
check "and back" test "$(head -1 out)" = '{"text": "a\u0000\u00e9 <|end|>"}'
want 3 'x.jsonl' tokenize --base base --data x.jsonl
echo '{"ids": [9999]}' >x.jsonl
want 3 'x.jsonl:1: .*9999' tokenize --base base --decode --data x.jsonl
echo '{"text": 5}' >x.jsonl
want 3 'x.jsonl:1: ' tokenize --base base --data x.jsonl
echo '5' >x.jsonl
want 3 'x.jsonl:1: ' tokenize --base base --data x.jsonl
want 3 'c.yaml:1: ' tokenize --base c.yaml --data x.jsonl

# preview: any row of the embedding, lines, JSON
want 0 '' preview c.yaml -n 2
check "brackets where there is no colour" grep -q '\[n1<|end|>\]' out
check "no escape code in a file" test -z "$(grep $'\033' out)"
want 0 '' preview c.yaml -n 100 --json
check "forty lines of JSON" lines 40
want 0 '' preview c.yaml --line 3 --json
check "line 3 alone" grep -q '"line": 3, .*"text": "number 3 is n9<|end|>"' out
want 2 'no line 41' preview c.yaml --line 41
echo '{"input_ids": [97, 261, 98]}' >far.jsonl
want 0 '' preview c.yaml -s data.train=far.jsonl --json
check "an unused row has no text" grep -q '"text": "ab"' out
check "NO_COLOR and a file have no escape codes" test -z "$(grep -l $'\033' err out)"
finish
