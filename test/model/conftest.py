import pytest

pytest.importorskip("torch", reason="needs the 'model' extra")
