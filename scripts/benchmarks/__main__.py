"""Measures a server as its clients see it, and what it adds to the runtime.

Without a subcommand it is `speed`, against the server at 127.0.0.1:8080.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from scripts.benchmarks import own_cost, report, speed, structured
from scripts.benchmarks.client import ServerError
from scripts.benchmarks.results import Results
from scripts.benchmarks.wire import Unreachable


def main() -> int:
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument("--url", default="http://127.0.0.1:8080", help="the server (%(default)s)")
    server.add_argument("--api-key", default=os.environ.get("RKLLAMA_API_KEY", ""), help="or set RKLLAMA_API_KEY")
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    subcommands = parser.add_subparsers(metavar="WHAT")
    speed.add_to(subcommands, server)
    own_cost.add_to(subcommands)
    structured.add_to(subcommands, server)
    _add_report(subcommands)
    words = sys.argv[1:]
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words = ["speed", *words]
    arguments = parser.parse_args(words)
    try:
        arguments.run(arguments)
    except (ServerError, Unreachable) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _add_report(subcommands: Any) -> None:
    about = "Write the report and the plots of results again."
    parser = subcommands.add_parser("report", help=about, description=about)
    parser.add_argument("folder", type=Path, help="where results.json lies")
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> None:
    try:
        results = Results.read(arguments.folder / "results.json")
    except (OSError, ValueError) as error:
        raise ServerError(str(error)) from None
    for path in report.write(results, arguments.folder):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
