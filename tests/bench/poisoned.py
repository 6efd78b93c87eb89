#!/usr/bin/env python3
"""What poisoned annotators do, as tests/bench/POISONED.md: accuracy lost, and how well reliability tells the attackers.

    poisoned.py --binary build/annotmixd [--repeat 3] [--folds 5] [--results build/poisoned] [--out POISONED.md] [--document] [--readme] [SET ...]

`annotmixd simulate --attack` adds attackers to a data set until they hold the wanted share of all labels; each attacker goes through
the instances of one annotator of the set, so most hold few labels, as most of the others do. A running server then trains the
methods on it, as anybody would, and is asked for reliability. What a run found is kept in the results folder, one JSON file for each
set, attack, share and seed; what is there is not run again, so that a run that was stopped goes on (`make poisoned`).
--document writes the document of what is there and runs nothing, --readme prints README's short table. --folds 0 takes a sixth of the time and leaves the figures that need
folds out. Nothing is tuned: published defaults.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "fault"))
from server import Server  # noqa: E402  (the path must be set first)

ATTACKS = {"random": "any class, at random", "constant": "always the same class, each its own", "flip": "somebody's label, every class moved on to another",
           "collude": "all the same wrong class for an instance"}
SHARES = (10, 20, 30, 40)
METHODS = ("annot_mix", "dawid_skene_mixup", "majority_vote_mixup")
ALLOWED = {10: 1, 20: 2, 30: 5}  # points of accuracy that annot_mix may lose at a share
WANTED = 0.95  # AUROC up to 30 %
MOST_USEFUL = 10  # labels from which on anything can be known of an annotator
AS_BAD = 0.2  # right so seldom, somebody of the set itself is as bad as who clicks at random
FIGURES = {"reliability": "annot_mix, `reliability`", "reliability_all": "annot_mix, `reliability_all`",
           "expected_correct": "annot_mix, `expected_correct`", "agreement_with_others": "`agreement_with_others`",
           "dawid_skene": "dawid_skene_mixup, `reliability`"}


def data_sets():
    shared, own = ROOT.parent / "shared/data", ROOT / "tests/data"
    sets = {"music-genres": shared / "music-genres", "digits-sim": own / "digits", "letter-sim": shared / "letter-sim"}
    return {name: folder for name, folder in sets.items() if folder.is_dir()}


# ---- running ------------------------------------------------------------------------------------------------------------
def train(server, method, seed, options):
    run = server.must("POST", "/v1/projects/p/training-runs", {"method": method, "seed": seed, **options})
    while run["state"] in ("queued", "running"):
        run = server.must("GET", f"/v1/projects/p/training-runs/{run['id']}?wait=55")
    if run["state"] != "succeeded":
        raise SystemExit(f"poisoned.py: {method} did not train: {run['error']}")
    return run["metrics"]["test"]["accuracy"]


def reliability(server):
    items, after = {}, ""
    while True:
        page = server.must("GET", "/v1/projects/p/reliability?limit=500" + after)
        items.update({i["annotator"]: i for i in page["items"]})
        if not page.get("next"):
            return items
        after = "&cursor=" + page["next"]


def measure(binary, folder, attack, share, seed, folds, place):
    """One set of labels: accuracies on test, and of each annotator what is known and what is reported."""
    data = folder
    if attack != "none":
        data = place / "data"
        subprocess.run([binary, "simulate", folder, "--out", data, "--attack", attack, "--share", f"{share}%", "--seed", str(seed)],
                       check=True, stdout=subprocess.DEVNULL)
    server = Server(binary, place / "p.db", "--log-level", "warn")
    try:
        subprocess.run([binary, "import", "p", data, "--db", place / "p.db"], check=True, stdout=subprocess.DEVNULL)
        accuracy, annotators = {}, {}
        for method in METHODS:
            accuracy[method] = train(server, method, seed, {"folds": folds} if method == "annot_mix" else {})
            found = reliability(server) if method != "majority_vote_mixup" else {}
            for name, item in found.items():
                gold = item["against_gold"] or {"right": 0, "of": 0}
                row = annotators.setdefault(name, {"added": attack != "none" and name.startswith("attacker-"), "labels": item["labels"],
                                                   "right": gold["right"], "of": gold["of"]})
                if method == "annot_mix":
                    row.update({k: item[k] for k in list(FIGURES)[:4]})
                else:
                    row["dawid_skene"] = item["reliability"]
    finally:
        server.stop()
    return {"accuracy": accuracy, "annotators": annotators}


def run_all(arguments, sets):
    todo = [(seed, name, attack, share) for seed in range(1, arguments.repeat + 1) for name in sets
            for attack, share in [("none", 0)] + [(a, s) for s in SHARES for a in ATTACKS]]
    for seed, name, attack, share in todo:
        kept = arguments.results / f"{name}.{attack}.{share}.{seed}.json"
        if kept.exists():
            continue
        with tempfile.TemporaryDirectory(prefix="annotmix-poisoned-") as place:
            found = measure(arguments.binary, sets[name], attack, share, seed, arguments.folds, Path(place))
        kept.write_text(json.dumps(found) + "\n")
        print(f"{name}, {attack} {share} %, seed {seed}: "
              + ", ".join(f"{m} {a:.3f}" for m, a in found["accuracy"].items())
              + ("" if attack == "none" else f"; AUROC {auroc(found['annotators'], 'reliability', True)}"), flush=True)


# ---- the document -------------------------------------------------------------------------------------------------------
def is_bad(row, also_own):
    return row["added"] or (also_own and row["of"] >= MOST_USEFUL and row["right"] <= AS_BAD * row["of"])


def auroc(annotators, figure, also_own, at_least=MOST_USEFUL):
    """Probability that a bad annotator's figure is below a good one's; of those with at least so many labels. None: only one kind."""
    rows = [r for r in annotators.values() if r["labels"] >= at_least and r.get(figure) is not None]
    bad = [r[figure] for r in rows if is_bad(r, also_own)]
    good = [r[figure] for r in rows if not is_bad(r, also_own)]
    if not bad or not good:
        return None
    return sum((b < g) + 0.5 * (b == g) for b in bad for g in good) / (len(bad) * len(good))


def load(results, name, attack, share):
    return [json.loads(p.read_text()) for p in sorted(results.glob(f"{name}.{attack}.{share}.*.json"))]


def mean(values):
    values = [v for v in values if v is not None]
    return statistics.mean(values) if values else None


def error_of(before, after):
    """Standard error of the difference of two means; None with one run of either."""
    if min(len(before), len(after)) < 2:
        return None
    return (statistics.variance(before) / len(before) + statistics.variance(after) / len(after)) ** 0.5


def loss_text(clean, runs, method, limit):
    """Points lost with the standard error over seeds, in bold over the limit."""
    before, after = ([100 * r["accuracy"][method] for r in x] for x in (clean, runs))
    loss, error = statistics.mean(before) - statistics.mean(after), error_of(before, after)
    return cell(loss, loss > limit, 1) + (f" +-{error:.1f}" if error is not None else "")


def cell(value, bad=False, digits=3):
    text = "-" if value is None else f"{value:.{digits}f}"
    return f"**{text}**" if bad else text


def accuracy_table(results, name):
    bare = load(results, name, "none", 0)
    clean = {m: mean([r["accuracy"][m] for r in bare]) for m in METHODS}
    lines = ["| attack | share | " + " | ".join(METHODS) + " | annot_mix loses |", "|---|---:|" + "---:|" * (len(METHODS) + 1),
             "| none | 0 % | " + " | ".join(cell(100 * clean[m], digits=1) for m in METHODS) + " | |"]
    for attack in ATTACKS:
        for share in SHARES:
            runs = load(results, name, attack, share)
            if runs:
                now = {m: mean([r["accuracy"][m] for r in runs]) for m in METHODS}
                lines.append(f"| {attack} | {share} % | " + " | ".join(cell(100 * now[m], digits=1) for m in METHODS)
                             + f" | {loss_text(bare, runs, 'annot_mix', ALLOWED.get(share, 100))} |")
    return lines


def auroc_table(results, name, also_own, at_least=MOST_USEFUL):
    lines = ["| attack | share | " + " | ".join(FIGURES.values()) + " |", "|---|---:|" + "---:|" * len(FIGURES)]
    for attack in ATTACKS:
        for share in SHARES:
            runs = load(results, name, attack, share)
            if runs:
                values = [mean([auroc(r["annotators"], f, also_own, at_least) for r in runs]) for f in FIGURES]
                lines.append(f"| {attack} | {share} % | "
                             + " | ".join(cell(v, share <= 30 and v is not None and v < WANTED) for v in values) + " |")
    return lines


def section(results, name):
    one = load(results, name, "none", 0)[0]["annotators"]
    own = {n: r for n, r in one.items() if is_bad(r, True)}
    attacked = load(results, name, "collude", 20)
    seeds = len(list(results.glob(f"{name}.collude.40.*.json")))
    own_text = ", ".join(f"{n} ({r['right']} of {r['of']} right)" for n, r in sorted(own.items())) or "nobody"
    added = mean([sum(a["added"] for a in r["annotators"].values()) for r in attacked])
    lines = [f"## {name}", "", f"{len(one)} annotators; as bad as attackers by themselves: {own_text}. Seeds 1 to {max(seeds, 1)}."
             + (f" Attackers added at 20 %: {added:.0f}." if added else ""), "",
             f"Accuracy on test instances, %; in bold what loses more than {', '.join(f'{p} at {s} %' for s, p in ALLOWED.items())}:", "",
             *accuracy_table(results, name), "",
             f"AUROC of \"is bad\", annotators of at least {MOST_USEFUL} labels, bad are the attackers and the set's own named above; in bold what is below {WANTED} "
             "up to 30 %:", "", *auroc_table(results, name, True), "",
             "The same, bad are the attackers alone, everybody else counts as good:", "", *auroc_table(results, name, False), "",
             "The same as the first, annotators of one label or more:", "", *auroc_table(results, name, True, 1), ""]
    return lines


def document(arguments, sets):
    names = [n for n in sets if load(arguments.results, n, "none", 0)]
    lines = ["# Poisoned annotators", "",
             "Made by `make poisoned` (poisoned.py): attackers are added to real labels, the share is of all labels that come out. The attacks:", "",
             *(f"- {a}: {text}" for a, text in ATTACKS.items()), "",
             "Points lost are with their standard error over seeds (+-). Colluders that hold more than half of "
             "an instance's labels are the majority there: no method without gold labels can tell who lies, and above 50 % nothing here helps but gold "
             "labels (`gold_use: train`). Figures are means over seeds.", ""]
    for name in names:
        lines += section(arguments.results, name)
    arguments.out.write_text("\n".join(lines).rstrip() + "\n")


def readme_table(results, sets):
    """Of each set and share the worst attack, by name: points that annot_mix loses, and AUROC of its `reliability`."""
    lines = ["| set | share | annot_mix loses at most | dawid_skene_mixup | majority_vote_mixup | least AUROC of `reliability` |",
             "|---|---:|---:|---:|---:|---:|"]
    for name in sets:
        clean = load(results, name, "none", 0)
        for share in SHARES if clean else ():
            found = {a: load(results, name, a, share) for a in ATTACKS}
            found = {a: runs for a, runs in found.items() if runs}
            if not found:
                continue
            cells = []
            for m in METHODS:
                worst = min(found, key=lambda a, m=m, found=found: mean([r["accuracy"][m] for r in found[a]]))
                cells.append(f"{loss_text(clean, found[worst], m, 100)} ({worst})")
            least = {a: mean([auroc(r["annotators"], "reliability", True) for r in runs]) for a, runs in found.items()}
            worst = min(least, key=least.get)
            lines.append(f"| {name} | {share} % | {' | '.join(cells)} | {least[worst]:.3f} ({worst}) |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=lambda p: str(Path(p).resolve()))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=ROOT / "build/poisoned")
    parser.add_argument("--out", type=Path, default=HERE / "POISONED.md")
    parser.add_argument("--document", action="store_true")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("sets", nargs="*", metavar="SET")
    arguments = parser.parse_args()
    there = data_sets()
    names = arguments.sets or [n for n in there if n != "letter-sim"]
    unknown = [n for n in names if n not in there]
    if unknown:
        parser.error(f"no data set {unknown[0]}; there are: {', '.join(there)}")
    sets = {n: there[n] for n in names}
    if arguments.readme:
        return print("\n".join(readme_table(arguments.results, there)))
    arguments.results.mkdir(parents=True, exist_ok=True)
    if not arguments.document:
        run_all(arguments, sets)
    document(arguments, there)


if __name__ == "__main__":
    main()
