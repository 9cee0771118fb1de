"""The routes of the seal, in the formats of C2SP: checkpoint, tiles, entries, proofs."""

from typing import Any, Final

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.evidence.tree import NoSealedEvent, SealedLog
from pulse.http.asgi import IMMUTABLE_HEADERS, SECURITY_HEADERS_KEY
from pulse.http.rights import needs

_TEXT: Final = "text/plain"
_BYTES: Final = "application/octet-stream"
_MAX_DIGITS: Final = 18
_MAX_ECHOED_CHARACTERS: Final = 72


def seal_routes(sealed_log: SealedLog) -> list[HTTPRouteHandler]:
    """The routes over the sealed log."""

    @get(
        "/internal/log/checkpoint",
        opt=needs("read"),
        summary="Read the checkpoint",
        tags=["seal"],
        media_type=_TEXT,
        response_description="The latest checkpoint.",
    )
    async def read_checkpoint() -> Response[str]:
        """A C2SP checkpoint: a signed note with the size and the root of the log's Merkle tree.

        A new one is signed about twice a second while events come. 404 if there is none: Pulse
        seals the log only if it has a key.
        """
        return Response(await sealed_log.checkpoint(), media_type=_TEXT)

    @get(
        "/internal/log/tile/{tile:path}",
        opt=needs("read"),
        summary="Read a tile of the Merkle tree",
        tags=["seal"],
        media_type=_BYTES,
        response_description="The tile.",
    )
    async def read_tile(request: Request[Any, Any, Any], tile: FromPath[str]) -> Response[bytes]:
        """A C2SP tile `<L>/<N>` of hashes, or a bundle `entries/<N>` of log entries.

        The number N is in groups of three digits, all but the last with an `x`: 1234067 is
        `x001/x234/067`. The first W hashes or entries are `<N>.p/<W>`. 404 beyond the tree of the
        latest checkpoint. The content of a path never changes.
        """
        content = await sealed_log.tile(tile.removeprefix("/"))
        scope: Any = request.scope
        scope[SECURITY_HEADERS_KEY] = IMMUTABLE_HEADERS
        return Response(content, media_type=_BYTES)

    @get(
        "/internal/events/{position:str}/proof",
        opt=needs("read"),
        summary="Prove that an event is in the log",
        tags=["seal"],
        media_type=_TEXT,
        response_description="The proof.",
    )
    async def read_proof(position: FromPath[str]) -> Response[str]:
        """A C2SP tlog-proof: an inclusion proof of the event's entry, with the latest checkpoint.

        404 if no sealed event has this position. 503 if the event is not sealed yet, usually for
        less than a second.
        """
        if not (position.isascii() and position.isdigit() and len(position) <= _MAX_DIGITS):
            raise NoSealedEvent(position[:_MAX_ECHOED_CHARACTERS])
        proof = await sealed_log.proof(int(position))
        return Response(proof, media_type=_TEXT)

    return [read_checkpoint, read_tile, read_proof]
