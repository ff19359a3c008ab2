"""<out>/report: report.html, which needs no other file, report.md with plots/ and pictures beside it."""

import math

from study_parts.chart import Line, line_chart
from study_parts.document import Document
from study_parts.figures import keep_figures
from study_parts.findings import SETTLED, burst, counted, equal_seconds, excursion, findings, number, race_sentence, with_spread
from study_parts.pictures import add_pictures
from study_parts.processes import duration
from study_parts.results import MEASURES, race, spread, value_at

HEADINGS = {"frechet_teacher": "Fréchet to teacher", "frechet_data": "Fréchet to data", "flow": "flow", "dynamic_degree": "dynamic degree",
            "consistency": "consistency", "mean_speed": "mean speed", "fast_share": "fast share", "speed_distance": "speed distance",
            "jitter": "jitter", "mass": "mass"}


def write_report(results, folder, failures=()):
    """The path of report.html."""
    d = Document("SGMD against DMD2 and its relatives, on the embedded teacher", folder)
    samples = results.description["samples"]
    d.text(f"All methods start from the same teacher and distil it through the same processes on the same machine. {samples} videos stand "
           "behind every figure, drawn from the same prompts and from noise that the reference has not seen; means over seeds, ± is the standard deviation "
           "over seeds.")
    d.text(results.description["study"]["paper"])
    if failures:
        d.heading("What failed")
        for failure in failures:
            d.code(failure)
    d.heading("Findings")
    d.items(findings(results) or ["No run is finished yet."])
    _main_table(d, results)
    if results.runs:
        _cost_table(d, results)
        _dear_table(d, results)
        _course_table(d, results)
        _other_races(d, results)
        _cpu_table(d, results)
        _plots(d, results)
        _fewer_table(d, results)
    add_pictures(d, results, folder)
    _methods(d, results)
    keep_figures(results, folder / "figures")
    return d.save()


def _measures(measures):
    return [number(measures[name]) for name in MEASURES]


def _main_table(d, results):
    d.heading("Quality at the end of training")
    rows = []
    for name, title in (("data", "data, another draw"), ("teacher", "teacher"), ("teacher-again", "teacher, other noise")):
        if name in results.baselines:
            rows.append([title, _count(results.baselines[name].get("evaluations")), "-", "-", *_measures(results.baselines[name])])
    for name, line in results.baselines.items():
        if name.startswith("teacher-") and name != "teacher-again":
            rows.append([f"teacher, {name.split('-')[1]} steps", _count(line.get("evaluations")), "-", "-", *_measures(line)])
    for steps in sorted({results.own_steps(arm) for arm in results.description["arms"]}):
        if base := results.base(steps):
            rows.append(["base: teacher's weights, no training", _count(steps), "-", "-", *_measures(base)])
    for arm in results.arms():
        ends = [run.final() for run in results.of(arm)]
        rows.append([results.title(arm), _count(results.own_steps(arm)), _count(results.experiment(arm)["inner"]["updates"]),
                     _count(len(ends)), *(with_spread([end[name] for end in ends]) for name in MEASURES)])
    d.table(["", "NFE", "fake updates a step", "seeds", *(HEADINGS[name] for name in MEASURES)], rows)
    d.text("NFE: evaluations of the network for a video (guidance counts twice). The rows \"another draw\" and \"other noise\" are the noise "
           "floor: how far two sets of this size from one and the same source are apart; students start from this other "
           "noise as well. Flow, speeds: px a frame. Dynamic degree: share of "
           "videos whose flow is above 0.4; fast share: the same of the ball's exact track. Speed distance: Wasserstein-1 to the teacher's "
           "speeds. Consistency: 1 - warp error / contrast. Jitter: mean second difference of the track. Mass: "
           "brightness of the ball, summed over pixels.")


def _count(value):
    return "-" if value is None else str(value)


