"""The few files that a report was made from, in their places: a study that is made again from them goes on with what is missing."""

import shutil
from pathlib import Path

from study_parts import timing


def keep_figures(results, folder):
    """Copies them from the study's folder to `folder`, where they are not the same ones."""
    if results.out == folder:
        return
    kept = ["study.json", f"{results.description['base']}/evaluation/baselines.jsonl"]
    for run in results.description["runs"]:
        kept += [f"{run['folder']}/{name}" for name in ("training.json", "run/evaluation/metrics.jsonl")]
        kept.append(timing.file_of(results.out, Path(run["folder"]).name).relative_to(results.out))
    for name in kept:
        if (results.out / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(results.out / name, folder / name)
