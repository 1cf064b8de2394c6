"""The shop's front end: passes all on to the API and shows which pod served."""

import os
from http.client import HTTPConnection, HTTPException

from serving import Handler, serve

API, POD = os.environ["API"], os.environ["POD"]
TRIES = 3
CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 12.0


class Web(Handler):
    """Answers from the API."""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
        """Show the shop."""
        if self.path == "/healthz":
            self.answer(200, "ok")
        else:
            self.from_api("GET")

    def do_POST(self) -> None:  # noqa: N802
        """Take an order."""
        self.from_api("POST", self.body())

    def from_api(self, method: str, order: bytes | None = None) -> None:
        """Pass the API's answer on; ask again if there is none."""
        status, text = 502, "API: no answer"
        for _ in range(TRIES):
            connection = HTTPConnection(API, timeout=CONNECT_SECONDS)
            try:
                connection.connect()
                connection.sock.settimeout(ANSWER_SECONDS)
                connection.request(method, "/orders", body=order)
                answer = connection.getresponse()
                status, text = answer.status, answer.read().decode().strip()
                break
            except (OSError, HTTPException) as error:
                text = f"API: {type(error).__name__}"
            finally:
                connection.close()
        self.answer(status, f"{text} (served by {POD})")


serve(Web)
