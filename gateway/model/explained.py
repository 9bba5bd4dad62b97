"""What each fault of the gateway means, and what to do about it. docs/faults.md and the console use these words.

``EXPLAINED`` has a row for each class of faults.CATALOGUE.

    explanations(-32002)      what a code may mean, in words for people; nothing for a code that is not the gateway's
    anchor(-32002, title)     where docs/faults.md says so
"""

from typing import NamedTuple

from gateway.model import faults


class Explanation(NamedTuple):
    """A row.

    Attributes:
        cause: what has happened, in one sentence.
        remedy: what the caller, the author of the method or the operator can do.

    """

    cause: str
    remedy: str


EXPLAINED: dict[type[faults.Fault], Explanation] = {
    faults.Fault: Explanation(
        "The method itself has answered with a fault: the text and the code are its own.",
        "Read the text. The documentation of the method says what it means; the gateway has nothing to add.",
    ),
    faults.ParseError: Explanation(
        "The body of the request is not well-formed XML or JSON, or does not unpack.",
        "Look at the bytes that are sent: the fault names the place. Often a body was cut off, or written by hand.",
    ),
    faults.UnsupportedEncoding: Explanation(
        "The XML document names a character encoding that the gateway does not read.",
        "Send UTF-8, and say so in the XML declaration or leave it out.",
    ),
    faults.InvalidCharacter: Explanation(
        "The bytes of the body are not text in the encoding that they claim.",
        "Encode the body as UTF-8. Bytes that are not text go into <base64> in XML-RPC, and into base64 in JSON.",
    ),
    faults.InvalidRequest: Explanation(
        "The body is well-formed, but it is not a call of its protocol.",
        'Send a <methodCall>, or a JSON object with "jsonrpc": "2.0" and "method". The fault names what is wrong.',
    ),
    faults.MethodNotFound: Explanation(
        "There is no method of exactly this name, or this caller may not see it on this protocol.",
        "Compare the name with what system.listMethods returns for this caller. Upper and lower case differ.",
    ),
    faults.InvalidParams: Explanation(
        "The arguments do not fit the method; the fault names the place, like params[0].price.",
        "Compare the arguments with the signature of the method. Types are strict: the text 1 is not a number.",
    ),
    faults.InternalError: Explanation(
        "The method crashed, or its result cannot be written in the protocol of the caller.",
        "Find the error id of the fault in the log of the gateway, where the traceback is: gateway errors ID FILE.",
    ),
    faults.DeadlineExceeded: Explanation(
        "The call had no response within its time. It may still have had its effect.",
        "Call again only if the method may run twice. If it needs more time, raise its timeout or limits.timeout.",
    ),
    faults.Unavailable: Explanation(
        "The upstream that has the method cannot be reached, or the gateway is stopping.",
        "Call again later. The operator finds the reason with gateway upstreams, and in the log.",
    ),
    faults.Overloaded: Explanation(
        "Too many calls run and wait at the same time, so this one was refused at once.",
        "Call again after retry_after seconds. The operator can raise limits.threads, limits.calls or limits.waiting.",
    ),
    faults.RateLimited: Explanation(
        "This caller has made more calls than limits.client_rate or limits.key_rate allow.",
        "Call again after retry_after seconds, and less often. Each call of a batch counts.",
    ),
    faults.BadUpstream: Explanation(
        "The upstream has responded with something that its protocol does not allow.",
        "The log of the gateway has the details. Check that the URL in gateway.toml names the right protocol.",
    ),
    faults.Denied: Explanation(
        "This caller may not do this: by its address, the Host, the Origin of a web page, its key, or a rule.",
        "Send a valid key. The operator sees the reason in the log; gateway explain METHOD names the option.",
    ),
    faults.RequestTooLarge: Explanation(
        "The request has more bytes than limits.max_body or limits.max_header allow, before or after unpacking.",
        "Send less in one call, or have the operator raise the limit, in nginx too.",
    ),
    faults.ResponseTooLarge: Explanation(
        "The response would have more bytes than limits.max_reply allows. The method has run.",
        "Ask for less in one call, for example for a page of a list, or have the operator raise the limit.",
    ),
}


def anchor(code: int, title: str) -> str:
    """Return the place in docs/faults.md that is about a fault, as code hosts and the site name it."""
    return f"{code}-{title.lower().replace(' ', '-')}"


def explanations(code: int) -> list[str]:
    """Return what a code may mean, and what to do, a text for each fault that has it."""
    return [
        f"{row.code} {row.title}\n\n{cause}\n\nWhat to do: {remedy}\n\n"
        f"More: docs/faults.md#{anchor(row.code, row.title)}"
        for kind, row in faults.CATALOGUE.items()
        for cause, remedy in [EXPLAINED[kind]]
        if row.code == code
    ]
