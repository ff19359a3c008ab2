"""What goes wrong in a round: kinds of fault, drawn from the round's seed."""
import dataclasses
import os
import random

ROLES = ("broker", "generator", "fake_score", "teacher", "launcher")
MESSAGE_PLACES = ("data.send", "data.receive", "control.send", "control.receive")
CRASHES = (
    "checkpoint.write", "checkpoint.before_manifest", "checkpoint.before_rename", "checkpoint.after_rename",
    "student.before_rename", "cache.put", "cache.flush", "events.write", "epoch.write", "launcher.poll")
ERRNOS = ("cache.put", "cache.get", "cache.flush", "checkpoint.write", "checkpoint.before_manifest",
          "checkpoint.before_rename", "student.before_rename", "events.write", "log.write", "epoch.write")
HANGS = {"generator": "generator.step", "fake_score": "fake_score.step", "teacher": "teacher.score", "broker": "broker.tick"}
DAMAGES = ("truncate", "corrupt", "remove", "manifest", "epoch", "cache")
DISKS = ("checkpoints", "cache")
KINDS = tuple(
    [f"kill.{role}" for role in ROLES] + [f"stop.{role}" for role in ROLES] +
    [f"term.{role}" for role in ROLES + ("all",)] + [f"hang.{role}" for role in HANGS] +
    [f"message.{action}" for action in ("drop", "double", "delay", "reorder", "corrupt")] +
    [f"crash.{place}" for place in CRASHES] + [f"errno.{place}" for place in ERRNOS] +
    [f"disk.{folder}" for folder in DISKS] + [f"files.{damage}" for damage in DAMAGES] + ["nan.teacher", "down"])


@dataclasses.dataclass
class Fault:
    kind: str               # one of KINDS
    at: float = 0.0         # seconds after `since`
    since: str = "training" # or "start": of the round
    target: str = ""        # the process it hits
    seconds: float = 0.0    # how long a stop or a full disk lasts
    rule: str = ""          # of SGMD_FAILPOINTS; such a fault needs no hand at its time
    begun: bool = False     # its time has come; never with a rule
    fired: bool = False     # it was done to the run, which was not at its end before

    @property
    def family(self):
        return self.kind.split(".")[0]

    def __str__(self):
        if self.rule:
            return self.rule
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind.replace(self.kind.split('.')[-1], self.target) if self.target else self.kind}{lasts} at {self.at:.1f} s of {self.since}"


def choose_kinds(only):
    """The kinds that `only` names, whole or by their beginning; those that this machine can do."""
    kinds = [kind for kind in KINDS if not only or any(kind == o or kind.startswith(o + ".") for o in only)]
    if only and not kinds:
        raise SystemExit(f"chaos: no kind of fault is called {', '.join(only)}; known are: {', '.join(KINDS)}")
    return [kind for kind in kinds if not kind.startswith("disk.") or os.geteuid() == 0]


def _stop_seconds(rng, longest):
    """From 1 s to `longest`: 7 of 10 are at most 4 s, 9 of 10 at most 15 s."""
    low, high = rng.choices([(1, 4), (4, 15), (15, 60)], [7, 2, 1])[0]
    return min(rng.uniform(low, high), longest)


def _rule(rng, family, detail, teachers):
    """The failpoint of a fault; empty where it takes a signal or a hand."""
    if family == "hang":
        return f"{HANGS[detail]}=hang@{rng.randint(2, 12)}!"
    if family == "crash":
        return f"{detail}=crash@{rng.randint(1, 2) if detail != 'launcher.poll' else rng.randint(5, 25)}!"
    if family == "nan":
        return f"teacher.score=nan@{rng.randint(1, 10)}!"
    if family == "errno":
        action = rng.choice(["enospc", "eio", "emfile"])
        often = detail.split(".")[0] in ("cache", "events", "log")
        return f"{detail}={action}:{rng.choice([5, 30, 100])}%" if often else f"{detail}={action}@1!"
    if family == "message":
        place = rng.choice(MESSAGE_PLACES)
        senders = ["", "[broker]", "[generator]", "[fake_score]", "[teacher]"]
        process = "" if place.endswith("receive") else rng.choice(senders)  # the broker's
        action = f"delay({rng.choice([20, 200, 1000])}ms)" if detail == "delay" else detail
        return f"{place}{process}={action}:{rng.choice([1, 3, 10])}%"
    return ""


def draw(rng: random.Random, kinds, teachers, longest_stop, grouped="", ranks=1):
    """`grouped`: the role that is a group of `ranks`, any of which may be hit."""
    kind = rng.choice(kinds)
    family, _, detail = kind.partition(".")
    since = rng.choices(["training", "start"], [3, 1])[0]
    fault = Fault(kind, rng.uniform(0, 3.5), since, rule=_rule(rng, family, detail, teachers))
    if detail in ROLES:
        fault.target = f"teacher.{rng.randrange(teachers)}" if detail == "teacher" else detail
        if detail == grouped and family in ("kill", "stop", "term") and (rank := rng.randrange(ranks)) > 0:
            fault.target += f"/{rank}"
    if family == "stop":
        fault.seconds = _stop_seconds(rng, longest_stop)
    if family == "disk":
        fault.seconds = rng.uniform(0.5, 4)
    return fault
