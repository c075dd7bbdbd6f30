"""The law of statuses: whatever order, repetition and grouping they come in, the same truth stands in the end."""

import itertools
import json
import time
from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messaging_factories import make_conversation, make_message
from webhook_bodies import WORKER, Line, new_wamid, status, take_in

from kit import events
from kit.ids import new_id
from svc_messaging import lattice, settling, statuses
from svc_messaging.settling import Addressed
from svc_messaging.statuses import Progress, Reached, Report

START = datetime(2026, 11, 1, tzinfo=UTC)
FAILURES = [{"reason": "META_REFUSED", "metaCode": code, "detail": "d", "advice": "a"} for code in (131026, 131047)]

reached = st.builds(
    lambda word, seconds, failure: Reached(
        "wamid", word, START + timedelta(seconds=seconds), None, failure if word == "failed" else None
    ),
    st.sampled_from(sorted(lattice.FROM_META)),
    st.integers(0, 5),
    st.sampled_from(FAILURES),
)


def whole(progress: Progress) -> tuple[object, ...]:
    return progress.status, progress.times, progress.failure


@given(st.lists(reached, min_size=1, max_size=8), st.data())
def test_order_repetition_and_grouping_do_not_matter(items, data):
    expected = whole(statuses.reduce(items).progress)
    shuffled = data.draw(st.permutations(items * 2))
    cut = data.draw(st.integers(1, len(shuffled)))
    grouped = deepcopy(statuses.reduce(shuffled[:cut]).progress)
    if rest := shuffled[cut:]:
        grouped.take(statuses.reduce(rest).progress)
    assert whole(grouped) == expected


@given(st.lists(reached, min_size=1, max_size=8))
def test_a_message_never_steps_back(items):
    progress = Progress("accepted")
    for item in items:
        before = lattice.RANK[progress.status]
        progress.take(statuses.reduce([item]).progress)
        assert lattice.RANK[progress.status] >= max(before, lattice.RANK[item.status])


@given(st.lists(reached, min_size=1, max_size=5))
def test_a_failure_is_told_exactly_when_the_message_failed(items):
    progress = statuses.reduce(items).progress
    assert (progress.failure is not None) == (progress.status == "failed")


@given(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.lists(st.integers(), max_size=2)))
def test_any_timestamp_gives_a_moment_that_is_not_ahead_of_us(value):
    assert statuses.moment(value, START) <= START


async def sent_message(sql, line, **columns):
    conversation = await make_conversation(sql, line.tenant_id, phone_number_id=line.number)
    given_columns = {"direction": "outbound", "status": "accepted", "wamid": new_wamid(), **columns}
    message = await make_message(sql, line.tenant_id, conversation=conversation, **given_columns)
    if message["wamid"]:
        await sql.execute(
            "INSERT INTO wamids VALUES ($1, $2, $3, $4)", line.tenant_id, line.number, message["wamid"], message["id"]
        )
    return message


async def now(sql, message):
    return await sql.fetchrow("SELECT * FROM messages WHERE id = $1", message["id"])


async def told(sql, message, each=lambda data: data["message"]["status"]):
    found = await sql.fetch(
        "SELECT headers, data FROM outbox WHERE subject LIKE '%' || $1 ORDER BY id", str(message["tenant_id"])
    )
    news = [event for row in found for event in events.decode(json.loads(row["headers"]), row["data"])]
    return [each(event.data) for event in news if event.kind == "messaging.message.updated"]


async def test_statuses_climb_and_are_told_once_a_batch(worker_db, sql):
    line = Line()
    message = await sent_message(sql, line)
    at = int(time.time()) - 100
    words = ("read", "sent", "delivered", "sent")
    batch = [line.body(statuses=[status(message["wamid"], word, at=at + n)]) for n, word in enumerate(words)]
    await take_in(worker_db, *batch, lines=[line])
    row = await now(sql, message)
    assert row["status"] == "read"
    assert (row["read_at"].timestamp(), row["sent_at"].timestamp()) == (at, at + 1)
    await take_in(worker_db, *batch, lines=[line])
    assert await told(sql, message) == ["read"], "a repetition is no news"


