"""make bench: how fast we are against Paddle as installed, against PyTorch and against the machine, in one run.

    python benchmarks/bench.py PYTHON_WITH_TORCH [--data FOLDER_WITH_REPORTS] [--only ROW ...]

Every side of a row is a process of its own that is warmed up and then works in turns with the others, so that a slow
minute of the machine slows all of them; a ratio is taken within a turn. Writes benchmarks/bench.json with the median,
the lowest and the highest of the turns:

    {processor: {"versions": ..., "pytorch_ran": ..., "figures": {name: {"value": median, "low": ..., "high": ...}}}}

All sides have the same weights and, ours and PyTorch, the same precision: bfloat16 for features where the processor has
it, else float32. The run stops where they do not give the same answer: features of another norm (2%, since some are
bfloat16), another loss, other words, other masks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

import work

HERE = Path(__file__).parent
TURNS = 5
SLOPES = 3  # turns of a slope: each has five sizes
PAUSE = 0.3  # seconds: the threads of a library go on waiting busily for a while after their work
GOALS = {  # the figures of the table, and what we want of them
    "features_vs_paddle": (">=", 12),
    "features_vs_torch": (">=", 1.0),
    "features_vs_torch_usual": (">=", 1.2),
    "features_decode_share": ("<=", 0.15),
    "features_images_per_s": None,
    "train_vs_torch": (">=", 1.0),
    "train_vs_paddle": (">=", 6),
    "train_tokens_per_s": None,
    "beam_vs_original": (">=", 10),
    "beam_vs_floor": (">=", 0.5),
    "beam_vs_torch": (">=", 1.0),
    "beam_captions_per_s": None,
    "unet_vs_torch": (">=", 1.0),
    "unet_images_per_s": None,
    "unet_lite0_vs_torch": (">=", 1.0),
    "unet_lite0_images_per_s": None,
    "parse_reports_per_s": (">=", 5000),
    "import_s": ("<=", 0.2),
    "import_rooms_s": None,
    "slope_features": ("in", (0.95, 1.05)),
    "slope_train": ("in", (0.95, 1.05)),
    "slope_beam": ("in", (0.95, 1.05)),
    "safety_share": ("<=", 0.02),
}


class Side:
    """A worker process; `turn()` makes it work once and returns its answer with the seconds it took."""

    def __init__(self, python: str, worker: str, task: str, scratch: Path):
        environment = dict(os.environ)
        if worker != "ours.py":  # as a user meets it
            for name in [name for name in environment if name.startswith(("OMP_", "MKL_", "MALLOC_"))]:
                del environment[name]
        self.name = f"{worker} {task}"
        self.log = (scratch / f"{worker}.{task}.log").open("w+")
        self.process = subprocess.Popen(
            [python, HERE / worker, task, scratch],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment,
        )  # fmt: skip

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            sys.exit(f"{self.name} ended:\n{self.log.read()[-3000:]}")
        return json.loads(line)

    def turn(self) -> dict:
        time.sleep(PAUSE)
        begun = time.perf_counter()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.answer()
        answer.setdefault("seconds", time.perf_counter() - begun)
        return answer

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


class Bench:
    def __init__(self, scratch: Path, torch: str):
        self.scratch, self.pythons = scratch, {"pytorch.py": torch}
        self.figures, self.variants = {}, {}

    def sides(self, task: str, *workers: str) -> list[Side]:
        """Ready and warm, one after the other: PyTorch finds its fastest variant undisturbed."""
        sides = []
        for worker in workers:
            sides.append(Side(self.pythons.get(worker, sys.executable), worker, task, self.scratch))
            first = sides[-1].answer()
            if "variant" in first:
                self.variants[task] = first["variant"]
        return sides

    def turns(self, task: str, *workers: str, count: int = TURNS, also: tuple[Side, ...] = ()) -> list[list[dict]]:
        """The answers of every side, turn by turn."""
        sides = [*self.sides(task, *workers), *also]
        try:
            return [[side.turn() for side in sides] for _ in range(count)]
        finally:
            for side in sides:
                side.end()

    def note(self, name: str, values: list[float]) -> None:
        self.figures[name] = {"value": median(values), "low": min(values), "high": max(values)}
        goal = GOALS[name]
        print(f"{name:24}{median(values):12.4g}   {min(values):.4g} to {max(values):.4g}   {told(goal)}", flush=True)

    def ratios(self, name: str, turns: list[list[dict]], other: int) -> None:
        self.note(name, [rate(turn[0]) / rate(turn[other]) for turn in turns])

    def save(self, machine: str, versions: dict, path: Path) -> None:
        """What this run has not measured anew is kept: other processors, and rows, which may be measured alone."""
        every = json.loads(path.read_text()) if path.exists() else {}
        kept = every.get(machine, {})
        figures = {**kept.get("figures", {}), **self.figures}
        variants = {**kept.get("pytorch_ran", {}), **self.variants}
        every[machine] = {"versions": versions, "pytorch_ran": variants, "figures": figures}
        path.write_text(json.dumps(every, indent=1) + "\n")


def rate(answer: dict) -> float:
    return answer["amount"] / answer["seconds"]


def told(goal) -> str:
    return "" if goal is None else f"goal {goal[0]} {goal[1]}"


def pictures(scratch: Path) -> None:
    """32 PNGs of 1,024 pixels as hospitals have them, with a film's grain; 64 small ones for the growth."""
    from medcap_paddle import phantom

    drawn = phantom.make(scratch / "drawn", studies=40, seed=7)
    paths = sorted(drawn.rglob("*.png"))
    grain = np.random.default_rng(0)
    for folder in ("pictures", "small"):
        (scratch / folder).mkdir()
    for number, path in enumerate(paths[:64]):
        picture = Image.open(path).convert("L")
        picture.save(scratch / "small" / f"{number:04}.png")
        if number < 32:
            large = np.asarray(picture.resize((1024, 1024), Image.Resampling.BICUBIC), "float32")
            large = np.clip(large + grain.normal(0, 2, large.shape), 0, 255).astype("uint8")
            Image.fromarray(large).save(scratch / "pictures" / f"{number:04}.png")


