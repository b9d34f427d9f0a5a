import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, BatchFeature

from tests.tiny import WIDTH, picture, tiny_config, tiny_model, tiny_processor, vlm_config
from virtue.model import VirtueConfig, VirtueModel, VirtueProcessor
from virtue.model.features import ImageFeatures
from virtue.model.segmentation import SamPrompts
from virtue.prompts import AnyPrompt, Box, Mask, Point, Points
from virtue.templates import IMAGE_TOKEN

DISC = Mask(np.hypot(*np.mgrid[-30:30, -40:40]) < 20)
ROWS: list[tuple[str, int | None, AnyPrompt | None]] = [
    ("a short text", None, None),
    (IMAGE_TOKEN, 0, None),
    (f"{IMAGE_TOKEN}on a beach", 1, None),
    (f"{IMAGE_TOKEN}what is this", 0, Point(20, 30)),
    ("a text that is rather longer than the others are", None, None),
    (IMAGE_TOKEN, 0, Points([(20, 30), (60, 10)], exclude=[(5, 5)])),
    (IMAGE_TOKEN, 1, Box(10, 5, 60, 50)),
    (f"{IMAGE_TOKEN}x", 0, DISC + Point(40, 30)),
]
PICTURES = [picture(80, 60, seed=1), picture(64, 90, seed=2)]
LORA = LoraConfig(
    r=4,
    lora_alpha=8,
    use_dora=True,
    init_lora_weights=False,
    target_modules=r"vlm\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj|down_proj)",
)


@pytest.fixture(scope="module")
def shared() -> VirtueModel:
    """A model that no test may change."""
    return tiny_model().requires_grad_(False)


@pytest.fixture(scope="module")
def processor(shared: VirtueModel) -> VirtueProcessor:
    return tiny_processor(shared.config)


def batch(processor: VirtueProcessor, rows: list[tuple[str, int | None, AnyPrompt | None]]) -> BatchFeature:
    images = [None if image is None else PICTURES[image] for _, image, _ in rows]
    return processor([text for text, _, _ in rows], images, [prompt for _, _, prompt in rows])


def embed(model: Any, inputs: BatchFeature) -> Tensor:
    with torch.no_grad():
        embeddings: Tensor = model(**inputs).embeddings
    return embeddings


