"""Damage that is done by hand: to files between two starts, and to the space on a disk."""
import os
import random
import subprocess

from parts import watch

DISK_BYTES = {"checkpoints": 16 << 20, "cache": 64 << 20}


def can_damage(run, how):
    """Whether there is such a file, and another checkpoint than the one that is damaged."""
    if how == "epoch":
        return (run / "epoch").exists()
    return bool(_cache_files(run)) if how == "cache" else len(watch.checkpoints(run)) > 1


def damage_files(run, how, rng: random.Random):
    """Says what it did; nothing where the files were gone by then."""
    if not can_damage(run, how):
        return ""
    if how == "epoch":
        (run / "epoch").write_bytes(b"")
        return "epoch emptied"
    any_of = rng.choice(["truncate", "corrupt", "remove"])
    if how == "cache":
        return _spoil(rng.choice(_cache_files(run)), any_of, rng)
    newest = watch.checkpoints(run)[-1]
    if how == "manifest":
        return _spoil(newest / "MANIFEST.json", any_of, rng)
    return _spoil(rng.choice(sorted(newest.glob("*.safetensors"))), how, rng)


def _cache_files(run):
    return sorted(path for path in (run / "cache").glob("0*") if path.suffix in (".blob", ".sst") and path.stat().st_size > 0)


def _spoil(path, how, rng):
    size = path.stat().st_size
    if how == "remove":
        path.unlink()
    elif how == "truncate":
        os.truncate(path, rng.randrange(size))
    else:
        with open(path, "r+b") as file:
            at = rng.randrange(size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ (1 << rng.randrange(8))]))
    return f"{how} {path.parent.name}/{path.name}"


class SmallDisk:
    """A tmpfs over a folder of the run, which can be filled."""

    def __init__(self, run, name):
        self.folder = run / name
        self.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES[name]}", "tmpfs", self.folder], check=True)

    def fill(self):
        with open(self.folder / "filler", "wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass

    def free(self):
        (self.folder / "filler").unlink(missing_ok=True)

    def remove(self):
        subprocess.run(["umount", "-l", self.folder], check=False)
