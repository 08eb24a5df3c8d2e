"""`shardwise eval --suite conformance`: the calculator held against vLLM's own functions, release by release."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evals.conformance import Conformed

_SMOKE = ("0.9.2", "0.33.0")  # the oldest and the newest rules of every kind
_SMOKE_LAYOUTS = 1000


def run(vllm: str, *, smoke: bool) -> NoReturn:
    """Compare the releases (sources come from the package index) and say how each came out; exit 1 where one disagrees.

    A whole run notes which releases agree, and makes the tables of places and of flags anew; a shorter one only checks them.
    """
    from evals import conformance as suite

    wanted = (vllm,) if vllm else _SMOKE if smoke else suite.RELEASES
    files = {release: source_files(release) for release in wanted}
    if len(wanted) == len(suite.RELEASES):
        _make_tables(files)
    results = []
    for one in suite.check_all(files, _SMOKE_LAYOUTS if smoke else suite.LAYOUTS):
        results.append(one)
        click.echo(f"vLLM {one.release}: {one.layouts} layouts, {len(one.disagreements)} disagreements.")
    wrong = [*_disagreements(results), *_outdated(files)]
    click.echo("".join(f"- {line}\n" for line in wrong), nl=False)
    if not smoke:
        suite.write_checked(results)
    sys.exit(bool(wrong))


def _disagreements(results: Iterable[Conformed]) -> Iterator[str]:
    for one in results:
        yield from map(str, one.disagreements[:3])


def _outdated(files: dict[str, dict[str, str]]) -> Iterator[str]:
    from evals import flags, places

    for release, texts in files.items():
        for key in places.differing(release, texts):
            yield f"places.json has {key} elsewhere than vLLM {release}; run the whole suite"
        for name in flags.differing(release, texts):
            yield f"flags.toml and vLLM {release} differ about {name}; run the whole suite"


def _make_tables(files: dict[str, dict[str, str]]) -> None:
    from evals import flags, places

    places.write(files.items())
    flags.write(files.items())


def source_files(release: str) -> dict[str, str]:
    """Return the files of one release that the suite reads, downloading the release where needed."""
    from evals import conformance, flags, places
    from ingest.archive import members
    from ingest.sources.vllm_release import VllmRelease
    from knowledge.settings import Settings

    wanted = conformance.FILES | places.FILES | flags.FILES
    archive = VllmRelease(release, Settings().cache).archive().path
    return {name: content.decode("utf-8") for name, content in members(archive, wanted.__contains__)}
