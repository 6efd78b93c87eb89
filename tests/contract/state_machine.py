#!/usr/bin/env python3
"""Random requests to a running server, and the same to a model of it (model.py): every answer and everything that can be
read afterwards must be what the model says, also after a restart, kill -9, and a backup that was restored.

    state_machine.py --binary build/annotmixd [--runs N] [--steps N] [--seed N] [--seconds N] [--log FILE]

A failure prints the shortest sequence of requests that hypothesis finds; the same seed finds it again.
Closing line: "N passed, N failed" (runs).
"""

import argparse
import copy
import os
import random
import shutil
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "fault"))

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from campaign import Campaign
from model import CURRENT, TOMBSTONE, Project
from server import Server

INSTANCES, ANNOTATORS, CLASSES, REFS = ["i1", "i 2", "ü/3", "i4"], ["ana", "b,en", "=cem"], ["cat", "dog", "eel"], ["r1", "r2"]
TIMES = ["2026-01-0%dT00:00:00.000Z" % d for d in range(1, 5)]
instances, annotators = st.sampled_from(INSTANCES), st.sampled_from(ANNOTATORS)
classes, maybe_class = st.sampled_from(CLASSES), st.sampled_from(CLASSES + [None])
maybe_ref = st.sampled_from([None, None, None] + REFS)
maybe_time = st.sampled_from([None, None] + TIMES)
labels = st.tuples(instances, annotators, maybe_class, maybe_time, maybe_ref)
features = st.one_of(st.none(), st.tuples(st.sampled_from([-1.0, 0.5]), st.sampled_from([0.0, 2.0])).map(list))
rows = st.tuples(instances, features, st.sampled_from([None, "train", "test"]), st.sampled_from([None, None] + CLASSES))


class Service:
    """The one server of this process; projects of past runs are deleted, so it stays small."""

    def __init__(self, binary):
        self.binary, self.folder = binary, tempfile.mkdtemp(prefix="annotmix-model-")
        self.db = os.path.join(self.folder, "annotmix.db")
        self.number, self.steps, self.server_errors, self.kinds = 0, 0, 0, {}
        self.start()

    def start(self):
        self.server = Server(self.binary, self.db, "--trainers", "1")
        self.connection = self.server.connection()

    def stop(self, kill=False):
        self.connection.close()
        if kill:
            self.server.kill()
        else:
            status, _ = self.server.stop()
            assert status == 0, "exit status %d after SIGTERM" % status

    def backup(self):
        path = os.path.join(self.folder, "backup-%d.db" % self.number)
        if os.path.exists(path):
            os.unlink(path)
        import subprocess

        subprocess.run([self.binary, "backup", path, "--db", self.db], check=True, capture_output=True, timeout=60)
        return path

    def restore(self, path):
        self.stop(kill=True)
        for end in ("", "-wal", "-shm"):
            if os.path.exists(self.db + end):
                os.unlink(self.db + end)
        shutil.copy(path, self.db)
        self.start()

    def close(self):
        self.stop(kill=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, path, body=None, media_type="application/json", expect=None):
        self.steps += 1
        status, answer = self.server.call(method, path, body, media_type, connection=self.connection)
        self.kinds[method, status] = self.kinds.get((method, status), 0) + 1
        assert status < 500, "%s %s: %s %s" % (method, path, status, answer)
        if expect is not None:
            assert status == expect, "%s %s %s: %s %s, expected %s" % (method, path, body, status, answer, expect)
        return status, answer


SERVICE = None
BATCH = 20  # runs with one seed
PHASES = {False: [hypothesis.Phase.generate], True: [hypothesis.Phase.generate, hypothesis.Phase.shrink]}


def quoted(text):
    import urllib.parse

    return urllib.parse.quote(text, safe="")


