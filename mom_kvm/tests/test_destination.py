"""Destinations: which there are, what is said of those that are refused, and that no text gets anything else through."""

import json
import re
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from mom_core import MomError
from mom_kvm import Destination


class Written(BaseModel):
    """A record, or a setting."""

    model_config = ConfigDict(frozen=True, strict=True)

    to: Destination | None = None


@pytest.mark.parametrize(
    "text",
    [
        "qemu://h2/system",
        "qemu+tls://spare.example.org/system",
        "qemu+tls://10.0.0.2:16514/system",
        "qemu+tls://[2001:db8::1]:16514/session",
        "qemu+ssh://root@h2/system",
        "qemu+ssh://Mover_1@h-2.example:2222/system?mode=direct&no_tty=1",
        "qemu+libssh2://root@h2/system",
        "qemu+tcp://127.0.0.1:16509/system",
        "qemu+tcp://[::1]/system",
        "qemu+tls://h2/system tcp://10.0.0.2",
        "qemu+tls://h2/system tcp://[2001:db8::2]:49152",
        "qemu+tls://h2/system rdma://h2-data.example.org",
        "host://pve2",
        "host://3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        "anywhere",
    ],
)
def test_what_is_allowed_is_written_as_it_was_read(text: str) -> None:
    assert str(Destination.parse(text)) == text


def test_its_parts_are_told_apart_and_the_way_is_none_of_the_uri() -> None:
    found = Destination.parse("qemu+ssh://root@H2.Example:2222/system?no_tty=1&mode=legacy tcp://10.0.0.2")
    assert found == Destination(
        "qemu", "/system", "ssh", "root", "h2.example", 2222, (("mode", "legacy"), ("no_tty", "1")), way="tcp://10.0.0.2"
    )
    assert found.uri == "qemu+ssh://root@h2.example:2222/system?mode=legacy&no_tty=1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no destination is given"),
        (None, "no destination is given"),
        (7, "a text, not a int"),
        (" qemu+ext:///system?command=/tmp/evil.sh", "a space too many"),
        (" qemu+tls://h2/system", "a space too many"),
        ("qemu+tls://h2/system ", "a space too many"),
        ("qemu+tls://h2/system  tcp://h2", "a space too many"),
        ("qemu+tls://h2/system tcp://h2 tcp://h3", "a space too many"),
        ("\tqemu+tls://h2/system", r"character 1 of the destination is '\t'"),
        ("qemu+tls://h2/system\n", r"character 21 of the destination is '\n'"),
        ("qemu+tls://h2\u2028/system", r"'\u2028'"),
        ("qemu+tls://h\u00fc/system", r"'\xfc'"),
        ("qemu+tls://h2/\ud800", r"'\ud800'"),
        ("h2", "no URI"),
        ("-oProxyCommand=x", "no URI"),
        ("QEMU+TLS://h2/system", "no URI"),
        ("qemu+tls:/h2/system", "no URI"),
        ("qemu+tls://h2/system#x", "no URI"),
        ("qemu+tls://a@b@h2/system", "no URI"),
        ("qemu+tls://[::1/system", "no URI"),
        ("host://", "names no other host"),
        ("host://-pve2", "no name that a host can have"),
        ("host://pve2/system", "a host's name at most"),
        ("host+ssh://pve2", "a host's name at most"),
        ("host://root@pve2", "a host's name at most"),
        ("host://pve2:22", "a host's name at most"),
        ("host://pve2?command=x", "a host's name at most"),
        ("host://pve2 tcp://10.0.0.2", "a host's name at most"),
        ("anywhere://h2", "a host's name at most"),
        ("anywhere:///system", "a host's name at most"),
        ("test:///etc/passwd", "driver 'test'"),
        ("xen+ssh://h2/system", "driver 'xen'"),
        ("file://h2/system", "driver 'file'"),
        ("qemu+ext://h2/system", "runs a program on this host"),
        ("qemu+ext:///system?command=/tmp/evil.sh", "runs a program on this host"),
        ("qemu+unix:///system", "is none of tls"),
        ("qemu:///system", "names no other host"),
        ("qemu+ssh:///system", "names no other host"),
        ("qemu+tls://h2/", "the path '/' leads nowhere"),
        ("qemu+tls://h2", "the path '' leads nowhere"),
        ("qemu+tls://h2/system/../x", "leads nowhere"),
        ("qemu+ssh://h2/system?command=/tmp/evil.sh", "no parameter 'command'"),
        ("qemu+ssh://h2/system?Command=/tmp/evil.sh", "no parameter 'Command'"),
        ("qemu+ssh://h2/system?mode=direct&netcat=/tmp/evil.sh", "no parameter 'netcat'"),
        ("qemu+ssh://h2/system?mode=direct;netcat=/x", "the parameter mode is 'direct;netcat=/x'"),
        ("qemu+ssh://h2/system?keyfile=/etc/shadow", "no parameter 'keyfile'"),
        ("qemu+tls://h2/system?no_verify=1", "no parameter 'no_verify'"),
        ("qemu+tls://h2/system?pkipath=/tmp/pki", "no parameter 'pkipath'"),
        ("qemu+tls://h2/system?tls_priority=NONE", "no parameter 'tls_priority'"),
        ("qemu+ssh://h2/system?socket=/tmp/x", "no parameter 'socket'"),
        ("qemu+ssh://h2/system?proxy=netcat", "no parameter 'proxy'"),
        ("qemu+ssh://h2/system?name=lxc:///", "no parameter 'name'"),
        ("qemu+ssh://h2/system?no_tty=0", "the parameter no_tty is '0'"),
        ("qemu+ssh://h2/system?no_tty=1&no_tty=1", "stands there twice"),
        ("qemu+ssh://h2/system?%63ommand=/tmp/evil.sh", "no parameter '%63ommand'"),
        ("qemu+ssh://h2/system?", "no parameter ''"),
        ("qemu+ssh://-oProxyCommand=reboot/system", "no name that a host can have"),
        ("qemu+ssh://h2%20/system", "no name that a host can have"),
        ("qemu+ssh://h2..x/system", "no name that a host can have"),
        ("qemu+ssh://h_2/system", "no name that a host can have"),
        (f"qemu+ssh://{'a' * 64}/system", "no name that a host can have"),
        ("qemu+ssh://[h2]/system", "no address of IPv6"),
        ("qemu+ssh://10.0.0.256/system", "no address"),
        ("qemu+ssh://10.1/system", "no address"),
        ("qemu+ssh://[fe80::1%eth0]/system", "no address"),
        ("qemu+ssh://root:hunter2@h2/system", "the user in the destination is no plain name"),
        ("qemu+ssh://-l@h2/system", "the user in the destination is no plain name"),
        ("qemu+ssh://@h2/system", "the user is empty"),
        ("qemu+tls://root@h2/system", "only ssh takes a user"),
        ("qemu+tls://h2:0/system", "the port '0' is none"),
        ("qemu+tls://h2:65536/system", "the port '65536' is none"),
        ("qemu+tls://h2:/system", "the port '' is none"),
        ("qemu+tls://h2:0x10/system", "the port '0x10' is none"),
        ("qemu+tcp://h2/system", "tcp does not say who answers"),
        ("qemu+tls://h2/system unix:///tmp/x", "none of tcp and rdma"),
        ("qemu+tls://h2/system exec:/tmp/evil.sh", "none of tcp and rdma"),
        ("qemu+tls://h2/system tcp://h2/../x", "no name that a host can have"),
        ("qemu+tls://h2/system tcp://", "no name that a host can have"),
        ("sim:///h2", "cannot be moved to the driver 'sim'"),
        ("qemu+tls://h2/system?" + "a" * 600, "at most 600 characters"),
    ],
)
def test_what_is_refused_is_refused_with_the_part_that_is_wrong(text: object, said: str) -> None:
    with pytest.raises(MomError) as raised:
        Destination.parse(text)
    assert said in raised.value.message
    assert raised.value.message.isprintable()
    assert raised.value.hint
    assert "hunter2" not in str(raised.value), "what may be a password is not repeated"


