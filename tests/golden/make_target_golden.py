#!/usr/bin/env python3
"""Golden vectors of annot_mix_prior and of the methods with one target per instance: PyTorch, float64, autograd.

    python3 tests/golden/make_target_golden.py [FOLDER]      (needs torch; the project's tests only read the result)

Format of make_golden.py (whose model and optimiser this uses) with: `method`, `settings`, `gold` (with `clamp_gold` it
is certain), `history` [A][C][C] and `posterior` [N][C] (prior: consensus) where a case has them; `derived` names the
tensors that follow from the labels, `targets` [N][C] are the targets. Methods with one target per instance have one
mixing weight and one partner per instance and no mask of the annotator model.
"""
import json
import math
import pathlib
import sys

import torch

import make_golden as base

CASES = [
    # name, method, N, D, C, A, hidden, labels per instance, alpha, only annotators, dropout, settings, extras
    ("ground_truth", "ground_truth", 9, 5, 3, 4, [6], 2, 0.0, False, 0.25, {}, {"gold"}),
    ("majority_vote", "majority_vote", 10, 5, 3, 5, [6, 4], 3, 0.0, False, 0.0, {}, set()),
    ("majority_vote_soft", "majority_vote", 10, 4, 3, 5, [5], 3, 0.0, False, 0.5, {"soft": True}, {"gold", "clamp"}),
    ("majority_vote_mixup", "majority_vote_mixup", 9, 5, 4, 4, [6], 3, 1.0, False, 0.25, {}, {"history"}),
    ("majority_vote_mixup_no_hidden", "majority_vote_mixup", 9, 5, 4, 4, [], 3, 1.0, False, 0.0, {"soft": True}, set()),
    ("dawid_skene", "dawid_skene", 16, 5, 3, 4, [6], 3, 0.0, False, 0.25, {}, set()),
    ("dawid_skene_soft", "dawid_skene", 16, 5, 3, 5, [5], 2, 0.0, False, 0.0, {"soft": True}, {"gold", "clamp"}),
    ("dawid_skene_mixup", "dawid_skene_mixup", 16, 5, 3, 4, [6, 5], 3, 1.0, False, 0.25, {"soft": True}, set()),
    ("dawid_skene_one_label", "dawid_skene_mixup", 9, 4, 3, 4, [6], 1, 1.0, False, 0.0, {}, set()),
    ("annot_mix_prior", "annot_mix_prior", 8, 5, 3, 4, [6, 4], 3, 1.0, False, 0.25, {"prior_strength": 2.0}, set()),
    ("annot_mix_prior_no_mixup", "annot_mix_prior", 9, 4, 3, 5, [6], 2, 0.0, False, 0.25, {"prior_strength": 0.5},
     {"history"}),
    ("annot_mix_prior_only_annotators", "annot_mix_prior", 6, 4, 3, 5, [5], 3, 1.0, True, 0.0, {"prior_strength": 7.0},
     {"gold", "clamp"}),
    ("annot_mix_prior_one_label", "annot_mix_prior", 9, 4, 4, 3, [], 1, 1.0, False, 0.0, {"prior_strength": 1.0},
     set()),
    ("annot_mix_prior_consensus", "annot_mix_prior", 8, 4, 3, 4, [5], 3, 1.0, False, 0.0,
     {"prior_strength": 2.0, "prior": 1}, {"posterior"}),
]
E = 4


# ---- the true classes as the labels tell them ------------------------------------------------------------------------


class Labels:
    def __init__(self, triples, N, A, C, gold, clamp, history):
        self.N, self.A, self.C, self.history = N, A, C, history
        self.given = torch.zeros(N, A, C)  # 1 where a gave i that class
        for i, a, z in triples:
            self.given[i, a, z] = 1.0
        self.repeats = bool((self.given.sum((1, 2)) > 1).any())
        self.clamped = [(i, k) for i, k in enumerate(gold) if k >= 0] if clamp else []

    def clamp(self, q):
        q = q.clone()
        for i, k in self.clamped:
            q[i] = torch.eye(self.C)[k]
        return q

    def votes(self):
        votes = self.given.sum(1)
        return self.clamp(votes / votes.sum(1, keepdim=True))

    def majority(self):
        votes = self.votes()
        best = (votes == votes.max(1, keepdim=True).values).double()
        return best / best.sum(1, keepdim=True)

    def counts(self, q):
        return torch.einsum("nk,nac->akc", q, self.given)

    def smoothed(self, q, s):
        counts = self.counts(q) + (self.history if self.history is not None else 0.0)
        population = counts.sum(0) + 0.001 + 0.5 * torch.eye(self.C)
        population = population / population.sum(1, keepdim=True)
        matrices = counts + s * population
        return matrices / matrices.sum(2, keepdim=True), population

    def expect(self, shares, matrices):
        # prod over labels of P_a[k, z], one factor at a time
        q = shares.expand(self.N, self.C).clone()
        for i in range(self.N):
            for a, z in self.given[i].nonzero().tolist():
                q[i] = q[i] * matrices[a, :, z]
        return self.clamp(q / q.sum(1, keepdim=True))

    def dawid_skene(self):
        q, previous = self.votes(), None
        if not self.repeats:
            return q
        for _ in range(300):
            shares, counts = q.mean(0), self.counts(q)
            total = counts.sum(2, keepdim=True)
            matrices = torch.where(total > 0, counts / total.clamp_min(1e-300), torch.zeros(()))
            q = self.expect(shares, matrices)
            if previous is not None and (shares - previous).abs().sum() < 1e-4:
                break
            previous = shares
        return q

    def prior(self, s):
        q = self.votes()
        for _ in range(50 if self.repeats else 1):
            matrices, population = self.smoothed(q, s)
            q = self.expect(q.mean(0) + 1e-9, matrices)
        return matrices, population


