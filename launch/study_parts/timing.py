"""How long a step of an arm takes: short runs, one after the other with nothing beside them, and again with a dear teacher, which takes
longer for each micro-batch as if it computed on a device of its own.

<out>/timing/<run>-<ms>/        an experiment, a topology, run/
<out>/timing/<run>.json         {"<ms>": seconds a step}, ms being what the teacher takes longer
"""

import copy
import json
import statistics

from study_parts import methods as settings
from study_parts import records

STEPS, WARM = 48, 16  # steps of a run, and how many of them do not count: multiples of every arm's reuse
SECONDS = 20          # of a run, to foretell


def file_of(out, run_name):
    return out / "timing" / f"{run_name}.json"


def read(out, run_name):
    """{milliseconds: seconds a step}"""
    path = file_of(out, run_name)
    return {int(ms): seconds for ms, seconds in json.loads(path.read_text()).items()} if path.exists() else {}


def measure(study, plan, milliseconds):
    """Seconds a step; not done again."""
    known = read(study.out, plan.name())
    title = f"timing {plan.arm}" + (f", teacher {milliseconds} ms slower" if milliseconds else "")
    if milliseconds in known:
        return study.progress.skip(SECONDS)
    folder = study.out / "timing" / f"{plan.name()}-{milliseconds}"
    experiment = copy.deepcopy(plan.experiment)
    experiment["experiment"]["steps"] = experiment["checkpoint"]["every"] = STEPS
    settings.write_files(study.methods, experiment, folder)
    slow = {"SGMD_FAILPOINTS": f"teacher.score[teacher]=sleep({milliseconds})"} if milliseconds else {}
    study.runner.run([study.programs / "sgmd-launch", "up", "--quiet", folder / "topology.toml"], folder / "launch.log",
                     lambda: study.progress.show(title), slow)
    seconds = statistics.fmean(records.step_seconds(folder / "run")[WARM:])
    file_of(study.out, plan.name()).write_text(json.dumps({str(ms): s for ms, s in (known | {milliseconds: seconds}).items()}) + "\n")
    study.progress.finish(SECONDS, f"{title}: {seconds:.3f} s a step")
