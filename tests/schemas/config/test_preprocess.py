import pytest

from schemas.config.job import JobConfig, config_fingerprint
from schemas.config.preprocess import PreprocessConfig

JOB = {"input": {"uri": "in"}, "output": "out", "model": {"name": "otsu"}}


def job(*steps, **more):
    return JobConfig.parse({**JOB, "preprocess": {"steps": list(steps)}, **more})


def test_a_chain_keeps_its_order():
    config = job(
        {"step": "bands", "choose": [4, 3, 2]},
        {"step": "percentile", "low": 2},
        {"step": "median"},
        {"step": "resize", "size": 512},
    )
    steps = config.preprocess.steps
    assert [item.step for item in steps] == ["bands", "percentile", "median", "resize"]
    assert steps[3].size_hw() == (512, 512)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"step": "clahe", "clp": 3}, r"preprocess.steps.0.clahe.clp'; did you mean 'clip'"),
        ({"step": "clah"}, r"no step is called 'clah'; did you mean 'clahe'\?; allowed: bands, w"),
        ({"clip": 3}, r"preprocess.steps.0: has no 'step'; allowed: bands"),
        ("clahe", r"preprocess.steps.0: must be a section"),
        ({"step": "median", "size": 4}, r"steps.0.median.size: must be odd, got 4"),
        ({"step": "nlmeans", "patch": 6}, r"must be odd"),
        ({"step": "gamma"}, r"steps.0.gamma.gamma: missing"),
        ({"step": "gamma", "gamma": 0}, r"greater than or equal to 0.05"),
        ({"step": "window"}, r"either low and high, or center and width"),
        ({"step": "window", "low": 3}, r"either low and high, or center and width"),
        ({"step": "window", "low": 1, "high": 2, "center": 3, "width": 4}, r"either low and high"),
        ({"step": "window", "low": 5, "high": 5}, r"low must be below high"),
        ({"step": "percentile", "low": 60, "high": 40}, r"low must be below high"),
        ({"step": "bands", "choose": [1, 2]}, r"one band or three, got 2"),
        ({"step": "bands", "choose": [0]}, r"greater than or equal to 1"),
        ({"step": "resize", "size": [64, 64]}, r"shortest wants one number"),
        ({"step": "resize", "mode": "stretch", "size": [64, 64, 3]}, r"size"),
        ({"step": "resize", "mode": "letterboxx", "size": 64}, r"did you mean 'letterbox'"),
        ({"step": "match_histogram", "reference": "a.png", "sha256": "xyz"}, r"allowed form"),
    ],
)
def test_a_bad_step_is_named(step, message):
    with pytest.raises(ValueError, match=message):
        job(step)


def test_chains_that_make_no_sense():
    resize = {"step": "resize", "size": 64}
    with pytest.raises(ValueError, match="one resize is enough"):
        job(resize, resize)
    for steps in (
        [{"step": "clahe"}, {"step": "bands", "choose": [1]}],
        [{"step": "bands", "choose": [1]}] * 2,
    ):
        with pytest.raises(ValueError, match="bands must be the first step"):
            job(*steps)
    with pytest.raises(ValueError, match=r"resize and prompts\.file exclude one another"):
        job(resize, prompts={"file": "boxes.csv"})


def test_both_ways_to_give_a_window():
    ends = [
        job(step).preprocess.steps[0].ends()
        for step in (
            {"step": "window", "low": -100, "high": 300},
            {"step": "window", "center": 100, "width": 400},
        )
    ]
    assert ends == [(-100, 300)] * 2


def fingerprint(*steps):
    return config_fingerprint(
        job(*steps).label_config(tasks=("semantic",), weights_sha256="", revision="", categories=[])
    )


def test_every_step_and_its_place_enter_the_fingerprint():
    chains = [
        [],
        [{"step": "median"}],
        [{"step": "median", "size": 5}],
        [{"step": "clahe"}],
        [{"step": "median"}, {"step": "clahe"}],
        [{"step": "clahe"}, {"step": "median"}],
    ]
    assert len({fingerprint(*chain) for chain in chains}) == len(chains)
    assert fingerprint({"step": "median", "size": 3}) == fingerprint({"step": "median"})


def test_a_reference_counts_by_its_content():
    def one(reference, letter):
        return fingerprint(
            {"step": "match_histogram", "reference": reference, "sha256": letter * 64}
        )

    assert one("a.png", "0") == one("moved/a.png", "0") != one("a.png", "1")
    empty = PreprocessConfig().identity()
    assert empty == {"steps": []}