def collection(scratch: Path, data: str | None) -> None:
    """The reports to read: those of `data`, or 2,400 of phantoms."""
    from medcap_paddle.phantom import collection

    folder = scratch / "reports"
    if data:
        folder.symlink_to(Path(data).resolve())
        return
    (folder / "ecgen-radiology").mkdir(parents=True)
    for study in collection.plan(2400, seed=0):
        collection.write_xml(study, folder / "ecgen-radiology" / f"{study.number}.xml")


def features(bench: Bench) -> None:
    turns = bench.turns("features", "ours.py", "installed.py", "pytorch.py")
    norms = [answer["norm"] for answer in turns[0]]
    if not np.ptp(norms) <= 0.02 * min(norms):  # NaN stops it too
        sys.exit(f"the features do not agree: norms {norms}")
    bench.ratios("features_vs_paddle", turns, 1)
    bench.ratios("features_vs_torch", turns, 2)
    bench.note("features_vs_torch_usual", [rate(turn[0]) * turn[2]["usual"] / turn[2]["amount"] for turn in turns])
    bench.note("features_decode_share", [1 - turn[0]["network"] / turn[0]["seconds"] for turn in turns])
    bench.note("features_images_per_s", [rate(turn[0]) for turn in turns])


def train(bench: Bench) -> None:
    turns = bench.turns("train", "ours.py", "installed.py", "pytorch.py")
    losses = [answer["loss"] for answer in turns[0]]
    if max(losses) - min(losses) > 1e-4:
        sys.exit(f"the models do not agree: losses {losses}")
    bench.ratios("train_vs_torch", turns, 2)
    bench.ratios("train_vs_paddle", turns, 1)
    bench.note("train_tokens_per_s", [rate(turn[0]) for turn in turns])


