#!/usr/bin/env python3
"""Writes the golden vectors of conal, union_net, madl and crowd_ar: PyTorch, float64, autograd.

    python3 tests/golden/make_deep_golden.py [FOLDER]      (needs torch; the project's tests only read the result)

Format as in make_golden.py, without mixing; `method` and `settings` say what is trained. Tensors [A][C*C] hold one
matrix per annotator, rows = true class. `predict` has one annotator more than the case: the last one is unseen.
Of tensors with more than 1000 elements every 7th is given where results are meant ("every_7th", flat).
"""
import json
import math
import pathlib
import sys

import torch
from make_golden import batch_norm, class_model, layer, linear, normalise, radam, shorten

torch.set_default_dtype(torch.float64)
STEPS, STEPS_PER_EPOCH, EPOCHS, RATE = 6, 3, 50, 0.01
WIDTH = {"conal": 20, "madl": 16}


def one_hot(index, n):
    return torch.eye(n)[index]


# ---- parameters ------------------------------------------------------------------------------------------------------


def rough(x, g):
    """Away from the start, so that no gradient is 0 by symmetry."""
    return x + 0.3 * torch.randn(x.shape, generator=g)


def parameters(method, D, C, A, hidden, start, g):
    p, d, eye = {}, D, torch.eye(C).flatten()
    for l, h in enumerate(hidden):
        linear(p, f"hidden{l}", h, d, g)
        batch_norm(p, f"bn{l}", h, g)
        d = h
    linear(p, "class_out", C, d, g)
    if method in WIDTH:
        linear(p, "annotator_embed", WIDTH[method], A, g)
        linear(p, "instance_embed", WIDTH[method], d, g)
    if method == "conal":
        p["common.weight"] = 2 * torch.eye(C)
        p["confusion.weight"] = (2 * eye).repeat(A, 1)
    if method == "union_net":
        p["confusion.weight"] = ((1 - 1e-5) * eye + 1e-5 / (C - 1) * (1 - eye)).repeat(A, 1)
    if method == "madl":
        p["outer.weight"] = 0.2 * (torch.rand(16, 256, generator=g) * 2 - 1)
        linear(p, "ap_hidden0", 128, 48, g)
        batch_norm(p, "ap_bn0", 128, g)
        linear(p, "ap_hidden1", 16, 128, g)
        batch_norm(p, "ap_bn1", 16, g)
        linear(p, "ap_out", C * C, 16, g)
        p["ap_out.bias"] = eye * math.log(0.8 * (C - 1) / 0.2)
        p["gamma"] = torch.tensor([1.0])
    if method == "crowd_ar":
        p["expertise"] = torch.randn(A, C, generator=g)
        p["confusion.weight"] = eye.repeat(A, 1)
        linear(p, "difficulty0", 128, d, g)
        linear(p, "difficulty1", C, 128, g)
        linear(p, "reliability", 1, C, g)
    if not start:
        for name in ("common.weight", "confusion.weight"):
            if name in p:
                p[name] = rough(p[name], g)
    return p


# ---- the methods: weights w [n][A] over annotators, so that a population is a mixture ---------------


def conal_rate(p, u, w):
    f, g = layer(p, "instance_embed", u), layer(p, "annotator_embed", w)
    return torch.sigmoid((f / f.norm(dim=1, keepdim=True) * g / g.norm(dim=1, keepdim=True)).sum(1))[:, None, None]


def conal_logits(p, u, w, individual, C):
    r = conal_rate(p, u, w)
    return r * p["common.weight"] + (1 - r) * individual


def conal_loss(p, u, q, a, z, A, C, settings):
    own = p["confusion.weight"].view(A, C, C)
    s = torch.einsum("tk,tkc->tc", q, conal_logits(p, u, one_hot(a, A), own[a], C))
    apart = (own - p["common.weight"]).flatten(1).norm(dim=1).sum()
    return torch.nn.functional.cross_entropy(s, z) - 1e-5 * apart


def union_loss(p, u, q, a, z, A, C, settings):
    m = p["confusion.weight"].view(A, C, C).transpose(1, 2).reshape(A * C, C)  # [(a, c)][k]
    return -torch.log((torch.softmax(m, 0)[a * C + z] * q).sum(1)).sum() / settings["rows"]


