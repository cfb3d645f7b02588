from tests.seeing.browser import browser  # noqa: F401
