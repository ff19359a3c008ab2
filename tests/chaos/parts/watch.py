"""What can be seen of a run from outside: its processes, its steps, its checkpoints, its failpoints, its end."""
import hashlib
import json
import os
import pathlib

PROGRAMS = {"sgmd-broker": "broker", "sgmd-generator": "generator", "sgmd-fake-score": "fake_score", "sgmd-teacher": "teacher.0",
            "sgmd-launch": "launcher"}
BARE_EVENTS = 100  # bytes: an event file without a value is shorter


def processes(run):
    """{name: pid} of the processes whose command line has the folder `run`."""
    found, needle = {}, os.fsencode(str(run))
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        if not any(needle in word for word in words):
            continue
        program = os.path.basename(os.fsdecode(words[0]))
        if b"--name" in words:
            found[os.fsdecode(words[words.index(b"--name") + 1])] = int(entry)
        elif program in PROGRAMS:
            found.setdefault(PROGRAMS[program], int(entry))
    return found


def alive(pid):
    """Whether it still runs: a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def event_files(run):
    """{name: bytes} of the generator's event files that hold at least one value."""
    sizes = {}
    try:
        for entry in os.scandir(run / "events" / "generator"):
            size = entry.stat().st_size
            if size > BARE_EVENTS:
                sizes[entry.name] = size
    except OSError:
        pass
    return sizes


def checkpoints(run):
    """Folders of committed checkpoints, oldest first."""
    folder = run / "checkpoints"
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def state(folder):
    """{role, state and tensor: digest} of the weights and moments in a folder, however many ranks wrote them."""
    parts = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        of = ".".join(path.name.split(".")[:2])
        for name, shape, dtype, offset, replica, data in _parts(path):
            if replica == 0:
                parts.setdefault((f"{of} {name}", str(shape), dtype), []).append((offset, data))
    return {name: hashlib.sha256(shape.encode() + dtype.encode() + b"".join(data for _, data in sorted(of))).hexdigest()
            for (name, shape, dtype), of in parts.items()}


def _parts(path):
    """(name, whole shape, dtype, first element, replica, bytes) of what a rank wrote: common/storage/tensor_part.h."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    places = json.loads(header.pop("__metadata__", {}).get("sgmd.parts", "{}"))
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        place = places.get(name, {"shape": tensor["shape"], "offset": 0, "replica": 0})
        yield name, place["shape"], tensor["dtype"], place["offset"], place["replica"], data[8 + length + begin:8 + length + end]


def fired_rules(folder, rules):
    """Those of `rules` (of SGMD_FAILPOINTS, from its beginning on) that have happened in the run of a round's folder: a rule of
    once in all leaves its mark, every one a line of the process that it happened in."""
    logs = [folder / "up.log", *(folder / "run" / "logs").glob("*.log*")]
    said = b"".join(log.read_bytes() for log in logs if log.exists())
    return {rule for index, rule in enumerate(rules)
            if (folder / "marks" / str(index)).exists() or f"failpoint: {rule} at hit ".encode() in said}


def cause_of_end(folder, code):
    """Why the launcher of a round's folder ended with `code`, in words that are the same in every round."""
    lines = []
    try:
        lines = (folder / "run" / "history.jsonl").read_text(errors="replace").splitlines()
    except OSError:
        pass
    end = {}
    try:
        end = json.loads(lines[-1]) if lines else {}
    except ValueError:
        pass  # the launcher died as it wrote it
    cause = end.get("cause", "") if end.get("event") == "end" and end.get("exit_code") == code else ""
    return f"exit {code}" + (": " + cause.replace(str(folder) + "/", "") if cause else "")


def differences(got, wanted):
    names = sorted(set(got) | set(wanted))
    return [name for name in names if got.get(name) != wanted.get(name)]
