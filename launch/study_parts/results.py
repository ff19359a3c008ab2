"""The figures of a study, and what they say: means over seeds, when a distance was reached, what a step costs."""

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from study_parts import timing
from study_parts.runs import read_lines

MEASURES = ["frechet_teacher", "frechet_data", "flow", "dynamic_degree", "consistency", "mean_speed", "fast_share", "speed_distance",
            "jitter", "mass"]


@dataclass
class Run:
    arm: str
    seed: int
    folder: object         # of the launcher: checkpoints, evaluation
    step_seconds: list
    forwards: float        # forward-equivalents of all samples of a step
    cpu: dict              # role -> CPU seconds of a step
    points: list           # (step, measures) on the student's own grid; where it starts from the teacher's weights, from step 0 on
    fewer: dict            # number of steps -> measures of the last checkpoint
    losses: list           # of the fake score, by step; may be empty
    timed: dict            # milliseconds that the teacher takes longer -> seconds a step in a run by itself; may be empty

    def final(self):
        return self.points[-1][1]

    def steps(self):
        return [step for step, _ in self.points]

    def step_time(self):
        """Seconds a step: as it was timed by itself, else the mean of this run."""
        return self.timed.get(0, sum(self.step_seconds) / len(self.step_seconds))

    def seconds(self):
        """Training time at each point."""
        if 0 in self.timed:
            return [step * self.timed[0] for step in self.steps()]
        sums = [0.0]
        for value in self.step_seconds:
            sums.append(sums[-1] + value)
        return [sums[step] for step in self.steps()]

    def dear_seconds(self):
        """The same with a dear teacher. Only where that was timed."""
        return [step * self.timed[max(self.timed)] for step in self.steps()]

    def work(self):
        """Forward-equivalents at each point."""
        return [step * self.forwards for step in self.steps()]

    def values(self, measure):
        return [measures[measure] for _, measures in self.points]


@dataclass
class Results:
    out: object
    description: dict      # study.json
    baselines: dict        # name -> measures and evaluations
    runs: list
    unfinished: list       # (arm, seed)

    def arms(self):
        """Those with runs, in the order of the methods file."""
        return [arm for arm in self.description["arms"] if self.of(arm)]

    def of(self, arm):
        return [run for run in self.runs if run.arm == arm]

    def title(self, arm):
        return self.description["arms"][arm]["title"]

    def experiment(self, arm):
        return self.description["arms"][arm]["experiment"]

    def own_steps(self, arm):
        return len(self.experiment(arm)["schedule"]["student_steps"])

    def base(self, steps):
        return self.baselines.get(f"base-{steps}")


def load_results(out):
    description = json.loads((out / "study.json").read_text())
    samples = description["samples"]
    baselines = {line["arm"]: line for line in read_lines(out / description["base"] / "evaluation" / "baselines.jsonl")
                 if line["samples"] == samples}
    runs, unfinished, timed = [], [], {}
    for entry in description["runs"]:
        timed[entry["arm"]] = timed.get(entry["arm"]) or timing.read(out, Path(entry["folder"]).name)
    for entry in description["runs"]:
        experiment = description["arms"][entry["arm"]]["experiment"]
        grid = experiment["schedule"]["student_steps"]
        base = None if "student" in experiment["model"] else baselines.get(f"base-{len(grid)}")  # another model was not measured untrained
        run = _load_run(out / entry["folder"], entry, grid, samples, base, timed[entry["arm"]])
        if run:
            runs.append(run)
        else:
            unfinished.append((entry["arm"], entry["seed"]))
    return Results(out, description, baselines, runs, unfinished)


def _load_run(folder, entry, grid, samples, base, timed):
    if not (folder / "training.json").exists():
        return None
    training = json.loads((folder / "training.json").read_text())
    points, fewer = {0: base} if base else {}, {}
    steps = len(training["step_seconds"])
    for line in read_lines(folder / "run" / "evaluation" / "metrics.jsonl"):
        if line["samples"] != samples:
            continue
        if line["student_steps"] == grid:
            points[line["step"]] = line
        elif line["step"] == steps:
            fewer[len(line["student_steps"])] = line
    if steps not in points:
        return None
    return Run(entry["arm"], entry["seed"], folder / "run", training["step_seconds"],
               (training["forward_equivalents"] or math.nan) * training["batch"],
               {role: used / steps for role, used in training.get("cpu_seconds", {}).items()}, sorted(points.items()), fewer,
               training.get("fake_score_loss", []), timed)


@dataclass
class Spread:
    """Mean over seeds, and the sample's standard deviation (None of one)."""
    mean: float
    deviation: float | None
    lowest: float
    highest: float


def spread(values):
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, min(values), max(values))


def reached(xs, ys, target):
    """The first x at which the line through the points comes down to `target`; None when it never does."""
    if ys[0] <= target:
        return xs[0]
    for (x0, y0), (x1, y1) in zip(zip(xs, ys), zip(xs[1:], ys[1:])):
        if y1 <= target:
            return x0 + (x1 - x0) * (y0 - target) / (y0 - y1)
    return None


def value_at(xs, ys, x):
    """On the line through the points; the last value behind them."""
    for (x0, y0), (x1, y1) in zip(zip(xs, ys), zip(xs[1:], ys[1:])):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return ys[-1]


@dataclass
class Race:
    """How an arm came to the rival's final distance, seed by seed. An entry is None where it did not."""
    seeds: list
    seconds: list
    work: list
    rival_seconds: list    # when the rival itself first came there
    rival_work: list

    def count(self):
        return sum(value is not None for value in self.seconds)

    def time_ratio(self):
        return _mean_ratio(self.rival_seconds, self.seconds)

    def work_ratio(self):
        return _mean_ratio(self.rival_work, self.work)


def _mean_ratio(above, below):
    """Geometric mean over the seeds where the arm came there after step 0; None when there are none."""
    ratios = [a / b for a, b in zip(above, below) if a and b]
    return statistics.geometric_mean(ratios) if ratios else None


def race(results, arm, rival, measure="frechet_teacher", clock="seconds"):
    """None when no seed was run with both. `clock`: seconds or dear_seconds."""
    pairs = [(run, other) for run in results.of(arm) for other in results.of(rival) if run.seed == other.seed]
    if not pairs:
        return None
    targets = [other.final()[measure] for _, other in pairs]

    def when(side, axis):
        return [reached(getattr(pair[side], axis)(), pair[side].values(measure), target) for pair, target in zip(pairs, targets)]

    return Race([run.seed for run, _ in pairs], when(0, clock), when(0, "work"), when(1, clock), when(1, "work"))
