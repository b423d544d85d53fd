"""Names of image files: by their endings, those of folders are found and outputs are named."""

from __future__ import annotations

PILLOW = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
NIFTI = (".nii", ".nii.gz")
DICOM = (".dcm", ".dicom")
SUFFIXES = (*PILLOW, *DICOM, *NIFTI)
NOT_DICOM = (*PILLOW, *NIFTI)


def without_suffix(name: str) -> str:
    """Returns a name or a path without its ending, if that is one of an image.

    Other endings are part of the name: DICOM files are often called by a number with dots.
    """
    ending = max((each for each in SUFFIXES if name.lower().endswith(each)), key=len, default="")
    return name[: len(name) - len(ending)] or name
