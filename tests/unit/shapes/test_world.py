import torch

from shapes.captions import full_captions, records, short_captions, varied_captions
from shapes.world import is_held_out, relation_holds, sample_scenes


def test_the_same_seed_draws_the_same_scenes():
    first, second, other = (sample_scenes(50, seed) for seed in (3, 3, 4))
    assert torch.equal(first.centre, second.centre)
    assert not torch.equal(first.centre, other.centre)


def test_shapes_lie_apart_inside_the_canvas_and_as_their_relation_says():
    scenes = sample_scenes(500, 1)
    reach = scenes.radius[..., None]
    inside = ((scenes.centre >= reach) & (scenes.centre <= 1 - reach)).all(dim=-1)
    assert (inside | ~scenes.present).all()
    for a, b in ((0, 1), (0, 2), (1, 2)):
        apart = (scenes.centre[:, a] - scenes.centre[:, b]).norm(dim=1) > scenes.radius[:, a] + scenes.radius[:, b]
        assert (apart | ~scenes.present[:, b]).all()
    for other in (1, 2):
        holds = relation_holds(scenes.relation[:, other - 1], scenes.centre[:, 0], scenes.centre[:, other])
        assert (holds | ~scenes.present[:, other]).all()


def test_training_never_sees_held_out_combinations():
    assert not is_held_out(sample_scenes(300, 1)).any()
    held_out = sample_scenes(300, 1, held_out=True)
    assert is_held_out(held_out).all()
    trained_on = set(full_captions(sample_scenes(20_000, 2)))
    assert not trained_on & set(full_captions(held_out))


def test_full_captions_say_everything_that_is_there():
    scenes = sample_scenes(200, 5)
    for caption, (_, objects, relations, background) in zip(full_captions(scenes), records(scenes), strict=True):
        for size, colour, shape in objects:
            assert f"{size} {colour} {shape}" in caption
        assert all(relation in caption for relation in relations)
        assert caption.endswith(f" on a {background} background")


def test_captions_vary_and_only_a_white_background_goes_unsaid():
    scenes = sample_scenes(500, 5)
    varied = varied_captions(scenes, 0)
    assert varied == varied_captions(scenes, 0)
    for caption, (_, _, _, background) in zip(varied, records(scenes), strict=True):
        assert background == "white" or background in caption
    assert any(caption.startswith("a picture of") for caption in varied)
    assert any("an orange" in caption for caption in varied)
    assert not any("a orange" in caption for caption in varied)


def test_short_captions_do_not_say_where():
    captions = short_captions(sample_scenes(200, 5), 0)
    assert "a picture" in captions
    assert not any(word in caption for caption in captions for word in ("left", "right", "above", "below"))
