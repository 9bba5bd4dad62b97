"""What is recorded of calls for ``gateway replay``: the section ``[record]``. docs/record.md explains it."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from gateway.model.places import place

_MIB = 2**20
_RECORDS = 16  # that the folder has room for, at least


class RecordSection(Struct, frozen=True, kw_only=True):
    """Recordings of calls, with their arguments and results; docs/record.md explains them."""

    methods: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="The methods whose calls are recorded with their arguments and results, for"
            ' "gateway replay": patterns with * and ?. None by default.'
        ),
    ] = ()
    share: Annotated[
        float, Meta(ge=0, le=1, description="The share of their calls that is recorded, drawn by lot.")
    ] = 1.0
    folder: Annotated[
        str,
        Meta(
            description="The folder for the recordings, which is needed with record.methods. Only the gateway's user"
            " can read it: it is made with the mode 0700, and its files have 0600."
        ),
    ] = ""
    max_folder: Annotated[
        int,
        Meta(
            ge=_MIB,
            le=2**40,
            description="Bytes of all recordings in the folder; the oldest files are removed for new ones.",
        ),
    ] = 256 * _MIB
    max_record: Annotated[
        int,
        Meta(
            ge=1024,
            le=64 * _MIB,
            description="Bytes of one recorded call. Of a larger one, the arguments or the result are left out.",
        ),
    ] = 65536
    redact: Annotated[
        tuple[str, ...],
        Meta(
            description='What is never written: places like "params[0].password", "params.user.password" and'
            ' "result.*.token"; with a pattern of methods before it as "auth.*:params[1]".'
        ),
    ] = ()
    redact_secrets: Annotated[
        bool,
        Meta(
            description="Whether what looks like a secret is not written either: values with names like password,"
            " token, secret, authorization and api_key, bearer tokens, JWTs and private keys."
        ),
    ] = True


def record_contradictions(section: RecordSection) -> Iterator[str]:
    """Tell what keeps calls from being recorded as the options say."""
    for number, text in enumerate(section.redact):
        try:
            place(text)
        except ValueError as error:
            yield f"record.redact[{number}]: {error}"
    if section.methods and not section.folder:
        yield "record.folder is needed with record.methods"
    if section.max_record * _RECORDS > section.max_folder:
        yield f"record.max_folder: expected room for {_RECORDS} records of record.max_record ({section.max_record})"
