"""What `fixgw proxy` tells people: `Narrator` makes lines of events, `summary_lines` of a summary. Without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from fixgw.cli import text
from fixgw.errors import counted
from fixgw.netfix import sentence
from fixgw.netfix.overheard import Answered, Event, Summary, Told, Unanswered, Unclear, Wrote, verb_of, why_refused

GATHER_S = 1.0  # what happens within this time is told together
ONE_BY_ONE = 3  # as many of a kind are told with all details
NAMED = 6  # keys that are named of many
BUSIEST = 4
MAX_LINES = 10  # refusals, writes, changes of flags and so on, each
KEYS_IN_SUMMARY = 40


class _Batch:
    """What one client and the gateway have said since the last lines."""

    def __init__(self) -> None:
        self.answered: dict[str, list[Answered]] = {}
        self.refused: list[Answered] = []
        self.wrote: list[Wrote] = []
        self.flags: list[Told] = []
        self.others: list[Unanswered | Unclear] = []


class Narrator:
    """Makes lines for people. `offset` turns times into Unix time; updates are summed up `every` so many seconds, or
    told one by one with `everything`."""

    def __init__(self, offset: float, every: float, everything: bool = False) -> None:
        self._offset = offset
        self._every = every
        self._everything = everything
        self._batches: dict[int, _Batch] = {}
        self._told: dict[int, Counter[str]] = {}
        self._gathered_at = self._summed_at = float("-inf")

    def say(self, at: float, client: int, words: str) -> str:
        """A line about a client."""
        moment = datetime.fromtimestamp(at + self._offset).strftime("%H:%M:%S.%f")[:-3]
        return f"{moment} client {client}: {words}"

    def take(self, event: Event) -> list[str]:
        """Note an event; returns the lines that tell it at once."""
        if self._everything:
            return [self.say(event.at, event.client, _words(event))]
        batch = self._batches.setdefault(event.client, _Batch())
        if isinstance(event, Told):
            self._told.setdefault(event.client, Counter())[event.key] += 1
            if event.before is not None and event.before != event.flags:
                batch.flags.append(event)
        elif isinstance(event, Wrote):
            batch.wrote.append(event)
        elif isinstance(event, Answered):
            if event.error:
                batch.refused.append(event)
            else:
                batch.answered.setdefault(verb_of(event.command), []).append(event)
        elif isinstance(event, Unanswered | Unclear):
            batch.others.append(event)
        return []

    def tick(self, now: float) -> list[str]:
        """The lines that are due."""
        lines: list[str] = []
        if now - self._gathered_at >= GATHER_S:
            self._gathered_at = now
            for client in [*self._batches]:
                lines += self.flush(client)
        if now - self._summed_at >= self._every:
            seconds = min(now - self._summed_at, self._every)
            self._summed_at = now
            told, self._told = self._told, {}
            lines += [self.say(now, client, _told(counts, seconds)) for client, counts in told.items()]
        return lines

    def forget(self, client: int) -> None:
        """Sum up no more updates of a client that has gone."""
        self._told.pop(client, None)

    def flush(self, client: int) -> list[str]:
        """The lines about what has been noted of a client."""
        batch = self._batches.pop(client, None)
        if batch is None:
            return []
        found: list[tuple[float, str]] = []
        for verb, events in batch.answered.items():
            found += _one_by_one(events) if len(events) <= ONE_BY_ONE else [_together(verb, events)]
        for some, what in (
            (batch.refused, "refusals"),
            (batch.wrote, "writes"),
            (batch.flags, "changes of flags"),
            (batch.others, "lines that are unclear or have no answer"),
        ):
            found += _limited(some, what)
        return [self.say(at, client, words) for at, words in sorted(found, key=lambda each: each[0])]


def _one_by_one(events: Iterable[Event]) -> list[tuple[float, str]]:
    return [(event.at, _words(event)) for event in events]


def _limited(events: Iterable[Event], what: str) -> list[tuple[float, str]]:
    some = list(events)
    found = _one_by_one(some[:MAX_LINES])
    if len(some) > MAX_LINES:
        found.append((some[-1].at, f"{len(some) - MAX_LINES} more {what}"))
    return found


def _together(verb: str, events: list[Answered]) -> tuple[float, str]:
    keys = dict.fromkeys(sentence.parse(event.command).key for event in events)
    named = _named([key for key in keys if key])
    took = [event.seconds for event in events]
    words = f"{verb}, {len(events)} times{': ' if named else ''}{named}; answers after {_span(min(took), max(took))}"
    return events[0].at - events[0].seconds, words


def _named(keys: Sequence[str]) -> str:
    return ", ".join(keys[:NAMED]) + (" ..." if len(keys) > NAMED else "")


def _told(counts: Counter[str], seconds: float) -> str:
    total = counts.total()
    rates = [f"{key} {n / seconds:.3g}" for key, n in counts.most_common(BUSIEST)] if seconds else []
    words = f"told {len(counts)} keys {text.times(total)} in {text.duration(seconds)}"
    return f"{words}; a second: {', '.join(rates)}"


def _words(event: Event) -> str:
    """One event in words."""
    if isinstance(event, Answered):
        if event.error:
            why = why_refused(event.command, event.error)
            return f"{event.command} is refused after {_milliseconds(event.seconds)}: {why}"
        answer = (
            event.answer if len(event.answer) <= 100 else f"{event.answer[:80]}... ({len(event.answer)} characters)"
        )
        return f"{event.command} is answered after {_milliseconds(event.seconds)}: {answer}"
    if isinstance(event, Wrote):
        return (
            f"sets {event.key} to {text.value_text(event.value)}{f' with flags {event.flags}' if event.flags else ''}"
        )
    if isinstance(event, Told):
        before = f", before {_flags(event.before)}" if event.before not in (None, event.flags) else ""
        flags = f" ({_flags(event.flags)}{before})" if event.flags else ""
        return f"told {event.key} {text.value_text(event.value)}{flags}{f' {event.mark}' if event.mark else ''}"
    if isinstance(event, Unanswered):
        return f"{event.command} has no answer"
    if isinstance(event, Unclear):
        who = "the client" if event.side == "client" else "the gateway"
        return f"{who} sends what is no sentence: {event.line[:100]}"
    raise TypeError(event)


def _flags(bits: str | None) -> str:
    return text.flag_words(sentence.flag_bits(bits or ""))


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1.0 else f"{seconds:.3g} s"


def _span(low: float, high: float) -> str:
    return f"{_milliseconds(low)} to {_milliseconds(high)}"


def summary_lines(summary: Summary, name: str) -> Iterator[str]:
    """What happened with a client, for people; the busiest keys first."""
    subscribed = sum(key.subscribed for key in summary.keys.values())
    commands = ", ".join(f"{n} {verb}" for verb, n in summary.commands.items()) or "no commands"
    yield f"client {summary.client} ({name}): {text.duration(summary.seconds)}, {counted(subscribed, 'key')} subscribed"
    yield f"  commands: {commands}"
    if summary.latencies is not None:
        p50, p99, longest = map(_milliseconds, summary.latencies)
        yield f"  answers: half of them within {p50}, 99 % within {p99}, the longest {longest}"
    moments = (
        ("first answer", summary.first_answer),
        ("last subscription", summary.last_subscription),
        ("first value", summary.first_told),
    )
    if said := ", ".join(f"{what} after {_milliseconds(at)}" for what, at in moments if at is not None):
        yield f"  from the connection: {said}"
    if summary.unanswered or summary.unclear:
        yield f"  {summary.unanswered} commands without an answer, {summary.unclear} lines that are no sentences"
    for refusal, n in [*summary.refused.items()][:NAMED]:
        yield f"  refused {text.times(n)}: {refusal}"
    told = sorted((item for item in summary.keys.items() if item[1].told), key=lambda item: -item[1].told)
    rows = [("key", "told", "a second", "longest gap", "flags", "last value")]
    rows += [
        (
            key,
            f"{use.told}",
            f"{use.per_second:.3g}",
            text.duration(use.longest_gap),
            _flags(use.flags),
            text.value_text(use.value),
        )
        for key, use in told[:KEYS_IN_SUMMARY]
    ]
    yield from text.table(rows, "  ") if told else ()
    if len(told) > KEYS_IN_SUMMARY:
        yield f"  ... and {len(told) - KEYS_IN_SUMMARY} keys more that were told less often"
    never = [key for key, use in summary.keys.items() if use.subscribed and not use.told]
    if never:
        yield f"  subscribed, but never told: {counted(len(never), 'key')}: {_named(never)}"
    if summary.keys_left_out:
        yield f"  more keys than are counted here: {text.times(summary.keys_left_out)}"
