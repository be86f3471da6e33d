"""What is read from tritonserver's log."""

from launch.server_log import count_models, find_failures

LOG = """\
I1123 02:43:00.6 5745 model_lifecycle.cc:472] "loading: text_encoder:1"
I1123 02:43:00.6 5745 model_lifecycle.cc:472] "loading: vae_decoder:1"
I1123 02:43:00.6 5745 model_lifecycle.cc:839] "successfully loaded 'vae_decoder'"
E1123 model_lifecycle.cc:642] "failed to load 'text_encoder' version 1: Internal: no weights\\n\\nAt:\\n  model.py(12)"
""".splitlines()


def test_models_are_counted():
    assert count_models(LOG) == (1, 2)


def test_failure_is_picked_and_its_traceback_unfolded():
    (failure,) = find_failures(LOG)
    assert failure.startswith("failed to load 'text_encoder' version 1: Internal: no weights\n")
    assert failure.endswith("model.py(12)")


def test_without_a_known_failure_the_last_lines_are_given():
    assert find_failures(["one", "two"]) == ["one", "two"]
