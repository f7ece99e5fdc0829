"""How calls travel: HTTP/1.1 over TLS, or in the clear to this very machine.

Redirects are not followed and proxies of the environment are not used: the credential goes to the
address that was given and nowhere else.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from .errors import ClawgateError, InsecureAddress, Refused, Unreachable, Waited

#: Largest answer that is read, in bytes; bundles of long jobs are the largest.
MAX_ANSWER_BYTES = 512 << 20

#: Longest line of an answer that goes on, in bytes.
MAX_LINE_BYTES = 8 << 20

#: Longest silence of such an answer, in seconds; a gateway says something every 15 seconds.
SILENCE = 50.0

#: Longest that the gateway waits for a change, in seconds.
LONGEST_LOOK = 30.0

#: First and longest pause before a wait goes on, in seconds; each is twice as long as the last.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0

#: How often a call that changes nothing is made, when the gateway cannot answer just now.
ATTEMPTS = 3

#: Statuses after which such a call is worth making again.
PASSING = (429, 502, 503, 504)


class Transport:
    """Makes calls with one credential. Threads may share it: each call has its own connection."""

    def __init__(
        self,
        url: str,
        credential: str,
        *,
        timeout: float,
        ca_file: str | None,
        allow_plaintext: bool,
    ) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not host or parts.username or parts.query:
            raise InsecureAddress("the address must be https://HOST or http://HOST")
        if parts.scheme == "http" and not (allow_plaintext or is_this_machine(host)):
            raise InsecureAddress(
                f"http://{host} would carry the credential in the clear; use https://, or "
                "allow_plaintext=True when something else protects the way"
            )
        credential = credential.strip()
        if not credential or not all("!" <= one <= "~" for one in credential):
            raise ClawgateError("the operator credential is empty or not plain text")
        self._host = host
        self._port = parts.port
        self._base = parts.path.rstrip("/")
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._credential = credential

    def __repr__(self) -> str:
        return f"Transport({self._host!r})"

    def ask(self, method: str, path: str, query: Mapping[str, object] | None, body: object) -> Any:
        """Makes a call and reads its answer."""
        answer = self.fetch(method, path, query, body)
        try:
            return json.loads(answer) if answer else None
        except ValueError as error:
            raise Unreachable(
                "the answer is not JSON; is this the operator listener of a Clawgate?"
            ) from error

    def fetch(
        self, method: str, path: str, query: Mapping[str, object] | None, body: object
    ) -> bytes:
        """Makes a call and reads its answer byte for byte. What changes nothing is tried again."""
        attempts = ATTEMPTS if method == "GET" else 1
        for attempt in range(1, attempts + 1):
            try:
                with self._open(method, path, query, body, self._timeout) as answer:
                    return self._whole(answer)
            except (Unreachable, Refused) as error:
                if attempt == attempts or not passes(error):
                    raise
            time.sleep(0.2 * attempt)
        raise AssertionError("the last attempt returns or raises")

    def events(
        self, path: str, *, deadline: float | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events, as they come. ``deadline`` is one of ``time.monotonic()``."""
        patience = SILENCE if deadline is None else min(SILENCE, deadline - time.monotonic())
        with self._open("GET", path, None, None, max(0.001, patience)) as answer:
            if answer.status != 200:
                self._whole(answer)
            name = ""
            while True:
                if deadline is not None and time.monotonic() >= deadline:
                    raise Waited("it did not come in time")
                answer.patience(deadline)
                line = answer.line()
                if not line:
                    raise Unreachable("the gateway ended the answer")
                if line.startswith(b"event: "):
                    name = line[7:].decode().strip()
                elif line.startswith(b"data: "):
                    yield name, json.loads(line[6:])

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        timeout: float,
    ) -> _Answer:
        said = {name: word(value) for name, value in (query or {}).items() if value is not None}
        address = self._base + path + (f"?{urlencode(said)}" if said else "")
        headers = {
            "Authorization": f"Bearer {self._credential}",
            "Accept": "application/json",
            "User-Agent": "clawgate-python/0.1.0",
        }
        sent = None
        if body is not None:
            sent = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = (
            HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
            if self._tls
            else HTTPConnection(self._host, self._port, timeout=timeout)
        )
        try:
            connection.request(method, address, sent, headers)
            return _Answer(connection, connection.getresponse())
        except (OSError, HTTPException) as error:
            connection.close()
            raise Unreachable(f"no answer from {self._host}: {error}") from error

    def _whole(self, answer: _Answer) -> bytes:
        read = answer.read()
        if 200 <= answer.status < 300:
            return read
        try:
            details = json.loads(read)
        except ValueError:
            details = None
        if not isinstance(details, dict):
            details = {"advice": "Is this the operator listener of a Clawgate?"}
        raise Refused(answer.status, details)


class Again:
    """Goes on with a wait that was cut off, until its deadline, one of ``time.monotonic()``.

    A gateway that was there is waited for; one that never was is tried as often as in any call.
    """

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self._reached = False
        self._failed = 0

    def left(self) -> float:
        """Seconds until the deadline; ``Waited`` when it is over."""
        if self.deadline is None:
            return float("inf")
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Waited("it did not come in time")
        return left

    def reached(self) -> None:
        """The gateway is there."""
        self._reached = True
        self._failed = 0

    def pause(self, error: ClawgateError) -> None:
        """Pauses after an error that passes by itself; any other one is raised."""
        self._failed += 1
        if not passes(error) or (self._failed >= ATTEMPTS and not self._reached):
            raise error
        pause = min(FIRST_PAUSE * 2 ** min(self._failed - 1, 10), LONGEST_PAUSE)
        time.sleep(min(pause, self.left()))


class _Answer:
    """An answer on its way, and the connection that it comes by."""

    def __init__(self, connection: HTTPConnection, response: HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        # The connection lets go of its socket when the answer ends it.
        self._socket = connection.sock
        self.status = response.status

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()

    def read(self) -> bytes:
        """All of it."""
        try:
            read = self._response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, HTTPException) as error:
            raise Unreachable(f"the answer broke off: {error}") from error
        # A read with a bound does not complain of an answer that ends too early.
        if self._response.length:
            raise Unreachable("the answer broke off")
        if len(read) > MAX_ANSWER_BYTES:
            raise Unreachable(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        return read

    def patience(self, deadline: float | None) -> None:
        """How long the next line may take."""
        if self._socket is not None and deadline is not None:
            self._socket.settimeout(min(SILENCE, max(0.001, deadline - time.monotonic())))

    def line(self) -> bytes:
        """The next line; nothing at the end."""
        try:
            line = self._response.readline(MAX_LINE_BYTES + 1)
        except (OSError, HTTPException) as error:
            raise Unreachable(f"the answer broke off: {error}") from error
        if len(line) > MAX_LINE_BYTES:
            raise Unreachable(f"a line has more than {MAX_LINE_BYTES} bytes")
        return line


def passes(error: ClawgateError) -> bool:
    """Whether an error may pass by itself: nobody answers, or the gateway cannot just now."""
    return isinstance(error, Unreachable) or (
        isinstance(error, Refused) and error.status in PASSING
    )


def quoted(part: str) -> str:
    """A variable part of a path."""
    # An address with such a part is another address to whoever tidies it on its way.
    if part in ("", ".", ".."):
        raise ClawgateError(f"`{part}` names nothing")
    return quote(part, safe="")


def is_this_machine(host: str) -> bool:
    """Whether a host's name is this very machine's, without asking anybody."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def word(value: object) -> str:
    """A value as a query has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
