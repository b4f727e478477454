"""Pages of the allowed origin may read the answers and their relevant headers."""

from __future__ import annotations

from forebay.http import build_json_response


def test_an_answer_names_the_allowed_origin_and_the_readable_headers() -> None:
    headers = build_json_response(202, {}, {"Location": "/x"}).to_proxy("*")["headers"]
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert {"ETag", "Link", "Location", "Retry-After"} <= set(
        headers["Access-Control-Expose-Headers"].split(", ")
    )


def test_without_an_origin_no_page_may_read_the_answer() -> None:
    assert "Access-Control-Allow-Origin" not in build_json_response(202, {}).to_proxy("")["headers"]
