#!/usr/bin/env python3
"""The partner of the training benchmark: annot-mix in eager PyTorch, written the way one writes it there.

    python3 tests/bench/train_torch.py DIR [--threads 1] [--seed 1] [--repeat 1] [--set KEY=VALUE]...

DIR is a data folder (instances.csv[.gz], labels.csv[.gz], gold.csv[.gz]). Needs torch; nothing in `make test` or CI runs it. The
last line of the output is {"accuracy": [..], "labels_per_second": .., "seconds": ..}: labels in all training steps
of one fit divided by the seconds of its step loop, median over repeats. Built only from torch.nn and torch.optim modules:
Linear, BatchNorm1d, RAdam, CosineAnnealingLR; no work is saved that a plain PyTorch program would not save.
"""
import argparse
import csv
import gzip
import json
import math
import pathlib
import time

import torch
from torch import nn

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


def fit(data, s, seed):
    x, triples, x_test, y_test, C, A = data
    torch.manual_seed(seed)
    classes = ClassModel(x.shape[1], C, s["hidden"], s["dropout"])
    annotators = AnnotatorModel(classes.width, A, C, s["annotator_embedding"], s["eta"])
    optimizer = torch.optim.RAdam([dict(params=classes.parameters(), weight_decay=s["weight_decay"]),
                                   dict(params=annotators.parameters())], lr=s["learning_rate"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, s["epochs"])
    one_hot_a, one_hot_z = torch.eye(A), torch.eye(C)
    of_row = [(triples[:, 0] == i).nonzero().flatten() for i in range(len(x))]
    beta = torch.distributions.Beta(s["alpha"], s["alpha"]) if s["alpha"] > 0 else None
    n_labels, start = 0, time.perf_counter()
    for _ in range(s["epochs"]):
        for batch in torch.randperm(len(x)).split(s["batch_size"]):
            t = triples[torch.cat([of_row[i] for i in batch])]
            a, z = one_hot_a[t[:, 1]], one_hot_z[t[:, 2]]
            if beta is not None:
                xs = x[t[:, 0]]
                lam, pi = beta.sample((len(t), 1)), torch.randperm(len(t))
                xs, a, z = (lam * q + (1 - lam) * q[pi] for q in (xs, a, z))
                logits, u = classes(xs)
            else:
                logits, u = classes(x[batch])
                inverse = torch.empty(len(x), dtype=torch.long)
                inverse[batch] = torch.arange(len(batch))
                logits, u = logits[inverse[t[:, 0]]], u[inverse[t[:, 0]]]
            log_p = torch.log_softmax(logits, 1)[:, :, None] + torch.log_softmax(annotators(u, a), 2)
            loss = -(z * torch.logsumexp(log_p, 1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            n_labels += len(t)
        schedule.step()
    seconds = time.perf_counter() - start
    classes.eval()
    with torch.no_grad():
        accuracy = (classes(x_test)[0].argmax(1) == y_test).double().mean().item() if len(x_test) else None
    return accuracy, n_labels / seconds, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
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
