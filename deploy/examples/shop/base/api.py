"""The shop's API: takes orders (POST /orders, the id is the body) and tells how many there are (GET /orders)."""

import time

from redis import ask
from serving import Handler, serve

PATIENCE = 11.0
"""Seconds that the database may be away, as while it is moved to another node."""


class Api(Handler):
    """Answers from the database."""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
        """Tell how many orders there are."""
        if self.path == "/healthz":
            self.answer(200, "ok")
        else:
            self.from_database("SCARD", "orders")

    def do_POST(self) -> None:  # noqa: N802
        """Take an order."""
        # A set: an order that is sent again because its answer was lost is one order.
        self.from_database("SADD", "orders", self.body().decode())

    def from_database(self, *command: str) -> None:
        """Pass the database's answer on, once it is there."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self.answer(200, str(ask(*command)))
            except (OSError, RuntimeError) as error:
                if time.monotonic() > end:
                    return self.answer(503, f"database: {error}")
                time.sleep(0.2)


serve(Api)
