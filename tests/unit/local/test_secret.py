"""The secret of a state folder."""

import stat
from pathlib import Path

import pytest

from local.credentials import derive, get_secret_key, make_secret, read_secret, read_secret_key
from local.errors import CredentialsMissingError, StateUnusableError
from local.postgres.config import OWNER, READER, SUPERUSER, locate_primary, locate_replica
from local.settings import LocalSettings, Ports
from local.state import keep_private


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    new_settings = LocalSettings(tmp_path, Ports.from_base(9000))
    make_secret(new_settings.secret)
    return new_settings


def test_it_is_random_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        make_secret(file)
    assert len({read_secret(file) for file in files}) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_it_stays_the_same_over_starts_and_is_hidden_again(settings: LocalSettings) -> None:
    before = read_secret_key(settings)
    settings.secret.chmod(0o644)
    make_secret(settings.secret)
    assert read_secret_key(settings) == before
    assert stat.S_IMODE(settings.secret.stat().st_mode) == 0o600


def test_every_role_and_the_emulator_have_passwords_of_their_own(settings: LocalSettings) -> None:
    """A function's password does not reveal the superuser's."""
    primary = locate_primary(settings)
    passwords = {primary.password(role) for role in (SUPERUSER, OWNER, READER)}
    assert len(passwords | {read_secret_key(settings)}) == 4
    assert locate_replica(settings).password(READER) == primary.password(READER)
    assert derive(b"a", "x") != derive(b"b", "x")


def test_before_a_start_there_are_no_credentials_and_the_message_explains_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(StateUnusableError, match="make run"):
        read_secret_key(LocalSettings(tmp_path, Ports.from_base(9000)))


@pytest.mark.parametrize("content", ["", "short", "g" * 64, "a" * 63, "a" * 65, "\x00" * 64])
def test_a_damaged_one_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    with pytest.raises(StateUnusableError, match="delete it"):
        make_secret(file)


def test_a_server_without_credentials_names_the_next_step() -> None:
    with pytest.raises(CredentialsMissingError, match="make credentials"):
        get_secret_key({})


def test_folders_with_data_or_keys_are_private_and_the_users_own_folder_is_unchanged(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    settings = LocalSettings(tmp_path, Ports.from_base(9000))
    settings.logs.mkdir(mode=0o755)
    keep_private(settings)
    hidden = (settings.emulator, settings.firehose, settings.logs)
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in hidden} == {0o700}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
