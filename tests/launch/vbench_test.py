"""launch/vbench with the real sgmd-sample on the embedded model. VBench's package, whose networks do not run here, is replaced by one of
its interface: VBench(device, info, folder).evaluate(...) writes <name>_eval_results.json as release 0.1.5 does."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ["a small red ball", "a large green ball"]
PACKAGE = '''
import json, os
class VBench:
    def __init__(self, device, info, output_path):
        self.info, self.out = info, output_path
        os.makedirs(output_path, exist_ok=True)
    def evaluate(self, videos_path, name, dimension_list, **more):
        assert len(dimension_list) == 1
        videos = [{"video_path": os.path.join(videos_path, f), "video_results": f.startswith("a small red")} for f in sorted(os.listdir(videos_path))]
        mean = sum(v["video_results"] for v in videos) / len(videos)
        json.dump({dimension_list[0]: [mean, videos]}, open(os.path.join(self.out, name + "_eval_results.json"), "w"))
'''


class VBench(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.out = Path(folder.name), Path(folder.name) / "student"
        package = self.folder / "vbench"
        package.mkdir()
        (package / "__init__.py").write_text(PACKAGE)
        entries = [{"prompt_en": prompt, "dimension": ["dynamic_degree", "color"]} for prompt in PROMPTS]
        (package / "VBench_full_info.json").write_text(json.dumps(entries + [{"prompt_en": "a cat", "dimension": ["scene"]}]))

    def run_vbench(self, *arguments, package=True):
        environment = dict(os.environ) | ({"PYTHONPATH": str(self.folder)} if package else {})
        return subprocess.run([ROOT / "launch/vbench", *map(str, arguments)], capture_output=True, text=True, env=environment)

    def draw(self, steps=("1000", "500"), dimension="dynamic_degree"):
        model = ROOT / "launch/models/bouncing_ball"
        return self.run_vbench("draw", self.out, "--python", sys.executable, "--dimensions", dimension, "--videos", 2, "--", "--model", model,
                               "--student-steps", *steps, "--shift", 5, "--latent", 3, 8, 8, 8)

    def names(self):
        return sorted(path.name for path in (self.out / "videos").iterdir())

    def test_draws_every_video_once_and_goes_on_where_it_was(self):
        drawn = self.draw()
        self.assertEqual(drawn.returncode, 0, drawn.stderr)
        expected = sorted(f"{prompt}-{number}.mp4" for prompt in PROMPTS for number in range(2))
        self.assertEqual(self.names(), expected)
        first, second = (self.out / "videos" / f"{PROMPTS[0]}-{number}.mp4" for number in range(2))
        self.assertNotEqual(first.read_bytes(), second.read_bytes(), "each from noise of its own")
        kept, lost = first.stat().st_mtime_ns, second.read_bytes()
        second.unlink()
        again = self.draw()
        self.assertIn("2 of 2 videos", again.stderr)
        self.assertEqual((first.stat().st_mtime_ns, second.read_bytes()), (kept, lost))

    def test_refuses_to_mix_two_models(self):
        self.draw()
        other = self.draw(steps=("1000", "250"))
        self.assertEqual(other.returncode, 1)
        self.assertIn("begun with other settings: sample", other.stderr)

    def test_scores_what_was_drawn_and_compares(self):
        self.draw()
        scored = self.run_vbench("score", self.out, "--python", sys.executable)
        self.assertEqual(scored.returncode, 0, scored.stderr)
        table = self.run_vbench("table", self.out, self.out).stdout
        self.assertIn("| dimension | student | student |", table)
        self.assertIn("| dynamic_degree | 0.5000 [0.0000, 1.0000] |", table, "two prompts, of which one moves, say nothing")

    def test_says_what_is_missing(self):
        for found, word in ((self.run_vbench("score", self.out, package=False), "has no videos"),
                            (self.run_vbench("table", self.out), "has no scores"),
                            (self.draw(dimension="beauty"), "VBench has no dimension beauty"),
                            (self.run_vbench("draw", self.out), "nothing says what is to be drawn"),
                            (self.run_vbench("draw", self.out, "--", "--model", "x", package=False), "has no package vbench")):
            self.assertEqual(found.returncode, 1)
            self.assertIn(word, found.stderr)


if __name__ == "__main__":
    unittest.main()
