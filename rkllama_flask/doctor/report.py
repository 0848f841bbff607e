"""Findings for people and for programs."""

import json

from rkllama_flask.doctor.finding import Finding, Level, by_importance

_COLOURS = {Level.OK: "32", Level.NOTE: "36", Level.WARNING: "33", Level.ERROR: "31;1"}


def text(findings: list[Finding], *, colour: bool) -> str:
    """A line for each finding, then what to do, the most important first."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for one in findings:
        word = one.level.value.upper() if one.level in (Level.WARNING, Level.ERROR) else one.level.value
        shown = f"\x1b[{_COLOURS[one.level]}m{word:<7}\x1b[0m" if colour else f"{word:<7}"
        lines.append(f"{shown}  {one.subject:<{width}}  {one.says}")
    steps = by_importance(findings)
    if steps:
        lines += ["", "What to do, the most important first:"]
        lines += [f"{number:>2}. {one.do}" for number, one in enumerate(steps, 1)]
    lines += ["", _verdict(findings)]
    return "\n".join(lines)


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
