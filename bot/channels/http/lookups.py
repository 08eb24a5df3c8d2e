"""Search, the calculator and its drawing: what needs no question."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from bot.channels.http.schemas import DiagramRequest, SearchOut, SearchRequest, TopologyOut, TopologyRequest
from knowledge.errors import BadInputError
from knowledge.topology import Layout, compute
from knowledge.topology.models import all_models
from knowledge.topology.svg import draw

if TYPE_CHECKING:
    from knowledge.ports import Retriever
    from knowledge.topology import Topology
    from knowledge.types import Hit

_RANKS = 1024  # of a layout over HTTP; the command line takes more
_LISTED = 300_000  # expert ids in one reply, some two megabytes


def lookups(retriever: Retriever) -> APIRouter:
    """Return the routes that look something up."""
    router = APIRouter()

    @router.post("/v1/search", response_model=SearchOut)
    async def search(body: SearchRequest) -> Response:
        """Find places in the docs, the code and the threads of one release."""
        version = body.vllm_version or retriever.releases()[0]
        hits = await asyncio.to_thread(retriever.search, body.query, version=version, limit=body.k)
        return JSONResponse({"vllm": version, "hits": [as_hit(hit) for hit in hits]})

    @router.post("/v1/topology", response_model=TopologyOut)
    async def topology(body: TopologyRequest) -> Response:
        """Compute a layout: groups, experts, layers, findings; the JSON of `shardwise topo --json`."""
        return JSONResponse((await asyncio.to_thread(computed, Layout(**body.model_dump()))).to_dict())

    @router.post("/v1/diagram", response_class=Response, responses={200: {"content": {"image/svg+xml": {}}}})
    async def diagram(body: DiagramRequest) -> Response:
        """Draw a layout as SVG."""
        made = await asyncio.to_thread(computed, Layout(**body.model_dump(exclude={"language"})))
        return Response(draw(made, body.language), media_type="image/svg+xml")

    @router.get("/v1/releases")
    async def releases() -> dict[str, Any]:
        """List the indexed releases, newest first."""
        return {"releases": retriever.releases()}

    @router.get("/v1/models/known")
    async def models() -> dict[str, Any]:
        """List the models whose sizes the calculator knows."""
        return {"models": [{"name": one.name, "experts": one.experts, "layers": one.layers} for one in all_models()]}

    return router


def computed(layout: Layout) -> Topology:
    """Compute a layout of a size that a reply can hold; raises BadInputError."""
    ranks = layout.tp * layout.pp * layout.dp * layout.pcp
    if ranks > _RANKS:
        raise BadInputError(f"dp*pp*pcp*tp is {ranks} ranks; at most {_RANKS} are computed here, more by `shardwise topo`.")
    made = compute(layout)
    if sum(len(one.experts or ()) for one in made.ranks) > _LISTED:
        raise BadInputError(f"This layout lists more than {_LISTED} expert ids; take fewer ranks, or use `shardwise topo`.")
    return made


def as_hit(hit: Hit) -> dict[str, Any]:
    """Return a hit as the JSON of the contract."""
    chunk = hit.chunk
    return {
        "path": chunk.path,
        "start_line": chunk.start_line,
        "end_line": chunk.end_line,
        "heading": chunk.heading,
        "kind": chunk.kind,
        "score": round(hit.score, 4),
        "text": chunk.text,
        "url": chunk.url,
    }
