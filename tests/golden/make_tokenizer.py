#!/usr/bin/env python3
"""Make tests/golden/tokenizer_{bytes,pieces,meta}.json and tokenizer_cases.jsonl.

Small tokenizers, a byte-level one in the manner of GPT-2 and Llama 3 and two in the manner of
SentencePiece with byte fallback, and what Hugging Face tokenizers makes of some texts with them:
ids, and the text decoded with and without special tokens.

    python tests/golden/make_tokenizer.py
"""
import json
import os

from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXT = ("the cat sat on the mat and then the dog ran to the cat; that is the end of the story, isn't "
        "it? In 2024 there were 1234567 cats and 89 dogs. def f(x):\n    return x + 1\n").split(" ")
CASES = ["", " ", "the cat", " the  cat\n", "don't WE'LL I'm", "  two  spaces   ", "tabs\tand\r\n\n\nlines",
         "naïve café e\u0301 Å A\u030a", "你好，世界！", "🙂👩‍👩‍👧", "\u180ex\u00a0\u3000 y\u200b", "1234567890 ½Ⅷ²",
         "<s>the</s>cat<s>", "a<s> b <mask>  the <mask>cat", "\u1c89\ua7cb\U000105c0 \U0001e4f0", "\0\1\x7f",
         "a" * 70, "the cat " * 12, "ſ'ſ K", "\u2581the\u2581", "가\u11a8 가", "<0x41><0xE4>", "foo FOO xfoo",
         "\u180e<mask>\u180e \u2003<mask>\u00a0x", "a\u0363\u0301 e\u0323\u0302 \u0301", "b" + "a" * 71, "the" * 30, "thhatt" * 20,
         "ononnono" * 12 + "\n" + "ereeer" * 20]


def byte_chars():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    out, n = {}, 0
    for b in range(256):
        if b in keep:
            out[b] = chr(b)
        else:
            out[b] = chr(256 + n)
            n += 1
    return out


def learn(words, vocab, rounds):
    """The most frequent pair each time: plain byte pair encoding."""
    merges = []
    for _ in range(rounds):
        count = {}
        for w in words:
            for pair in zip(w, w[1:]):
                count[pair] = count.get(pair, 0) + 1
        if not count:
            break
        best = max(sorted(count), key=lambda p: count[p])
        merges.append(list(best))
        vocab.setdefault("".join(best), len(vocab))
        for w in words:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == best:
                    w[i:i + 2] = ["".join(best)]
                i += 1
    return merges


def token(i, content, **flags):
    return dict(dict(id=i, content=content, single_word=False, lstrip=False, rstrip=False,
                     normalized=False, special=True), **flags)


def template(bos, i):
    a = {"Sequence": {"id": "A", "type_id": 0}}
    s = {"SpecialToken": {"id": bos, "type_id": 0}}
    return dict(type="TemplateProcessing", single=[s, a], pair=[s, a, s, a],
                special_tokens={bos: dict(id=bos, ids=[i], tokens=[bos])})


def bytes_tokenizer():
    chars = byte_chars()
    vocab = {c: i for i, c in enumerate(chars.values())}
    words = [[chars[b] for b in w.encode()] for t in TEXT for w in (t, " " + t)]
    merges = learn(words, vocab, 60)
    for pair in (["a", "a"], ["aa", "a"]):  # which of three is joined first?
        merges.append(pair)
        vocab.setdefault("".join(pair), len(vocab))
    vocab["Ġcat!"] = len(vocab)
    n = len(vocab)
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)
    split = dict(type="Split", pattern={"Regex": LLAMA3}, behavior="Isolated", invert=False)
    return dict(version="1.0", truncation=None, padding=None,
                added_tokens=[token(n, "<s>"), token(n + 1, "</s>"), token(n + 2, "<mask>", lstrip=True, rstrip=True),
                              token(n + 3, "foo", single_word=True, special=False, normalized=True),
                              token(n + 4, "  ", special=False, normalized=True)],
                normalizer=dict(type="NFC"),
                pre_tokenizer=dict(type="Sequence", pretokenizers=[split, level]),
                post_processor=dict(type="Sequence", processors=[level, template("<s>", n)]),
                decoder=dict(level, use_regex=True),
                model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None,
                           end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=True,
                           vocab=vocab, merges=merges))


def pieces_tokenizer():
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for b in range(256):
        vocab["<0x%02X>" % b] = len(vocab)
    for c in sorted(set("\u2581" + "".join(TEXT)) - {"\n"}):
        vocab[c] = len(vocab)
    words = [list("\u2581" + t.replace("\n", "")) for t in TEXT]
    merges = [" ".join(m) for m in learn(words, vocab, 60)]
    return dict(version="1.0", truncation=dict(direction="Right", max_length=4, strategy="LongestFirst", stride=0),
                padding=None,
                added_tokens=[token(0, "<unk>"), token(1, "<s>"), token(2, "</s>", normalized=True)],
                normalizer=dict(type="Sequence", normalizers=[
                    dict(type="Prepend", prepend="\u2581"),
                    dict(type="Replace", pattern=dict(String=" "), content="\u2581")]),
                pre_tokenizer=None, post_processor=template("<s>", 1),
                decoder=dict(type="Sequence", decoders=[
                    dict(type="Replace", pattern=dict(String="\u2581"), content=" "), dict(type="ByteFallback"),
                    dict(type="Fuse"), dict(type="Strip", content=" ", start=1, stop=0)]),
                model=dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None,
                           end_of_word_suffix=None, fuse_unk=True, byte_fallback=True, ignore_merges=False,
                           vocab=vocab, merges=merges))


def meta_tokenizer():
    """The newer form of the pieces: a prefix for the first piece only."""
    t = pieces_tokenizer()
    space = dict(type="Metaspace", replacement="\u2581", prepend_scheme="first", split=True)
    return dict(t, normalizer=None, pre_tokenizer=space, decoder=space)


def main():
    out = open(os.path.join(HERE, "tokenizer_cases.jsonl"), "w")
    for name, make in (("tokenizer_bytes", bytes_tokenizer), ("tokenizer_pieces", pieces_tokenizer),
                       ("tokenizer_meta", meta_tokenizer)):
        text = json.dumps(make(), separators=(",", ":"))
        open(os.path.join(HERE, name + ".json"), "w").write(text + "\n")
        t = Tokenizer.from_str(text)
        t.no_truncation()
        for case in CASES:
            e, plain = t.encode(case), t.encode(case, add_special_tokens=False)
            out.write(json.dumps(dict(tokenizer=name, text=case, ids=e.ids, plain=plain.ids,
                                      decoded=t.decode(e.ids, skip_special_tokens=False),
                                      skipped=t.decode(plain.ids, skip_special_tokens=True)
                                      if "</s>" not in case else None)) + "\n")


main()