def _cost_table(d, results):
    rival = results.description["study"]["rival"]
    seconds = equal_seconds(results)
    goal = results.title(rival) if results.of(rival) else rival
    d.heading(f"Cost, and the way to {goal}'s final distance to the teacher")
    rows = []
    for arm in results.arms():
        runs, r = results.of(arm), race(results, arm, rival)
        there = [(s, w) for s, w in zip(r.seconds, r.work) if s is not None] if r else []
        rows.append([results.title(arm), with_spread([x.step_time() for x in runs]),
                     number(spread([x.forwards for x in runs]).mean, 0), str(len(runs[0].step_seconds)),
                     with_spread([x.seconds()[-1] for x in runs], 0), f"{len(there)} of {len(r.seeds)}" if r else "-",
                     _there([s for s, _ in there], 1, r),
                     _there([w for _, w in there], 0, r),
                     number(r and r.time_ratio(), 2), number(r and r.work_ratio(), 2),
                     with_spread([value_at(x.seconds(), x.values("frechet_teacher"), seconds) for x in runs])])
    d.table(["", "s a step", "forward-equivalents a step", "steps", "s in all", "seeds there", "s until there", "forward-equivalents until there",
             f"time, {goal} / this", f"work, {goal} / this", f"Fréchet to teacher after {seconds:.0f} s"], rows)
    timed = any(0 in x.timed for x in results.runs)
    untimed = [results.title(arm) for arm in results.arms() if 0 not in results.of(arm)[0].timed]
    but = f"; but of {', '.join(untimed)} the sum of the run's own step times, which others may have disturbed" if timed and untimed else ""
    d.text(("Training time is the number of steps times what a step takes in a short run by itself" if timed else
            "Training time is the sum of the generator's step times") + f"{but}, with no evaluator and no score cache beside it; forward-equivalents are "
           "the programs' own count (a forward pass 1, backward to the input 1, to input and weights 2), of all roles and all samples of a "
           f"step. \"There\" is the first time that the line through the measured points comes down to the final distance of {goal} on the "
           f"same seed; the ratios divide {goal}'s own such time (or work) by this one's: above 1 is faster than {goal}; geometric mean over "
           "the seeds that came there.")
    main = results.description["study"]["main"]
    others = [arm for arm in results.arms() if arm not in (main, rival)]
    if results.of(rival) and others:
        d.items([race_sentence(results, arm, rival) for arm in others])


def _dear_table(d, results):
    main = results.description["study"]["main"]
    arms = [arm for arm in results.arms() if len(results.of(arm)[0].timed) > 1]
    if main not in arms:
        return
    goal, milliseconds = results.title(main), max(results.of(main)[0].timed)
    d.heading("With a dear teacher")
    rows = []
    for arm in arms:
        runs, r = results.of(arm), race(results, arm, main, clock="dear_seconds")
        if r is None:
            continue
        there = [s for s in r.seconds if s is not None]
        rows.append([results.title(arm), number(runs[0].timed[0]), number(runs[0].timed[milliseconds]), f"{len(there)} of {len(r.seeds)}",
                     _there(there, 1, r), number(r.time_ratio(), 2),
                     *(with_spread([run.final()[name] for run in runs]) for name in ("frechet_teacher", "dynamic_degree", "mean_speed"))])
    d.table(["", "s a step, teacher as it is", "s a step, dear teacher", "seeds there", "s until there", f"time, {goal} / this",
             *(HEADINGS[name] for name in ("frechet_teacher", "dynamic_degree", "mean_speed"))], rows)
    d.text(f"Timed with a teacher that takes {milliseconds} ms longer for a micro-batch and uses no core meanwhile, as one on a device of its own. "
           f"\"There\" is {goal}'s final distance to the teacher on the same seed.")


