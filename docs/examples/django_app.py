"""Django: ``gunicorn -c python:gunicorn_conf django_app:application``."""

import json
from collections.abc import Callable

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from scans import registry, runner
from service import http_code

import oppscan.sync as oppscan

Answering = Callable[[HttpRequest], HttpResponse]

settings.configure(  # yours are in settings.py
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[f"{__name__}.Refusals"]
)


def start(request: HttpRequest, user: str) -> JsonResponse:
    ticket = runner.start(user, params=json.loads(request.body))  # in a thread of this worker
    return JsonResponse(ticket.status.to_dict(), status=202)


def status(request: HttpRequest, user: str, scan_id: str) -> JsonResponse:
    return JsonResponse(registry.status(scan_id, owner=user).to_dict())


def results(request: HttpRequest, user: str, scan_id: str) -> JsonResponse:
    return JsonResponse(registry.results(scan_id, owner=user).to_dict())


class Refusals:
    """Middleware: what oppscan refuses is an answer."""

    def __init__(self, get_response: Answering) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, oppscan.OppscanError):
            return None
        return JsonResponse({"detail": str(error)}, status=http_code(error))


urlpatterns = [
    path("users/<user>/scans", start),
    path("users/<user>/scans/<scan_id>", status),
    path("users/<user>/scans/<scan_id>/results", results),
]
application = get_wsgi_application()
