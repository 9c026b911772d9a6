import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.finding import with_exact
from serve.search import TitleSearch, further_columns, normalize

BOOKS = [
    ("The Hunger Games (The Hunger Games, #1)", "Suzanne Collins", 900),
    ("Harry Potter and the Sorcerer's Stone (Harry Potter, #1)", "J.K. Rowling", 2500),
    ("Harry, A History", "Melissa Anelli", 12),
    ("Les Mis\u00e9rables", "Victor Hugo", 400),
    ("It", "Stephen King", 300),
    ("Italian Folktales", "Italo Calvino", 900),
    ("Games People Play", "Eric Berne", 80),
    ("The Shining", "Stephen King", 700),
    ("The Return of the King", "J.R.R. Tolkien", 1500),
    ("Bj\u00f8rnstjerne: \u0141\u00f3d\u017a", "Nobody", 0),
    ("\u9280\u6cb3\u9244\u9053\u306e\u591c", "Kenji Miyazawa", 5),
]


@pytest.fixture(scope="module")
def books() -> TitleSearch:
    titles, authors, degrees = zip(*BOOKS, strict=True)
    return TitleSearch(titles, authors, np.array(degrees))


def found(books: TitleSearch, text: str, limit: int = 10) -> list[str]:
    return [BOOKS[item_id][0] for item_id in books.search(text, limit)]


def test_case_accents_and_punctuation_do_not_matter(books: TitleSearch):
    assert found(books, "LES miserables!") == ["Les Mis\u00e9rables"]
    assert found(books, "les mis\u00e9r") == ["Les Mis\u00e9rables"]
    assert found(books, "sorcerers stone") == found(books, "sorcerer's stone") != []


def test_letters_that_do_not_decompose_match_their_plain_ones(books: TitleSearch):
    assert found(books, "bjorn lodz") == [BOOKS[9][0]]


def test_every_word_may_be_unfinished(books: TitleSearch):
    assert found(books, "har pot")[0].startswith("Harry Potter")


def test_words_may_come_in_any_order(books: TitleSearch):
    assert found(books, "games hunger")[0].startswith("The Hunger Games")


def test_the_better_known_comes_first_among_equal_matches(books: TitleSearch):
    assert found(books, "harry")[0].startswith("Harry Potter")


def test_an_exact_title_beats_better_known_ones_that_begin_so(books: TitleSearch):
    assert found(books, "it")[:2] == ["It", "Italian Folktales"]


def test_a_leading_article_is_not_needed(books: TitleSearch):
    assert found(books, "shining")[0] == "The Shining"
    assert found(books, "hunger g")[0].startswith("The Hunger Games")


def test_items_are_found_by_their_further_words_too(books: TitleSearch):
    assert set(found(books, "stephen king")) == {"It", "The Shining"}
    assert found(books, "king shin") == ["The Shining"]


def test_one_slip_in_a_word_nobody_uses_is_forgiven(books: TitleSearch):
    assert found(books, "hary poter")[0].startswith("Harry Potter")
    assert found(books, "hungre games")[0].startswith("The Hunger Games")


def test_a_script_without_spaces_is_found_from_inside_a_title(books: TitleSearch):
    assert found(books, "\u9244\u9053") == [BOOKS[10][0]]


def test_all_words_must_be_there(books: TitleSearch):
    assert found(books, "harry shining") == []


@pytest.mark.parametrize("text", ["", "   ", "!?", "zzzzqqqq", "\x00"])
def test_what_matches_nothing_finds_nothing(books: TitleSearch, text: str):
    assert found(books, text) == []


def test_a_key_that_is_a_number_comes_behind_titles_and_is_always_there():
    assert with_exact([4, 5], 9, 2, is_number=True) == [4, 9]
    assert with_exact([4, 5], 9, 1, is_number=True) == [4]
    assert with_exact([4, 9, 5], 9, 3, is_number=True) == [4, 9, 5]
    assert with_exact([], 9, 1, is_number=True) == [9]


def test_no_more_than_the_limit_is_given(books: TitleSearch):
    assert len(found(books, "h", limit=2)) == 2
    assert found(books, "h", limit=0) == []


def test_an_empty_catalog_can_be_searched():
    assert TitleSearch([], [], np.zeros(0, np.int64)).search("a", 5) == []


@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 1000)), max_size=20))
def test_every_item_is_found_by_its_whole_title(items: list[tuple[str, int]]):
    titles = [title for title, _ in items]
    search = TitleSearch(titles, [""] * len(items), np.array([d for _, d in items], np.int64))
    for item_id, title in enumerate(titles):
        if normalize(title):
            assert item_id in search.search(title, len(items))


@given(st.text(max_size=30))
def test_normalizing_twice_changes_nothing_more(text: str):
    once = normalize(text)
    assert normalize(once) == once


def test_items_that_are_hidden_leave_their_places_to_rarer_ones():
    titles = [f"the book {number}" for number in range(600)]
    books = TitleSearch(titles, [""] * 600, np.arange(600, 0, -1))
    hidden = np.arange(300)
    for text in ("book", "the", "the b"):
        assert [item_id for _, item_id in books.scored(text, hidden)[:2]] == [300, 301]


@pytest.mark.parametrize("word", ["x" * 200, "\ufdf2" * 200, "\u2167" * 200])
def test_a_word_of_many_letters_is_not_corrected_at_great_cost(books: TitleSearch, word: str):
    tracemalloc.start()
    assert found(books, word) == []
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**20


@pytest.mark.parametrize(("letters", "is_corrected"), [(30, True), (31, False)])
def test_a_slip_is_corrected_in_words_of_up_to_thirty_letters(letters: int, is_corrected: bool):
    search = TitleSearch(["y" + "x" * (letters - 1)], [""], np.array([1]))
    assert search.search("z" + "x" * (letters - 1), 5) == ([0] if is_corrected else [])


@pytest.mark.parametrize("is_encoded", [False, True])
def test_a_column_of_many_texts_is_searched_however_it_is_stored(is_encoded: bool):
    columns = {
        "author": pa.array([f"a{number}" for number in range(40)]),
        "language": pa.array(["en"] * 40),
    }
    if is_encoded:
        columns = {name: column.dictionary_encode() for name, column in columns.items()}
    assert further_columns(pa.table(columns)) == ["author"]
