"""The garbage collector of a process that has much under way at once."""

import gc
from functools import cache
from typing import Final

_YOUNG_OBJECTS: Final = 5_000


@cache
def spare_the_collector() -> None:
    """Once all is imported and built: leave that alone, and look at young objects more seldom.

    Each request or event under way is some fifty young objects that live. After every 700 new ones
    Python looks through them all, and what it meets moves on to where, now and then, it looks
    through all that was ever imported; meanwhile the process answers nobody.
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(_YOUNG_OBJECTS, *older)
