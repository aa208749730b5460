"""Makes optim.json: parameters after steps of torch's optimisers with clipping, and the rates of
transformers' schedules. Needs torch and transformers; run from this folder."""
import json
import math

import torch
import transformers

COUNTS = [13, 6]
STEPS = 7


def values(t):
    return [float(x) for x in t.flatten()]


def optimiser_case(name, lr, weight_decay, max_norm, betas=(0.9, 0.999), eps=1e-8):
    gen = torch.Generator().manual_seed(7)
    params = [torch.nn.Parameter(torch.randn(n, generator=gen)) for n in COUNTS]
    case = dict(name=name, lr=lr, weight_decay=weight_decay, max_norm=max_norm, betas=betas,
                eps=eps, start=[values(p.detach()) for p in params], steps=[])
    if name == "adamw":
        opt = torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    else:
        opt = torch.optim.SGD(params, lr=lr, weight_decay=weight_decay)
    for step in range(STEPS):
        for p in params:  # from tiny to large, so that eps and clipping both show
            p.grad = torch.randn(p.shape, generator=gen) * 10.0 ** (step - 4)
        grad = [values(p.grad) for p in params]
        norm = 0.0
        if max_norm:
            norm = float(torch.nn.utils.clip_grad_norm_(params, max_norm))
        opt.param_groups[0]["lr"] = lr * (1 - step / 20)
        opt.step()
        case["steps"].append(dict(lr=lr * (1 - step / 20), grad=grad, norm=norm,
                                  value=[values(p.detach()) for p in params]))
    return case


def schedule_case(name, total, warmup, lr, min_lr):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    steps = math.ceil(total * warmup) if warmup < 1 else int(warmup)
    full = {"constant": "constant_with_warmup"}.get(name, name)
    extra = {}
    if min_lr:
        full, extra = "cosine_with_min_lr", dict(scheduler_specific_kwargs=dict(min_lr=min_lr))
    sched = transformers.get_scheduler(full, opt, num_warmup_steps=steps, num_training_steps=total,
                                       **extra)
    rates = []
    for _ in range(total + 1):
        rates.append(float(opt.param_groups[0]["lr"]))
        opt.step()
        sched.step()
    return dict(name=name, total=total, warmup=warmup, lr=lr, min_lr=min_lr, rates=rates)


result = dict(
    torch=torch.__version__,
    transformers=transformers.__version__,
    optimisers=[
        optimiser_case("adamw", 2e-3, 0.0, 0.0),
        optimiser_case("adamw", 5e-2, 0.1, 1.0, betas=(0.8, 0.95), eps=1e-6),
        optimiser_case("sgd", 1e-1, 0.0, 0.0),
        optimiser_case("sgd", 1e-1, 0.05, 0.5),
    ],
    schedules=[
        schedule_case("constant", 9, 3, 1e-3, 0.0),
        schedule_case("linear", 17, 0.1, 2e-4, 0.0),
        schedule_case("linear", 5, 0, 1e-4, 0.0),
        schedule_case("cosine", 23, 0.07, 5e-4, 0.0),
        schedule_case("cosine", 20, 4, 5e-4, 5e-5),
        schedule_case("cosine", 4, 4, 5e-4, 0.0),
    ],
)
with open("optim.json", "w") as f:
    json.dump(result, f, indent=0)
    f.write("\n")
