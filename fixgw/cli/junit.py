"""Results of a bench as JUnit XML, in the form that pytest writes and Jenkins, GitLab and others read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from os.path import splitext
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:
    from fixgw.hw_sim.bench.judging import Verdict

DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'
#: Characters that XML 1.0 cannot contain.
_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Report(NamedTuple):
    """The outcome of one file. `trouble` says why it could not be run; empty if it was."""

    name: str
    verdicts: list[Verdict]
    seconds: float = 0.0
    properties: Mapping[str, object] = {}
    trouble: str = ""

    @property
    def failed(self) -> int:
        return sum(not verdict.met for verdict in self.verdicts)


def document(reports: Iterable[Report]) -> bytes:
    """One suite for each file, one case for each expectation."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    root = ElementTree.Element("testsuites", name="fixgw bench")
    for report in reports:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_fit(report.name),
            tests=str(len(report.verdicts) + bool(report.trouble)),
            failures=str(report.failed),
            errors=str(int(bool(report.trouble))),
            skipped="0",
            time=f"{report.seconds:.3f}",
            timestamp=now,
        )
        if report.properties:
            properties = ElementTree.SubElement(suite, "properties")
            for name, value in report.properties.items():
                ElementTree.SubElement(properties, "property", name=_fit(name), value=_fit(str(value)))
        for verdict in report.verdicts:
            case = _case(suite, report.name, verdict.title, verdict.took)
            if not verdict.met:
                text = f"{verdict.place}: {verdict.words}" if verdict.place else verdict.words
                ElementTree.SubElement(case, "failure", message=_fit(verdict.words)).text = _fit(text)
        if report.trouble:
            case = _case(suite, report.name, "it can be run", 0.0)
            first = report.trouble.partition("\n")[0]
            ElementTree.SubElement(case, "error", message=_fit(first)).text = _fit(report.trouble)
    ElementTree.indent(root)
    return f"{DECLARATION}\n{ElementTree.tostring(root, encoding='unicode')}\n".encode()


def _case(suite: ElementTree.Element, file: str, title: str, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=_fit(_class_of(file)), name=_fit(title), time=f"{seconds:.3f}"
    )


def _class_of(file: str) -> str:
    """The path with dots, as pytest has it: readers know a case by its class and name, whatever its suite."""
    path = PurePath(splitext(file)[0])
    return ".".join(part for part in path.parts if part not in (path.anchor, ".."))


def _fit(text: str) -> str:
    return _UNFIT.sub("?", text)
