"""Service registry: where a service runs, and which instance to use next.

Promises: an instance is listed while its process is alive (see `presence`); `pool.pick()` answers from a list that
follows the registry, without a request; it never gives an instance that was known to be gone.
Failures: an instance that died stays listed until its session expires: try another (`pick(avoid=...)`). Without a
connection the last list is used.
Cost: as `group.Group`; one reader per pool, however many picks.
Znodes: BASE/<service>/<id>, ephemeral, data = JSON with the keys of Curator's ServiceInstance (name, id, address,
port, payload, registrationTimeUTC, serviceType).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from corekit.client import Client
from corekit.client.follow import Mapped
from corekit.client.paths import join
from corekit.client.tasks import alongside
from corekit.errors import CorekitError, RequestTimeoutError
from corekit_recipes.group import Group, Member
from corekit_recipes.presence import presence


class NoInstance(CorekitError):
    """No instance of a service is known, or all are to be avoided."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One running instance.

    Attributes:
        payload: anything that JSON can hold; `load` and `weight` in a dictionary are used by the strategies.
    """

    name: str
    address: str
    port: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    payload: Any = None

    @property
    def endpoint(self) -> str:
        """`address:port`, as URLs want it: an IPv6 address is in brackets."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def encode(self) -> bytes:
        """As JSON, in Curator's form."""
        return json.dumps(
            {
                "name": self.name,
                "id": self.id,
                "address": self.address,
                "port": self.port,
                "sslPort": None,
                "payload": self.payload,
                "registrationTimeUTC": round(time.time() * 1000),
                "serviceType": "DYNAMIC",
                "uriSpec": None,
            }
        ).encode()

    @property
    def load(self) -> float:
        """What the instance says of its load; 0 if it says nothing."""
        return self._number("load", 0.0)

    @property
    def weight(self) -> float:
        """Its share of the work; 1 if it says nothing."""
        return self._number("weight", 1.0)

    def _number(self, key: str, default: float) -> float:
        """From the payload, which strangers write: what is no number of 0 or more says nothing."""
        said = self.payload.get(key) if isinstance(self.payload, dict) else None
        return float(said) if isinstance(said, int | float) and 0 <= said < math.inf else default


