"""Each alert rings when it should and is silent just below: evaluated by Prometheus itself (promtool)."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
ALERTS = [
    rule["alert"] for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
_SCRAPE_SECONDS = 15
_RINGING = 'count(ALERTS{alertstate="firing"}) by (alertname)'


class Gauge(NamedTuple):
    value: float


class Rate(NamedTuple):
    """A counter that grows by so much a second."""

    a_second: float


class Values(NamedTuple):
    """As promtool writes them."""

    text: str


class Case(NamedTuple):
    """Series by name: with which the alert rings alone, and with which nothing rings."""

    rings: dict[str, Gauge | Rate | Values]
    silent: dict[str, Gauge | Rate | Values]
    minutes: int = 30


def histogram(name: str, labels: str, limit: float, below: float) -> dict[str, Rate]:
    """Of one observation a second this share is at most the limit, the others twice as much at most."""
    own = f"{labels}," if labels else ""
    edges = {f"{limit:g}": below, f"{limit * 2:g}": 1.0, "+Inf": 1.0}
    return {f'{name}_bucket{{{own}le="{edge}"}}': Rate(rate) for edge, rate in edges.items()}


def slow(name: str, limit: float, labels: str = "") -> Case:
    return Case(histogram(name, labels, limit, 0.95), histogram(name, labels, limit, 0.999))


def share(all_of: str, part: str, rings: float, silent: float) -> Case:
    """`part` and `all_of`: labels; so much of one a second."""
    return Case(*({part: Rate(of), all_of: Rate(1 - of)} for of in (rings, silent)), minutes=60)


_COPIES = 'namespace="{}",cronjob="shop-aerostic-backup-streams"'

CASES = {
    "AerosticProcessDown": Case(
        {'up{job="gateway",instance="a"}': Gauge(0), 'up{job="svc-auth",instance="b"}': Gauge(1)},
        {'up{job="gateway",instance="a"}': Gauge(1), 'up{job="node-exporter",instance="c"}': Gauge(0)},
    ),
    "AerosticProcessRestarting": Case(
        {'process_start_time_seconds{job="svc-auth"}': Values("0+1x120")},
        {'process_start_time_seconds{job="svc-auth"}': Values("1+0x60 2+0x19 3+0x19 4+0x19")},
    ),
    "AerosticApiErrors": Case(
        {
            'aerostic_http_seconds_count{status="500",route="/v1/me"}': Rate(0.02),
            'aerostic_http_seconds_count{status="200",route="/v1/me"}': Rate(0.98),
        },
        {
            'aerostic_http_seconds_count{status="500",route="/v1/me"}': Rate(0.005),
            'aerostic_http_seconds_count{status="200",route="/v1/me"}': Rate(0.995),
            # Webhooks have an alert of their own.
            'aerostic_http_seconds_count{status="503",route="/webhooks/meta"}': Rate(1),
        },
    ),
    "AerosticApiSlow": Case(
        histogram("aerostic_http_seconds", 'route="/v1/me"', 1, 0.95),
        histogram("aerostic_http_seconds", 'route="/v1/me"', 1, 0.999)
        | histogram("aerostic_http_seconds", 'route="/v1/stream"', 1, 0.0),
    ),
    "AerosticRpcDefect": Case(
        {'aerostic_rpc_completed_total{job="svc-auth",method="M",code="INTERNAL"}': Values("0+0x60 1+0x60")},
        {'aerostic_rpc_completed_total{job="svc-auth",method="M",code="UNAVAILABLE"}': Values("0+0x60 1+0x60")},
        minutes=20,
    ),
    "AerosticOverloaded": share(
        'aerostic_rpc_completed_total{job="svc-auth",code="OK"}',
        'aerostic_rpc_completed_total{job="svc-auth",code="RESOURCE_EXHAUSTED"}',
        rings=0.1,
        silent=0.02,
    ),
    "AerosticLiveStreamBehind": Case(
        {"aerostic_stream_hub_behind_messages": Gauge(10_001)}, {"aerostic_stream_hub_behind_messages": Gauge(9_999)}
    ),
    "AerosticWebhooksNotDurable": Case(
        {'aerostic_webhooks_total{status="503"}': Rate(0.1)}, {'aerostic_webhooks_total{status="200"}': Rate(100)}
    ),
    "AerosticWebhooksBadSignature": share(
        'aerostic_webhooks_total{status="200"}', 'aerostic_webhooks_total{status="401"}', rings=0.02, silent=0.005
    ),
    "AerosticJournalSlow": slow("aerostic_journal_publish_seconds", 0.5),
    "AerosticVolumeNearlyFull": Case(
        {
            'kubelet_volume_stats_available_bytes{persistentvolumeclaim="data-shop-aerostic-nats-0"}': Gauge(19),
            'kubelet_volume_stats_capacity_bytes{persistentvolumeclaim="data-shop-aerostic-nats-0"}': Gauge(100),
        },
        {
            'kubelet_volume_stats_available_bytes{persistentvolumeclaim="data-shop-aerostic-nats-0"}': Gauge(21),
            'kubelet_volume_stats_capacity_bytes{persistentvolumeclaim="data-shop-aerostic-nats-0"}': Gauge(100),
            'kubelet_volume_stats_available_bytes{persistentvolumeclaim="somebody-elses"}': Gauge(1),
            'kubelet_volume_stats_capacity_bytes{persistentvolumeclaim="somebody-elses"}': Gauge(100),
        },
    ),
    "AerosticStreamsNotBackedUp": Case(
        {
            f"kube_cronjob_created{{{_COPIES.format('never')}}}": Gauge(0),
            f"kube_cronjob_created{{{_COPIES.format('once')}}}": Gauge(0),
            f"kube_cronjob_status_last_successful_time{{{_COPIES.format('once')}}}": Gauge(1),
        },
        {
            f"kube_cronjob_created{{{_COPIES.format('lately')}}}": Gauge(0),
            f"kube_cronjob_status_last_successful_time{{{_COPIES.format('lately')}}}": Gauge(2 * 3600),
        },
        minutes=27 * 60,
    ),
    "AerosticInboxLag": slow("aerostic_inbox_lag_seconds", 5),
    "AerosticInboxStands": Case(
        {'aerostic_consumer_oldest_seconds{stream="META"}': Gauge(31)},
        {'aerostic_consumer_oldest_seconds{stream="META"}': Gauge(29)},
    ),
    "AerosticEventsParked": Case(
        {'aerostic_inbox_parked_total{reason="poison"}': Values("0+0x60 1+0x60")},
        {'aerostic_inbox_parked_total{reason="unknown_message"}': Values("0+0x60 1+0x60")},
        minutes=20,
    ),
    "AerosticNumberUnknown": Case(
        {'aerostic_inbox_parked_total{reason="unknown_number"}': Rate(0.03)},
        {'aerostic_inbox_parked_total{reason="unknown_number"}': Rate(0.01)},
        minutes=60,
    ),
    "AerosticMessagesBuried": Case(
        {'aerostic_buried_total{stream="META",consumer="inbox"}': Values("0+0x60 1+0x60")},
        {'aerostic_buried_total{stream="META",consumer="inbox"}': Gauge(7)},
        minutes=20,
    ),
    "AerosticDeadLettersWait": Case(
        {'aerostic_dead_letters{stream="META",consumer="inbox"}': Gauge(1)},
        {'aerostic_dead_letters{stream="META",consumer="inbox"}': Values("1+0x5700 0+0x300")},
        minutes=25 * 60,
    ),
    "AerosticPostgresSlow": slow("aerostic_inbox_batch_seconds", 5),
    "AerosticOutboxStands": Case(
        {'aerostic_outbox_oldest_seconds{job="svc-auth"}': Gauge(11)},
        {'aerostic_outbox_oldest_seconds{job="svc-auth"}': Gauge(9)},
    ),
    "AerosticSendsStand": Case(
        {'aerostic_send_oldest_seconds{partition="3"}': Gauge(301)},
        {'aerostic_send_oldest_seconds{partition="3"}': Gauge(299)},
    ),
    "AerosticMetaAway": share(
        'aerostic_sends_total{status="accepted",reason=""}',
        'aerostic_sends_total{status="queued",reason="META_UNREACHABLE"}',
        rings=0.2,
        silent=0.05,
    ),
    "AerosticSendsUnknown": share(
        'aerostic_sends_total{status="accepted",reason=""}',
        'aerostic_sends_total{status="unknown",reason=""}',
        rings=0.01,
        silent=0.0005,
    ),
    "AerosticTokenRefused": Case(
        {'aerostic_sends_total{status="queued",reason="TOKEN_INVALID"}': Rate(0.01)},
        {'aerostic_sends_total{status="queued",reason="TOKEN_INVALID"}': Values("0+1x40 40+0x200")},
        minutes=60,
    ),
    "AerosticRateLimited": share(
        'aerostic_sends_total{status="accepted",reason=""}',
        'aerostic_sends_total{status="queued",reason="META_RATE_LIMITED"}',
        rings=0.1,
        silent=0.02,
    ),
    "AerosticErasureStands": Case(
        {"aerostic_tenant_erasure_idle_seconds": Gauge(3601)}, {"aerostic_tenant_erasure_idle_seconds": Gauge(3599)}
    ),
    "AerosticMoveStands": Case(
        {"aerostic_placement_unsettled_oldest_seconds": Gauge(181)},
        {"aerostic_placement_unsettled_oldest_seconds": Gauge(179)},
    ),
    "AerosticTokenExpiresSoon": Case(
        {'aerostic_numbers_by_check{step="token",state="warning"}': Gauge(1)},
        {'aerostic_numbers_by_check{step="token",state="passed"}': Gauge(3)},
    ),
    "AerosticNumberNeedsAttention": Case(
        {
            'aerostic_numbers_by_check{step="token",state="failed"}': Gauge(1),
            'aerostic_numbers_by_check{step="number",state="failed"}': Gauge(2),
        },
        {'aerostic_numbers_by_check{step="number",state="warning"}': Gauge(2)},
        minutes=60,
    ),
    "AerosticNumberChecksBehind": Case(
        {"aerostic_number_checks_behind_seconds": Gauge(3601)}, {"aerostic_number_checks_behind_seconds": Gauge(3599)}
    ),
    "AerosticDedicatedWorkersMissing": Case(
        {
            'aerostic_operator_objects{kind="Tenant",reason="WorkersStalled"}': Gauge(1),
            'aerostic_operator_surveyed_seconds{kind="Tenant"}': Rate(1),
        },
        {
            'aerostic_operator_objects{kind="Tenant",reason="WorkersUpdating"}': Gauge(1),
            'aerostic_operator_surveyed_seconds{kind="Tenant"}': Rate(1),
        },
    ),
    "AerosticOperatorBehind": Case(
        {
            'aerostic_operator_surveyed_seconds{kind="Tenant"}': Gauge(0),
            # Has not compared anything since it began.
            'aerostic_operator_waiting{kind="WhatsAppAccount"}': Gauge(0),
        },
        {
            'aerostic_operator_surveyed_seconds{kind="Tenant"}': Rate(1),
            'aerostic_operator_waiting{kind="Tenant"}': Gauge(3),
        },
        minutes=45,
    ),
}
# Alerts that ring for each of several things at once.
RINGING = {"AerosticNumberNeedsAttention": 2, "AerosticOperatorBehind": 2, "AerosticStreamsNotBackedUp": 2}


def series(values: dict[str, Gauge | Rate | Values], minutes: int) -> list[dict]:
    steps = minutes * 60 // _SCRAPE_SECONDS
    texts = {
        Gauge: lambda of: f"{of[0]:.10g}+0x{steps}",
        Rate: lambda of: f"0+{of[0] * _SCRAPE_SECONDS:.10g}x{steps}",
        Values: lambda of: of[0],
    }
    return [{"series": name, "values": texts[type(of)](of)} for name, of in values.items()]


def group(name: str, values: dict, minutes: int, expected: list[dict]) -> dict:
    return {
        "name": name,
        "interval": f"{_SCRAPE_SECONDS}s",
        "input_series": series(values, minutes),
        "promql_expr_test": [{"expr": _RINGING, "eval_time": f"{minutes}m", "exp_samples": expected}],
    }


@pytest.fixture
def promtool(absent):
    program = shutil.which("promtool")
    if program is None:
        absent("NOT TESTED by Prometheus: promtool (Debian's package prometheus) is not installed")

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=200)

    return run


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(ALERTS)


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_rings_when_it_should_and_is_silent_otherwise(promtool, tmp_path, alert) -> None:
    case = CASES[alert]
    ringing = [{"labels": f'{{alertname="{alert}"}}', "value": RINGING.get(alert, 1)}]
    groups = [group("rings", case.rings, case.minutes, ringing), group("is silent", case.silent, case.minutes, [])]
    document = {"rule_files": [str(FOLDER / "alerts.yaml")], "evaluation_interval": "1m", "tests": groups}
    (tmp_path / "case.yaml").write_text(json.dumps(document))
    done = promtool("test", "rules", str(tmp_path / "case.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_configuration_with_the_rules(promtool) -> None:
    done = promtool("check", "config", str(FOLDER / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout
