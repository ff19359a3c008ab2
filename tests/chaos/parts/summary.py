"""What a number of rounds has shown, as tables."""
import collections
import statistics


class Summary:
    def __init__(self):
        self.passed = self.failed = 0
        self.by_kind = collections.defaultdict(lambda: [0, 0, 0])  # drawn, rounds that passed, rounds that failed
        self.by_hand = collections.Counter()
        self.times = collections.defaultdict(list)
        self.stops = [0, 0]  # of 1 to 60 s: all, in rounds that passed

    def add(self, round_, passed):
        self.passed += passed
        self.failed += not passed
        for fault in round_.faults:
            if not fault.happened and not fault.rule:
                continue  # the run was at its end before
            counts = self.by_kind[fault.kind]
            counts[0] += 1
            counts[1 if passed else 2] += 1
            if fault.family == "stop":
                self.stops[0] += 1
                self.stops[1] += passed
        for reason in round_.by_hand:
            self.by_hand[f"{reason}: " + ", ".join(sorted(fault.kind for fault in round_.faults))] += 1
        for measure, role, seconds in round_.measured:
            self.times[(measure, role)].append(seconds)

    def text(self):
        lines = [f"{self.passed} of {self.passed + self.failed} rounds ended bitwise equal to the serial loop", "",
                 f"{'fault':34}{'times':>7}{'passed':>8}{'failed':>8}"]
        lines += [f"{kind:34}{counts[0]:7}{counts[1]:8}{counts[2]:8}" for kind, counts in sorted(self.by_kind.items())]
        if self.stops[0]:
            lines += ["", f"stops that the run got over: {self.stops[1]} of {self.stops[0]}"]
        lines += ["", f"{'seconds until':34}{'times':>7}{'median':>8}{'longest':>9}"]
        for (measure, role), seconds in sorted(self.times.items()):
            what = f"a hang of {role} was ended" if measure == "Hang" else f"training after the death of {role}"
            lines.append(f"{what:34}{len(seconds):7}{statistics.median(seconds):8.1f}{max(seconds):9.1f}")
        if self.by_hand:
            lines += ["", "`up` was needed by hand, though nobody had ended the run:"]
            lines += [f"  {count} x {reason}" for reason, count in self.by_hand.most_common()]
        return "\n".join(lines)
