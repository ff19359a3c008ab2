"""What a number of rounds has shown, as tables."""
import collections
import dataclasses
import statistics


@dataclasses.dataclass
class Counts:
    drawn: int = 0
    fired: int = 0   # of those drawn
    passed: int = 0  # in rounds that passed, of those fired
    failed: int = 0


class Summary:
    def __init__(self):
        self.passed = self.failed = 0
        self.quiet = []  # numbers of the rounds in which no fault fired
        self.by_kind = collections.defaultdict(Counts)
        self.by_hand = collections.Counter()  # of causes
        self.by_hand_rounds = 0
        self.by_hand_faults = collections.defaultdict(set)  # of a cause: the kinds that had fired in its rounds
        self.times = collections.defaultdict(list)
        self.stops = Counts()  # of 1 to 60 s

    def add(self, round_, passed):
        self.passed += passed
        self.failed += not passed
        fired = [fault for fault in round_.faults if fault.fired]
        if not fired:
            self.quiet.append(round_.number)
        for fault in round_.faults:
            for counts in (self.by_kind[fault.kind], self.stops) if fault.family == "stop" else (self.by_kind[fault.kind],):
                counts.drawn += 1
                counts.fired += fault.fired
                counts.passed += fault.fired and passed
                counts.failed += fault.fired and not passed
        self.by_hand_rounds += bool(round_.by_hand)
        for cause in round_.by_hand:
            self.by_hand[cause] += 1
            self.by_hand_faults[cause].update(fault.kind for fault in fired)
        for measure, role, seconds in round_.measured:
            self.times[(measure, role)].append(seconds)

    def text(self):
        total = self.passed + self.failed
        lines = [f"{self.passed} of {total} rounds ended bitwise equal to the serial loop"]
        if self.quiet:
            lines.append(f"no fault fired in {len(self.quiet)} of {total} rounds, which show nothing: {', '.join(map(str, sorted(self.quiet)))}")
        lines += ["", f"{'fault':34}{'drawn':>7}{'fired':>7}{'passed':>8}{'failed':>8}"]
        lines += [f"{kind:34}{counts.drawn:7}{counts.fired:7}{counts.passed:8}{counts.failed:8}" for kind, counts in sorted(self.by_kind.items())]
        if self.stops.fired:
            lines += ["", f"stops that the run got over: {self.stops.passed} of {self.stops.fired}"]
        lines += ["", f"{'seconds until':34}{'times':>7}{'median':>8}{'longest':>9}"]
        for (measure, role), seconds in sorted(self.times.items()):
            what = f"a hang of {role} was ended" if measure == "Hang" else f"training after the death of {role}"
            lines.append(f"{what:34}{len(seconds):7}{statistics.median(seconds):8.1f}{max(seconds):9.1f}")
        lines += ["", f"`up` was needed by hand, though nobody had ended the run, in {self.by_hand_rounds} of {total} rounds"]
        for cause, count in self.by_hand.most_common():
            lines.append(f"  {count} x {cause} [{', '.join(sorted(self.by_hand_faults[cause])) or 'no fault'}]")
        return "\n".join(lines)
