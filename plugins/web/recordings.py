"""Recorded flights: the list, the files themselves, and as CSV."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from fixgw import state
from fixgw.plugins.web import outside, series
from fixgw.plugins.web.guard import Act, Refusal, encode

RECORDER = "fixgw.plugins.recorder"
CHUNK_BYTES = 256 * 1024
STALL_S = 60.0  # without reading, until a download is given up
POINTS = 600  # of a chart
LONGEST_S = 1e7  # no recording is that long
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Recordings(Act):
    """What has to do with the directories of the recorders."""

    NEEDS = {"GET": "read"}

    async def get(self) -> None:
        found = await self.do(self.flights, outside.SECONDS)
        self.reply({"recordings": [{name: each[name] for name in each if name != "path"} for each in found]})

    def flights(self) -> list[dict[str, Any]]:
        """What ``fixgw flights`` knows of the recordings in the directories of our recorders."""
        loaded = self.hub.world.configuration()
        recorders = [c for c in loaded.connections if c.module == RECORDER] if loaded else []
        usual = state.path("recordings").parent / "recordings"
        places = [Path(name).expanduser() if (name := c.options.get("directory")) else usual for c in recorders]
        found = []
        for place in dict.fromkeys(loaded.directory / place if loaded else place for place in places or [usual]):
            if place.is_dir():
                found += json.loads(outside.printed("flights", "--json", "--directory", str(place)))
        self.hub.recordings = {each["name"]: Path(each["path"]) for each in found}
        return found

    async def find(self, name: str) -> Path:
        """The path of the recording `name`. Raises `Refusal` if the list has none of that name."""
        path = await self.do(lambda: self._look_up(name), outside.SECONDS)
        if path is None:
            raise Refusal(404, "file", f"there is no recording {name!r}")
        return path

    def _look_up(self, name: str) -> Path | None:
        """The path from the latest list, if the file is still there, or else from a new one: listing takes a while."""
        path = self.hub.recordings.get(name)
        if path is None or not path.is_file():
            self.flights()
            path = self.hub.recordings.get(name)
        return path


class OneRecording(Recordings):
    """A recording as it is, whole or a part of it; or as CSV."""

    async def get(self, name: str) -> None:  # type: ignore[override]
        path = await self.find(name)
        try:
            if self.get_query_argument("to", "") == "csv":
                import tempfile  # which loads much, for few

                with tempfile.TemporaryFile() as file:
                    words = ("export", str(path), "--to", "csv", "--output", "-")
                    await self.do(lambda: outside.write(file, *words), outside.SECONDS)
                    file.seek(0)
                    await self.send(file, f"{name}.csv", "text/csv; charset=utf-8")
            else:
                with await self.do(lambda: path.open("rb")) as file:
                    await self.send(file, path.name, "application/octet-stream")
        except TimeoutError:
            self.hub.complain("%s does not read %s on", self.who, path.name, about="download")
            self.request.connection.stream.close()  # type: ignore[union-attr]
        except OSError as error:
            raise Refusal(409, "disk", error.strerror or str(error)) from None

    async def send(self, file: IO[bytes], name: str, kind: str) -> None:
        size = os.fstat(file.fileno()).st_size
        start, end = self._wanted(size)
        self.set_header("Content-Type", kind)
        self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name, safe='')}")
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Content-Length", str(end - start))
        if self.request.method == "HEAD":
            return
        file.seek(start)
        while start < end:
            wanted = min(CHUNK_BYTES, end - start)
            chunk = await self.do(lambda wanted=wanted: file.read(wanted))  # type: ignore[misc]
            if not chunk:  # it was cut meanwhile
                self.request.connection.stream.close()  # type: ignore[union-attr]
                return
            start += len(chunk)
            self.write(chunk)
            await asyncio.wait_for(self.flush(), STALL_S)

    def _wanted(self, size: int) -> tuple[int, int]:
        """The part of the file that is asked for: from its first byte to before its last one. Sets the status."""
        asked = _RANGE.fullmatch(self.request.headers.get("Range", "").replace(" ", ""))
        if asked is None or asked[1] == asked[2] == "":
            return 0, size
        if asked[1] == "":
            start, end = max(0, size - int(asked[2])), size
        else:
            start, end = int(asked[1]), min(size, int(asked[2]) + 1 if asked[2] else size)
        if start >= end:
            raise Refusal(416, "range", "there is no such part of the file")
        self.set_status(206)
        self.set_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        return start, end


class Series(Recordings):
    """A stretch of a recording as points for a chart."""

    async def get(self, name: str) -> None:  # type: ignore[override]
        patterns = [key for key in self.get_query_argument("keys", "").split(",") if key]
        if len(patterns) > series.MOST_KEYS:
            raise Refusal(400, "value", f"{len(patterns)} keys: ask for {series.MOST_KEYS} at most")
        since, until = self._number("from") or 0.0, self._number("until")
        points = int(self._number("points") or POINTS)
        if until is not None and until < since + series.SHORTEST_S:
            raise Refusal(400, "value", f"`until` is at least {series.SHORTEST_S:g} s after `from`")
        if not 1 <= points <= series.MOST_POINTS:
            raise Refusal(400, "value", f"`points` is 1 to {series.MOST_POINTS}")
        path = await self.find(name)
        asked = encode({"patterns": patterns, "since": since, "until": until, "points": points}).decode()
        program = series.__name__
        self.reply(await self.do(lambda: outside.printed(str(path), asked, program=program), outside.SECONDS + 5.0))

    def _number(self, name: str) -> float | None:
        """The number called `name` in the query; None if there is none. Raises `Refusal`."""
        text = self.get_query_argument(name, "")
        try:
            number = float(text) if text else None
        except ValueError:
            number = LONGEST_S
        if number is not None and not 0.0 <= number < LONGEST_S:
            raise Refusal(400, "value", f"`{name}` is a number, and not negative")
        return number