def _course_table(d, results):
    d.heading("The whole course")
    rows = []
    for arm in results.arms():
        runs = results.of(arm)
        nearest = [min(run.points[1:], key=lambda point: point[1]["frechet_teacher"]) for run in runs]
        rows.append([results.title(arm), with_spread([values["frechet_teacher"] for _, values in nearest]), with_spread([step for step, _ in nearest], 0),
                     with_spread([excursion(run) for run in runs], 2), with_spread([run.final()["frechet_teacher"] for run in runs]),
                     with_spread([max(run.values("mass")) for run in runs], 2), with_spread([min(run.values("dynamic_degree")[1:]) for run in runs], 2),
                     _worst_burst(runs)])
    d.table(["", "nearest to the teacher", "at step", "worst after that / nearest", "at the end", "greatest mass", "least dynamic degree",
             "worst burst: loss of the fake score / its median"], rows)
    d.text("Over all measured points of a run, a single last one of which can mislead; a burst is looked for in every update after the first "
           f"{SETTLED}, of the seed that has the worst.")


def _worst_burst(runs):
    bursts = [found for run in runs if (found := burst(run))]
    return f"{number(max(bursts)[0], 1)} at step {max(bursts)[1]}" if bursts else "-"


def _other_races(d, results):
    rival = results.description["study"]["rival"]
    goal = results.title(rival) if results.of(rival) else rival
    measures = ("frechet_data", "speed_distance")
    rows = []
    for arm in results.arms():
        races = [race(results, arm, rival, measure) for measure in measures]
        if all(races):
            rows.append([results.title(arm), *(cell for r in races for cell in (f"{r.count()} of {len(r.seeds)}", number(r.time_ratio(), 2),
                                                                                number(r.work_ratio(), 2)))])
    if rows:
        d.heading(f"The way to {goal}'s final value of other distances")
        d.table(["", *(f"{HEADINGS[m]}: {what}" for m in measures for what in ("seeds there", f"time, {goal} / this", f"work, {goal} / this"))],
                rows)


def _cpu_table(d, results):
    roles = ("generator", "fake_score", "teacher")
    used = {arm: [[run.cpu[role] for run in results.of(arm) if role in run.cpu] for role in roles] for arm in results.arms()}
    rows = [[results.title(arm), *(number(spread(cpu).mean) if cpu else "-" for cpu in used[arm])] for arm in used]
    d.heading("Where the time of a step goes")
    d.text("CPU seconds of a step, with the role's share of loading and checkpoints. The roles run at the same time.")
    d.table(["", *(role.replace("_", " ") for role in roles)], rows)


def _there(values, digits, race_or_none):
    return with_spread(values, digits) if values else "not reached" if race_or_none else "-"


def _line(results, arm, axis, measure):
    """Over the steps that all seeds have."""
    runs = results.of(arm)
    steps = sorted(set.intersection(*(set(run.steps()) for run in runs)))
    columns = []
    for step in steps:
        at = [run.steps().index(step) for run in runs]
        ys = [run.values(measure)[i] for run, i in zip(runs, at)]
        columns.append((spread([getattr(run, axis)()[i] for run, i in zip(runs, at)]).mean, spread(ys)))
    return Line(results.title(arm), results.description["arms"][arm]["colour"], [x for x, _ in columns], [s.mean for _, s in columns],
                [s.lowest for _, s in columns], [s.highest for _, s in columns])


def _plots(d, results):
    main, rival = results.description["study"]["main"], results.description["study"]["rival"]
    swept = [arm for arm in results.arms() if results.description["arms"][arm].get("sweep")]
    shown = [arm for arm in results.arms() if arm not in swept]
    levels = []
    if results.of(rival):
        levels.append((f"{results.title(rival)} at the end", spread([run.final()["frechet_teacher"] for run in results.of(rival)]).mean))
    if "teacher-again" in results.baselines:
        levels.append(("noise floor", results.baselines["teacher-again"]["frechet_teacher"]))
    d.heading("Quality against time and work")
    axes = (("seconds", "training time, s"), ("work", "forward-equivalents, all roles"))
    for axis, x_label in axes:
        if shown and not (axis == "work" and any(math.isnan(run.forwards) for run in results.runs)):
            d.plot(f"frechet_teacher_{axis}", line_chart(f"Fréchet distance to the teacher against {'time' if axis == 'seconds' else 'work'}",
                   x_label, "Fréchet distance", [_line(results, arm, axis, "frechet_teacher") for arm in shown], levels, logarithmic=True))
    for measure in ("frechet_data", "dynamic_degree", "speed_distance"):
        reference = results.baselines.get("teacher", {}).get(measure)
        level = [("teacher", reference)] if reference else []
        if shown:
            d.plot(f"{measure}_seconds", line_chart(HEADINGS[measure] + " against time", axes[0][1], HEADINGS[measure],
                   [_line(results, arm, "seconds", measure) for arm in shown], level, logarithmic=measure == "frechet_data"))
    if swept and results.of(main):
        d.plot("sweep_frechet_teacher_seconds", line_chart("Fréchet distance to the teacher, variants", axes[0][1], "Fréchet distance",
               [_line(results, arm, "seconds", "frechet_teacher") for arm in [main, *swept]], levels, logarithmic=True))
    d.text("Bands are the least and the greatest over seeds.")


