import os
import subprocess
import sys

SCRIPT = """
import numpy as np, torch
from pinsage.kernels.unit_rows import relu_unit
from pinsage.model.threads import kernels_run_side_by_side, one_thread_each

rows, bias = np.ones((50_000, 64), np.float32), np.zeros(64, np.float32)
torch.set_num_threads(2)
with one_thread_each() as threads:
    list(threads.map(lambda part: relu_unit(rows[part::2].copy(), bias), [0, 1] * 20))
print(kernels_run_side_by_side())
"""


def test_no_two_kernels_run_at_a_time_where_the_layer_in_use_would_end_the_process() -> None:
    # OpenMP can be imported all the same.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
