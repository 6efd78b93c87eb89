#!/usr/bin/env python3
"""Writes the golden vectors of crowd_layer, trace_reg, geo_reg_f, geo_reg_w and coin_net: PyTorch, float64, autograd.

    python3 tests/golden/make_matrix_golden.py [FOLDER]      (needs torch; the project's tests only read the result)

Format as in make_golden.py, without mixing. `method` says what is trained; each step has its own `rows`, the instances
of the batch in order, and `lr_annotator`. "confusion.weight" [A][C*C] holds one matrix per annotator, rows = true class;
coin_net also has "outliers" [labels][C] in the order of `triples`. `predict` has one annotator more than the case: the
last one is unseen. Everything starts away from the published start, so that no gradient is 0 by symmetry.
"""
import json
import math
import pathlib
import sys

import torch
from make_golden import batch_norm, class_model, linear, radam, shorten, untrained

torch.set_default_dtype(torch.float64)

CASES = [
    # name, method, N, D, C, A, hidden, labels per instance, dropout, weight decay, of annotators, batches
    ("crowd_layer", "crowd_layer", 9, 5, 3, 4, [6], 2, 0.25, 1e-4, 1e-3, [6, 9]),
    ("trace_reg", "trace_reg", 9, 5, 4, 3, [6, 5], 2, 0.0, 1e-4, 0.0, [9, 5]),
    ("geo_reg_f", "geo_reg_f", 10, 5, 3, 4, [6], 2, 0.0, 0.0, 0.0, [10, 7]),
    ("geo_reg_f_few_rows", "geo_reg_f", 10, 5, 5, 4, [6], 2, 0.0, 0.0, 0.0, [4, 6]),
    ("geo_reg_w", "geo_reg_w", 8, 4, 4, 5, [6], 2, 0.25, 1e-4, 1e-3, [8, 4]),
    ("geo_reg_w_no_hidden", "geo_reg_w", 8, 4, 3, 1, [], 1, 0.0, 1e-3, 0.0, [8]),
    ("coin_net", "coin_net", 10, 5, 3, 4, [6], 3, 0.0, 1e-4, 0.0, [6, 4, 10]),
    ("coin_net_decay", "coin_net", 9, 5, 4, 5, [5], 2, 0.25, 0.0, 1e-3, [5, 4]),
]
STEPS, STEPS_PER_EPOCH, EPOCHS, RATE, ANNOTATOR_RATE = 7, 3, 50, 0.01, 0.02


def parameters(method, D, C, A, hidden, n_labels, g):
    p, d = {}, D
    for l, h in enumerate(hidden):
        linear(p, f"hidden{l}", h, d, g)
        batch_norm(p, f"bn{l}", h, g)
        d = h
    linear(p, "class_out", C, d, g)
    start = 6 * torch.eye(C) - 5 if method == "trace_reg" else torch.eye(C)
    p["confusion.weight"] = start.flatten().repeat(A, 1) + 0.3 * torch.randn(A, C * C, generator=g)
    if method == "coin_net":
        # Large enough that the clamp acts on some, tiny on others, and exactly 0 on one instance's.
        p["outliers"] = torch.randn(n_labels, C, generator=g) * torch.rand(n_labels, 1, generator=g) ** 4
        p["outliers"][:3] *= 1e-4
    return p


def logdet_term(G):
    term = -torch.logdet(G)
    return 0.0 if not torch.isfinite(term) or term > 100 else term


def loss_of(method, p, X, rows, triples, masks, C, A, L, dropout):
    logits, _ = class_model(p, X[rows], L, True, masks, dropout)
    q = torch.softmax(logits, 1)
    of_batch = [(rows.index(i), a, z, l) for i in rows for l, (j, a, z) in enumerate(triples) if j == i]
    r, a, z, l = (torch.tensor(x) for x in zip(*of_batch))
    W = p["confusion.weight"].view(A, C, C)
    if method == "crowd_layer":
        return torch.nn.functional.cross_entropy(torch.einsum("tk,tkc->tc", q[r], W[a]), z)
    P = torch.softmax(W, 2)
    mixture = torch.einsum("tk,tkc->tc", q[r], P[a])
    if method != "coin_net":
        loss = -mixture[torch.arange(len(z)), z].log().mean()
        if method == "trace_reg":
            return loss + 0.01 * torch.einsum("akk->a", P).mean()
        if method == "geo_reg_f":
            return loss + (1e-3 * logdet_term(q.T @ q) if len(rows) >= C else 0.0)
        Q = torch.cat([P[m].T for m in range(A)])
        return loss + 1e-3 * logdet_term(Q.T @ Q)
    e = p["outliers"][l]
    mixture = (mixture + e - e.mean(1, keepdim=True)).clamp(1e-10, 1 - 1e-10)
    mixture = mixture / mixture.sum(1, keepdim=True)
    squares = torch.zeros(len(rows)).index_add(0, r, (e * e).sum(1))
    loss = -mixture[torch.arange(len(z)), z].log().mean() + 1e-2 * ((squares + 1e-10) ** 0.2).sum()
    return loss + (1e-2 * logdet_term(q.T @ q) if len(rows) >= C else 0.0)


