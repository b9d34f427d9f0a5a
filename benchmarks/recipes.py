"""What each recipe of `virtue train` needs, as a Markdown table: `python benchmarks/recipes.py [RECIPE ...]`.

Everything is computed (`virtue.training.estimate`), nothing is measured: models are shapes without weights, cards are
their published peaks at an assumed utilisation.
"""

import argparse
from collections.abc import Sequence

from shapes import released

from virtue.model import VirtueConfig
from virtue.training.architecture import nano_config
from virtue.training.estimate import A100, H100, RTX_4090, UTILISATION, Card, Estimate, Load, estimate
from virtue.training.recipes import RECIPES
from virtue.training.settings import DataSettings, Recipe

MACHINES = ((RTX_4090, 1), (A100, 1), (H100, 1), (A100, 8))
OVERHEAD = 2**30  # of a CUDA context and an allocator, bytes: what is left out of an estimate

# 999 image tokens are a picture of 1024 x 768; one of 640 x 480 has 391, and the released processor's limit is 1,280.
IMAGE_TOKENS, TEXT_TOKENS = 999, 60
# Of MMEB's 20 training sets, 16 have a picture in their queries and 7 in their targets.
SHOWN_QUERIES, SHOWN_TARGETS = 16 / 20, 7 / 20

COLUMNS = ("recipe", "steps x pairs", "learns", "PFLOP a step", "card", "host")
TOWERS, CHUNK = "towers' largest group", "largest chunk"


def main() -> None:
    """Prints a line for each recipe, then what their memory is made of."""
    parser = argparse.ArgumentParser(description="What recipes need, computed.")
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(RECIPES)}; all by default")
    names = parser.parse_args().recipes or list(RECIPES)
    if unknown := set(names) - set(RECIPES):
        parser.error(f"no recipe {', '.join(sorted(unknown))}; there are {', '.join(RECIPES)}")
    figures = {name: estimate(config(RECIPES[name]), RECIPES[name], load(RECIPES[name])) for name in names}
    print(f"Computed, not measured; hours at {UTILISATION:.0%} of a card's published peak.\n")
    hours = [f"{label(*machine)} (computed)" for machine in MACHINES]
    print_table([*(f"{column} (computed)" if column in COLUMNS[2:] else column for column in COLUMNS), *hours])
    for name, figure in figures.items():
        print_row(line(name, RECIPES[name], figure))
    print("\nWhere the numbers of a recipe come from:\n")
    for name in names:
        print(f"- `{name}`: {RECIPES[name].source}")
    print("\nMemory of the card (computed):\n")
    print_table(["recipe", "frozen weights", "what learns, with AdamW", "features", "embeddings", TOWERS, CHUNK])
    for name, figure in figures.items():
        print_row([f"`{name}`", *parts(figure)])


def config(recipe: Recipe) -> VirtueConfig:
    """The shape of the model that a recipe trains."""
    if recipe.model.start == "nano":
        return nano_config()
    return released("7B" if "7b" in recipe.model.start.lower() else "2B", sam=recipe.model.sam is not None)


def load(recipe: Recipe) -> Load:
    """A typical step of a recipe: see the constants above."""
    pairs = recipe.run.batch
    if recipe.model.start == "nano":
        return Load(64, 16, pairs, (pairs, 0), (0, pairs * negatives(recipe.data, 1)))
    if all(source["kind"] == "scar" for source in recipe.data.sources):
        return Load(IMAGE_TOKENS, TEXT_TOKENS, pairs, (pairs, 0), (0, pairs * negatives(recipe.data, 9)))
    shown = round(pairs * SHOWN_QUERIES), round(pairs * SHOWN_TARGETS)
    queries, targets = ((count, pairs - count) for count in shown)
    return Load(IMAGE_TOKENS, TEXT_TOKENS, sum(shown), queries, targets)


def negatives(data: DataSettings, most: int) -> int:
    """Targets of a pair whose data has so many hard negatives at most."""
    return 1 + (most if data.hard_negatives is None else min(most, data.hard_negatives))


def line(name: str, recipe: Recipe, figure: Estimate) -> list[str]:
    """A recipe's cells of the first table."""
    learns = f"{figure.learning / 1e6:.2f} of {figure.parameters / 1e6:,.0f} M"
    cells = [f"`{name}`", f"{figure.steps:,} x {recipe.run.batch}", learns, f"{figure.flops / 1e15:.3g}"]
    cells += [size(figure.device_bytes), size(figure.host_bytes)]
    return cells + [time_on(figure, card, count) for card, count in MACHINES]


def time_on(figure: Estimate, card: Card, count: int) -> str:
    """Hours, or that the recipe does not fit."""
    if figure.device_bytes + OVERHEAD > card.memory:
        return "does not fit"
    hours = figure.hours(card, count)
    return f"{hours:.1f} h" if hours >= 0.05 else "< 0.1 h"


def parts(figure: Estimate) -> list[str]:
    """What the memory of a card goes into."""
    features = size(figure.features) + (" on the host" if figure.on_host else "")
    others = (figure.embeddings, figure.towers, figure.chunk)
    return [size(figure.weights), size(figure.trained), features, *(size(each) for each in others)]


def label(card: Card, count: int) -> str:
    """A machine's name."""
    return card.name if count == 1 else f"{count} x {card.name}"


def size(count: int) -> str:
    """Bytes as people write the memory of a card."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 / 2 else f"{count / 2**20:.0f} MB"


def print_table(columns: Sequence[str]) -> None:
    """The head of a Markdown table."""
    print_row(columns)
    print_row(["---"] * len(columns))


def print_row(cells: Sequence[str]) -> None:
    """A row of a Markdown table."""
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
