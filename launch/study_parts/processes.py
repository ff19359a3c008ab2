"""Child processes that Ctrl-C ends in order, and the progress line."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
DRAINED = 75  # exit code of a run that ended in order before its last step
# OpenMP threads that spin while they wait make a program ten times slower where cores are shared.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"} | os.environ


class Interrupted(Exception):
    """The user asked to stop; the child has ended."""


class Failed(Exception):
    """A child failed; the text says which and shows its last lines."""


class Runner:
    """Runs one child at a time. The first Ctrl-C is passed on to it (sgmd-launch drains), as is every further one (it kills)."""

    def __init__(self):
        self._signals = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._count)

    def _count(self, number, frame):
        self._signals += 1

    def run(self, command, log, on_tick, environment=None):
        """Appends the child's output to `log`; on_tick() about twice a second. `environment`: further variables."""
        if self._signals:
            raise Interrupted
        if not Path(command[0]).exists():
            raise Failed(f"no program {command[0]}; launch/setup builds it")
        passed = 0
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            # A group of its own: the terminal's Ctrl-C comes to this script alone.
            child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                     process_group=0, preexec_fn=_end_with_parent, env=ENVIRONMENT | (environment or {}))
            while True:
                try:
                    code = child.wait(0.5)
                    break
                except subprocess.TimeoutExpired:
                    on_tick()
                while passed < self._signals:
                    passed += 1
                    child.send_signal(signal.SIGINT)
        if self._signals:
            raise Interrupted
        if code not in (0, DRAINED):
            lines = log.read_text(errors="replace").splitlines()[-15:]
            raise Failed(f"{command[0]} ended with {code}; the end of {log}:\n" + "\n".join("  " + line for line in lines))


def _end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Progress:
    """One line over all runs: redrawn on a terminal, a line every ten seconds elsewhere."""

    QUIET_SECONDS = 10

    def __init__(self, total):
        self._total, self._done = total, 0.0  # in foretold seconds
        self._worked = 0.0                    # foretold seconds of what this call has done
        self._begun = time.monotonic()
        self._shown = 0.0
        self._terminal = sys.stderr.isatty()

    def skip(self, amount):
        self._done += amount

    def show(self, what, part=0.0):
        """`part`: foretold seconds done of what is under way."""
        now = time.monotonic()
        if not self._terminal and now - self._shown < self.QUIET_SECONDS:
            return
        self._shown = now
        worked = self._worked + part
        pace = (now - self._begun) / worked if worked > 0 else 1.0
        left = max(0.0, self._total - self._done - part)
        share = min(1.0, (self._done + part) / self._total) if self._total else 1.0
        line = f"[{'#' * int(20 * share):.<20}] {100 * share:3.0f}%  {what}  ETA {duration(left * pace)}"
        print(f"\r\x1b[K{line}" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr, flush=True)

    def left(self):
        return max(0.0, self._total - self._done)

    def finish(self, amount, line):
        self._done += amount
        self._worked += amount
        self.say(line)

    def say(self, line):
        print(("\r\x1b[K" if self._terminal else "") + line, file=sys.stderr, flush=True)


def duration(seconds):
    seconds = int(seconds + 0.5)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    return f"{seconds // 3600}h {seconds % 3600 // 60:02d}m"
