"""Measures a running server as its clients see it. Each subcommand is one question."""

import argparse
import os
import sys

from scripts.benchmarks import cache, own_cost
from scripts.benchmarks.client import ServerError


def main() -> int:
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument("--url", default="http://127.0.0.1:8080", help="the server (%(default)s)")
    server.add_argument("--api-key", default=os.environ.get("RKLLAMA_API_KEY", ""), help="or set RKLLAMA_API_KEY")
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    subcommands = parser.add_subparsers(required=True, metavar="WHAT")
    for module in (cache,):
        module.add_to(subcommands, server)
    own_cost.add_to(subcommands)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
