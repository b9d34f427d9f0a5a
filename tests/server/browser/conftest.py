"""One browser, one model and one server with a small index for all tests of the page.

What these need is imported where it is used, so that the tests are skipped where it is missing.
"""

import pytest


@pytest.fixture(scope="session")
def nano():
    from virtue.embedder import Embedder

    return Embedder.from_pretrained("nano", device="cpu")


@pytest.fixture(scope="session")
def indexed(nano, tmp_path_factory):
    from tests.server.browser.driving import made_index

    return made_index(tmp_path_factory.mktemp("pictures"), nano)


@pytest.fixture(scope="session")
def address(nano, indexed):
    from tests.server.browser.driving import served

    with served(nano, indexed[0]) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    from tests.server.browser.driving import Browser

    own = Browser()
    yield own
    own.driver.quit()


@pytest.fixture(params=[(1280, 800), (390, 844)], ids=["desktop", "phone"])
def sized(request, browser):
    """The browser at one of two sizes; whatever the page complains about fails the test."""
    browser.resize(*request.param)
    browser.colours("light")
    browser.errors()
    yield browser
    assert browser.errors() == []


@pytest.fixture
def page(sized, address):
    """The page with the first picture open."""
    from tests.server.browser.driving import PICTURE

    sized.open(address, f"#image={PICTURE}")
    sized.opened()
    sized.forget()
    return sized