async def test_what_a_message_came_to_is_told_once_in_its_life(worker_db, sql):
    line, wamid = Line(), new_wamid()
    message = await sent_message(sql, line, status="unknown", wamid=None)
    for words in (["failed"], ["sent", "failed"], ["read"], ["delivered", "failed"], ["played"]):
        body = line.body(statuses=[status(wamid, word, own=message["id"]) for word in words])
        await take_in(worker_db, body, lines=[line])
        await take_in(worker_db, body, lines=[line])
    reached = await told(sql, message, lambda data: data.get("reached", []))
    assert [words for words in reached if words] == [["accepted", "failed"], ["delivered"]]


async def test_the_database_reckons_as_the_law_says(worker_db, sql):
    """Every status, failure and time that a message may have, met by every word of Meta."""
    line, times = Line(), ("sent", "delivered", "read", "played", "failed")
    reports = [(word, None) for word in times[:-1]] + [("failed", failure) for failure in FAILURES]
    had = [None, START - timedelta(hours=1), START + timedelta(hours=1)]
    cases = list(itertools.product(lattice.ORDER, (None, *FAILURES), had, reports))
    conversation = await make_conversation(sql, line.tenant_id, phone_number_id=line.number)
    stored = [
        {
            "direction": "outbound",
            "type": "text",
            "wamid": new_wamid(),
            "status": status,
            "failure": failure,
            **{f"{word}_at": before for word in times},
        }
        for status, failure, before, _ in cases
    ]
    rows = [await make_message(sql, line.tenant_id, conversation=conversation, **columns) for columns in stored]
    expected = [
        Progress(status, dict.fromkeys(times, had) if had else {}, failure) for status, failure, had, _ in cases
    ]
    said = [Progress(word, {word: START}, failure) for *_, (word, failure) in cases]
    changes = [progress.take(other) for progress, other in zip(expected, said, strict=True)]
    addressed = [
        Addressed(line.tenant_id, line.number, Report(row["wamid"], progress, row["id"]))
        for row, progress in zip(rows, said, strict=True)
    ]
    async with worker_db.begin(WORKER) as tx:
        changed, unknown = await settling.apply(tx, addressed)
    after = {row["id"]: row for row in await sql.fetch("SELECT * FROM messages WHERE tenant_id = $1", line.tenant_id)}
    found = [after[row["id"]] for row in rows]
    assert [
        (
            row["status"],
            {word: at for word in times if (at := row[f"{word}_at"])},
            json.loads(row["failure"]) if row["failure"] else None,
        )
        for row in found
    ] == [whole(progress) for progress in expected]
    # None of them had its id among wamids, and all of them are found by ours; but only news is told.
    assert {row["id"] for row in changed} == {row["id"] for row, is_news in zip(rows, changes, strict=True) if is_news}
    assert unknown == []


async def test_two_ids_for_one_nameless_message_are_not_both_its_own(worker_db, sql):
    line, wamids = Line(), sorted([new_wamid(), new_wamid()])
    message = await sent_message(sql, line, status="unknown", wamid=None)
    body = line.body(statuses=[status(wamid, "sent", own=message["id"]) for wamid in wamids])
    assert await take_in(worker_db, body, lines=[line]) == ["unknown_message"]
    row = await now(sql, message)
    assert (row["status"], row["wamid"] in wamids) == ("sent", True)
    remembered = await sql.fetch("SELECT wamid FROM wamids WHERE message_id = $1", message["id"])
    assert [each["wamid"] for each in remembered] == [row["wamid"]]


async def test_late_words_only_add_their_times(worker_db, sql):
    line = Line()
    message = await sent_message(sql, line)
    for word in ("delivered", "sent"):
        await take_in(worker_db, line.body(statuses=[status(message["wamid"], word)]), lines=[line])
    row = await now(sql, message)
    assert row["status"] == "delivered"
    assert row["sent_at"] is not None


async def test_a_refusal_after_acceptance_fails_with_metas_reason(worker_db, sql):
    line = Line()
    message = await sent_message(sql, line)
    error = {"code": 131047, "title": "Re-engagement message", "error_data": {"details": "More than 24 hours"}}
    await take_in(worker_db, line.body(statuses=[status(message["wamid"], "failed", errors=[error])]), lines=[line])
    row = await now(sql, message)
    failure = json.loads(row["failure"])
    assert row["status"] == "failed"
    assert (failure["reason"], failure["metaCode"]) == ("WINDOW_CLOSED", 131047)
    assert "More than 24 hours" in failure["detail"]