def madl_confusion(p, u, w, C, training):
    ea, ex = layer(p, "annotator_embed", w), layer(p, "instance_embed", u)
    f = ea + ex
    o = torch.einsum("ti,rij,tj->tr", f, p["outer.weight"].view(16, 16, 16), f)
    v = layer(p, "ap_hidden0", torch.cat([ea, ex, o], 1))
    v = torch.relu(normalise(p, "ap_bn0", v, training, None))
    v = normalise(p, "ap_bn1", layer(p, "ap_hidden1", v), training, None)
    return layer(p, "ap_out", torch.relu(v + ea)).view(-1, C, C)


def madl_loss(p, u, q, a, z, A, C, settings):
    confusion = torch.log_softmax(madl_confusion(p, u, one_hot(a, A), C, True), 2)
    log_q = torch.logsumexp(torch.log(q)[:, :, None] + confusion, 1)[torch.arange(len(z)), z]
    e = layer(p, "annotator_embed", torch.eye(A)).detach()
    distance = ((e[:, None] - e[None]) ** 2).sum(2)
    similar = torch.exp(-p["gamma"].clamp(min=1e-5) * distance).sum(1)
    weight = A / similar / (1 / similar).sum()
    prior = torch.distributions.Gamma(torch.tensor(1.25), torch.tensor(0.25)).log_prob(p["gamma"].clamp(min=1e-3))
    return -(weight[a] * log_q).mean() - prior.sum()


def crowd_ar_reliability(p, u, q, expertise):
    d = torch.sigmoid(layer(p, "difficulty1", torch.sigmoid(layer(p, "difficulty0", u.detach()))))
    return torch.sigmoid(layer(p, "reliability", (expertise - d) * q))[:, 0]


def crowd_ar_loss(p, u, q, a, z, A, C, settings):
    m = crowd_ar_reliability(p, u, q, torch.sigmoid(p["expertise"])[a])
    log_y = torch.log_softmax(torch.einsum("tk,tkc->tc", q, p["confusion.weight"].view(A, C, C)[a]), 1)
    target = m[:, None] * one_hot(z, C) + (1 - m[:, None]) / C
    right = (q.argmax(1) == z).to(torch.float64)
    bce = torch.nn.functional.binary_cross_entropy(m, right)
    return 0.9 * -(target * log_y).sum(1).mean() + 0.1 * bce


def sample(x):
    return dict(every_7th=shorten(x.flatten()[::7])) if x.numel() > 1000 else shorten(x)


LOSS = dict(conal=conal_loss, union_net=union_loss, madl=madl_loss, crowd_ar=crowd_ar_loss)


def pair(method, p, u, q, w, A, C):
    """p_confusion, p_annotation, p_perf of every row with one annotator, w [A] (one-hot, or shares: unseen)."""
    n, w = len(u), w.expand(len(u), A)
    if "confusion.weight" in p:
        rows = torch.softmax(p["confusion.weight"].view(A, C, C), 2)
        mean = torch.einsum("na,akc->nkc", w, rows)
    if method == "conal":
        s = conal_logits(p, u, w, torch.log(mean), C)  # log of a softmax: the same matrix up to a constant per row
        P = torch.softmax(s, 2)
        return P, torch.softmax(torch.einsum("nk,nkc->nc", q, s), 1), torch.einsum("nk,nkk->n", q, P)
    if method == "crowd_ar":
        m = crowd_ar_reliability(p, u, q, w @ torch.sigmoid(p["expertise"]))
        return mean, torch.softmax(torch.einsum("nk,nkc->nc", q, torch.log(mean)), 1), m
    P = mean if method == "union_net" else torch.softmax(madl_confusion(p, u, w, C, False), 2)
    return P, torch.einsum("nk,nkc->nc", q, P), torch.einsum("nk,nkk->n", q, P)


# ---- optimiser -------------------------------------------------------------------------------------------------------


def untrained(name, train_gamma):
    before_norm = name.endswith(".bias") and name.startswith(("hidden", "ap_hidden"))
    return before_norm or "running" in name or (name == "gamma" and not train_gamma)


def of_class(name):
    return name.startswith(("hidden", "bn", "class_out"))


# ---- cases -----------------------------------------------------------------------------------------------------------

