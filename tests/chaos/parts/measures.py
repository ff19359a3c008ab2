"""How long it takes to go on: after a death until the generator has landed a step again, after a hang until the process is ended."""
import time

from parts import watch


class Recovery:
    """From the death of `role` until a step of training after it. All processes are new then, unless it was a teacher."""

    def __init__(self, role, run):
        self.role, self.run, self.since = role, run, time.monotonic()
        self.before = watch.event_files(run)
        self.in_flight = 0.3 if role.startswith("teacher") else 0.0  # seconds for what had its scores already

    def seconds(self):
        """Nothing while it has not gone on."""
        now = watch.event_files(self.run)
        elapsed = time.monotonic() - self.since
        if self.role.startswith("teacher"):
            if elapsed < self.in_flight:
                self.before = now
            return elapsed if now != self.before else None
        return elapsed if set(now) - set(self.before) else None


class Hang:
    """From the moment at which a process hangs, which its mark tells, until it is ended."""

    def __init__(self, role, mark):
        self.role, self.mark, self.pid, self.since = role, mark, None, None

    def seconds(self, processes):
        if self.pid is None:
            if not self.mark.exists():
                return None
            self.since = self.mark.stat().st_mtime
            names = [name for name in processes if name == self.role or name.startswith(self.role + ".")]
            hung = [processes[name] for name in names if _hung(self.mark, name, self.mark.parent.parent)]
            if not hung:
                return None
            self.pid = hung[0]
        return None if watch.alive(self.pid) else time.time() - self.since


def _hung(mark, name, folder):
    """Whether the log of this process says that the failpoint of the mark has happened."""
    log = folder / "run" / "logs" / f"{name}.log"
    return log.exists() and b"=hang@" in log.read_bytes()
