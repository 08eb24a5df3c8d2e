"""What a release has and has not: flags and features named in a question, and how two releases differ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bot.compose.words import say
from knowledge.topology.flags import all_flags, flag_history
from knowledge.topology.releases import parse

if TYPE_CHECKING:
    from bot.understand import Understood
    from knowledge.index.corpus import SqliteCorpus
    from knowledge.notes.note import ResolvedNote
    from knowledge.ports import Retriever

_FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", re.IGNORECASE)
_FEATURES = {
    "dcp|decode context parallel(?:ism)?": "--decode-context-parallel-size",
    "pcp|prefill context parallel(?:ism)?": "--prefill-context-parallel-size",
    "eplb|expert load balanc\\w+": "--enable-eplb",
    "dbo|dual batch overlap": "--enable-dbo",
    "ep|expert parallel(?:ism)?|专家并行": "--enable-expert-parallel",
    "dp|data parallel(?:ism)?|数据并行": "--data-parallel-size",
    "elastic ep|弹性 ?ep": "--enable-elastic-ep",
    "nnodes": "--nnodes",
    "all2all(?:[- ]backend)?": "--all2all-backend",
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
        elif flag in _SHORT_FLAGS and (known := flag_history(flag)):
            found.append(known.name)
    return list(dict.fromkeys(found))


def availability(one: Understood, corpus: SqliteCorpus, retriever: Retriever) -> str:
    """Say of each named flag that the release does not have it, when it came or went, and what to use; else nothing."""
    flags = named_flags(one.text)
    if one.releases or one.intent == "release":
        flags += _asked_flags(one.text)
    said = []
    for flag in dict.fromkeys(flags):
        if flag in {"--no", "--help"} or _there(flag, corpus):
            continue
        said.append(_absent(one, flag, corpus, retriever))
    return "\n".join(said[:2])


def _there(flag: str, corpus: SqliteCorpus) -> bool:
    """Whether a release has a flag: the table of flags decides; the index, which may lack files, only for flags it does not know."""
    if known := flag_history(flag):
        release = parse(corpus.release)
        return parse(known.first) <= release and not (known.last and parse(known.last) < release)
    return corpus.has_name(flag)


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
    if known := flag_history(flag):
        return known.first, known.last or "", known.replacement
    having = [release for release in sorted(retriever.releases(), key=parse) if retriever.corpus(release).has_name(flag)]
    return (having[0], having[-1], "") if having else ("", "", "")


_SINCE = re.compile(
    r"since when|since which|first (?:release|version)|which (?:release|version)|what (?:release|version)|when (?:was|did|were)|introduced|added in|从(?:哪个|什么)版本|哪个版本|什么时候(?:开始|支持|有|加)|最早",
    re.IGNORECASE,
)
_DEFAULT = re.compile(r"\bdefault|默认", re.IGNORECASE)


def since(one: Understood) -> str:
    """Say from which release to which there is the flag or the feature that a question asks the age of."""
    if not _SINCE.search(one.text):
        return ""
    said = []
    for flag in _asked_flags(one.text):
        known = flag_history(flag)
        if known is None:
            continue
        gone_en = f"; {known.last} is the last with it" if known.last else ""
        gone_zh = f"，到 {known.last} 为止" if known.last else ""
        use = say(one.language, f" Use `{known.replacement}`.", f" 请改用 `{known.replacement}`。") if known.replacement else ""
        said.append(
            say(
                one.language,
                f"**`{known.name}` is in vLLM from {known.first}**{gone_en} (of the releases checked).{use}",
                f"**`{known.name}` 从 vLLM {known.first} 开始有**{gone_zh}（在核对过的版本里）。{use}",
            )
        )
    return "\n".join(said[:2])


def _asked_flags(text: str) -> list[str]:
    words = [flag for name, flag in _FEATURES.items() if re.search(rf"(?<![a-z])(?:{name})(?![a-z])", text, re.IGNORECASE)]
    variables = re.findall(r"\bVLLM_[A-Z0-9_]+\b", text)
    return list(dict.fromkeys([*named_flags(text), *variables, *words]))


def defaults(one: Understood) -> str:
    """Set a flag's defaults in the releases that a question names beside each other."""
    if len(one.releases) < 2 or not _DEFAULT.search(one.text):  # noqa: PLR2004
        return ""
    rows = []
    for flag in _asked_flags(one.text)[:3]:
        known = flag_history(flag)
        values = [known.default(release) if known else None for release in one.releases]
        if known and any(values):
            rows.append(f"| `{known.name}` | " + " | ".join(f"`{value}`" if value else "—" for value in values) + " |")
    if not rows:
        return ""
    head = say(one.language, "| flag | ", "| 参数 | ") + " | ".join(one.releases) + " |"
    return "\n".join([head, "|" + "---|" * (1 + len(one.releases)), *rows])


def flag_changes(one: Understood) -> str:
    """List the parallelism flags of a subject that came or went between the two releases a question names."""
    if len(one.releases) != 2 or not _CHANGED.search(one.text):  # noqa: PLR2004
        return ""
    old, new = sorted(one.releases, key=parse)
    topics = [name for name in _TOPICS if re.search(rf"(?<![a-z])(?:{name})(?![a-z])", one.text, re.IGNORECASE)]
    came: list[str] = []
    went: list[str] = []
    for flag in all_flags():
        if topics and not any(re.search(_TOPICS[name], flag.name) for name in topics):
            continue
        had = parse(flag.first) <= parse(old) and not (flag.last and parse(flag.last) < parse(old))
        has = parse(flag.first) <= parse(new) and not (flag.last and parse(flag.last) < parse(new))
        (came if has and not had else went if had and not has else []).append(f"`{flag.name}`")
    return "\n".join(
        f"- {label} {', '.join(names[:10])}{' …' if len(names) > 10 else ''}"  # noqa: PLR2004 - what one line holds
        for label, names in (
            (say(one.language, f"**New in {new}, compared with {old}:**", f"**{new} 比 {old} 新增：**"), came),
            (say(one.language, f"**Gone by {new}:**", f"**到 {new} 已没有：**"), went),
        )
        if names
    )


_CHANGED = re.compile(r"chang|differ|new |between|变|不同|区别|差别|差异|新增", re.IGNORECASE)
_TOPICS = {
    "eplb": "eplb|redundant",
    "ep|expert[- ]parallel(?:ism)?|专家并行": "expert|all2all|eplb|elastic",
    "dp|data[- ]parallel(?:ism)?|数据并行": "data-parallel|DP_",
    "dcp|pcp|cp|context[- ]parallel(?:ism)?|上下文并行": "context-parallel|dcp|cp-kv",
    "pp|pipeline[- ]parallel(?:ism)?|流水线": "pipeline|PP_",
    "all2all": "all2all|ALL2ALL",
    "dbo": "dbo",
}


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
