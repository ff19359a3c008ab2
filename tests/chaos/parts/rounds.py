"""A round: a run is started, disturbed as its seed says, started again where that was somebody's doing, and held against the serial loop."""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time

from parts import faults, watch
from parts.damage import SmallDisk, can_damage, damage_files
from parts.measures import Hang, Recovery

STEPS, EVERY = 18, 3
PACE = "generator.step=sleep(150ms)"  # a tiny step takes milliseconds: faults would come too late
POLL_SECONDS = 0.05
UPS = 10               # starts after which a round is given up
REFUSED = 2            # exit code of `up`: nothing was started
RANKS = {"generator": 3, "fake_score": 3, "teacher": 2}  # of a role that is a group; three share the micro-batches of a step evenly
CONFIGURATIONS = {
    "shared": "",
    "replay": '[inner]\nsource = "replay"\nupdates = 2\nmax_age = 3\n',
    "fresh": '[inner]\nsource = "fresh"\n',
    "fresh_after": '[inner]\nsource = "fresh_after"\n',
    "aligned": "[objective]\nalignment = 0.25\n",
    "diverse": "[diversity]\nweight = 0.1\nanchor_steps = 2\nanchor_grid = 6\nnoise_bank = 8\n",
}


class Failed(Exception):
    """Why a round did not pass."""


class Stopped(Exception):
    """Somebody ends the rounds."""


