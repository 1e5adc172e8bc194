"""Records a history on a running server or ensemble, of any kind that speaks ZooKeeper's protocol.

Clients work at once on a few znodes: they get, set (with and without a version), create, delete and look. A znode gives
way to a fresh one after some hundred operations, so that unknown outcomes do not have to be kept in mind for ever.

An operation is written down only if it was sent: one that was refused before (no connection, no session, read-only)
had no effect. A read is never sent twice, because a second one may come to another server, without its `sync`.

Not here: checking, files, the command (`corekit.cli.check_cmd`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from typing import Any

import anyio

from corekit.client import Client, OutcomeUnknown, op
from corekit.errors import (
    BadVersionError,
    ConnectionLossError,
    KeeperError,
    NodeExistsError,
    NoNodeError,
    OperationTimeoutError,
    RequestTimeoutError,
    SessionExpiredError,
)
from corekit.testing.linear.history import (
    BAD_VERSION,
    CREATE,
    DELETE,
    EXISTS,
    GET,
    NO_NODE,
    NODE_EXISTS,
    OK,
    READS,
    SET,
    UNKNOWN,
    Operation,
)

OPERATIONS_PER_ZNODE = 400
ANSWER_SECONDS = 5.0  # then an outcome is unknown
PAUSE_SECONDS = 0.05  # after an operation that could not be sent
CLEAN_UP_SECONDS = 30.0

_ERRORS: tuple[tuple[type[KeeperError], str], ...] = (
    (NoNodeError, NO_NODE),
    (NodeExistsError, NODE_EXISTS),
    (BadVersionError, BAD_VERSION),
)
_UNSENT = (ConnectionLossError, SessionExpiredError, RequestTimeoutError, OperationTimeoutError)

Connect = Callable[[], AbstractAsyncContextManager[Client]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record.

    Attributes:
        root: a path that does not exist; it is made, and removed at the end.
        seconds: how long.
        clients: sessions.
        keys: znodes in use at a time.
        plain: read without `sync`.
        seed: of what is done; the answers, and so the history, still differ from run to run.
    """

    root: str
    seconds: float = 10.0
    clients: int = 8
    keys: int = 4
    plain: bool = False
    seed: int = 0


class Recorder:
    """Records one history.

    Args:
        connect: opens a session that outlasts failures of servers; called once a client.
        begin: opens the session that makes and removes the znodes.
        finished: called with each operation that is to stand in the history.

    Attributes:
        recorded: operations so far.
        unsent: operations that could not be sent, or were refused.
    """

    def __init__(
        self, connect: Connect, plan: Plan, finished: Callable[[Operation], None], begin: Connect | None = None
    ) -> None:
        self._connect = connect
        self._begin = begin or connect
        self._plan = plan
        self._finished = finished
        self._keys = [_Key(f"{plan.root}/{number}") for number in range(plan.keys)]
        self._made = plan.keys
        self._began = 0.0
        self.recorded = 0
        self.unsent = 0

    async def run(self) -> None:
        """Record for as long as was planned.

        Raises:
            CorekitError: the first session, or the clean-up, failed.
        """
        async with self._begin() as zk:
            await zk.ensure(self._plan.root)
            try:
                self._began = anyio.current_time()
                async with anyio.create_task_group() as tasks:
                    for number in range(self._plan.clients):
                        tasks.start_soon(self._client, f"c{number}", Random(f"{self._plan.seed}:{number}"))
            finally:
                with anyio.move_on_after(CLEAN_UP_SECONDS, shield=True):
                    await zk.within(CLEAN_UP_SECONDS).delete_tree(self._plan.root)

    def _now(self) -> float:
        return round(anyio.current_time() - self._began, 6)

    async def _client(self, name: str, random: Random) -> None:
        async with self._connect() as zk:
            one = zk.within(ANSWER_SECONDS)
            count = sessions = 0
            session = 0
            versions: dict[str, int] = {}
            while self._now() < self._plan.seconds:
                if one.session_id != session:  # the promises for plain reads are made to a session
                    session = one.session_id
                    sessions += 1
                count += 1
                key = self._key(random)
                request = _draw(random, f"{name}-{count}", versions.get(key))
                done = await self._do(one, f"{name}.{sessions}", key, request)
                if done is None or (done.plain and one.session_id != session):
                    self.unsent += 1
                    await anyio.sleep(PAUSE_SECONDS)
                    continue
                if done.result == OK and done.version is not None:
                    versions[key] = done.version
                elif done.result in (NO_NODE, OK):
                    versions.pop(key, None)
                if done.known or done.kind not in READS:
                    self.recorded += 1
                    self._finished(done)

    def _key(self, random: Random) -> str:
        at = random.randrange(len(self._keys))
        key = self._keys[at]
        key.left -= 1
        if not key.left:
            self._keys[at] = _Key(f"{self._plan.root}/{self._made}")
            self._made += 1
        return key.path

    async def _do(self, zk: Client, client: str, key: str, request: _Request) -> Operation | None:
        """One operation; None if it had no effect and tells nothing."""
        kind, value, expect = request
        call = self._now()
        result, version, zxid = OK, None, None
        try:
            answer = await _send(zk, kind, key, value, expect, self._plan.plain)
        except OutcomeUnknown:
            result = UNKNOWN
        except _UNSENT:
            return None
        except KeeperError as error:
            found = next((name for cls, name in _ERRORS if isinstance(error, cls)), None)
            if found is None:
                return None
            result = found
        else:
            if kind != DELETE:
                value = answer[0] if kind == GET else value
                version, zxid = answer[1].version, answer[1].mzxid
        return Operation(
            number=self.recorded + 1,
            client=client,
            kind=kind,
            key=key,
            call=call,
            end=math.inf if result == UNKNOWN else self._now(),
            result=result,
            value=value,
            expect=expect,
            version=None if kind == CREATE else version,
            zxid=zxid,
            plain=self._plan.plain and kind in READS,
        )


_Request = tuple[str, str | None, int]


@dataclass(slots=True)
class _Key:
    path: str
    left: int = OPERATIONS_PER_ZNODE


def _draw(random: Random, value: str, version: int | None) -> _Request:
    """What a client does next, with the version that it saw last (None: the znode was not there)."""
    if version is None and random.random() < 0.5:
        return CREATE, value, -1
    kind: str = random.choices([GET, SET, EXISTS, DELETE, CREATE], [45, 40, 5, 6, 4])[0]
    known = version is not None and random.random() < 0.5
    return (
        kind,
        value if kind in (SET, CREATE) else None,
        version if known and version is not None and kind in (SET, DELETE) else -1,
    )


async def _send(zk: Client, kind: str, key: str, value: str | None, expect: int, plain: bool) -> Any:
    """The answer: (text, Stat) of a get, (anything, Stat) of what has a Stat."""
    data = None if value is None else value.encode()
    if kind == CREATE:
        return await zk.call(op.create(key, data))
    if kind == SET:
        return None, await zk.call(op.set(key, data, expect))
    if kind == DELETE:
        return await zk.call(op.delete(key, expect))
    read: op.Request[Any] = op.get_nullable(key) if kind == GET else op.exists(key)
    requests: Sequence[op.Request[Any]] = [read] if plain else [op.sync(key), read]
    for request in requests:
        request.retry = False
    answer = (await zk.gather(*requests))[-1]
    if kind == EXISTS:
        return None, answer
    return None if answer[0] is None else answer[0].decode("utf-8", "replace"), answer[1]