def decode(data: bytes) -> Instance | None:
    """An instance from JSON; None if it is something else."""
    try:
        found = json.loads(data)
        port = found.get("port") or found.get("sslPort") or 0
        return Instance(str(found["name"]), str(found["address"]), int(port), str(found["id"]), found.get("payload"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


# ---------------------------------------------------------------------------------------- strategies
Strategy = Callable[[Sequence[Instance], "Pool", str | None], Instance]


def round_robin(instances: Sequence[Instance], pool: Pool, key: str | None) -> Instance:
    """One after another."""
    pool.turn += 1
    return sorted(instances, key=lambda instance: instance.id)[pool.turn % len(instances)]


def at_random(instances: Sequence[Instance], pool: Pool, key: str | None) -> Instance:
    """Any, in proportion to the weights."""
    weights = [instance.weight for instance in instances]
    return random.choices(instances, weights)[0] if sum(weights) > 0 else random.choice(instances)


def least_loaded(instances: Sequence[Instance], pool: Pool, key: str | None) -> Instance:
    """The one with the least load: what it says itself, and what we are using it for (`Pool.use`), by its weight."""

    def load(instance: Instance) -> float:
        return (instance.load + pool.in_use.get(instance.id, 0)) / max(instance.weight, 1e-9)

    least = min(map(load, instances))
    return random.choice([instance for instance in instances if load(instance) == least])


def rendezvous(instances: Sequence[Instance], pool: Pool, key: str | None) -> Instance:
    """The same instance for the same key for everybody, as long as it lives; others keep theirs when one goes."""

    def score(instance: Instance) -> bytes:
        return hashlib.blake2b(f"{key or ''}\0{instance.id}".encode(), digest_size=8).digest()

    return max(instances, key=score)


# ------------------------------------------------------------------------------------------ registry
class Services:
    """`Services(zk, "/services")`: registers instances and finds them."""

    def __init__(self, zk: Client, base: str) -> None:
        self.zk = zk
        self.base = base

    @asynccontextmanager
    async def register(self, instance: Instance) -> AsyncIterator[Registration]:
        """Be listed while a block runs: `async with services.register(Instance("api", "10.0.0.1", 80)): ...`"""
        path = join(join(self.base, instance.name), instance.id)
        async with presence(self.zk, path, instance.encode()) as here:
            yield Registration(instance, here.set)

    async def names(self) -> list[str]:
        """Services that have, or had, an instance."""
        return sorted(await self.zk.children(self.base)) if await self.zk.exists(self.base) else []

    async def instances(self, name: str) -> list[Instance]:
        """The instances of a service now, longest registered first."""
        return _instances(await self._group(name).members())

    def follow(self, name: str) -> AsyncIterator[list[Instance]]:
        """The instances now, and again when some come or go. What an instance says later is seen then."""

        async def convert(members: list[Member]) -> list[Instance]:
            return _instances(members)

        return Mapped(self._group(name).follow(), convert)

    @asynccontextmanager
    async def pool(self, name: str, strategy: Strategy = round_robin) -> AsyncIterator[Pool]:
        """`async with services.pool("api", rendezvous) as pool: pool.pick(key=user)`: picks without requests."""
        pool = Pool(name, strategy)

        async def keep() -> None:
            while True:
                try:
                    async for instances in self.follow(name):
                        pool.update(instances)
                except RequestTimeoutError:  # the client's `call_timeout`, without a connection
                    if not pool.known.is_set():
                        raise

        async with alongside(keep):
            await pool.known.wait()
            yield pool

    def _group(self, name: str) -> Group:
        return Group(self.zk, join(self.base, name), marker="")


@dataclass(slots=True)
class Registration:
    """A registered instance."""

    instance: Instance
    _write: Callable[[bytes], Any]

    async def set_payload(self, payload: Any) -> None:
        """Change what the instance says of itself. Pools see it when the list changes next."""
        self.instance = Instance(
            self.instance.name, self.instance.address, self.instance.port, self.instance.id, payload
        )
        await self._write(self.instance.encode())


class Pool:
    """The instances of one service, kept up to date; made by `Services.pool`."""

    def __init__(self, name: str, strategy: Strategy) -> None:
        self.name = name
        self.strategy = strategy
        self.instances: list[Instance] = []
        self.known = anyio.Event()
        self.turn = -1
        self.in_use: dict[str, int] = {}
        self._changed = anyio.Event()

    def update(self, instances: list[Instance]) -> None:
        """The registry has changed."""
        self.instances = instances
        self.known.set()
        self._changed.set()
        self._changed = anyio.Event()

    def pick(self, *, key: str | None = None, avoid: Sequence[str] = ()) -> Instance:
        """An instance to use.

        Args:
            key: for `rendezvous`: what the instance is wanted for.
            avoid: ids of instances that have just failed.

        Raises:
            NoInstance: there is none.
        """
        instances = [instance for instance in self.instances if instance.id not in avoid]
        if not instances:
            raise NoInstance(f"no instance of {self.name} is known" + (" beside those to avoid" if avoid else ""))
        return self.strategy(instances, self, key)

    @contextmanager
    def use(self, *, key: str | None = None, avoid: Sequence[str] = ()) -> Iterator[Instance]:
        """Pick an instance and count it as in use while a block runs (for `least_loaded`)."""
        instance = self.pick(key=key, avoid=avoid)
        self.in_use[instance.id] = self.in_use.get(instance.id, 0) + 1
        try:
            yield instance
        finally:
            left = self.in_use[instance.id] - 1
            if left:
                self.in_use[instance.id] = left
            else:
                del self.in_use[instance.id]

    async def wait(self) -> None:
        """Wait until there is an instance."""
        while not self.instances:
            await self._changed.wait()


def _instances(members: list[Member]) -> list[Instance]:
    return [instance for member in members if (instance := decode(member.data)) is not None]
