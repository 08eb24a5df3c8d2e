"""What a release has and has not: flags and features named in a question, and how two releases differ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bot.compose.words import say
from knowledge.errors import ShardwiseError
from knowledge.topology.releases import parse

if TYPE_CHECKING:
    from bot.understand import Understood
    from knowledge.index.corpus import SqliteCorpus
    from knowledge.notes.note import ResolvedNote
    from knowledge.ports import Retriever

_FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", re.IGNORECASE)
_SHORT = {  # colloquial names of features, and the flag that brings each
    "dcp": "--decode-context-parallel-size",
    "pcp": "--prefill-context-parallel-size",
    "eplb": "--enable-eplb",
    "dbo": "--enable-dbo",
    "nnodes": "--nnodes",
}
_SHORT_FLAGS = {
    "-tp",
    "-pp",
    "-dp",
    "-dcp",
    "-pcp",
    "-ep",
    "-dpl",
    "-dpn",
    "-dpr",
    "-dpa",
    "-dpp",
    "-dpb",
    "-dph",
    "-dpe",
    "-asc",
    "-n",
    "-r",
}


def named_flags(text: str) -> list[str]:
    """Return the flags a question names, written out."""
    found = []
    for match in _FLAG.finditer(text):
        flag = match[0]
        if flag.startswith("--"):
            found.append("--" + flag[2:].replace("_", "-"))
        elif flag in _SHORT_FLAGS and (name := _SHORT.get(flag[1:].lower())):
            found.append(name)
    return list(dict.fromkeys(found))


def availability(one: Understood, corpus: SqliteCorpus, retriever: Retriever) -> str:
    """Say of each named flag that the release does not have it, when it came or went, and what to use; else nothing."""
    flags = named_flags(one.text)
    if one.releases or one.intent == "release":
        flags += [flag for name, flag in _SHORT.items() if re.search(rf"(?<![a-z]){name}(?![a-z])", one.text, re.IGNORECASE)]
    said = []
    for flag in dict.fromkeys(flags):
        first = _history(flag, retriever)[0]
        there = corpus.has_name(flag) and not (first and parse(first) > parse(corpus.release))
        if there or flag in {"--no", "--help"}:
            continue
        said.append(_absent(one, flag, corpus, retriever))
    return "\n".join(said[:2])


def _absent(one: Understood, flag: str, corpus: SqliteCorpus, retriever: Retriever) -> str:
    first, last, instead = _history(flag, retriever)
    release = corpus.release
    if first and parse(first) > parse(release):
        return say(
            one.language,
            f"**No, vLLM {release} does not have `{flag}`;** of the releases I hold, {first} is the first with it.",
            f"**没有，vLLM {release} 还不支持 `{flag}`**；在我收录的版本里，从 {first} 开始才有。",
        )
    use = say(one.language, f" Use `{instead}`.", f" 请改用 `{instead}`。") if instead else ""
    if last and parse(last) < parse(release):
        return say(
            one.language,
            f"**`{flag}` is gone from vLLM {release};** {last} is the last release I hold with it.{use}",
            f"**vLLM {release} 已经没有 `{flag}` 了**，我收录的版本里最后一个有它的是 {last}。{use}",
        )
    return say(
        one.language, f"**No, vLLM {release} has no flag `{flag}`.**{use}", f"**vLLM {release} 没有 `{flag}` 这个参数。**{use}"
    )


def _history(flag: str, retriever: Retriever) -> tuple[str, str, str]:
    """Return (first release, last release, replacement) of a flag from the flag table, else from the indexes."""
    try:
        from knowledge.topology.flags import flag_history  # type: ignore[import-not-found,unused-ignore]

        if known := flag_history(flag):
            return str(known.first or ""), str(known.last or ""), str(getattr(known, "replacement", "") or "")
    except (ImportError, AttributeError, ShardwiseError):
        pass
    having = [release for release in sorted(retriever.releases(), key=parse) if retriever.corpus(release).has_name(flag)]
    return (having[0], having[-1], "") if having else ("", "", "")


def compared(one: Understood, note: ResolvedNote, retriever: Retriever, version: str) -> str:
    """Say what the same note holds for the other releases that a question names, where that differs."""
    said = []
    for release in one.releases:
        if release == version or release not in retriever.releases():
            continue
        other = retriever.corpus(release).notes.get(note.id)  # type: ignore[attr-defined]
        if other is None:
            continue
        answers = [claim.text(one.language) for claim in other.of("answer")]
        mine = [claim.text(one.language) for claim in note.of("answer")]
        if answers != mine:
            said.append(
                say(one.language, f"In vLLM {release}: {' '.join(answers)}", f"在 vLLM {release} 里：{' '.join(answers)}")
            )
    return "\n\n".join(said)
