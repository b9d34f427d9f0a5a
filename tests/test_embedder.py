from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.tiny import WIDTH, picture, tiny_config, tiny_embedder, tiny_model, tiny_processor
from virtue import Box, Embedder, Item, Point, Points
from virtue.embedder import quantize_embeddings
from virtue.embedder.batching import cost_batches, halving, length_batches
from virtue.embedder.quantization import Precision
from virtue.images import ImageError


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return tiny_embedder()


@pytest.fixture(scope="module")
def checkpoint(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    embedder.model.save_pretrained(folder)
    embedder.processor.save_pretrained(folder)
    return folder


# encode


def test_embeddings_are_unit_rows_in_the_order_of_the_inputs(embedder: Embedder) -> None:
    inputs = ["a longer text about a dog", picture(60, 60), "b", Item(text="c", image=picture(90, 40))]
    together = embedder.encode(inputs)
    assert together.shape == (4, WIDTH) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    for row, value in zip(together, inputs, strict=True):
        np.testing.assert_allclose(row, embedder.encode(value), atol=1e-5)


def test_one_input_gives_one_vector_and_none_give_none(embedder: Embedder) -> None:
    assert embedder.encode("a dog").shape == (WIDTH,)
    assert embedder.encode(picture(60, 60)).shape == (WIDTH,)
    assert embedder.encode([]).shape == (0, WIDTH)
    assert embedder.encode([], precision="int8").shape == (0, WIDTH)
    assert embedder.encode(text for text in ("a", "b")).shape == (2, WIDTH)


def test_the_instruction_of_the_call_is_for_items_without_one(embedder: Embedder) -> None:
    called = embedder.encode([Item("a"), Item("a", instruction="find")], instruction="look for")
    own = embedder.encode([Item("a", instruction="look for"), Item("a", instruction="find")])
    np.testing.assert_array_equal(called, own)
    assert abs(called[0] - called[1]).max() > 1e-3


def test_queries_and_documents_are_encoded_alike(embedder: Embedder) -> None:
    np.testing.assert_array_equal(embedder.encode_query("a"), embedder.encode("a"))
    np.testing.assert_array_equal(embedder.encode_document("a"), embedder.encode("a"))


def test_results_come_as_arrays_or_tensors(embedder: Embedder) -> None:
    array = embedder.encode(["a", "b"])
    torch.testing.assert_close(embedder.encode(["a", "b"], convert_to_tensor=True), torch.from_numpy(array))
    rows = embedder.encode(["a", "b"], convert_to_numpy=False)
    assert isinstance(rows, list) and [tuple(row.shape) for row in rows] == [(WIDTH,)] * 2
    assert isinstance(embedder.encode("a", convert_to_numpy=False), torch.Tensor)


def test_truncated_rows_are_unit_rows_again_unless_that_is_declined(embedder: Embedder) -> None:
    whole = embedder.encode(["a", "b"])
    cut = embedder.encode(["a", "b"], truncate_dim=8)
    np.testing.assert_allclose(cut, whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True), atol=1e-6)
    raw = embedder.encode(["a", "b"], truncate_dim=8, normalize_embeddings=False)
    np.testing.assert_array_equal(raw, whole[:, :8])


def test_an_embedder_may_always_truncate(embedder: Embedder) -> None:
    small = Embedder(embedder.model, embedder.processor, truncate_dim=8)
    assert small.dimension == 8 and embedder.dimension == WIDTH
    np.testing.assert_array_equal(small.encode("a"), embedder.encode("a", truncate_dim=8))
    image = picture(60, 60)
    np.testing.assert_allclose(small.open(image).encode(), small.encode(image), atol=1e-6)