class Round:
    """`stopping`: an event at which it ends what it started and raises Stopped."""

    def __init__(self, options, number, oracles, stopping):
        self.options, self.number, self.stopping = options, number, stopping
        self.rng = random.Random(f"{options.seed}/{number}")
        self.configuration = self.rng.choice(sorted(CONFIGURATIONS))
        self.teachers = self.rng.randint(1, 3)
        self.grouped = self.rng.choices(["", *RANKS], [3, 1, 1, 1])[0]
        count = self.rng.choices([1, 2, 3], [3, 4, 3])[0]
        self.faults = [faults.draw(self.rng, options.kinds, self.teachers, options.longest_stop, self.grouped, RANKS.get(self.grouped, 1))
                       for _ in range(count)]
        self.oracle = oracles / self.configuration
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"sgmd-chaos-{number}-", dir=options.folder))
        self.run_folder = self.folder / "run"
        self.limit = 90 + sum(2 * fault.seconds for fault in self.faults)
        self.launcher, self.ups, self.ended_by_us, self.by_hand = None, 0, False, []
        self.pending_damage, self.stopped, self.disks, self.helpers = [], [], {}, []
        self.open_measures, self.measured = [], []
        self.started = self.trained = None

    # --- the run ------------------------------------------------------------------------------------------------------

    def prepare(self):
        for name in ("experiment.toml", "topology.toml"):
            shutil.copy(self.oracle / name, self.folder)
        (self.folder / "model").symlink_to(self.oracle / "model")
        (self.folder / "marks").mkdir()
        for fault in self.faults:
            if fault.family == "disk" and fault.kind not in self.disks:
                self.disks[fault.kind] = SmallDisk(self.run_folder, fault.kind.split(".")[1])
        rules = self.rules()
        for index, fault in enumerate(fault for fault in self.faults if fault.rule):
            if fault.family == "hang":
                self.open_measures.append(Hang(fault.target, self.folder / "marks" / str(index)))
        self.environment = dict(os.environ, SGMD_FAILPOINTS=";".join(rules + [PACE]), SGMD_FAILPOINTS_MARKS=str(self.folder / "marks"),
                                SGMD_FAILPOINTS_SEED=str(self.rng.randrange(1 << 32)), NO_COLOR="1")

    def rules(self):
        return [fault.rule for fault in self.faults if fault.rule]

    def command(self, verb):
        words = [self.options.build / "bin" / "sgmd-launch", verb, self.folder / "topology.toml"]
        if verb != "up":
            return words
        stall = 3 if any(fault.family == "hang" for fault in self.faults) else 20
        for setting in (f"checkpoint.every={EVERY}", f"teacher.replicas={self.teachers}", f"restart.stall_seconds={stall}"):
            words += ["--set", setting]
        if self.grouped == "teacher":
            words += ["--set", f"teacher.ranks={RANKS['teacher']}"]
        elif self.grouped:
            words += ["--set", f"{self.grouped}.devices={json.dumps(['cpu'] * RANKS[self.grouped])}"]
        return words

    def start(self, verb):
        with open(self.folder / f"{verb}.log", "ab") as log:
            return subprocess.Popen(self.command(verb), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                    env=self.environment, start_new_session=True)

    def up(self):
        if self.ups == UPS:
            raise Failed(f"it is not at its end after {UPS} starts")
        self.wait_for_no_process("before it was started again")
        for fault, rng in self.pending_damage:
            done = damage_files(self.run_folder, fault.kind.split(".")[1], rng)
            fault.fired = bool(done)
            self.note("files: " + (done or "nothing, they were gone by then"))
        self.pending_damage = []
        self.ups += 1
        self.ended_by_us = False
        self.launcher = self.start("up")

    def note(self, text):
        with open(self.folder / "chaos.log", "a") as log:
            log.write(f"{time.monotonic() - self.started:7.2f} {text}\n")

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    def due(self, fault):
        since = self.started if fault.since == "start" else self.trained
        if fault.rule or fault.begun or since is None or time.monotonic() < since + fault.at:
            return False
        return fault.family != "files" or can_damage(self.run_folder, fault.kind.split(".")[1])

    def apply(self, fault, processes):
        pid = self.launcher.pid if fault.target == "launcher" else processes.get(fault.target)
        if fault.target and fault.target != "all" and pid is None:
            return  # it is just being started: later
        try:
            self.do(fault, pid, processes)
        except ProcessLookupError:
            return  # it has just ended: later, to the next one of its name
        fault.begun = True
        fault.fired = fault.family != "files"  # those are damaged before the next start
        self.note(str(fault))

    def do(self, fault, pid, processes):
        if fault.family == "kill":
            self.kill(fault, pid)
        elif fault.family == "stop":
            os.kill(pid, signal.SIGSTOP)
            self.stopped.append((time.monotonic() + fault.seconds, pid))
        elif fault.family == "term":
            if fault.kind != "term.all":
                os.kill(pid, signal.SIGTERM)
            for each in processes.values() if fault.kind == "term.all" else ():
                _signal(each, signal.SIGTERM)
            if fault.target.split(".")[0] != "teacher":
                self.ended_by_us = True  # all of it, or a part that it cannot do without: it may drain
        elif fault.family == "disk":
            self.disks[fault.kind].fill()
            self.stopped.append((time.monotonic() + fault.seconds, self.disks[fault.kind]))
        else:
            self.end_it(fault)

    def kill(self, fault, pid):
        recovery = Recovery(fault.target, self.run_folder)
        os.kill(pid, signal.SIGKILL)
        if fault.target == "launcher":
            self.ended_by_us = True
        else:
            self.open_measures.append(recovery)

    def end_it(self, fault):
        """In order or not; with damaged files before the next start where the fault is that."""
        self.ended_by_us = True
        if fault.family == "files":
            self.pending_damage.append((fault, random.Random(f"{self.options.seed}/{self.number}/{fault.kind}")))
        if fault.kind == "down" or self.rng.random() < 0.5:
            self.helpers.append(self.start("down"))
        else:
            self.launcher.kill()

    def go_on_after_stops(self, everything=False):
        now = time.monotonic()
        for until, what in [entry for entry in self.stopped if everything or now >= entry[0]]:
            self.stopped.remove((until, what))
            if isinstance(what, SmallDisk):
                what.free()
            else:
                _signal(what, signal.SIGCONT)

    # --- how it ends --------------------------------------------------------------------------------------------------

    def run(self):
        """Throws Failed saying why it did not pass, and Stopped."""
        self.started = time.monotonic()
        try:
            self.prepare()
            self.up()
            while not self.finished():
                if time.monotonic() - self.started > self.limit:
                    raise Failed(f"it has not ended after {self.limit:.0f} s")
                self.tick()
                self.pause()
            self.wait_for_no_process("at its end")
            self.compare()
        finally:
            self.seconds = time.monotonic() - self.started
            self.clean_up()
            fired = watch.fired_rules(self.folder, self.rules())
            for fault in self.faults:
                fault.fired = fault.fired or fault.rule in fired

    def pause(self):
        if self.stopping.wait(POLL_SECONDS):
            raise Stopped

    def tick(self):
        processes = watch.processes(self.run_folder)
        if self.trained is None and watch.event_files(self.run_folder):
            self.trained = time.monotonic()
        self.go_on_after_stops()
        for measure in list(self.open_measures):
            seconds = measure.seconds(processes) if isinstance(measure, Hang) else measure.seconds()
            if seconds is not None:
                self.open_measures.remove(measure)
                self.measured.append((type(measure).__name__, re.split("[./]", measure.role)[0], seconds))
        if self.launcher.poll() is None:
            for fault in self.faults:
                if self.due(fault) and self.launcher.poll() is None:
                    self.apply(fault, processes)

    def finished(self):
        code = self.launcher.poll()
        if code is None:
            return False
        newest = watch.checkpoints(self.run_folder)
        if code == 0 and newest and newest[-1].name == f"step-{STEPS:08d}" and not self.pending_damage:
            return True
        self.note(f"the launcher ended with {code}")
        # Without a number of its own a start must not begin; the next one may.
        start_failed = any(fault.kind == "errno.epoch.write" for fault in self.faults) and "epoch" in self.last_lines()
        if code == REFUSED and not start_failed:
            raise Failed("up refused to start: " + self.last_lines())
        if not self.ended_by_us and not start_failed and not self.crashed_by_rule(code):
            self.by_hand.append(watch.cause_of_end(self.folder, code))
        self.up()
        return False

    def crashed_by_rule(self, code):
        return code == -signal.SIGKILL and any(fault.kind in ("crash.launcher.poll", "crash.epoch.write") for fault in self.faults)

    def last_lines(self):
        lines = (self.folder / "up.log").read_text(errors="replace").splitlines()
        return " / ".join(lines[-3:])

    def wait_for_no_process(self, when):
        until = time.monotonic() + 15
        while (left := {name: pid for name, pid in watch.processes(self.run_folder).items()
                        if all(pid != helper.pid for helper in self.helpers)}) and time.monotonic() < until:
            self.go_on_after_stops()
            self.pause()
        if left:
            raise Failed(f"processes are left {when}: {left}")

    def compare(self):
        newest = watch.checkpoints(self.run_folder)[-1]
        wrong = watch.differences(watch.state(newest), watch.state(self.oracle / "serial"))
        if wrong:
            raise Failed(f"the weights are not those of the serial loop: {', '.join(wrong)}")
        if not (self.run_folder / "student").is_dir():
            raise Failed("there is no student")

    def clean_up(self):
        """Nothing that the round started is left, whatever state it is in."""
        self.go_on_after_stops(everything=True)
        for process in [self.launcher] + self.helpers:
            if process and process.poll() is None:
                process.kill()
                process.wait()
        until = time.monotonic() + 5
        while (left := watch.processes(self.run_folder)) and time.monotonic() < until:
            for pid in left.values():
                _signal(pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS)
        for disk in self.disks.values():
            disk.remove()

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def write_oracles(build, folder):
    """A tiny run of every configuration, with the state that the serial loop ends in."""
    for name, experiment in CONFIGURATIONS.items():
        subprocess.run([build / "tests" / "tiny_run_files", folder / name, str(STEPS), experiment, ""], check=True)
