"""Names in data sets, which may come from any system: junk files, validation sets, and spellings in Unicode."""

import unicodedata

VALIDATION = ("val", "valid", "validation", "dev")  # usual names of a validation set
# Folders and files that Windows, macOS, network disks and unpackers leave behind, in lower case. Names that begin with
# a dot, such as .ipynb_checkpoints, .DS_Store and ._photo.jpg, are junk too.
_JUNK = frozenset({
    "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini",
    "$recycle.bin", "recycler", "system volume information",
    "__macosx", "icon\r", "network trash folder", "temporary items",
    "@eadir", "#recycle", "@recycle", "#snapshot", "lost+found", "__pycache__",
})  # fmt: skip
_JUNK_ENDINGS = ("~", ":zone.identifier")  # an editor's backup; Windows' note that a file was downloaded


def is_junk(name: str) -> bool:
    """Whether a program left the file or folder `name` behind, so that it is not part of a data set."""
    lower = name.lower()
    return lower.startswith((".", "~$")) or lower in _JUNK or lower.endswith(_JUNK_ENDINGS)


def spellings(name: str) -> tuple[str, ...]:
    """`name` itself, then with composed letters, then with combining marks: systems differ in how they store é."""
    return tuple(dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))))
