"""What the figures say, in sentences made from them."""

import math
import statistics

from study_parts.results import race, spread, value_at
from study_parts.processes import duration


def number(value, digits=3):
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def counted(count, noun):
    return f"{count} {noun}{'' if count == 1 else 's'}"


def with_spread(values, digits=3):
    s = spread(values)
    return number(s.mean, digits) + ("" if s.deviation is None else f" ± {number(s.deviation, digits)}")


def findings(results):
    main, rival = results.description["study"]["main"], results.description["study"]["rival"]
    sentences = []
    if results.of(main) and results.of(rival):
        sentences += [_cost(results, main, rival), *_quality(results, main, rival), *_speed(results, main, rival)]
        backwards = race(results, rival, main)
        if backwards and (reached := race(results, main, rival)).count() < len(reached.seeds):
            sentences.append("The other way round: " + race_sentence(results, rival, main))
        sentences += _equal_time(results)
    sentences += [*_nearest(results), *_sweep(results, main), *_dear(results, main), *_course(results), *_bursts(results),
                  *_motion(results), *_fewer(results), *_gone_wrong(results)]
    return sentences


def _cost(results, main, rival):
    def of(arm):
        runs = results.of(arm)
        return (spread([r.step_time() for r in runs]).mean, spread([r.forwards for r in runs]).mean,
                results.experiment(arm)["inner"]["updates"])

    (s, f, u), (rs, rf, ru) = of(main), of(rival)
    return (f"A step of {results.title(main)} ({counted(u, 'fake update')}) takes {s:.2f} s and {number(f, 0)} forward-equivalents, one of "
            f"{results.title(rival)} ({counted(ru, 'fake update')}) {rs:.2f} s and {number(rf, 0)}: {rs / s:.2f} times the time and "
            f"{number(rf / f, 2)} times the work.")


def _quality(results, main, rival):
    floor = results.baselines.get("teacher-again", {}).get("frechet_teacher")
    for measure, to in (("frechet_teacher", "the teacher"), ("frechet_data", "the data")):
        ours = [run.final()[measure] for run in results.of(main)]
        theirs = [run.final()[measure] for run in results.of(rival)]
        text = (f"Fréchet distance to {to} at the end: {results.title(main)} {with_spread(ours)}, {results.title(rival)} "
                f"{with_spread(theirs)}; {_verdict(results, main, rival, ours, theirs)}.")
        if measure == "frechet_teacher" and floor is not None:
            text += (f" Two sets of the teacher's own videos are {number(floor)} apart; students start from "
                     "other noise than the reference too.")
        yield text


def _verdict(results, main, rival, ours, theirs):
    nearer, a, b = (main, ours, theirs) if spread(ours).mean < spread(theirs).mean else (rival, theirs, ours)
    if min(len(a), len(b)) < 2:
        return f"{results.title(nearer)} is nearer, on one seed, which says nothing of the spread"
    if max(a) < min(b):
        return f"{results.title(nearer)} is nearer on every seed"
    return f"{results.title(nearer)} is nearer on average, but the seeds of the two overlap"


def _speed(results, main, rival):
    yield race_sentence(results, main, rival)


def race_sentence(results, arm, rival):
    r = race(results, arm, rival)
    name, other = results.title(arm), results.title(rival)
    if r is None:
        return f"No seed was run with both {name} and {other}."
    if not any(r.rival_seconds):
        return f"{other} ended no nearer to the teacher than the untrained student is, so its final distance is no goal."
    if r.count() == 0:
        nearest = spread([min(run.values("frechet_teacher")) for run in results.of(arm)])
        where = "on its one seed" if len(r.seeds) == 1 else f"on any of {len(r.seeds)} seeds"
        return (f"{name} did not reach {other}'s final distance to the teacher {where} within "
                f"{duration(spread([run.seconds()[-1] for run in results.of(arm)]).mean)} of training; the nearest it came is "
                f"{number(nearest.mean)}.")
    both = [(a, b) for a, b in zip(r.seconds, r.rival_seconds) if a is not None]
    share = f"on {r.count()} of {len(r.seeds)} seeds" if len(r.seeds) > 1 else "on its one seed"
    text = (f"{name} reached {other}'s final distance to the teacher {share}, after {number(spread([a for a, _ in both]).mean, 1)} s "
            f"against {number(spread([b for _, b in both]).mean, 1)} s of {other}")
    if r.time_ratio() is None:
        return text + ": it was there before training."
    slower = r.time_ratio() < 1
    return text + (f": {r.time_ratio():.2f} times as fast{' (that is, slower)' if slower else ''}, and {number(r.work_ratio(), 2)} times as fast "
                   "counted in forward-equivalents.")


def equal_seconds(results):
    """The longest training time that every run has."""
    return min(run.seconds()[-1] for run in results.runs)


def _equal_time(results):
    seconds = equal_seconds(results)
    at = {arm: spread([value_at(run.seconds(), run.values("frechet_teacher"), seconds) for run in results.of(arm)]).mean
          for arm in results.arms()}
    order = sorted(at, key=at.get)
    yield (f"After the same {seconds:.0f} s of training the order by distance to the teacher is: "
           + ", ".join(f"{results.title(arm)} {number(at[arm])}" for arm in order) + ".")


