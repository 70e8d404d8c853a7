"""Destinations: accepted forms and refusals. No text can smuggle in other options."""

import json
import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from mom_core import MomError
from mom_kvm import Destination


class Written(BaseModel):
    """Model with a destination."""

    model_config = ConfigDict(frozen=True, strict=True)

    to: Destination | None = None


@pytest.mark.parametrize(
    "text",
    [
        "qemu://h2/system", "qemu+tls://spare.example.org/system", "qemu+tls://[2001:db8::1]:16514/session", "qemu+ssh://root@h2/system",
        "qemu+ssh://Mover_1@h-2.example:2222/system?mode=direct&no_tty=1", "qemu+tcp://127.0.0.1:16509/system",
        "qemu+tls://h2/system tcp://[2001:db8::2]:49152", "host://pve2", "host://3f2504e0-4f89-41d3-9a0c-0305e82c3301", "anywhere",
    ],
)  # fmt: skip
def test_an_allowed_destination_is_written_as_it_was_read(text: str) -> None:
    assert str(Destination.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", None, " qemu+ext:///system?command=/tmp/evil.sh", " qemu+tls://h2/system", "qemu+tls://h2/system tcp://h2 tcp://h3",
        "qemu+tls://h2/system\n", "qemu+tls://h2\u2028/system", "qemu+tls://h2/\ud800", "-oProxyCommand=x", "QEMU+TLS://h2/system",
        "qemu+tls://h2/system#x", "qemu+tls://h2/system?", "qemu+tls://a@b@h2/system", "qemu+tls://[::1/system", "host://", "host://-pve2",
        "host://root@pve2", "host://pve2?command=x", "host://pve2 tcp://10.0.0.2", "anywhere://h2", "xen+ssh://h2/system",
        "qemu+ext:///system?command=/tmp/evil.sh", "qemu+ssh:///system", "qemu+tls://h2/", "qemu+ssh://h2/system?Command=/tmp/evil.sh",
        "qemu+ssh://h2/system?mode=direct&netcat=/tmp/evil.sh", "qemu+ssh://h2/system?mode=direct;netcat=/x",
        "qemu+tls://h2/system?no_verify=1", "qemu+ssh://h2/system?socket=/tmp/x", "qemu+ssh://h2/system?proxy=netcat",
        "qemu+ssh://h2/system?no_tty=0", "qemu+ssh://h2/system?no_tty=1&no_tty=1", "qemu+ssh://h2/system?mode=auto&mode=direct",
        "qemu+ssh://h2/system?%63ommand=/tmp/evil.sh", "qemu+ssh://-oProxyCommand=reboot/system", "qemu+ssh://h2%20/system",
        f"qemu+ssh://{'a' * 64}/system", "qemu+ssh://10.0.0.256/system", "qemu+ssh://[fe80::1%eth0]/system", "qemu+ssh://-l@h2/system",
        "qemu+tls://h2:0/system", "qemu+tls://h2:0x10/system", "qemu+tls://h2/system unix:///tmp/x", "qemu+tls://h2/system tcp://h2/../x",
        "qemu+tls://h2/system tcp://h2:65536", "sim:///h2", "qemu+tls://h2/system?" + "a" * 600, "qemu+tcp://127.evil.example/system",
    ],
)  # fmt: skip
def test_a_destination_with_a_part_that_is_not_listed_is_refused(text: object) -> None:
    with pytest.raises(MomError) as raised:
        Destination.parse(text)
    assert raised.value.message.isprintable()


def test_a_refusal_says_what_is_allowed_and_repeats_no_password() -> None:
    with pytest.raises(MomError, match="the destination is invalid") as raised:
        Destination.parse("qemu+ssh://root:hunter2@h2/system")
    assert "write qemu+tls://HOST/system" in str(raised.value)
    assert "hunter2" not in str(raised.value)


_PIECES = st.sampled_from(
    [*"qemu+tlshxci:/@?&;=#[]%.- \t\n", "qemu+", "ssh", "ext", "://", "h2", "/system", "command=/x", "mode=direct", "no_verify=1", "tcp://"]
)


@given(st.one_of(st.text(), st.lists(_PIECES).map("".join), st.lists(_PIECES).map(lambda pieces: "qemu+ssh://h2/system" + "".join(pieces))))
@example("qemu+ssh://h2/system?mode=direct")
def test_no_text_gets_more_through_than_is_listed(text: str) -> None:
    try:
        destination = Destination.parse(text)
    except MomError:
        return
    assert Destination.parse(str(destination)) == destination
    seen = urlsplit(destination.uri)  # as another parser of URIs reads it
    assert re.fullmatch(r"(qemu(\+(tls|ssh|libssh|libssh2|tcp))?|sim)", seen.scheme)
    assert {name for name, _ in parse_qsl(seen.query, keep_blank_values=True, separator="&")} <= {"mode", "no_tty"}
    assert (seen.hostname or "") == destination.host
    assert not (seen.hostname or "").startswith("-")


def test_settings_and_records_contain_a_destination_as_text() -> None:
    text = '{"to":"qemu+tls://h2/system tcp://10.0.0.2"}'
    record = Written.model_validate_json(text)
    assert record.to == Destination.parse("qemu+tls://h2/system tcp://10.0.0.2")
    assert record.model_dump_json() == text
    assert Written.model_validate(record.model_dump()) == record
    assert Written().model_dump_json() == '{"to":null}'
    assert re.fullmatch(Written.model_json_schema()["properties"]["to"]["anyOf"][0]["pattern"], json.loads(text)["to"])
    with pytest.raises(ValueError, match="destination is invalid"):
        Written.model_validate_json('{"to": "qemu+ext:///system"}')
