"""The OpenAPI document against the server: generated requests, right ones and wrong ones, never end in a 500.

A longer run of the same: `uv run schemathesis run http://127.0.0.1:8321/openapi.json --max-examples 500` beside a started
`SHARDWISE_QUESTIONS_PER_MINUTE=1000000 shardwise serve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.bot.channels.serving import application, configured, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge.settings import Settings

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def api(small: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The document of a running server."""
    with serving(application(configured(small, tmp_path_factory.mktemp("kept")))) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
def test_no_request_breaks_the_server(api: schemathesis.BaseSchema, mode: schemathesis.GenerationMode) -> None:
    """Each operation answers what its document says, whatever it is given."""
    for found in api.get_all_operations():
        operation = found.ok()
        try:
            strategy = operation.as_strategy(generation_mode=mode)
            _try_out(strategy)
        except (hypothesis.errors.Unsatisfiable, schemathesis.errors.SchemathesisError):
            assert mode is schemathesis.GenerationMode.NEGATIVE  # an operation without input cannot be given a wrong one


def _try_out(strategy: hypothesis.strategies.SearchStrategy[schemathesis.Case]) -> None:
    @hypothesis.settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=strategy)
    def call(case: schemathesis.Case) -> None:
        response = case.call()
        refused_unread = response.status_code == 413  # which schemathesis does not count as a refusal
        case.validate_response(response, checks=_CHECKS[:-1] if refused_unread else _CHECKS)

    call()
