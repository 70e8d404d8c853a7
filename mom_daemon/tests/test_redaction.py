"""What looks like a secret is masked, and what does not stays."""

import pytest

from mom_core.plugins.secrets import MASK
from mom_daemon.doctor.redaction import Redaction


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password: hunter22", "hunter22"),
        ('{"admin_password": "hunter 22"}', "hunter 22"),
        ("plugins.x.api_key   hunter22   default", "hunter22"),
        ("https://root:hunter22@host/x", "hunter22"),
        ("https://ghp0123456789abcdefghij@host/x", "ghp0123456789abcdefghij"),
        ("GET /x?access_token=hunter22&y=1", "hunter22"),
        ("Authorization: Basic aHVudGVyMjI=", "aHVudGVyMjI="),
        ("Environment=MY_TOKEN=hunter22", "hunter22"),
        ("-----BEGIN RSA PRIVATE KEY-----\\nhunter22\\n-----END RSA PRIVATE KEY-----", "hunter22"),
    ],
)
def test_what_looks_like_a_secret_is_one(text: str, secret: str) -> None:
    redact = Redaction()
    assert secret not in redact(text)
    assert redact.masked


@pytest.mark.parametrize(
    "text", ["token_file: /etc/mom/token", "password: null", "a policy without secrets", "ksm_run: 1", "https://host/x"]
)
def test_what_is_none_stays(text: str) -> None:
    assert Redaction()(text) == text


@pytest.mark.parametrize("run", ["a" * 1_000_000, "a.b-" * 250_000])
def test_a_long_text_without_spaces_does_not_keep_the_report_away(run: str) -> None:
    assert Redaction()(f"{run} password: hunter22") == f"{run} password: {MASK}", "which would take days in the square of its length"
