#!/usr/bin/env python3
"""Writes the golden vectors of annot-mix: PyTorch, float64, autograd; independent of the C code.

    python3 tests/golden/make_golden.py [FOLDER]      (needs torch; the project's tests only read the result)

One file per case. Keys: `triples` = [instance, annotator, class]; weights are [out][in]; `steps[n]` has the mixing
weights `lambda`, the `permutation` (row t is mixed with row permutation[t]), `dropout_keep_masks` (one 0/1 mask per
hidden layer, then one of T x 2E) and the loss; the first step also the gradients without weight decay; the first and the
last step `parameters_after`. Three steps are an epoch of the cosine schedule. `predict` is in evaluation mode.
"""
import json
import math
import pathlib
import sys

import torch

torch.set_default_dtype(torch.float64)

CASES = [
    # name, N, D, C, A, hidden, E, labels per instance, alpha, only annotators, dropout, weight decay
    ("plain", 6, 5, 3, 4, [6, 4], 3, 2, 1.0, False, 0.0, 1e-4),
    ("no_mixup", 7, 5, 3, 4, [5, 6], 3, 2, 0.0, False, 0.25, 1e-4),
    ("mix_only_annotators", 5, 4, 3, 5, [6], 4, 3, 1.0, True, 0.0, 1e-4),
    ("binary_many_annotators", 8, 3, 2, 9, [5], 4, 3, 1.0, False, 0.0, 1e-4),
    ("no_hidden", 7, 6, 4, 3, [], 5, 2, 0.0, False, 0.0, 0.0),
    ("no_hidden_mixup", 7, 6, 4, 3, [], 5, 2, 1.0, False, 0.0, 1e-3),
    ("dropout", 6, 4, 3, 5, [8], 4, 2, 1.0, False, 0.5, 1e-4),
]
STEPS, STEPS_PER_EPOCH, EPOCHS, RATE, ETA = 6, 3, 50, 0.01, 0.9


def linear(p, name, fan_out, fan_in, g):
    bound = 1 / math.sqrt(fan_in)
    p[name + ".weight"] = (torch.rand(fan_out, fan_in, generator=g) * 2 - 1) * bound
    p[name + ".bias"] = (torch.rand(fan_out, generator=g) * 2 - 1) * bound


def batch_norm(p, name, width, g):
    # Not 1 and 0, so that every gradient is seen.
    p[name + ".weight"] = 1 + 0.2 * torch.randn(width, generator=g)
    p[name + ".bias"] = 0.2 * torch.randn(width, generator=g)
    p[name + ".running_mean"] = 0.1 * torch.randn(width, generator=g)
    p[name + ".running_var"] = 1 + 0.3 * torch.rand(width, generator=g)


def parameters(D, C, A, hidden, E, g):
    p, d = {}, D
    for l, h in enumerate(hidden):
        linear(p, f"hidden{l}", h, d, g)
        batch_norm(p, f"bn{l}", h, g)
        d = h
    linear(p, "class_out", C, d, g)
    linear(p, "annotator_embed", E, A, g)
    linear(p, "instance_embed", E, d, g)
    linear(p, "ap_hidden", E, 2 * E, g)
    batch_norm(p, "ap_bn", E, g)
    linear(p, "ap_out", C * C, E, g)
    p["ap_out.bias"] = torch.eye(C).flatten() * math.log(ETA * (C - 1) / (1 - ETA))
    return p


def normalise(p, name, x, training, bias):
    """BatchNorm1d by hand; `bias` is the bias of the Linear before it, already in x."""
    if training:
        mean, var, n = x.mean(0), x.var(0, unbiased=False), x.shape[0]
        with torch.no_grad():
            p[name + ".running_mean"] += 0.1 * (mean.detach() - p[name + ".running_mean"])
            p[name + ".running_var"] += 0.1 * (var.detach() * n / (n - 1) - p[name + ".running_var"])
    else:
        mean, var = p[name + ".running_mean"], p[name + ".running_var"]
    return (x - mean) / torch.sqrt(var + 1e-5) * p[name + ".weight"] + p[name + ".bias"]


def layer(p, name, x):
    return x @ p[name + ".weight"].T + p[name + ".bias"]


def class_model(p, x, L, training, masks, dropout):
    for l in range(L):
        x = torch.relu(normalise(p, f"bn{l}", layer(p, f"hidden{l}", x), training, None))
        if training:
            x = x * masks[l] / (1 - dropout)
    return layer(p, "class_out", x), x


def annotator_model(p, u, a, C, training, mask):
    v = torch.cat([layer(p, "instance_embed", u.detach()), layer(p, "annotator_embed", a)], 1)
    if training:
        v = v * mask / 0.5
    v = torch.relu(normalise(p, "ap_bn", layer(p, "ap_hidden", v), training, None))
    return layer(p, "ap_out", v).view(-1, C, C)


def forward(p, step, X, triples, C, A, L, alpha, dropout):
    i, m, z = (torch.tensor([t[c] for t in triples]) for c in range(3))
    a, labels = torch.eye(A)[m], torch.eye(C)[z]
    masks = [torch.tensor(k, dtype=torch.float64) for k in step["dropout_keep_masks"]]
    lam, pi = torch.tensor(step["lambda"])[:, None], torch.tensor(step["permutation"])
    if alpha > 0:
        mix = lambda q: lam * q + (1 - lam) * q[pi]
        logits, u = class_model(p, mix(X[i]), L, True, masks, dropout)
        a, labels = mix(a), mix(labels)
    else:
        logits, u = class_model(p, X, L, True, masks, dropout)
        logits, u = logits[i], u[i]
    confusion = annotator_model(p, u, a, C, True, masks[-1])
    log_p = torch.logsumexp(torch.log_softmax(logits, 1)[:, :, None] + torch.log_softmax(confusion, 2), 1)
    return -(labels * log_p).sum(1).mean(), logits, confusion