@pytest.mark.parametrize("code", [2**31, -(2**31) - 1, 10**40, str(2**63)])
async def test_a_code_too_large_for_any_table_is_no_code_and_spoils_nothing(worker_db, sql, code):
    line = Line()
    message = await sent_message(sql, line)
    for title in ("first", "second"):
        failed = status(message["wamid"], "failed", errors=[{"code": code, "title": title}])
        assert await take_in(worker_db, line.body(statuses=[failed]), lines=[line]) == []
    failure = json.loads((await now(sql, message))["failure"])
    assert (failure["reason"], failure["metaCode"], failure["detail"]) == ("META_REFUSED", 0, "second")


async def test_a_large_code_that_is_stored_is_compared_with_the_next(worker_db, sql):
    line = Line()
    stored = {"reason": "META_REFUSED", "metaCode": 2**40, "detail": "d", "advice": "a"}
    message = await sent_message(sql, line, status="failed", failure=stored)
    failed = status(message["wamid"], "failed", errors=[{"code": 131047, "title": "late"}])
    assert await take_in(worker_db, line.body(statuses=[failed]), lines=[line]) == []
    assert json.loads((await now(sql, message))["failure"])["metaCode"] == 2**40


async def test_an_unknown_outcome_is_settled_by_our_own_id(worker_db, sql):
    line, wamid = Line(), new_wamid()
    failure = {"reason": "OUTCOME_UNKNOWN", "metaCode": 0, "detail": "lost", "advice": "wait"}
    message = await sent_message(sql, line, status="unknown", wamid=None, failure=failure)
    await take_in(worker_db, line.body(statuses=[status(wamid, "sent", own=message["id"])]), lines=[line])
    row = await now(sql, message)
    assert (row["status"], row["wamid"], row["failure"]) == ("sent", wamid, None)
    await take_in(worker_db, line.body(statuses=[status(wamid, "delivered")]), lines=[line])
    assert (await now(sql, message))["status"] == "delivered"


async def test_our_own_id_is_not_believed_for_another_workspace_number_or_message(worker_db, sql):
    line, other = Line(), Line()
    foreign = await sent_message(sql, other, status="unknown", wamid=None)
    settled = await sent_message(sql, line)
    forged = [status(new_wamid(), "read", own=each["id"]) for each in (foreign, settled)]
    reasons = await take_in(worker_db, line.body(statuses=forged), lines=[line, other])
    assert reasons == ["unknown_message"] * 2
    assert ((await now(sql, foreign))["status"], (await now(sql, settled))["status"]) == ("unknown", "accepted")


async def test_a_status_that_overtakes_its_message_is_applied_when_the_message_has_its_id(worker_db, sql):
    line, wamid = Line(), new_wamid()
    body = line.body(statuses=[status(wamid, "sent"), status(wamid, "delivered")])
    assert await take_in(worker_db, body, lines=[line]) == ["unknown_message"] * 2
    message = await sent_message(sql, line, wamid=wamid)
    async with worker_db.begin(WORKER) as tx:
        changed = await settling.apply_parked_statuses(tx, [(line.tenant_id, line.number, wamid)])
    assert [(row["tenant_id"], row["id"], row["reached"]) for row in changed] == [
        (line.tenant_id, message["id"], ["delivered"])
    ]
    assert (await now(sql, message))["status"] == "delivered"
    states = await sql.fetch("SELECT state FROM parked_events WHERE wamid = $1", wamid)
    assert {row["state"] for row in states} == {"settled"}


async def test_statuses_of_messages_that_others_sent_are_kept_aside(worker_db, sql):
    line = Line()
    body = line.body(statuses=[status(new_wamid(), "sent", own=new_id())])
    assert await take_in(worker_db, body, lines=[line]) == ["unknown_message"]


@pytest.mark.parametrize("word", ["deleted", "warning", ""])
async def test_words_that_say_nothing_about_the_way_are_parked(worker_db, sql, word):
    line = Line()
    message = await sent_message(sql, line)
    assert await take_in(worker_db, line.body(statuses=[status(message["wamid"], word)]), lines=[line]) == [
        "unknown_field"
    ]
    assert (await now(sql, message))["status"] == "accepted"
