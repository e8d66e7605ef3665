"""The admin of a test's project over HTTP, static files included: prints its port, then serves until it is killed.

Only for a browser on this machine; what a strict ``Content-Security-Policy`` forbids does not work here.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

#: The strictest policy that lets a site load anything at all.
POLICY = "default-src 'self'"
#: Whoever sends this header is to see what the policy would have hidden: a script that runs.
WITHOUT_POLICY = "X-Without-Policy"

SETTINGS = {
    "MIDDLEWARE": [
        "tests.acceptance.admin_site.strict",
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    "ROOT_URLCONF": "tests.urls",
    "STATIC_URL": "/static/",
    "ALLOWED_HOSTS": ["127.0.0.1"],
}
APPS = (
    "django.contrib.admin",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
)


def strict(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: browsers get a strict policy, unless they ask for none."""

    def respond(request: HttpRequest) -> HttpResponse:
        if request.path == "/favicon.ico":
            # Browsers ask every site for it.
            return HttpResponse(status=204)
        response = get_response(request)
        if WITHOUT_POLICY not in request.headers:
            response["Content-Security-Policy"] = POLICY
        return response

    return respond


def serve() -> None:
    """Serve on a port that is free."""
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
    from django.core.wsgi import get_wsgi_application

    class Handler(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name it has there
            # Only what went wrong: a page is twenty requests.
            if str(args[1] if len(args) > 1 else "") >= "400":
                super().log_message(format, *args)

    server = ThreadedWSGIServer(("127.0.0.1", 0), Handler)
    server.set_app(StaticFilesHandler(get_wsgi_application()))
    print(f"port={server.server_port}", flush=True)  # noqa: T201 - the test reads it
    server.serve_forever()


if __name__ == "__main__":
    serve()
