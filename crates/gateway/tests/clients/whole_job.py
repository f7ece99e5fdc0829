"""A whole job with the Python client; every answer is compared with the document."""

import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from unittest import mock

import conformance
from clawgate import Clawgate, NotVerified, verify

PATIENCE = 60
HERE = Path(os.environ["HOME"])
AGENT = os.environ["AGENT"]
WORKSPACE = "ws-staging-app"


def agent(token, method, path, body=None, media_type="application/vnd.api+json"):
    """A call of the agent's; its status and what it was answered."""
    address = path if path.startswith("http") else AGENT + path
    request = urllib.request.Request(address, data=body, method=method)
    if not path.startswith("http"):
        request.add_header("Authorization", f"Bearer {token}")
    request.add_header("Content-Type", media_type)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def sent(token, path, document):
    """A document of the agent's that is taken; the resource that was made."""
    status, answer = agent(token, "POST", path, json.dumps(document).encode())
    assert status < 300, answer
    return json.loads(answer)["data"]


def plan(token):
    """Uploads the configuration and asks for a run that is to be applied."""
    attributes = {"auto-queue-runs": False, "speculative": False}
    version = sent(
        token,
        f"/api/v2/workspaces/{WORKSPACE}/configuration-versions",
        {"data": {"type": "configuration-versions", "attributes": attributes}},
    )
    archive = Path(os.environ["ARCHIVE"]).read_bytes()
    address = version["attributes"]["upload-url"]
    status, answer = agent(token, "PUT", address, archive, "application/octet-stream")
    assert status < 300, answer
    to = lambda kind, name: {"data": {"type": kind, "id": name}}  # noqa: E731
    relationships = {
        "workspace": to("workspaces", WORKSPACE),
        "configuration-version": to("configuration-versions", version["id"]),
    }
    return sent(
        token,
        "/api/v2/runs",
        {"data": {"type": "runs", "attributes": {"auto-apply": True}, "relationships": relationships}},
    )["id"]


def own(token, path):
    """What the agent reads of its own job, compared with the document."""
    status, answer = agent(token, "GET", path)
    assert status == 200, answer
    conformance.compare("GET", path, json.loads(answer))
    return json.loads(answer)


gate = Clawgate()
conformance.watch(gate.transport)
contract = gate.list_contracts()["contracts"][0]

with gate.job(contract=contract["name"], name="resize staging") as job:
    assert job.policy_hash == contract["policy_hash_b64u"]
    token = job.token()
    assert token == job.token(), "a token is good for more than one call"
    assert own(token, "/v1/job")["job_id"] == job.id
    # Two thirds of its life later there is another one, in the place of the first.
    with mock.patch("clawgate.job.time.monotonic", lambda: float("1e12")):
        renewed = job.token()
    assert renewed != token and own(renewed, "/v1/job")["job_id"] == job.id
    told = gate.introspect_token({"token": renewed})
    assert told["active"] and told["job_id"] == job.id

    status, answer = agent(renewed, "GET", "/api/v2/organizations")
    assert status >= 400 and json.loads(answer)["errors"][0]["code"], answer
    assert job.show()["counters"]["refusals"] == 1

    run_id = plan(renewed)
    waiting = job.wait_for_approval(timeout=PATIENCE)
    assert (waiting["run_id"], waiting["state"]) == (run_id, "awaiting_approval")
    assert [one["run_id"] for one in gate.approvals.list()] == [run_id]
    shown = gate.approvals.show(run_id)
    assert shown["subject"]["changes"] == waiting["subject"]["changes"]
    own(renewed, "/v1/job/runs")

    approve = ["approvals", "approve", run_id, "--key", os.environ["KEY"], "--yes"]
    subprocess.run([os.environ["CLAWGATE"], *approve], check=True, capture_output=True)
    assert gate.approvals.wait_for_answer(run_id, timeout=PATIENCE)["state"] != "awaiting_approval"
    run = job.wait_for_run(run_id, timeout=PATIENCE)
    assert run["gate"] == "applied", run
    assert job.closed is None

assert job.closed is not None and job.closed["counters"]["applies"] == 1
bundle = job.save_bundle(HERE / "bundle.json")
report = verify(bundle, os.environ["TRUST"])
assert report["verdict"] == "valid", report
forged = HERE / "forged.json"
forged.write_bytes(bundle.read_bytes().replace(b"resize staging", b"resize stuff"))
try:
    verify(forged, os.environ["TRUST"])
    raise SystemExit("a forged bundle was called valid")
except NotVerified as error:
    assert "invalid" in str(error), error

# Everything else that can be read, with this job in the store.
records = [stored["record"] for stored in gate.list_records(job.id, limit=1000)["records"]]
receipt = next(record["receipt"]["receipt_id"] for record in records if record.get("receipt"))
gate.publish_job({"job_id": job.id})
same = contract["policy_hash_b64u"]
reads = [
    lambda: gate.alive(),
    lambda: gate.ready(),
    lambda: gate.token_keys(),
    lambda: gate.show_contract(same),
    lambda: gate.list_contract_versions(contract["name"]),
    lambda: gate.compare_contracts(old=same, new=same),
    lambda: gate.list_jobs(state="sealed", limit=10),
    lambda: gate.list_jobs(state="open"),
    lambda: gate.watch_jobs(job=job.id),
    lambda: gate.show_connection(),
    lambda: gate.show_job(job.id),
    lambda: gate.list_tokens(job.id),
    lambda: gate.revoke_token({"token": renewed, "reason": "over"}),
    lambda: gate.list_approvers(),
    lambda: gate.list_publications(),
    lambda: gate.list_observations(workspace=WORKSPACE),
    lambda: gate.list_watched(),
    lambda: gate.show_watched(WORKSPACE),
    lambda: gate.list_notices(),
    lambda: gate.show_receipt(receipt),
    lambda: gate.show_trust_root(),
    lambda: gate.list_keys(),
    lambda: gate.list_holds(job=job.id),
    lambda: gate.export_bundle(job.id, as_="in-toto"),
    lambda: gate.show_log(),
    lambda: gate.prove_consistency(from_=1),
    lambda: gate.prove_inclusion(index=0),
]
for read in reads:
    read()
assert gate.show_checkpoint().startswith("clawgate.sandbox"), gate.show_checkpoint()

unread = {
    operation["operationId"]
    for methods in conformance.DOCUMENT["paths"].values()
    for method, operation in methods.items()
    if method == "get" and "application/json" in operation["responses"]["200"].get("content", {})
} - conformance.SEEN
# The bundle was read as a file, and a receipt of its own is the same document as any other.
assert unread == {"download_bundle", "show_own_receipt"}, unread

# The README's example, in a place like a user's.
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    os.symlink(os.environ["TRUST"], "trust.json")
    text = Path(os.environ["README"]).read_text(encoding="utf-8")
    exec(text.split("```python\n")[1].split("```")[0], {})  # noqa: S102

print("everything as it should be")
