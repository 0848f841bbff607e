"""What pages for people are served with: headers that let them load and send nothing but to this server."""

from flask import Response

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


def protect(response: Response, **changes: str) -> Response:
    """Add the headers; `changes` are directives of the policy that differ, with `_` for `-`."""
    policy = _POLICY | {name.replace("_", "-"): value for name, value in changes.items()}
    response.headers["Content-Security-Policy"] = "; ".join(f"{name} {value}" for name, value in policy.items())
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Cache-Control", "no-cache")
    return response
