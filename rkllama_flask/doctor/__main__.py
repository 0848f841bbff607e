"""Look at this machine, its settings and models, generate five tokens, and say what to do, in order of importance.

Exit code: 0 if nothing stands in the way of an answer, 1 if something does, 2 for wrong arguments.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rkllama_flask.doctor import hardware, report, software, trial
from rkllama_flask.doctor.finding import Finding, Level
from rkllama_flask.machine.platforms import this_platform
from rkllama_flask.progress import take_step
from rkllama_flask.settings import Settings, SettingsError


def main(arguments: list[str] | None = None) -> int:
    """Examine and report; the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--user", help="who runs the server, if it is not you: whose right to use the NPU is looked at")
    parser.add_argument("--no-generation", action="store_true", help="generate nothing, load nothing")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        help="where /sys, /proc and /dev are (%(default)s); another one is only read",
    )
    options = parser.parse_args(arguments)
    try:
        who = hardware.Identity.of(options.user)
    except KeyError:
        parser.error(f"there is no user {options.user}")
    generation = not options.no_generation and options.root == Path("/")
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    findings = []
    for finding in examine(options.root, who, generation=generation):
        findings.append(finding)
        if not options.json:
            print(report.line(finding, colour=colour), flush=True)
    print(report.as_json(findings) if options.json else report.conclusion(findings))
    return 0 if report.is_well(findings) else 1


def examine(root: Path, who: hardware.Identity, *, generation: bool) -> Iterator[Finding]:
    """Everything, from the chip up to an answer."""
    yield from hardware.examine(root, who)
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        yield Finding(Level.ERROR, "settings", "the server can't start with them", str(error))
        return
    on_board = this_platform(root / "proc") is not None
    yield from software.examine_libraries(settings, on_board=on_board)
    yield from software.examine_models(settings, root)
    yield from software.examine_memory(settings, root)
    yield from software.examine_settings(settings)
    running = trial.ask_running(settings)
    if running is None:
        yield software.examine_address(settings)
    else:
        yield Finding(Level.OK, "address", f"{settings.address}: the server runs, version {running['version']}")
    yield from software.examine_disk(settings)
    if generation:
        yield take_step("Generating five tokens", lambda: trial.generate(settings, running))


if __name__ == "__main__":
    sys.exit(main())
