import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ablation_arms import ARMS, QUESTIONS, Arm, steps_of, take_over
from ablation_scores import WAYS, measured
from ablation_streams import (
    STREAMS,
    WORDINGS,
    RoiModel,
    Unsegmented,
    boxes_of,
    covered,
    cut_out,
    enlarged,
    in_digits,
    in_words,
)
from ablations import append, cell, lines, tables
from PIL import Image

from tests.tiny import WIDTH, picture, tiny_config, tiny_embedder, tiny_model, tiny_processor
from virtue.evaluation.scenes import measure
from virtue.model import VirtueProcessor
from virtue.model.features import ImageFeatures
from virtue.model.segmentation import PADDING_LABEL, SamPrompts
from virtue.prompts import Box, VisualPrompt
from virtue.scenes.renderer import render
from virtue.templates import TEMPLATES
from virtue.training.contrastive import Learner, contrastive_losses
from virtue.training.runs import Run

BUDGET = {"steps": 2}


@pytest.fixture(autouse=True)
def wordings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, template in WORDINGS.items():
        monkeypatch.setitem(TEMPLATES, name, template)


@pytest.fixture
def processor() -> VirtueProcessor:
    return tiny_processor(tiny_config(), longest=96)


def line(arm: str, seed: int, steps: int = 2, **figures: float) -> dict:
    return {"arm": arm, "seed": seed, "steps": steps, "figures": figures}


def test_every_arm_has_a_row_and_every_row_an_arm() -> None:
    assert {name for rows in QUESTIONS.values() for name in rows.values()} == ARMS.keys()
    assert {arm.stream for arm in ARMS.values()} == STREAMS.keys()


def test_a_cell_is_the_mean_and_its_standard_error() -> None:
    assert cell([0.5]) == "50.0"
    assert cell([0.5, 0.6, 0.7]) == f"60.0 ± {10 / math.sqrt(3):.1f}"
    assert cell([None]) == "\N{EN DASH}"


def test_tables_show_what_there_is_of_one_budget() -> None:
    found = [
        line("reference", 0, box=0.5, point=0.4),
        line("reference", 1, box=0.7, point=0.4),
        line("reference", 2, steps=9, box=0.1, point=0.1),
        line("depth-1", 0, box=0.25, point=0.2),
    ]
    depth = tables(found, BUDGET).split("\n\n")[2]
    assert depth.splitlines() == [
        "| connector depth | box | point | runs |",
        "| --- | ---: | ---: | ---: |",
        "| 1 | 25.0 | 20.0 | 1 |",
        "| 2 | 60.0 ± 10.0 | 40.0 ± 0.0 | 2 |",
    ]


def test_a_line_that_was_cut_off_is_no_result(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    append(results, line("crop", 0))
    results.write_text(results.read_text() + '{"arm": "cr')
    append(results, line("crop", 1))
    assert [found["seed"] for found in lines(results)] == [0, 1]
    assert json.loads(results.read_text().splitlines()[-1])["seed"] == 1


def test_boxes_cover_shares_of_cells() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.75, 0.5], [0.0, 0.0, torch.inf, torch.inf]])
    shares = covered(boxes, (2, 2))
    assert shares.tolist() == [[[1.0, 0.5], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]]


def test_boxes_are_read_from_visual_prompts() -> None:
    points = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 4.0], [5.0, 6.0]]])
    prompts = SamPrompts(points, torch.tensor([[1, PADDING_LABEL], [2, 3]]))
    assert boxes_of(prompts).tolist() == [[0, 0, torch.inf, torch.inf], [3, 4, 5, 6]]


def test_a_crop_and_its_map_show_the_same() -> None:
    things = np.zeros((40, 60), dtype=np.uint8)
    things[10:20, 30:60] = 200
    box = Box(15, 10, 45, 20)
    shown = np.asarray(cut_out(Image.fromarray(things).convert("RGB"), box))[..., 0] > 100
    assert torch.equal(enlarged(torch.from_numpy(things) > 0, box), torch.from_numpy(shown))
    assert shown[:, 30:].all() and not shown[:, :30].any()


def test_how_boxes_are_put_into_words() -> None:
    prompt = VisualPrompt(box=Box(3, 40, 50, 100))
    assert in_digits("", has_image=True, prompt=prompt) == "<|image_pad|>03 40 50 99<|endoftext|>"
    assert in_words("", has_image=True, prompt=prompt) == (
        "<|image_pad|> Represent the given image.\nReferring object bbox: [3.0, 40.0, 50.0, 100.0]\n<|endoftext|>"
    )


def test_pooled_tokens_see_what_is_under_the_box_alone(processor: VirtueProcessor) -> None:
    model = RoiModel(tiny_config()).eval()
    inputs = processor.image_inputs([picture(64, 64)])
    features = model.encode_images(**inputs)
    prompts = processor.prompt_inputs([Box(0, 0, 32, 32), Box(0, 0, 64, 32)], [(64, 64)] * 2)
    tokens = model.segmentation_tokens(features, torch.tensor([0, 0]), prompts)
    assert tokens.shape == (2, 4, WIDTH)  # of 2 x 2 cells
    assert torch.equal(tokens[0, 0], tokens[1, 0])  # the first cell is under both boxes
    assert not torch.equal(tokens[0, 1], tokens[1, 1])
    assert torch.equal(tokens[0, 2:], tokens[1, 2:])  # the lower ones under neither


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_pictures_normalised_twice_are_those_of_the_processor(
    processor: VirtueProcessor, size: tuple[int, int]
) -> None:
    processor.config.double_normalization = True
    batches = steps_of(STREAMS["segmentation"].batches, Arm(trained=(size,)), processor, 2, 3)
    batch = batches(1)
    scenes = [render(batches.seed * 10_000_000 + 2 + i, "train", *size) for i in range(2)]
    expected = processor.image_inputs([Image.fromarray(scene.image) for scene in scenes])
    assert torch.equal(batch.pictures.sam_pixels(), expected["sam_pixel_values"])
    assert torch.allclose(batch.pictures.patches(), expected["pixel_values"], atol=1e-6)
    assert batch.pictures.sam_pixels().abs().max() > 4  # once gives no more than 2.7


