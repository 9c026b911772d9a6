import pytest
import ray

from pinsage.base.errors import ResourceError
from pinsage.cluster.placement import require_room, worker_bundle


def ask(num_workers: int, *, use_gpu: bool = False, timeout_s: float = 0.5) -> None:
    require_room(
        [worker_bundle(use_gpu=use_gpu)] * num_workers,
        purpose="training",
        setting="train.num_workers",
        timeout_setting="train.start_timeout_s",
        timeout_s=timeout_s,
    )


@pytest.mark.ray
def test_more_workers_than_room_is_an_error_that_says_what_is_missing(local_ray: None) -> None:
    with pytest.raises(
        ResourceError, match=r"wants 1000 CPU in 1000 part\(s\) of 1 CPU,.*lower train\.num_workers"
    ):
        ask(1_000)
    with pytest.raises(ResourceError, match=r"of 1 CPU and 1 GPU,.*0 GPU \(0 free\)"):
        ask(1, use_gpu=True)


@pytest.mark.ray
def test_asking_for_room_takes_none_of_it(local_ray: None) -> None:
    for _ in range(2 * int(ray.cluster_resources()["CPU"])):
        ask(1, timeout_s=60)
