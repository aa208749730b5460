"""Makes combine.json: changes of one weight and of a bias, and what PEFT's merge_utils make of them
(the functions themselves, on the dense changes). Needs torch and peft; run from this folder."""
import json

import torch
from peft.utils import merge_utils

OUT, IN, RANKS, SCALES, WEIGHTS = 12, 10, [3, 2, 4], [2.0, 0.5, 1.25], [0.7, -0.4, 1.3]


def values(t):
    return [float(x) for x in t.flatten()]


gen = torch.Generator().manual_seed(11)
left = [torch.randn(OUT, r, generator=gen) for r in RANKS]
right = [torch.randn(r, IN, generator=gen) for r in RANKS]
bias = [torch.randn(OUT, generator=gen) for _ in RANKS]
weights = torch.tensor(WEIGHTS)
changes = dict(weight=[s * (b @ a) for s, b, a in zip(SCALES, left, right)],
               bias=[s * b for s, b in zip(SCALES, bias)])


def run(how, density, sign):
    out = {}
    for part, tensors in changes.items():
        if how == "linear":
            t = merge_utils.task_arithmetic(tensors, weights)
        elif how == "magnitude_prune":
            t = merge_utils.magnitude_prune(tensors, weights, density)
        else:
            t = merge_utils.ties(tensors, weights, density, sign)
        out[part] = values(t)
    return dict(how=how, density=density, sign=sign, **out)


cases = [run("linear", 1.0, "total")]
for density in (0.2, 0.5, 1.0):
    cases.append(run("magnitude_prune", density, "total"))
    cases.append(run("ties", density, "total"))
    cases.append(run("ties", density, "frequency"))
json.dump(dict(out=OUT, **{"in": IN}, ranks=RANKS, scales=SCALES, weights=WEIGHTS,
               left=[values(t) for t in left], right=[values(t) for t in right],
               bias=[values(t) for t in bias], cases=cases),
          open("combine.json", "w"), indent=0)
