"""An open_clip model opened up for regions: loading, image towers, text."""

from gl_ris.clip.image import ImageContext
from gl_ris.clip.loading import load_clip
from gl_ris.clip.region_clip import RegionCLIP

__all__ = ["ImageContext", "RegionCLIP", "load_clip"]
