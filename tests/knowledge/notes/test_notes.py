"""Every shipped note is whole: readable, bilingual, within its limits, under an id of its own."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from knowledge.notes import loader
from knowledge.notes.loader import load_notes, parse_note

FILES = sorted(Path(loader.__file__).parent.glob("*.toml"))
CJK = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_note_is_valid_and_bilingual(file: Path) -> None:
    """A shipped note parses, and says all it says in English and in Chinese."""
    note = parse_note(file.name, file.read_text("utf-8"))
    assert all(CJK.search(text) for text in (claim.zh for claim in note.claims))
    assert not any(CJK.search(text) for text in (note.subject_en, *(claim.en for claim in note.claims)))
    assert len(note.ask_en) >= 2
    assert len(note.ask_zh) >= 2
    assert any(CJK.search(text) for text in note.ask_zh)
    assert all(claim.zh != claim.en for claim in note.claims)


def test_ids_and_subjects_are_distinct() -> None:
    """No two notes share an id or a subject, so a citation names one note."""
    notes = load_notes()
    assert len({note.id for note in notes}) == len(notes) == len(FILES)
    assert len({note.subject_en for note in notes}) == len(notes)
    assert len({note.subject_zh for note in notes}) == len(notes)


def test_evidence_points_into_a_release() -> None:
    """Evidence names a path inside vLLM's tree and quotes no more than a piece of a line."""
    for note in load_notes():
        for claim in note.claims:
            for piece in claim.evidence:
                assert not piece.path.startswith(("/", "."))
                assert len(piece.contains) <= 160, note.id


def test_second_load_is_quick() -> None:
    """Loading again in the same process costs next to nothing."""
    load_notes()
    started = time.perf_counter()
    load_notes()
    assert time.perf_counter() - started < 0.05


def test_copy_of_an_earlier_process_is_equal_and_quick(tmp_path: Path) -> None:
    """The parsed copy holds the same notes, takes little time, and a damaged copy is read around."""
    loader._load.cache_clear()
    started = time.process_time()
    first = load_notes(tmp_path)
    parsing = time.process_time() - started
    loader._load.cache_clear()
    started = time.process_time()
    second = load_notes(tmp_path)
    copying = time.process_time() - started
    assert second == first
    assert copying < parsing
    loader._load.cache_clear()
    (copy,) = tmp_path.glob("*.json")
    copy.write_text("[{", "utf-8")
    assert load_notes(tmp_path) == first
