"""Client of the Clawgate operator API: jobs, scoped tokens, approvals and evidence."""

from .approvals import Approvals
from .client import Clawgate
from .errors import ClawgateError, InsecureAddress, NotVerified, Refused, Unreachable, Waited
from .evidence import verify
from .job import Job

__all__ = [
    "Approvals",
    "Clawgate",
    "ClawgateError",
    "InsecureAddress",
    "Job",
    "NotVerified",
    "Refused",
    "Unreachable",
    "Waited",
    "verify",
]
