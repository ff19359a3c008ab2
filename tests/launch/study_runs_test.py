"""The runs of launch/study, with programs that only pretend, and what it reads of them."""

import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

from study_figures import ROOT, STUDY, InTemporaryFolder, scalar_record
from study_parts import records


class Records(InTemporaryFolder):
    def test_of_a_run_that_was_killed_and_went_on(self):
        events = self.folder / "events/generator"
        events.mkdir(parents=True)
        first = [scalar_record(0, "time/step_sec", 4.0), scalar_record(0, "loss", 9.0), scalar_record(1, "time/step_sec", 4.0)]
        (events / "events.out.tfevents.1.7").write_bytes(b"".join(first)[:-6])  # the last record is cut
        (events / "events.out.tfevents.2.8").write_bytes(scalar_record(0, "time/step_sec", 2.0) + scalar_record(1, "time/step_sec", 3.0))
        self.assertEqual(records.step_seconds(self.folder), [2.0, 3.0])
        (self.folder / "logs").mkdir()
        line = "12:00:00.000 I work per sample in forward-equivalents: generator 1, teacher 1 for scores and 0 for anchors, together "
        (self.folder / "logs/broker.log").write_text(line + "12.5\n" + line + "0\n")
        self.assertEqual(records.forward_equivalents(self.folder), 12.5)
        for teacher, used in ((0, "1.5"), (1, "2e-1")):
            (self.folder / f"logs/teacher.{teacher}.log").write_text(f"12:00:00.000 I used {used} s of CPU\n")
        self.assertEqual(records.cpu_seconds(self.folder), {"teacher": 1.7})


PRETENDER = f"""#!{sys.executable}
import json, os, pathlib, sys, time, tomllib
sys.path.insert(0, {str(ROOT / "tests/launch")!r})
from study_figures import GRID, MEASURES, measured, scalar_record, write_lines
def option(name): return sys.argv[sys.argv.index(name) + 1]
calls = pathlib.Path(__file__).parent / "calls"
"""

LAUNCHER = PRETENDER + """
topology = tomllib.loads(pathlib.Path(sys.argv[-1]).read_text())
experiment = tomllib.loads(pathlib.Path(topology["run"]["experiment"]).read_text())
run, name = pathlib.Path(topology["run"]["folder"]), experiment["objective"]["name"]
slowly = " slowly" if "sleep(160)" in os.environ.get("SGMD_FAILPOINTS", "") else ""
with calls.open("a") as file: file.write(f"train {name}{slowly}\\n")
assert not topology["evaluator"]["enabled"] and not topology["cache"]["enabled"]
behaviour = calls.with_name(name)
if behaviour.exists() and behaviour.read_text() == "fail":
    sys.exit("the learning rate is a fish")
if behaviour.exists() and behaviour.read_text() == "sleep":
    try: time.sleep(60)
    except KeyboardInterrupt: calls.with_name("drained").touch(); sys.exit(75)
(run / "events/generator").mkdir(parents=True)
(run / "logs").mkdir()
(run / "events/generator/events.out.tfevents.1.1").write_bytes(
    b"".join(scalar_record(step, "time/step_sec", 0.5) for step in range(experiment["experiment"]["steps"])))
(run / "logs/broker.log").write_text("work per sample in forward-equivalents: generator 5, together 12.5\\n")
"""

EVALUATOR = PRETENDER + """
evaluation = pathlib.Path(option("--run")) / "evaluation"
with calls.open("a") as file: file.write("measure\\n")
samples = int(option("--samples"))
assert option("--teacher-guidance") == "2.0"  # whatever the scores of the arm have
if "--baselines" in sys.argv:
    write_lines(evaluation / "baselines.jsonl", [MEASURES | {"arm": "base-4", "samples": samples, "evaluations": 4}])
else:
    write_lines(evaluation / "metrics.jsonl",
                [measured(step, 1.0, samples=samples) for step in (2, 4)]
                + [measured(4, 1.0, grid, samples) for grid in ([1000, 500], [1000])])
"""


class Runs(InTemporaryFolder):
    def setUp(self):
        super().setUp()
        self.programs = self.folder / "build/bin"
        self.programs.mkdir(parents=True)
        for name, text in (("sgmd-launch", LAUNCHER), ("sgmd-evaluator", EVALUATOR)):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)

    def start(self, *options):
        command = [sys.executable, STUDY, "--no-setup", "--arms", "dmd2", "sgmd", "--seeds", "1", "--steps", "4", "--checkpoints", "2", "--samples", "240",
                   "--out", self.folder / "out", *options]
        return subprocess.Popen(command, env=os.environ | {"SGMD_BUILD": str(self.folder / "build"), "PYTHONDONTWRITEBYTECODE": "1"},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run_study(self, *options):
        child = self.start(*options)
        output, _ = child.communicate(timeout=60)
        return child.returncode, output

    def calls(self):
        lines = (self.programs / "calls").read_text().splitlines()
        (self.programs / "calls").unlink()
        return lines

    def test_what_is_finished_is_not_done_again(self):
        code, output = self.run_study()
        self.assertEqual(code, 0, output)
        self.assertEqual(self.calls(), ["measure", "train dmd2", "measure", "train sgmd", "measure"])
        self.assertEqual(self.run_study()[0], 0)
        self.assertFalse((self.programs / "calls").exists())
        shutil.rmtree(next((self.folder / "out/runs").glob("sgmd-*")))
        self.assertEqual(self.run_study()[0], 0)
        self.assertEqual(self.calls(), ["train sgmd", "measure"])

    def test_times_every_arm_once_by_itself_and_with_a_dear_teacher(self):
        code, output = self.run_study("--dear-teacher", "160")
        self.assertEqual(code, 0, output)
        self.assertIn("timing sgmd, teacher 160 ms slower: 0.500 s a step", output)
        self.assertEqual(self.run_study("--dear-teacher", "160")[0], 0)
        self.assertEqual(self.calls()[5:], ["train dmd2", "train dmd2 slowly", "train sgmd", "train sgmd slowly"])

    def test_a_run_that_fails_shows_its_last_lines_and_the_others_go_on(self):
        (self.programs / "sgmd").write_text("fail")
        code, output = self.run_study()
        self.assertEqual(code, 1)
        self.assertIn("the learning rate is a fish", output)
        report = (self.folder / "out/report/report.md").read_text()
        self.assertIn("the learning rate is a fish", report)
        self.assertIn("Not finished, and so in no figure: sgmd seed 1", report)

    def test_interrupted_it_waits_for_the_run_to_drain(self):
        (self.programs / "sgmd").write_text("sleep")
        child = self.start()
        deadline = time.monotonic() + 30
        calls = self.programs / "calls"
        while not calls.exists() or "train sgmd" not in calls.read_text():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 130, output)
        self.assertTrue((self.programs / "drained").exists())
        (self.programs / "sgmd").unlink()
        self.calls()
        self.assertEqual(self.run_study()[0], 0)
        self.assertEqual(self.calls(), ["train sgmd", "measure"])


if __name__ == "__main__":
    unittest.main()
