"""Who is in the study: cases and patients, their parts in each repetition, the hold-out. Pure values."""

from xferlab.cohort.case import STEPS, Case, Selection, single_sections
from xferlab.cohort.labels import Labelling
from xferlab.cohort.pseudonyms import Pseudonyms
from xferlab.cohort.rules import Part
from xferlab.cohort.splits import Cohort

__all__ = ["STEPS", "Case", "Cohort", "Labelling", "Part", "Pseudonyms", "Selection", "single_sections"]
