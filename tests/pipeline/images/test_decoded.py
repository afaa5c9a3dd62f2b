from __future__ import annotations

import numpy as np
import pytest
from pictures_encoded import decode, encoded, scene

from pipeline.images import decoded


@pytest.mark.parametrize("band", [1, 65, 200, 10**6])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_large_picture_is_copied_in_bands(monkeypatch, band, kind):
    monkeypatch.setattr(decoded, "_BAND", band)
    np.testing.assert_array_equal(decode(encoded(scene(), kind)).pixels, scene())
