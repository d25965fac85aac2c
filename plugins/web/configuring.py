"""Requests that have to do with the configuration: its files, the modules there are, what the doctor says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fixgw.configuration import Configuration
from fixgw.configuration.secrets import mask_tree
from fixgw.errors import counted
from fixgw.plugins.web import files, outside
from fixgw.plugins.web.files import File
from fixgw.plugins.web.guard import Act, Refusal

T = TypeVar("T")


class Files(Act):
    """What has to do with the files of the configuration."""

    NEEDS = {"GET": "admin", "PUT": "admin", "POST": "admin"}

    def loaded(self) -> Configuration:
        found = self.hub.world.configuration()
        if found is None:
            raise Refusal(409, "absent", "there is no configuration")
        return found

    def file(self, name: Any) -> File:
        found = files.files_of(self.loaded()).get(str(name))
        if found is None:
            raise Refusal(404, "file", "the configuration has no such file")
        return found

    def facts(self, file: File) -> dict[str, Any]:
        text = file.text()
        return {**file.facts(self.loaded().file), "text": text, "revision": files.revision(text)}

    async def do(self, act: Callable[[], T], seconds: float = outside.SECONDS) -> T:
        try:
            return await super().do(act, seconds)
        except files.Changed as error:
            raise Refusal(409, "changed", str(error)) from None
        except OSError as error:
            raise Refusal(409, "disk", f"{error.filename or 'the file'}: {error.strerror or error}") from None

    def text_in(self, body: Mapping[str, Any]) -> str:
        text = body.get("text")
        if not isinstance(text, str):
            raise Refusal(400, "value", "`text` is a text")
        return text

    def reload(self, what: str) -> None:
        self.say(what)
        if answer := self.hub.world.reload():
            raise Refusal(409, "refused", f"saved, but not read again: {answer}")


class Config(Files):
    async def get(self) -> None:
        self.reply(await self.do(self._overview))

    def _overview(self) -> dict[str, Any]:
        loaded = self.loaded()
        return {
            "files": [file.facts(loaded.file) for file in files.files_of(loaded).values()],
            "effective": mask_tree(loaded.effective()),
            "problems": self.hub.world.status().get("configuration", {}).get("problems", []),
        }


class ConfigFile(Files):
    async def get(self, name: str) -> None:
        self.reply(await self.do(lambda: self.facts(self.file(name))))

    async def put(self, name: str) -> None:
        body = self.body()
        text, revision = self.text_in(body), str(body.get("revision"))
        self.mind_flight(body)
        verdict = await self.do(lambda: self._apply(name, text, revision))
        if verdict.problems:
            self.set_status(400)
            words = f"{counted(len(verdict.problems), 'problem')}: nothing was saved"
            self.reply({"error": words, "code": "problems", **verdict._asdict()})
            return
        self.reload(f"changes {name}")
        self.reply({**verdict._asdict(), "revision": files.revision(text)})

    def _apply(self, name: str, text: str, revision: str) -> files.Verdict:
        file = self.file(name)
        if not file.is_editable:
            raise Refusal(409, "disk", f"{name} cannot be changed here")
        verdict = files.check(self.loaded(), file, text)
        if not verdict.problems:
            file.replace(text, revision)
        return verdict


class ConfigCheck(Files):
    async def post(self) -> None:
        body = self.body()
        text = self.text_in(body)
        verdict = await self.do(lambda: files.check(self.loaded(), self.file(body.get("file")), text))
        self.reply(verdict._asdict())


class TakeBack(Files):
    async def post(self) -> None:
        body = self.body()
        self.mind_flight(body)
        facts = await self.do(lambda: self._take_back(body.get("file")))
        self.reload(f"takes {facts['name']} back")
        self.reply(facts)

    def _take_back(self, name: Any) -> dict[str, Any]:
        file = self.file(name)
        file.take_back()
        return self.facts(file)


class Modules(Files):
    async def get(self) -> None:
        self.reply(await self.do(lambda: outside.printed("plugins", "--json")))


class Doctor(Files):
    NEEDS = {"GET": "read"}

    async def get(self) -> None:
        self.reply(await self.do(lambda: outside.printed("doctor", "--json", str(self.loaded().file))))