CASES = [
    # name, method, N, D, C, A, hidden, labels per instance, dropout, decays, start, train gamma
    ("conal", "conal", 7, 5, 3, 4, [6, 4], 2, 0.25, (1e-4, 1e-3), False, False),
    ("conal_start", "conal", 6, 4, 2, 3, [], 2, 0.0, (0.0, 0.0), True, False),
    ("union_net", "union_net", 7, 5, 3, 4, [6, 4], 2, 0.25, (1e-4, 1e-3), False, False),
    ("union_net_start", "union_net", 6, 4, 2, 3, [], 2, 0.0, (0.0, 0.0), True, False),
    ("madl", "madl", 7, 5, 3, 4, [6, 4], 2, 0.25, (1e-4, 1e-3), False, False),
    ("madl_gamma", "madl", 6, 4, 2, 3, [], 2, 0.0, (0.0, 1e-3), False, True),
    ("crowd_ar", "crowd_ar", 7, 5, 3, 4, [6, 4], 2, 0.25, (1e-4, 1e-3), False, False),
    ("crowd_ar_start", "crowd_ar", 6, 4, 2, 3, [], 2, 0.0, (0.0, 0.0), True, False),
]


def labels(N, C, A, per, g):
    triples = []
    for i in range(N):
        count = min(A, 1 + int(torch.randint(0, 2 * per - 1, (1,), generator=g)))
        for a in sorted(torch.randperm(A, generator=g)[:count].tolist()):
            triples.append([i, a, int(torch.randint(0, C, (1,), generator=g))])
    for a in sorted(set(range(A)) - {t[1] for t in triples}):  # nobody without labels: that would be "unseen"
        triples.append([N - 1, a, 0])
    return triples


def make(case, seed):
    name, method, N, D, C, A, hidden, per, dropout, decays, start, train_gamma = case
    g = torch.Generator().manual_seed(seed)
    X = torch.tensor(shorten(torch.randn(N, D, generator=g)))
    triples, L = labels(N, C, A, per, g), len(hidden)
    i, a, z = (torch.tensor([t[c] for t in triples]) for c in range(3))
    # Rounded before use, so that the file's numbers are the exact inputs; big tensors to few digits, for small files.
    p = parameters(method, D, C, A, hidden, start, g)
    p = {k: torch.tensor([round(x, 4) for x in v.flatten().tolist()]).view_as(v) if v.numel() > 1000 else
         torch.tensor(shorten(v)) for k, v in p.items()}
    out = dict(name=name, method=method, dims=dict(features=D, classes=C, annotators=A, hidden=hidden),
               settings=dict(eta=0.8, train_gamma=train_gamma, dropout=dropout, weight_decay=decays[0],
                             annotator_weight_decay=decays[1]),
               instances=shorten(X), triples=triples, initial={k: shorten(v) for k, v in p.items()}, steps=[])
    state, settings = {}, dict(rows=N)
    for s in range(STEPS):
        masks = [(torch.rand(N, h, generator=g) >= dropout).long().tolist() for h in hidden]
        trained = [k for k in p if not untrained(k, train_gamma)]
        for k in trained:
            p[k] = p[k].detach().requires_grad_(True)
        keep = [torch.tensor(k, dtype=torch.float64) for k in masks]
        logits, u = class_model(p, X, L, True, keep, dropout)
        loss = LOSS[method](p, u[i], torch.softmax(logits, 1)[i], a, z, A, C, settings)
        grads = dict(zip(trained, torch.autograd.grad(loss, [p[k] for k in trained])))
        for k in trained:
            p[k] = p[k].detach()
        rate = RATE / 2 * (1 + math.cos(math.pi * (s // STEPS_PER_EPOCH) / EPOCHS))
        radam(p, grads, state, s + 1, lambda k: rate, lambda k: decays[not of_class(k)])
        if method == "crowd_ar":
            p["reliability.weight"].clamp_(min=0)
        step = dict(dropout_keep_masks=masks, lr=shorten(rate), loss=shorten(loss.item()))
        if s == 0:
            step |= dict(gradients={k: sample(v) for k, v in grads.items()})
        if s in (0, STEPS - 1):
            step |= dict(parameters_after={k: sample(v) for k, v in p.items()})
        out["steps"].append(step)
    logits, u = class_model(p, X, L, False, None, dropout)
    q = torch.softmax(logits, 1)
    share = torch.bincount(a, minlength=A) / len(a)
    P, given, perf = zip(*[pair(method, p, u, q, w, A, C) for w in [*torch.eye(A), share]])
    out["predict"] = dict(p_class=shorten(q), p_perf=shorten(torch.stack(perf, 1)),
                          p_confusion=shorten(torch.stack(P, 1)), p_annotation=shorten(torch.stack(given, 1)))
    return out


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "deep")
    for number, case in enumerate(CASES):
        (folder / (case[0] + ".json")).write_text(json.dumps(make(case, 300 + number), separators=(",", ":")) + "\n")
        print(case[0])
