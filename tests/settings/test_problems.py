"""Problems of values, in sentences that quote no value except numbers out of bounds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from pushrail_stream.settings.problems import did_you_mean, sentence


class Model(BaseModel):
    number: int = Field(3, ge=1, lt=10)
    share: float = Field(0.5, gt=0, le=1)
    text: str = Field("x", min_length=1, max_length=3)
    flag: bool = False
    items: list[int] = Field([], max_length=2)
    names: dict[str, int] = {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"number": 0}, "must be at least 1 (is 0)"),
        ({"number": "10"}, "must be less than 10 (is 10)"),
        ({"number": "many"}, "must be a whole number"),
        ({"number": 1.5}, "must be a whole number"),
        ({"share": 0}, "must be more than 0 (is 0)"),
        ({"share": 1.01}, "must be at most 1 (is 1.01)"),
        ({"share": "half"}, "must be a number"),
        ({"text": ""}, "must be at least 1 characters long"),
        ({"text": "secret"}, "must be at most 3 characters long"),
        ({"text": 5}, "must be text"),
        ({"flag": "perhaps"}, "must be true or false"),
        ({"items": [1, 2, 3]}, "must have at most 2 items"),
        ({"items": 3}, "must be a list"),
        ({"names": "secret"}, "must be a mapping of names to values"),
    ],
)
def test_a_problem_is_a_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(values)
    [error] = caught.value.errors()
    assert sentence(error) == words


def test_our_own_rules_speak_for_themselves() -> None:
    assert sentence({"type": "value_error", "ctx": {"error": ValueError("must be an ARN")}}) == "must be an ARN"


def test_an_unknown_kind_keeps_the_librarys_words() -> None:
    assert sentence({"type": "odd", "msg": "Input should be odd"}) == "input should be odd"


@pytest.mark.parametrize(("name", "hint"), [("bootsrap", "; did you mean bootstrap?"), ("elephant", "")])
def test_a_close_name_is_suggested(name: str, hint: str) -> None:
    assert did_you_mean(name, ("bootstrap", "group_id")) == hint
