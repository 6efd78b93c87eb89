#!/usr/bin/env python3
"""Writes crowd/: two small sets of simulated labels, and what crowd-kit 1.4.2, cleanlab 2.9 and krippendorff's formula
(worked out here in plain Python) make of them.

    python3 tests/golden/make_crowd_golden.py [FOLDER]    (needs crowd-kit, cleanlab, scikit-learn < 1.7)

SET.labels.csv, SET.gold.csv; SET.METHOD.csv: crowd-kit's class of each instance; SET.p.csv: p(class | x) of a made-up
model, one row per instance in sorted order; SET.crowdlab.csv: cleanlab's consensus and quality per instance;
SET.annotators.csv: its quality and weight per annotator; SET.agreement.csv: alpha, Fleiss' kappa (NaN where the numbers
of labels differ), then a line `a,b,n,kappa` per pair (scikit-learn's cohen_kappa_score).

Names are given in order of appearance, because crowd-kit's MACE mixes up annotators and classes that do not appear in
sorted order.
"""
import csv
import itertools
import pathlib
import sys
import warnings

import numpy as np
import pandas as pd
from cleanlab.multiannotator import get_label_quality_multiannotator
from crowdkit.aggregation import (GLAD, KOS, MACE, MMSR, DawidSkene, MajorityVote, OneCoinDawidSkene, Wawa,
                                  ZeroBasedSkill)
from sklearn.metrics import cohen_kappa_score

warnings.filterwarnings("ignore")
METHODS = [("wawa", Wawa), ("zero_based_skill", ZeroBasedSkill), ("dawid_skene", lambda: DawidSkene(n_iter=100)),
           ("one_coin_dawid_skene", lambda: OneCoinDawidSkene(n_iter=100)), ("glad", GLAD), ("mace", MACE),
           ("kos", KOS), ("m_msr", MMSR), ("majority_vote", MajorityVote)]
SETS = [  # name, instances, annotators, classes, most labels per instance, same number everywhere
    ("two", 120, 14, 2, 7, True),
    ("five", 150, 18, 5, 6, False),
]


def simulate(n, a, c, most, equal, rng):
    """Rows (instance, annotator, class) as numbers, and the truth; annotators 1 and 2: an adversary, a constant."""
    truth = rng.choice(c, size=n, p=np.linspace(2, 1, c) / np.linspace(2, 1, c).sum())
    skill = rng.uniform(0.45, 0.95, size=a)
    skill[1] = 0.1
    rows = []
    for i in range(n):
        m = most if equal else int(rng.integers(1, most + 1))
        for j in sorted(rng.choice(a, size=m, replace=False)):
            right = rng.random() < skill[j]
            z = truth[i] if right else rng.choice([k for k in range(c) if k != truth[i]])
            rows.append((i, j, 0 if j == 2 else int(z)))
    return rows, truth


def in_order(values, stem):
    seen = {}
    for v in values:
        seen.setdefault(v, f"{stem}{len(seen):03d}")
    return seen


def write(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)


def alpha_and_fleiss(counts):
    """counts [instances][classes], instances with two labels or more."""
    m = counts.sum(1)
    n = m.sum()
    coincidences = (counts * (counts - 1) / (m - 1)[:, None]).sum()
    per_class = counts.sum(0)
    alpha = 1 - (n - 1) * (n - coincidences) / (n * n - (per_class ** 2).sum())
    if len(set(m)) > 1:
        return alpha, float("nan")
    p = ((counts ** 2).sum(1) - m) / (m * (m - 1))
    chance = ((per_class / n) ** 2).sum()
    return alpha, (p.mean() - chance) / (1 - chance)


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "crowd")
    folder.mkdir(parents=True, exist_ok=True)
    for name, n, a, c, most, equal in SETS:
        rng = np.random.default_rng(7)
        rows, truth = simulate(n, a, c, most, equal, rng)
        annotators, classes = in_order((r[1] for r in rows), "a"), in_order((r[2] for r in rows), "c")
        assert len(classes) == c and len(annotators) == a
        table = pd.DataFrame([(f"i{i:03d}", annotators[j], classes[k]) for i, j, k in rows],
                             columns=["task", "worker", "label"])
        write(folder / f"{name}.labels.csv", ["task", "worker", "label"], table.values.tolist())
        write(folder / f"{name}.gold.csv", ["instance", "class"],
              [(f"i{i:03d}", classes[k]) for i, k in enumerate(truth)])
        for method, make in METHODS:
            if method == "kos" and c != 2:
                continue
            answer = make().fit_predict(table.copy())
            write(folder / f"{name}.{method}.csv", ["instance", "class"], sorted(answer.items()))

        number = {word: int(word[1:]) for word in list(classes.values()) + list(annotators.values())}
        wide = np.full((n, a), np.nan)
        for task, worker, label in table.values:
            wide[int(task[1:]), number[worker]] = number[label]
        logits = rng.normal(size=(n, c))
        logits[np.arange(n), [number[classes[k]] for k in truth]] += 1.5
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        p = np.round(p, 6)
        p[:, -1] = np.round(1 - p[:, :-1].sum(1), 6)
        write(folder / f"{name}.p.csv", [f"c{k:03d}" for k in range(c)], p.tolist())
        found = get_label_quality_multiannotator(wide, p, verbose=False, return_weights=True)
        quality = found["label_quality"]
        write(folder / f"{name}.crowdlab.csv", ["class", "quality"],
              [(int(k), f"{q:.9f}") for k, q in zip(quality["consensus_label"], quality["consensus_quality_score"])])
        stats = found["annotator_stats"].sort_index()
        write(folder / f"{name}.annotators.csv", ["quality", "weight", "model_weight"],
              [(f"{q:.9f}", f"{w:.9f}", f"{found['model_weight']:.9f}")
               for q, w in zip(stats["annotator_quality"], found["annotator_weight"])])

        counts = np.zeros((n, c))
        for task, _, label in table.values:
            counts[int(task[1:]), number[label]] += 1
        lines = [tuple(f"{v:.9f}" for v in alpha_and_fleiss(counts[counts.sum(1) > 1])) + ("", "")]
        for x, y in itertools.combinations(range(a), 2):
            both = ~np.isnan(wide[:, x]) & ~np.isnan(wide[:, y])
            if both.any():
                kappa = cohen_kappa_score(wide[both, x], wide[both, y], labels=range(c))
                lines.append((x, y, int(both.sum()), f"{kappa:.9f}"))
        write(folder / f"{name}.agreement.csv", ["a", "b", "n", "kappa"], lines)


if __name__ == "__main__":
    main()
