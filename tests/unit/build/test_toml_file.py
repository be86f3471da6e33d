"""Files that people write, of either kind."""

import pytest

from swiftdiffusion.errors import InvalidArgument, NotFound
from swiftdiffusion_build.placement.file import read_placement
from swiftdiffusion_build.plans.profile_file import read_profiles


@pytest.mark.parametrize(("read", "subject"), [(read_placement, "placement"), (read_profiles, "profiles")])
def test_a_file_that_is_not_there_or_no_text_is_refused(read, subject, tmp_path):
    with pytest.raises(NotFound, match=rf"{subject} .*none\.toml cannot be read: No such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match=rf"{subject} .*bytes\.toml is no TOML"):
        read(tmp_path / "bytes.toml")