def test_words_are_read_as_the_model_embeds_them(processor: VirtueProcessor) -> None:
    processor.config.template = "digits"
    learner = STREAMS["digits"].learner(Unsegmented(processor.config), 0).eval()
    batch = steps_of(STREAMS["digits"].batches, Arm(), processor, 2, 0)(0)
    with torch.no_grad():
        visual = learner.see(batch.pictures)
        nothing = torch.zeros(len(batch.words["input_ids"]), 0, WIDTH)
        states, rows = learner.read(batch, visual, nothing)
        index = torch.cat([batch.region_image, torch.arange(2)])
        features = ImageFeatures(tuple(visual), (batch.grid,) * 2)
        expected = learner.model.embed(batch.words["input_ids"], batch.words["attention_mask"], features, index)
    assert torch.allclose(rows, expected, atol=1e-5)
    assert states.shape == (len(index), batch.grid[0] * batch.grid[1], WIDTH)


def save_stages(run: Path, learner: Learner) -> None:
    """Stages as small as can be: what arms take, and of the rest a little."""
    state = learner.state_dict()
    reader = {name: tensor for name, tensor in state.items() if name.startswith(("model.vlm.language", "heads."))}
    stages: dict[str, dict[str, Any]] = {
        "segmenter": {name.removeprefix("model."): t for name, t in state.items() if name.startswith("model.sam.")},
        "reader": {name: tensor for name, tensor in reader.items() if "codes." not in name},
        "tower": learner.model.vlm.visual.state_dict(),
    }
    stages["segmenter"]["pointed.weight"] = torch.zeros(1)
    for stage, module in stages.items():
        Run(run / stage).save({"module": module, "step": 1})


def test_an_arm_starts_from_the_stages(tmp_path: Path) -> None:
    trained, learner = Learner(tiny_model(seed=1), 0), Learner(tiny_model(seed=2), 0)
    connector = copy.deepcopy(learner.model.connector.state_dict())
    save_stages(tmp_path, trained)
    take_over(learner, tmp_path)
    expected, state = trained.state_dict(), learner.state_dict()
    assert all(torch.equal(state[f"model.connector.{name}"], tensor) for name, tensor in connector.items())
    others = [name for name in state if not name.startswith("model.connector.")]
    assert all(torch.equal(state[name], expected[name]) for name in others)


def test_stages_of_another_model_or_missing_are_refused(tmp_path: Path) -> None:
    save_stages(tmp_path, Learner(tiny_model(), 0))
    state = Run(tmp_path / "tower").load()
    del state["module"]["blocks.0.norm1.weight"]
    Run(tmp_path / "tower").save(state)
    with pytest.raises(ValueError, match=r"another model, such as model\.vlm\.visual\.blocks\.0\.norm1\.weight"):
        take_over(Learner(tiny_model(), 0), tmp_path)
    (tmp_path / "tower" / "checkpoint.pt").unlink()
    with pytest.raises(FileNotFoundError, match="tower holds no checkpoint"):
        take_over(Learner(tiny_model(), 0), tmp_path)


def test_no_hard_negatives_leave_each_row_its_own_text(processor: VirtueProcessor) -> None:
    batch = steps_of(STREAMS["segmentation"].batches, Arm(distractors=0), processor, 2, 0)(0)
    assert len(batch.region_texts["input_ids"]) == len(batch.region_image)


def test_the_figures_are_those_of_the_measurement() -> None:
    embedder = tiny_embedder()
    report = measure(embedder, 4, seed=7)
    figures = measured(embedder, STREAMS["segmentation"].look, 7, 4, ((256, 256),))
    expected = {"recall": report.recall["1"].mean}
    for way in WAYS:
        for kind, figure in report.accuracy[way].items():
            expected[way if kind == "all" else f"{way} {kind}"] = figure.mean
    assert figures == pytest.approx(expected)


@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_learns_and_is_measured(name: str, processor: VirtueProcessor) -> None:
    stream = STREAMS[name]
    processor.config.template = stream.template
    model = tiny_model(processor.config)
    if stream.model is not type(model):
        other = stream.model(processor.config)
        other.vlm, other.sam = model.vlm, model.sam
        model = other
    learner = stream.learner(model, 0).train()
    batch = steps_of(stream.batches, Arm(), processor, 2, 0)(0)
    terms = contrastive_losses(learner, batch, 0.1, ideal=0.3)
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())
    embedder = stream.embedder(model, processor)
    assert (embedder.model.sam is not None) == stream.segmented
    seen = stream.look(embedder, picture(128, 128), [])
    assert seen["none"].shape == (1, WIDTH)
