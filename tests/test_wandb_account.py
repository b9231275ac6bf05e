"""What the environment says of W&B."""

from pathlib import Path

import pytest

from detloss.wandb_account import wandb_key_exists, wandb_mode, wandb_wanted


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_without_key_or_mode_auto_means_local_and_with_either_it_means_wandb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not wandb_wanted()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_wanted()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not wandb_wanted()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_wanted()


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com", "wandb.example.org:8080"])
def test_a_key_of_the_server_in_netrc_is_one_and_that_of_another_is_none(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    (tmp_path / "netrc").write_text("machine github.com login me password secret\n")
    assert not wandb_key_exists()
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {'x' * 40}\n")
    assert wandb_key_exists()


@pytest.mark.parametrize(
    ("asked", "with_key", "without"),
    [
        (None, "online", "offline"),
        ("online", "online", "offline"),  # without a key W&B would wait for one at the terminal
        ("offline", "offline", "offline"),
        ("disabled", "disabled", "disabled"),
    ],
)
def test_a_run_is_online_only_with_a_key(
    asked: str | None, with_key: str, without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked is not None:
        monkeypatch.setenv("WANDB_MODE", asked)
    assert wandb_mode() == without
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode() == with_key