def hard(q):
    return torch.eye(q.shape[1])[torch.tensor([max(range(len(r)), key=lambda k: (r[k], -k)) for r in q.tolist()])]


# ---- losses ----------------------------------------------------------------------------------------------------------


def target_loss(p, step, X, targets, L, alpha, dropout):
    masks = [torch.tensor(k, dtype=torch.float64) for k in step["dropout_keep_masks"]]
    if alpha > 0:
        lam, pi = torch.tensor(step["lambda"])[:, None], torch.tensor(step["permutation"])
        X, targets = lam * X + (1 - lam) * X[pi], lam * targets + (1 - lam) * targets[pi]
    logits, _ = base.class_model(p, X, L, True, masks, dropout)
    return -(targets * torch.log_softmax(logits, 1)).sum(1).mean()


def prior_loss(p, step, X, triples, C, A, L, alpha, dropout):
    i, m, z = (torch.tensor([t[c] for t in triples]) for c in range(3))
    a, labels = torch.eye(A)[m], torch.eye(C)[z]
    masks = [torch.tensor(k, dtype=torch.float64) for k in step["dropout_keep_masks"]]
    if alpha > 0:
        lam, pi = torch.tensor(step["lambda"])[:, None], torch.tensor(step["permutation"])
        mix = lambda q: lam * q + (1 - lam) * q[pi]
        logits, u = base.class_model(p, mix(X[i]), L, True, masks, dropout)
        a, labels = mix(a), mix(labels)
    else:
        logits, u = base.class_model(p, X, L, True, masks, dropout)
        logits, u = logits[i], u[i]
    confusion = base.annotator_model(p, u, a, C, True, masks[-1]) + (a @ p["ap_prior.weight"][:A]).view(-1, C, C)
    log_p = torch.logsumexp(torch.log_softmax(logits, 1)[:, :, None] + torch.log_softmax(confusion, 2), 1)
    return -(labels * log_p).sum(1).mean()


# ---- cases -----------------------------------------------------------------------------------------------------------


def draw_triples(N, C, A, per, truth, g):
    triples = []
    for i in range(N):
        count = 1 + int(torch.randint(0, 2 * per - 1, (1,), generator=g))
        who = sorted(torch.randperm(A, generator=g)[:count].tolist()) if per > 1 else [i % A]
        for a in who:
            right = torch.rand(1, generator=g) < 0.8 - 0.15 * a
            triples.append([i, a, truth[i] if right else int(torch.randint(0, C, (1,), generator=g))])
    return triples


def confusion_of(p, u, indicator, prior, C):
    logits = base.annotator_model(p, u, indicator.expand(u.shape[0], -1), C, False, None) + prior.view(1, C, C)
    return torch.softmax(logits, 2)


def predictions(p, X, L, method, A, C, triples):
    logits, u = base.class_model(p, X, L, False, None, 0.0)
    q, N = torch.softmax(logits, 1), X.shape[0]
    shares = torch.zeros(A)
    for t in triples:
        shares[t[1]] += 1 / len(triples)
    if method == "annot_mix_prior":
        prior = p["ap_prior.weight"]
        P = torch.stack([confusion_of(p, u, torch.eye(A)[a], prior[a], C) for a in range(A)], 1)
        unseen = confusion_of(p, u, shares, prior[A], C)
    else:
        P = p["confusion.weight"].view(1, A, C, C).expand(N, A, C, C)
        unseen = torch.einsum("a,nakc->nkc", shares, P)
    return dict(p_class=base.shorten(q), p_perf=base.shorten(torch.einsum("nk,nakk->na", q, P)),
                p_confusion=base.shorten(P), p_annotation=base.shorten(torch.einsum("nk,nakc->nac", q, P)),
                p_confusion_unseen=base.shorten(unseen))