class Machine(RuleBasedStateMachine):
    @initialize(dim=st.sampled_from([0, 0, 2]))
    def begin(self, dim):
        SERVICE.number += 1
        self.name = "p%d" % SERVICE.number
        self.path = "/v1/projects/" + self.name
        self.model, self.saved, self.saved_at = Project(CLASSES, dim), None, None
        body = {"name": self.name, "classes": CLASSES, "feature_dim": dim}
        SERVICE.call("POST", "/v1/projects", body, expect=201)
        SERVICE.call("POST", "/v1/projects", body, expect=409)

    def teardown(self):
        if hasattr(self, "path"):
            SERVICE.call("DELETE", self.path, expect=204)
            SERVICE.call("GET", self.path, expect=404)

    # ---- requests

    @rule(items=st.lists(rows, min_size=1, max_size=4, unique_by=lambda r: r[0]))
    def put_instances(self, items):
        body, outcomes = [], []
        for name, numbers, split, gold in items:
            if self.model.dim == 0:
                numbers = None
            body.append({k: v for k, v in (("id", name), ("features", numbers), ("split", split), ("gold", gold)) if v is not None})
            outcomes.append(self.model.put_instance(name, numbers, split, gold))
        status, answer = SERVICE.call("POST", self.path + "/instances", {"instances": body})
        assert status == (201 if set(outcomes) == {"created"} else 200), answer
        assert (answer["created"], answer["updated"], answer["rejected"]) == (
            outcomes.count("created"), outcomes.count("updated"), 0), (answer, outcomes)
        self.check()

    @staticmethod
    def body_of(label):
        instance, annotator, klass, given, ref = label
        fields = {"instance": instance, "annotator": annotator, "class": klass, "given_at": given, "ref": ref}
        if klass is None:
            fields["skipped"] = True
        return {k: v for k, v in fields.items() if v is not None}

    @rule(label=labels)
    def put_label(self, label):
        instance, annotator, klass, given, ref = label
        old = self.model.label_of(instance, annotator)
        old_class = old.klass if old is not None else None
        outcome = self.model.put_label(instance, annotator, klass, given, ref)
        status, answer = SERVICE.call("POST", self.path + "/labels", self.body_of(label))
        assert status == {"created": 201, "unknown-instance": 404, "conflict": 409}.get(outcome, 200), (outcome, answer)
        if status < 300:
            assert answer["unchanged"] == (outcome == "unchanged") and answer["superseded"] == (outcome == "late"), answer
            assert answer["replaces"] == (old_class if outcome == "replaced" else None), (answer, old_class)
        if outcome in ("created", "replaced"):
            assert answer["seq"] == self.model.seq, answer
        self.check()

    @rule(items=st.lists(labels, min_size=1, max_size=6), csv=st.booleans())
    def put_labels(self, items, csv):
        outcomes = [self.model.put_label(*item) for item in items]
        if csv:
            cells = lambda values: ",".join('"%s"' % v.replace('"', '""') if v else "" for v in values) + "\r\n"
            lines = [(i, a, k, "" if k else "true", g, r) for i, a, k, g, r in items]
            body, kind = "instance,annotator,class,skipped,given_at,ref\r\n" + "".join(cells(x) for x in lines), "text/csv"
        else:
            import json

            body, kind = "".join(json.dumps(self.body_of(x)) + "\n" for x in items), "application/x-ndjson"
        status, answer = SERVICE.call("POST", self.path + "/labels", body.encode(), kind)
        refused = [o for o in outcomes if o in ("unknown-instance", "conflict")]
        assert status == (422 if len(refused) == len(items) else 201 if set(outcomes) == {"created"} else 200), (outcomes, answer)
        expected = (outcomes.count("created"), outcomes.count("replaced") + outcomes.count("late"), outcomes.count("unchanged"), len(refused))
        assert (answer["created"], answer["updated"], answer["unchanged"], answer["rejected"]) == expected, (outcomes, answer)
        self.check()

    @rule(instance=instances, annotator=annotators)
    def delete_label(self, instance, annotator):
        row = self.model.label_of(instance, annotator)
        target = self.path + "/labels?instance=%s&annotator=%s" % (quoted(instance), quoted(annotator))
        SERVICE.call("DELETE", target, expect=204 if row else 404)
        if row:
            self.model.delete_label(row)
        self.check()

    @rule(ref=st.sampled_from(REFS))
    def delete_ref(self, ref):
        found = self.model.current(ref=ref)
        SERVICE.call("DELETE", self.path + "/labels?ref=" + ref, expect=204 if found else 404)
        if found:
            self.model.delete_label(found[0])
        self.check()

    @rule(instance=instances, klass=maybe_class)
    def gold(self, instance, klass):
        target = self.path + "/gold/" + quoted(instance)
        known = instance in self.model.instances
        if klass is None:
            has = known and self.model.instances[instance]["gold"] is not None
            SERVICE.call("DELETE", target, expect=204 if has else 404)
            if has:
                self.model.delete_gold(instance)
        else:
            outcome = self.model.put_gold(instance, klass) if known else None
            SERVICE.call("PUT", target, {"class": klass}, expect={"created": 201, "updated": 200, None: 404}[outcome])
        self.check()

    @rule(instance=instances)
    def delete_instance(self, instance):
        known = instance in self.model.instances
        SERVICE.call("DELETE", self.path + "/instances/" + quoted(instance), expect=204 if known else 404)
        if known:
            self.model.delete_instance(instance)
        self.check()

    @rule(annotator=annotators)
    def delete_annotator(self, annotator):
        known = annotator in self.model.annotators
        SERVICE.call("DELETE", self.path + "/annotators/" + quoted(annotator), expect=204 if known else 404)
        if known:
            self.model.delete_annotator(annotator)
            end = time.monotonic() + 30  # its labels are erased in the background, each leaving a number
            while SERVICE.call("GET", self.path)[1]["label_seq"] < self.model.seq:
                assert time.monotonic() < end, "the labels of a deleted annotator are not erased"
        self.check()

    @rule(seed=st.integers(0, 3))
    def train(self, seed):
        method = "majority_vote" if self.model.dim == 0 else "annot_mix"
        body = {"method": method, "seed": seed}
        if self.model.dim:
            body["settings"] = {"epochs": 1, "hidden": [2], "annotator_embedding": 1, "dropout": 0}
        status, run = SERVICE.call("POST", self.path + "/training-runs", body)
        assert status in (202, 409), run
        used = self.model.trainable()
        if len({r.instance for r in used}) >= 2 and len({r.klass for r in used}) >= 2:
            assert status == 202, run
        if status == 409:
            return
        self.model.runs += 1
        status, run = SERVICE.call("GET", self.path + "/training-runs/%d?wait=50" % run["id"], expect=200)
        assert run["state"] == "succeeded", run
        assert run["labels_used"] == len(used), (run, len(used))
        self.model.add_model()
        assert run["model"] == self.model.active, run
        self.check()

    @precondition(lambda self: self.model.dim)
    @rule(where=st.sampled_from([[0.0, 0.0], [1e6, -1.0]]), instance=instances)
    def predict(self, where, instance):
        body = {"instances": [{"features": where}], "annotators": ["ana", "nobody"], "return": ["p_class", "p_perf"]}
        status, answer = SERVICE.call("POST", self.path + "/predict", body)
        assert status == (200 if self.model.active else 409), answer
        if status == 200:
            it = answer["predictions"][0]
            assert answer["model"] == self.model.active and abs(sum(it["p_class"]) - 1) < 1e-4, answer
            assert it["class"] == CLASSES[it["p_class"].index(max(it["p_class"]))], answer
            status, answer = SERVICE.call("POST", self.path + "/predict", {"instances": [{"id": instance}]})
            known = self.model.instances.get(instance)
            assert status == (404 if known is None else 200 if known["features"] else 422) or (known and status == 409), answer

    @precondition(lambda self: len(self.model.models) > 1)
    @rule(back=st.integers(0, 3))
    def activate(self, back):
        number = self.model.models[-1 - back % len(self.model.models)]
        SERVICE.call("POST", self.path + "/models/%d/activate" % number, expect=200)
        self.model.active = number
        self.check()

    @rule(how=st.sampled_from(["stop", "kill", "backup", "restore", "nothing", "nothing"]))
    def disturb(self, how):
        if how in ("stop", "kill"):
            SERVICE.stop(kill=how == "kill")
            SERVICE.start()
        elif how == "backup":
            self.saved, self.saved_at = copy.deepcopy(self.model), SERVICE.backup()
        elif how == "restore" and self.saved is not None:
            SERVICE.restore(self.saved_at)
            self.model = copy.deepcopy(self.saved)
        self.check()

    # ---- everything that can be read

    def items(self, target):
        found, cursor = [], ""
        while True:
            page = SERVICE.call("GET", target + ("&" if "?" in target else "?") + "limit=3" + cursor, expect=200)[1]
            assert len(page["items"]) <= 3
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = "&cursor=" + page["next_cursor"]

    def check(self):
        model, path = self.model, self.path
        project = SERVICE.call("GET", path, expect=200)[1]
        assert project["counts"] == {**project["counts"], **model.counts()}, (project["counts"], model.counts())
        assert project["label_seq"] == model.seq and project["active_model"] == model.active, (project, model.seq, model.active)
        part = random.randrange(6)  # one list after each step: all of them in the course of a run
        [self.check_labels, self.check_feed, self.check_history, self.check_instances, self.check_annotators, self.check_consensus][part]()

    @staticmethod
    def shown(item):
        return (item["seq"], item["instance"], item["annotator"], item["class"], item["skipped"], item["deleted"], item["ref"])

    @staticmethod
    def known(row):
        dead = row.state == TOMBSTONE
        return (row.seq, row.instance, row.annotator, row.klass, row.klass is None and not dead, dead, row.ref)

    def same(self, target, wanted):
        got = [self.shown(i) for i in self.items(self.path + target)]
        assert got == [self.known(r) for r in wanted], (target, got, [self.known(r) for r in wanted])

    def check_labels(self):
        self.same("/labels", self.model.current())
        name = random.choice(INSTANCES)
        self.same("/labels?instance=" + quoted(name), self.model.current(instance=name))

    def check_feed(self):
        after = random.randrange(self.model.seq + 1)
        self.same("/labels?after_seq=%d" % after, self.model.feed(after))

    def check_history(self):
        self.same("/labels?history=true", self.model.rows)

    def check_instances(self):
        got = {i["id"]: (i["split"], i["gold"]) for i in self.items(self.path + "/instances")}
        assert got == {k: (v["split"], v["gold"]) for k, v in self.model.instances.items()}, got
        gold = {i["instance"]: i["class"] for i in self.items(self.path + "/gold")}
        assert gold == {k: v["gold"] for k, v in self.model.instances.items() if v["gold"]}, gold

    def check_annotators(self):
        got = {a["annotator"]: a["labels"] for a in self.items(self.path + "/annotators")}
        assert got == {a: len(self.model.current(annotator=a)) for a in self.model.annotators}, got
        numbers = sorted(m["number"] for m in self.items(self.path + "/models"))
        assert numbers == self.model.models, numbers

    def check_consensus(self):
        got = {i["instance"]: i for i in self.items(self.path + "/consensus?method=majority_vote")}
        assert set(got) == set(self.model.instances), (set(got), set(self.model.instances))
        for name, item in got.items():
            votes = self.model.votes(name)
            total = sum(votes)
            if total == 0:
                assert item["posterior"] is None, item
            else:
                assert all(abs(a - v / total) < 1e-6 for a, v in zip(item["posterior"], votes)), (item, votes)
            assert total == 0 or votes[CLASSES.index(item["class"])] == max(votes), (item, votes)
            assert item["labels"] == total, (item, votes)
            assert item["resolved"] == self.model.resolved(name), (item, votes)
            assert item["disputed"] == self.model.disputed(name), (item, votes)


