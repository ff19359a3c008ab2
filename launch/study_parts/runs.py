"""Training and evaluating, one run after the other. Nothing that is there already is done again.

<out>/study.json                     what was asked for, where, on which machine
<out>/teacher-<samples>.safetensors  the reference videos, for all runs
<out>/runs/<arm>-seed<n>-<digest>/   an experiment, a topology, run/ and, once trained, training.json:
                                     {"step_seconds": [...], "forward_equivalents": a sample and step, "batch": samples a step,
                                     "cpu_seconds": {role: all in all}, "fake_score_loss": [...]}
<out>/runs/base-<digest>/            evaluation/baselines.jsonl, for all runs
"""

import json
import os
import re

from study_parts import methods as settings
from study_parts import records, timing
from study_parts.processes import Failed, Progress

SECONDS_A_FORWARD = 0.019   # a step of 32 samples, on two cores; only to foretell
SECONDS_A_VIDEO = 0.008     # drawn in four steps and measured, likewise
SECONDS_A_REFERENCE = 0.07  # video of the many-step teacher, likewise
SECONDS_TO_START = 4


class Study:
    def __init__(self, methods, out, programs, plans, samples, runner, slower=()):
        """`slower`: milliseconds that a teacher takes longer in runs that are only timed; 0: a run with the teacher as it is."""
        self.methods, self.out, self.programs, self.plans = methods, out, programs, plans
        self.slower, self.timed = slower, [plan for i, plan in enumerate(plans) if plan.arm not in {p.arm for p in plans[:i]}]
        self.samples, self.runner = samples, runner
        self.reference = out / f"teacher-{samples}.safetensors"
        self.grids = methods["study"]["fewer_steps"]
        self.progress = Progress(self._baseline_cost() + sum(self._training_cost(p) + self._evaluation_cost(p) for p in plans)
                                 + len(self.timed) * len(slower) * timing.SECONDS)

    def folder(self, plan):
        return self.out / "runs" / plan.name()

    def base_folder(self):
        return self.out / "runs" / f"base-{settings.digest(settings.base_experiment(self.methods))}"

    def run(self):
        """The failures, a text each."""
        self._measure_baselines()
        failures = []
        for number, plan in enumerate(self.plans, 1):
            title = f"run {number} of {len(self.plans)}: {plan.arm} seed {plan.seed}"
            try:
                self._train(plan, title)
                self._evaluate(plan, title)
            except Failed as failure:
                failures.append(f"{plan.arm} seed {plan.seed}: {failure}")
                self.progress.say(f"{title} failed; {failure}")
                if len(failures) == number:  # and none before it went well
                    return failures
        for plan in self.timed:
            for milliseconds in self.slower:
                timing.measure(self, plan, milliseconds)
        return failures

    def _training_cost(self, plan):
        return SECONDS_TO_START + plan.steps * plan.work() * SECONDS_A_FORWARD

    def _evaluation_cost(self, plan):
        return SECONDS_TO_START + (len(plan.checkpoints()) + len(self.grids)) * self.samples * SECONDS_A_VIDEO

    def _baseline_cost(self):
        return SECONDS_TO_START + self.samples * 2 * SECONDS_A_REFERENCE

    def _train(self, plan, title):
        folder, cost = self.folder(plan), self._training_cost(plan)
        marker, run, log = folder / "training.json", folder / "run", folder / "launch.log"
        if marker.exists():
            return self.progress.skip(cost)
        settings.write_files(self.methods, plan.experiment, folder)

        def show():
            steps = re.findall(r"\] step (\d+)/", log.read_text(errors="replace"))
            step = int(steps[-1]) if steps else 0
            self.progress.show(f"{title}: step {step}/{plan.steps}", cost * step / plan.steps)

        self.runner.run([self.programs / "sgmd-launch", "up", "--quiet", folder / "topology.toml"], log, show)
        seconds = records.step_seconds(run)
        if len(seconds) != plan.steps:
            raise Failed(f"{run} ended after {len(seconds)} of {plan.steps} steps; the same command goes on")
        data = plan.experiment["data"]
        _write_json(marker, {"step_seconds": seconds, "forward_equivalents": records.forward_equivalents(run),
                             "batch": data["micro_batch"] * data["micro_batches"], "cpu_seconds": records.cpu_seconds(run),
                             "fake_score_loss": [float(f"{loss:.4g}") for loss in records.course(run, "fake_score", "loss/fake_score")]})
        self.progress.finish(cost, f"{title}: trained, {sum(seconds) / len(seconds):.2f} s a step")

    def _evaluate(self, plan, title):
        folder, cost = self.folder(plan), self._evaluation_cost(plan)
        lines = folder / "run" / "evaluation" / "metrics.jsonl"
        own = plan.experiment["schedule"]["student_steps"]
        wanted = {(step, tuple(own)) for step in plan.checkpoints()} | {(plan.steps, tuple(grid)) for grid in self.grids}
        if wanted <= self._measured(lines):
            return self.progress.skip(cost)

        def show():
            done = len(wanted & self._measured(lines))
            self.progress.show(f"{title}: measuring {done} of {len(wanted)}", cost * done / len(wanted))

        self._call_evaluator(folder / "run", "--every-checkpoint", folder / "evaluator.log", show)
        missing = wanted - self._measured(lines)
        if missing:
            raise Failed(f"{folder}: not measured: {sorted(missing)}; see evaluator.log there")
        self.progress.finish(cost, f"{title}: measured")

    def _measured(self, lines):
        return {(line["step"], tuple(line["student_steps"])) for line in read_lines(lines) if line["samples"] == self.samples}

    def _measure_baselines(self):
        folder, cost = self.base_folder(), self._baseline_cost()
        if any(line["samples"] == self.samples for line in read_lines(folder / "evaluation" / "baselines.jsonl")):
            return self.progress.skip(cost)
        resolved = folder / "resolved"
        resolved.mkdir(parents=True, exist_ok=True)
        (resolved / "experiment.toml").write_text(settings.to_toml(settings.base_experiment(self.methods)))
        (resolved / "topology.toml").write_text(
            settings.to_toml(settings.topology(self.methods, resolved / "experiment.toml", folder)))
        self._call_evaluator(folder, "--baselines", folder / "evaluator.log",
                             lambda: self.progress.show("measuring teacher, data and untrained student"))
        self.progress.finish(cost, "teacher, data and untrained student: measured")

    def _call_evaluator(self, run, mode, log, show):
        command = [self.programs / "sgmd-evaluator", "--run", run, mode, "--samples", self.samples, "--reference", self.reference,
                   "--teacher-steps", self.methods["study"]["teacher_steps"],
                   "--teacher-guidance", settings.base_experiment(self.methods)["model"]["guidance"], "--threads", len(os.sched_getaffinity(0))]
        for grid in self.grids:
            command += ["--fewer-steps", ",".join(map(str, grid))]
        self.runner.run(command, log, show)


def read_lines(path):
    """The objects of a JSON lines file, without a last one that was cut; none when there is no file."""
    if not path.exists():
        return []
    objects = []
    for line in path.read_text().splitlines():
        try:
            objects.append(json.loads(line))
        except json.JSONDecodeError:
            pass
    return objects


def _write_json(path, value):
    staged = path.with_name(".tmp-" + path.name)
    staged.write_text(json.dumps(value, indent=1) + "\n")
    staged.rename(path)