def beam(bench: Bench) -> None:
    floor = bench.sides("product", "ours.py")
    turns = bench.turns("beam", "ours.py", "installed.py", "pytorch.py", also=tuple(floor))
    for worker in (1, 2):
        theirs = turns[0][worker]["words"]
        if theirs != turns[0][0]["words"][: len(theirs)]:
            sys.exit(f"the searches do not agree: {theirs[0]} and {turns[0][0]['words'][0]}")
    H, places = work.H, work.BEAM * work.STEPS
    gflop = 2 * places * (H * 4 * H + 2 * H * H + H * work.WORDS) / 1e9  # LSTM after its input, gate, context, output
    bench.ratios("beam_vs_original", turns, 1)
    bench.note("beam_vs_floor", [rate(turn[0]) * gflop / rate(turn[3]) for turn in turns])
    bench.ratios("beam_vs_torch", turns, 2)
    bench.note("beam_captions_per_s", [rate(turn[0]) for turn in turns])


def segment(task: str, bench: Bench) -> None:
    turns = bench.turns(task, "ours.py", "pytorch.py")
    norms = [answer["norm"] for answer in turns[0]]
    if not np.ptp(norms) <= 1e-4 * min(norms):
        sys.exit(f"the masks do not agree: norms {norms}")
    bench.ratios(f"{task}_vs_torch", turns, 1)
    bench.note(f"{task}_images_per_s", [rate(turn[0]) for turn in turns])


def parse(bench: Bench) -> None:
    bench.note("parse_reports_per_s", [rate(turn[0]) for turn in bench.turns("parse", "ours.py", count=2 * TURNS)])


def start(bench: Bench) -> None:
    rooms = "dataset, train, generate"
    code = (
        "import time, warnings; warnings.simplefilter('ignore'); import paddle; a = time.perf_counter(); "
        "import medcap_paddle; b = time.perf_counter(); "
        f"from medcap_paddle import {rooms}; print(b - a, time.perf_counter() - b)"
    )
    runs = []
    for _ in range(TURNS + 1):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parent, check=True)
        runs.append([float(number) for number in out.stdout.split()[-2:]])
    package, all_rooms = zip(*runs[1:], strict=True)  # the first one compiles
    bench.note("import_s", list(package))
    bench.note("import_rooms_s", list(all_rooms))


def slopes(bench: Bench) -> None:
    for name in ("slope_features", "slope_train", "slope_beam"):
        found = []
        for (answer,) in bench.turns(name, "ours.py", count=SLOPES):
            sizes, seconds = zip(*((int(n), s) for n, s in answer["seconds"].items()), strict=True)
            found.append(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]))
        bench.note(name, found)


def safety(bench: Bench) -> None:
    code = "import safety; print(safety.measure()['safety_share'])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE, check=True)
    bench.note("safety_share", [float(out.stdout.split()[-1])])


ROWS = {
    "features": features, "train": train, "beam": beam, **{task: partial(segment, task) for task in work.SEGMENTERS},
    "parse": parse, "start": start, "slopes": slopes, "safety": safety,
}  # fmt: skip


def machine() -> str:
    names = [line.split(":")[1].strip() for line in work.CPUINFO.splitlines() if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores, {names[0] if names else platform.processor()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("torch", help="the Python that has torch")
    parser.add_argument("--data", help="a folder with Open-i reports to parse, instead of a phantom's")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")  # no bars
    sys.path.insert(0, str(HERE.parent))
    asked = "import torch; print(torch.__version__)"
    torch = subprocess.run([arguments.torch, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    versions = {name: version(name) for name in ("paddlepaddle", "numpy")} | {"python": platform.python_version()}
    began = time.perf_counter()
    print(f"{machine()}: {'bfloat16 features' if work.HALF else 'float32'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.torch)
        pictures(bench.scratch)
        collection(bench.scratch, arguments.data)
        bench.sides("weights", "ours.py")[0].end()
        for row in arguments.only:
            ROWS[row](bench)
            bench.save(machine(), versions | {"torch": torch}, HERE / "bench.json")
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            minutes, busy = (time.perf_counter() - began) / 60, (used.ru_utime + used.ru_stime) / 60
            print(f"{row}: done after {minutes:.1f} minutes, {busy:.1f} of a core", flush=True)


if __name__ == "__main__":
    main()
