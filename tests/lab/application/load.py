"""Users of the shop: requests through the ingress controller without a pause, and what became of each."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

HOST = "shop.example"
USERS = 4
PAUSE = 0.1
"""Seconds between two requests of one user."""
BETWEEN = "(between these)"
PATIENCE = 15.0
"""Seconds after which a user gives a request up."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: when it began, how long it took, and its answer."""

    began: float
    seconds: float
    phase: str
    order: str
    """The order that was placed; empty for a look at the shop."""
    status: int
    """0 if there was no answer."""
    text: str

    @property
    def lost(self) -> bool:
        return self.status != 200


@dataclass(slots=True)
class Traffic:
    """All requests so far. The phase is what happens to the shop meanwhile."""

    address: str
    phase: str = BETWEEN
    done: list[Request] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Requests that begin in the block belong to this phase."""
        self.phase = phase
        try:
            yield
        finally:
            self.phase = BETWEEN

    def lost(self, phase: str) -> list[Request]:
        return [one for one in self.done if one.phase == phase and one.lost]

    def confirmed(self) -> set[str]:
        """Orders that the shop said it has."""
        return {one.order for one in self.done if one.order and not one.lost}

    def placed(self) -> set[str]:
        """Orders that were asked for, confirmed or not."""
        return {one.order for one in self.done if one.order}

    def table(self) -> str:
        """Requests, lost ones and times of each phase, as Markdown."""
        rows = ["| while | requests | lost | slowest, s | lost with |", "|---|---|---|---|---|"]
        for phase in dict.fromkeys(one.phase for one in self.done):
            found = [one for one in self.done if one.phase == phase]
            lost = Counter(str(one.status or one.text) for one in found if one.lost)
            told = ", ".join(f"{why}: {count}" for why, count in lost.most_common(3))
            slowest = max(one.seconds for one in found)
            rows.append(f"| {phase} | {len(found)} | {sum(lost.values())} | {slowest:.1f} | {told} |")
        return "\n".join(rows)

    def losses(self) -> str:
        """Each lost request, for who wants to know why."""
        first = min(one.began for one in self.done)
        return "\n".join(
            f"{one.began - first:.1f} s, {one.seconds:.1f} s long, {one.phase}: {one.status} {one.text[:100]}"
            for one in self.done
            if one.lost
        )

    def run(self, user: int) -> None:
        """One user, who places an order with every other request."""
        number = 0
        while not self._stop.wait(PAUSE):
            number += 1
            self.done.append(self._request(f"{user}-{number}" if number % 2 else ""))

    def _request(self, order: str) -> Request:
        began, phase = time.time(), self.phase
        status, text = 0, ""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        try:
            headers = {"Host": HOST, "Connection": "close"}
            if order:
                connection.request("POST", "/", body=quote(order), headers=headers)
            else:
                connection.request("GET", "/", headers=headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            text = type(error).__name__
        finally:
            connection.close()
        return Request(began, time.time() - began, phase, order, status, text)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def traffic(address: str) -> Iterator[Traffic]:
    """Users during the block."""
    made = Traffic(address)
    threads = [threading.Thread(target=made.run, args=(user,), name=f"user-{user}") for user in range(USERS)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.stop()
        for thread in threads:
            thread.join(2 * PATIENCE)
