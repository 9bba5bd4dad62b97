"""What real clients send and insist on, through each framework: the tests of tests/test_clients.py on other servers.

DIFFERENT says which of them a server does not let pass, and why.
"""

from collections.abc import Iterator

import pytest

from tests import test_clients
from tests.conftest import Logged
from tests.hosts.mounting import MOUNTS, Mounted, endpoint_of, served
from tests.test_clients import (  # noqa: F401 - what depends on the server, and not on the codecs alone
    answers,
    test_a_batch_is_answered_in_its_order,
    test_a_body_that_does_not_unpack_is_answered_with_400,
    test_a_chunked_body_is_put_together,
    test_a_clients_request_is_understood,
    test_a_compressed_body_is_unpacked,
    test_a_connection_is_kept_for_the_next_call_until_the_caller_closes_it,
    test_a_json_answer_has_exactly_the_members_of_the_specification,
    test_a_notification_is_answered_with_200_and_nothing,
    test_an_answer_is_compressed_for_who_asks_and_for_nobody_else,
    test_an_http_1_0_caller_gets_a_whole_answer_and_a_closed_connection,
    test_an_http_1_0_caller_that_asks_for_it_keeps_its_connection,
    test_calls_sent_at_once_are_answered_in_their_order,
    test_headers_that_nobody_asked_for_change_nothing,
    test_http_client_sends_chunks_and_keeps_its_connection,
    test_no_json_answer_has_what_breaks_a_client,
    test_no_xml_answer_has_what_breaks_a_client,
    test_te_is_no_accept_encoding,
    test_the_librarys_client_calls_several_at_once,
    test_the_librarys_client_compresses_requests_and_keeps_its_connection,
    test_the_librarys_client_reads_a_fault_and_goes_on,
    test_the_librarys_client_sends_headers_and_credentials,
    test_urllib_calls_it_a_form_and_is_understood,
    test_whoever_expects_100_continue_for_nothing_hears_so_before_the_body,
    test_whoever_expects_100_continue_gets_it_before_the_body,
)

pytestmark = pytest.mark.unmeasured

KEPT = "test_an_http_1_0_caller_that_asks_for_it_keeps_its_connection"
CONTINUED = "test_whoever_expects_100_continue_for_nothing_hears_so_before_the_body"
DIFFERENT: dict[str, dict[str, str]] = {  # a server -> the test, up to its parameters -> why
    "uvicorn": {KEPT: "connections of HTTP/1.0 are closed"},
    "hypercorn": {
        KEPT: "connections of HTTP/1.0 are closed",
        CONTINUED: "100 Continue is sent before the application is called",
    },
    "tornado": {},
    "tornado, router": {},
    "aiohttp": {
        "test_a_body_that_does_not_unpack_is_answered_with_400": "it is, and then the connection is closed, which"
        " aiohttp logs; and what is cut short is taken for whole",
        "test_the_librarys_client_compresses_requests_and_keeps_its_connection": "aiohttp has unpacked the body, so the"
        " headers do not say that it was packed",
    },
    "aiohttp, packed": {},
    "flask": {
        CONTINUED: "waitress sends 100 Continue before the application is called",
        "test_a_clients_request_is_understood[flask-Perl XMLRPC::Lite]": "Connection: TE, close is not heard",
    },
    "django, async": {
        KEPT: "connections of HTTP/1.0 are closed",
        CONTINUED: "Django reads the body before it calls the view",
    },
    "django": {
        CONTINUED: "waitress sends 100 Continue before the application is called",
        "test_a_clients_request_is_understood[django-Perl XMLRPC::Lite]": "Connection: TE, close is not heard",
    },
}


@pytest.fixture(scope="module", params=DIFFERENT)
def server(request: pytest.FixtureRequest) -> Iterator[Mounted]:
    endpoint = endpoint_of(test_clients.registry, {"access.origins": "http://example.com"})
    with served(MOUNTS[request.param](endpoint)) as running:
        yield running


@pytest.fixture(autouse=True)
def different(request: pytest.FixtureRequest, logged: Logged) -> Iterator[None]:
    """Expect a test to fail where the server differs."""
    name = request.node.callspec.params["server"] if "server" in request.fixturenames else "tornado"
    for test, why in DIFFERENT[name].items():
        if test in (request.node.name, request.node.originalname):
            request.applymarker(pytest.mark.xfail(reason=why, strict=True))
    yield
    if DIFFERENT[name]:
        logged.take("aiohttp.server Unhandled exception")
