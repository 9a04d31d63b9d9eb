"""Share links, what may be asked, and pages that come instead of a file."""

from __future__ import annotations

import pytest
from remote import drive_page

from ddnet.fetch.links import PAGE, QUOTA, direct_url, download_form, is_html, page_reason, require_safe
from ddnet.fetch.policy import SourceFailed

DRIVE = "https://drive.usercontent.google.com/download?id=18MBe-b4tx_S&export=download&confirm=t"


@pytest.mark.parametrize(
    "link",
    [
        "https://drive.google.com/file/d/18MBe-b4tx_S/view?usp=sharing",
        "https://drive.google.com/file/d/18MBe-b4tx_S/view",
        "https://drive.google.com/file/d/18MBe-b4tx_S",
        "https://drive.google.com/open?id=18MBe-b4tx_S",
        "https://drive.google.com/uc?id=18MBe-b4tx_S&export=download",
        "https://drive.google.com/uc?export=download&id=18MBe-b4tx_S",
        "https://docs.google.com/uc?id=18MBe-b4tx_S",
        DRIVE,
    ],
)
def test_drive_links_lead_to_the_download(link: str) -> None:
    assert direct_url(link) == DRIVE


def test_a_drive_resource_key_is_kept() -> None:
    assert direct_url("https://drive.google.com/file/d/18M/view?resourcekey=0-x").endswith("&resourcekey=0-x")


@pytest.mark.parametrize(
    ("link", "direct"),
    [
        ("https://www.dropbox.com/s/arox/RealDOF.zip", "https://www.dropbox.com/s/arox/RealDOF.zip?dl=1"),
        ("https://www.dropbox.com/s/arox/RealDOF.zip?dl=0", "https://www.dropbox.com/s/arox/RealDOF.zip?dl=1"),
        ("https://dropbox.com/scl/fi/a/b.zip?rlkey=k&dl=0", "https://dropbox.com/scl/fi/a/b.zip?rlkey=k&dl=1"),
    ],
)
def test_dropbox_links_ask_for_the_download(link: str, direct: str) -> None:
    assert direct_url(link) == direct


@pytest.mark.parametrize(
    "url",
    [
        "https://huggingface.co/datasets/x/resolve/52e4/a%20b.png",
        "https://example.org/file/d/abc/view?dl=0",
        "https://drive.google.com/drive/folders/x",
        "https://notdropbox.com/s/a.zip",
    ],
)
def test_other_addresses_stay_as_they_are(url: str) -> None:
    assert direct_url(url) == url


@pytest.mark.parametrize(
    "url", ["https://example.org/a", "http://localhost:80/a", "http://127.0.0.1:1/a", "http://[::1]:8/a"]
)
def test_https_and_this_machine_may_be_asked(url: str) -> None:
    require_safe(url)


@pytest.mark.parametrize(
    "url",
    ["http://example.org/a", "http://localhost.example.org/a", "http://127.0.0.1.nip.io/", "ftp://x/a", "file:///a",
     "//example.org/a", "a.zip", ""],
)  # fmt: skip
def test_anything_else_may_not(url: str) -> None:
    with pytest.raises(SourceFailed, match="refused.*only https is allowed"):
        require_safe(url)


def test_https_never_leads_back_to_http() -> None:
    require_safe("https://other.org/a", after="https://example.org/")
    require_safe("http://localhost/a", after="http://localhost/")
    with pytest.raises(SourceFailed, match="a redirect to http:// is refused"):
        require_safe("http://localhost/a", after="https://example.org/")


@pytest.mark.parametrize(
    ("head", "html"),
    [
        (b"<!DOCTYPE html>", True),
        (b"\xef\xbb\xbf\n\n  <!doctype HTML PUBLIC", True),
        (b"\t<HTML lang=en>", True),
        (b"", False),
        (b"<?xml version='1.0'?>", False),
        (b"\x89PNG\r\n\x1a\n<html>", False),
        (b"PK\x03\x04<!doctype html", False),
    ],
)
def test_pages_are_known_by_their_beginning(head: bytes, html: bool) -> None:
    assert is_html(head) is html


def test_a_quota_page_has_its_own_reason() -> None:
    assert page_reason("<title>Google Drive - Quota exceeded</title>") == QUOTA
    assert page_reason("Sorry, too many users have viewed or downloaded this file recently") == QUOTA
    assert page_reason("<title>Sign in</title>") == PAGE


def _form(text: str) -> str | None:
    return download_form(text, "https://drive.usercontent.google.com/download?id=18M")


def test_the_consent_form_gives_the_address_with_its_hidden_values() -> None:
    text = drive_page("https://drive.usercontent.google.com/download", id="18M", confirm="t", uuid="4-2").content or b""
    assert _form(text.decode()) == "https://drive.usercontent.google.com/download?id=18M&confirm=t&uuid=4-2"


def test_relative_actions_and_escaped_values_are_understood() -> None:
    text = '<form action="/download?a=1"><input type=hidden name=k value="x&amp;y z"></form><input type=hidden name=q>'
    assert _form(text) == "https://drive.usercontent.google.com/download?a=1&k=x%26y+z"


@pytest.mark.parametrize(
    "text",
    [
        "<html>no form",
        '<form action="/login" method="post"><input type="hidden" name="confirm" value="t"></form>',
        '<form action="/search"><input type="hidden" name="q" value="t"></form>',
    ],
)
def test_other_forms_are_not_followed(text: str) -> None:
    assert _form(text) is None
