"""What the Python client says when something goes wrong."""

import contextlib
import os
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from unittest import mock

import conformance
from clawgate import (
    Clawgate,
    ClawgateError,
    InsecureAddress,
    NotVerified,
    Refused,
    Unreachable,
    Waited,
    verify,
)

BUSY = (503, {"Content-Type": "application/problem+json"}, b'{"code":"OVERLOADED","title":"busy"}')
OPERATOR, CREDENTIAL = os.environ["CLAWGATE_OPERATOR"], os.environ["CLAWGATE_CREDENTIAL"]


def fails(kind, action, code=None):
    """The error that an action ends with."""
    try:
        action()
    except kind as error:
        assert code is None or error.code == code, error
        assert CREDENTIAL not in str(error) + repr(error)
        return error
    raise AssertionError(f"nothing went wrong where {kind.__name__} {code or ''} was to come")


@contextlib.contextmanager
def server(*answers):
    """A server that gives each answer once, and counts what it was asked."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.command, self.path, self.headers.get("Authorization")))
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield Clawgate(f"http://127.0.0.1:{listening.server_port}", CREDENTIAL), asked
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


gate = Clawgate()

# Who asks.
stranger = Clawgate(OPERATOR, "clawop_" + "a" * 43)
fails(Refused, stranger.list_jobs, "OPERATOR_CREDENTIAL_INVALID")
auditor = Clawgate(OPERATOR, os.environ["AUDITOR"])
contract = auditor.list_contracts()["contracts"][0]["name"]
low = fails(Refused, lambda: auditor.job(name="x", contract=contract), "OPERATOR_FORBIDDEN")
assert low.status == 403 and low.title and low.advice and low.code in str(low)
for missing in ("", " ", "two words", "line\nbreak"):
    fails(ClawgateError, lambda: Clawgate(OPERATOR, missing or " "))

# What is asked.
fails(Refused, lambda: gate.job(name="x", contract="nobody-wrote-it"), "CONTRACT_UNKNOWN")
fails(Refused, lambda: gate.job(name="x"), "BODY_MISSING_MEMBER")
fails(Refused, lambda: gate.show_job("job_nobody-opened"), "JOB_UNKNOWN")
fails(Refused, lambda: gate.show_job("../contracts"), "ID_MALFORMED")
for part in ("", ".", ".."):
    fails(ClawgateError, lambda: gate.show_job(part))
fails(Refused, lambda: gate.list_jobs(limit=0), "QUERY_VALUE")
fails(Waited, lambda: gate.approvals.wait(timeout=0.2))

# A job ends with its program, and tells why.
with contextlib.suppress(KeyError), gate.job(name="breaks", contract=contract) as job:
    raise KeyError("the agent broke")
ended = gate.show_job(job.id)
assert (ended["state"], ended["close_reason"]) == ("sealed", "the program ended with KeyError"), ended
fails(Refused, job.token, "JOB_CLOSED")

# While nobody answers, a token is used for as long as it is good.
with server(
    (200, {}, b'{"job_id":"job_1","policy_hash_b64u":"x"}'),
    (200, {}, b'{"token":"one","token_hash":"1","expires_in":90}'),
    (200, {}, b"<html>"),
    BUSY,
    (200, {}, b"<html>"),
    BUSY,
    (409, {}, b'{"code":"JOB_CLOSED","title":"closed"}'),
) as (other, _):
    job = other.job(name="x", contract="y")
    now = time.monotonic()
    later = lambda seconds: mock.patch("clawgate.job.time.monotonic", lambda: now + seconds)  # noqa: E731
    assert job.token() == "one"
    with later(61):
        assert job.token() == "one"
        assert job.token() == "one"
    with later(91):
        fails(Unreachable, job.token)
        fails(Refused, job.token, "OVERLOADED")
    with later(61):
        fails(Refused, job.token, "JOB_CLOSED")
    # One that cannot be closed is not forgotten silently.
with warnings.catch_warnings(record=True) as told, contextlib.suppress(KeyError), job:
    raise KeyError("the agent broke")
assert "job_1 may still be open" in str(told[0].message), told

# A wait goes on where it was cut off, and is told anew.


def told(*events):
    return (200, {}, b"".join(b"event: %s\ndata: %s\n\n" % event for event in events))


READY = (b"ready", b"{}")
WAITS = (b"waiting", b'{"run_id":"run-1","job_id":"job_1"}')


def stands(state):
    return (200, {}, b'{"run_id":"run-1","job_id":"job_1","state":"%s"}' % state)


SEEN = (200, {}, b'{"revision":7}')
with server(told(READY), BUSY, told(WAITS, READY)) as (other, asked):
    assert other.approvals.wait(job_id="job_1", timeout=60)["run_id"] == "run-1"
    assert len(asked) == 3
with server(told(WAITS, READY), BUSY, told(READY), stands(b"approved")) as (other, asked):
    assert other.approvals.wait_for_answer("run-1")["state"] == "approved"
    assert asked[3][1] == "/v1/approvals/run-1", asked
# One that is not among those that the gateway tells of may wait all the same.
still = stands(b"awaiting_approval")
with server(told(READY), still, SEEN, still, SEEN, stands(b"denied")) as (other, asked):
    assert other.approvals.wait_for_answer("run-1", timeout=60)["state"] == "denied"
    assert "after=7" in asked[4][1] and len(asked) == 6, asked
with server(told(READY), *[BUSY] * 9) as (other, asked):
    fails(Waited, lambda: other.approvals.wait(timeout=0.5))
with server(BUSY, BUSY, BUSY) as (other, asked):
    fails(Refused, lambda: other.approvals.wait(timeout=60), "OVERLOADED")
REVOKED = (401, {}, b'{"code":"OPERATOR_CREDENTIAL_INVALID","title":"no"}')
with server(told(READY), REVOKED) as (other, asked):
    fails(Refused, lambda: other.approvals.wait(timeout=60), "OPERATOR_CREDENTIAL_INVALID")

# The way there.
for address in ("http://gateway.example:8788", "http://127.0.0.1.evil.example", "ftp://x", "gateway"):
    fails(InsecureAddress, lambda: Clawgate(address, CREDENTIAL))
Clawgate("http://gateway.example:8788", CREDENTIAL, allow_plaintext=True)
assert CREDENTIAL not in repr(gate) + repr(gate.transport) + repr(job)
with server() as (gone, _):
    pass
fails(Unreachable, gone.list_jobs)

# Who answers there.
with server((200, {}, b"<html>"), BUSY, BUSY, (200, {}, b'{"jobs":[]}')) as (other, asked):
    fails(Unreachable, other.list_jobs)
    assert other.list_jobs() == {"jobs": []} and len(asked) == 4, "what changes nothing is repeated"
with server(BUSY, BUSY, BUSY) as (other, asked):
    fails(Refused, other.list_jobs, "OVERLOADED")
    assert len(asked) == 3, "and no more than that"
with server(BUSY) as (other, asked):
    fails(Refused, lambda: other.open_job({"name": "x", "contract": "y"}), "OVERLOADED")
    assert len(asked) == 1, "what changes something is not"
with server((302, {"Location": "/elsewhere"}, b"")) as (other, asked):
    assert fails(Refused, other.list_jobs).status == 302
    assert len(asked) == 1, "the credential goes nowhere else"
SHORT = (200, {"Content-Length": "100"}, b'{"jobs":[]}')
with server(SHORT, SHORT, SHORT) as (other, _):
    fails(Unreachable, other.list_jobs)

# The verifier.
fails(NotVerified, lambda: verify("bundle.json", "trust.json", program="no-such-program"))
fails(NotVerified, lambda: verify("no-such-bundle.json", os.environ["TRUST"]))

conformance.problem({"type": "urn:clawgate:reason:X", "title": low.title, "status": low.status,
                     "detail": low.detail, "code": low.code, "advice": low.advice})
print("everything as it should be")
