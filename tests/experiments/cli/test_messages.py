from __future__ import annotations

import pytest

from experiments.cli.messages import explain, nearest

OPTIONS = [
    "run_dir",
    "wandb",
    "model.alpha",
    "model.beta",
    "model.recipe",
    "data.split",
    "data.limit",
    "trainer.devices",
]
UNION = """Parser key "data":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'datamodules.base.RISDataModule'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'datamodules.RefCOCO':
        {}
    - Expected a <class 'NoneType'>
  Given value type: <class 'str'>
  Given value: whole"""
NESTED_UNION = UNION.format(
    """Parser key "limit":
          Does not validate against any of the Union subtypes
          Subtypes: [<class 'int'>, <class 'NoneType'>]
          Errors:
            - Expected a <class 'int'>
            - Expected a <class 'NoneType'>
          Given value type: <class 'str'>
          Given value: abc"""
)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        pytest.param(
            "unrecognized arguments: --model.alhpa=0.3 --trainer.devces=2",
            "Unknown option 'model.alhpa'. Did you mean 'model.alpha'? "
            "Unknown option 'trainer.devces'. Did you mean 'trainer.devices'?",
            id="unknown-on-the-command-line",
        ),
        pytest.param(
            "unrecognized arguments: --alpha=0.3",
            "Unknown option 'alpha'. Did you mean 'model.alpha'?",
            id="prefix-forgotten",
        ),
        pytest.param(
            "unrecognized arguments: --zzz=0.3",
            "Unknown option 'zzz'. --help lists the options.",
            id="nothing-near",
        ),
        pytest.param(
            "unrecognized arguments: fast",
            "What is 'fast'? Options are written name=value or --name=value; --help lists them.",
            id="no-option-at-all",
        ),
        pytest.param(
            "Group 'model' does not accept option 'alhpa'",
            "Unknown option 'model.alhpa'. Did you mean 'model.alpha'?",
            id="unknown-in-a-file",
        ),
        pytest.param(
            "Option 'rundir' is not accepted",
            "Unknown option 'rundir'. Did you mean 'run_dir'?",
            id="unknown-at-the-top-of-a-file",
        ),
        pytest.param(
            UNION.format("Option 'splti' is not accepted"),
            "Unknown option 'data.splti'. Did you mean 'data.split'?",
            id="unknown-of-a-class",
        ),
        pytest.param(
            UNION.format("the following arguments are required: root"),
            "data.root must be given, e.g. data.root=VALUE.",
            id="required-by-a-class",
        ),
        pytest.param(
            UNION.format(
                "Parser key \"split\":\n  Expected a typing.Literal['val', 'testA']. Got value: vall"
            ),
            "data.split cannot be 'vall'. Did you mean 'val'? Available: val, testA.",
            id="choice-of-a-class",
        ),
        pytest.param(
            "Parser key \"wandb\":\n  Expected a typing.Literal['auto', 'online']. Got value: foo",
            "wandb cannot be 'foo'. Available: auto, online.",
            id="choice",
        ),
        pytest.param(
            "Parser key \"model.alpha\":\n  Expected a <class 'float'>. Got value: abc",
            "model.alpha must be a number, not 'abc'.",
            id="type",
        ),
        pytest.param(
            NESTED_UNION, "data.limit must be a whole number or null, not 'abc'.", id="one-of-types"
        ),
        pytest.param(
            UNION.format("module 'datamodules' has no attribute 'RefCOCO'"),
            "data: there is no class 'datamodules.RefCOCO'. Did you mean 'RefCOCOs'? Available: RefCOCOs.",
            id="no-such-class",
        ),
        pytest.param(
            "argument --trainer.devices/--trainer.devices+: expected one argument",
            "trainer.devices needs a value: trainer.devices=VALUE.",
            id="no-value",
        ),
        pytest.param(
            "argument -c/--config: expected one argument",
            "config needs a value: config=VALUE.",
            id="no-value-of-an-option-with-a-letter",
        ),
        pytest.param(
            "Something\n\n  - else\nentirely\nand more", "Something else entirely", id="anything-else"
        ),
    ],
)
def test_messages_become_a_sentence_with_the_fix(message: str, said: str) -> None:
    assert explain(message, OPTIONS, ["RefCOCOs"]) == said


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("data.alpha", "model.alpha"),
        ("model.betta", "model.beta"),
        ("splitt", "data.split"),
        ("device", "trainer.devices"),
        ("qqq", None),
    ],
)
def test_the_nearest_option_is_suggested(name: str, meant: str | None) -> None:
    assert nearest(name, OPTIONS) == meant
