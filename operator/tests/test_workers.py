"""A tenant's own workers without a cluster: what comes of a template, and when an object is as wanted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerostic_operator import children
from aerostic_operator.tenants import workers
from aerostic_operator.tenants.model import Bounds, Size

OWNER = {
    "apiVersion": "aerostic.io/v1alpha1",
    "kind": "Tenant",
    "metadata": {"name": "acme", "uid": "7f5a"},
    "spec": {"slug": "acme"},
}
OBJECTS = [
    {
        "kind": "Deployment",
        "metadata": {"name": "tenant-${tenant.slug}-inbox"},
        "spec": {
            "replicas": "${replicas.min}",
            "env": [{"name": "TENANT", "value": "${tenant.id}"}, {"value": "$(X)"}],
        },
    },
    {"kind": "PodDisruptionBudget", "metadata": {"name": "tenant-${tenant.slug}-inbox"}, "spec": {}},
    {
        "kind": "ScaledObject",
        "metadata": {"name": "tenant-${tenant.slug}-inbox"},
        "spec": {"minReplicaCount": "${replicas.min}", "maxReplicaCount": "${replicas.max}", "c": "in-${tenant.id}-0"},
    },
]


def template(usual=(1, 1), objects=OBJECTS) -> workers.Template:
    return workers.Template("inbox", Bounds(*usual), tuple(objects))


def kinds(made) -> set[str]:
    return {each["kind"] for each in made}


class TestTemplate:
    def test_a_tenants_own_words_stand_in_its_objects(self) -> None:
        [deployment] = workers.filled(template(), OWNER, "t-1", None)
        assert deployment["metadata"]["name"] == "tenant-acme-inbox"
        assert deployment["metadata"]["labels"] == {"aerostic.io/tenant": "acme", "aerostic.io/worker": "inbox"}
        assert deployment["metadata"]["ownerReferences"][0]["uid"] == "7f5a"
        assert deployment["spec"] == {"replicas": 1, "env": [{"name": "TENANT", "value": "t-1"}, {"value": "$(X)"}]}

    def test_replicas_are_left_to_whoever_scales(self) -> None:
        made = workers.filled(template((2, 4)), OWNER, "t-1", None)
        deployment, _, scaler = made
        assert "replicas" not in deployment["spec"]
        assert scaler["spec"] == {"minReplicaCount": 2, "maxReplicaCount": 4, "c": "in-t-1-0"}
        # Where nothing scales, there are as many as there are at least.
        [deployment, _] = workers.filled(template((2, 4), OBJECTS[:2]), OWNER, "t-1", None)
        assert deployment["spec"]["replicas"] == 2

    @pytest.mark.parametrize(
        ("size", "usual", "bounds"),
        [
            (Size(), (1, 2), (1, 2)),
            (Size(3), (1, 2), (3, 3)),
            (Size(most=1), (2, 4), (1, 1)),
            (Size(most=8), (2, 4), (2, 8)),
            (Size(2, 3), (1, 9), (2, 3)),
        ],
    )
    def test_what_a_size_does_not_say_is_as_usual(self, size, usual, bounds) -> None:
        assert size.within(Bounds(*usual)) == bounds

    def test_only_several_replicas_have_a_budget(self) -> None:
        assert kinds(workers.filled(template(), OWNER, "t", None)) == {"Deployment"}
        assert kinds(workers.filled(template(), OWNER, "t", Size(2, 2))) == {"Deployment", "PodDisruptionBudget"}
        assert kinds(workers.filled(template(), OWNER, "t", Size(1, 2))) == {"Deployment", "ScaledObject"}

    def test_a_changed_template_has_another_digest(self) -> None:
        [one] = workers.filled(template(), OWNER, "t", None)
        [same] = workers.filled(template(), OWNER, "t", None)
        less = [{**OBJECTS[0], "spec": {"replicas": "${replicas.min}"}}]
        [other] = workers.filled(template(objects=less), OWNER, "t", None)
        assert one == same
        assert children.is_as_wanted(one, same)
        assert not children.is_as_wanted(one, other), "what is wanted no more must go"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("no json", "inbox.json"),
            ("{}", "replicas"),
            (json.dumps({"worker": "a", "replicas": {"min": 1, "max": 1}, "objects": [{"kind": "Pod"}]}), "no Pod"),
        ],
    )
    def test_what_the_chart_would_not_write_is_refused(self, tmp_path, text, words) -> None:
        (tmp_path / "inbox.json").write_text(text)
        with pytest.raises(workers.BadTemplate, match=words):
            workers.load(tmp_path)

    def test_an_empty_folder_is_a_mistake(self, tmp_path) -> None:
        with pytest.raises(workers.BadTemplate, match="has no templates"):
            workers.load(tmp_path)


def deployment(desired=1, *, generation=1, conditions=(), **status):
    return {
        "metadata": {"generation": generation, "labels": {"aerostic.io/worker": "inbox"}},
        "spec": {"replicas": desired},
        "status": {"conditions": list(conditions), **status},
    }


class TestStanding:
    def test_replicas_of_the_present_template_count(self) -> None:
        done = deployment(2, observedGeneration=1, replicas=2, updatedReplicas=2, availableReplicas=2)
        assert workers.standing(done).is_rolled_out
        for change in ({"updatedReplicas": 1}, {"availableReplicas": 1}, {"observedGeneration": 0}, {"replicas": 3}):
            assert not workers.standing({**done, "status": {**done["status"], **change}}).is_rolled_out
        assert not workers.standing(deployment()).is_rolled_out

    def test_why_they_do_not_come_is_told_in_kubernetes_words(self) -> None:
        failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
        late = {"type": "Progressing", "status": "False", "message": "timed out progressing"}
        fails = workers.standing(deployment(conditions=[failure]))
        assert (fails.is_stuck, fails.trouble) == (False, "exceeded quota")
        stuck = workers.standing(deployment(conditions=[late]))
        assert (stuck.is_stuck, stuck.trouble) == (True, "timed out progressing")
        assert workers.standing(deployment(conditions=[late, failure])).trouble == "exceeded quota"


leaves = st.sampled_from([0, 1, 8080, True, False, "", "a", "1000m", "128Mi"])
trees = st.recursive(
    leaves,
    lambda inner: (
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.lists(st.dictionaries(st.sampled_from(["name", "x"]), inner, min_size=1, max_size=2), max_size=2)
    ),
    max_leaves=8,
)


def stored(node):
    """As the API server answers: empty fields left out, quantities in short, defaults and others' fields beside."""
    if isinstance(node, dict):
        kept = {name: stored(value) for name, value in node.items() if value not in (0, "", False, {}, [])}
        return {**kept, "aDefault": 1}
    if isinstance(node, list):
        return [{"name": "injected"}, *(stored(each) for each in node)]
    return "1" if node == "1000m" else node


