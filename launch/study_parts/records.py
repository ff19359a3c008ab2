"""What a finished run has written: step times in TensorBoard's event files, work in the broker's log."""

import re
import struct


def step_seconds(run_folder):
    """Seconds of every step."""
    return course(run_folder, "generator", "time/step_sec")


def course(run_folder, role, wanted):
    """Values of a tag, by step. Where a step was taken again after a crash, of the last time."""
    values = {}
    for file in sorted((run_folder / "events" / role).glob("events.out.tfevents.*")):
        for step, tag, value in scalars(file.read_bytes()):
            if tag == wanted:
                values[step] = value
    return [values[step] for step in sorted(values)]


def forward_equivalents(run_folder):
    """Of all roles together, a sample and outer iteration. None when the broker did not come to say."""
    log = (run_folder / "logs" / "broker.log").read_text(errors="replace")
    counted = [float(text) for text in re.findall(r"work per sample in forward-equivalents: .* together ([0-9.e+-]+)", log)]
    return next((value for value in reversed(counted) if value > 0), None)


def cpu_seconds(run_folder):
    """CPU time of each trained role and of the teachers together, all threads; of a run that nothing interrupted."""
    used = {}
    for log in (run_folder / "logs").glob("*.log"):
        said = re.findall(r" used ([0-9.e+-]+) s of CPU", log.read_text(errors="replace"))
        role = log.stem.split(".")[0]
        if said:
            used[role] = used.get(role, 0) + sum(map(float, said))
    return used


def scalars(data):
    """(step, tag, value) of an event file: u64 length, u32 crc, event, u32 crc; a cut last record is left out."""
    at = 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = data[at + 12:at + 12 + length]
        at += length + 16
        if len(event) < length:
            return
        fields = dict(_fields(event))
        summary = dict(_fields(fields.get(5, b"")))
        value = dict(_fields(summary.get(1, b"")))
        if 1 in value and isinstance(value.get(2), float):
            yield fields.get(2, 0), value[1].decode(), value[2]


def _fields(message):
    """(number, value) of a protobuf message: 0 varint, 1 fixed64, 2 bytes, 5 float."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 1:
            value, at = message[at:at + 8], at + 8
        elif kind == 2:
            size, at = _varint(message, at)
            value, at = message[at:at + size], at + size
        elif kind == 5:
            value, at = struct.unpack_from("<f", message, at)[0], at + 4
        else:
            raise ValueError(f"wire type {kind} in an event file")
        yield number, value


def _varint(message, at):
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
