"""Sources of annotations: what is known of regions in images, out of the files that sets are published as.

`open_source` opens one by its kind; every source is a `Source`, which lists its pictures and makes regions of what
stands in them. Files come from strangers: they are read so that nothing in them runs, leaves the folder of images, or
fills the memory.
"""

from virtue.curation.sources.opening import KINDS, SourceFile, SourceKind, kind_of, open_source
from virtue.curation.sources.source import Candidate, Picture, Source

__all__ = ["KINDS", "Candidate", "Picture", "Source", "SourceFile", "SourceKind", "kind_of", "open_source"]
