"""What guests of `make demo` meet: how long until the page answers, and whether many at once are served as one alone.

    python benchmarks/guests.py WORK [--guests 20] [--requests 200] [--json FILE]

start     seconds from the command until the server answers, and until the first report is there (a session of
          Streamlit's AppTest, in a process of its own, imports and loads what the first guest of a server waits for)
dropped   seconds from the bytes of two films to the report, through the rooms: upload, reading, the page's pictures
guests    requests lost and mixed up: each guest is compared with the same study read alone; memory before and after

WORK is a folder that `make run` wrote. Run it when the machine is quiet.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).parent.parent))

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np

from medcap_paddle.demo import films, found, uploads
from medcap_paddle.demo.__main__ import free_port
from medcap_paddle.demo.cases import Cases
from medcap_paddle.demo.reading import Reader

ROOT = Path(__file__).parent.parent
FIRST = """
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("app.py", default_timeout=300).run()
assert not app.exception and not app.error, app.error
"""


def start(work: Path) -> dict[str, float]:
    """Seconds until the server answers, and of the first session in a fresh process."""
    port, began = free_port("127.0.0.1"), time.perf_counter()
    command = [sys.executable, "-m", "medcap_paddle.demo", str(work), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                    break
            except (URLError, OSError):
                time.sleep(0.05)
        answered = time.perf_counter() - began
        server.terminate()
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", FIRST], cwd=ROOT, env={**os.environ, "WORK": str(work)}, check=True)
    return {"server": answered, "first_report": answered + time.perf_counter() - began}


def memory() -> float:
    """MB that the process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def dropped(reader: Reader, paths: tuple[str, ...]) -> list[float]:
    """Seconds of each of five drops of two films."""
    files, seconds = [(path, Path(path).read_bytes()) for path in (paths * 2)[:2]], []
    for _ in range(5):
        began = time.perf_counter()
        seen = uploads.films(files)
        reader.read(seen)
        [films.png(film.pixels) for film in seen]
        seconds.append(time.perf_counter() - began)
    return seconds


def guests(reader: Reader, cases: Cases, count: int, requests: int) -> dict[str, float]:
    """`count` guests at once drop the films of studies, `requests` in all."""
    studies = cases.offered[:10]
    contents = {study: [(path, Path(path).read_bytes()) for path in cases.every[study].paths[:4]] for study in studies}
    alone = {study: reader.read(uploads.films(contents[study])) for study in studies}

    def ask(number: int) -> str:
        study = studies[number % len(studies)]
        try:
            told = reader.read(uploads.films(contents[study]))
        except Exception as error:  # whatever it is, a guest was lost
            return f"lost: {error!r}"
        same = (told.text, told.neighbours) == (alone[study].text, alone[study].neighbours)
        return "served" if same and np.allclose(told.reliance, alone[study].reliance, atol=1e-4) else "mixed up"

    memories, began, told = [memory()], time.perf_counter(), []
    with ThreadPoolExecutor(count) as pool:
        for part in range(4):  # memory is looked at four times
            told += pool.map(ask, range(part * requests // 4, (part + 1) * requests // 4))
            memories.append(memory())
    figures = {kind: sum(answer.startswith(kind) for answer in told) for kind in ("served", "lost", "mixed up")}
    return figures | {"seconds": time.perf_counter() - began, "memory_mb": [round(value) for value in memories]}


def main() -> None:
    parser = argparse.ArgumentParser(description="How guests of make demo are served.")
    parser.add_argument("work", type=Path, help="a folder that make run wrote")
    parser.add_argument("--guests", type=int, default=20)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    work = options.work.resolve()
    figures = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "start": start(work)}
    cases, name = Cases.load(work), found.trained(work)[0]
    reader = Reader.load(work / "runs" / name, work)
    reader.read(cases.every[cases.offered[0]].films()[0])  # what is loaded with the first study
    figures |= {"run": name, "dropped": dropped(reader, cases.every[cases.offered[0]].paths)}
    figures["guests"] = guests(reader, cases, options.guests, options.requests)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
