"""Who may do what on the page: roles, the checks of a request's origin, and the tokens of paired browsers.

A role includes those before it: `read`, `write`, `bench`, `admin`. A host gets the highest that the options name for
its network: `allow` gives read, `write` gives write (and bench, where the option `bench` is on), `admin` everything.
A browser on this computer may also show a token, and gets the higher of the two. A browser elsewhere needs both, and
gets the lower; without a token it may read if the option `open` says so.

A token is what a browser gets for the code that ``fixgw web pair`` prints. The file of `Tokens`, which the command and
the gateway share, has neither of them, only their hashes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

import msgspec

from fixgw import state
from fixgw.clock import now as clock_now
from fixgw.errors import FixgwError
from fixgw.net.access import Address, Networks, address_of

Role = Literal["read", "write", "bench", "admin"]
#: From the least to the most.
ROLES: tuple[Role, ...] = get_args(Role)

CODE_S = 300.0  # how long a code is good
MOST_FAILURES = 10  # wrong codes within
FAILURES_S = 60.0
MOST_CODES = 16
MOST_TOKENS = 100
LONGEST_NAME = 40
#: No letters and digits that people mistake for each other.
LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
CODE_LENGTH = 8


class Access:
    """The roles of hosts and tokens, from the options."""

    def __init__(
        self,
        allow: Iterable[str],
        write: Iterable[str],
        admin: Iterable[str],
        *,
        open: bool = False,
        bench: bool = False,
        names: Iterable[str] = (),
    ) -> None:
        self.bench = bench
        self._open = open
        self._names = {name.lower() for name in names}
        self._networks: tuple[tuple[Role, Networks], ...] = (
            ("admin", Networks(admin)),
            ("bench" if bench else "write", Networks(write)),
            ("read", Networks(allow)),
        )

    def network_role(self, address: Address) -> Role | None:
        """The highest role of a host at `address`."""
        return next((role for role, networks in self._networks if address in networks), None)

    def role(self, address: Address, token: Role | None) -> Role | None:
        """The role of a browser at `address` whose token, if any, has the role `token`."""
        network = self.network_role(address)
        if address.is_loopback:
            return max((network, token), key=_height)
        if network is None:
            return None
        if token is None:
            return "read" if self._open else None
        return min((network, token), key=_height)

    def permissions(self, role: Role | None) -> list[Role]:
        """What a role may do. Nobody is on the bench where there is none."""
        return [r for r in ROLES[: _height(role)] if r != "bench" or self.bench]

    def is_our_host(self, host: str, local: str) -> bool:
        """Whether the Host of a request is this gateway: the address `local` that was called, or one of its names.

        Another name leads here if a page of somebody else has its name resolved to our address.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name == "localhost" or name in self._names:
            return True
        try:
            address = address_of(name)
            return address.is_loopback or address == address_of(local)
        except ValueError:
            return False


def is_same_origin(origin: str | None, host: str) -> bool:
    """Whether a request with this Origin comes from a page of the Host that it names."""
    scheme, colon, rest = (origin or "").partition("://")
    return bool(colon) and scheme in ("http", "https") and rest.lower() == host.lower()


def _height(role: Role | None) -> int:
    return 0 if role is None else ROLES.index(role) + 1


# -- tokens ------------------------------------------------------------------------------------------------------------


class Code(msgspec.Struct, forbid_unknown_fields=True):
    """A code that nobody has used. It is good until `expires`, in seconds of the computer's `boot`."""

    hash: str
    role: Role
    name: str
    expires: float
    boot: str


class Token(msgspec.Struct, forbid_unknown_fields=True):
    """A paired browser."""

    hash: str
    role: Role
    name: str
    paired: str


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    codes: list[Code] = []
    tokens: list[Token] = []


class Paired(NamedTuple):
    """A browser that was paired just now; `token` is its secret."""

    token: str
    name: str
    role: Role


class PairingError(FixgwError):
    """A code that is not good; `too_many` if nobody is even asked because of too many wrong ones."""

    def __init__(self, message: str, too_many: bool = False) -> None:
        self.too_many = too_many
        super().__init__(message)


