"""An agent that uses HashiCorp's Python library as its documentation says."""

import os
import sys
import time

from pytfe import TFEClient, TFEConfig
from pytfe.errors import TFEError
from pytfe.models import (
    ConfigurationVersionCreateOptions,
    RunCreateOptions,
    RunDiscardOptions,
    Workspace,
    WorkspaceListOptions,
)

address, token, folder = os.environ["TFE_ADDRESS"], os.environ["TFE_TOKEN"], sys.argv[1]
client = TFEClient(TFEConfig(address=address, token=token, max_retries=0))


def refused(code, call):
    try:
        call()
    except TFEError as error:
        codes = [one.get("code") for one in error.errors]
        assert codes == [code], f"{codes} in place of {code}: {error}"
        return
    raise AssertionError(f"{code} did not come")


def until(run_id, statuses):
    for _ in range(600):
        run = client.runs.read(run_id)
        if run.status.value in statuses:
            return run
        time.sleep(0.05)
    raise AssertionError(f"{run_id} stands at {run.status}")


# Workspaces: those of the contract, by list, name and id.
names = [workspace.name for workspace in client.workspaces.list("acme")]
assert names == ["staging-app", "staging-db"], names
found = list(client.workspaces.list("acme", WorkspaceListOptions(search="db")))
assert [workspace.id for workspace in found] == ["ws-staging-db"], found
workspace = client.workspaces.read("staging-app", organization="acme")
assert workspace.id == "ws-staging-app", workspace
assert client.workspaces.read_by_id("ws-staging-app").name == "staging-app"
refused("WORKSPACE_NOT_ALLOWED", lambda: client.workspaces.read_by_id("ws-production-app"))
refused("ORGANIZATION_NOT_ALLOWED", lambda: list(client.workspaces.list("globex")))

# A run that names no configuration, when there is none.
wish = RunCreateOptions(workspace=Workspace(id=workspace.id), message="from Python")
refused("CONFIGURATION_VERSION_REQUIRED", lambda: client.runs.create(wish))

# An upload, and a run of it.
upload = client.configuration_versions.create(
    workspace.id, ConfigurationVersionCreateOptions(auto_queue_runs=False)
)
client.configuration_versions.upload(upload.upload_url, folder)
assert client.configuration_versions.read(upload.id).status.value == "uploaded"
named = RunCreateOptions(
    workspace=Workspace(id=workspace.id), configuration_version=upload, message="from Python"
)
run = client.runs.create(named)
until(run.id, ["planned"])
plan = client.plans.read(run.plan.id)
assert (plan.resource_additions, plan.resource_changes) == (1, 1), plan
events = list(client.run_events.list(run.id))
assert events, events
client.runs.discard(run.id, RunDiscardOptions(comment="seen"))
until(run.id, ["discarded"])

# The same without naming it: the gateway names the workspace's latest.
run = client.runs.create(wish)
planned = until(run.id, ["planned"])
assert planned.configuration_version.id == upload.id, planned.configuration_version
assert "from Python" in planned.message, planned.message
listed = [other.id for other in client.runs.list(workspace.id)]
assert run.id in listed, listed

# What the contract forbids is told with its code.
destroying = RunCreateOptions(workspace=Workspace(id=workspace.id), is_destroy=True)
refused("DESTROY_NOT_ALLOWED", lambda: client.runs.create(destroying))
refused("VARIABLES_DENIED", lambda: list(client.variables.list(workspace.id)))
print("everything as it should be")
