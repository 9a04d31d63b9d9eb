from __future__ import annotations

from ddnet.errors import LONGEST, DDNetError


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    assert str(DDNetError("a.csv: 'x\ny\0\u202e' is no name; β is")) == "a.csv: 'x\\ny\\x00\\u202e' is no name; β is"
    assert len(str(DDNetError("a" * 10_000))) == LONGEST + 1