def untrained(name):
    before_norm = name.endswith(".bias") and (name.startswith("hidden") or name.startswith("ap_hidden"))
    return before_norm or "running" in name


def decay_of(name, decay):
    """Weight decay of a tensor of annot_mix: its annotator model has none here."""
    return 0.0 if name.startswith(("annotator", "instance", "ap_")) else decay


def radam(p, grads, state, t, rate, decay):
    """Step number t (from 1) of RAdam with L2 decay; rate and decay are functions of a tensor's name."""
    rho_inf = 2 / (1 - 0.999) - 1
    for name, gradient in grads.items():
        gradient = gradient + decay(name) * p[name]
        m, v = state.setdefault(name, [torch.zeros_like(gradient), torch.zeros_like(gradient)])
        m.mul_(0.9).add_(gradient, alpha=0.1)
        v.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        m_hat = m / (1 - 0.9**t)
        rho = rho_inf - 2 * t * 0.999**t / (1 - 0.999**t)
        if rho > 5:
            r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            p[name] = p[name] - rate(name) * m_hat * r * math.sqrt(1 - 0.999**t) / (v.sqrt() + 1e-8)
        else:
            p[name] = p[name] - rate(name) * m_hat


def shorten(x):
    if isinstance(x, torch.Tensor):
        return shorten(x.tolist())
    if isinstance(x, list):
        return [shorten(y) for y in x]
    return float(f"{x:.9g}") if isinstance(x, float) else x


def make(case, seed):
    name, N, D, C, A, hidden, E, per, alpha, only, dropout, decay = case
    g = torch.Generator().manual_seed(seed)
    # Rounded before use, so that the file's numbers are the exact inputs.
    X = torch.tensor(shorten(torch.randn(N, D, generator=g)))
    triples = []
    for i in range(N):
        count = 1 + int(torch.randint(0, 2 * per - 1, (1,), generator=g))
        for a in torch.randperm(A, generator=g)[:count].tolist():
            triples.append([i, a, int(torch.randint(0, C, (1,), generator=g))])
    missing = [a for a in range(A) if a not in {t[1] for t in triples}]
    for a in missing:  # everyone labels something: an annotator without labels would be "unseen"
        triples.append([N - 1, a, 0])
    T, p = len(triples), {k: torch.tensor(shorten(v)) for k, v in parameters(D, C, A, hidden, E, g).items()}
    out = dict(name=name, dims=dict(features=D, classes=C, annotators=A, hidden=hidden, embed=E), eta=ETA, alpha=alpha,
               mix_only_annotators=only, dropout=dropout,
               optimizer=dict(lr=RATE, weight_decay_gt=decay, weight_decay_ap=0.0, cosine_T_max_epochs=EPOCHS),
               instances=shorten(X), triples=triples, initial={k: shorten(v) for k, v in p.items()}, steps=[])
    state = {}
    for s in range(STEPS):
        lam = [1.0] * T if alpha == 0 else shorten(torch.rand(T, generator=g))
        pi = list(range(T))
        if alpha > 0 and not only:
            pi = torch.randperm(T, generator=g).tolist()
        elif alpha > 0:
            for i in range(N):
                own = [t for t in range(T) if triples[t][0] == i]
                for t, q in zip(own, torch.randperm(len(own), generator=g).tolist()):
                    pi[t] = own[q]
        rows = T if alpha > 0 else N
        masks = [(torch.rand(rows, h, generator=g) >= dropout).long().tolist() for h in hidden]
        masks.append((torch.rand(T, 2 * E, generator=g) >= 0.5).long().tolist())
        step = {"lambda": lam, "permutation": pi, "dropout_keep_masks": masks}
        trained = [k for k in p if not untrained(k)]
        for k in trained:
            p[k] = p[k].detach().requires_grad_(True)
        loss, logits, confusion = forward(p, step, X, triples, C, A, len(hidden), alpha, dropout)
        grads = dict(zip(trained, torch.autograd.grad(loss, [p[k] for k in trained])))
        for k in trained:
            p[k] = p[k].detach()
        rate = RATE / 2 * (1 + math.cos(math.pi * (s // STEPS_PER_EPOCH) / EPOCHS))
        radam(p, grads, state, s + 1, lambda k: rate, lambda k: decay_of(k, decay))
        step |= dict(lr=shorten(rate), loss=shorten(loss.item()))
        if s == 0:
            step |= dict(gradients={k: shorten(v) for k, v in grads.items()})
        if s in (0, STEPS - 1):
            step |= dict(parameters_after={k: shorten(v) for k, v in p.items()})
        out["steps"].append(step)
    logits, u = class_model(p, X, len(hidden), False, None, dropout)
    q = torch.softmax(logits, 1)
    P = torch.stack([torch.softmax(annotator_model(p, u, torch.eye(A)[a].expand(N, A), C, False, None), 2)
                     for a in range(A)], 1)
    out["predict"] = dict(p_class=shorten(q), p_perf=shorten(torch.einsum("nk,nakk->na", q, P)),
                          p_confusion=shorten(P), p_annotation=shorten(torch.einsum("nk,nakc->nac", q, P)))
    return out


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    for number, case in enumerate(CASES):
        (folder / (case[0] + ".json")).write_text(json.dumps(make(case, 100 + number), separators=(",", ":")) + "\n")
        print(case[0])
