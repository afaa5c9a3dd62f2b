"""Asking: what a promptable model is asked. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.exemplars import Exemplar
from schemas.naming_config import NamingConfig
from schemas.ontology import Ontology
from schemas.prompt_config import ConflictsConfig, EverythingConfig, PromptsConfig


@dataclass(frozen=True, slots=True)
class Asking:
    """What a job asks of a promptable model.

    Attributes:
        prompts: The section of the config.
        everything: Settings of the grid of points.
        conflicts: How overlapping masks are resolved.
        ontology: Text prompts and their categories, or None where none were given.
        from_file: Each picture brings its own points and boxes, from a file of prompts.
        naming: How everything-masks are compared with words and exemplars.
        exemplars: Objects that show what to look for.
    """

    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    everything: EverythingConfig = field(default_factory=EverythingConfig)
    conflicts: ConflictsConfig = field(default_factory=ConflictsConfig)
    ontology: Ontology | None = None
    from_file: bool = False
    naming: NamingConfig = field(default_factory=NamingConfig)
    exemplars: tuple[Exemplar, ...] = ()