def test_each_distinct_image_is_computed_once(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture(60, 60).save(tmp_path / "a.png")
    picture(80, 60).save(tmp_path / "b.png")
    computed = []
    encode_images = embedder.model.encode_images
    monkeypatch.setattr(
        embedder.model,
        "encode_images",
        lambda pixel_values, image_grid_thw, sam_pixel_values=None, previews=False: (
            computed.append(len(image_grid_thw)),
            encode_images(pixel_values, image_grid_thw, sam_pixel_values, previews=previews),
        )[1],
    )
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    embedder.encode([a, b, Item(image=a, prompt=Box(1, 2, 30, 40)), Item(image=str(b), text="and this"), a])
    assert sum(computed) == 2


def test_images_are_computed_a_few_at_a_time(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    features = embedder.rows.features
    monkeypatch.setattr(embedder.rows, "features", lambda inputs: sizes.append(len(inputs)) or features(inputs))
    embedder.encode([picture(60, 60, seed) for seed in range(7)], batch_size=3)
    assert sizes == [3, 3, 1]


def test_a_batch_that_does_not_fit_is_halved(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = embedder.encode([picture(60, 60, seed) for seed in range(5)] + ["a", "b", "c"])
    for name in ("embed", "encode_images"):
        original = getattr(embedder.model, name)

        def hungry(
            first: torch.Tensor, second: torch.Tensor, *rest: object, original=original, **more: object
        ) -> object:
            if len(second) > 2:  # the attention mask, or the grids of the pictures
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return original(first, second, *rest, **more)

        monkeypatch.setattr(embedder.model, name, hungry)
    monkeypatch.setattr(embedder.rows, "features", _positional_features(embedder))
    halved = embedder.encode([picture(60, 60, seed) for seed in range(5)] + ["a", "b", "c"])
    np.testing.assert_allclose(halved, expected, atol=1e-5)


def _positional_features(embedder: Embedder) -> object:
    def features(inputs: list[dict[str, torch.Tensor]]) -> object:
        names = ("pixel_values", "image_grid_thw", "sam_pixel_values")
        return embedder.model.encode_images(*(torch.cat([each[name] for each in inputs]) for name in names))

    return features


def test_a_progress_bar_is_shown_when_asked(embedder: Embedder, capsys: pytest.CaptureFixture[str]) -> None:
    embedder.encode(["a", picture(60, 60)], show_progress_bar=True)
    printed = capsys.readouterr()
    assert ("2/2" in printed.err, printed.out) == (True, "")  # what a program prints may be data
    embedder.encode(["a"])
    assert capsys.readouterr().out == ""


def test_what_cannot_be_embedded_is_refused_in_a_sentence(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Cannot embed a int"):
        embedder.encode(3)
    with pytest.raises(ValueError, match="Cannot embed a int"):
        embedder.encode(["a", 3])
    with pytest.raises(ImageError, match=r"gone\.png does not exist"):
        embedder.encode([picture(60, 60), tmp_path / "gone.png"])
    with pytest.raises(ValueError, match="x = 99 is not between 0 and 60"):
        embedder.encode(Item(image=picture(60, 60), prompt=Point(99, 1)))
    with pytest.raises(ValueError, match="batch_size is at least 1, not 0"):
        embedder.encode("a", batch_size=0)
    with pytest.raises(ValueError, match="between 1 and the model's 32 dimensions, not 33"):
        embedder.encode("a", truncate_dim=33)
    with pytest.raises(ValueError, match=r"precision is one of .*, not 'int4'"):
        embedder.encode("a", precision="int4")


def test_a_model_without_segmentation_refuses_what_it_cannot_see() -> None:
    plain = tiny_embedder(sam=False)
    assert plain.encode(picture(60, 60)).shape == (WIDTH,)
    with pytest.raises(ValueError, match="no segmentation stream"):
        plain.encode(Item(image=picture(60, 60), prompt=Point(9, 1)))
    with pytest.raises(ValueError, match="no segmentation stream"):
        plain.open(picture(60, 60)).mask(Point(9, 1))


def test_no_thread_is_left_behind(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        embedder.encode([tmp_path / "gone.png", *(picture(60, 60, seed) for seed in range(40))])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("virtue-read")]


# similarity


def test_similarity_is_the_cosine_of_each_to_each(embedder: Embedder) -> None:
    a = np.array([[2.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    b = torch.tensor([[1.0, 0.0], [0.0, -3.0], [1.0, 1.0]])
    half = 2**-0.5
    torch.testing.assert_close(embedder.similarity(a, b), torch.tensor([[1, 0, half], [0, -1, half]]))
    torch.testing.assert_close(embedder.similarity(a[0], b[0]), torch.tensor([[1.0]]))
    torch.testing.assert_close(embedder.similarity_pairwise(a, b[:2]), torch.tensor([1.0, -1.0]))


# precision


def test_a_byte_per_dimension_cuts_its_range_into_255_steps() -> None:
    embeddings = np.array([[0.0, -1.0], [0.5, 0.0], [1.0, 1.0]], dtype=np.float32)
    assert quantize_embeddings(embeddings, "uint8").tolist() == [[0, 0], [127, 127], [255, 255]]
    assert quantize_embeddings(embeddings, "int8").tolist() == [[-128, -128], [0, 0], [127, 127]]
    ranges = [[0.0, 0.0], [2.0, 0.5]]
    assert quantize_embeddings(embeddings, "uint8", ranges).tolist() == [[0, 0], [63, 0], [127, 255]]


def test_a_bit_per_dimension_keeps_the_sign() -> None:
    embeddings = np.array([[0.1, -0.1, 0.2, 0.0, -1, -1, -1, 0.5], [-1] * 8], dtype=np.float32)
    assert quantize_embeddings(embeddings, "ubinary").tolist() == [[0b10100001], [0]]
    assert quantize_embeddings(embeddings, "binary").tolist() == [[0b10100001 - 128], [-128]]


def test_ranges_have_a_row_for_the_lowest_and_one_for_the_highest() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4\), not \(4,\)"):
        quantize_embeddings(np.zeros((3, 4), dtype=np.float32), "int8", np.zeros(4))


@pytest.mark.parametrize(("precision", "kind", "width"), [("int8", np.int8, 32), ("ubinary", np.uint8, 4)])
def test_encode_quantizes(embedder: Embedder, precision: str, kind: type, width: int) -> None:
    encoded = embedder.encode(["a", "b", "c"], precision=precision)
    assert encoded.shape == (3, width) and encoded.dtype == kind


# ImageView


def test_a_view_embeds_what_encode_embeds(embedder: Embedder) -> None:
    image = picture(100, 80)
    prompts = [None, Point(90, 70), Points([(3, 4), (10, 20)], exclude=[(50, 50)]), Box(1, 2, 30, 40)]
    view = embedder.open(image)
    assert view.size == (100, 80)
    expected = embedder.encode(
        [Item(image=image, prompt=prompt, text="what", instruction="tell") for prompt in prompts]
    )
    np.testing.assert_allclose(view.encode(prompts, "what", "tell"), expected, atol=1e-5)


def test_one_goes_with_many(embedder: Embedder) -> None:
    view = embedder.open(picture(100, 80))
    box, point = Box(1, 2, 30, 40), Point(90, 70)
    alone = [[view.encode(prompt, text) for text in ("a", "b")] for prompt in (box, point)]
    np.testing.assert_allclose(view.encode([box, point], "a"), [alone[0][0], alone[1][0]], atol=1e-5)
    np.testing.assert_allclose(view.encode(box, ["a", "b"]), alone[0], atol=1e-5)
    np.testing.assert_allclose(view.encode([box, point], ["a", "b"]), [alone[0][0], alone[1][1]], atol=1e-5)
    assert view.encode().shape == view.encode(box).shape == (WIDTH,)
    assert view.encode([box]).shape == (1, WIDTH)
    assert view.encode([]).shape == (0, WIDTH)
    with pytest.raises(ValueError, match="Got 2 visual prompts and 3 texts"):
        view.encode([box, point], ["a", "b", "c"])


def test_masks_have_the_size_of_the_picture(embedder: Embedder) -> None:
    view = embedder.open(picture(100, 80))
    prompts = [Point(9, 9), Box(40, 30, 90, 70), Points([(5, 5), (60, 60)])]
    masks, quality = view.masks(prompts)
    assert masks.shape == (3, 80, 100) and masks.dtype == np.bool_
    assert quality.shape == (3,) and quality.dtype == np.float32 and ((quality >= 0) & (quality <= 1)).all()
    for mask, prompt in zip(masks, prompts, strict=True):
        assert (mask == view.mask(prompt)).mean() > 0.999  # a logit of 0 may fall on either side
    assert view.masks([])[0].shape == (0, 80, 100)


def test_a_view_counts_its_memory(embedder: Embedder) -> None:
    view = embedder.open(picture(112, 112))
    maps = 16 * 4 * 4 + 4 * 8 * 8 + 2 * 16 * 16  # SAM-2's three: 16 channels, a quarter, an eighth
    assert view.nbytes == 112 * 112 * 3 + 4 * (16 * WIDTH + maps)


def test_a_visual_prompt_outside_the_open_image_is_refused(embedder: Embedder) -> None:
    view = embedder.open(picture(100, 80))
    for ask in (view.encode, view.mask):
        with pytest.raises(ValueError, match="outside the image of 100 x 80"):
            ask(Point(101, 3))


# loading


def test_a_saved_checkpoint_embeds_alike(embedder: Embedder, checkpoint: Path) -> None:
    loaded = Embedder.from_pretrained(checkpoint, device="cpu")
    inputs = ["a dog", Item(image=picture(100, 80), prompt=Point(3, 4))]
    np.testing.assert_array_equal(loaded.encode(inputs), embedder.encode(inputs))
    assert loaded.fingerprint == embedder.fingerprint
    assert loaded.name == str(checkpoint.resolve())
    assert loaded.device == torch.device("cpu") and loaded.model.dtype == torch.float32


def test_settings_of_loading_reach_the_model(checkpoint: Path) -> None:
    loaded = Embedder.from_pretrained(
        checkpoint, device="cpu", dtype=torch.bfloat16, attn_implementation="eager", truncate_dim=8
    )
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.model.vlm.language_model.config._attn_implementation == "eager"
    assert loaded.encode(["a", picture(60, 60)]).shape == (2, 8)


def test_another_precision_is_the_same_model_and_other_weights_are_not(embedder: Embedder, checkpoint: Path) -> None:
    half = Embedder.from_pretrained(checkpoint, device="cpu", dtype="bfloat16")
    assert half.fingerprint == embedder.fingerprint
    assert tiny_embedder(seed=1).fingerprint != embedder.fingerprint
    config = tiny_config(position_rule="released")
    assert Embedder(tiny_model(config), tiny_processor(config)).fingerprint != embedder.fingerprint


def test_nano_without_weights_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("virtue.embedder.loading.BUNDLED", tmp_path)
    with pytest.raises(ValueError, match=r"nano has no weights in .*nano: .*virtue train nano"):
        Embedder.from_pretrained("nano")


def test_nano_is_read_from_inside_the_package(
    embedder: Embedder, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nano").symlink_to(checkpoint, target_is_directory=True)
    monkeypatch.setattr("virtue.embedder.loading.BUNDLED", tmp_path)
    loaded = Embedder.from_pretrained(device="cpu")
    assert loaded.name == "nano" and loaded.fingerprint == embedder.fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "no such model"}, "no such model is neither a folder nor a Hub id"),
        ({"device": "toaster"}, "device is cpu, cuda, cuda:1 or mps, for example, not 'toaster'"),
        ({"device": "mps"}, "There is no device mps here"),
        ({"sam": "facebook/sam2.1-hiera-tiny"}, "brings its own SAM-2"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_a_sentence(
    checkpoint: Path, arguments: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        Embedder.from_pretrained(**{"name": str(checkpoint), **arguments})


def test_incomplete_and_foreign_checkpoints_are_refused(embedder: Embedder, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "model.safetensors")
    del state["connector.conv.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"connector\.conv\.weight"):
        Embedder.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="'bert' model, which is no VIRTUE"):
        Embedder.from_pretrained(folder)


# batching


def test_batches_hold_rows_of_like_length() -> None:
    assert list(length_batches([5, 1, 5, 4, 1], most=8, budget=100)) == [[0, 2, 3], [1, 4]]
    assert list(length_batches([5, 5, 5], most=2, budget=100)) == [[0, 1], [2]]
    assert list(length_batches([5, 5, 5], most=8, budget=10)) == [[0, 1], [2]]
    assert list(length_batches([50, 5], most=8, budget=10)) == [[0], [1]]
    assert list(length_batches([], most=8, budget=10)) == []


def test_costs_of_a_batch_stay_within_their_budgets() -> None:
    def costs(item: int) -> tuple[int, int]:
        return (1, item)

    assert list(cost_batches([3, 3, 3, 9, 1], costs, (8, 6))) == [[3, 3], [3], [9], [1]]
    assert list(cost_batches([1, 1, 1], costs, (2, 6))) == [[1, 1], [1]]


def test_work_is_halved_until_it_fits_and_other_errors_pass() -> None:
    done: list[int] = []

    def compute(work: object) -> None:
        if len(work) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        done.extend(work)

    halving(compute, list(range(5)))
    assert done == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="allocate"):
        halving(lambda work: compute([*work] * 3), [1])
    with pytest.raises(RuntimeError, match="shapes"):
        halving(lambda work: (_ for _ in ()).throw(RuntimeError("shapes differ")), [1, 2])


def test_the_input_that_cannot_be_embedded_is_named(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match=r"^Input 2: An item needs text or an image"):
        embedder.encode(["a", "b", ""])
    with pytest.raises(ValueError, match=r"^An item needs text or an image"):
        embedder.encode("")
    wide = Item(image=picture(60, 60), prompt=Box(0, 0, 99, 9))
    for place, inputs in ((1, ["a", wide]), (0, [wide, "a"])):
        with pytest.raises(ValueError, match=rf"^Input {place}: Box\(0, 0, 99, 9\) reaches outside"):
            embedder.encode(inputs)
    with pytest.raises(ValueError, match=r"^Input 1: Point\(99, 1\)"):
        embedder.open(picture(60, 60)).encode([None, Point(99, 1)])
    with pytest.raises(ValueError, match=r"^Box\(0, 0, 99, 9\) reaches outside"):
        embedder.encode(wide)


def test_arguments_are_checked_before_anything_is_computed(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "_encode", None)
    with pytest.raises(ValueError, match="precision is one of"):
        embedder.encode(["a"], precision="int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"ranges holds .* \(2, {WIDTH}\), not \(2, 3\)"):
        embedder.encode(["a"], precision="int8", ranges=np.zeros((2, 3)))
    for ranges in (np.full((2, WIDTH), np.nan), np.stack([np.ones(WIDTH), np.zeros(WIDTH)])):
        with pytest.raises(ValueError, match="finite numbers, the lowest value of each dimension first"):
            embedder.encode(["a"], precision="int8", ranges=ranges)


def test_few_embeddings_say_little_of_the_range(embedder: Embedder, caplog: pytest.LogCaptureFixture) -> None:
    assert embedder.encode(["a", "b"], precision="int8").shape == (2, WIDTH)
    assert "The ranges of 2 embeddings say little of others" in caplog.text


def test_one_embedding_alone_has_no_ranges(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match=r"One embedding alone has no range .* give `ranges`"):
        embedder.encode("a dog", precision="int8")
    one = embedder.encode("a dog", precision="uint8", ranges=np.stack([-np.ones(WIDTH), np.ones(WIDTH)]))
    assert one.dtype == np.uint8
    assert len(np.unique(one)) > 4


@pytest.mark.parametrize(("precision", "dtype", "width"), [("int8", np.int8, WIDTH), ("ubinary", np.uint8, WIDTH // 8)])
def test_no_inputs_have_the_type_and_width_of_some(
    embedder: Embedder, precision: Precision, dtype: type, width: int
) -> None:
    nothing = embedder.encode([], precision=precision)
    assert (nothing.shape, nothing.dtype) == ((0, width), dtype)


def test_a_column_of_texts(embedder: Embedder) -> None:
    assert np.array_equal(embedder.encode(np.array(["a", "b"])), embedder.encode(["a", "b"]))
    assert np.array_equal(embedder.encode(np.array(["a", "b"], dtype=object)), embedder.encode(["a", "b"]))


def test_similarity_of_whatever_encode_returns(embedder: Embedder) -> None:
    expected = embedder.similarity(embedder.encode(["a", "b"]), embedder.encode(["a", "b"]))
    listed = embedder.encode(["a", "b"], convert_to_numpy=False)
    assert torch.allclose(embedder.similarity(listed, listed), expected)
    assert torch.allclose(embedder.similarity([row.numpy() for row in listed], listed), expected)
    assert torch.allclose(embedder.similarity([listed[0], listed[1].numpy()], listed), expected)
    with pytest.raises(ValueError, match="of 3 and of 4 dimensions cannot be compared"):
        embedder.similarity(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match=r"as many of both, got \(1, 3\) and \(2, 3\)"):
        embedder.similarity_pairwise(np.ones((1, 3)), np.ones((2, 3)))


def test_threads_may_share_a_picture_that_is_not_decoded_yet(embedder: Embedder, tmp_path: Path) -> None:
    picture(300, 200).save(tmp_path / "shared.jpg")
    for _ in range(5):
        lazy = Image.open(tmp_path / "shared.jpg")
        with ThreadPoolExecutor(4) as pool:
            rows = list(pool.map(lambda _: embedder.encode(Item(image=lazy)), range(4)))  # noqa: B023
        assert all(np.allclose(row, rows[0], atol=1e-5) for row in rows)
