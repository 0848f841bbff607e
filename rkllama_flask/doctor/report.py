"""Findings for people and for programs."""

import json

from rkllama_flask.doctor.finding import Finding, Level, by_importance

_COLOURS = {Level.OK: "32", Level.NOTE: "36", Level.WARNING: "33", Level.ERROR: "31;1"}


_SUBJECT_WIDTH = len("configuration")


def line(finding: Finding, *, colour: bool) -> str:
    """One finding."""
    word = finding.level.value.upper() if finding.level in (Level.WARNING, Level.ERROR) else finding.level.value
    shown = f"\x1b[{_COLOURS[finding.level]}m{word:<7}\x1b[0m" if colour else f"{word:<7}"
    return f"{shown}  {finding.subject:<{_SUBJECT_WIDTH}}  {finding.says}"


def conclusion(findings: list[Finding]) -> str:
    """What to do, the most important first, and how it stands."""
    lines = [""]
    if steps := by_importance(findings):
        lines += ["What to do, the most important first:"]
        lines += [f"{number:>2}. {one.do}" for number, one in enumerate(steps, 1)]
        lines += [""]
    return "\n".join([*lines, _verdict(findings)])


def as_json(findings: list[Finding]) -> str:
    """`{"ok", "findings": [{"level", "subject", "says", "do"}], "todo": […]}`."""
    value = {
        "ok": is_well(findings),
        "findings": [
            {"level": one.level.value, "subject": one.subject, "says": one.says, "do": one.do} for one in findings
        ],
        "todo": [one.do for one in by_importance(findings)],
    }
    return json.dumps(value, indent=2, ensure_ascii=False)


def is_well(findings: list[Finding]) -> bool:
    """Whether nothing stands in the way of an answer."""
    return all(one.level is not Level.ERROR for one in findings)


def _verdict(findings: list[Finding]) -> str:
    if not is_well(findings):
        return "It can't work like this."
    if any(one.level is Level.WARNING for one in findings):
        return "It works, and could be better."
    return "All is well."
