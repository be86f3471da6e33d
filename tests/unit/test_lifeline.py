import pytest

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.lifeline import Holder, Lifeline


def test_a_holder_sees_the_cut():
    with Lifeline() as lifeline:
        holder = Holder(lifeline.token)
        assert not holder.is_cut()
        assert not holder.is_cut()
        lifeline.cut()
        assert holder.is_cut()
    holder.close()
    assert holder.is_cut()


def test_a_holder_that_comes_late_finds_it_cut():
    lifeline = Lifeline()
    lifeline.cut()
    assert Holder(lifeline.token).is_cut()


@pytest.mark.parametrize("token", ["", "../../run/docker.sock", "x" * 32, "0" * 33])
def test_only_tokens_become_addresses(token):
    with pytest.raises(InvalidArgument, match="lifeline"):
        Holder(token)
