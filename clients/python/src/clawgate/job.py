"""One job, from its opening to its bundle."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from .errors import ClawgateError, Waited
from .models import Approval, ClosedJob, IssueToken, JobDetails, OpenJob, Run
from .transport import LONGEST_LOOK, passes

if TYPE_CHECKING:
    from .client import Clawgate

#: States that a run does not leave.
ENDS = frozenset(
    ("applied", "errored", "denied", "expired", "superseded", "discarded", "finished")
)


class Job:
    """An open job; closed, with its bundle sealed, at the end of the ``with``."""

    def __init__(
        self,
        gateway: Clawgate,
        *,
        name: str,
        contract: str | None = None,
        policy_hash: str | None = None,
        ttl_seconds: int | None = None,
        scopes: Sequence[str] | None = None,
    ) -> None:
        asked: OpenJob = {"name": name}
        if contract is not None:
            asked["contract"] = contract
        if policy_hash is not None:
            asked["policy_hash_b64u"] = policy_hash
        opened = gateway.open_job(asked)
        self._gateway = gateway
        self._ttl_seconds = ttl_seconds
        self._scopes = None if scopes is None else list(scopes)
        self._lock = threading.Lock()
        self._token = ""
        self._token_hash = ""
        self._renew_at = 0.0
        self._ends_at = 0.0
        self.id: str = opened["job_id"]
        #: The hash of the contract that the job is pinned to.
        self.policy_hash: str = opened["policy_hash_b64u"]
        #: What closing answered; nothing before.
        self.closed: ClosedJob | None = None

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.closed is not None:
            return
        if kind is None:
            self.close()
            return
        try:
            self.close(f"the program ended with {kind.__name__}")
        except ClawgateError as failure:
            # What went wrong first is what the caller has to know; but somebody must close the job.
            warnings.warn(f"{self.id} may still be open: {failure}", RuntimeWarning, stacklevel=2)

    def token(self) -> str:
        """A scoped token that is good now. It is issued at the first call, and renewed when two
        thirds of its life are over; while the gateway is busy or away, the last third is used up.
        Threads may share it."""
        with self._lock:
            now = time.monotonic()
            if now >= self._renew_at:
                try:
                    self._renew(now)
                except ClawgateError as error:
                    if now >= self._ends_at or not passes(error):
                        raise
            return self._token

    def _renew(self, now: float) -> None:
        asked: IssueToken = {"job_id": self.id}
        if self._ttl_seconds is not None:
            asked["ttl_seconds"] = self._ttl_seconds
        if self._scopes is not None:
            asked["scopes"] = self._scopes
        if self._token_hash:
            asked["renews"] = self._token_hash
        issued = self._gateway.issue_token(asked)
        self._token, self._token_hash = issued["token"], issued["token_hash"]
        self._renew_at = now + issued["expires_in"] * 2 / 3
        self._ends_at = now + issued["expires_in"]

    def show(self) -> JobDetails:
        """The job as it stands."""
        return self._gateway.show_job(self.id)

    def runs(self) -> list[Run]:
        """Its runs, oldest first."""
        return self._gateway.list_runs(self.id)["runs"]

    def wait_for_approval(self, *, timeout: float | None = None) -> Approval:
        """Waits until a plan of this job waits for a person."""
        return self._gateway.approvals.wait(job_id=self.id, timeout=timeout)

    def wait_for_run(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Waits until a run has ended, and tells how: see its ``gate`` and ``gate_reason``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        revision: int | None = None
        while True:
            left = LONGEST_LOOK if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise Waited(f"{run_id} has not ended in time")
            # The gateway answers when something changes; nothing is missed in between.
            wait = int(min(left + 1, LONGEST_LOOK))
            revision = self._gateway.watch_jobs(job=self.id, after=revision, wait=wait)["revision"]
            for run in self.runs():
                if run["run_id"] == run_id and run["gate"] in ENDS:
                    return run

    def close(self, reason: str = "done") -> ClosedJob:
        """Closes the job: its tokens end, and its bundle is sealed. Closing it again is no error."""
        self.closed = self._gateway.close_job(self.id, {"reason": reason})
        return self.closed

    def save_bundle(self, file: str | Path) -> Path:
        """Writes the sealed bundle, byte for byte. The job must be closed."""
        path = Path(file)
        path.write_bytes(self._gateway.bundle(self.id))
        return path


