"""What is compared: methods.toml, and the experiment and topology files made of it."""

import copy
import functools
import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

METHODS = Path(__file__).with_name("methods.toml")
MODEL_PATHS = ("teacher", "student", "fake_score", "prompts")  # keys of [model] that name files


@dataclass(frozen=True)
class Plan:
    """One training run."""
    arm: str
    seed: int
    steps: int
    every: int  # steps between checkpoints
    experiment: dict = field(hash=False)

    def checkpoints(self):
        """Steps at which the run has checkpoints."""
        return sorted({*range(self.every, self.steps + 1, self.every), self.steps})

    def name(self):
        """Differs whenever the settings do: what was computed with others is neither taken nor overwritten."""
        return f"{self.arm}-seed{self.seed}-{digest(self.experiment)}"

    def work(self):
        """Rough forward-equivalents a sample and step, to foretell durations; the report takes the counted ones."""
        e = self.experiment
        weights = e["schedule"].get("exit_weights", [1] * len(e["schedule"]["student_steps"]))
        rollout = 1 + sum(step * weight for step, weight in enumerate(weights)) / sum(weights)
        rollouts = 1 + (e["inner"]["updates"] if e["inner"].get("source") in ("fresh", "fresh_after") else 0)
        teacher = 1 if e["model"]["guidance"] == 1 else 2
        return rollouts * rollout + 3 + teacher + (1 if e["objective"]["name"] == "dmd2" else 2) + 3 * e["inner"]["updates"]


def digest(experiment):
    """Of the settings and of the contents of the model's files, wherever they are."""
    settings = copy.deepcopy(experiment)
    settings["model"] |= {key: _digest_of_files(path) for key, path in settings["model"].items() if key in MODEL_PATHS}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


@functools.cache
def _digest_of_files(path):
    path = Path(path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def load(path=METHODS):
    """methods.toml with its paths absolute."""
    path = Path(path).resolve()
    methods = tomllib.loads(path.read_text())
    for key in ("experiment", "features"):
        methods["study"][key] = str((path.parent / methods["study"][key]).resolve())
    return methods


def base_experiment(methods):
    return _with_absolute_paths(tomllib.loads(Path(methods["study"]["experiment"]).read_text()), methods)


def plan(methods, arm, seed, steps, checkpoints):
    above = _with_absolute_paths(methods["arms"][arm].get("experiment", {}), methods)
    experiment = _laid_over(base_experiment(methods), above)
    every = max(1, steps // checkpoints)
    experiment["experiment"] |= {"name": f"study {arm}", "seed": seed, "steps": steps}
    experiment["checkpoint"] = {"every": every, "keep": 1_000_000}
    return Plan(arm, seed, steps, every, experiment)


def topology(methods, experiment_file, run_folder):
    """Trains alone: no evaluator takes its time, and no cache knows what another arm asked."""
    return {"run": {"experiment": str(experiment_file), "folder": str(run_folder)},
            "teacher": {"replicas": 1, "device": "cpu", "threads": 1},
            "evaluator": {"enabled": False, "features": methods["study"]["features"]},
            "cache": {"enabled": False}}


def write_files(methods, experiment, folder):
    """experiment.toml and topology.toml of a run in folder/run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.toml").write_text(to_toml(experiment))
    (folder / "topology.toml").write_text(to_toml(topology(methods, folder / "experiment.toml", folder / "run")))


def to_toml(table, prefix=""):
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items() if not isinstance(value, dict)]
    text = "\n".join(([f"[{prefix}]"] if prefix and lines else []) + lines + [""]) if lines else ""
    for key, value in table.items():
        if isinstance(value, dict):
            text += to_toml(value, f"{prefix}.{key}" if prefix else key)
    return text


def _with_absolute_paths(experiment, methods):
    """Paths of models are taken from the folder of the experiment that all arms start from."""
    folder, experiment = Path(methods["study"]["experiment"]).parent, copy.deepcopy(experiment)
    for key in MODEL_PATHS:
        if key in experiment.get("model", {}):
            experiment["model"][key] = str((folder / experiment["model"][key]).resolve())
    return experiment


def _laid_over(below, above):
    result = copy.deepcopy(below)
    for key, value in above.items():
        result[key] = _laid_over(result.get(key, {}), value) if isinstance(value, dict) else value
    return result
