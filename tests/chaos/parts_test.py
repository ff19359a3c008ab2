"""tests/chaos/run without the programs: what it counts, and its rounds with programs that only pretend."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
CHAOS = Path(__file__).resolve().parent
sys.path.insert(0, str(CHAOS))

from parts import damage, faults, rounds, watch  # noqa: E402
from parts.summary import Summary  # noqa: E402


class InTemporaryFolder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, text=""):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Fired(InTemporaryFolder):
    def test_rules_by_their_marks_and_by_what_the_processes_said(self):
        rules = ["generator.step=hang@2!", "cache.put=eio:5%", "data.send=drop:1%", "log.write=eio:5%", "events.write=eio:5%"]
        self.write("marks/0")
        self.write("run/logs/broker.log", "serving\nfailpoint: cache.put=eio:5% at hit 7\n")
        self.write("run/logs/teacher.0.log.1", "failpoint: data.send=drop:1% at hit 40\n")
        self.write("up.log", "failpoint: log.write=eio:5% at hit 2\nfailpoint: events.write=eio:5%0 at hit 2\n")
        self.assertEqual(watch.fired_rules(self.folder, rules), set(rules[:4]))

    def test_nothing_where_the_run_left_nothing(self):
        self.assertEqual(watch.fired_rules(self.folder, ["cache.put=eio:5%"]), set())

    def test_files_that_are_gone_are_not_damaged(self):
        self.assertEqual(damage.damage_files(self.folder, "epoch", random.Random(1)), "")
        self.write("epoch", "7")
        self.assertEqual(damage.damage_files(self.folder, "epoch", random.Random(1)), "epoch emptied")


class CauseOfEnd(InTemporaryFolder):
    def test_is_that_of_the_history_without_the_folder(self):
        cause = f"generator failed with exit code 1: cannot write {self.folder}/run/checkpoints: No space left on device"
        self.write("run/history.jsonl", '{"event":"start"}\n{"event":"end","exit_code":1,"cause":"' + cause + '"}\n')
        self.assertEqual(watch.cause_of_end(self.folder, 1),
                         "exit 1: generator failed with exit code 1: cannot write run/checkpoints: No space left on device")

    def test_is_the_code_alone_where_the_history_is_of_another_end(self):
        self.assertEqual(watch.cause_of_end(self.folder, 1), "exit 1")
        self.write("run/history.jsonl", '{"event":"end","exit_code":1,"cause":"old"}\n{"event":"start"}\n')
        self.assertEqual(watch.cause_of_end(self.folder, 1), "exit 1")
        self.write("run/history.jsonl", '{"event":"end","exit_code":1,"cause":"old"}\n')
        self.assertEqual(watch.cause_of_end(self.folder, 75), "exit 75")
        self.write("run/history.jsonl", '{"event":"end","exi')
        self.assertEqual(watch.cause_of_end(self.folder, -9), "exit -9")


def played(number, *kinds, by_hand=()):
    """A round with faults of these kinds; a kind in brackets did not fire."""
    drawn = [faults.Fault(kind.strip("()"), fired=not kind.startswith("(")) for kind in kinds]
    return types.SimpleNamespace(number=number, faults=drawn, by_hand=list(by_hand), measured=[])


class Summaries(unittest.TestCase):
    def text(self):
        summary = Summary()
        summary.add(played(0, "nan.teacher", "(kill.broker)"), True)
        summary.add(played(1, "(nan.teacher)"), True)
        summary.add(played(2, "nan.teacher", "stop.broker", by_hand=["exit 1: full", "exit 1: full"]), False)
        summary.add(played(3, "(stop.broker)", "kill.broker", by_hand=["exit 1: full"]), True)
        return summary.text()

    def test_tell_what_was_drawn_and_what_fired(self):
        rows = {words[0]: words[1:] for words in map(str.split, self.text().splitlines()) if words}
        self.assertEqual(rows["fault"], ["drawn", "fired", "passed", "failed"])
        self.assertEqual(rows["nan.teacher"], ["3", "2", "1", "1"])
        self.assertEqual(rows["kill.broker"], ["2", "1", "1", "0"])
        self.assertEqual(rows["stop.broker"], ["2", "1", "0", "1"])
        self.assertIn("stops that the run got over: 0 of 1\n", self.text())

    def test_name_the_rounds_without_a_fault(self):
        self.assertIn("no fault fired in 1 of 4 rounds, which show nothing: 1\n", self.text())

    def test_tell_in_how_many_rounds_a_hand_was_needed_and_why(self):
        self.assertIn("in 2 of 4 rounds\n  3 x exit 1: full [kill.broker, nan.teacher, stop.broker]", self.text())
        self.assertTrue(Summary().text().endswith("in 0 of 0 rounds"))


ORACLE = """#!/bin/bash
mkdir -p "$1"/model "$1"/serial && touch "$1"/{experiment,topology}.toml && printf '\\2\\0\\0\\0\\0\\0\\0\\0{}' > "$1"/serial/generator.safetensors
"""
# Has a role under it, which outlives it, and ends as `behaviour` beside this program says.
LAUNCHER = f"""#!/bin/bash
folder=$(dirname "$2")/run
mkdir -p "$folder"/{{logs,student,checkpoints/step-{rounds.STEPS:08d}}}
(exec -a sgmd-generator {sys.executable} -c "import time; time.sleep(60)" "$folder") &
echo $! >> "$(dirname "$0")/pids"
case $(cat "$(dirname "$0")/behaviour") in
  wait) wait ;;
  fire) echo "failpoint: ${{SGMD_FAILPOINTS%%;*}} at hit 1" > "$folder/logs/teacher.0.log" ;;
