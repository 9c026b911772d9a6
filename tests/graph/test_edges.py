"""Looking keys up."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pinsage.graph.edges import ids_of_keys

near = st.integers(0, 30)
far = st.integers(-(2**63), 2**63 - 1)
edge_of_range = st.integers(2**63 - 12, 2**63 - 1)


@given(
    keys=st.lists(st.none() | near | far | edge_of_range, max_size=20),
    known=st.one_of(
        *(
            st.lists(kind, min_size=1, max_size=12, unique=True)
            for kind in (near, far, edge_of_range)
        )
    ),
)
def test_numbers_are_found_where_a_dictionary_has_them_dense_or_not(keys, known):
    ids, is_known = ids_of_keys(pa.array(keys, pa.int64()), pa.array(known, pa.int64()))
    places = {key: place for place, key in enumerate(known)}
    assert is_known.tolist() == [key in places for key in keys]
    assert ids.tolist() == [places.get(key, 0) for key in keys]


def test_texts_are_found_where_a_dictionary_has_them():
    ids, is_known = ids_of_keys(
        pa.array(["b", None, "x", "a"], pa.large_string()), pa.array(["a", "b"], pa.large_string())
    )
    assert (ids.tolist(), is_known.tolist()) == ([1, 0, 0, 0], [True, False, False, True])