@pytest.mark.parametrize(
    "change",
    [
        {"driver": "test"},
        {"transport": "ext"},
        {"host": ""},
        {"host": "-oX"},
        {"host": "H2"},
        {"host": "h2/x?command=/x"},
        {"path": "/system?command=/x"},
        {"user": "a:b"},
        {"port": 0},
        {"parameters": (("command", "/x"),)},
        {"parameters": (("no_tty", "1"), ("mode", "direct"))},
        {"way": "tcp://H2"},
        {"way": "exec:/x"},
    ],
)
def test_one_that_is_made_of_parts_holds_no_more_than_one_that_is_read(change: dict[str, object]) -> None:
    with pytest.raises(MomError):
        replace(Destination.parse("qemu+ssh://root@h2/system"), **change)  # type: ignore[arg-type]  # any of its parts


_PIECES = st.sampled_from(
    [*"qemu+tlshxci:/@?&;=#[]%.- \t\n", "qemu+", "ssh", "ext", "://", "h2", "/system", "command=/x", "mode=direct", "no_verify=1", "tcp://"]
)


@given(st.one_of(st.text(), st.lists(_PIECES).map("".join), st.lists(_PIECES).map(lambda pieces: "qemu+ssh://h2/system" + "".join(pieces))))
@example("qemu+ssh://h2/system?mode=direct")
def test_no_text_gets_more_through_than_is_listed(text: str) -> None:
    try:
        found = Destination.parse(text)
    except MomError:
        return
    assert Destination.parse(str(found)) == found
    seen = urlsplit(found.uri)  # as another reader of URIs takes it
    assert re.fullmatch(r"(qemu(\+(tls|ssh|libssh|libssh2|tcp))?|sim)", seen.scheme)
    assert {name for name, _ in parse_qsl(seen.query, keep_blank_values=True, separator="&")} <= {"mode", "no_tty"}
    assert (seen.hostname or "") == found.host
    assert not (seen.hostname or "").startswith("-")


def test_in_settings_and_records_it_stands_as_its_text() -> None:
    text = '{"to":"qemu+tls://h2/system tcp://10.0.0.2"}'
    record = Written.model_validate_json(text)
    assert record.to == Destination("qemu", "/system", "tls", host="h2", way="tcp://10.0.0.2")
    assert record.model_dump_json() == text
    assert Written.model_validate(record.model_dump()) == record
    assert Written().model_dump_json() == '{"to":null}'
    assert re.fullmatch(Written.model_json_schema()["properties"]["to"]["anyOf"][0]["pattern"], json.loads(text)["to"])
    with pytest.raises(ValueError, match="runs a program"):
        Written.model_validate_json('{"to": "qemu+ext:///system"}')