def test_embeddings_are_unit_rows_in_float32_and_all_different(shared: VirtueModel, processor: VirtueProcessor) -> None:
    embeddings = embed(shared, batch(processor, ROWS))
    assert embeddings.shape == (len(ROWS), WIDTH)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(ROWS)))
    similarity = embeddings @ embeddings.T
    assert similarity.fill_diagonal_(0).max() < 0.9999


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_item_does_not_see_its_batch(shared: VirtueModel, side: str) -> None:
    processor = tiny_processor(shared.config, padding_side=side)
    together = embed(shared, batch(processor, ROWS))
    backwards = embed(shared, batch(processor, ROWS[::-1])).flip(0)
    alone = torch.cat([embed(shared, batch(processor, [row])) for row in ROWS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(backwards, alone, rtol=0, atol=1e-5)


def test_padding_side_does_not_matter(shared: VirtueModel, processor: VirtueProcessor) -> None:
    left = embed(shared, batch(tiny_processor(shared.config, padding_side="left"), ROWS))
    torch.testing.assert_close(left, embed(shared, batch(processor, ROWS)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", ["image_frame", "released"])
def test_position_rules_hold_in_any_batch(rule: str) -> None:
    model = tiny_model(tiny_config(position_rule=rule))
    processor = tiny_processor(model.config, padding_side="left")
    alone = torch.cat([embed(model, batch(processor, [row])) for row in ROWS[2:5]])
    torch.testing.assert_close(embed(model, batch(processor, ROWS[2:5])), alone, rtol=0, atol=1e-5)


def test_the_three_steps_are_the_whole(shared: VirtueModel, processor: VirtueProcessor) -> None:
    whole = embed(shared, batch(processor, ROWS))
    with torch.no_grad():
        pictures = shared.encode_images(**processor.image_inputs(PICTURES))
        asked = [(image, prompt) for _, image, prompt in ROWS if image is not None]
        prompts = processor.prompt_inputs([prompt for _, prompt in asked], [PICTURES[image].size for image, _ in asked])
        tokens = shared.segmentation_tokens(pictures, torch.tensor([image for image, _ in asked]), prompts)
        assert tokens.shape == (6, 4, WIDTH)
        index = torch.tensor([-1 if image is None else image for _, image, _ in ROWS])
        counts = [0 if image is None else len(pictures.visual[image]) for _, image, _ in ROWS]
        texts = processor.text_inputs([text for text, _, _ in ROWS], counts)
        embeddings = shared.embed(**texts, images=pictures, image_index=index, segmentation=tokens)
    torch.testing.assert_close(embeddings, whole, rtol=0, atol=1e-5)


def test_no_prompt_is_the_grid_of_points(shared: VirtueModel, processor: VirtueProcessor) -> None:
    width, height = PICTURES[0].size
    grid = Points([(width * (i + 0.5) / 3, height * (j + 0.5) / 3) for j in range(3) for i in range(3)])
    embeddings = embed(shared, batch(processor, [(IMAGE_TOKEN, 0, None), (IMAGE_TOKEN, 0, grid)]))
    torch.testing.assert_close(embeddings[0], embeddings[1], rtol=0, atol=1e-5)


def test_kept_features_can_be_chosen_and_counted(shared: VirtueModel, processor: VirtueProcessor) -> None:
    features = shared.encode_images(**processor.image_inputs(PICTURES), previews=True)
    assert len(features) == 2 and features.fine is not None and features.segmentation is not None
    turned = features.select([1, 0, 1])
    assert turned.grids == (features.grids[1], features.grids[0], features.grids[1])
    assert turned.visual[0] is features.visual[1]
    assert turned.segmentation is not None and torch.equal(turned.segmentation[2], features.segmentation[1])
    tokens = sum(rows * columns for rows, columns in features.grids)
    maps = 2 * (16 * 4 * 4 + 4 * 8 * 8 + 2 * 16 * 16)
    assert features.nbytes == 4 * (tokens * WIDTH + maps)


def test_previews_add_finer_maps_and_change_nothing_else(shared: VirtueModel, processor: VirtueProcessor) -> None:
    inputs = processor.image_inputs(PICTURES)
    features, more = shared.encode_images(**inputs), shared.encode_images(**inputs, previews=True)
    assert (features.fine, features.middle) == (None, None)
    assert features.segmentation is not None and more.segmentation is not None
    assert torch.equal(features.segmentation, more.segmentation)


def test_features_that_are_known_replace_the_pictures(shared: VirtueModel, processor: VirtueProcessor) -> None:
    inputs = batch(processor, ROWS)
    whole = embed(shared, inputs)
    pixels = {name: inputs.pop(name) for name in ("pixel_values", "image_grid_thw", "sam_pixel_values")}
    with torch.no_grad():
        features = shared.encode_images(**pixels)
        known = shared(**inputs, images=features).embeddings
        assert torch.equal(known, whole)
        pixels["sam_pixel_values"] = None  # the maps alone are known
        maps = features.segmentation
        assert torch.equal(shared(**inputs, **pixels, sam_features=maps).embeddings, whole)
        assert maps is not None
        other = shared(**inputs, **pixels, sam_features=2 * maps).embeddings
    shown = torch.tensor([image is not None for _, image, _ in ROWS])
    assert torch.equal(other[~shown], whole[~shown])
    assert ((other - whole)[shown].abs().amax(1) > 1e-4).all()


def test_known_features_need_to_be_told_whose_they_are(shared: VirtueModel, processor: VirtueProcessor) -> None:
    inputs = batch(processor, ROWS)
    features = shared.encode_images(*(inputs.pop(n) for n in ("pixel_values", "image_grid_thw", "sam_pixel_values")))
    with pytest.raises(ValueError, match="give `prompt_points` and `prompt_labels`"):
        shared(**{key: value for key, value in inputs.items() if key != "prompt_points"}, images=features)
    del inputs["image_index"]
    with pytest.raises(ValueError, match="need `image_index`"):
        shared(**inputs, images=features)


@pytest.mark.parametrize("backbone", ["qwen2_vl", "qwen3_vl"])
def test_features_are_joined_as_if_encoded_together(backbone: str) -> None:
    model = tiny_model(tiny_config(backbone)).requires_grad_(False)
    processor = tiny_processor(model.config)
    three = [*PICTURES, picture(100, 70, seed=3)]
    together = model.encode_images(**processor.image_inputs(three), previews=True)
    parts = [model.encode_images(**processor.image_inputs([each]), previews=True) for each in three]
    joined = ImageFeatures.join([ImageFeatures.join(parts[:2]), parts[2]])
    assert len(joined) == 3
    assert joined.grids == together.grids
    assert joined.nbytes == together.nbytes == sum(part.nbytes for part in parts)
    for ours, theirs in zip(tensors(joined), tensors(together), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert len(joined.deepstack) == (3 if backbone == "qwen3_vl" else 0)
    assert all(torch.equal(*pair) for pair in zip(tensors(joined.select([1])), tensors(parts[1]), strict=True))


def test_joined_features_of_a_model_without_a_segmentation_stream(processor: VirtueProcessor) -> None:
    plain = tiny_model(tiny_config(sam=False)).requires_grad_(False)
    inputs = [tiny_processor(plain.config).image_inputs([each]) for each in PICTURES]
    joined = ImageFeatures.join([plain.encode_images(**each) for each in inputs])
    assert (joined.segmentation, joined.fine, joined.middle, len(joined)) == (None, None, None, 2)


@pytest.mark.parametrize("backbone", ["qwen2_vl", "qwen3_vl"])
def test_all_features_move(backbone: str) -> None:
    model = tiny_model(tiny_config(backbone)).requires_grad_(False)
    features = model.encode_images(**tiny_processor(model.config).image_inputs(PICTURES), previews=True)
    moved = features.to(torch.device("meta"))
    assert {tensor.device.type for tensor in tensors(moved)} == {"meta"}
    assert [tensor.shape for tensor in tensors(moved)] == [tensor.shape for tensor in tensors(features)]
    assert moved.grids == features.grids
    stayed = features.to(torch.device("cpu"))
    assert all(ours is theirs for ours, theirs in zip(tensors(stayed), tensors(features), strict=True))


def tensors(features: ImageFeatures) -> list[Tensor]:
    maps = (features.segmentation, features.fine, features.middle)
    return [*features.visual, *(t for row in features.deepstack for t in row), *(t for t in maps if t is not None)]


def test_masks_need_previews_and_a_segmentation_stream(shared: VirtueModel, processor: VirtueProcessor) -> None:
    prompts = processor.prompt_inputs([Point(20, 30), DISC], [PICTURES[0].size] * 2)
    rows = torch.tensor([0, 0])
    inputs = processor.image_inputs(PICTURES[:1])
    logits, quality = shared.masks(shared.encode_images(**inputs, previews=True), rows, prompts)
    assert logits.shape == (2, 16, 16) and quality.shape == (2,)
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="previews=True"):
        shared.masks(shared.encode_images(**inputs), rows, prompts)
    plain = tiny_model(tiny_config(sam=False))
    features = plain.encode_images(inputs["pixel_values"], inputs["image_grid_thw"])
    with pytest.raises(ValueError, match="draws no masks"):
        plain.masks(features, rows, prompts)
    with pytest.raises(ValueError, match="takes no visual prompts"):
        plain.segmentation_tokens(features, rows, prompts)


def test_half_a_batch_is_refused(shared: VirtueModel, processor: VirtueProcessor) -> None:
    inputs = batch(processor, [(IMAGE_TOKEN, 0, Point(20, 30))])
    for missing, message in (
        ("image_grid_thw", "need `image_grid_thw` beside `pixel_values`"),
        ("image_index", "need `image_index`, which says whose they are"),
        ("sam_pixel_values", "give `sam_pixel_values`"),
        ("prompt_points", "give `prompt_points` and `prompt_labels`"),
        ("pixel_values", "give their `images` too"),
    ):
        with pytest.raises(ValueError, match=message):
            shared(**{key: value for key, value in inputs.items() if key != missing})


def test_texts_and_pictures_of_different_calls_are_refused(shared: VirtueModel, processor: VirtueProcessor) -> None:
    inputs = batch(processor, [(IMAGE_TOKEN, 0, None)])
    inputs |= processor.text_inputs([IMAGE_TOKEN], [5])
    with pytest.raises(ValueError, match="hold 5 image tokens but the pictures have 6"):
        shared(**inputs)


def test_nothing_is_computed_that_an_embedding_does_not_need(shared: VirtueModel, processor: VirtueProcessor) -> None:
    given: dict[str, Any] = {}

    def look(module: Any, arguments: tuple, keywords: dict[str, Any]) -> None:
        given.update(keywords)

    handle = shared.vlm.language_model.register_forward_pre_hook(look, with_kwargs=True)
    output = shared(**batch(processor, ROWS))
    handle.remove()
    assert given["use_cache"] is False and given.get("past_key_values") is None
    assert not given.get("output_hidden_states")
    assert set(output) == {"embeddings"}
    assert not any("lm_head" in name for name in shared.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_is_the_same_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny_model(tiny_config(trained_on="Noise.")).save_pretrained(tmp_path / "first")
    model = VirtueModel.from_pretrained(tmp_path / "first", dtype=dtype)
    processor = tiny_processor(model.config)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is VirtueModel and loaded.dtype == dtype and not loaded.training
    assert loaded.config.trained_on == "Noise."
    for ours, theirs in ((model.state_dict(), loaded.state_dict()), (buffers(model), buffers(loaded))):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    rows = batch(VirtueProcessor.from_pretrained(tmp_path), ROWS)
    assert torch.equal(embed(loaded, rows), embed(model, batch(processor, ROWS)))


@pytest.mark.parametrize("depth", [1, 3])
def test_a_connector_of_another_depth_is_saved_and_loaded(depth: int, tmp_path: Path) -> None:
    model = tiny_model(tiny_config(connector_depth=depth))
    model.save_pretrained(tmp_path)
    loaded = VirtueModel.from_pretrained(tmp_path)
    assert loaded.config.connector_depth == depth
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_a_checkpoint_that_says_no_depth_has_two_linear_layers(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    del fields["connector_depth"]
    path.write_text(json.dumps(fields))
    loaded = VirtueModel.from_pretrained(tmp_path)
    names = {name for name in loaded.state_dict() if name.startswith("connector.")}
    layers = ("conv", "mlp.0", "mlp.2")
    assert names == {f"connector.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert torch.equal(loaded.connector.mlp[2].weight, model.connector.mlp[2].weight)


def test_loading_brings_back_what_no_file_holds(tmp_path: Path) -> None:
    """Frequencies of rotary positions are computed and not saved; a model is built without data before it is loaded."""
    model = tiny_model()
    model.save_pretrained(tmp_path)
    loaded = VirtueModel.from_pretrained(tmp_path)
    computed = buffers(model).keys() - model.state_dict().keys()
    assert any("inv_freq" in name for name in computed)
    assert all(torch.equal(buffers(loaded)[name], buffers(model)[name]) for name in computed)


def buffers(model: VirtueModel) -> dict[str, Tensor]:
    return dict(model.named_buffers())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_nearly_the_same(
    shared: VirtueModel, processor: VirtueProcessor, dtype: torch.dtype
) -> None:
    embeddings = embed(tiny_model().to(dtype), batch(processor, ROWS))
    assert embeddings.dtype == torch.float32
    assert (embeddings * embed(shared, batch(processor, ROWS))).sum(1).min() > 0.98


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_kind_of_attention_reaches_all_parts_and_does_not_matter(
    shared: VirtueModel, processor: VirtueProcessor, attention: str, tmp_path: Path
) -> None:
    shared.save_pretrained(tmp_path)
    loaded = VirtueModel.from_pretrained(tmp_path, attn_implementation=attention)
    assert attentions(loaded) == {attention}
    expected = embed(shared, batch(processor, ROWS))
    torch.testing.assert_close(embed(loaded, batch(processor, ROWS)), expected, rtol=0, atol=1e-5)


def test_the_kind_of_attention_can_be_changed_later() -> None:
    model = tiny_model()
    model.set_attn_implementation("eager")
    assert attentions(model) == {"eager"}


def attentions(model: VirtueModel) -> set[str]:
    """What the attention layers of all parts compute with."""
    assert model.sam is not None
    parts = {model.vlm.language_model, model.vlm.visual, model.sam.vision_encoder, model.sam.mask_decoder}
    layers = [m for part in parts for m in part.modules() if "Attention" in type(m).__name__ and hasattr(m, "config")]
    assert len(layers) > 10
    return {layer.config._attn_implementation for layer in layers}


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient(processor: VirtueProcessor) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.vlm.language_model.layers[0].gradient_checkpointing
        model(**batch(processor, ROWS)).embeddings[:, 0].sum().backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    assert gradients[0]["connector.conv.weight"].abs().max() > 0
    assert all(gradient is None for name, gradient in gradients[1].items() if name.startswith("sam."))
    for name, gradient in gradients[0].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # raised inside PEFT
def test_adapters_attach_merge_and_come_back(processor: VirtueProcessor, tmp_path: Path) -> None:
    inputs = batch(processor, ROWS)
    before = embed(tiny_model(), inputs)
    adapted = get_peft_model(tiny_model(), LORA).eval()
    after = embed(adapted, inputs)
    assert (after - before).abs().max() > 1e-3
    adapted.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path).eval()
    assert torch.equal(embed(loaded, inputs), after)
    merged = loaded.merge_and_unload()
    assert type(merged) is VirtueModel and merged.state_dict().keys() == tiny_model().state_dict().keys()
    torch.testing.assert_close(embed(merged, inputs), after, rtol=0, atol=1e-5)


def test_a_new_model_starts_from_the_ranges_of_its_parts() -> None:
    torch.manual_seed(0)
    model = VirtueModel(tiny_config())
    assert model.connector is not None
    for layer in (model.connector.conv, model.connector.mlp[2], model.vlm.language_model.layers[0].mlp.up_proj):
        assert 0.015 < layer.weight.std() < 0.025  # `initializer_range`
    assert not model.connector.conv.bias.any()
    assert all(weight.isfinite().all() for weight in model.state_dict().values())


def test_prompts_may_have_no_mask(shared: VirtueModel, processor: VirtueProcessor) -> None:
    features = shared.encode_images(**processor.image_inputs(PICTURES[:1]))
    points, labels = torch.tensor([[[20.0, 30.0]]]), torch.tensor([[1]])
    unused = SamPrompts(points, labels, torch.ones(1, 1, 16, 16), torch.tensor([False]))
    row = torch.tensor([0])
    plain = shared.segmentation_tokens(features, row, SamPrompts(points, labels))
    assert torch.equal(shared.segmentation_tokens(features, row, unused), plain)


def test_a_checkpoint_without_all_tensors_is_refused(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    del state["connector.mlp.0.weight"], state["connector.mlp.0.bias"]
    save_file(state, path, metadata={"format": "pt"})
    for load in (VirtueModel.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(ValueError, match=r"lacks 2 of the model's tensors, such as connector\.mlp\.0\.bias"):
            load(tmp_path)


def test_another_kind_of_checkpoint_is_sent_to_its_loader(tmp_path: Path) -> None:
    vlm_config().save_pretrained(tmp_path)
    for load in (VirtueConfig, VirtueModel, VirtueProcessor):
        with pytest.raises(ValueError, match=r"holds a qwen2_vl model.*Embedder\.from_pretrained"):
            load.from_pretrained(tmp_path)
