"""Small synthetic crowds: three blobs in the plane, annotators from expert to adversary. Same seed, same data."""

import random

from harness import Case

CLASSES = ["cat", "dog", "rabbit"]
CENTRES = [(0.0, 2.0), (2.0, -1.0), (-2.0, -1.0)]
ANNOTATORS = {"expert": 0.97, "good": 0.88, "fair": 0.75, "random": 0.34, "adversary": 0.1}


class Crowd:
    """instances: [{"id", "features", "split"}], labels: [{"instance", "annotator", "class"}], gold: {id: class}."""

    def __init__(self, n=60, seed=1, per_instance=3, test_share=0.25):
        rng = random.Random(seed)
        self.instances, self.labels, self.gold = [], [], {}
        for i in range(n):
            k = rng.randrange(3)
            x = [round(c + rng.gauss(0, 0.6), 4) for c in CENTRES[k]]
            name = "i%04d" % i
            split = "test" if rng.random() < test_share else "train"
            self.instances.append({"id": name, "features": x, "split": split})
            self.gold[name] = CLASSES[k]
            for annotator in rng.sample(sorted(ANNOTATORS), per_instance):
                right = rng.random() < ANNOTATORS[annotator]
                others = [c for c in CLASSES if c != CLASSES[k]]
                self.labels.append(
                    {"instance": name, "annotator": annotator, "class": CLASSES[k] if right else rng.choice(others)}
                )

    def load(self, api, path, gold=True):
        """Sends all of it to the project at this path."""
        api.ndjson(path + "/instances", self.instances, expect=(200, 201))
        api.ndjson(path + "/labels", self.labels, expect=(200, 201))
        if gold:
            api.ndjson(path + "/gold", [{"instance": i, "class": c} for i, c in self.gold.items()], expect=(200, 201))


class CrowdCase(Case):
    """A case with one crowd, made once, and as many projects that hold it as the tests ask for."""

    crowd_size = 60

    @classmethod
    def prepare(cls):
        cls.crowd = Crowd(cls.crowd_size)

    def loaded(self, gold=True, **more):
        """A new project with the crowd in it: its path and its name."""
        path = self.project(dim=2, **more)
        self.crowd.load(self.api, path, gold)
        return path, path.rsplit("/", 1)[1]