def draw_step(rows, owners, alpha, only, hidden, dropout, annotator_mask, n_rows, g):
    lam, pi = [1.0] * rows, list(range(rows))
    if alpha > 0:
        lam = base.shorten(torch.rand(rows, generator=g))
        if only:
            for i in set(owners):
                own = [t for t in range(rows) if owners[t] == i]
                for t, q in zip(own, torch.randperm(len(own), generator=g).tolist()):
                    pi[t] = own[q]
        else:
            pi = torch.randperm(rows, generator=g).tolist()
    width = rows if alpha > 0 else n_rows
    masks = [(torch.rand(width, h, generator=g) >= dropout).long().tolist() for h in hidden]
    if annotator_mask:
        masks.append((torch.rand(rows, 2 * E, generator=g) >= 0.5).long().tolist())
    return {"lambda": lam, "permutation": pi, "dropout_keep_masks": masks}


def make(case, seed):
    name, method, N, D, C, A, hidden, per, alpha, only, dropout, settings, extras = case
    g = torch.Generator().manual_seed(seed)
    X = torch.tensor(base.shorten(torch.randn(N, D, generator=g)))
    truth = torch.randint(0, C, (N,), generator=g).tolist()
    triples = draw_triples(N, C, A, per, truth, g)
    for a in set(range(A)) - {t[1] for t in triples}:  # everyone labels something
        triples.append([0, a, truth[0]])
    triples.sort()
    gold = [k if "clamp" not in extras or i % 3 == 0 else -1 for i, k in enumerate(truth)] if "gold" in extras else []
    history = torch.tensor(base.shorten(5 * torch.rand(A, C, C, generator=g))) if "history" in extras else None
    labels = Labels(triples, N, A, C, gold, "clamp" in extras, history)
    p = base.parameters(D, C, A, hidden, E, g)
    out = dict(name=name, method=method, dims=dict(features=D, classes=C, annotators=A, hidden=hidden, embed=E),
               eta=base.ETA, alpha=alpha, mix_only_annotators=only, dropout=dropout, settings=settings,
               optimizer=dict(lr=base.RATE, weight_decay_gt=1e-4, weight_decay_ap=0.0, cosine_T_max_epochs=base.EPOCHS),
               instances=base.shorten(X), triples=triples, gold=gold, clamp_gold="clamp" in extras)
    if history is not None:
        out["history"] = base.shorten(history)
    if method == "annot_mix_prior":
        p["ap_out.bias"] = torch.zeros(C * C)
        if "posterior" in extras:
            q = torch.tensor(base.shorten(torch.softmax(2 * torch.randn(N, C, generator=g), 1)))
            out["posterior"] = base.shorten(q)
            matrices, population = labels.smoothed(q, settings["prior_strength"])
        else:
            matrices, population = labels.prior(settings["prior_strength"])
        derived = torch.cat([matrices.log().reshape(A, C * C), population.log().reshape(1, C * C)])
        out["derived"], rows, owners = ["ap_prior.weight"], len(triples), [t[0] for t in triples]
    else:
        q = {"ground": lambda: torch.eye(C)[torch.tensor(truth)], "majority": labels.majority,
             "dawid": labels.dawid_skene}[method.split("_")[0]]()
        derived = labels.smoothed(q, 2.0)[0].reshape(A, C * C)
        targets = q if settings.get("soft") else hard(q)
        out["derived"], out["targets"], rows, owners = ["confusion.weight"], base.shorten(targets), N, list(range(N))
        p = {k: v for k, v in p.items() if not k.startswith(("annotator", "instance", "ap_"))}
    p = {k: torch.tensor(base.shorten(v)) for k, v in p.items()}
    p[out["derived"][0]] = derived
    out["initial"], out["steps"], state = {k: base.shorten(v) for k, v in p.items()}, [], {}
    for s in range(base.STEPS):
        step = draw_step(rows, owners, alpha, only, hidden, dropout, method == "annot_mix_prior", N, g)
        trained = [k for k in p if not base.untrained(k) and k not in out["derived"]]
        for k in trained:
            p[k] = p[k].detach().requires_grad_(True)
        if method == "annot_mix_prior":
            loss = prior_loss(p, step, X, triples, C, A, len(hidden), alpha, dropout)
        else:
            loss = target_loss(p, step, X, targets, len(hidden), alpha, dropout)
        grads = dict(zip(trained, torch.autograd.grad(loss, [p[k] for k in trained])))
        for k in trained:
            p[k] = p[k].detach()
        rate = base.RATE / 2 * (1 + math.cos(math.pi * (s // base.STEPS_PER_EPOCH) / base.EPOCHS))
        base.radam(p, grads, state, s + 1, lambda k: rate, lambda k: base.decay_of(k, 1e-4))
        step |= dict(lr=base.shorten(rate), loss=base.shorten(loss.item()))
        if s == 0:
            step |= dict(gradients={k: base.shorten(v) for k, v in grads.items()})
        if s in (0, base.STEPS - 1):
            step |= dict(parameters_after={k: base.shorten(v) for k, v in p.items()})
        out["steps"].append(step)
    out["predict"] = predictions(p, X, len(hidden), method, A, C, triples)
    return out


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "target")
    for number, case in enumerate(CASES):
        (folder / (case[0] + ".json")).write_text(json.dumps(make(case, 300 + number), separators=(",", ":")) + "\n")
        print(case[0])