def of_annotators(name):
    return name in ("confusion.weight", "outliers")


def predict(method, p, X, triples, C, A, L, dropout):
    logits, _ = class_model(p, X, L, False, None, dropout)
    q = torch.softmax(logits, 1)
    W = p["confusion.weight"].view(A, C, C)
    share = torch.tensor([sum(t[1] == a for t in triples) / len(triples) for a in range(A)])
    P = torch.softmax(W, 2)
    P = torch.cat([P, torch.einsum("a,akc->kc", share, P)[None]])
    annotation = torch.einsum("nk,akc->nac", q, P)
    perf = torch.einsum("nk,akk->na", q, P)
    if method == "crowd_layer":
        annotation = torch.softmax(torch.einsum("nk,akc->nac", q, torch.cat([W, P[A:].log()])), 2)
        perf = torch.einsum("nk,nak->na", q, annotation)
    return dict(p_class=shorten(q), p_perf=shorten(perf), p_annotation=shorten(annotation),
                p_confusion=shorten(P.expand(len(X), A + 1, C, C)))


def make(case, seed):
    name, method, N, D, C, A, hidden, per, dropout, decay, annotator_decay, batches = case
    g = torch.Generator().manual_seed(seed)
    # Rounded before use, so that the file's numbers are the exact inputs.
    X = torch.tensor(shorten(torch.randn(N, D, generator=g)))
    triples = []
    for i in range(N):
        count = min(A, 1 + int(torch.randint(0, 2 * per - 1, (1,), generator=g)))
        annotators = sorted(torch.randperm(A, generator=g)[:count].tolist())
        if i == N - 1:  # everyone labels something: an annotator without labels would be "unseen"
            annotators = sorted(set(annotators) | set(range(A)) - {t[1] for t in triples})
        triples += [[i, a, int(torch.randint(0, C, (1,), generator=g))] for a in annotators]
    p = {k: torch.tensor(shorten(v)) for k, v in parameters(method, D, C, A, hidden, len(triples), g).items()}
    out = dict(name=name, method=method, dims=dict(features=D, classes=C, annotators=A, hidden=hidden), dropout=dropout,
               optimizer=dict(weight_decay_gt=decay, weight_decay_ap=annotator_decay), instances=shorten(X),
               triples=triples, initial={k: shorten(v) for k, v in p.items()}, steps=[])
    state = {}
    for s in range(STEPS):
        rows = torch.randperm(N, generator=g)[: batches[s % len(batches)]].tolist()
        masks = [(torch.rand(len(rows), h, generator=g) >= dropout).long() for h in hidden]
        trained = [k for k in p if not untrained(k)]
        for k in trained:
            p[k] = p[k].detach().requires_grad_(True)
        loss = loss_of(method, p, X, rows, triples, masks, C, A, len(hidden), dropout)
        grads = dict(zip(trained, torch.autograd.grad(loss, [p[k] for k in trained])))
        for k in trained:
            p[k] = p[k].detach()
        cosine = 0.5 * (1 + math.cos(math.pi * (s // STEPS_PER_EPOCH) / EPOCHS))
        radam(p, grads, state, s + 1, lambda k: cosine * (ANNOTATOR_RATE if of_annotators(k) else RATE),
              lambda k: annotator_decay if of_annotators(k) else decay)
        step = dict(rows=rows, dropout_keep_masks=[m.tolist() for m in masks], lr=shorten(RATE * cosine),
                    lr_annotator=shorten(ANNOTATOR_RATE * cosine), loss=shorten(loss.item()))
        if s < 2:
            step |= dict(gradients={k: shorten(v) for k, v in grads.items()})
        if s in (0, 2, STEPS - 1):
            step |= dict(parameters_after={k: shorten(v) for k, v in p.items()})
        out["steps"].append(step)
    return out | dict(predict=predict(method, p, X, triples, C, A, len(hidden), dropout))


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "matrix")
    folder.mkdir(exist_ok=True)
    for number, case in enumerate(CASES):
        (folder / (case[0] + ".json")).write_text(json.dumps(make(case, 200 + number), separators=(",", ":")) + "\n")
        print(case[0])