def _fewer_table(d, results):
    counts = sorted({n for run in results.runs for n in run.fewer}, reverse=True)
    if not counts:
        return
    own = results.own_steps(results.arms()[0])
    d.heading("In fewer steps")
    columns = ("frechet_teacher", "dynamic_degree", "speed_distance")
    rows = []
    if results.base(own):
        rows.append(["base", *(number(results.base(n)[c]) if results.base(n) else "-" for n in (own, *counts) for c in columns)])
    for arm in results.arms():
        cells = []
        for n in (own, *counts):
            ends = [run.final() if n == own else run.fewer.get(n) for run in results.of(arm)]
            cells += [with_spread([end[c] for end in ends if end]) if any(ends) else "-" for c in columns]
        rows.append([results.title(arm), *cells])
    d.table(["", *(f"{counted(n, 'step')}: {HEADINGS[c]}" for n in (own, *counts) for c in columns)], rows)
    d.text("The last checkpoint drawn on a shorter grid than it was trained on.")


def _exits(schedule):
    """The numbers of the student steps that rollouts end at."""
    steps = schedule["student_steps"]
    return " ".join(str(i) for i, weight in enumerate(schedule.get("exit_weights", [1] * len(steps)), 1) if weight)


def _methods(d, results):
    description = results.description
    d.heading("How it was done")
    rows = []
    for arm, about in description["arms"].items():
        e = about["experiment"]
        optimizers = e["optimizer"]
        rows.append([about["title"], e["objective"]["name"], _count(e["objective"].get("lambda")) if e["objective"]["name"] == "sgmd" else "-",
                     _count(e["inner"]["updates"]), e["inner"].get("source", "shared"), _exits(e["schedule"]), f"{e['model']['guidance']:g}",
                     f"{optimizers['generator']['learning_rate']:g}", f"{optimizers['fake_score']['learning_rate']:g}",
                     _count(e["experiment"]["steps"]), about.get("tuned", "not tuned")])
    d.table(["", "objective", "λ", "fake updates a step", "their samples", "exit steps", "guidance", "learning rate", "of the fake score", "steps",
             "how it was tuned"], rows)
    one = next(iter(description["arms"].values()))["experiment"]
    seeds = sorted({run["seed"] for run in description["runs"]})
    trained = sum(run.seconds()[-1] for run in results.runs)
    d.items([f"Common to all: {one['data']['micro_batch'] * one['data']['micro_batches']} samples a step, "
             f"student steps {one['schedule']['student_steps']} at shift {one['schedule']['student_shift']}, EMA {one.get('ema', {}).get('decay', 0)} "
             f"(measured are the averaged weights), {one['threads']['generator']} thread a trained role.",
             f"Reference: the teacher with {description['study']['teacher_steps']} uniform steps and guidance "
             f"{description['reference_guidance']:g}. The guidance in the table is that of the teacher's scores in training.",
             f"Seeds {', '.join(map(str, seeds))}; seed by seed, all arms in turn; {duration(trained)} of training in all.",
             f"Machine: {description['machine']}; load of others when the command was given: {description['load']}.",
             f"Commit: `{description['commit']}`.",
             f"Command: `{description['command']}`, {description['date']}."])
