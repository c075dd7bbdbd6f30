"""An installation's secrets: made once, completed later, never changed."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kit.provisioning import Cluster, Plan, PlanRefused, write_folder, write_secret
from kit.service_tokens import ServiceIdentity, ServiceTrust

PLAN = Plan(
    make={"DB_PASSWORD": "password", "SHOP_KEY": "key", "KEYS": "named-key", "APP_SECRET": "hex"},
    trust={"TRUST": {"shop": "SHOP_KEY"}},
    compose={"DB_URL": "postgresql://shop:${DB_PASSWORD}@db:5432/shop"},
    folders={"shop": {"SERVICE_KEY": "SHOP_KEY", "DB_URL": "DB_URL"}},
)


def test_a_second_run_changes_nothing_and_a_longer_plan_only_adds(tmp_path) -> None:
    assert len(write_folder(PLAN, tmp_path)) == 6
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert write_folder(PLAN, tmp_path) == []
    longer = Plan(make={**PLAN.make, "NEW": "password"}, trust=PLAN.trust, compose=PLAN.compose, folders=PLAN.folders)
    assert write_folder(longer, tmp_path) == ["NEW"]
    assert before.items() <= {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}.items()


def test_a_process_sees_its_own_files_only_and_nobody_else_may_read_them(tmp_path) -> None:
    write_folder(PLAN, tmp_path)
    files = list((tmp_path / "shop").iterdir())
    assert sorted(path.name for path in files) == ["DB_URL", "SERVICE_KEY"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o400}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path, tmp_path / "shop")} == {0o700}


def test_what_a_person_has_put_there_stays(tmp_path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "DB_PASSWORD").write_text("chosen\n")
    write_folder(PLAN, tmp_path)
    assert (tmp_path / "shop" / "DB_URL").read_text() == "postgresql://shop:chosen@db:5432/shop"


def test_the_list_of_trusted_keys_is_that_of_the_made_keys() -> None:
    values = PLAN.complete({})
    identity = ServiceIdentity("shop", base64.urlsafe_b64decode(values["SHOP_KEY"] + "="))
    assert json.loads(values["TRUST"]) == {"shop": identity.public_key}
    assert ServiceTrust.from_json(values["TRUST"]).verify(identity.token()).name == "shop"


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        (Plan(make={"A": "riddle"}), "riddle"),
        (Plan(make={}, compose={"A": "${B}"}), "B"),
        (Plan(make={}, trust={"A": {"b": "B"}}), "B"),
    ],
)
def test_a_plan_that_names_what_it_does_not_make_is_refused(plan, named) -> None:
    with pytest.raises(PlanRefused, match=named):
        plan.complete({})


class FakeApi(BaseHTTPRequestHandler):
    """Secrets of one namespace, with the API server's rule for versions."""

    secrets: dict
    requests: list

    def do_GET(self) -> None:
        found = self.secrets.get(self.path)
        self._answer(404 if found is None else 200, found or {})

    def do_POST(self) -> None:
        secret = self._body()
        self._store(f"{self.path}/{secret['metadata']['name']}", secret["stringData"])

    def do_PATCH(self) -> None:
        patch = self._body()
        assert self.headers["Content-Type"] == "application/merge-patch+json"
        if patch["metadata"]["resourceVersion"] != self.secrets[self.path]["metadata"]["resourceVersion"]:
            self._answer(409, {})
        else:
            self._store(self.path, patch["stringData"])

    def _store(self, path: str, values: dict) -> None:
        self.requests.append(self.command)
        data = self.secrets.get(path, {}).get("data", {})
        data = {**data, **{key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}
        self.secrets[path] = {"metadata": {"resourceVersion": str(len(self.requests))}, "data": data}
        self._answer(200, self.secrets[path])

    def _body(self) -> dict:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, body: dict) -> None:
        assert self.headers["Authorization"] == "Bearer t0ken"
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def api():
    handler = type("Api", (FakeApi,), {"secrets": {}, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, Cluster(f"http://127.0.0.1:{server.server_port}", "t0ken")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_secret_of_a_cluster_is_made_once_and_then_completed(api) -> None:
    handler, cluster = api
    assert len(write_secret(PLAN, cluster, "ns", "keys")) == 6
    path = "/api/v1/namespaces/ns/secrets/keys"
    first = dict(handler.secrets[path]["data"])
    assert write_secret(PLAN, cluster, "ns", "keys") == []
    moved = Plan(make=PLAN.make, trust=PLAN.trust, compose={"DB_URL": "postgresql://elsewhere/${DB_PASSWORD}"})
    assert write_secret(moved, cluster, "ns", "keys") == ["DB_URL"]
    assert handler.requests == ["POST", "PATCH"]
    assert {**handler.secrets[path]["data"], "DB_URL": None} == {**first, "DB_URL": None}
