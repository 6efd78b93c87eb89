#!/usr/bin/env python3
"""The partner of the training benchmark: annot-mix in PyTorch, written the way one writes it there, and as strong as it gets.

    train_torch.py DIR [--threads 1] [--seed 1] [--repeat 1] [--set KEY=VALUE]...
    train_torch.py --check                      every strong variant has the losses and the parameters of the plain one
    train_torch.py --worker [--threads 1]       measures what it is asked on standard input; bench_train.py drives it

DIR is a data folder (instances.csv[.gz], labels.csv[.gz], gold.csv[.gz]). Needs torch; nothing in `make test` or CI runs it. The
last line of the output is {"accuracy": [..], "labels_per_second": .., "seconds": ..}: labels in all training steps
of one fit divided by the seconds of its step loop, median over repeats.

`eager` is built only from torch.nn and torch.optim modules: Linear, BatchNorm1d, RAdam, CosineAnnealingLR; no work is saved that a
plain PyTorch program would not save. The strong variants save what ours saves: the first layer over instances instead of
labels, gathers instead of one-hot products, at most two label columns in the loss, and the batches of an epoch (order, partners,
weights) prepared at once, so that a step only slices. They differ in how they are run: `foreach` (eager, torch's RAdam with
foreach), `flat` (eager, RAdam of eleven operations over one vector of parameters), `compiled` (the step's two halves and RAdam
through torch.compile). RAdam has no fused form in torch.
"""
import argparse
import csv
import gzip
import json
import math
import pathlib
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

DEFAULTS = dict(alpha=1.0, eta=0.9, hidden=[256, 128], dropout=0.5, annotator_embedding=128, epochs=50, batch_size=64,
                learning_rate=0.01, weight_decay=0.0)


def rows(folder, name):
    path = folder / name
    opened = open(path, newline="") if path.exists() else gzip.open(str(path) + ".gz", "rt", newline="")
    with opened as lines:
        return list(csv.reader(lines))[1:]


def load(folder):
    instances, labels, gold = (rows(folder, n) for n in ("instances.csv", "labels.csv", "gold.csv"))
    gold = {r[0]: r[1] for r in gold}
    meta = json.loads((folder / "meta.json").read_text())
    classes = meta.get("classes") or sorted({r[2] for r in labels} | set(gold.values()))
    number = {c: i for i, c in enumerate(classes)}
    annotators = {a: i for i, a in enumerate(sorted({r[1] for r in labels}))}
    labelled = {r[0] for r in labels}
    train = sorted((r for r in instances if r[1] == "train" and r[0] in labelled), key=lambda r: r[0].encode())
    test = [r for r in instances if r[1] == "test" and r[0] in gold]
    at = {r[0]: i for i, r in enumerate(train)}
    triples = sorted((at[t], annotators[w], number[l]) for t, w, l in labels if t in at)
    x = torch.tensor([[float(v) for v in r[2:]] for r in train])
    x_test = torch.tensor([[float(v) for v in r[2:]] for r in test])
    mean, scale = x.mean(0), x.std(0, unbiased=False)
    scale[scale < 1e-12] = 1
    y_test = torch.tensor([number[gold[r[0]]] for r in test])
    return (x - mean) / scale, torch.tensor(triples), (x_test - mean) / scale, y_test, len(classes), len(annotators)