def _nearest(results):
    """At any checkpoint after the start: an arm may be at its best before the end."""
    def of(run):
        return min(measures["frechet_teacher"] for step, measures in run.points if step > 0)

    nearest = {arm: spread([of(run) for run in results.of(arm)]).mean for arm in results.arms()}
    base = results.base(results.own_steps(results.arms()[0])) if nearest else None
    if nearest:
        yield ("The nearest to the teacher at any checkpoint: " + ", ".join(f"{results.title(arm)} {number(nearest[arm])}" for arm in nearest)
               + (f"; the untrained student is at {number(base['frechet_teacher'])}." if base else "."))


def _sweep(results, main):
    arms = [arm for arm in results.arms() if arm == main or results.description["arms"][arm].get("sweep")]
    if len(arms) < 2:
        return
    ends = {arm: spread([run.final()["frechet_teacher"] for run in results.of(arm)]) for arm in arms}
    best = min(arms, key=lambda arm: ends[arm].mean)
    yield (f"Of {results.title(main)} and the variants, the nearest to the teacher at the end is {results.title(best)}: "
           + ", ".join(f"{results.title(arm)} {number(ends[arm].mean)}" for arm in arms) + ".")


def _dear(results, main):
    dear = {arm: race(results, arm, main, clock="dear_seconds") for arm in results.arms() if len(results.of(arm)[0].timed) > 1}
    ratios = {arm: (r.time_ratio(), r.count(), len(r.seeds)) for arm, r in dear.items() if r and arm != main and r.time_ratio()}
    if ratios:
        milliseconds = max(results.of(main)[0].timed)
        yield (f"With a teacher that takes {milliseconds} ms longer for a micro-batch, {results.title(main)}'s final distance is reached so many times "
               "as fast as by itself: " + ", ".join(f"{results.title(arm)} {number(ratio, 2)} ({count} of {seeds} seeds)"
                                                    for arm, (ratio, count, seeds) in ratios.items()) + ".")


def excursion(run):
    """How much farther from the teacher a run is at its worst after its nearest point than at that point: a factor, 1 where it never is."""
    ys = run.values("frechet_teacher")[1:]
    nearest = ys.index(min(ys))
    return max(ys[nearest:]) / ys[nearest]


SETTLED = 20  # updates after which a loss is one of the run, not of its start


def burst(run):
    """(how many times its median the fake score's loss was at most, at which update), after the first updates; None without losses."""
    settled = run.losses[SETTLED:]
    if not settled:
        return None
    return max(settled) / statistics.median(settled), SETTLED + settled.index(max(settled)) + 1


def _bursts(results):
    found = {}
    for run in results.runs:
        if (of_run := burst(run)) and of_run[0] >= 3:
            found.setdefault(run.arm, []).append(f"{number(of_run[0], 1)} at update {of_run[1]} of seed {run.seed}")
    if found:
        yield ("Bursts, in which student and fake score run away from each other for some updates: the fake score's loss rose to so many times its median: "
               + "; ".join(f"{results.title(arm)} {', '.join(bursts)}" for arm, bursts in found.items()) + ".")


def _course(results):
    far = {arm: max(excursion(run) for run in results.of(arm)) for arm in results.arms()}
    left = {arm: factor for arm, factor in far.items() if factor >= 2}
    if left:
        yield ("Farther from the teacher again, after having been nearest, by the factor that is said (the worst seed): "
               + ", ".join(f"{results.title(arm)} {number(factor, 1)}" for arm, factor in left.items()) + ".")


def _motion(results):
    teacher = results.baselines.get("teacher")
    if not teacher or not results.runs:
        return
    parts = []
    for arm in results.arms():
        if not results.description["arms"][arm].get("sweep"):
            ends = [run.final() for run in results.of(arm)]
            parts.append(f"{results.title(arm)} {number(spread([e['dynamic_degree'] for e in ends]).mean)} and "
                         f"{number(spread([e['fast_share'] for e in ends]).mean)}")
    base = results.base(results.own_steps(results.arms()[0]))
    if base:
        parts.insert(0, f"the untrained student {number(base['dynamic_degree'])} and {number(base['fast_share'])}")
    yield (f"Motion (dynamic degree and share of fast videos; the teacher has {number(teacher['dynamic_degree'])} and "
           f"{number(teacher['fast_share'])}): " + "; ".join(parts) + ".")


def _fewer(results):
    for count in sorted({n for run in results.runs for n in run.fewer}, reverse=True):
        ends = {arm: spread([run.fewer[count]["frechet_teacher"] for run in results.of(arm) if count in run.fewer]).mean
                for arm in results.arms() if any(count in run.fewer for run in results.of(arm))}
        base = results.base(count)
        yield (f"Drawn in {counted(count, 'step')} (for which none was trained), the nearest to the teacher is "
               f"{results.title(min(ends, key=ends.get))} at {number(min(ends.values()))}"
               + (f"; the untrained student is at {number(base['frechet_teacher'])}." if base else "."))


def _gone_wrong(results):
    for arm in results.arms():
        worse = [run.seed for run in results.of(arm)
                 if run.points[0][0] == 0 and run.final()["frechet_teacher"] > run.points[0][1]["frechet_teacher"]]
        if worse:
            yield (f"{results.title(arm)} ended farther from the teacher than it began on {len(worse)} of "
                   f"{counted(len(results.of(arm)), 'seed')}.")
    if results.unfinished:
        yield "Not finished, and so in no figure: " + ", ".join(f"{arm} seed {seed}" for arm, seed in results.unfinished) + "."
