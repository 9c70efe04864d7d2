"""python -m medcap_paddle.demo [WORK]: the page of app.py over the runs of a work folder. Not for clinical use.

`--check` shows nothing: its exit code is 0 where there is a trained run, 3 where there is none.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from ..runtime.files import MedcapError, cli_errors, require
from . import found

APP = Path(__file__).resolve().parents[2] / "app.py"
PORTS = range(8501, 8600)
NO_RUN = 3  # exit code


def free_port(address: str) -> int:
    """The first of `PORTS` that nobody listens on; MedcapError where there is none."""
    for port in PORTS:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((address, port))
                return port
            except PermissionError as error:
                raise MedcapError(f"{address} cannot be listened on ({error.strerror}): choose another") from error
            except OSError:
                continue
    raise MedcapError(f"all ports from {PORTS[0]} to {PORTS[-1]} of {address} are in use: give one with --port")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m medcap_paddle.demo", description="A page to try a run in.")
    parser.add_argument("work", nargs="?", default="work", help="the folder of make run")
    parser.add_argument("--address", default="127.0.0.1", help="0.0.0.0 lets others in: there is no password")
    parser.add_argument("--port", type=int, default=0, help=f"the first free one from {PORTS[0]} on")
    parser.add_argument("--weights", default="", help="the encoder's weights where they are not the usual file")
    parser.add_argument("--check", action="store_true", help=f"exit with 0; {NO_RUN} where there is no run")
    options = parser.parse_args()
    with cli_errors():
        names = found.trained(options.work)
        if options.check:
            sys.exit(0 if names else NO_RUN)
        if not names:
            raise MedcapError(f"{options.work} has no trained run: make run, or 01 to 05 of the notebooks")
        app, port = require(APP, "run this from a copy of the repository"), options.port or free_port(options.address)
        print(f"http://{options.address}:{port}  (run {names[0]} of {options.work}; Ctrl-C stops it)", flush=True)
    command = [sys.executable, "-m", "streamlit", "run", str(app), f"--server.address={options.address}"]
    os.environ |= {"WORK": str(Path(options.work).resolve()), "WEIGHTS": options.weights}
    os.chdir(APP.parent)  # where .streamlit/config.toml lies
    os.execv(sys.executable, [*command, f"--server.port={port}"])


if __name__ == "__main__":
    main()
