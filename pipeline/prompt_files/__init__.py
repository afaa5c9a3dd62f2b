"""Files of prompts: which points and boxes ask for a mask in which picture.

One file a format behind `read(uri, storage) -> PromptTable`, found through a lazy table.
"""

from .open import FORMATS, open_prompts
from .table import PromptRow, PromptTable

__all__ = ["FORMATS", "PromptRow", "PromptTable", "open_prompts"]
