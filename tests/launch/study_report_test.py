"""The report of launch/study on figures that are known."""

import json
import subprocess
import sys
import unittest

from study_figures import MEASURES, STUDY, InTemporaryFolder, measured, write_lines
from study_parts import methods, results, timing


class Recorded:
    """A study folder: every step of dmd2 takes 2 s and 24 forward-equivalents a sample, every one of sgmd 1 s and 12."""

    COST = {"dmd2": (2.0, 24.0), "sgmd": (1.0, 12.0), "tsg_sim": (1.0, 12.0), "sgmd_reuse_4": (1.0, 9.0)}

    def __init__(self, out):
        self.out, self.settings, self.runs = out, methods.load(), []
        write_lines(out / "runs/base/evaluation/baselines.jsonl",
                    [MEASURES | {"arm": arm, "samples": 64, "evaluations": evaluations, "frechet_teacher": frechet, "frechet_data": frechet + 1}
                     for arm, evaluations, frechet in (("teacher", 100, 0.0), ("teacher-again", 100, 0.5), ("base-4", 4, 10.0))])

    def add(self, arm, seed, curve, fewer=20.0, losses=None):
        """`curve`: Fréchet distances at steps 10, 20, ..."""
        steps = 10 * len(curve)
        plan = methods.plan(self.settings, arm, seed, steps, len(curve))
        folder, (seconds, work) = self.out / "runs" / plan.name(), self.COST[arm]
        write_lines(folder / "run/evaluation/metrics.jsonl",
                    [measured(10 * (i + 1), value) for i, value in enumerate(curve)] + [measured(steps, fewer, [1000])]
                    + [measured(steps, 99.0, samples=128)])  # of another study
        (folder / "training.json").write_text(json.dumps({"step_seconds": [seconds] * steps, "forward_equivalents": work, "batch": 2,
                                                         "cpu_seconds": {"generator": 0.25 * steps, "teacher": 0.125 * steps},
                                                         "fake_score_loss": losses or []}))
        self.promise(plan)

    def promise(self, plan):
        self.runs.append((plan, {"arm": plan.arm, "seed": plan.seed, "folder": f"runs/{plan.name()}"}))

    def report(self):
        arms = {plan.arm: self.settings["arms"][plan.arm] | {"experiment": plan.experiment} for plan, _ in self.runs}
        (self.out / "study.json").write_text(json.dumps({
            "command": "launch/study --recorded", "date": "today", "commit": "c0ffee", "machine": "an abacus, 2 cores", "load": 0, "samples": 64,
            "steps": 30, "base": "runs/base", "reference_guidance": 2, "study": self.settings["study"], "arms": arms,
            "runs": [entry for _, entry in self.runs]}))
        subprocess.run([sys.executable, STUDY, "--only-report", "--out", self.out], check=True, stdout=subprocess.DEVNULL)
        return (self.out / "report/report.md").read_text()


def rows(text, heading):
    """The cells of a section's table, by the row's title."""
    section = text.split(f"## {heading}")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines() if line.startswith("|")]
    return {line[0]: dict(zip(lines[0][1:] if lines[0][0] == "" else lines[0], line[1:])) for line in lines[2:]}