class ClassModel(nn.Module):
    def __init__(self, n_features, n_classes, hidden, dropout):
        super().__init__()
        layers, width = [], n_features
        for h in hidden:
            layers += [nn.Linear(width, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Dropout(dropout)]
            width = h
        self.body, self.head, self.width = nn.Sequential(*layers), nn.Linear(width, n_classes), width

    def forward(self, x):
        u = self.body(x)
        return self.head(u), u


class AnnotatorModel(nn.Module):
    def __init__(self, width, n_annotators, n_classes, embedding, eta):
        super().__init__()
        self.n_classes = n_classes
        self.instance, self.annotator = nn.Linear(width, embedding), nn.Linear(n_annotators, embedding)
        self.body = nn.Sequential(nn.Dropout(0.5), nn.Linear(2 * embedding, embedding), nn.BatchNorm1d(embedding),
                                  nn.ReLU())
        self.head = nn.Linear(embedding, n_classes**2)
        with torch.no_grad():
            self.head.bias.copy_(torch.eye(n_classes).flatten() * math.log(eta * (n_classes - 1) / (1 - eta)))

    def forward(self, u, a):
        v = torch.cat([self.instance(u.detach()), self.annotator(a)], 1)
        return self.head(self.body(v)).view(-1, self.n_classes, self.n_classes)


def make_models(data, s, seed):
    x, _, _, _, C, A = data
    torch.manual_seed(seed)
    classes = ClassModel(x.shape[1], C, s["hidden"], s["dropout"])
    return classes, AnnotatorModel(classes.width, A, C, s["annotator_embedding"], s["eta"])


def plain_loss(classes, annotators, xs, a, z):
    logits, u = classes(xs)
    log_p = torch.log_softmax(logits, 1)[:, :, None] + torch.log_softmax(annotators(u, a), 2)
    return -(z * torch.logsumexp(log_p, 1)).sum(1).mean()


class Eager:
    """One training as one writes it."""

    def __init__(self, data, s, seed=1):
        self.x, self.triples, _, _, C, A = data
        self.s = s
        self.classes, self.annotators = make_models(data, s, seed)
        self.optimizer = torch.optim.RAdam([dict(params=self.classes.parameters(), weight_decay=s["weight_decay"]),
                                            dict(params=self.annotators.parameters())], lr=s["learning_rate"])
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, s["epochs"])
        self.one_hot_a, self.one_hot_z = torch.eye(A), torch.eye(C)
        self.of_row = [(self.triples[:, 0] == i).nonzero().flatten() for i in range(len(self.x))]
        self.beta = torch.distributions.Beta(s["alpha"], s["alpha"]) if s["alpha"] > 0 else None

    def epoch(self):
        """Returns the number of labels that went through steps."""
        n_labels, x, s = 0, self.x, self.s
        for batch in torch.randperm(len(x)).split(s["batch_size"]):
            t = self.triples[torch.cat([self.of_row[i] for i in batch])]
            a, z = self.one_hot_a[t[:, 1]], self.one_hot_z[t[:, 2]]
            if self.beta is not None:
                xs = x[t[:, 0]]
                lam, pi = self.beta.sample((len(t), 1)), torch.randperm(len(t))
                xs, a, z = (lam * q + (1 - lam) * q[pi] for q in (xs, a, z))
                loss = plain_loss(self.classes, self.annotators, xs, a, z)
            else:
                logits, u = self.classes(x[batch])
                inverse = torch.empty(len(x), dtype=torch.long)
                inverse[batch] = torch.arange(len(batch))
                logits, u = logits[inverse[t[:, 0]]], u[inverse[t[:, 0]]]
                log_p = torch.log_softmax(logits, 1)[:, :, None] + torch.log_softmax(self.annotators(u, a), 2)
                loss = -(z * torch.logsumexp(log_p, 1)).sum(1).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            n_labels += len(t)
        self.schedule.step()
        return n_labels


def fit(data, s, seed):
    training = Eager(data, s, seed)
    start = time.perf_counter()
    n_labels = sum(training.epoch() for _ in range(s["epochs"]))
    seconds = time.perf_counter() - start
    x_test, y_test = data[2:4]
    training.classes.eval()
    with torch.no_grad():
        accuracy = (training.classes(x_test)[0].argmax(1) == y_test).double().mean().item() if len(x_test) else None
    return accuracy, n_labels / seconds, seconds


# ---- the strong variants ------------------------------------------------------------------------------------------------
def strong_loss(classes, annotators, table, x, row, row2, a, a2, z, lam):
    """x: the B instances of the batch; row, row2: of each label and of its partner; a, a2: annotators; z: T x 2 classes; lam: T x 1.
    table: A x E, the annotators' embeddings."""
    first = classes.body[0](x)
    u = classes.body[1:](torch.lerp(first.index_select(0, row2), first.index_select(0, row), lam))
    e_a = torch.lerp(F.embedding(a2, table), F.embedding(a, table), lam) + annotators.annotator.bias
    hidden = annotators.body(torch.cat([annotators.instance(u.detach()), e_a], 1))
    confusion = annotators.head(hidden).view(-1, annotators.n_classes, annotators.n_classes)
    columns = confusion.gather(2, z[:, None, :].expand(-1, annotators.n_classes, 2))
    log_p = (torch.log_softmax(classes.head(u), 1) - torch.logsumexp(confusion, 2))[:, :, None] + columns
    q = torch.logsumexp(log_p, 1)
    return -torch.lerp(q[:, 1:], q[:, :1], lam).mean()


def radam_factors(t, lr, beta1=0.9, beta2=0.999):
    """(step size of m, 1 when the step is divided by sqrt(v)): RAdam's bias corrections and rectification at step t."""
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    if rho > 5:
        rect = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        return lr * rect * math.sqrt(1 - beta2**t) / (1 - beta1**t), True
    return lr / (1 - beta1**t), False


def radam_lists(parameters, grads, ms, vs, size, eps):
    """With v. size, eps: tensors of one number, so that nothing is compiled again when they change."""
    for p, g, m, v in zip(parameters, grads, ms, vs):
        m.lerp_(g, 0.1)
        v.mul_(0.999).addcmul_(g, g, value=0.001)
        p.sub_(size * m / (v.sqrt() + eps))