class TestComparing:
    @given(st.dictionaries(st.sampled_from("abc"), trees))
    def test_what_the_api_server_makes_of_an_object_is_no_difference(self, wanted) -> None:
        assert children.is_as_wanted(stored(wanted), wanted)

    @pytest.mark.parametrize(
        ("live", "wanted"),
        [
            ({"a": 1}, {"a": 2}),
            ({}, {"a": 1}),
            ({"a": [{"name": "x", "value": "1"}]}, {"a": [{"name": "x", "value": "2"}]}),
            ({"a": [{"name": "x"}]}, {"a": [{"name": "x"}, {"name": "y"}]}),
            ({"a": ["serve", "--debug"]}, {"a": ["serve"]}),
            ({"a": "256Mi"}, {"a": "128Mi"}),
            ({"a": True}, {"a": False}),
            ({"a": {"b": 1}}, {"a": 1}),
        ],
    )
    def test_a_change_by_hand_is_seen(self, live, wanted) -> None:
        assert not children.is_as_wanted(live, wanted)

    @pytest.mark.parametrize(("one", "other"), [("0.5", "500m"), ("1Gi", "1024Mi"), (1, "1"), ("1k", "1000")])
    def test_a_quantity_may_be_written_in_several_ways(self, one, other) -> None:
        assert children.is_as_wanted({"a": one}, {"a": other})
