"""What can go wrong. Every error of this package is a ``ClawgateError``."""

from __future__ import annotations

from typing import Any


class ClawgateError(Exception):
    """Something was not done."""


class InsecureAddress(ClawgateError, ValueError):
    """The credential would travel in the clear, or the address is none."""


class Unreachable(ClawgateError):
    """No answer: the gateway is down, somebody else answers there, or it took too long.

    Whether the call was carried out is not known.
    """


class Waited(ClawgateError, TimeoutError):
    """What was waited for did not come in time."""


class Refused(ClawgateError):
    """The gateway said no (RFC 9457). Compare ``code``, which is stable; the texts are for people."""

    def __init__(self, status: int, details: dict[str, Any]) -> None:
        self.status = status
        #: The reason, for programs: see docs/reason-codes.md.
        self.code = str(details.get("code", ""))
        self.title = str(details.get("title", f"HTTP {status}"))
        #: What exactly was wrong.
        self.detail = str(details.get("detail", ""))
        #: What to do next.
        self.advice = str(details.get("advice", ""))
        #: Every single thing that was wrong, where several were looked at.
        self.errors: list[dict[str, Any]] = list(details.get("errors") or [])
        said = self.title if self.detail in ("", self.title) else f"{self.title}: {self.detail}"
        reason = f" ({self.code})" if self.code else ""
        super().__init__(f"{said}{reason}" + (f". {self.advice}" if self.advice else ""))


class NotVerified(ClawgateError):
    """``clawverify`` does not call the bundle valid, or cannot be run."""
