"""The description of the paths: what OpenAPI's schema says about predictions, and a page without scripts."""

from collections.abc import Mapping
from html import escape
from re import sub
from typing import Any

from fastapi.responses import HTMLResponse

from crisscross.service.uploads import MULTIPART

STATUSES = {
    400: "a damaged image, a broken form, an unknown format, or a host that is not served",
    403: "a page of another origin",
    406: "no format fits `Accept`",
    408: "the request came too slowly",
    413: "too many bytes or pixels",
    415: "not an image",
    429: "too many requests are waiting; `Retry-After` says when to come again",
    500: "an error of the service; its log has it",
    504: "no answer in time",
}
HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>crisscross</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}
code{background:#8882;padding:.1em .3em}td{padding:.2rem 1rem .2rem 0;vertical-align:top}
td:first-child{white-space:nowrap}
</style>"""


def describe(formats: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for FastAPI: the body, the parameter `format` and the answers of a prediction."""
    binary = {"type": "string", "format": "binary"}
    names = {"type": "string", "enum": list(formats)}
    form = {"type": "object", "properties": {"image": binary, "format": names}, "required": ["image"]}
    body = {"image/*": {"schema": binary}, MULTIPART: {"schema": form}}
    line = "; ".join(f"`{name}`: {one.line}" for name, one in formats.items())
    error = {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}
    good: dict[str, Any] = {one.media: {} for one in formats.values()}
    return {
        "openapi_extra": {
            "requestBody": {"required": True, "content": body},
            "parameters": [{"name": "format", "in": "query", "schema": names, "description": line}],
        },
        "responses": {
            200: {"description": "the labels, in the format that was asked for", "content": good},
            **{
                status: {"description": text, "content": {"application/json": error}}
                for status, text in STATUSES.items()
            },
        },
    }


def page(schema: Mapping[str, Any]) -> HTMLResponse:
    """The paths of a schema, and a form to try predictions. It loads nothing and runs nothing."""
    rows, options = [], ""
    for path, methods in schema["paths"].items():
        for method, one in methods.items():
            rows.append(f"<tr><td><code>{method.upper()} {escape(path)}</code><td>{_html(one['summary'])}")
            for parameter in one.get("parameters", ()):
                options = "".join(f"<option>{escape(name)}" for name in parameter["schema"]["enum"])
                rows.append(f"<tr><td><code>?{parameter['name']}=</code><td>{_html(parameter['description'])}")
    statuses = (f"<tr><td><code>{status}</code><td>{_html(text)}" for status, text in STATUSES.items())
    text = (
        f"{HEAD}<h1>{escape(schema['info']['title'])} {escape(schema['info']['version'])}</h1>"
        f"<p>{escape(schema['info']['description'])} The schema is <a href='/openapi.json'>/openapi.json</a>."
        "<form action='/predict' method='post' enctype='multipart/form-data'><p>"
        "<input type='file' name='image' required> "
        f"<select name='format'>{options}</select> <button>Label</button></form>"
        f"<h2>Paths</h2><table>{''.join(rows)}</table>"
        "<h2>Errors</h2><p>All are JSON: <code>{&quot;error&quot;: &quot;...&quot;}</code>"
        f"<table>{''.join(statuses)}</table>"
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    return HTMLResponse(text, headers={"content-security-policy": policy})


def _html(text: str) -> str:
    return sub("`(.+?)`", r"<code>\1</code>", escape(text))
