"""What runs on one storage are computing now, so that none computes what another has begun.

    claims/log/NUMBER.json    a claim: whose, and what is claimed; or, in its place, that it was given back
    claims/log/NUMBER.floor   all claims up to this number are over; their files may be gone

Claims have a total order: each is made under the next number, which one run alone can make. **Of two claims that live
at once and overlap, the lower number owns what they share.** A run makes its claim, then reads the log, and takes out
what living claims of lower numbers hold. Why two runs never own the same:

- Numbers never come again. A run makes n + 1 where it saw n as the highest, so all below n existed at that time. A
  number's file goes away only after a floor at or above it was made, and floors only cover claims that are over. So a
  run that slept between looking and making, and makes a number that existed before, finds a floor at or above it when
  it lists the log *after* that; it takes its claim back and tries again. Else no higher number existed when it made
  its own.
- Hence every claim of a higher number was made after mine, and its maker's listing came after that: it sees mine. And
  my listing has all lower numbers, since they were made before mine.
- A claim only ever shrinks: it is narrowed to what is owned, then given back. Who read it before saw more, not less.

What the storage must do: make a file only where there is none (a hard link; If-None-Match on object storage), and list
what was made before, at least to who has just made something in the folder himself.

A claim whose run is dead (see raymc.store.drivers) is void for ever. A run that was taken for dead and lives goes on:
artefacts are made once and the first stays, so that work done twice is lost, and nothing else. A run gives its claims
back before it waits for others', so there is no deadlock.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from raymc.specs.errors import StorageFault
from raymc.store.drivers import Heart, Others, Process, lease_seconds, this_process
from raymc.store.objects import Objects

FOLDER = "claims/log"
_POLL = 1.5  # seconds between looks at others' claims while waiting
_SAID_EVERY = 300.0  # seconds after which it is said again what is waited for
_SPARING = 10  # times as long as a look at what is there takes passes before the next
_ONE = {"minima": "minimum"}
_TIDY = 8  # files of claims that are over are taken away when there are so many, and at the end


@dataclass(frozen=True)
class Claim:
    """A living claim of another run. Of a kind, what is claimed is any of `keys` in any of `groups`."""

    number: int
    process: Process
    kind: str
    groups: frozenset[str]
    keys: frozenset[str]

    def overlaps(self, kind: str, groups: Iterable[str], keys: Iterable[str], common: int = 1) -> bool:
        """`common`: with how many keys in common; 2 where the keys are the ends of pairs."""
        return kind == self.kind and not self.groups.isdisjoint(groups) and len(self.keys & {*keys}) >= common


@dataclass(frozen=True)
class Look:
    """The log at one time: its highest number, and the living claims of others."""

    highest: int
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Taken:
    """What a claim came to. `keys`: those that are ours until it ends, and no other living run's.

    `held`: others' claims that came before and overlap. `again`: others were at work since the caller looked at what
    is there: what is ours now may be finished, so look again.
    """

    keys: frozenset[str]
    held: tuple[Claim, ...] = ()
    again: bool = True


@dataclass
class Claims:
    """One run's claims on a storage. A run has one claim at a time; not for use by several threads.

    `say` is told what a person should know. `process`: who this is.
    """

    objects: Objects
    say: Callable[[str], None] = lambda line: None
    process: Process = field(default_factory=this_process)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Raises StorageFault for a lease that isn't a number."""
        lease = lease_seconds()
        self._heart = Heart(self.objects.quick(lease / 6), lease, self.say, self.process)
        self._others = Others(self.objects, lease, self.clock)
        self._own: set[int] = set()  # numbers of this run's claims
        self._over: set[int] = set()  # numbers of claims that are known to be over
        self._floor = self._highest = 0
        self._listed: list[str] = []
        self._there: list[int] = []  # numbers with a claim's file
        self._said: dict[tuple[str, str], float] = {}  # when it was said last

    # Claiming ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def take(
        self, kind: str, groups: Iterable[str], keys: Iterable[str], since: Look | None = None, pairs: bool = False
    ) -> Iterator[Taken]:
        """Claim for as long as the block takes. What others hold is left out, of `pairs` by the caller: see `held`.

        `keys`: with `pairs`, the ends of pairs, of which any two may be claimed. `since`: the look before the caller
        looked at what is there. Raises StorageFault.
        """
        groups, keys = frozenset(groups), frozenset(keys)
        if not keys:
            yield Taken(keys, (), False)
            return
        with self._heart:
            driver = self._heart.id
            number = self._make(_body(driver, kind, groups, keys))
            try:
                lower = [claim for claim in self._read(below=number) if claim.number < number]
                held = tuple(claim for claim in lower if claim.overlaps(kind, groups, keys, 2 if pairs else 1))
                ours = keys if pairs else keys.difference(*(claim.keys for claim in held))
                if ours and ours != keys:
                    self.objects.put(_name(number), _body(driver, kind, groups, ours))
                yield Taken(ours, held, self._changed(since, number))
            except BaseException:
                with contextlib.suppress(StorageFault):  # the first error tells; the claim ends with this run
                    self._give_back(number)
                raise
            self._give_back(number)

    def _make(self, body: bytes) -> int:
        """Make a claim; its number."""
        if not self._highest:
            self._list()
        while True:
            number = self._highest + 1
            made = self.objects.create(_name(number), body)
            self._list()
            if made and number > self._floor:
                self._own.add(number)
                return number
            if made:  # another's number, that was taken away since this run looked
                self.objects.delete(_name(number))

    def _give_back(self, number: int) -> None:
        self.objects.put(_name(number), b"{}")
        self._over.add(number)
        if len(self._over) >= _TIDY:
            self._list()
            self._tidy()

    def _changed(self, since: Look | None, number: int) -> bool:
        return since is None or bool(since.claims) or not self._own.issuperset(range(since.highest + 1, number))

    # Looking ----------------------------------------------------------------------------------------------------

    def look(self) -> Look:
        """Raises StorageFault."""
        self._list()
        return Look(self._highest, tuple(self._read()))

    def wait(
        self,
        held: Sequence[Claim],
        what: str,
        count: int | None = None,
        over: Callable[[], bool] = lambda: False,
        stop: threading.Event | None = None,
    ) -> None:
        """Until one of these claims is over, or `over` says that what is waited for is there, or `stop` is set.

        Nothing may be claimed meanwhile. Said of each run that is waited for, now and then: `count` (some) `what`, a
        plural. Raises StorageFault.
        """
        stop = stop or threading.Event()
        numbers = {claim.number for claim in held}
        pause = asked = 0.0
        while not stop.wait(pause):
            self._tell(held, what, count)
            pause, began = _POLL, time.monotonic()
            if began >= asked:
                if over():
                    return
                asked = began + _SPARING * (time.monotonic() - began)
            if not numbers <= {claim.number for claim in self.look().claims}:
                return

    def _tell(self, held: Sequence[Claim], what: str, count: int | None) -> None:
        named = _ONE.get(what, what.removesuffix("s")) if count == 1 else what
        some = named if count is None else f"{count} {named}"
        for process in sorted({str(claim.process) for claim in held}):
            now, said = self.clock(), self._said.get((what, process))
            if said is None or now - said >= _SAID_EVERY:
                self._said[what, process] = now
                self.say(
                    f"{'' if said is None else 'still '}waiting for {some} that another run ({process}) is computing"
                )

    def _list(self) -> None:
        """Take in which numbers there are."""
        self._listed = self.objects.list(FOLDER)
        floors = [_number(name) for name in self._listed if name.endswith(".floor")]
        self._there = [_number(name) for name in self._listed if name.endswith(".json")]
        self._floor = max([self._floor, *floors])
        self._highest = max([self._floor, self._highest, *self._there])
        self._over = {number for number in self._over if number > self._floor}

    def _read(self, below: int | None = None) -> list[Claim]:
        """The living claims of others, of those listed last."""
        bodies: dict[int, dict[str, Any]] = {}
        for number in self._there:
            known = number in self._over or number in self._own or number <= self._floor
            if known or (below is not None and number >= below):
                continue
            body = _read(self.objects.get(_name(number)))
            if body:
                bodies[number] = body
            else:  # given back, and perhaps taken away since
                self._over.add(number)
        living = self._others.living({body["driver"] for body in bodies.values()})
        self._over |= {number for number, body in bodies.items() if body["driver"] not in living}
        return [
            Claim(number, living[body["driver"]], body["kind"], frozenset(body["groups"]), frozenset(body["keys"]))
            for number, body in bodies.items()
            if body["driver"] in living
        ]

    # Taking away ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """This run is over. Raises StorageFault."""
        try:
            if self._own:
                self._list()
                self._read()
                self._tidy()
                if self._floor == self._highest:
                    self._others.forget()
        finally:
            self._heart.stop()

    def _tidy(self) -> None:
        """Raise the floor above the claims that are over, and take away what is below."""
        floor = self._floor
        while floor + 1 in self._over:
            floor += 1
        if floor > self._floor:
            self.objects.create(_name(floor, "floor"), b"")
            for name in self._listed:
                if _number(name) < floor or (_number(name) == floor and name.endswith(".json")):
                    self.objects.delete(name)
            self._floor = floor


def _body(driver: str, kind: str, groups: frozenset[str], keys: frozenset[str]) -> bytes:
    body = {"driver": driver, "kind": kind, "groups": sorted(groups), "keys": sorted(keys)}
    return json.dumps(body, separators=(",", ":")).encode()


def _read(content: bytes | None) -> dict[str, Any]:
    """A claim; {} for one that was given back, that is no longer there, or that can't be read."""
    try:
        return json.loads(content or b"{}")
    except ValueError:
        return {}


def _name(number: int, ending: str = "json") -> str:
    return f"{FOLDER}/{number:012d}.{ending}"


def _number(name: str) -> int:
    return int(name.rpartition("/")[2].partition(".")[0])
