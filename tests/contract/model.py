"""The service in two hundred lines: what a project holds after each request, with dictionaries and no database.

Written from the description of the API, not from the program. Everything that a client can see of labels is here:
current labels, history, change feed with its numbers, counts, gold, consensus by majority vote.
"""

CURRENT, SUPERSEDED, TOMBSTONE = "current", "superseded", "tombstone"


class Row:
    """One number of the change feed."""

    def __init__(self, seq, instance, annotator, klass, given, ref, state):
        self.seq, self.instance, self.annotator, self.klass = seq, instance, annotator, klass
        self.given, self.ref, self.state = given, ref, state


class Project:
    def __init__(self, classes, dim):
        self.classes, self.dim = list(classes), dim
        self.seq = 0
        self.instances = {}  # name -> {"split", "gold", "features"}
        self.annotators = []  # names, in order of appearance
        self.rows = []
        self.models, self.active, self.runs = [], None, 0

    # ---- looking

    def current(self, **want):
        return [r for r in self.rows if r.state == CURRENT and all(getattr(r, k) == v for k, v in want.items())]

    def label_of(self, instance, annotator):
        found = self.current(instance=instance, annotator=annotator)
        assert len(found) <= 1
        return found[0] if found else None

    def feed(self, after):
        """What a follower of ?after_seq= gets: current labels and tombstones."""
        return [r for r in self.rows if r.seq > after and r.state != SUPERSEDED]

    def counts(self):
        return {
            "instances": len(self.instances),
            "annotators": len(self.annotators),
            "labels": len(self.current()),
            "gold": sum(i["gold"] is not None for i in self.instances.values()),
        }

    def votes(self, instance):
        votes = [0] * len(self.classes)
        for row in self.current(instance=instance):
            if row.klass is not None:
                votes[self.classes.index(row.klass)] += 1
        return votes

    def disputed(self, instance):
        gold = self.instances[instance]["gold"]
        return gold is None and not self.resolved(instance) and sum(v > 0 for v in self.votes(instance)) > 1

    def resolved(self, instance, overlap=3, threshold=0.95):
        votes = self.votes(instance)
        total = sum(votes)
        by_votes = total >= overlap and max(votes) / total >= threshold
        return self.instances[instance]["gold"] is not None or by_votes

    def trainable(self):
        """Labels that training on votes would use: of train instances, not skipped."""
        rows = [r for r in self.current() if r.klass is not None and self.instances[r.instance]["split"] == "train"]
        if self.dim:
            rows = [r for r in rows if self.instances[r.instance]["features"] is not None]
        return rows

    # ---- changing; each returns what the answer must be

    def _take(self, *row):
        self.seq += 1
        self.rows.append(Row(self.seq, *row))

    def put_instance(self, name, features=None, split=None, gold=None):
        created = name not in self.instances
        it = self.instances.setdefault(name, {"split": "train", "gold": None, "features": None})
        if features is not None:
            it["features"] = features
        if split is not None:
            it["split"] = split
        if gold is not None and gold != it["gold"]:
            it["gold"] = gold
            self.seq += 1
        return "created" if created else "updated"

    def put_label(self, instance, annotator, klass, given=None, ref=None, create=False):
        """"created", "replaced", "unchanged", "late"; "unknown-instance", "conflict"."""
        if instance not in self.instances and not (create or self.dim == 0):
            return "unknown-instance"
        if ref is not None:
            for row in self.current(ref=ref):
                if (row.instance, row.annotator) != (instance, annotator):
                    return "conflict"
        if instance not in self.instances:
            self.put_instance(instance)
        if annotator not in self.annotators:
            self.annotators.append(annotator)
        old = self.label_of(instance, annotator)
        if old is None:
            self._take(instance, annotator, klass, given, ref, CURRENT)
            return "created"
        if old.klass == klass:
            return "unchanged"
        if given is not None and (old.given is None or given < old.given):  # None: now, later than any given time here
            same = [r for r in self.rows if r.state == SUPERSEDED and (r.instance, r.annotator, r.klass, r.given) ==
                    (instance, annotator, klass, given)]
            if not same:
                self._take(instance, annotator, klass, given, ref, SUPERSEDED)
            return "late"
        old.state = SUPERSEDED
        self._take(instance, annotator, klass, given, ref, CURRENT)
        return "replaced"

    def delete_label(self, row):
        row.state = SUPERSEDED
        self._take(row.instance, row.annotator, None, None, row.ref, TOMBSTONE)

    def put_gold(self, instance, klass):
        """"created" or "updated"."""
        it = self.instances[instance]
        created = it["gold"] is None
        if it["gold"] != klass:
            it["gold"] = klass
            self.seq += 1
        return "created" if created else "updated"

    def delete_gold(self, instance):
        self.instances[instance]["gold"] = None
        self.seq += 1

    def _erase(self, rows, gone, keep_ref):
        """Rows vanish with their history; each current one leaves a tombstone behind the last number."""
        self.rows = [r for r in self.rows if not gone(r)]
        for row in rows:
            self._take(row.instance, row.annotator, None, None, row.ref if keep_ref else None, TOMBSTONE)

    def delete_instance(self, name):
        gold = self.instances.pop(name)["gold"]
        order = {a: i for i, a in enumerate(self.annotators)}
        rows = sorted(self.current(instance=name), key=lambda r: order[r.annotator])
        self._erase(rows, lambda r: r.instance == name and r.state != TOMBSTONE, False)
        self.seq += gold is not None

    def delete_annotator(self, name):
        self.annotators.remove(name)
        self.seq += 1
        rows = self.current(annotator=name)
        self._erase(rows, lambda r: r.annotator == name and r.state != TOMBSTONE, True)

    def add_model(self):
        self.models.append(len(self.models) + 1)
        self.active = self.models[-1]
