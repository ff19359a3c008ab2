"""The videos of a study side by side: a picture and an animation in the report."""

import shutil
import subprocess


def add_pictures(d, results, folder):
    """Nothing where a study has no videos or the machine no ffmpeg."""
    seed = min((run.seed for run in results.runs), default=None)
    base = results.out / results.description["base"] / "evaluation" / "videos"
    own = results.own_steps(results.arms()[0]) if results.runs else 0
    columns = [("teacher", base / "teacher-again"), (f"base, {own} steps", base / f"base-{own}")]
    columns += [(results.title(run.arm), run.folder / "evaluation" / "videos" / f"student-{own}") for run in results.runs
                if run.seed == seed and not results.description["arms"][run.arm].get("sweep")]
    columns = [(title, path) for title, path in columns if path.with_suffix(".png").exists() and path.with_suffix(".gif").exists()]
    if not columns or not shutil.which("ffmpeg"):
        return
    d.heading("Pictures")
    d.text(f"From left to right: {' | '.join(title for title, _ in columns)}; a row a prompt, the same noise in a row, seed {seed}.")
    for suffix, name in ((".png", "contact_sheet.png"), (".gif", "motion.gif")):
        _side_by_side([path.with_suffix(suffix) for _, path in columns], folder / name)
        d.picture(folder / name, "frames of each video" if suffix == ".png" else "the videos moving")


def _side_by_side(paths, out):
    inputs = [part for path in paths for part in ("-i", str(path))]
    join = f"hstack=inputs={len(paths)}" if len(paths) > 1 else "null"
    palette = ",split[a][b];[a]palettegen[p];[b][p]paletteuse" if out.suffix == ".gif" else ""
    subprocess.run(["ffmpeg", "-v", "error", "-y", *inputs, "-filter_complex", join + palette, str(out)], check=True, stdin=subprocess.DEVNULL)
