"""The console at the address for calls: the methods as each caller is shown them, to be read and nothing else.

    GET /console/, /console/*.js ...     the page, for whoever may reach this address
    GET /console/data/methods            what the caller may call; judged and charged like a call

It tells neither who may call what, nor where a method is written, nor anything of other callers.
"""

import asyncio

from msgspec import Struct

from gateway.core.access import AccessPolicy
from gateway.endpoints.console import files, plain, written
from gateway.endpoints.console.catalogue import Catalogue
from gateway.endpoints.rpc import RPCEndpoint
from gateway.model.calls import Caller
from gateway.model.http import AccessDenied, Admission, Admitted, HTTPRequest, HTTPResponse, Refusal

PATH = "/console/"


def beside(admit: Admission, rpc: RPCEndpoint, policy: AccessPolicy, catalogue: Catalogue) -> Admission:
    """Put the console beside an endpoint.

    Args:
        admit: judges all other requests.
        rpc: whose refusals are logged, and whose rates hold.
        policy: who is let in, and who may call what.
        catalogue: the methods.

    """
    pages = {PATH + path.removeprefix("/"): response for path, response in files()}
    data = f"{PATH}data/methods"

    def answer(head: HTTPRequest) -> HTTPResponse | Admitted:
        path = head.target.partition("?")[0]
        if not f"{path}/".startswith(PATH):
            return admit(head)
        refused = rpc.visit(head)
        if isinstance(refused, HTTPResponse):
            return refused
        if head.method not in ("GET", "HEAD"):
            return plain(405, "This is only read.\n", ("Allow", "GET, HEAD"))
        if path == data:
            return _data(head, rpc, policy, catalogue)
        if path == PATH.rstrip("/"):
            return plain(308, "", ("Location", PATH))
        return pages.get(path) or plain(404, "There is no such page.\n")

    return answer


def _data(
    head: HTTPRequest, rpc: RPCEndpoint, policy: AccessPolicy, catalogue: Catalogue
) -> "HTTPResponse | _Permitted":
    caller = policy.judge(head)
    if isinstance(caller, AccessDenied):
        # No challenge: a browser would ask for a password, and the page asks for the key itself.
        return _refused(head, rpc, "access", caller.status, caller.reason)
    if wait := rpc.rates.charge(caller):
        return _refused(head, rpc, "rate", 429, f"too many calls; {wait:g} s")
    return _Permitted(policy, caller, catalogue)


def _refused(head: HTTPRequest, rpc: RPCEndpoint, kind: str, status: int, reason: str) -> HTTPResponse:
    refusal = Refusal(kind=kind, status=status, reason=reason, client=head.peer, request_id=rpc.id_of(head))
    return rpc.refuse(refusal, "Denied." if kind == "access" else "Too many calls.")


class _Permitted(Struct, frozen=True):
    """A request for what a caller may call; it is described in a thread."""

    policy: AccessPolicy
    caller: Caller
    catalogue: Catalogue

    async def answer(self, body: bytes) -> HTTPResponse:
        text = await asyncio.to_thread(self.catalogue.permitted, lambda names: self.policy.permits(names, self.caller))
        return written("application/json", text)

    @property
    def client(self) -> str:
        return self.caller.client

    def too_many(self) -> HTTPResponse:
        return plain(429, "Too many requests at once.\n")

    def too_large(self) -> HTTPResponse:
        return plain(413, "No body is read here.\n")

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        return plain(status, f"{reason}\n")
