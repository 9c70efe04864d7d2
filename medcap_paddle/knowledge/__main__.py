"""What a decoder may know beside images: knowledge.json, a graph, and knowledge.safetensors, all of it.

    python -m medcap_paddle.knowledge WORK

Reads reports.csv, images.csv and features.h5; only the studies of train. See `knowledge.graph`, `knowledge.remember`.
"""

import argparse
from pathlib import Path

from ..runtime.files import cli_errors
from . import graph, remember


def main() -> None:
    parser = argparse.ArgumentParser(prog="medcap_paddle.knowledge", description=__doc__.splitlines()[0])
    parser.add_argument("work", nargs="?", default="work", help="the folder with reports.csv and features.h5")
    parser.add_argument("--minimum", type=int, default=graph.GraphSettings.minimum, help="reports an entity needs")
    parser.add_argument("--neighbours", type=int, default=remember.NEIGHBOURS, help="studies that are asked")
    arguments = parser.parse_args()
    with cli_errors():
        work = Path(arguments.work)
        memory = remember.write(work, graph.GraphSettings(minimum=arguments.minimum), arguments.neighbours)
        print(remember.describe(memory))


if __name__ == "__main__":
    main()
