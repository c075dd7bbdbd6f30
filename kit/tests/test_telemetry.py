"""Which requests are traced."""

import pytest
from opentelemetry import context as contexts
from opentelemetry.sdk.trace.sampling import Decision

from kit import telemetry
from kit.trace_export import Roots

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize(("flags", "wanted"), [("00", False), ("01", True), ("02", False), ("03", True)])
def test_the_caller_decides_where_there_is_one(monkeypatch, flags, wanted) -> None:
    monkeypatch.setattr(telemetry, "_ratio", 0.5)
    assert telemetry.wants(f"{TRACE}-{flags}") is wanted


@pytest.mark.parametrize(("ratio", "wanted"), [(0, False), (1, True)])
def test_the_ratio_decides_for_new_requests(monkeypatch, ratio, wanted) -> None:
    monkeypatch.setattr(telemetry, "_ratio", ratio)
    assert telemetry.wants("") is wanted


def test_a_chosen_request_is_not_drawn_a_second_time() -> None:
    roots = Roots(0)
    chosen = contexts.set_value(telemetry.WANTED, True, contexts.Context())
    assert roots.should_sample(chosen, 1 << 127, "x").decision is Decision.RECORD_AND_SAMPLE
    assert roots.should_sample(contexts.Context(), (1 << 64) - 1, "x").decision is Decision.DROP
