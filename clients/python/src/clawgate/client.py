"""The client of one gateway."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .approvals import Approvals
from .errors import ClawgateError
from .job import Job
from .operations import Operations
from .transport import Transport, quoted

#: Where the operator listener is unless somebody says otherwise.
DEFAULT_URL = "http://127.0.0.1:8788"

#: How long an answer may take, in seconds: sealing a long job is the slowest.
TIMEOUT = 120.0


class Clawgate(Operations):
    """A gateway, as an operator reaches it. Threads may share one.

    Every operation of the operator API is a method; ``job``, ``approvals`` and ``bundle`` put them
    together. Without arguments it goes where ``CLAWGATE_OPERATOR`` and ``CLAWGATE_CREDENTIAL`` say,
    as the command line does.
    """

    def __init__(
        self,
        url: str | None = None,
        credential: str | None = None,
        *,
        timeout: float = TIMEOUT,
        ca_file: str | None = None,
        allow_plaintext: bool = False,
    ) -> None:
        url = url or os.environ.get("CLAWGATE_OPERATOR") or DEFAULT_URL
        credential = credential or os.environ.get("CLAWGATE_CREDENTIAL")
        if not credential:
            raise ClawgateError(
                "no operator credential: give one or set CLAWGATE_CREDENTIAL; "
                "`clawgate operator add` makes one"
            )
        self.transport = Transport(
            url, credential, timeout=timeout, ca_file=ca_file, allow_plaintext=allow_plaintext
        )
        #: Plans that wait for a person.
        self.approvals = Approvals(self)

    def __repr__(self) -> str:
        return f"Clawgate({self.transport!r})"

    def job(
        self,
        *,
        name: str,
        contract: str | None = None,
        policy_hash: str | None = None,
        ttl_seconds: int | None = None,
        scopes: Sequence[str] | None = None,
    ) -> Job:
        """Opens a job under a contract, named by its name or by a version's hash. Use it in a ``with``:
        it is closed, and its bundle sealed, at the end."""
        return Job(
            self,
            name=name,
            contract=contract,
            policy_hash=policy_hash,
            ttl_seconds=ttl_seconds,
            scopes=scopes,
        )

    def bundle(self, job_id: str) -> bytes:
        """The sealed bundle of a closed job, byte for byte."""
        return self.transport.fetch("GET", f"/v1/jobs/{quoted(job_id)}/bundle", None, None)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        *,
        as_text: bool = False,
    ) -> Any:
        if as_text:
            return self.transport.fetch(method, path, query, body).decode()
        return self.transport.ask(method, path, query, body)
