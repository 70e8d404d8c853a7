"""Secrets are masked in all output of settings and texts, by their type or form."""

import pytest
from pydantic import SecretStr

from mom_core import PluginSettings
from mom_core.plugins.secrets import MASK, SecretMask, masked, secrets_in, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://x.example/notify?id=4&sig=aGVsbG8%3D&v=1", "https://x.example/notify?id=4&sig=**********&v=1"),
        ("https://x.example/?api_token=abc", "https://x.example/?api_token=**********"),
        ("nats://mom:hunter22@nats1:4222", "nats://mom:**********@nats1:4222"),
        ("Authorization: Bearer abcd.efgh", "Authorization: Bearer **********"),
        ("move --password hunter22 --live", "move --password ********** --live"),
        ("[/bin/move, --api-token=hunter22, '{id}']", "[/bin/move, --api-token=**********, '{id}']"),
        ('["/bin/move", "--password", "hunter22"]', '["/bin/move", "--password", "**********"]'),
        ("- --password\n  - hunter22\n", "- --password\n  - **********\n"),
        ("add --read-token FILE; make one", "add --read-token FILE; make one"),
        ("[--password-stdin, --user, me]", "[--password-stdin, --user, me]"),
        ("--password-file /etc/mom/password", "--password-file /etc/mom/password"),
        ("/etc/mom/keys/host.key", "/etc/mom/keys/host.key"),
        ("https://grafana.example/d/abc?from=now", "https://grafana.example/d/abc?from=now"),
        ("qemu+tls://spare/system", "qemu+tls://spare/system"),
    ],
)
def test_what_looks_like_a_secret_is_masked_and_nothing_else(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_path_and_query_of_a_secret_url_are_masked() -> None:
    url = SecretStr("https://x.example:8443/abcdefgh/ijklmn?q=0123456789ab")
    hide = SecretMask([{"url": url}])
    assert hide("POST /abcdefgh/ijklmn to x.example") == "POST ********** to x.example"
    assert hide(url.get_secret_value()) == "**********"
    for text in ("https://x.example/hook", "http://[::1"):
        assert list(secrets_in(SecretStr(text))) == [text]


def test_settings_are_masked_by_name_unless_they_name_a_file() -> None:
    class Settings(PluginSettings):
        api_token: str = "tok"  # noqa: S105  # made up
        headers: dict[str, str] = {"authorization": 'Custom "777"', "key": "on"}
        token_file: str = "/etc/mom/token"  # noqa: S105  # a path
        client_key: str = "keys/vdsmkey.pem"

    hidden = {"api_token": MASK, "headers": {"authorization": MASK, "key": MASK}}
    assert masked(Settings().model_dump()) == {**Settings().model_dump(), **hidden}
