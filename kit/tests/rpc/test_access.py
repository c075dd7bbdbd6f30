"""Permissions and grants as the contracts have them."""

import echo_pb2 as pb
import pytest

from kit import access
from kit.access import Method
from kit.errors import PermissionDenied, TenantRequired, TokenMissing
from kit.principal import ANONYMOUS, Principal, current_principal
from kit.testing.rpc import make_user

METHODS = {
    method.descriptor.name: method for method in access.all_methods([pb.DESCRIPTOR.services_by_name["EchoService"]])
}


def test_method_is_read_from_its_contract():
    send = METHODS["Send"]
    assert (send.full_name, send.path) == ("echotest.v1.EchoService.Send", "/echotest.v1.EchoService/Send")
    assert (send.permission, send.callers, send.http.post) == ("messages.send", None, "/v1/echoes")
    assert (send.is_read_only, send.is_repeatable) == (False, False)
    assert METHODS["Inside"].callers == frozenset({"messaging-sender"})
    assert METHODS["InsideAny"].callers == frozenset()
    assert METHODS["Inside"].http is None
    assert (METHODS["Manage"].is_read_only, METHODS["Manage"].is_repeatable) == (False, True)
    assert (METHODS["Count"].is_read_only, METHODS["Count"].is_repeatable) == (True, True)


@pytest.mark.parametrize(
    ("role", "permission", "has"),
    [
        ("agent", "messages.send", True),
        ("agent", "tenant.read", True),
        ("agent", "tenant.members.manage", False),
        ("agent", "whatsappAccounts.manage", False),
        ("admin", "tenant.members.manage", True),
        ("admin", "platform.tenants.list", False),
        ("super_admin", "platform.tenants.list", True),
        ("super_admin", "messages.read", False),
        ("agent", "messages", False),
        ("agent", "messagesx.send", False),
        ("ROLE_AGENT", "messages.send", False),
    ],
)
def test_role_has_what_its_grants_cover(role, permission, has):
    assert access.granted(role, permission) is has


def test_contradictory_and_silent_contracts_admit_nobody():
    for method in (METHODS["Unsaid"], METHODS["Contradictory"]):
        for principal in (ANONYMOUS, make_user(role="super_admin"), Principal.service("messaging-sender")):
            with pytest.raises(PermissionDenied):
                access.authorize(principal, method)


def test_all_contracts_are_known():
    names = {method.full_name for method in access.all_methods()}
    assert "aerostic.messaging.v1.MessageService.SendMessage" in names
    assert not any(name.startswith("echotest.") for name in names)
    assert {"aerostic.auth.v1", "aerostic.messaging.v1", "aerostic.options.v1"} <= access.registered_reasons().keys()


def test_principal_outside_of_a_call_is_nobody():
    assert current_principal() is ANONYMOUS


def test_principal_says_what_is_missing():
    with pytest.raises(TenantRequired):
        make_user(role="super_admin").require_tenant()
    with pytest.raises(TokenMissing):
        Principal.service("gateway").require_user()


def test_only_processes_choose_a_tenant():
    tenant_id = make_user().user_id
    worker = Principal.service("messaging-inbox").on_behalf_of(tenant_id)
    assert (worker.require_tenant(), worker.name) == (tenant_id, "messaging-inbox")
    with pytest.raises(AssertionError):
        make_user().on_behalf_of(tenant_id)


def test_method_of_descriptor_is_the_same_as_listed():
    descriptor = pb.DESCRIPTOR.services_by_name["EchoService"].methods_by_name["Send"]
    assert Method.of(descriptor) == METHODS["Send"]
