"""LAB_* variables."""

from __future__ import annotations

import pytest

from deploy.lab.errors import LabError
from deploy.lab.settings import LabSettings


def test_an_empty_environment_gives_the_default_lab() -> None:
    settings = LabSettings.from_env({"LAB_NAME": "", "LAB_NODES": ""})
    assert settings == LabSettings()
    assert settings.cluster_names == ("consumer", "provider")


def test_every_variable_is_read() -> None:
    env = {
        "LAB_NAME": "two",
        "LAB_PROVIDERS": "2",
        "LAB_NODES": "1",
        "LAB_KWOK": "5",
        "LAB_FLAT": "1",
        "LAB_APPS": "1",
        "LAB_KUBERNETES": "v1.37.2",
        "LAB_PROVIDER_KUBERNETES": "1.33.13",
        "LAB_AUDIT": "Request",
    }
    settings = LabSettings.from_env(env)
    assert settings.cluster_names == ("consumer", "provider", "provider-2")
    assert (settings.nodes, settings.kwok, settings.flat, settings.audit) == (1, 5, True, "Request")
    assert settings.apps
    assert LabSettings.from_env({"LAB_ALIKE": "1"}).alike
    assert [settings.version_of(name) for name in ("consumer", "provider-2")] == ["1.37.2", "1.33.13"]
    assert LabSettings.from_dict(settings.to_dict()) == settings


def test_a_lab_of_a_later_version_beside_ours_does_no_harm() -> None:
    settings = LabSettings(name="two", kwok=3)
    assert LabSettings.from_dict({**settings.to_dict(), "invented": "later"}) == settings


@pytest.mark.parametrize(
    "env",
    [
        {"LAB_NAME": "../up"},
        {"LAB_NAME": "With.Dot"},
        {"LAB_NODES": "2"},
        {"LAB_PROVIDERS": "many"},
        {"LAB_PROVIDERS": "9"},
        {"LAB_AUDIT": "all"},
        {"LAB_APPS": "1", "LAB_NODES": "0"},
        {"LAB_FLAT": "1", "LAB_ALIKE": "1"},
    ],
)
def test_nonsense_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(LabError):
        LabSettings.from_env(env)
