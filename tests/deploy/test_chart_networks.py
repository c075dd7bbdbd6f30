"""Network policies: nothing by default, and each way that the product needs, from both ends."""

import pytest

from devstack.processes import PROCESSES

pytestmark = pytest.mark.timeout(1800)  # the first run on a machine builds helm

LABEL = "app.kubernetes.io/component"
# Setting → process whose address it holds.
TARGETS = {
    "AEROSTIC_AUTH_TARGET": "svc-auth",
    "AEROSTIC_TENANTS_TARGET": "svc-tenants",
    "AEROSTIC_MESSAGING_TARGET": "messaging-server",
    "AEROSTIC_GATEWAY_INGEST_URL": "webhooks-ingest",
    "AEROSTIC_EMULATOR_CALLBACK_URL": "gateway",
    "AEROSTIC_TENANTS_GRAPH_URL": "meta-emulator",
    "AEROSTIC_MESSAGING_GRAPH_URL": "meta-emulator",
}
WORKERS = {"messaging-inbox": "tenant-inbox", "messaging-sender": "tenant-sender"}
SHARED = (
    {(process.name, TARGETS[name]) for process in PROCESSES for name in process.environment if name in TARGETS}
    | {(process.name, "nats") for process in PROCESSES if process.shared}
    | {(process.name, "postgresql") for process in PROCESSES if any("DATABASE" in name for name in process.environment)}
    | {("migrate", "postgresql"), ("backup-streams", "nats"), ("operator", "svc-auth"), ("operator", "svc-tenants")}
)
# A tenant's own workers need what the shared ones need.
WAYS = sorted(SHARED | {(WORKERS[caller], callee) for caller, callee in SHARED if caller in WORKERS})


# What is optional and needs a way of its own.
EVERYTHING = {"nats.backup.enabled": True}


@pytest.fixture
def policies(chart) -> dict[str, dict]:
    found = chart.of_kind(chart.template("values-trial.yaml", values=EVERYTHING), "NetworkPolicy")
    return {each["spec"]["podSelector"]["matchLabels"].get(LABEL, ""): each["spec"] for each in found}


def peers(rules: list[dict], key: str) -> set[str]:
    selectors = [peer.get("podSelector", {}) for rule in rules for peer in rule.get(key, [])]
    return {selector["matchLabels"][LABEL] for selector in selectors if selector}


@pytest.mark.parametrize(("caller", "callee"), WAYS)
def test_a_way_that_the_product_needs_is_open_at_both_ends(policies, caller, callee) -> None:
    assert callee in peers(policies[caller]["egress"], "to")
    assert caller in peers(policies[callee]["ingress"], "from")


def test_every_other_way_between_our_pods_is_closed(policies) -> None:
    opened = {
        (caller, callee)
        for callee, policy in policies.items()
        for caller in peers(policy.get("ingress", []), "from")
        if callee
    }
    assert opened == {*WAYS, ("nats", "nats"), ("test", "gateway")}


def test_the_default_is_to_deny(policies) -> None:
    default = policies[""]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in default
    assert default["egress"] == [{"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}]


def test_only_what_talks_to_meta_may_leave_the_cluster_and_never_to_private_addresses(policies) -> None:
    outward = {
        name: [peer["ipBlock"] for rule in policy.get("egress", []) for peer in rule.get("to", []) if "ipBlock" in peer]
        for name, policy in policies.items()
    }
    assert {name for name, blocks in outward.items() if blocks} == {"svc-tenants", "messaging-sender", "tenant-sender"}
    for blocks in filter(None, outward.values()):
        assert "169.254.0.0/16" in next(block["except"] for block in blocks if block["cidr"] == "0.0.0.0/0")


def ports(policy: dict) -> list[int]:
    return [each["port"] for rule in policy["egress"] if "to" not in rule for each in rule["ports"]]


def test_the_kubernetes_api_is_reached_at_the_ports_that_the_cluster_has(chart, policies) -> None:
    assert ports(policies["operator"]) == ports(policies["make-secrets"]) == [443, 6443]
    objects = chart.template("values-trial.yaml", values={"networkPolicy.apiServerPorts": [16443]})
    for component in ("operator", "make-secrets"):
        (policy,) = chart.of_kind(objects, "NetworkPolicy", component)
        assert ports(policy["spec"]) == [16443]


def test_extra_ways_out_are_open_to_every_process_and_job(chart) -> None:
    way = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"port": 4317, "protocol": "TCP"}]}
    objects = chart.template("values-trial.yaml", values={**EVERYTHING, "networkPolicy.extraEgress": [way]})
    having = {
        policy["metadata"]["labels"][LABEL]
        for policy in chart.of_kind(objects, "NetworkPolicy")
        if way in policy["spec"].get("egress", [])
    }
    processes = {each["metadata"]["labels"][LABEL] for each in chart.of_kind(objects, "Deployment")}
    kinds = ("Job", "CronJob")
    jobs = {each["metadata"]["labels"][LABEL] for kind in kinds for each in chart.of_kind(objects, kind)}
    assert having == processes | jobs | set(WORKERS.values())
    assert {"migrate", "make-secrets", "backup-streams"} <= jobs