class Report(InTemporaryFolder):
    def test_means_and_spread_over_seeds(self):
        study = Recorded(self.folder)
        for seed, end in ((1, 3.0), (2, 4.0), (3, 5.0)):
            study.add("dmd2", seed, [8.0, 6.0, end])
        text = study.report()
        table = rows(text, "Quality at the end of training")
        self.assertEqual(table["DMD2"]["Fréchet to teacher"], "4.000 ± 1.000")
        self.assertEqual(table["DMD2"]["Fréchet to data"], "5.000 ± 1.000")
        self.assertEqual(table["DMD2"]["fake updates a step"], "5")
        self.assertEqual(table["teacher, other noise"]["Fréchet to teacher"], "0.500")
        self.assertEqual(table["base: teacher's weights, no training"]["NFE"], "4")
        self.assertEqual(rows(text, "In fewer steps")["DMD2"]["1 step: Fréchet to teacher"], "20.000 ± 0.000")

    def test_ratio_to_the_rivals_final_distance(self):
        study = Recorded(self.folder)
        study.add("dmd2", 1, [8.0, 6.0, 4.0])  # there after 30 steps, 60 s
        study.add("sgmd", 1, [7.0, 3.0, 2.0])  # at 4.0 after 17.5 steps, 17.5 s
        text = study.report()
        row = rows(text, "Cost")["SGMD (λ 0.1)"]
        self.assertEqual((row["s until there"], row["time, DMD2 / this"]), ("17.5", "3.43"))
        self.assertEqual((row["forward-equivalents until there"], row["work, DMD2 / this"]), ("420", "3.43"))
        self.assertEqual(row["Fréchet to teacher after 30 s"], "2.000")
        self.assertIn("reached DMD2's final distance to the teacher on its one seed, after 17.5 s against 60.0 s of DMD2", text)
        self.assertIn("2.00 times the time and 2.00 times the work", text)

    def test_not_reached_is_said(self):
        study = Recorded(self.folder)
        for seed in (1, 2):
            study.add("dmd2", seed, [8.0, 4.0, 2.0])
            study.add("sgmd", seed, [9.0, 7.0, 5.0 + seed])
        text = study.report()
        self.assertEqual(rows(text, "Where")["DMD2"], {"generator": "0.250", "fake score": "-", "teacher": "0.125"})
        self.assertEqual(rows(text, "The way to")["SGMD (λ 0.1)"]["Fréchet to data: seeds there"], "0 of 2")
        row = rows(text, "Cost")["SGMD (λ 0.1)"]
        self.assertEqual((row["seeds there"], row["s until there"], row["time, DMD2 / this"]), ("0 of 2", "not reached", "-"))
        self.assertIn("SGMD (λ 0.1) did not reach DMD2's final distance to the teacher on any of 2 seeds", text)
        self.assertIn("The other way round: DMD2 reached SGMD (λ 0.1)'s final distance", text)
        self.assertIn("DMD2 is nearer on every seed", text)

    def test_a_dear_teacher_is_timed_by_itself(self):
        study = Recorded(self.folder)
        study.add("sgmd", 1, [8.0, 6.0, 4.0])         # its own goal after 30 steps
        study.add("sgmd_reuse_4", 1, [8.0, 4.0, 6.0])  # there after 20, and away again
        for plan, timed in zip((plan for plan, _ in study.runs), ({0: 0.5, 200: 2.0}, {0: 0.25, 200: 0.5})):
            write_lines(timing.file_of(self.folder, plan.name()), [timed])
        text = study.report()
        row = rows(text, "With a dear teacher")["SGMD, samples used four times"]
        self.assertEqual((row["s a step, dear teacher"], row["s until there"], row["time, SGMD (λ 0.1) / this"]), ("0.500", "10.0", "6.00"))
        self.assertIn("takes 200 ms longer for a micro-batch, SGMD (λ 0.1)'s final distance is reached so many times as fast as by itself: "
                      "SGMD, samples used four times 6.00 (1 of 1 seeds)", text)
        self.assertEqual(rows(text, "Cost")["SGMD (λ 0.1)"]["s a step"], "0.500")
        course = rows(text, "The whole course")["SGMD, samples used four times"]
        self.assertEqual((course["nearest to the teacher"], course["at step"], course["worst after that / nearest"]), ("4.000", "20", "1.50"))

    def test_a_burst_of_losses_is_found_between_the_measured_points(self):
        study = Recorded(self.folder)
        study.add("sgmd", 1, [8.0, 6.0, 4.0], losses=[9.0] + [0.5] * 24 + [4.0] + [0.5] * 4)  # the first is of the start
        study.add("sgmd", 2, [8.0, 6.0, 4.0], losses=[0.5] * 30)
        text = study.report()
        self.assertEqual(rows(text, "The whole course")["SGMD (λ 0.1)"]["worst burst: loss of the fake score / its median"], "8.0 at step 26")
        self.assertIn("rose to so many times its median: SGMD (λ 0.1) 8.0 at update 26 of seed 1.", text)

    def test_is_made_again_from_the_figures_that_it_keeps(self):
        study = Recorded(self.folder)
        study.add("dmd2", 1, [8.0, 6.0, 4.0])
        text, kept = study.report(), self.folder / "report/figures"
        subprocess.run([sys.executable, STUDY, "--only-report", "--out", kept], check=True, stdout=subprocess.DEVNULL)
        self.assertEqual((kept / "report/report.md").read_text(), text)

    def test_an_arm_that_grew_worse_is_no_goal(self):
        study = Recorded(self.folder)
        study.add("dmd2", 1, [11.0, 12.0, 13.0])
        study.add("sgmd", 1, [9.0, 7.0, 6.0])
        text = study.report()
        self.assertIn("so its final distance is no goal", text)
        self.assertIn("DMD2 ended farther from the teacher than it began on 1 of 1 seed.", text)
        self.assertIn("The nearest to the teacher at any checkpoint: DMD2 11.000, SGMD (λ 0.1) 6.000; the untrained student is at 10.000.", text)

    def test_without_a_count_of_work_the_rest_is_there(self):
        study = Recorded(self.folder)
        study.COST = {"dmd2": (2.0, None), "sgmd": (1.0, None)}
        study.add("dmd2", 1, [8.0, 6.0, 4.0])
        study.add("sgmd", 1, [7.0, 3.0, 2.0])
        row = rows(study.report(), "Cost")["SGMD (λ 0.1)"]
        self.assertEqual((row["time, DMD2 / this"], row["work, DMD2 / this"]), ("3.43", "-"))

    def test_unfinished_runs_are_named_and_not_counted(self):
        study = Recorded(self.folder)
        study.add("dmd2", 1, [8.0, 6.0, 4.0])
        study.promise(methods.plan(study.settings, "sgmd", 7, 30, 3))
        self.assertIn("Not finished, and so in no figure: sgmd seed 7", study.report())

    def test_the_page_needs_no_other_file(self):
        study = Recorded(self.folder)
        study.add("dmd2", 1, [8.0, 6.0, 4.0])
        study.report()
        page = (self.folder / "report/report.html").read_text()
        self.assertIn("<svg", page)
        self.assertNotRegex(page, r'(src|href)="(?!data:)')
        for wanted in ("an abacus, 2 cores", "c0ffee", "launch/study --recorded", "how it was tuned"):
            self.assertIn(wanted, page)


class Arithmetic(unittest.TestCase):
    def test_reached_lies_between_the_points(self):
        self.assertEqual(results.reached([0, 10, 20], [8, 6, 2], 4), 15)
        self.assertEqual(results.reached([0, 10], [8, 6], 8), 0)
        self.assertIsNone(results.reached([0, 10], [8, 6], 5))

    def test_settings_decide_the_folder(self):
        settings = methods.load()
        plan = methods.plan(settings, "sgmd", 1, 30, 4)
        self.assertEqual(plan.checkpoints(), [7, 14, 21, 28, 30])
        self.assertEqual(plan.name(), methods.plan(settings, "sgmd", 1, 30, 4).name())
        settings["arms"]["sgmd"]["experiment"]["optimizer"] = {"generator": {"learning_rate": 1e-3}}
        changed = methods.plan(settings, "sgmd", 1, 30, 4)
        self.assertNotEqual(plan.name(), changed.name())
        self.assertEqual(changed.experiment["optimizer"]["generator"]["beta1"], 0.0)  # laid over, not in place of


if __name__ == "__main__":
    unittest.main()