esac
kill %1
printf '\\2\\0\\0\\0\\0\\0\\0\\0{{}}' > "$folder/checkpoints/step-{rounds.STEPS:08d}/generator.safetensors"
"""


class Rounds(InTemporaryFolder):
    def setUp(self):
        super().setUp()
        for name, text in (("bin/sgmd-launch", LAUNCHER), ("tests/tiny_run_files", ORACLE)):
            self.write(name, text)
            (self.folder / name).chmod(0o755)

    def start(self, behaviour):
        self.write("bin/behaviour", behaviour)
        command = [sys.executable, CHAOS / "run", "--rounds", "3", "--jobs", "2", "--only", "nan", "--build", self.folder, "--folder", self.folder / "rounds"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def pids(self):
        path = self.folder / "bin/pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def test_without_a_fault_say_so(self):
        output, _ = (child := self.start("end")).communicate(timeout=60)
        self.assertEqual(child.returncode, 0, output)
        self.assertEqual(output.count("NO FAULT FIRED"), 3, output)
        self.assertIn("no fault fired in 3 of 3 rounds, which show nothing: 0, 1, 2", output)

    def test_with_a_failpoint_that_happened_count_it(self):
        output, _ = (child := self.start("fire")).communicate(timeout=60)
        self.assertEqual(child.returncode, 0, output)
        self.assertNotIn("NO FAULT FIRED", output)
        self.assertNotIn("no fault fired", output)

    def check_ending(self, number):
        child = self.start("wait")
        until = time.monotonic() + 30
        while len(self.pids()) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(len(self.pids()), 2)
        self.assertTrue(all(map(watch.alive, self.pids())))
        other = subprocess.Popen(["sleep", "60"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        os.kill(child.pid, number)
        output, _ = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 128 + number, output)
        self.assertIn(f"ended by {signal.Signals(number).name} after 0 of 3 rounds\n\n0 of 0 rounds ended bitwise equal", output)
        self.assertEqual(len(self.pids()), 2, "a round was begun after the signal")
        self.assertFalse(any(map(watch.alive, self.pids())))
        self.assertIsNone(other.poll())
        self.assertEqual(os.listdir(self.folder / "rounds"), [])

    def test_end_with_all_that_they_started_at_sigterm(self):
        self.check_ending(signal.SIGTERM)

    def test_end_with_all_that_they_started_at_sigint(self):
        self.check_ending(signal.SIGINT)


if __name__ == "__main__":
    unittest.main()