def radam_lists_without(parameters, grads, ms, vs, size):
    for p, g, m, v in zip(parameters, grads, ms, vs):
        m.lerp_(g, 0.1)
        v.mul_(0.999).addcmul_(g, g, value=0.001)
        p.sub_(size * m)


class Strong:
    def __init__(self, data, s, how, seed=1):
        self.x, triples, _, _, self.C, _ = data
        self.s, self.how, self.t, self.epochs_done = s, how, 0, 0
        self.classes, self.annotators = make_models(data, s, seed)
        self.table = nn.Parameter(self.annotators.annotator.weight.detach().t().contiguous())
        self.parameters = [p for n, p in (*self.classes.named_parameters(), *self.annotators.named_parameters())
                           if n != "annotator.weight"] + [self.table]
        order = torch.argsort(triples[:, 0], stable=True)
        self.a, self.z = triples[order, 1].contiguous(), triples[order, 2].contiguous()
        self.counts = torch.bincount(triples[:, 0], minlength=len(self.x))
        self.starts = torch.cumsum(self.counts, 0) - self.counts
        self.loss, self.size, self.eps = strong_loss, torch.zeros(()), torch.tensor(1e-8)
        if how == "foreach":
            self.optimizer = torch.optim.RAdam(self.parameters, lr=s["learning_rate"], foreach=True)
        elif how == "flat":
            self.flatten()
        else:
            self.m, self.v = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
            self.loss = torch.compile(strong_loss, dynamic=True)
            self.radam, self.radam_without = torch.compile(radam_lists), torch.compile(radam_lists_without)

    def flatten(self):
        """Parameters and gradients become views of one vector each."""
        self.flat = torch.cat([p.detach().flatten() for p in self.parameters])
        self.gradient, self.m, self.v = (torch.zeros_like(self.flat) for _ in range(3))
        at = 0
        for p in self.parameters:
            here = slice(at, at + p.numel())
            p.data, p.grad = self.flat[here].view_as(p), self.gradient[here].view_as(p)
            at += p.numel()

    def prepare(self):
        """All batches of an epoch: sizes of each in instances and labels, and what strong_loss takes, one after the other."""
        n, b = len(self.x), self.s["batch_size"]
        perm = torch.randperm(n)
        counts = self.counts[perm]
        total = int(counts.sum())
        place = torch.repeat_interleave(torch.arange(n), counts)
        label = torch.arange(total) - torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
        label += self.starts[perm][place]
        batch, row = place // b, place % b
        partner = torch.argsort(batch + torch.rand(total, dtype=torch.float64))  # a permutation inside each batch
        alpha = self.s["alpha"]
        lam = torch.rand(total, 1) if alpha == 1 else torch.distributions.Beta(alpha, alpha).sample((total, 1))
        a, z = self.a[label], self.z[label]
        sizes = torch.bincount(batch).tolist()
        columns = (row, row[partner], a, a[partner], torch.stack([z, z[partner]], 1), lam)
        return zip(self.x[perm].split(b), *(c.split(sizes) for c in columns))

    def step(self, piece, lr):
        self.t += 1
        loss = self.loss(self.classes, self.annotators, self.table, *piece)
        if self.how == "foreach":
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss
        size, with_v = radam_factors(self.t, lr)
        if self.how == "flat":
            self.gradient.zero_()
            loss.backward()
            g = self.gradient
            self.m.lerp_(g, 0.1)
            self.v.mul_(0.999).addcmul_(g, g, value=0.001)
            if with_v:
                self.flat.addcdiv_(self.m, self.v.sqrt().add_(1e-8), value=-size)
            else:
                self.flat.add_(self.m, alpha=-size)
            return loss
        for p in self.parameters:
            p.grad = None
        loss.backward()
        self.size.fill_(size)
        with torch.no_grad():
            grads = [p.grad for p in self.parameters]
            if with_v:
                self.radam(self.parameters, grads, self.m, self.v, self.size, self.eps)
            else:
                self.radam_without(self.parameters, grads, self.m, self.v, self.size)
        return loss

    def epoch(self):
        lr = self.s["learning_rate"] / 2 * (1 + math.cos(math.pi * self.epochs_done / self.s["epochs"]))
        if self.how == "foreach":
            self.optimizer.param_groups[0]["lr"] = lr
        for piece in self.prepare():
            self.step(piece, lr)
        self.epochs_done += 1
        return len(self.a)


VARIANTS = ("eager", "foreach", "flat", "compiled")


def make(data, s, variant, seed=1):
    return Eager(data, s, seed) if variant == "eager" else Strong(data, s, variant, seed)