class Tokens:
    """The codes and tokens in the file `path`. Any thread, and several processes, may use them.

    `clock` returns seconds since the computer has started. Methods raise OSError if the file cannot be used.
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = clock_now) -> None:
        self.path = path or state.path("web")
        self._clock = clock
        self._boot = _boot_id()
        self._failures: deque[float] = deque(maxlen=MOST_FAILURES)
        self._seen: tuple[int, ...] | None = None
        self._by_hash: dict[str, Token] = {}

    def pair(self, role: Role, name: str = "") -> str:
        """Make a code for a browser that is to be called `name`. Raises ValueError for a name that is taken."""
        secret = "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))
        name = "".join(c if c.isprintable() else " " for c in name).strip()[:LONGEST_NAME]
        with self._changing() as kept:
            kept.codes = [c for c in kept.codes if self._is_good(c)][-MOST_CODES + 1 :]
            taken = {token.name for token in kept.tokens} | {code.name for code in kept.codes}
            if name in taken:
                raise ValueError(f"{name!r} is paired already: choose another name, or revoke that one")
            if len(kept.tokens) >= MOST_TOKENS:
                raise ValueError(f"{MOST_TOKENS} browsers are paired already: revoke some")
            name = name or next(n for i in range(1, 1000) if (n := f"browser {i}") not in taken)
            expires = self._clock() + CODE_S
            kept.codes.append(Code(hash=_hash(secret), role=role, name=name, expires=expires, boot=self._boot))
        return f"{secret[:4]}-{secret[4:]}"

    def redeem(self, code: str) -> Paired:
        """Exchange a code for a token. A code is good once. Raises `PairingError`."""
        now = self._clock()
        while self._failures and now - self._failures[0] >= FAILURES_S:
            self._failures.popleft()
        if len(self._failures) >= MOST_FAILURES:
            raise PairingError("too many wrong codes: wait a minute", too_many=True)
        given = _hash("".join(c for c in code.upper() if c in LETTERS))
        with self._changing() as kept:
            found = next((c for c in kept.codes if c.hash == given and self._is_good(c)), None)
            kept.codes = [c for c in kept.codes if c is not found and self._is_good(c)]
            if found is not None:
                token = secrets.token_urlsafe(32)
                paired = datetime.now(UTC).isoformat(timespec="seconds")
                kept.tokens.append(Token(hash=_hash(token), role=found.role, name=found.name, paired=paired))
                return Paired(token, found.name, found.role)
            self._failures.append(now)  # even if the disk is full
        raise PairingError("this code is wrong, used or older than five minutes: `fixgw web pair` prints a new one")

    def find(self, token: str | None) -> Token | None:
        """The paired browser that shows `token`; None if there is none, or no longer."""
        if not token:
            return None
        with suppress(OSError):
            self._refresh()
        return self._by_hash.get(_hash(token))

    def all(self) -> list[Token]:
        """The paired browsers, in the order of their pairing."""
        self._refresh()
        return list(self._by_hash.values())

    def revoke(self, name: str) -> bool:
        """Forget a paired browser. Returns whether there was one of this name."""
        with self._changing() as kept:
            before = len(kept.tokens)
            kept.tokens = [token for token in kept.tokens if token.name != name]
            return len(kept.tokens) < before

    def _is_good(self, code: Code) -> bool:
        return code.boot == self._boot and 0 < code.expires - self._clock() <= CODE_S

    def _refresh(self) -> None:
        """Read the file if it has changed."""
        try:
            facts = os.stat(self.path)
            seen: tuple[int, ...] | None = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        except FileNotFoundError:
            seen = None
        if seen != self._seen or seen is None:
            self._by_hash = {}  # so that nobody gets in while it cannot be read
            self._by_hash = {token.hash: token for token in self._read().tokens}
            self._seen = seen

    def _read(self) -> _Kept:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Kept)
        except (FileNotFoundError, msgspec.DecodeError):  # whoever damages it has to pair again
            return _Kept()

    @contextmanager
    def _changing(self) -> Iterator[_Kept]:
        """Read the file, and write it if it was changed. Other processes wait meanwhile."""
        folder = self.path.parent
        os.makedirs(folder, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = self._read()
            before = msgspec.json.encode(kept)
            try:
                yield kept
            finally:
                if msgspec.json.encode(kept) != before:
                    text = json.dumps(msgspec.to_builtins(kept), indent=1)
                    state.replace(self.path, text.encode(), mode=0o600)
                    owner = os.fstat(lock)
                    if os.geteuid() != owner.st_uid:  # root pairs a browser for the service's user
                        with suppress(PermissionError):
                            os.chown(self.path, owner.st_uid, owner.st_gid)
        finally:
            os.close(lock)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _boot_id() -> str:
    """What distinguishes this start of the computer from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def status(tokens: Iterable[Token]) -> list[dict[str, Any]]:
    """The paired browsers for people, without anything secret."""
    return [{"name": token.name, "role": token.role, "paired": token.paired} for token in tokens]
