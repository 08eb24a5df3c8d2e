"""Threads over GitHub's REST: issues and pull requests by label or search, with their comments.

Pages are followed, answers kept with their ETag and asked for conditionally, rate limits waited for within reason. When
GitHub cannot be reached the run says so and goes on with the digests at hand.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

from ingest.patience import tries
from ingest.sources.issue_file import HIDDEN, thread
from knowledge.errors import BadInputError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from knowledge.settings import Settings
    from knowledge.types import Document

_REPOSITORY = re.compile(r"^[\w.-]+/[\w.-]+$")
_SEARCH = '"tensor parallel" OR "expert parallel" OR "pipeline parallel" OR "data parallel"'
_PAGES = 10  # GitHub's search gives at most 1,000 results
_PER_PAGE = 100
_COMMENTS = 5
_TEXT = 6_000
_WAIT_S = 90.0  # longer waits for a rate limit are left to the next run
_TIMEOUT_S = 20.0


class _Busy(Exception):  # noqa: N818 - not an error of ours: a reason to try again
    pass


@dataclass
class GitHubIssues:
    """The threads of one repository that speak of parallelism."""

    settings: Settings
    repository: str
    label: str = ""
    query: str = _SEARCH
    sleep: Callable[[float], None] = field(default=time.sleep)

    def documents(self) -> Iterator[Document]:
        """Yield threads, newest first; raises SourceError when GitHub cannot be reached."""
        if '"' in self.label:
            raise BadInputError(f"{self.label!r} is no label: it holds a quotation mark.")
        if not _REPOSITORY.match(self.repository):
            raise BadInputError(f"{self.repository!r} is no repository; write it as OWNER/REPO.")
        with httpx.Client(base_url=self.settings.github_api, headers=self._headers(), timeout=_TIMEOUT_S) as client:
            for page in range(1, _PAGES + 1):
                rows = self._page(client, page)
                for row in rows:
                    yield self._thread(client, row)
                if len(rows) < _PER_PAGE:
                    return

    def _page(self, client: httpx.Client, page: int) -> list[dict[str, Any]]:
        what = f'label:"{self.label}"' if self.label else self.query
        query = {"q": f"repo:{self.repository} {what}", "sort": "updated", "per_page": str(_PER_PAGE), "page": str(page)}
        found = self._get(client, "/search/issues", query)
        return list(found.get("items") or []) if isinstance(found, dict) else []

    def _thread(self, client: httpx.Client, row: dict[str, Any]) -> Document:
        comments = []
        if row.get("comments"):
            path = f"/repos/{self.repository}/issues/{int(row['number'])}/comments"
            read = self._get(client, path, {"per_page": str(_COMMENTS)})
            comments = [str(one.get("body") or "") for one in read] if isinstance(read, list) else []
        text = "\n\n".join([str(row.get("body") or ""), *comments])
        meta = {
            "repo": self.repository,
            "number": int(row["number"]),
            "title": str(row.get("title") or "no title")[:300],
            "url": f"https://github.com/{self.repository}/issues/{int(row['number'])}",
            "state": str(row.get("state") or ""),
            "kind": "pr" if row.get("pull_request") else "issue",
            "labels": [str(label.get("name")) for label in row.get("labels") or []],
            "created": str(row.get("created_at") or "")[:10],
        }
        return thread(meta, HIDDEN.sub("", text).replace("\r\n", "\n")[:_TEXT])

    def _headers(self) -> dict[str, str]:
        token = self.settings.github_token.get_secret_value()
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28", "User-Agent": "shardwise"}
        return headers | ({"Authorization": f"Bearer {token}"} if token else {})

    def _get(self, client: httpx.Client, path: str, query: dict[str, str]) -> Any:
        """Return a resource's JSON, from the cache if it has not changed."""
        kept = self._kept(path, query)
        known = _read(kept)
        headers = {"If-None-Match": known["etag"]} if known.get("etag") else {}
        try:
            for attempt in tries(_Busy, httpx.TransportError, total_s=2 * _WAIT_S):
                with attempt:
                    response = client.get(path, params=query, headers=headers)
                    self._wait(response)
        except (_Busy, httpx.HTTPError) as error:
            raise SourceError(
                f"GitHub's threads of {self.repository} cannot be read ({error or type(error).__name__})."
            ) from error
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return known["body"]
        if response.status_code != httpx.codes.OK:
            raise SourceError(f"GitHub answered {response.status_code} for {self.repository}; check its name and the token.")
        try:
            body = response.json()
        except ValueError as error:
            raise SourceError(f"GitHub's answer for {self.repository} is not JSON.") from error
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside = kept.with_suffix(".new")
        aside.write_text(json.dumps({"etag": response.headers.get("ETag", ""), "body": body}), encoding="utf-8")
        aside.replace(kept)
        return body

    def _wait(self, response: httpx.Response) -> None:
        """Wait for a rate limit to pass, if that is soon; ask for another try on a server's fault."""
        limited = response.status_code in (403, 429) and (
            "Retry-After" in response.headers or response.headers.get("X-RateLimit-Remaining") == "0"
        )
        if limited:
            seconds = _seconds_left(response.headers)
            if seconds > _WAIT_S:
                raise SourceError(f"GitHub's rate limit lasts another {seconds:.0f} s; give SHARDWISE_GITHUB_TOKEN or run later.")
            self.sleep(seconds)
            raise _Busy("rate limit")
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise _Busy(f"status {response.status_code}")

    def _kept(self, path: str, query: dict[str, str]) -> Path:
        name = hashlib.sha256(f"{self.settings.github_api}{path}{sorted(query.items())}".encode()).hexdigest()[:24]
        return self.settings.cache / "github" / f"{name}.json"


def _seconds_left(headers: httpx.Headers) -> float:
    """Read how long to wait: Retry-After in seconds or as a date, else the time the rate limit resets."""
    given = headers.get("Retry-After", "")
    try:
        if given and not given.strip().isdigit():
            left = parsedate_to_datetime(given).timestamp() - time.time()
        elif given:
            left = float(given)
        else:
            left = float(headers.get("X-RateLimit-Reset") or 0) - time.time()
    except ValueError:
        left = 0.0
    return max(1.0, left)


def _read(kept: Path) -> dict[str, Any]:
    """Return what was kept of an answer; a damaged file counts as none."""
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and "body" in known else {}
