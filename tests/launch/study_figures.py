"""What tests of launch/study have in common: figures as its programs write them, and a folder of their own."""

import json
import shutil
import struct
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "launch" / "study"
sys.path.insert(0, str(ROOT / "launch"))

from study_parts import results  # noqa: E402

GRID = [1000, 750, 500, 250]
MEASURES = dict.fromkeys(results.MEASURES, 0.5)


def measured(step, frechet, grid=GRID, samples=64):
    return MEASURES | {"step": step, "samples": samples, "student_steps": grid, "frechet_teacher": frechet, "frechet_data": frechet + 1}


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def scalar_record(step, tag, value):
    def part(number, payload):
        return bytes([number << 3 | 2, len(payload)]) + payload

    summary = part(1, part(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
    event = b"\x09" + struct.pack("<d", 1.0) + bytes([0x10, step]) + part(5, summary)
    return struct.pack("<QI", len(event), 0) + event + struct.pack("<I", 0)


class InTemporaryFolder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
