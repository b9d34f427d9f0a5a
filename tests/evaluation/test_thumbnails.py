import numpy as np
from PIL import Image

from virtue.evaluation.thumbnails import COLOUR, EXCLUDED, draw_query, draw_region
from virtue.prompts import Points


def test_a_region_stands_out() -> None:
    image = Image.new("RGB", (40, 20), (200, 200, 200))
    mask = np.zeros((20, 40), dtype=bool)
    mask[:, 20:] = True
    pixels = np.asarray(draw_region(image, mask=mask, box=(20, 0, 40, 20), side=20))
    assert pixels.shape == (10, 20, 3)
    assert pixels[5, 5].tolist() == [90, 90, 90]  # 0.45 times 200
    assert pixels[5, 15].tolist() == [200, 200, 200]
    assert pixels[0, 10].tolist() == list(COLOUR)


def test_a_click_is_dotted_by_what_it_means() -> None:
    pixels = np.asarray(draw_query(Image.new("RGB", (40, 40)), Points((20, 20), exclude=[(20, 32)]), 40))
    assert pixels[20, 20].tolist() == list(COLOUR)
    assert pixels[32, 20].tolist() == list(EXCLUDED)
    assert pixels[0, 0].tolist() == [0, 0, 0]