# ---- check --------------------------------------------------------------------------------------------------------------
def check():
    """The same batches, partners and weights through the plain and every strong variant, without dropout, in float64: losses and
    parameters of 20 steps (RAdam divides by sqrt(v) from the sixth on) must agree."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(3)
    n, D, C, A, seed = 60, 7, 4, 9, 5
    triples = torch.tensor([(i, a, (i + (a % 3 == 0)) % C) for i in range(n) for a in torch.randperm(A)[: 1 + i % 3].tolist()])
    data = (torch.randn(n, D), triples, None, None, C, A)
    s = dict(DEFAULTS, hidden=[16, 8], dropout=0.0, annotator_embedding=8, batch_size=20)
    plain = Eager(data, s, seed)
    plain.annotators.body[0].p = 0.0
    strong = {how: Strong(data, s, how, seed) for how in VARIANTS[1:]}
    worst = dict.fromkeys(strong, 0.0)
    for training in strong.values():
        training.annotators.body[0].p = 0.0
    source, done = Strong(data, s, "foreach", seed), 0
    while done < 20:
        for piece in source.prepare():
            x, row, row2, a, a2, z, lam = piece
            mixed = [lam * p + (1 - lam) * q for p, q in ((x[row], x[row2]), (plain.one_hot_a[a], plain.one_hot_a[a2]),
                                                          (plain.one_hot_z[z[:, 0]], plain.one_hot_z[z[:, 1]]))]
            loss = plain_loss(plain.classes, plain.annotators, *mixed)
            plain.optimizer.zero_grad()
            loss.backward()
            plain.optimizer.step()
            for how, training in strong.items():
                theirs = training.step(piece, s["learning_rate"])
                worst[how] = max(worst[how], abs(theirs.item() - loss.item()))
            done += 1
    table = plain.annotators.annotator.weight.detach().t()
    for how, training in strong.items():
        # A bias before BatchNorm, and the biases of e_x and e_a (through Linear and BatchNorm), have a gradient of exactly 0: RAdam
        # makes of its rounding what it likes, and nothing depends on it.
        far = (training.table - table - (training.table - table).mean(0)).abs().max().item()
        far = max(far, (training.classes.head.weight - plain.classes.head.weight).abs().max().item())
        print(f"{how}: losses differ by {worst[how]:.1e} at most, parameters by {far:.1e}")
        if not (worst[how] < 1e-9 and far < 1e-6):
            raise SystemExit(f"train_torch.py: {how} is another training than the plain one")


# ---- worker -------------------------------------------------------------------------------------------------------------
def read_binary(path, shape):
    """What `engine data` wrote: N x D float32, then T x 3 uint32 (instance, annotator, class)."""
    n, d = shape["N"], shape["D"]
    with open(path, "rb") as f:
        x = torch.frombuffer(bytearray(f.read(4 * n * d)), dtype=torch.float32).view(n, d)
        triples = torch.frombuffer(bytearray(f.read()), dtype=torch.int32).view(-1, 3).long()
    scale = x.std(0, unbiased=False)
    return (x - x.mean(0)) / scale, triples, None, None, shape["C"], shape["A"]


def worker():
    """A line of JSON in: {"data": FILE, "shape": {..}, "variant": .., "seconds": ..}; one out: labels per second of wall and of CPU time
    over whole epochs, at least one, until so many seconds have gone by. The first order of a variant warms it up."""
    trainings = {}
    for line in sys.stdin:
        order = json.loads(line)
        shape, key = order["shape"], (order["data"], order["variant"])
        if key not in trainings:
            s = dict(DEFAULTS, hidden=shape["hidden"], batch_size=shape["batch"], epochs=10**6)
            trainings[key] = make(read_binary(order["data"], shape), s, order["variant"])
            trainings[key].epoch()
        labels, start, cpu = 0, time.perf_counter(), time.process_time()
        while labels == 0 or time.perf_counter() - start < order["seconds"]:
            labels += trainings[key].epoch()
        print(json.dumps(dict(wall=labels / (time.perf_counter() - start), cpu=labels / (time.process_time() - cpu))), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--worker", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.check:
        return check()
    if arguments.worker:
        return worker()
    if arguments.folder is None:
        parser.error("a data folder is wanted")
    settings = dict(DEFAULTS)
    for item in arguments.set:
        key, value = item.split("=", 1)
        if key not in settings:
            parser.error(f"no setting named {key}")
        settings[key] = json.loads(value)
    data = load(arguments.folder)
    results = [fit(data, settings, arguments.seed + r) for r in range(arguments.repeat)]
    rates = sorted(r[1] for r in results)
    print(json.dumps(dict(accuracy=[r[0] for r in results], labels_per_second=rates[len(rates) // 2],
                          seconds=sum(r[2] for r in results))))


if __name__ == "__main__":
    main()
