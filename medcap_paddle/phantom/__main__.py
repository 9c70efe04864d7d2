"""python -m medcap_paddle.phantom FOLDER [--studies N | --redraw SOURCE | --pneumothorax N] [--seed S] [--size S]"""

import argparse

from ..runtime.files import cli_errors
from . import pneumothorax
from .collection import SIZE, make, redraw


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m medcap_paddle.phantom", description="Make a phantom collection.")
    parser.add_argument("folder", help="where the collection goes: an empty folder, or one that this command made")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--studies", type=int, default=2400, help="frontal and lateral radiographs with reports")
    kind.add_argument(
        "--redraw", metavar="SOURCE", help="keep the reports of SOURCE, draw its images from their MeSH terms"
    )
    kind.add_argument(
        "--pneumothorax", type=int, metavar="N", help="N frontal radiographs with masks, 22%% with pneumothorax"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels of a side")
    options = parser.parse_args()
    with cli_errors():
        if options.redraw:
            redraw(options.redraw, options.folder, options.seed, options.size)
        elif options.pneumothorax is not None:
            pneumothorax.make(options.folder, options.pneumothorax, options.seed, options.size)
        else:
            make(options.folder, options.studies, options.seed, options.size)


if __name__ == "__main__":
    main()
