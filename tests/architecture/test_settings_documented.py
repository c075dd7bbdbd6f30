"""Every setting of every process stands in docs/settings.md, as the code has it today."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from devstack import settings as stack_settings

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    f"{path.parent.name}.settings"
    for path in sorted(ROOT.glob("*/src/*/settings.py"))
    if path.parent.name not in {"kit", "devstack"}
]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("settings_doc", ROOT / "tools" / "settings_doc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def classes() -> list[type[BaseSettings]]:
    """Settings classes that rooms define themselves."""
    modules = [importlib.import_module(name) for name in MODULES]
    return [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, BaseSettings) and each.__module__ == module.__name__
    ]


def test_the_page_is_current(tool) -> None:
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), "run `make docs`"


def test_no_settings_class_is_missing_on_the_page(tool) -> None:
    read = [tool.load(full_name) for full_name in tool.READERS.values()]
    assert len(MODULES) >= 6
    missing = [each for each in classes() if not any(issubclass(reader, each) for reader in read)]
    assert not missing, "tools/settings_doc.py must say which process reads it"


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_setting_says_what_it_means_and_stands_on_the_page(tool, cls: type[BaseSettings]) -> None:
    page = tool.PAGE.read_text(encoding="utf-8")
    for name, about in cls.model_fields.items():
        assert about.description, f"{name} has no description"
        assert f"| `{tool.variable(cls, name)}` |" in page


def test_secrets_are_marked(tool) -> None:
    unmarked = [
        row.name
        for row in tool.rows().values()
        if re.search(r"(SECRETS?|TOKEN|SERVICE_KEY|ENCRYPTION_KEYS|DATABASE_URL|NATS_URL)$", row.name)
        and not all("*Secret*" in meaning for meaning in row.meanings)
    ]
    assert unmarked == []


def test_what_make_up_takes_stands_in_its_example() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = {*stack_settings.DEFAULTS, *stack_settings.SHARED_OPTIONAL}
    assert {name for name in names if not re.search(rf"^#?{name}=", example, re.MULTILINE)} == set()
    offered = set(re.findall(r"^#?(AEROSTIC_[A-Z_]+)=", example, re.MULTILINE))
    known = {*names, *re.findall(r"`(AEROSTIC_[A-Z_]+)`", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"))}
    assert offered - known <= {"AEROSTIC_META_APP_SECRET", "AEROSTIC_META_VERIFY_TOKEN"}, "generated, and may be set"
