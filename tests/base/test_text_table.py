from pinsage.base.text_table import text_table


def test_columns_line_up_and_no_line_ends_in_spaces() -> None:
    rows = [("name", "n", "what"), ("a", 1, ""), ("longer", 12_345, "all of it")]
    assert text_table(rows).split("\n") == [
        "name        n       what",
        "------------------------",
        "a           1",
        "longer  12345  all of it",
    ]
    assert text_table(rows, left=3).split("\n") == [
        "name    n      what",
        "------------------------",
        "a       1",
        "longer  12345  all of it",
    ]
