"""Lints the Helm chart and renders it with Helm's own engine, validates every document by the
schemas of Kubernetes, and checks what the chart promises. Says so when all is as it should be."""

import sys

import kubernetes_validate
import yaml
from helm_python import Chart, chart

folder = sys.argv[1]
KUBERNETES = "1.31"


def rendered(values=None):
    documents = []
    with Chart.load(folder) as loaded:
        for path, text in loaded.render(values=values, name="gate", namespace="ops").items():
            if path.endswith((".txt", ".tpl")):
                continue
            documents += [document for document in yaml.safe_load_all(text) if document]
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    return documents


def one(documents, kind, name=None):
    found = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, (kind, name, len(found))
    return found[0]


def refused(values, word):
    try:
        rendered(values)
    except Exception as error:
        assert word in str(error), error
    else:
        raise AssertionError(f"{values} must be refused")


findings = chart.lint(folder, strict=True)
problems = [finding for finding in findings["messages"] if "icon is recommended" not in finding["error"]]
assert findings["total_charts_linted"] == 1 and not problems and not findings["errors"], findings

documents = rendered()
pods = one(documents, "StatefulSet")["spec"]
assert pods["replicas"] == 1
pod = pods["template"]["spec"]
assert pod["automountServiceAccountToken"] is False
assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 1000
assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
for container in pod["containers"] + pod["initContainers"]:
    confined = container["securityContext"]
    assert confined["allowPrivilegeEscalation"] is False, container["name"]
    assert confined["readOnlyRootFilesystem"] is True, container["name"]
    assert confined["runAsNonRoot"] is True, container["name"]
    assert confined["capabilities"] == {"drop": ["ALL"]}, container["name"]
    assert container["resources"]["limits"]["memory"], container["name"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in pods["volumeClaimTemplates"]}
    assert mounted == volumes, mounted ^ volumes
assert not any("hostPath" in volume for volume in pod["volumes"])
for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
    assert forbidden not in pod

# Agents reach the agents' port and no other; nobody reaches the operators' by default.
ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
assert set(ports) == {"agents", "operators"}
for document in (d for d in documents if d["kind"] == "Service"):
    [port] = document["spec"]["ports"]
    operators = document["metadata"]["name"].endswith("-operators")
    assert port["targetPort"] == ("operators" if operators else "agents")
    assert document["spec"].get("publishNotReadyAddresses", False) == operators
    assert document["spec"]["selector"].items() <= pods["template"]["metadata"]["labels"].items()
policy = one(documents, "NetworkPolicy")["spec"]
assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
assert policy["podSelector"]["matchLabels"].items() <= pods["template"]["metadata"]["labels"].items()
[agents] = policy["ingress"]
assert agents["from"] and agents["ports"] == [{"protocol": "TCP", "port": "agents"}]

people = [{"namespaceSelector": {"matchLabels": {"team": "platform"}}}]
policy = one(
    rendered({"networkPolicy": {"operators": {"from": people}}}), "NetworkPolicy"
)["spec"]
assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == ["agents", "operators"]
assert all(rule["from"] for rule in policy["ingress"])
nobody = {"networkPolicy": {"agents": {"from": []}}}
assert one(rendered(nobody), "NetworkPolicy")["spec"]["ingress"] == []

# Out of it: names, and TCP on the ports that are listed and no others.
def outward(values=None):
    names, upstream = one(rendered(values), "NetworkPolicy")["spec"]["egress"]
    assert {(port["protocol"], port["port"]) for port in names["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert all(port["protocol"] == "TCP" for port in upstream["ports"])
    return [port["port"] for port in upstream["ports"]], upstream.get("to")


assert outward() == ([443], None)
block = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
listed = {"networkPolicy": {"upstream": {"to": block, "ports": [443, 587, 5432]}}}
assert outward(listed) == ([443, 587, 5432], block)

# Several share a database and a volume, and a client stays with one of them.
several = {
    "replicas": 3,
    "config": '[store]\nurl = { file = "/etc/clawgate/secrets/database" }\n',
    "storage": {"sharedClaim": "clawgate-data"},
}
shared = rendered(several)
three = one(shared, "StatefulSet")["spec"]
assert three["replicas"] == 3 and "volumeClaimTemplates" not in three
[data] = [v for v in three["template"]["spec"]["volumes"] if v["name"] == "data"]
assert data["persistentVolumeClaim"]["claimName"] == "clawgate-data"
for service in (d for d in shared if d["kind"] == "Service"):
    assert service["spec"]["sessionAffinity"] == "ClientIP"
refused({**several, "storage": {}}, "sharedClaim")
refused({**several, "config": "gateway_id = 'x'"}, "PostgreSQL")

# What cannot be reached from outside stays so whatever the agents' service becomes.
outside = rendered({"service": {"type": "LoadBalancer"}})
assert one(outside, "Service", "gate-clawgate")["spec"]["externalTrafficPolicy"] == "Local"
assert one(outside, "Service", "gate-clawgate-operators")["spec"]["type"] == "ClusterIP"

digest = "sha256:" + "0" * 64
pinned = one(rendered({"image": {"digest": digest}}), "StatefulSet")
image = pinned["spec"]["template"]["spec"]["containers"][0]["image"]
assert image == f"clawgate@{digest}", image
bare = rendered({"secretName": "", "tls": {"agentSecretName": "", "operatorSecretName": ""}})
assert not any("secret" in v for v in one(bare, "StatefulSet")["spec"]["template"]["spec"]["volumes"])

refused({"image": {"digest": "latest"}}, "digest")
refused({"replicas": 3}, "replicas")
refused({"replicas": 0}, "replicas")
refused({"config": ""}, "config")
refused({"networkPolicy": {"upstream": {"ports": []}}}, "ports")
refused({"networkPolicy": {"upstream": {"ports": ["all"]}}}, "ports")
print("everything as it should be")
