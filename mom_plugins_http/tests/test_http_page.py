"""The web page: a document, and modules at relative addresses."""

import re

from served_mom import Serve, Served


def test_the_document_names_every_module_once_relative_to_itself(shared: Served) -> None:
    client = shared.client
    text = client.get("/").text
    named = re.findall(r'(?:href|src)="(page/[^"]+)"', text)
    assert named[-1] == "page/page.js", "it begins when all others are on their way"
    assert len(named) == len(set(named))
    for address in named:
        part = client.get(f"/{address}")
        assert part.status_code == 200
        assert part.headers["content-type"].startswith("text/css" if address.endswith(".css") else "text/javascript")
        imported = re.findall(r"^import .*?(\S+);$", part.text, re.MULTILINE)
        assert {re.sub(r'^"\./(.*)"$', r"page/\1", name) for name in imported} <= set(named)
        assert not re.search(r'["`]/[^"]', part.text), "an address from the root would not work below a prefix"


def test_each_part_keeps_a_browser_from_everything_else(shared: Served) -> None:
    for address in ("/", "/page/page.js", "/page/page.css"):
        answer = shared.client.get(address)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_is_no_part_of_the_page_is_refused_with_what_is(shared: Served) -> None:
    client = shared.client
    for name in ("document.py", "page.html", "..%2Fplugin.py", "__init__.py"):
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 404, name
    assert "page.js" in client.get("/page/other.js").json()["hint"]


def test_a_mom_without_the_page_answers_programs_and_has_no_socket_for_browsers(serve: Serve) -> None:
    served = serve(page=False)
    assert served.get("/v1/status")["cycle"]["number"] == 1
    assert served.client.get("/").status_code == 404
    assert not served.path.with_name("mom-page.sock").exists()
    assert "page: true" in served.ask("POST", "/v1/page-keys", 409)["hint"]
