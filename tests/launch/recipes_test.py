"""launch/recipes.md is what launch/recipes prints, so that no figure in it is older than the plan."""

import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Recipes(unittest.TestCase):
    maxDiff = None

    def test_the_table_is_that_of_the_plans(self):
        printed = subprocess.run([ROOT / "launch/recipes"], capture_output=True, text=True, check=True).stdout
        self.assertEqual((ROOT / "launch/recipes.md").read_text(), printed, "made anew by: launch/recipes > launch/recipes.md")

    def test_every_experiment_of_a_real_model_is_there(self):
        table = (ROOT / "launch/recipes.md").read_text()
        for experiment in (ROOT / "launch/experiments").glob("wan*.toml"):
            self.assertIn(f"\n- `{experiment.stem}`: ", table)


if __name__ == "__main__":
    unittest.main()
