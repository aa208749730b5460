#!/usr/bin/env bash
# Records that are broken: file, line and reason, exit 3; formats of later versions, exit 2.
. "$(dirname "$0")/tiny.sh"

line() { # line CODE PATTERN RECORD: as line 3 of the training and of the eval data
    { head -2 valid.jsonl; printf '%b\n' "$3"; head -2 valid.jsonl; } >bad.jsonl
    want "$1" "bad.jsonl:3: .*$2" train c.yaml -s data.train=bad.jsonl -o new
    want "$1" "bad.jsonl:3: .*$2" eval --base base --data bad.jsonl --json
    check "eval --json wrote to stdout" test ! -s out
    want "$1" "bad.jsonl:3: .*$2" preview c.yaml -s data.train=bad.jsonl --line 3 --json
    check "preview --json wrote to stdout" test ! -s out
    check "refused records leave no output" test ! -e new
}
line 3 'empty line' ''
line 3 'empty line' '   '
line 3 . '{"prompt": "a", "completion": '
line 3 . '{"prompt": "a", "completion": "b"} x'
line 3 . '{"prompt": "a", "prompt": "b", "completion": "c"}'
line 3 'prompt' '{"prompt": 5, "completion": "c"}'
line 3 . '[1, 2]'
line 3 . '5'
line 3 . '{}'
line 3 'UTF-8' '{"prompt": "\xff", "completion": "c"}'
line 3 'prompt' '{"prompt": "a"}'
line 3 'completion' '{"completion": "a"}'
line 3 'text' '{"text": "a", "prompt": "b", "completion": "c"}'
# conversations: a base without a template, then one of our own
line 2 'no chat template; name one with data.template' '{"messages": [{"role": "user", "content": "a"}]}'
line 2 'no chat template' '{"conversations": [{"from": "human", "value": "a"}]}'
line 2 'no chat template' '{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}'
cp -r base talking
printf '{%% for m in messages %%}{{ m.role }}:{{ m.content }}{{ eos_token }}{%% if m.role == "tool" %%}{{ raise_exception("no tools here") }}{%% endif %%}{%% endfor %%}' >talking/chat_template.jinja
talk() { # talk PATTERN RECORD: as line 2 of conversations
    printf '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n%s\n' "$2" >bad.jsonl
    want 3 "bad.jsonl:2: .*$1" train c.yaml -s base=talking -s data.train=bad.jsonl -s data.valid=null -o new
    want 3 "bad.jsonl:2: .*$1" eval --base talking --data bad.jsonl --json
    want 3 "bad.jsonl:2: .*$1" preview c.yaml -s base=talking -s data.train=bad.jsonl
}
talk 'no tools here' '{"messages": [{"role": "tool", "content": "a"}]}'
talk 'no messages' '{"messages": []}'
talk 'messages.0..role is missing' '{"messages": [{"content": "a"}]}'
talk 'type .image' '{"messages": [{"role": "user", "content": [{"type": "image"}]}]}'
talk 'tools out of the text' '{"messages": [{"role": "user", "content": "a"}], "tools": [{"name": "f"}]}'
talk 'from is .x' '{"conversations": [{"from": "x", "value": "a"}]}'
talk 'weight is another number' '{"messages": [{"role": "assistant", "content": "a", "weight": 2}]}'

tokens() { # the same with records of tokens
    printf '{"input_ids": [1, 2, 3]}\n%s\n' "$2" >tokens.jsonl
    want 3 "tokens.jsonl:2: .*$1" train c.yaml -s data.train=tokens.jsonl -s data.valid=null -o new
    want 3 "tokens.jsonl:2: .*$1" eval --base base --data tokens.jsonl --json
}
tokens '272.*271' '{"input_ids": [1, 272, 3]}'
tokens '-1' '{"input_ids": [1, -1, 3]}'
tokens . '{"input_ids": [1, 1e3, 3]}'
tokens . '{"input_ids": [1, 99999999999999999999, 3]}'
tokens . '{"input_ids": "1 2"}'
tokens 'labels' '{"input_ids": [1, 2], "labels": [1]}'
tokens 'labels|300' '{"input_ids": [1, 2], "labels": [1, 300]}'

