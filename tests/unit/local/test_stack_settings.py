"""The state folder of one start of the stack, and its ports."""

from pathlib import Path

import pytest

from local.settings import ROOT, LocalSettings, Ports


def test_the_state_is_below_the_checkout_and_clients_use_8080() -> None:
    settings = LocalSettings.from_env({})

    assert settings.state == ROOT / ".forebay"
    assert settings.base_url == "http://127.0.0.1:8080/v1"


def test_the_environment_names_another_state_folder(tmp_path: Path) -> None:
    assert LocalSettings.from_env({"FOREBAY_STATE": str(tmp_path / "x")}).state == tmp_path / "x"


def test_a_relative_state_folder_is_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert LocalSettings.from_env({"FOREBAY_STATE": "here"}).state == tmp_path / "here"


def test_the_six_ports_are_neighbours() -> None:
    assert list(Ports.from_base(9000)) == [9000, 9001, 9002, 9003, 9004, 9005]


@pytest.mark.parametrize("base", [0, -1, 65532, 100_000])
def test_ports_that_do_not_fit_are_refused(base: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 65530"):
        LocalSettings.from_env({}, base)


def test_the_environment_adds_names_of_the_gateway() -> None:
    assert LocalSettings.from_env({}).hosts == frozenset()
    named = LocalSettings.from_env({"FOREBAY_LOCAL_HOSTS": "DevBox, box.lan,"})
    assert named.hosts == {"devbox", "box.lan"}


@pytest.mark.parametrize("hosts", ["http://devbox", "devbox:8080", "*", "a b", "devbox,*"])
def test_an_invalid_host_name_is_refused(hosts: str) -> None:
    with pytest.raises(ValueError, match="FOREBAY_LOCAL_HOSTS"):
        LocalSettings.from_env({"FOREBAY_LOCAL_HOSTS": hosts})