def main():
    global SERVICE
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no further batch of runs after this time")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="the first failure as it is")
    parser.add_argument("--log", help="goes on where a campaign with the same log was stopped")
    args = parser.parse_args()
    campaign = Campaign(args.log, args.seed)
    SERVICE = Service(os.path.abspath(args.binary))
    print("seed %d: up to %d runs of %d steps" % (campaign.seed, args.runs, args.steps), flush=True)
    begin, failed = time.monotonic(), 0
    for number, _ in campaign.pieces(-(-args.runs // BATCH)):
        if time.monotonic() - begin >= args.seconds:
            break
        size, seed, steps = min(BATCH, args.runs - BATCH * number), campaign.seed + BATCH * number, SERVICE.steps
        machine = hypothesis.seed(seed)(type("Machine", (Machine,), {}))
        settings = hypothesis.settings(
            max_examples=size, stateful_step_count=args.steps, deadline=None, database=None, print_blob=False,
            suppress_health_check=list(hypothesis.HealthCheck), phases=PHASES[args.shrink])
        try:
            run_state_machine_as_test(machine, settings=settings)
        except Exception:
            import traceback

            traceback.print_exc()
            print("failed with --seed %d --runs %d --steps %d" % (seed, size, args.steps), flush=True)
            failed = 1
            break
        campaign.finish(number, runs=size, requests=SERVICE.steps - steps)
        if args.runs > 100:
            print("%d runs, %d requests" % (campaign.total("runs"), campaign.total("requests")), flush=True)
    SERVICE.close()
    print("%d requests, %.0f s this time" % (campaign.total("requests"), time.monotonic() - begin))
    print("%d passed, %d failed" % (campaign.total("runs"), failed))
    return failed


if __name__ == "__main__":
    sys.exit(main())
