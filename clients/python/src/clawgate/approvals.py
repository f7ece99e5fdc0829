"""Plans that wait for a person."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from .errors import ClawgateError
from .models import Approval, ApprovalDetails, Envelope
from .transport import LONGEST_LOOK, Again

if TYPE_CHECKING:
    from .client import Clawgate


class Approvals:
    """Lists, shows and waits for plans that need an approval.

    It does not sign. An approver signs what the approver saw: with ``clawgate approvals approve``, or
    with a passkey on the plan's page. A statement that was signed elsewhere can be handed in.
    """

    def __init__(self, gateway: Clawgate) -> None:
        self._gateway = gateway

    def list(self, *, state: str | None = None) -> list[Approval]:
        """Plans that wait, those that wait longest first; or those in another state."""
        return self._gateway.list_approvals(state=state)["approvals"]

    def show(self, run_id: str) -> ApprovalDetails:
        """One plan, with everything that its approvers are to see."""
        return self._gateway.show_approval(run_id)

    def wait(self, *, job_id: str | None = None, timeout: float | None = None) -> Approval:
        """Waits until a plan waits: one of a job's, or anybody's. The gateway tells; nothing is
        polled. A gateway that goes away is waited for. Raises ``Waited`` after ``timeout``
        seconds."""
        again = _again(timeout)
        while True:
            try:
                for event, about in self._events(again):
                    if event == "waiting" and job_id in (None, about["job_id"]):
                        return cast(Approval, about)
            except ClawgateError as error:
                again.pause(error)

    def wait_for_answer(self, run_id: str, *, timeout: float | None = None) -> ApprovalDetails:
        """Waits until a plan waits no longer, and tells where it stands then. A gateway that goes
        away is waited for. Raises ``Waited`` after ``timeout`` seconds."""
        again = _again(timeout)
        while True:
            try:
                # Whoever connects is told anew of those that wait.
                waits = False
                for event, about in self._events(again):
                    its = about.get("run_id") == run_id
                    waits = waits or (event == "waiting" and its)
                    if event == "ready" and not waits or event == "ended" and its:
                        break
                return self._look(run_id, again)
            except ClawgateError as error:
                again.pause(error)

    def submit(self, run_id: str, envelope: Envelope) -> ApprovalDetails:
        """Hands in an approver's signed yes or no. The signature counts, not who hands it in."""
        return self._gateway.submit_approval(run_id, {"envelope": envelope})

    def _events(self, again: Again) -> Iterator[tuple[str, dict[str, Any]]]:
        transport = self._gateway.transport
        for event in transport.events("/v1/approvals/watch", deadline=again.deadline):
            again.reached()
            yield event

    def _look(self, run_id: str, again: Again) -> ApprovalDetails:
        """Looks at a plan whenever something changes, until it waits no longer: where very many
        wait, the gateway tells of the first ones only."""
        revision: int | None = None
        while True:
            details = self.show(run_id)
            if details["state"] != "awaiting_approval":
                return details
            again.reached()
            wait = int(min(again.left() + 1, LONGEST_LOOK))
            job = details["job_id"]
            seen = self._gateway.watch_jobs(job=job, after=revision, wait=wait)
            revision = seen["revision"]


def _again(timeout: float | None) -> Again:
    return Again(None if timeout is None else time.monotonic() + timeout)


