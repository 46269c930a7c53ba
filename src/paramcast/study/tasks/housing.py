"""The built-in table: prices of houses in California."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from .data.download import Remote
from .data.places import DataSet
from .frames import TableOptions
from .networks import Network
from .task import Task

HOUSING = DataSet.of_file(
    "california-housing",
    ("housing", "california"),
    Remote(
        "https://raw.githubusercontent.com/ageron/data/2ea73147454d2ff8c8a933913be4606f05b352ca/housing/housing.csv",
        "2364609dc48bec7df3ba9dbb7041478e704ecddcee70ef1827ec3fc49d22c0cc",
        1_423_529,
    ),
)
TARGET, NUMBERS = "median_house_value", 8


def california(name: str, network: Network, folder: Path, limit: int | None) -> Task:
    """California housing: the median house value of 20,640 districts in 1990, in dollars.

    Eight numbers and the distance to the ocean in words; 207 missing numbers of bedrooms become
    the training median. 60/20/20 at random, fixed. Values are capped at $500,001 in the data.
    """
    from .table import task_from_table  # pandas and scikit-learn, which take a second

    read = TableOptions(missing="impute")
    table = task_from_table(HOUSING.only_file(folder), TARGET, read, look=False)
    inputs = table.train[0].shape[1]  # type: ignore[index]
    return replace(
        table,
        name=name,
        model=partial(network.make, inputs, 1, NUMBERS),
        metric="rmse",
        **{"batch_size": 128, "epochs": 40, **network.settings},  # type: ignore[arg-type]
    )
