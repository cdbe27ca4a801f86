"""What the pages name is there: paths in ARCHITECTURE.md, words of make, commands, local links."""

import re
from pathlib import Path

import pytest

from threadline.cli import ENTRIES

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/support/**/*.md")]

PATH = re.compile(r"`([\w./<>]+(?:/|\.(?:py|md|json|yaml|toml|sql)))`")


def missing_paths(text: str) -> list[str]:
    """Paths in code style that nothing answers to; `<name>` stands for any folder.

    In a list entry, a bare name stands in the folder of the entry's first path.
    """
    return [
        f"{folder}/{word}"
        for entry in re.split(r"\n(?:- |\n)", text)
        for words in [re.findall(PATH, entry)]
        for folder in [folder_of(words[0]) if words else "."]
        for word in words
        if not answers(folder, word)
    ]


def folder_of(word: str) -> str:
    return re.sub(r"<\w+>", "*", word).rpartition("/")[0] or "**"


def answers(folder: str, word: str) -> bool:
    pattern = re.sub(r"<\w+>", "*", word).rstrip("/")
    return any(any(ROOT.glob(place)) for place in (pattern, f"{folder}/{pattern}"))


def words_of_make() -> set[str]:
    return set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_path_of_the_architecture_exists() -> None:
    assert missing_paths((ROOT / "ARCHITECTURE.md").read_text()) == []


def test_a_path_that_is_not_there_is_found() -> None:
    text = "- `rules/ports.py` and `no_such.py`.\n- `protocols/drivers/<name>/` `nothing/here.md`."
    assert missing_paths(text) == ["rules/no_such.py", "protocols/drivers/*/nothing/here.md"]


def test_every_command_on_a_page_exists() -> None:
    texts = [page.read_text() for page in PAGES]
    named = {
        word
        for text in texts
        for word in re.findall(r"(?:`|^\s*|\$ )threadline ([a-z]+)\b", text, re.MULTILINE)
    }
    assert named <= ENTRIES.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_word_of_make_on_a_page_exists(page: Path) -> None:
    named = set(re.findall(r"(?:`|^|\s)make ([a-z]+)(?=`|\s+#|$)", page.read_text(), re.MULTILINE))
    assert named <= words_of_make()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_first_page_names_the_words_it_promises() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
