#!/usr/bin/env python3
"""Makes records.txt: what real data sets become, by the tokenizers library and the rules of the record
formats, written here a second time.

usage: make_records.py ASSETS > records.txt
A line: data set, format, tokenizer, eos, max_length; then records, dropped, truncated, straddling, tokens,
targets, and SHA-256 of all ids and of all labels as little-endian int32.
"""
import hashlib
import json
import sys

from tokenizers import Tokenizer

ASSETS = sys.argv[1]
CASES = [
    ("sql/mlx_wikisql_train.jsonl", "text", "smollm2", 2, 0),
    ("sql/mlx_wikisql_valid.jsonl", "text", "mistral", 2, 96),
    ("instruct/t0_ag_news_classify.jsonl", "completion", "smollm2", 2, 64),
    ("instruct/t0_rotten_tomatoes_Movie_Expressed_Sentiment.jsonl", "completion", "tinyllama", 2, 0),
    ("instruct/rasbt_instruction-data.json", "alpaca", "smollm2", 2, 0),
    ("instruct/rasbt_instruction-data.json", "alpaca", "llama2", 2, 80),
]
WITH = ("Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n"
        "### Input:\n{input}\n\n### Response:")
WITHOUT = ("Below is an instruction that describes a task. Write a response that appropriately completes the "
           "request.\n\n### Instruction:\n{instruction}\n\n### Response:")


def split(form, x):
    if form == "text":
        return None, x["text"]
    if form == "completion":
        return x["prompt"], x["completion"]
    return (WITH if x.get("input") else WITHOUT).format_map(x), x["output"]


def main():
    for data, form, name, eos, longest in CASES:
        tok = Tokenizer.from_file(f"{ASSETS}/tokenizers/{name}/tokenizer.json")
        tok.no_truncation()
        tok.no_padding()
        text = open(f"{ASSETS}/datasets/{data}", encoding="utf-8").read()
        rows = json.loads(text) if data.endswith(".json") else [json.loads(x) for x in text.split("\n") if x]
        n = dict.fromkeys("dropped truncated straddling tokens targets".split(), 0)
        ids, labels = hashlib.sha256(), hashlib.sha256()
        for x in rows:
            prompt, answer = split(form, x)
            a = tok.encode((prompt or "") + answer).ids
            if a[-1:] != [eos]:
                a.append(eos)
            b = list(a)
            if prompt is not None:
                p = tok.encode(prompt).ids
                n["straddling"] += a[:len(p)] != p
                b[:len(p)] = [-100] * min(len(p), len(b))
            if longest and len(a) > longest:
                n["truncated"] += 1
                a, b = a[:longest], b[:longest]
            targets = sum(y != -100 for y in b[1:])
            if not targets:
                n["dropped"] += 1
                continue
            n["tokens"] += len(a)
            n["targets"] += targets
            for h, v in (ids, a), (labels, b):
                h.update(b"".join(y.to_bytes(4, "little", signed=True) for y in v))
        print(data, form, name, eos, longest, len(rows), *n.values(), ids.hexdigest(), labels.hexdigest())


main()