# a token of the tokenizer that the embedding has no row for, and one whose row is unused
cp -r base far
sed -i 's/"id": 256/"id": 400/' far/tokenizer.json
want 3 'valid.jsonl:1: token 400 .*272' eval --base far --data valid.jsonl
sed -i 's/"id": 400/"id": 271/' far/tokenizer.json
want 0 '' eval --base far --data valid.jsonl

# a record longer than the model's positions
printf '{"text": "%0300d"}\n' 0 >long.jsonl
want 3 'long.jsonl:1: .*30[01].*256' train c.yaml -s data.train=long.jsonl -s data.max_length=1000 -o new
want 3 'long.jsonl:1: .*30[01].*256' eval --base base --data long.jsonl
want 0 'truncated' train c.yaml -s data.train=long.jsonl -s data.max_length=100 -o cut

# whole files
: >bad.jsonl;  want 3 'bad.jsonl: no records' train c.yaml -s data.train=bad.jsonl -o new
printf '\n\n' >bad.jsonl; want 3 'bad.jsonl: no records' train c.yaml -s data.train=bad.jsonl -o new
printf '[{"text": "a"}]' >bad.jsonl; want 3 'bad.jsonl: .*JSON array.*jq' eval --base base --data bad.jsonl
printf '{\n "text": "a"\n}' >bad.jsonl; want 3 'bad.jsonl: .*several lines.*jq' eval --base base --data bad.jsonl
printf 'a,b\n1,2\n' >bad.csv; want 3 'bad.csv: is CSV' train c.yaml -s data.train=bad.csv -o new
gzip -c valid.jsonl | head -c 60 >bad.gz
want 3 'bad.gz: cut short: the gzip stream' train c.yaml -s data.train=bad.gz -o new
want 3 'bad.gz: cut short: the gzip stream' train c.yaml -s data.valid=bad.gz -o new
want 3 'bad.gz: cut short: the gzip stream' eval --base base --data bad.gz --json
want 3 'bad.gz: cut short: the gzip stream' preview c.yaml -s data.train=bad.gz
want 3 'bad.gz: cut short: the gzip stream' generate --base base --prompts bad.gz
printf 'a,b\n1,2\n' | gzip >bad.csv.gz
want 3 'bad.csv.gz: what is compressed in it is CSV' train c.yaml -s data.train=bad.csv.gz -o new
want 3 'none.jsonl: No such file' train c.yaml -s data.train=none.jsonl -o new
want 3 'none.jsonl: No such file' train c.yaml -s data.valid=none.jsonl -o new
want 3 'base: not a regular file' eval --base base --data base
printf '{"prompt": "abcdef", "completion": "g"}\n' >masked.jsonl
printf '{"text": "ab"}\n' >valid2.jsonl
want 3 'masked.jsonl: no record has a token to learn' train c.yaml -s data.train=masked.jsonl -s data.max_length=4 -o new
want 3 'masked.jsonl: no record has a token to measure' train c.yaml -s data.train=valid2.jsonl -s data.valid=masked.jsonl -s data.max_length=4 -o new
check "refused files leave no output" test ! -e new

# what is fine: CRLF, a byte order mark, no newline at the end, U+0000, other keys, non-ASCII
printf '\xef\xbb\xbf{"text": "a\\u0000b", "id": 7}\r\n{"text": "\xc3\xa9\xf0\x9f\x98\x80"}' >fine.jsonl
want 0 '"?id"?' train c.yaml -s data.train=fine.jsonl -o fine
check "the key that is ignored is named once" test "$(grep -c '"id"' err)" = 1
want 0 'ignored: "id"' eval --base base --data fine.jsonl --json
check "U+0000 is a token" grep -q '"tokens": 9,' out
finish
